//! The `.slt` files of `tests/slt`, over the Postgres wire. With `OTUS_SLT_COMPLETE=1` they are rewritten with
//! what the server answers, to be read and judged before they are kept.

use std::path::PathBuf;

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup};
use otus_tests::paths;
use otus_tests::postgres::rows_of;
use sqllogictest::{DBOutput, DefaultColumnType, Runner};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Good and bad made-up events in the embedded log before any file runs.
const EVENTS: u64 = 5_000;

struct Wire {
    client: tokio_postgres::Client,
}

#[derive(Debug)]
struct Refused {
    state: Option<String>,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.state.as_deref().unwrap_or("-----"), self.message)
    }
}

impl std::error::Error for Refused {}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self { state: Some(db.code().code().into()), message: db.message().into() },
            None => Self { state: None, message: error.to_string() },
        }
    }
}

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Wire {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let messages = self.client.simple_query(sql).await?;
        let described = messages.iter().find_map(|m| match m {
            SimpleQueryMessage::RowDescription(columns) => Some(columns.len()),
            _ => None,
        });
        let Some(columns) = described else {
            let done = messages.iter().find_map(|m| match m {
                SimpleQueryMessage::CommandComplete(n) => Some(*n),
                _ => None,
            });
            return Ok(DBOutput::StatementComplete(done.unwrap_or(0)));
        };
        let text = |value: Option<String>| match value {
            None => "NULL".to_owned(),
            Some(text) if text.is_empty() => "(empty)".to_owned(),
            Some(text) => text.replace('\n', "\\n"),
        };
        let rows = rows_of(&messages);
        let rows = rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect();
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "otus"
    }

    async fn sleep(time: std::time::Duration) {
        tokio::time::sleep(time).await;
    }

    fn error_sql_state(error: &Refused) -> Option<String> {
        error.state.clone()
    }
}

/// A server with the made-up events in it: half of them flushed, half of them hot.
fn server() -> Result<Otus> {
    let otus = Setup::tables(events::table_section("events")).start()?;
    for half in [0..EVENTS / 2, EVENTS / 2..EVENTS] {
        let end = half.end;
        let lines: Vec<_> = half.map(events::payload).collect();
        let (status, answer) = otus.append("events?partition=0", &lines)?;
        anyhow::ensure!(status == 200, "append: {status} {answer}");
        let (count, _, _) = events::sums(end);
        otus.wait_number("select count(*) from events", count)?;
        if end < EVENTS {
            otus.flush()?;
        }
    }
    Ok(otus)
}

fn files() -> Result<Vec<PathBuf>> {
    let folder = paths::checkout().join("tests/slt");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &Result<PathBuf>| {
            path.as_ref().map_or(true, |p| p.extension().is_some_and(|e| e == "slt"))
        })
        .collect::<Result<_>>()?;
    found.sort();
    anyhow::ensure!(!found.is_empty(), "no .slt files");
    Ok(found)
}

#[test]
fn sql_logic_files() -> Result<()> {
    let otus = server()?;
    let port = otus.postgres_port();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let complete = std::env::var_os("OTUS_SLT_COMPLETE").is_some();
    let mut problems = Vec::new();
    for file in files()? {
        let outcome = runtime.block_on(async {
            let mut runner = Runner::new(|| async {
                let mut config = tokio_postgres::Config::new();
                config.host("127.0.0.1").port(port).user("otus").dbname("otus");
                let (client, connection) = config.connect(NoTls).await?;
                drop(tokio::spawn(connection));
                Ok(Wire { client })
            });
            if complete {
                let types = sqllogictest::default_column_validator;
                let rows = sqllogictest::default_validator;
                let normal = sqllogictest::default_normalizer;
                return runner
                    .update_test_file(&file, "\t", rows, normal, types)
                    .await
                    .map_err(|e| anyhow::anyhow!("{e}"));
            }
            runner.run_file_async(&file).await.map_err(|e| anyhow::anyhow!("{e}"))
        });
        if let Err(error) = outcome.with_context(|| file.display().to_string()) {
            problems.push(format!("{error:#}"));
        }
    }
    anyhow::ensure!(problems.is_empty(), "\n{}", problems.join("\n\n"));
    Ok(())
}
