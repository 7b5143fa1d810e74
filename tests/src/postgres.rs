//! Two clients of the Postgres endpoint: psql as a person uses it, and tokio-postgres for what is done a
//! thousand times.

use std::process::Command;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// psql against one server.
#[derive(Debug, Clone)]
pub struct Psql {
    port: u16,
}

impl Psql {
    /// psql for the server on `port`, or why there is none.
    pub fn new(port: u16) -> Result<Self, String> {
        let version = Command::new("psql").arg("--version").output();
        version.map_err(|_| "psql is not installed (tests/run --install)".to_owned())?;
        Ok(Self { port })
    }

    /// psql with these arguments, ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "otus"])
            .args(["-d", "otus", "-v", "ON_ERROR_STOP=1"])
            .args(arguments)
            .env("PGCONNECT_TIMEOUT", "30")
            .env("PGSSLMODE", "disable")
            .env_remove("PGOPTIONS")
            .env_remove("PGSERVICE");
        psql
    }

    /// Runs one statement or meta command; unaligned rows, fields by `|`, without heading.
    pub fn query(&self, sql: &str) -> Result<String> {
        let output = self.command(&["-At", "-c", sql]).output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "psql: {sql}: {words}");
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// As [`Self::query`], under a setting of `otus.rollups`.
    pub fn query_under(&self, rollups: &str, sql: &str) -> Result<String> {
        let set = format!("set otus.rollups = {rollups}");
        let output = self.command(&["-q", "-At", "-c", &set, "-c", sql]).output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "psql: {sql}: {words}");
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Runs one statement that must fail, and gives the error as psql shows it.
    pub fn error(&self, sql: &str) -> Result<String> {
        let verbose = ["-At", "-v", "VERBOSITY=verbose", "-c", sql];
        let output = self.command(&verbose).output()?;
        anyhow::ensure!(!output.status.success(), "psql: {sql} did not fail");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// One connection, used without async.
pub struct Client {
    runtime: Runtime,
    client: tokio_postgres::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What a server says of a column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Of its type.
    pub oid: u32,
    /// Length or digits, -1 for none.
    pub modifier: i32,
}

/// What a statement answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Columns and rows.
    Rows(Vec<Shown>, Rows),
    /// SQLSTATE and message.
    Failure(String, String),
}

/// Rows as text; NULL is `None`.
pub type Rows = Vec<Vec<Option<String>>>;

impl Client {
    /// Connects.
    pub fn connect(port: u16) -> Result<Self> {
        Self::connect_to(port, "otus")
    }

    /// Connects to a database by its name.
    pub fn connect_to(port: u16, database: &str) -> Result<Self> {
        Self::connect_as(port, database, "otus", "")
    }

    /// Connects as a user; an empty password is one that is not asked for.
    pub fn connect_as(port: u16, database: &str, user: &str, password: &str) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async move {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(port).user(user).password(password).dbname(database);
            config.connect_timeout(std::time::Duration::from_secs(30));
            let (client, connection) = config.connect(NoTls).await?;
            drop(tokio::spawn(connection));
            anyhow::Ok(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// All rows of a statement, by the simple protocol.
    pub fn rows(&self, sql: &str) -> Result<Rows> {
        let messages =
            self.runtime.block_on(self.client.simple_query(sql)).with_context(|| sql.to_owned())?;
        Ok(rows_of(&messages))
    }

    /// The names of the columns of a statement, and its rows.
    pub fn titled(&self, sql: &str) -> Result<(Vec<String>, Rows)> {
        let messages =
            self.runtime.block_on(self.client.simple_query(sql)).with_context(|| sql.to_owned())?;
        let names = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::RowDescription(columns) => {
                Some(columns.iter().map(|column| column.name().to_owned()).collect())
            }
            _ => None,
        });
        Ok((names.with_context(|| format!("no columns from {sql}"))?, rows_of(&messages)))
    }

    /// The one row of a statement, as integers.
    pub fn numbers(&self, sql: &str) -> Result<Vec<i64>> {
        let rows = self.rows(sql)?;
        let row = rows.first().with_context(|| format!("no row from {sql}"))?;
        row.iter()
            .map(|v| v.as_deref().context("null")?.parse::<i64>().context("not an integer"))
            .collect::<Result<_>>()
            .with_context(|| format!("{sql} gave {row:?}"))
    }

    /// The SQLSTATE and message with which a statement fails.
    pub fn failure(&self, sql: &str) -> Result<(String, String)> {
        match self.runtime.block_on(self.client.simple_query(sql)) {
            Ok(_) => anyhow::bail!("{sql} did not fail"),
            Err(error) => {
                let error = error.as_db_error().context("not an error of the server")?;
                Ok((error.code().code().to_owned(), error.message().to_owned()))
            }
        }
    }

    /// What a statement answers: its columns by name, type and type modifier, and its rows as text; or the SQLSTATE with
    /// which it fails, and the message.
    pub fn answer(&self, sql: &str) -> Result<Answer> {
        let asked = self.runtime.block_on(async {
            let statement = self.client.prepare(sql).await?;
            let messages = self.client.simple_query(sql).await?;
            Ok::<_, tokio_postgres::Error>((statement, messages))
        });
        match asked {
            Ok((statement, messages)) => {
                let column = |c: &tokio_postgres::Column| Shown {
                    name: c.name().to_owned(),
                    oid: c.type_().oid(),
                    modifier: c.type_modifier(),
                };
                let columns = statement.columns().iter().map(column).collect();
                Ok(Answer::Rows(columns, rows_of(&messages)))
            }
            Err(error) => {
                let error = error.as_db_error().with_context(|| format!("{sql}: {error}"))?;
                let state = error.code().code().to_owned();
                Ok(Answer::Failure(state, error.message().to_owned()))
            }
        }
    }

    /// What cancels the statement that then runs, from anywhere.
    pub fn canceller(&self) -> impl Fn() -> Result<()> + Send + Sync + use<> {
        let (token, handle) = (self.client.cancel_token(), self.runtime.handle().clone());
        move || Ok(handle.block_on(token.cancel_query(NoTls))?)
    }

    /// Runs async work over the connection.
    pub fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> Result<T>,
    ) -> Result<T> {
        self.runtime.block_on(work(&mut self.client))
    }
}

/// The rows among the messages of a simple query.
pub fn rows_of(messages: &[SimpleQueryMessage]) -> Rows {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}
