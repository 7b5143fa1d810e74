//! Answers that are given again, by a running server: to clients that say how old an answer may be and to nobody
//! else, over the Postgres wire and HTTP; never one of other rows than they allow.

use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::otus::{Otus, PATIENCE, Setup, get, wait_between};
use otus_tests::postgres::Client;
use otus_tests::process::until;
use serde_json::{Value, json};

const COUNT: &str = "select count(*) from events";
/// Rows of the first two thousand events alone: a quarter of a second lies between two.
const OLD: &str = "select kind, count(*), sum(amount) from events where at < '2024-01-01 00:08:00+00' group by kind order by kind";

fn append(otus: &Otus, from: u64, to: u64) -> Result<()> {
    let lines: Vec<_> = (from..to).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number(COUNT, events::sums(to).0)
}

fn server() -> Result<Otus> {
    let ddl = "[ddl]\ntopics = [\"clicks\"]\n";
    let tables = format!("{ddl}{}", events::table_section("events"));
    let otus = Setup::tables(tables).limit("result_cache", "\"1MiB\"").start()?;
    append(&otus, 0, 2_000)?;
    otus.flush()?;
    Ok(otus)
}

fn client(otus: &Otus, max_age: &str) -> Result<Client> {
    let client = otus.connect()?;
    client.rows(&format!("set otus.cache_max_age = '{max_age}'"))?;
    Ok(client)
}

fn count(client: &Client, sql: &str) -> Result<i64> {
    let rows = client.rows(sql)?;
    let value = rows.first().and_then(|row| row.first()).cloned().flatten();
    Ok(value.context("no value")?.parse()?)
}

/// A number of `/metrics`.
fn metric(otus: &Otus, name: &str) -> Result<f64> {
    let (_, text) = get(&otus.url("/metrics"))?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1));
    Ok(value.with_context(|| format!("{name} is not in /metrics"))?.parse()?)
}

#[test]
fn an_age_is_honoured_over_the_postgres_wire() -> Result<()> {
    let otus = server()?;
    let (first, second) = (events::sums(2_000).0, events::sums(2_100).0);
    let (old, young, none) = (client(&otus, "1h")?, client(&otus, "1s")?, client(&otus, "0")?);
    anyhow::ensure!(count(&old, COUNT)? == first, "the first answer");
    append(&otus, 2_000, 2_100)?;
    anyhow::ensure!(count(&old, COUNT)? == first, "an hour is allowed");
    anyhow::ensure!(count(&none, COUNT)? == second, "nothing is allowed");
    anyhow::ensure!(count(&otus.connect()?, COUNT)? == second, "nothing is said");
    until("an answer of a second ago is too old", PATIENCE, || {
        let found = count(&young, COUNT)?;
        anyhow::ensure!(found == second, "{found}");
        Ok(())
    })?;
    // It takes the place of the older one.
    anyhow::ensure!(count(&old, COUNT)? == second, "the latest answer is the one that is kept");
    let told = otus.rows(&format!(
        "select cached, count(*) from otus.queries where query = '{COUNT}' and lane is null group by 1"
    ))?;
    anyhow::ensure!(told.len() == 1 && told[0][0].as_deref() == Some("t"), "{told:?}");
    // Other zones, parameters and users have other answers.
    let zone = "select to_char(max(at), 'HH24:MI') from events";
    let utc = old.rows(zone)?;
    old.rows("set timezone = 'Asia/Kolkata'")?;
    anyhow::ensure!(old.rows(zone)? != utc, "another zone");
    old.rows("set timezone = 'UTC'")?;
    anyhow::ensure!(old.rows(zone)? == utc, "the same zone");
    old.rows("prepare p(bigint) as select count(*) from events where id < $1")?;
    let (few, many) = (count(&old, "execute p(10)")?, count(&old, "execute p(1000)")?);
    anyhow::ensure!(few == events::sums(10).0 && many == events::sums(1_000).0, "{few} {many}");
    anyhow::ensure!(count(&old, "execute p(10)")? == few, "the same parameter");
    anyhow::ensure!(metric(&otus, "otus_result_cache_hits_total")? >= 4.0, "hits");
    anyhow::ensure!(metric(&otus, "otus_result_cache_misses_total")? >= 4.0, "misses");
    Ok(())
}

#[test]
fn definitions_and_bounds() -> Result<()> {
    let otus = server()?;
    let client = client(&otus, "1h")?;
    let table = |columns: &str| {
        format!(
            "create table clicks (at timestamptz, {columns}) with (topic = 'clicks', time = 'at')"
        )
    };
    client.rows(&table("n bigint"))?;
    let line = br#"{"at": "2024-08-20T00:00:00Z", "n": 12}"#.to_vec();
    let (status, answer) = otus.append("clicks", &[line])?;
    anyhow::ensure!(status == 200, "{answer}");
    otus.wait_number("select count(*) from clicks", 1)?;
    let all = "select n from clicks";
    anyhow::ensure!(client.rows(all)? == [[Some("12".to_owned())]], "bigint");
    client.rows("drop table clicks")?;
    anyhow::ensure!(client.rows(all).is_err(), "the table is gone");
    client.rows(&table("n text"))?;
    otus.wait_number("select count(*) from clicks where n = '12'", 1)?;
    let shape = "select n || '!' from clicks";
    anyhow::ensure!(client.rows(shape)? == [[Some("12!".to_owned())]], "text");
    client.rows("alter table clicks add column late bigint")?;
    anyhow::ensure!(client.rows("select * from clicks")?[0].len() >= 3, "a column more");

    // Far more than it may keep: small ones make room, a long one is not kept at all.
    for n in 0..1_200 {
        client.rows(&format!("select {n}, kind, count(*) from events group by kind"))?;
    }
    let long = "select id, at, kind, country, amount from events";
    let before = metric(&otus, "otus_result_cache_hits_total")?;
    client.rows(long)?;
    client.rows(long)?;
    anyhow::ensure!(metric(&otus, "otus_result_cache_hits_total")? <= before, "too long to keep");
    let bytes = metric(&otus, "otus_result_cache_bytes")?;
    anyhow::ensure!(bytes > 0.0 && bytes <= 1_048_576.0, "{bytes} bytes are kept");
    let kept = metric(&otus, "otus_result_cache_answers")?;
    anyhow::ensure!(kept > 10.0 && kept < 1_200.0, "{kept} answers are kept");
    Ok(())
}

/// Posts a question with headers: status, body, and the headers `age` and `etag`.
fn ask(
    otus: &Otus,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<(u16, Value, Option<String>, Option<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut request = reqwest::Client::new().post(otus.url(path)).timeout(PATIENCE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (status, age, tag) = (answer.status().as_u16(), header("age"), header("etag"));
        let text = answer.text().await?;
        let value = match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        };
        Ok((status, value, age, tag))
    })
}

#[test]
fn an_age_is_honoured_over_http() -> Result<()> {
    let otus = server()?;
    let (first, second) = (events::sums(2_000).0, events::sums(2_100).0);
    let hour = [("cache-control", "max-age=3600")];
    let counted = |headers: &[(&str, &str)], body: &Value| -> Result<(i64, bool)> {
        let (status, answer, age, _) = ask(&otus, "/api/sql", headers, body)?;
        anyhow::ensure!(status == 200, "{answer}");
        Ok((answer["rows"][0][0].as_i64().context("no number")?, age.is_some()))
    };
    let query = json!({ "query": COUNT });
    let set = json!({ "query": COUNT, "settings": { "otus.cache_max_age": "1h" } });
    anyhow::ensure!(counted(&hour, &query)? == (first, false), "it runs");
    append(&otus, 2_000, 2_100)?;
    anyhow::ensure!(counted(&hour, &query)? == (first, true), "an hour is allowed");
    anyhow::ensure!(counted(&[], &set)? == (first, true), "by a setting");
    for control in ["no-cache", "max-age=0", "no-store", "max-age=3600, no-cache"] {
        let headers = [("cache-control", control)];
        anyhow::ensure!(counted(&headers, &query)? == (second, false), "{control}");
        anyhow::ensure!(counted(&headers, &set)? == (second, false), "{control} and a setting");
    }
    anyhow::ensure!(counted(&[], &query)? == (second, false), "nothing is said");
    wait_between(Duration::from_millis(1_100));
    let headers = [("cache-control", "max-age=1")];
    anyhow::ensure!(counted(&headers, &query)? == (second, false), "too old");
    let other = json!({ "query": COUNT, "settings": { "TimeZone": "Asia/Tokyo" } });
    anyhow::ensure!(counted(&hour, &other)? == (second, false), "another zone");

    // Patterns, too.
    let pattern = json!({ "pattern": { "metrics": { "events": {
        "$with": [{ "granularity": "day", "from": "2024-01-01", "to": "2024-01-02", "fill": "none" }],
        "$get": [{ "events": "?" }] } } } });
    let pulled = |headers: &[(&str, &str)]| -> Result<(Option<i64>, bool)> {
        let (status, answer, age, _) = ask(&otus, "/api/pull", headers, &pattern)?;
        anyhow::ensure!(status == 200, "{answer}");
        Ok((answer["data"]["metrics"]["events"][0]["events"].as_i64(), age.is_some()))
    };
    anyhow::ensure!(pulled(&hour)? == (Some(second), false), "it runs");
    append(&otus, 2_100, 2_200)?;
    anyhow::ensure!(pulled(&hour)? == (Some(second), true), "an hour is allowed");
    let third = events::sums(2_200).0;
    anyhow::ensure!(pulled(&[])? == (Some(third), false), "nothing is said");
    Ok(())
}

#[test]
fn an_answer_that_a_client_has_is_not_sent_again() -> Result<()> {
    let otus = server()?;
    let query = json!({ "query": OLD });
    let (status, rows, age, tag) = ask(&otus, "/api/sql", &[], &query)?;
    let tag = tag.context("no ETag")?;
    anyhow::ensure!(status == 200 && age.is_none(), "{rows}");
    // Rows of later, written or not, are none of its business.
    append(&otus, 2_000, 2_100)?;
    let known = [("if-none-match", tag.as_str())];
    let (status, none, _, again) = ask(&otus, "/api/sql", &known, &query)?;
    anyhow::ensure!(status == 304 && none.is_null() && again.as_deref() == Some(&tag), "{none}");
    let (status, ..) = ask(&otus, "/api/sql?format=csv", &known, &query)?;
    anyhow::ensure!(status == 200, "another form");
    let other = json!({ "query": OLD.replace("00:08", "00:07") });
    let (status, ..) = ask(&otus, "/api/sql", &known, &other)?;
    anyhow::ensure!(status == 200, "another question");
    // A row within its time is.
    let late = json!({ "id": 9_000_000, "at": events::BEGIN_US + 1, "kind": "late", "amount": 1 });
    let (status, answer) = otus.append("events", &[late.to_string().into_bytes()])?;
    anyhow::ensure!(status == 200, "{answer}");
    otus.wait_number(COUNT, events::sums(2_100).0 + 1)?;
    let (status, now, _, changed) = ask(&otus, "/api/sql", &known, &query)?;
    anyhow::ensure!(status == 200 && changed.as_deref() != Some(&tag), "{status} {now}");
    anyhow::ensure!(now["rows"] != rows["rows"], "{now}");
    let timely = json!({ "query": "select count(*) from events where at < now()" });
    let (_, _, _, none) = ask(&otus, "/api/sql", &[], &timely)?;
    anyhow::ensure!(none.is_none(), "what hangs on the time has no name");
    Ok(())
}
