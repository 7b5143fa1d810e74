//! INSERT and COPY FROM append to the event log of a table: all rows of a statement or none, visible when asked
//! for, never within a transaction that was rolled back, and nothing that reading would reject.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, pin_mut};
use otus_tests::need;
use otus_tests::otus::{Otus, Setup};
use otus_tests::postgres::{Client, Psql};

const TABLES: &str = r#"
[tables.sales]
topic = "sales"
time = "at"
[tables.sales.columns]
at = "timestamptz"
n = "bigint"
price = "numeric(10,2)"
item = { type = "text", default = "thing" }
tags = "text[]"
doc = "jsonb"
id = "uuid"
raw = "bytea"
day = "date"
country = { type = "text", path = "geo.country" }
upper_item = { type = "text", sql = "upper(item)" }

[tables.jobs]
kind = "keyed"
topic = "jobs"
key = "id"
[tables.jobs.columns]
id = { type = "text", from = "key" }
title = "text"

[tables.closed]
topic = "closed"
time = "at"
append = false
[tables.closed.columns]
at = "timestamptz"
"#;

fn server() -> Result<(Otus, Client)> {
    let otus = Setup::tables(TABLES).start()?;
    let client = otus.connect()?;
    client.rows("set otus.insert_wait = 'visible'")?;
    Ok((otus, client))
}

fn one(client: &Client, sql: &str) -> Result<String> {
    let rows = client.rows(sql)?;
    let row = rows.first().with_context(|| sql.to_owned())?;
    let shown: Vec<_> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
    Ok(shown.join("|"))
}

#[test]
fn rows_come_as_they_were_given() -> Result<()> {
    let (_otus, client) = server()?;
    client.rows(
        "insert into sales (at, n, price, tags, doc, id, raw, day, country) values \
         ('2026-01-02 03:04:05.678901+00', 9007199254740993, 12.345, array['a', null, 'b \"c\"'], \
         '{\"k\": [1, 2]}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\\x00ff', '2026-01-02', 'de')",
    )?;
    let shown = one(
        &client,
        "select at, n, price, tags, doc ->> 'k', id, raw, day, country, item, upper_item from sales",
    )?;
    assert_eq!(
        shown,
        "2026-01-02 03:04:05.678901+00|9007199254740993|12.35|{a,NULL,\"b \\\"c\\\"\"}|[1, 2]|\
         a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|\\x00ff|2026-01-02|de|thing|THING"
    );
    client.rows("insert into sales (at, n) select now(), g from generate_series(1, 25000) g")?;
    assert_eq!(
        one(&client, "select count(*), sum(n) from sales where country is null")?,
        "25000|312512500"
    );
    client.rows("insert into jobs values ('a', 'one'), ('b', 'two'), ('a', 'three')")?;
    assert_eq!(
        one(&client, "select string_agg(id || title, ',' order by id) from jobs")?,
        "athree,btwo"
    );
    Ok(())
}

#[test]
fn what_cannot_become_a_row_is_refused_before_anything_is_written() -> Result<()> {
    let (_otus, client) = server()?;
    for (sql, state, words) in [
        ("insert into sales (n) values (1)", "23502", "\"at\""),
        ("insert into sales (at) values (now()), (null)", "23502", "\"at\""),
        ("insert into jobs (title) values ('x')", "23502", "\"id\""),
        ("insert into sales (at, nope) values (now(), 1)", "42703", "\"nope\""),
        ("insert into sales (at, at) values (now(), now())", "42701", "\"at\""),
        ("insert into sales (at, upper_item) values (now(), 'x')", "428C9", "\"upper_item\""),
        ("insert into sales (at, _offset) values (now(), 1)", "428C9", "\"_offset\""),
        ("insert into sales (at, n) values (now(), 1), (now(), 'x')", "22P02", "x"),
        ("insert into sales (at, price) values (now(), 123456789012)", "22003", ""),
        ("insert into sales (at, id) values (now(), 'nothing')", "22P02", "nothing"),
        ("insert into sales (at, n) values (now())", "42601", "more target columns"),
        ("insert into sales (at) values (now(), 1)", "42601", "more expressions"),
        ("insert into nowhere values (1)", "42P01", "nowhere"),
        ("insert into closed values (now())", "42501", "closed"),
        ("insert into sales (at) values (now()) returning at", "0A000", "RETURNING"),
        ("insert into sales (at) values (now()) on conflict do nothing", "0A000", "ON CONFLICT"),
        ("update sales set n = 1", "0A000", "UPDATE"),
        ("delete from jobs", "0A000", "DELETE"),
        ("copy sales from '/etc/passwd'", "42501", "server"),
    ] {
        let (found, message) = client.failure(sql)?;
        anyhow::ensure!(found == state && message.contains(words), "{sql}: {found} {message}");
    }
    assert_eq!(
        one(&client, "select (select count(*) from sales), (select count(*) from jobs)")?,
        "0|0"
    );
    Ok(())
}

#[test]
fn transactions_write_at_their_end_or_not_at_all() -> Result<()> {
    let (_otus, client) = server()?;
    let insert = |n: u32| format!("insert into sales (at, n) values (now(), {n})");
    let count = "select coalesce(string_agg(n::text, ',' order by n), '') from sales";
    client.rows("begin")?;
    client.rows(&insert(1))?;
    client.rows("savepoint s")?;
    client.rows(&insert(2))?;
    client.rows("rollback to s")?;
    client.rows(&insert(3))?;
    assert_eq!(one(&client, count)?, "");
    client.rows("commit")?;
    assert_eq!(one(&client, count)?, "1,3");
    client.rows("begin")?;
    client.rows(&insert(4))?;
    client.rows("rollback")?;
    client.rows("begin")?;
    client.rows(&insert(5))?;
    client.failure("select 1 / 0")?;
    client.rows("commit")?;
    // Several statements in one text are one transaction.
    client.failure(&format!("{}; select 1 / 0", insert(6)))?;
    client.rows(&format!("{}; {}", insert(7), insert(8)))?;
    assert_eq!(one(&client, count)?, "1,3,7,8");
    for read_only in
        ["begin read only", "set transaction read only", "set default_transaction_read_only = on"]
    {
        client.rows("begin")?;
        client.rows(read_only)?;
        if read_only.starts_with("set default") {
            client.rows("commit; begin")?;
        }
        if read_only.starts_with("begin") {
            client.rows("rollback; begin read only")?;
        }
        assert_eq!(one(&client, "show transaction_read_only")?, "on", "{read_only}");
        assert_eq!(client.failure(&insert(9))?.0, "25006", "{read_only}");
        client.rows("rollback")?;
    }
    assert_eq!(client.failure(&insert(9))?.0, "25006");
    client.rows("reset all")?;
    assert_eq!(one(&client, count)?, "1,3,7,8");
    Ok(())
}

#[test]
fn drivers_insert_and_copy_by_parameters_and_in_binary() -> Result<()> {
    let (_otus, mut client) = server()?;
    client.with(async |client| {
        let sql = "insert into sales (at, n, item, tags, day) values ($1, $2, $3, $4, $5)";
        let statement = client.prepare(sql).await?;
        let types: Vec<_> = statement.params().iter().map(|t| t.name().to_owned()).collect();
        assert_eq!(types, ["timestamptz", "int8", "text", "_text", "date"]);
        let at: chrono::DateTime<chrono::Utc> = "2026-01-02T03:04:05Z".parse()?;
        let day = chrono::NaiveDate::from_ymd_opt(2026, 1, 2);
        let tags = vec!["x", "y"];
        let rows = client.execute(&statement, &[&at, &1_i64, &"a", &tags, &day]).await?;
        assert_eq!(rows, 1);
        let none: (Option<i64>, Option<&str>) = (None, None);
        client.execute(&statement, &[&at, &none.0, &none.1, &None::<Vec<&str>>, &day]).await?;
        let sink = client.copy_in("copy sales (at, n) from stdin (format csv)").await?;
        pin_mut!(sink);
        for piece in ["2026-01-02T03:04:05Z,1", "0\n2026-01-02", "T03:04:05Z,11\n"] {
            sink.send(Bytes::from(piece)).await?;
        }
        assert_eq!(sink.finish().await?, 2);
        // What COPY gives in binary it takes back.
        let out = client
            .copy_out("copy (select at, n + 100, item from sales where n >= 10) to stdout (format binary)")
            .await?;
        let data: Vec<Bytes> = futures::TryStreamExt::try_collect(out).await?;
        let sink = client.copy_in::<_, Bytes>("copy sales (at, n, item) from stdin (format binary)").await?;
        pin_mut!(sink);
        sink.send(Bytes::from(data.concat())).await?;
        assert_eq!(sink.finish().await?, 2);
        anyhow::Ok(())
    })?;
    let shown =
        one(&client, "select string_agg(coalesce(n::text, '-'), ',' order by n) from sales")?;
    assert_eq!(shown, "1,10,11,110,111,-");
    Ok(())
}

/// COPY by psql with these data; what psql says.
fn copied(psql: &Psql, copy: &str, data: &str) -> Result<String> {
    let command = ["-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=0", "-c", copy];
    let mut child = psql
        .command(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(data.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn copy_names_the_line_that_is_wrong() -> Result<()> {
    need!(Psql::new(0));
    let (otus, client) = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let day = "2026-01-02";
    for (copy, data, wanted) in [
        ("copy sales (at, n) from stdin", format!("{day}\t1\n{day}\tx\n"), "22P02"),
        (
            "copy sales (at, n) from stdin",
            format!("{day}\t1\n{day}\n"),
            "missing data for column \"n\"",
        ),
        ("copy sales (at, n) from stdin", format!("{day}\t1\n{day}\t2\t3\n"), "22P04"),
        ("copy sales (at, n) from stdin", format!("{day}\t1\n\\N\t2\n"), "23502"),
        ("copy sales (at, item) from stdin csv", format!("{day},a\n{day},\"b\n"), "unterminated"),
        ("copy sales (at, id) from stdin csv", format!("{day},\n{day},zz\n"), "22P02"),
        ("copy sales (at) from stdin (format binary)", "nothing like it at all".into(), "22P04"),
    ] {
        let said = copied(&psql, copy, &data)?;
        anyhow::ensure!(said.contains(wanted), "{copy}: {said}");
        let binary = copy.contains("binary");
        anyhow::ensure!(binary || said.contains("COPY sales, line 2"), "{copy}: {said}");
    }
    assert_eq!(one(&client, "select count(*) from sales")?, "0");
    let with_heading = format!("at,item\n{day},\"a,\"\"b\"\nskipped");
    let said = copied(&psql, "copy sales (at, item) from stdin csv header", &with_heading)?;
    anyhow::ensure!(said.contains("line 3"), "{said}");
    let said = copied(
        &psql,
        "copy sales (at, item) from stdin csv header",
        &format!("at,item\n{day},\"a,\"\"b\"\n"),
    )?;
    assert_eq!(said, "COPY 1\n");
    client.rows("insert into sales (at, item) values (now(), 'last')")?;
    assert_eq!(one(&client, "select item from sales order by at limit 1")?, "a,\"b");
    Ok(())
}
