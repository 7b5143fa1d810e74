//! Sessions as others see them: what pg_stat_activity tells whom, who may stop whose statement or session, and by which
//! names the database is reached.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::need;
use otus_tests::otus::{Otus, Setup};
use otus_tests::process::until;

use crate::access_login::{TABLES, psql, users, words};

const WITHIN: Duration = Duration::from_secs(30);

/// Runs for hours.
const LONG: &str = "select count(*) from generate_series(1, 10000000) a, generate_series(1, 10000000) b where a # b = 7";

/// A psql whose statements come when the test writes them.
struct Held(Child);

impl Held {
    fn new(otus: &Otus, user: &str, password: &str, name: &str) -> Result<Self> {
        let port = otus.postgres_port();
        let string =
            format!("host=localhost port={port} user={user} dbname=otus application_name={name}");
        let mut command = otus.psql().map_err(anyhow::Error::msg)?.command(&[
            "-w",
            "-At",
            "-v",
            "ON_ERROR_STOP=0",
            "-d",
            &string,
        ]);
        command.env("PGPASSWORD", password).env_remove("PGAPPNAME");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(piped.spawn()?))
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("no stdin")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// What it said until its end.
    fn end(mut self) -> Result<String> {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().context("no stdout")?.read_to_string(&mut said)?;
        self.0.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
        self.0.wait()?;
        Ok(said)
    }
}

#[test]
fn sessions_are_seen_and_stopped_by_whom_postgres_lets() -> Result<()> {
    let (users, ..) = users()?;
    let otus = Setup::tables(format!("{users}{TABLES}")).start()?;
    need!(psql(&otus, "ann", "pencil", "", "select 1"));
    let ask = |user: &str, sql: &str| -> Result<String> {
        let password = if user == "ann" { "pencil" } else { "Füller 7" };
        Ok(words(&psql(&otus, user, password, "", sql).map_err(anyhow::Error::msg)?))
    };
    let pid = |name: &str| {
        ask("ann", &format!("select pid from pg_stat_activity where application_name = '{name}'"))
    };
    let wait = |user: &str, name: &str, wanted: &str| {
        let sql = format!(
            "select usename, coalesce(state, '-'), query, client_addr, backend_start <= now() \
             from pg_stat_activity where application_name = '{name}'"
        );
        until(wanted, WITHIN, || {
            let found = ask(user, &sql)?;
            anyhow::ensure!(found == wanted, "{found}");
            Ok(())
        })
    };
    let mut idler = Held::new(&otus, "bob", "Füller 7", "idler")?;
    idler.write("begin;")?;
    idler.write("select 7;")?;
    wait("ann", "idler", "bob|idle in transaction|select 7|127.0.0.1|t")?;
    wait("bob", "idler", "bob|idle in transaction|select 7|127.0.0.1|t")?;
    let mut other = Held::new(&otus, "ann", "pencil", "other")?;
    other.write("select 8;")?;
    wait("ann", "other", "ann|idle|select 8|127.0.0.1|t")?;
    wait("bob", "other", "ann|-|<insufficient privilege>||")?;

    let (of_ann, of_bob) = (pid("other")?, pid("idler")?);
    for call in ["pg_cancel_backend", "pg_terminate_backend"] {
        let denied = ask("bob", &format!("select {call}({of_ann})"))?;
        anyhow::ensure!(denied.contains("ERROR:  must be a superuser to"), "{call}: {denied}");
        let none = ask("bob", &format!("select {call}(-4)"))?;
        let warned = none.contains("WARNING:  PID -4 is not a PostgreSQL backend process");
        anyhow::ensure!(none.starts_with('f') && warned, "{call}: {none}");
    }
    anyhow::ensure!(ask("ann", &format!("select pg_cancel_backend({of_bob})"))? == "t");
    wait("ann", "idler", "bob|idle in transaction|select 7|127.0.0.1|t")?;

    let mut busy = Held::new(&otus, "bob", "Füller 7", "busy")?;
    busy.write(&format!("{LONG};"))?;
    wait("ann", "busy", &format!("bob|active|{LONG}|127.0.0.1|t"))?;
    let of_busy = pid("busy")?;
    anyhow::ensure!(ask("bob", &format!("select pg_cancel_backend({of_busy})"))? == "t");
    wait("ann", "busy", &format!("bob|idle|{LONG}|127.0.0.1|t"))?;
    busy.write(&format!("{LONG};"))?;
    wait("ann", "busy", &format!("bob|active|{LONG}|127.0.0.1|t"))?;
    anyhow::ensure!(ask("ann", &format!("select pg_terminate_backend({of_busy})"))? == "t");
    let said = busy.end()?;
    let cancelled = said.contains("canceling statement due to user request");
    let ended = said.contains("terminating connection due to administrator command");
    anyhow::ensure!(cancelled && ended, "{said}");

    anyhow::ensure!(ask("bob", &format!("select pg_terminate_backend({of_bob})"))? == "t");
    until("idler is gone", WITHIN, || {
        anyhow::ensure!(pid("idler")?.is_empty() && pid("busy")?.is_empty(), "still there");
        Ok(())
    })?;
    idler.write("select 9;")?;
    let said = idler.end()?;
    anyhow::ensure!(said.contains("terminating connection due to administrator command"), "{said}");
    drop(other.end()?);
    Ok(())
}

#[test]
fn tools_may_begin_with_the_database_postgres() -> Result<()> {
    let otus = Setup::tables(TABLES.to_owned()).start()?;
    need!(otus.psql());
    let port = otus.postgres_port();
    let connect = |database: &str| -> Result<String> {
        let string = format!("host=127.0.0.1 port={port} user=otus dbname={database}");
        let mut command = otus.psql().map_err(anyhow::Error::msg)?.command(&[
            "-At",
            "-c",
            "select current_database()",
        ]);
        Ok(words(&command.args(["-d", &string]).output()?))
    };
    assert_eq!(connect("postgres")?, "otus");
    assert_eq!(connect("otus")?, "otus");
    let refused = connect("nope")?;
    anyhow::ensure!(refused.contains("FATAL:  database \"nope\" does not exist"), "{refused}");
    Ok(())
}
