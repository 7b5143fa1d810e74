//! Answers of any length go through in bounded memory, and a statement ends when its client cancels, its time
//! is over or its client has gone, whatever it is doing then: planning, running, sending, COPY, a cursor, HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup, wait_between};
use otus_tests::postgres::Psql;
use otus_tests::process::until;
use otus_tests::{clients, events, need};

const ROWS: usize = 10_000_000;

/// What ten million rows of this are in text, at least: far more than the server may keep of them.
const ROW_BYTES: usize = 64;

/// What the server may grow by, KiB.
const GROWTH_KIB_MAX: u64 = 256 << 10;

/// Rows without end, for a client that does not wait for it.
const FLOOD: &str = "select n, repeat('x', 56) from generate_series(1, 1000000000000) as n";

/// A statement that runs for hours before it has a row.
const LONG: &str =
    "select count(*) from events a, events b, events c where a.amount + b.amount + c.amount = 1";

/// A statement whose constants take long, each of them some tenths of a second.
fn planned() -> String {
    let term = |n: u32| format!("levenshtein(repeat('a', 20000), repeat('b', {}))", 30_000 + n);
    format!("select {}", (0..200).map(term).collect::<Vec<_>>().join(" + "))
}

fn server() -> Result<Otus> {
    let otus = Setup::tables(events::table_section("events")).start()?;
    let lines: Vec<_> = (0..2_000).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(2_000).0)?;
    Ok(otus)
}

fn resident_kib(otus: &Otus, key: &str) -> Result<u64> {
    let pid = otus.id().context("not started")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with(key)).context("no such field")?;
    Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
}

#[test]
fn ten_million_rows_by_psql_in_bounded_memory() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let series = format!("select n, repeat('x', 56) from generate_series(1, {ROWS}) as n");
    psql.query("select 1")?;
    let before = resident_kib(&otus, "VmRSS:")?;
    for arguments in [
        vec!["-At", "-c", &format!("copy ({series}) to stdout")],
        vec!["-At", "-v", "FETCH_COUNT=10000", "-c", &series],
    ] {
        let mut child = psql.command(&arguments).stdout(Stdio::piped()).spawn()?;
        let mut out = child.stdout.take().context("no stdout")?;
        let (mut lines, mut bytes, mut piece) = (0, 0, vec![0; 1 << 20]);
        loop {
            let n = out.read(&mut piece)?;
            if n == 0 {
                break;
            }
            bytes += n;
            lines += piece.iter().take(n).filter(|byte| **byte == b'\n').count();
        }
        anyhow::ensure!(child.wait()?.success(), "psql failed");
        anyhow::ensure!(lines == ROWS && bytes > ROWS * ROW_BYTES, "{lines} lines, {bytes} bytes");
        let most = resident_kib(&otus, "VmHWM:")?;
        anyhow::ensure!(most < before + GROWTH_KIB_MAX, "{before} KiB before, {most} at most");
    }
    Ok(())
}

/// Runs the program of a client that counts rows, and sees that there were all of them and that the server kept few.
fn counts(otus: &Otus, name: &str, mut client: std::process::Command) -> Result<()> {
    let before = resident_kib(otus, "VmRSS:")?;
    let port = otus.postgres_port().to_string();
    client.envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "otus")]);
    client.envs([("PGDATABASE", "otus"), ("PGPASSWORD", "unused")]);
    let output = client.output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("rows {ROWS} sum {}", ROWS * (ROWS + 1) / 2);
    anyhow::ensure!(printed.trim() == wanted, "{name}: {printed} {words}");
    let most = resident_kib(otus, "VmHWM:")?;
    anyhow::ensure!(most < before + GROWTH_KIB_MAX, "{name}: {before} KiB before, {most} at most");
    Ok(())
}

/// Ten million rows, some of them wide enough that the server must not keep them.
fn series() -> String {
    format!("select n, repeat('x', 56) from generate_series(1, {ROWS}) as n")
}

#[test]
fn ten_million_rows_by_pgjdbc_in_bounded_memory() -> Result<()> {
    let jars = clients::installed().join("java");
    need!(clients::program("pgjdbc"));
    let otus = server()?;
    // All rows at once are the driver's to keep: its own memory has to do for them.
    let narrow = format!("select n from generate_series(1, {ROWS}) as n");
    for (name, fetch_size, sql) in
        [("pgjdbc, some at a time", "20000", series()), ("pgjdbc, all at once", "0", narrow)]
    {
        let mut java = std::process::Command::new("java");
        java.args(["-Xmx2g", "-cp"]).arg(jars.join("*"));
        java.arg(clients::folder().join("java/Rows.java")).args([fetch_size, &sql]);
        counts(&otus, name, java)?;
    }
    Ok(())
}

#[test]
fn ten_million_rows_by_asyncpg_in_bounded_memory() -> Result<()> {
    need!(clients::program("asyncpg"));
    let otus = server()?;
    for how in ["cursor", "iterate"] {
        let mut python = std::process::Command::new(clients::installed().join("python/bin/python"));
        python.arg("-B").arg(clients::folder().join("python/asyncpg_rows.py"));
        counts(&otus, how, {
            python.args([how, &series()]);
            python
        })?;
    }
    Ok(())
}

/// Waits until the server burns no processor time: the work has really stopped.
fn idle(otus: &Otus) -> Result<()> {
    let pid = otus.id().context("not started")?;
    let ticks = || -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = text.rsplit_once(") ").context("stat")?.1;
        fields.split(' ').skip(11).take(2).map(|f| Ok(f.parse::<u64>()?)).sum()
    };
    until("the server is idle", Duration::from_secs(20), || {
        let before = ticks()?;
        wait_between(Duration::from_secs(1));
        let used = ticks()? - before;
        anyhow::ensure!(used < 40, "{used} hundredths of a second in one second");
        Ok(())
    })
}

/// The phases of a statement, each as what is run before it and what then goes on for ever.
fn phases() -> Vec<(&'static str, &'static str, String)> {
    let cursor = |sql: &str| format!("begin; declare c cursor for {sql}");
    let cursors = [cursor(LONG), cursor(FLOOD)].map(|text| -> &'static str { text.leak() });
    let [running_cursor, sending_cursor] = cursors;
    vec![
        ("planning", "select 1", planned()),
        ("running", "select 1", LONG.to_owned()),
        ("sending", "select 1", FLOOD.to_owned()),
        ("copy", "select 1", format!("copy ({FLOOD}) to stdout")),
        ("copy that runs", "select 1", format!("copy ({LONG}) to stdout")),
        ("a cursor that runs", running_cursor, "fetch 1 from c".to_owned()),
        ("a cursor that sends", sending_cursor, "fetch all from c".to_owned()),
    ]
}

/// Runs a statement of which no row is kept, and says how it failed.
fn drained(otus: &Otus, before: &str, sql: &str, stop: &Stop) -> Result<String> {
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let set = match stop {
        Stop::Cancel => "set statement_timeout = 0".to_owned(),
        Stop::Timeout => "set statement_timeout = '1500ms'".to_owned(),
    };
    // Piece by piece, as psql keeps an answer otherwise.
    let arguments = ["-At", "-v", "VERBOSITY=verbose", "-c", &set, "-c", before, "-c", sql];
    let mut child =
        { psql.command(&arguments) }.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if matches!(stop, Stop::Cancel) {
        wait_between(Duration::from_millis(1_500));
        std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status()?;
    }
    let mut words = String::new();
    child.stderr.take().context("no stderr")?.read_to_string(&mut words)?;
    child.wait()?;
    Ok(words)
}

enum Stop {
    Cancel,
    Timeout,
}

#[test]
fn a_cancel_ends_a_statement_in_every_phase() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    for (phase, before, sql) in phases() {
        let words = drained(&otus, before, &sql, &Stop::Cancel)?;
        anyhow::ensure!(
            words.contains("57014") && words.contains("user request"),
            "{phase}: {words}"
        );
        idle(&otus).context(phase)?;
    }
    Ok(())
}

#[test]
fn a_timeout_ends_a_statement_in_every_phase() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    for (phase, before, sql) in phases() {
        let words = drained(&otus, before, &sql, &Stop::Timeout)?;
        let timed_out = words.contains("57014") && words.contains("statement timeout");
        anyhow::ensure!(timed_out, "{phase}: {words}");
        idle(&otus).context(phase)?;
    }
    Ok(())
}

#[test]
fn an_http_client_that_leaves_takes_its_work_along() -> Result<()> {
    let otus = server()?;
    for (phase, sql, answered) in [("running", LONG, false), ("sending", FLOOD, true)] {
        let address = otus.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut socket = TcpStream::connect(&address)?;
        let body = serde_json::json!({ "query": sql }).to_string();
        write!(
            socket,
            "POST /api/sql HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        if answered {
            let mut piece = vec![0; 64 << 10];
            socket.read_exact(&mut piece).context("the answer has not begun")?;
        } else {
            wait_between(Duration::from_millis(1_500));
        }
        drop(socket);
        idle(&otus).context(phase)?;
    }
    Ok(())
}
