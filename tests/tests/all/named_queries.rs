//! Named queries through every face: psql, a driver, pull patterns, the schema, and a file that is refused.

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup, get};
use otus_tests::postgres::Psql;
use otus_tests::{events, need};
use serde_json::{Value, json};

const EVENTS: u64 = 2_000;

const QUERIES: &str = r#"
[queries.top_kinds]
description = "The kinds with the largest sum"
sql = """
SELECT kind, count(*) AS events, sum(amount) AS total FROM events
WHERE amount >= $least GROUP BY kind ORDER BY total DESC, kind LIMIT $n"""
parameters = { least = "bigint", n = { type = "bigint", default = 2 } }
"#;

fn server() -> Result<Otus> {
    let tables = format!("{}{QUERIES}", events::table_section("events"));
    let otus = Setup::tables(tables).start()?;
    let lines: Vec<_> = (0..EVENTS).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    Ok(otus)
}

#[test]
fn a_named_query_by_every_face() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let written = psql.query(
        "SELECT kind, count(*), sum(amount) AS total FROM events WHERE amount >= 3 \
         GROUP BY kind ORDER BY total DESC, kind LIMIT 2",
    )?;
    anyhow::ensure!(written.lines().count() == 2, "{written}");
    for call in ["top_kinds(3)", "top_kinds(3, 2)", "top_kinds(n => 2, least => 1 + 2)"] {
        let given = psql.query(&format!("SELECT * FROM {call}"))?;
        anyhow::ensure!(given == written, "{call}: {given}\n{written}");
    }
    let bound = psql.query(
        "PREPARE p AS SELECT * FROM top_kinds($1, n => $2); EXECUTE p(3, 2); DEALLOCATE p",
    )?;
    anyhow::ensure!(bound.contains(&written), "by parameters: {bound}");
    let error = psql.error("SELECT * FROM top_kinds('x')")?;
    let words = "parameter \"least\" of query \"top_kinds\": invalid input syntax for type bigint";
    anyhow::ensure!(error.contains(words), "{error}");
    let listed = psql.query("SELECT call, description FROM otus.named_queries")?;
    let wanted = "top_kinds(least bigint, n bigint DEFAULT '2')|The kinds with the largest sum";
    anyhow::ensure!(listed == wanted, "{listed}");

    let pattern = json!({"queries": {"top_kinds": {
        "$with": [{"least": 3}], "$get": [{"kind": "?", "events": "?", "total": "?"}]}}});
    let (status, answer) = otus.pull(&json!({ "pattern": pattern }))?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    let rows = answer["data"]["queries"]["top_kinds"].as_array().context("no rows")?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let row = |row: &Value| ["kind", "events", "total"].map(|name| text(&row[name])).join("|");
    let pulled: Vec<String> = rows.iter().map(row).collect();
    anyhow::ensure!(pulled.join("\n") == written, "{pulled:?}\n{written}");

    let (_, schema) = get(&otus.url("/api/schema"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let query = &schema["queries"][0];
    anyhow::ensure!(query["name"] == "top_kinds", "{query}");
    anyhow::ensure!(query["parameters"][1]["default"] == "2", "{query}");
    anyhow::ensure!(query["columns"][1] == json!({"name": "events", "type": "bigint"}), "{query}");
    Ok(())
}

#[test]
fn a_query_that_cannot_be_planned_stops_the_start() -> Result<()> {
    let tables = format!("{}{QUERIES}", events::table_section("events"));
    let wrong = tables.replace("sum(amount) AS total", "sum(amuont) AS total");
    let otus = Setup::tables(wrong).prepare()?;
    let checked = otus.command(&["check"])?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    anyhow::ensure!(!checked.status.success(), "it was accepted");
    anyhow::ensure!(said.contains("queries.top_kinds.sql") && said.contains("amuont"), "{said}");
    Ok(())
}
