//! Who may write what, and what is written down of it: rows of keyed tables of which somebody sees a part, and the end
//! of a COPY in the audit log.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result};
use otus_tests::need;
use otus_tests::otus::{Otus, Setup};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::access_login::{TABLES, psql, users, words};

const PEOPLE: &str = r#"
[tables.staff]
kind = "keyed"
topic = "staff"
key = "name"
append = true
[tables.staff.columns]
name = "text"
team = "text"
[roles.team_a]
grants = [{ tables = "staff", filter = "team = 'a'", can = ["select", "insert"] }]
"#;

fn send(request: RequestBuilder) -> Result<(u16, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    })
}

#[test]
fn whoever_sees_a_part_of_the_rows_writes_none() -> Result<()> {
    let (users, reads, _) = users()?;
    // bob's role sees one team alone.
    let users = users.replace("roles = \"reader\"", "roles = [\"reader\", \"team_a\"]");
    let otus = Setup::tables(format!("{users}{TABLES}{PEOPLE}")).start()?;
    need!(psql(&otus, "ann", "pencil", "", "select 1"));
    let ann = |sql: &str| -> Result<String> {
        Ok(words(&psql(&otus, "ann", "pencil", "", sql).map_err(anyhow::Error::msg)?))
    };
    let filled = ann("insert into staff (name, team) values ('mine', 'a'), ('theirs', 'b')")?;
    anyhow::ensure!(filled == "INSERT 0 2", "{filled}");
    let rows = "select string_agg(name || ' ' || team, ', ' order by name) from staff";
    otus_tests::process::until("the rows", otus_tests::otus::PATIENCE, || {
        anyhow::ensure!(ann(rows)? == "mine a, theirs b", "not yet");
        Ok(())
    })?;

    let web = Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
    let url = |path: &str| otus.url(&format!("/api/tables/staff{path}"));
    let bob = words(&psql(&otus, "bob", "Füller 7", "", rows).map_err(anyhow::Error::msg)?);
    anyhow::ensure!(bob == "mine a", "{bob}");
    let row = json!({ "team": "a" });
    // One that is hidden, one that is seen and one that is not there: nothing can be told from the answers.
    let mut answers = Vec::new();
    for name in ["theirs", "mine", "nobody"] {
        let path = url(&format!("/{name}"));
        let put = send(web.put(&path).json(&row).bearer_auth(&reads))?;
        let removed = send(web.delete(&path).bearer_auth(&reads))?;
        anyhow::ensure!((put.0, removed.0) == (403, 403), "{name}: {put:?} {removed:?}");
        answers.extend([put, removed]);
    }
    anyhow::ensure!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let (status, created) = send(web.post(url("")).json(&row).bearer_auth(&reads))?;
    anyhow::ensure!(status == 403, "POST: {status} {created}");
    let path = otus.url("/api/append/staff");
    let (status, appended) = send(web.post(&path).json(&json!([row])).bearer_auth(&reads))?;
    anyhow::ensure!(status == 403, "append: {status} {appended}");
    let copy = "copy staff (name, team) from stdin";
    let copied = words(&psql(&otus, "bob", "Füller 7", "", copy).map_err(anyhow::Error::msg)?);
    anyhow::ensure!(copied.contains("permission denied"), "{copied}");
    let insert = "insert into staff (name, team) values ('theirs', 'a')";
    let inserted = words(&psql(&otus, "bob", "Füller 7", "", insert).map_err(anyhow::Error::msg)?);
    anyhow::ensure!(inserted.contains("permission denied"), "{inserted}");
    anyhow::ensure!(ann(rows)? == "mine a, theirs b", "{}", ann(rows)?);
    Ok(())
}

/// Runs psql with what a COPY takes, and gives what it said.
fn copied(otus: &Otus, copy: &str, data: &str) -> Result<String> {
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let mut command = psql.command(&["-w", "-At", "-U", "ann", "-c", copy]);
    command.env("PGPASSWORD", "pencil").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(data.as_bytes())?;
    Ok(words(&child.wait_with_output()?))
}

#[test]
fn an_audited_copy_has_its_end() -> Result<()> {
    let (users, ..) = users()?;
    let tables = TABLES.replace("topic = \"clicks\"\n", "topic = \"clicks\"\nappend = true\n");
    let setup = Setup::tables(format!("{users}{tables}")).server("audit", "\"audit.log\"");
    let mut otus = setup.start()?;
    need!(psql(&otus, "ann", "pencil", "", "select 1"));
    let copy = "copy clicks (at, page) from stdin";
    let data = "2024-01-01 00:00:00+00\t/a\n2024-01-01 00:00:01+00\t/b\n";
    anyhow::ensure!(copied(&otus, copy, data)? == "COPY 2");
    let bad = "copy clicks (page, at) from stdin";
    let failed = copied(&otus, bad, "/a\tyesterdayish\n")?;
    anyhow::ensure!(failed.contains("yesterdayish"), "{failed}");
    otus.stop()?;

    let text = std::fs::read_to_string(otus.folder().join("audit.log"))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |statement: &str| {
        let found: Vec<_> = lines.iter().filter(|line| line["statement"] == statement).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            _ => Err(anyhow::anyhow!("{statement:?} is not once in\n{text}")),
        }
    };
    let whole = of(copy)?;
    assert_eq!((&whole["rows"], &whole["ok"]), (&json!(2), &json!(true)), "{whole}");
    anyhow::ensure!(whole["duration_us"].as_u64().is_some_and(|us| us > 0), "{whole}");
    let partial = of(bad)?;
    assert_eq!((&partial["rows"], &partial["ok"]), (&json!(0), &json!(false)), "{partial}");
    assert_eq!(partial["sqlstate"], "22007", "{partial}");
    Ok(())
}
