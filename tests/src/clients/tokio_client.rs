//! tokio-postgres as a client: the statements of all clients, and what is its own.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::{FromSql, Kind, ToSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Answers, folder, read};

const SLOW: &str = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)";

#[derive(Deserialize)]
struct Statement {
    probe: String,
    sql: String,
    #[serde(default)]
    params: Vec<(String, Value)>,
}

/// A value in the server's binary form, whatever its type is.
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Runs all probes against the server on `port`.
pub fn answers(port: u16) -> Result<Answers> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lines = runtime.block_on(async { Box::pin(all(port)).await })?;
    read(lines.iter().map(String::as_str))
}

async fn connect(port: u16, options: &str) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("otus").dbname("otus").options(options);
    let (client, connection) = config.connect(NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

fn code(error: &anyhow::Error) -> Option<String> {
    let found = error.chain().find_map(|e| e.downcast_ref::<tokio_postgres::Error>())?;
    found.code().map(|code| code.code().to_owned())
}

fn line(probe: &str, found: Result<Value>) -> String {
    let mut fields = match found {
        Ok(Value::Object(fields)) if fields.contains_key("rows") => fields,
        Ok(value) => [("value".to_owned(), value)].into_iter().collect(),
        Err(error) => {
            let what = json!({"sqlstate": code(&error)});
            [("error".to_owned(), what), ("words".to_owned(), json!(format!("{error:#}")))]
                .into_iter()
                .collect()
        }
    };
    fields.insert("probe".to_owned(), json!(probe));
    Value::Object(fields).to_string()
}

async fn all(port: u16) -> Result<Vec<String>> {
    let client = connect(port, "").await?;
    let statements = std::fs::read_to_string(folder().join("statements.json"))?;
    let statements: Vec<Statement> = serde_json::from_str(&statements)?;
    let mut lines = Vec::new();
    for each in &statements {
        lines.push(line(&each.probe, ask(&client, each).await));
        if each.params.is_empty() {
            let name = format!("{}, simple", each.probe);
            lines.push(line(&name, simple(&client, &each.sql).await));
        }
    }
    lines.push(line("prepared seven times", seven_times(&client).await));
    lines.push(line("portal", portal(port).await));
    lines.push(line("pipelined", pipelined(&client).await));
    lines.push(line("transactions within each other", transactions(port).await));
    lines.push(line("cancel", cancelled(port).await));
    lines.push(line("statement timeout", timed_out(port).await));
    lines.push(line("copy out", copied(&client).await));
    lines.push(line("100,000 rows", streamed(&client).await));
    lines.push(line("insert", inserted(&client).await));
    Ok(lines)
}

/// Rows by the extended protocol, values in binary as they came.
async fn ask(client: &Client, each: &Statement) -> Result<Value> {
    let statement = client.prepare(&each.sql).await?;
    let mut given: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
    for ((_, value), kind) in each.params.iter().zip(statement.params()) {
        given.push(parameter(kind, value).with_context(|| format!("{value} as {kind}"))?);
    }
    let given: Vec<&(dyn ToSql + Sync)> =
        given.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    let rows = client.query(&statement, &given).await?;
    let columns: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    let types: Vec<&str> = statement.columns().iter().map(|column| column.type_().name()).collect();
    let parameters: Vec<&str> = statement.params().iter().map(Type::name).collect();
    let mut found = Vec::new();
    for row in &rows {
        let cells: Result<Vec<Value>, _> =
            (0..row.len()).map(|i| row.try_get::<_, Raw>(i).map(|raw| hex(&raw))).collect();
        found.push(Value::from(cells?));
    }
    Ok(json!({"columns": columns, "types": types, "value": parameters, "rows": found}))
}

fn hex(raw: &Raw) -> Value {
    raw.0.as_ref().map_or(Value::Null, |bytes| {
        let mut text = String::new();
        for byte in bytes {
            write!(text, "{byte:02x}").ok();
        }
        Value::from(text)
    })
}

/// The value of a parameter, for the type that the server wants.
fn parameter(kind: &Type, value: &Value) -> Result<Box<dyn ToSql + Sync + Send>> {
    let text = value.as_str().unwrap_or_default();
    if value.is_null() {
        return Ok(Box::new(None::<String>));
    }
    if let Kind::Array(of) = kind.kind() {
        let list = value.as_array().context("an array")?;
        return Ok(if *of == Type::INT8 {
            Box::new(list.iter().map(Value::as_i64).collect::<Vec<_>>())
        } else {
            Box::new(list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>())
        });
    }
    Ok(match *kind {
        Type::BOOL => Box::new(value.as_bool().context("a boolean")?),
        Type::INT2 => Box::new(i16::try_from(value.as_i64().context("an integer")?)?),
        Type::INT4 => Box::new(i32::try_from(value.as_i64().context("an integer")?)?),
        Type::INT8 => Box::new(value.as_i64().context("an integer")?),
        Type::FLOAT8 => Box::new(value.as_f64().context("a float")?),
        Type::DATE => Box::new(text.parse::<NaiveDate>()?),
        Type::TIMESTAMP => Box::new(text.parse::<NaiveDateTime>()?),
        Type::TIMESTAMPTZ => Box::new(DateTime::parse_from_rfc3339(text)?.with_timezone(&Utc)),
        Type::JSON | Type::JSONB => Box::new(value.clone()),
        Type::UUID => Box::new(text.parse::<uuid::Uuid>()?),
        Type::TEXT => Box::new(text.to_owned()),
        _ => anyhow::bail!("this program has no value of this type"),
    })
}

async fn simple(client: &Client, sql: &str) -> Result<Value> {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(found) => {
                columns = found.iter().map(|c| c.name().to_owned()).collect()
            }
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect::<Vec<_>>())
            }
            _ => {}
        }
    }
    Ok(json!({"columns": columns, "rows": rows}))
}

async fn seven_times(client: &Client) -> Result<Value> {
    let statement =
        client.prepare("SELECT count(*) FROM wikipedia WHERE added > $1 AND channel = $2").await?;
    let mut found = Vec::new();
    for n in 0..7_i64 {
        found.push(
            client.query_one(&statement, &[&n, &"#en.wikipedia"]).await?.try_get::<_, i64>(0)?,
        );
    }
    Ok(json!(found))
}

async fn portal(port: u16) -> Result<Value> {
    let mut client = connect(port, "").await?;
    let transaction = client.transaction().await?;
    let portal = transaction
        .bind("SELECT n::bigint AS n FROM generate_series(1, 1000) AS g(n)", &[])
        .await?;
    let mut found = Vec::new();
    for limit in [3, 500, 600, 10] {
        let rows = transaction.query_portal(&portal, limit).await?;
        let sum: i64 = rows.iter().map(|row| row.get::<_, i64>(0)).sum();
        found.push(json!([rows.len(), sum]));
    }
    transaction.rollback().await?;
    Ok(json!(found))
}

async fn pipelined(client: &Client) -> Result<Value> {
    let numbers: Vec<i64> = (1..=5).collect();
    let asked = numbers.iter().map(|n| async move {
        let row = client.query_one("SELECT words FROM kinds WHERE n = $1", &[n]).await?;
        row.try_get::<_, Option<String>>(0)
    });
    Ok(json!(futures::future::try_join_all(asked).await?))
}

async fn transactions(port: u16) -> Result<Value> {
    let mut client = connect(port, "").await?;
    let builder =
        client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let mut outer = builder.read_only(true).start().await?;
    let mut found = vec![json!(
        outer.query_one("SHOW transaction_isolation", &[]).await?.try_get::<_, String>(0)?
    )];
    let inner = outer.savepoint("a").await?;
    found.push(json!(state(inner.batch_execute("SELECT nothing").await)));
    found.push(json!(state(inner.batch_execute("SELECT 1").await)));
    inner.rollback().await?;
    found.push(json!(
        outer.query_one("SELECT count(*) FROM kinds", &[]).await?.try_get::<_, i64>(0)?
    ));
    let insert = "INSERT INTO notes (at, client, n) VALUES (now(), 'tokio-postgres', 0)";
    found.push(json!(state(outer.batch_execute(insert).await)));
    outer.rollback().await?;
    Ok(json!(found))
}

fn state(outcome: Result<(), tokio_postgres::Error>) -> Option<String> {
    outcome.err().and_then(|error| error.code().map(|code| code.code().to_owned()))
}

async fn cancelled(port: u16) -> Result<Value> {
    let client = connect(port, "").await?;
    let token = client.cancel_token();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(NoTls).await
    };
    let (outcome, stopped) = tokio::join!(client.batch_execute(SLOW), stop);
    stopped?;
    let after = client.query_one("SELECT count(*) FROM kinds", &[]).await?;
    Ok(json!([state(outcome), after.try_get::<_, i64>(0)?]))
}

async fn timed_out(port: u16) -> Result<Value> {
    let client = connect(port, "-c statement_timeout=300").await?;
    Ok(json!(state(client.batch_execute(SLOW).await)))
}

async fn copied(client: &Client) -> Result<Value> {
    let stream = client
        .copy_out(
            "COPY (SELECT n, words, exact FROM kinds ORDER BY n) TO STDOUT (FORMAT csv, HEADER)",
        )
        .await?;
    let parts: Vec<bytes::Bytes> = stream.try_collect().await?;
    Ok(json!(String::from_utf8(parts.concat())?))
}

async fn streamed(client: &Client) -> Result<Value> {
    let sql = "SELECT n::bigint AS n, n::text AS t FROM generate_series(1, 100000) AS g(n)";
    let rows = client.query_raw(sql, std::iter::empty::<&i64>()).await?;
    let (count, sum) = rows
        .try_fold((0_i64, 0_i64), async |(count, sum), row| {
            Ok((count + 1, sum + row.try_get::<_, i64>(0)?))
        })
        .await?;
    Ok(json!([count, sum]))
}

async fn inserted(client: &Client) -> Result<Value> {
    client.batch_execute("SET otus.insert_wait = 'visible'").await?;
    let at: DateTime<Utc> = "2024-01-02T00:00:00Z".parse()?;
    let sql = "INSERT INTO notes (at, client, n, words) VALUES ($1, $2, $3, $4)";
    let count = client.execute(sql, &[&at, &"tokio-postgres", &1_i64, &None::<String>]).await?;
    let rows =
        client.query("SELECT n, words FROM notes WHERE client = 'tokio-postgres'", &[]).await?;
    let rows: Vec<(i64, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(json!([count, rows]))
}
