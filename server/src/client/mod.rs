//! `otus sql`: asks a running server and prints the answers, for people without psql. It speaks the Postgres wire
//! like any other client and knows nothing of the engine.

mod meta;
mod split;
mod table;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

use self::meta::Meta;
use self::split::Splitter;
use self::table::{Style, Table};
use crate::cli::password;
use crate::config::ServerConfig;

/// Asks a running server in SQL.
#[derive(Debug, Clone, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Without -c it reads statements from standard input, and at a
terminal it asks for them; \\? there shows what else it knows.

Examples:
  otus sql
  otus sql -c 'SELECT count(*) FROM orders'
  otus sql --csv < question.sql > answer.csv

It ends with 1 if a statement failed and with 2 if there is no connection."
)]
pub struct SqlArgs {
    /// Address of the server; if neither this nor a port is given, the one in the configuration, else
    /// 127.0.0.1
    #[arg(short, long, env = "PGHOST")]
    pub host: Option<String>,
    /// Port of the server's Postgres wire, 5433 if not given
    #[arg(short, long, env = "PGPORT")]
    pub port: Option<u16>,
    /// The configuration that names the server
    #[arg(long, value_name = "FILE", default_value = "otus.toml", env = "OTUS_CONFIG")]
    pub config: PathBuf,
    /// Name of the user; the password is PGPASSWORD, or asked for at the terminal
    #[arg(short = 'U', long, default_value = "otus", env = "PGUSER")]
    pub user: String,
    /// Statements to run, separated by semicolons; may be given several times
    #[arg(short, long, value_name = "SQL")]
    pub command: Vec<String>,
    /// Print comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

/// What ends a run of statements.
enum Failure {
    /// The server said no.
    Statement,
    /// The answer cannot be written: the reader of a pipe is gone, most likely.
    Output,
    /// The server is gone.
    Connection,
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Output
    }
}

/// Runs the client. Exit codes: 0 all went well, 1 a statement failed, 2 no connection.
pub async fn run(args: SqlArgs) -> ExitCode {
    let (host, port) = address(&args);
    let client = match sign_in(&host, port, &args.user).await {
        Ok(client) => client,
        Err(e) => {
            complain(&format!("cannot connect to {host}:{port}: {}", cause(&e)));
            complain("is the server running? start it with `otus serve`, or `otus demo` to try");
            return ExitCode::from(2);
        }
    };
    let style = if args.csv { Style::Csv } else { Style::Table };
    let mut shell = Shell { client, style, timing: false };
    let result = if !args.command.is_empty() {
        shell.commands(&args.command).await
    } else if std::io::stdin().is_terminal() {
        shell.interactive().await
    } else {
        shell.script().await
    };
    match result {
        Ok(()) | Err(Failure::Output) => ExitCode::SUCCESS,
        Err(Failure::Statement) => ExitCode::from(1),
        Err(Failure::Connection) => ExitCode::from(2),
    }
}

/// Host and port of the server: as given, as configured, or the usual ones.
fn address(args: &SqlArgs) -> (String, u16) {
    let usual = ServerConfig::default().postgres;
    let asked = args.host.is_some() || args.port.is_some();
    let configured = if asked { None } else { ServerConfig::of_file(&args.config) };
    let text = configured.map_or(usual, |server| server.postgres);
    let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let host = args.host.as_deref().unwrap_or(host).trim_matches(['[', ']']);
    (host.to_string(), args.port.or_else(|| port.parse().ok()).unwrap_or_default())
}

/// Connects; asks for a password where the server wants one, none is in the environment and somebody is there.
async fn sign_in(host: &str, port: u16, user: &str) -> Result<Client, tokio_postgres::Error> {
    let given = std::env::var("PGPASSWORD").ok();
    let refused = match connect(host, port, user, given.as_deref()).await {
        Err(e) if given.is_none() && wants_password(&e) && std::io::stdin().is_terminal() => e,
        done => return done,
    };
    match password::ask(&format!("Password for user {user}: ")) {
        Ok(password) => connect(host, port, user, Some(&password)).await,
        Err(_) => Err(refused),
    }
}

/// The driver says by text alone that the server asks for a password which it was not given.
fn wants_password(e: &tokio_postgres::Error) -> bool {
    cause(e).contains("password missing")
}

async fn connect(
    host: &str,
    port: u16,
    user: &str,
    password: Option<&str>,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host(host).port(port).user(user).application_name("otus sql");
    if let Some(password) = password {
        config.password(password);
    }
    config.connect_timeout(std::time::Duration::from_secs(10));
    let (client, mut connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                complain(&format!("{}:  {}", notice.severity(), notice.message()));
            }
        }
    });
    Ok(client)
}

struct Shell {
    client: Client,
    style: Style,
    timing: bool,
}

impl Shell {
    /// Statements of the command line; the first failure ends it.
    async fn commands(&mut self, commands: &[String]) -> Result<(), Failure> {
        for command in commands {
            if let Some(meta) = Meta::parse(command) {
                self.meta(meta).await?;
                continue;
            }
            let mut splitter = Splitter::default();
            let mut statements: Vec<String> =
                command.lines().flat_map(|line| splitter.push(line)).collect();
            statements.extend(splitter.finish());
            for statement in &statements {
                self.statement(statement).await?;
            }
        }
        Ok(())
    }

    /// Statements from a file or pipe; the first failure ends it.
    async fn script(&mut self) -> Result<(), Failure> {
        let mut lines = BufReader::new(stdin()).lines();
        let mut splitter = Splitter::default();
        while let Some(line) = lines.next_line().await? {
            if splitter.is_empty()
                && let Some(meta) = Meta::parse(&line)
            {
                if meta == Meta::Quit {
                    return Ok(());
                }
                self.meta(meta).await?;
                continue;
            }
            for statement in splitter.push(&line) {
                self.statement(&statement).await?;
            }
        }
        match splitter.finish() {
            Some(statement) => self.statement(&statement).await,
            None => Ok(()),
        }
    }

    /// A prompt for people; failures are shown and the conversation goes on.
    async fn interactive(&mut self) -> Result<(), Failure> {
        writeln!(stdout(), "otus {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"))?;
        let mut lines = BufReader::new(stdin()).lines();
        let mut splitter = Splitter::default();
        loop {
            let prompt = if splitter.is_empty() { "otus=> " } else { "otus-> " };
            let Some(line) = read_line(&mut lines, prompt).await? else {
                splitter.clear();
                continue;
            };
            let Some(line) = line else {
                writeln!(stdout())?;
                return Ok(());
            };
            if splitter.is_empty()
                && let Some(meta) = Meta::parse(&line)
            {
                if meta == Meta::Quit {
                    return Ok(());
                }
                match self.meta(meta).await {
                    Ok(()) | Err(Failure::Statement) => {}
                    Err(e) => return Err(e),
                }
                continue;
            }
            for statement in splitter.push(&line) {
                match self.statement(&statement).await {
                    Ok(()) | Err(Failure::Statement) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    async fn meta(&mut self, meta: Meta) -> Result<(), Failure> {
        match meta {
            Meta::Quit => Ok(()),
            Meta::Help => Ok(stdout().write_all(meta::HELP.as_bytes())?),
            Meta::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                Ok(writeln!(stdout(), "Timing is {}.", if self.timing { "on" } else { "off" })?)
            }
            Meta::Expanded => {
                self.style =
                    if self.style == Style::Expanded { Style::Table } else { Style::Expanded };
                Ok(())
            }
            Meta::Query(sql) => self.statement(&sql).await,
            Meta::Unknown(name) => {
                complain(&format!("unknown command {name:?}; \\? shows those there are"));
                Err(Failure::Statement)
            }
        }
    }

    /// Runs one statement; Ctrl-C cancels it.
    async fn statement(&self, sql: &str) -> Result<(), Failure> {
        let began = Instant::now();
        let cancel = self.client.cancel_token();
        let mut answer = pin!(self.answer(sql));
        let result = loop {
            tokio::select! {
                result = &mut answer => break result,
                Ok(()) = tokio::signal::ctrl_c() => {
                    if let Err(e) = cancel.cancel_query(NoTls).await {
                        complain(&format!("cannot cancel: {}", cause(&e)));
                        return Err(Failure::Connection);
                    }
                }
            }
        };
        match result {
            Err(Answer::Output(e)) => return Err(e.into()),
            Err(Answer::Server(e)) => {
                complain(&describe(&e, sql));
                let lost = e.as_db_error().is_none() && self.client.is_closed();
                return Err(if lost { Failure::Connection } else { Failure::Statement });
            }
            Ok(()) => {}
        }
        if self.timing {
            writeln!(stdout(), "Time: {:.3} ms", began.elapsed().as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }

    async fn answer(&self, sql: &str) -> Result<(), Answer> {
        if sql.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("copy")) {
            let mut data = pin!(self.client.copy_out(sql).await?);
            while let Some(bytes) = data.try_next().await? {
                stdout().write_all(&bytes)?;
            }
            return Ok(stdout().flush()?);
        }
        let mut messages = pin!(self.client.simple_query_raw(sql).await?);
        let mut table: Option<Table<_>> = None;
        while let Some(message) = messages.try_next().await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    let names = columns.iter().map(|c| c.name().to_owned()).collect();
                    let out = std::io::BufWriter::new(stdout());
                    table = Some(Table::new(out, self.style, names)?);
                }
                SimpleQueryMessage::Row(row) => {
                    let values = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
                    if let Some(table) = &mut table {
                        table.row(values)?;
                    }
                }
                SimpleQueryMessage::CommandComplete(_) => match table.take() {
                    Some(table) => table.finish()?,
                    None if self.style == Style::Csv => {}
                    None => writeln!(stdout(), "ok")?,
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why an answer broke off.
enum Answer {
    Server(tokio_postgres::Error),
    Output(std::io::Error),
}

impl From<tokio_postgres::Error> for Answer {
    fn from(e: tokio_postgres::Error) -> Self {
        Self::Server(e)
    }
}

impl From<std::io::Error> for Answer {
    fn from(e: std::io::Error) -> Self {
        Self::Output(e)
    }
}

/// A line from the prompt; none when Ctrl-C gave up what was begun, and none inside at the end.
async fn read_line(
    lines: &mut Lines<BufReader<Stdin>>,
    prompt: &str,
) -> Result<Option<Option<String>>, Failure> {
    let mut out = stdout();
    out.write_all(prompt.as_bytes())?;
    out.flush()?;
    tokio::select! {
        line = lines.next_line() => Ok(Some(line?)),
        Ok(()) = tokio::signal::ctrl_c() => {
            writeln!(out)?;
            Ok(None)
        }
    }
}

/// An error with its place in the statement, as psql shows it.
fn describe(e: &tokio_postgres::Error, sql: &str) -> String {
    let Some(db) = e.as_db_error() else {
        return format!("ERROR:  {}", cause(e));
    };
    let mut text = format!("{}:  {}", db.severity(), db.message());
    text.push_str(&place(db, sql).unwrap_or_default());
    for (name, value) in [("DETAIL", db.detail()), ("HINT", db.hint())] {
        if let Some(value) = value {
            text.push_str(&format!("\n{name}:  {value}"));
        }
    }
    text
}

fn place(db: &DbError, sql: &str) -> Option<String> {
    let Some(ErrorPosition::Original(position)) = db.position() else { return None };
    let position = usize::try_from(*position).ok()?.checked_sub(1)?;
    let before: String = sql.chars().take(position).collect();
    let line_number = before.matches('\n').count();
    let line = sql.lines().nth(line_number)?;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count());
    let head = format!("LINE {}: ", line_number + 1);
    Some(format!("\n{head}{line}\n{}^", " ".repeat(head.chars().count() + column)))
}

/// The innermost reason, which names what went wrong.
fn cause(e: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = e;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// To the error output; there is nobody left to tell if that fails.
fn complain(text: &str) {
    drop(writeln!(stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_given_or_configured() {
        let name = format!("otus-sql-{}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, "[server]\npostgres = \"[::1]:26011\"\n").unwrap();
        let of = |host: Option<&str>, port, config: &PathBuf| {
            address(&SqlArgs {
                host: host.map(str::to_string),
                port,
                config: config.clone(),
                user: "otus".into(),
                command: Vec::new(),
                csv: false,
                help: None,
            })
        };
        let at = |host: &str, port| (host.to_string(), port);
        assert_eq!(of(None, None, &file), at("::1", 26011));
        assert_eq!(of(Some("db"), None, &file), at("db", 5433));
        assert_eq!(of(None, Some(7), &file), at("127.0.0.1", 7));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(of(None, None, &file), at("127.0.0.1", 5433));
    }
}
