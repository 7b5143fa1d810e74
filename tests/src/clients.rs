//! Programs of `tests/clients`: what real clients ask, of Otus and of PostgreSQL, and how the answers compare.
//!
//! A program takes its server from `PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE`, and prints one line of JSON per
//! probe: its name, and columns, types and rows, or a value, or an error. Where a probe may answer differently,
//! `differences.toml` says in which parts and why. What is listed and does not differ is a failure, too.

mod differences;
pub mod documents;
pub mod tokio_client;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::SinkExt;
use serde_json::{Map, Value};

use crate::leash;
use crate::otus::{Otus, Setup};
use crate::paths;
use crate::process::Process;
use crate::reference::Reference;
use crate::wiki;

/// Rows of the wikiticker day.
const EVENTS: i64 = 39_244;
/// Rows of `kinds.ndjson`.
const KINDS: i64 = 5;
/// The fields of a probe that are compared. An error's words are each server's own.
const PARTS: [&str; 5] = ["columns", "types", "rows", "value", "error"];

/// Otus and PostgreSQL with the same tables and rows.
#[derive(Debug)]
pub struct Servers {
    otus: Otus,
    reference: &'static Reference,
}

static SERVERS: OnceLock<Result<Servers, String>> = OnceLock::new();

/// Folder of the programs.
pub fn folder() -> PathBuf {
    paths::checkout().join("tests/clients")
}

/// Folder of what `tests/run --install` installs for them.
pub fn installed() -> PathBuf {
    paths::cache().join("clients")
}

/// The program of a client, ready to run; or which component is missing.
pub fn program(client: &str) -> Result<Command, String> {
    let python = |script: &str| python("python", script);
    let with = |mut command: Command, argument: &str| {
        command.arg(argument);
        command
    };
    match client {
        "psql" => python("psql/client.py"),
        "pgcli" => python("python/pgcli_client.py"),
        "psycopg2" => python("python/psycopg2_client.py"),
        "psycopg" => python("python/psycopg3_client.py"),
        "asyncpg" => python("python/asyncpg_client.py"),
        "SQLAlchemy" => Ok(with(python("python/sqlalchemy_client.py")?, "psycopg2")),
        "SQLAlchemy with psycopg" => Ok(with(python("python/sqlalchemy_client.py")?, "psycopg")),
        "SQLAlchemy 1.4" => {
            Ok(with(self::python("superset", "python/sqlalchemy_client.py")?, "psycopg2"))
        }
        "pandas" => python("python/pandas_client.py"),
        "ADBC" => python("python/adbc_client.py"),
        "connectorx" => python("python/connectorx_client.py"),
        "psqlodbc" => there("psqlodbc", Path::new("/usr/share/psqlodbc"))
            .and(python("python/psqlodbc_client.py")),
        "pgjdbc" => java(),
        "node-postgres" => node(),
        "pgx" => go(),
        "Superset" => superset(),
        _ => Err(format!("there is no program of {client}")),
    }
}

/// Whether a file that `tests/run --install` brings is there.
fn there(what: &str, path: &Path) -> Result<(), String> {
    if path.exists() {
        Ok(())
    } else {
        Err(format!("{what} is not installed (tests/run --install)"))
    }
}

/// A script in the Python environment `name`.
fn python(name: &str, script: &str) -> Result<Command, String> {
    let path = installed().join(name).join("bin/python");
    there(&format!("the Python environment {name} of the clients"), &path)?;
    let mut command = Command::new(path);
    command.arg("-B").arg(folder().join(script));
    Ok(command)
}

fn java() -> Result<Command, String> {
    let jars = installed().join("java");
    there("pgjdbc", &jars)?;
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(folder().join("java/Client.java"))
        .arg(folder().join("statements.json"));
    Ok(command)
}

fn node() -> Result<Command, String> {
    let packages = installed().join("node");
    there("node-postgres", &packages.join("node_modules/pg"))?;
    let mut command = Command::new("node");
    command.arg(folder().join("node/client.js")).env("NODE_MODULES_OF", &packages);
    Ok(command)
}

/// Built from the modules that were installed, without the network.
fn go() -> Result<Command, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    there("pgx", &installed().join("go"))?;
    let built = BUILT.get_or_init(|| {
        let own = installed().join("python/bin/go");
        let program = installed().join("go/client");
        let mut build = Command::new(if own.is_file() { own } else { PathBuf::from("go") });
        build
            .args(["build", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(folder().join("go"));
        let output = build.env("GOPROXY", "off").output().map_err(|e| format!("go: {e}"))?;
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(program) } else { Err(format!("go build: {words}")) }
    });
    let mut command = Command::new(built.as_ref().map_err(Clone::clone)?);
    command.arg(folder().join("statements.json"));
    Ok(command)
}

/// Superset, in whose folder its metadata database was prepared.
fn superset() -> Result<Command, String> {
    let home = installed().join("superset");
    there("Superset", &home.join("superset.db"))?;
    let mut command = python("superset", "superset/client.py")?;
    command.arg(home);
    Ok(command)
}

impl Servers {
    /// The two servers of this run, started on first use.
    pub fn shared(reference: &'static Reference) -> Result<&'static Self> {
        let started = SERVERS.get_or_init(|| Self::start(reference).map_err(|e| format!("{e:#}")));
        started.as_ref().map_err(|e| anyhow::anyhow!("{e}"))
    }

    fn start(reference: &'static Reference) -> Result<Self> {
        let sections = std::fs::read_to_string(folder().join("otus.toml"))?;
        let events = wiki::lines(&wiki::file().map_err(anyhow::Error::msg)?)?;
        let kinds = std::fs::read_to_string(folder().join("kinds.ndjson"))?;
        let kinds: Vec<String> = kinds.lines().map(str::to_owned).collect();
        let otus =
            Setup::tables(wiki::table_section("topic = \"wikipedia\"") + &sections).start()?;
        for (topic, lines, count) in [("wikipedia", &events, EVENTS), ("kinds", &kinds, KINDS)] {
            let bytes: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            let (status, answer) = otus.append(topic, &bytes)?;
            anyhow::ensure!(status == 200, "append to {topic}: {status} {answer}");
            otus.wait_number(&format!("select count(*) from {topic}"), count)?;
        }
        fill(reference, &[("wikipedia", &events), ("kinds", &kinds)])?;
        Ok(Self { otus, reference })
    }

    /// Runs the program of a client against both and compares what it prints.
    pub fn compare(&self, client: &str, within: Duration) -> Result<Counts> {
        let run = |port| -> Result<Answers> {
            let command = program(client).map_err(anyhow::Error::msg)?;
            let (printed, ended) = printed(command, port, within, &[])?;
            anyhow::ensure!(
                ended,
                "{client} at port {port} ended with an error:\n{}",
                last(&printed)
            );
            probes(&printed)
        };
        let (wanted, found) = (run(self.reference.port())?, run(self.otus.postgres_port())?);
        compared(client, &wanted, &found)
    }

    /// Ports of PostgreSQL and of Otus.
    pub fn ports(&self) -> (u16, u16) {
        (self.reference.port(), self.otus.postgres_port())
    }
}

/// The tables of Otus in PostgreSQL, which reads the lines by itself.
fn fill(reference: &Reference, tables: &[(&str, &Vec<String>)]) -> Result<()> {
    reference.database("otus")?;
    reference.run("postgres", "otus", "ALTER SCHEMA public OWNER TO otus")?;
    let script = std::fs::read_to_string(folder().join("postgres.sql"))?;
    let (before, after) =
        script.split_once("-- rows --").context("postgres.sql has no place for rows")?;
    reference.with("otus", "otus", async |client| {
        client.batch_execute(before).await?;
        for (table, lines) in tables {
            // CSV whose quote and delimiter occur in no JSON.
            let copy =
                "COPY lines (of, line) FROM STDIN (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')";
            let sink = client.copy_in::<_, Bytes>(copy).await?;
            let mut sink = std::pin::pin!(sink);
            for line in *lines {
                sink.send(Bytes::from(format!("{table}\u{2}{line}\n"))).await?;
            }
            sink.close().await?;
        }
        client.batch_execute(after).await?;
        Ok(())
    })
}

/// What a program printed, by the name of the probe.
pub type Answers = BTreeMap<String, Map<String, Value>>;

/// Runs a program against the server on `port`: what it printed, and whether it ended well.
pub fn printed(
    mut program: Command,
    port: u16,
    within: Duration,
    environment: &[(&str, &str)],
) -> Result<(String, bool)> {
    let folder = leash::fresh_folder("client")?;
    program
        .envs([
            ("PGHOST", "127.0.0.1"),
            ("PGUSER", "otus"),
            ("PGDATABASE", "otus"),
            ("PGSSLMODE", "disable"),
        ])
        .envs([("PGPORT", port.to_string().as_str()), ("PGPASSWORD", "unused"), ("TZ", "UTC")])
        .env("HOME", &folder)
        .env_remove("PGOPTIONS")
        .env_remove("PGSERVICE")
        .envs(environment.iter().copied())
        .current_dir(&folder);
    let mut process = Process::start(&mut program, &folder.join("output"))?;
    let status = process.wait(within).with_context(|| format!("{program:?} at port {port}"))?;
    Ok((process.output(), status.success()))
}

/// The probes among what a program printed.
pub fn probes(printed: &str) -> Result<Answers> {
    read(printed.lines().filter(|line| line.starts_with("{\"probe\":")))
}

/// The last lines of what a program printed.
pub fn last(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}

/// Reads lines of probes.
pub fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Answers> {
    let mut answers = Answers::new();
    for line in lines {
        let Value::Object(mut fields) = serde_json::from_str(line).context(line.to_owned())? else {
            bail!("{line} is no object");
        };
        let name = fields.remove("probe").and_then(|name| name.as_str().map(str::to_owned));
        let name = name.with_context(|| format!("{line} has no name"))?;
        anyhow::ensure!(!answers.contains_key(&name), "two probes are called {name:?}");
        answers.insert(name, fields);
    }
    Ok(answers)
}

/// How many probes there were, and how many of them answered differently, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub probes: usize,
    /// Those of `differences.toml`.
    pub different: usize,
}

/// Compares what a client printed at PostgreSQL with what it printed at Otus.
pub fn compared(client: &str, wanted: &Answers, found: &Answers) -> Result<Counts> {
    anyhow::ensure!(!wanted.is_empty(), "{client} printed nothing");
    if documents::writes() {
        let differ =
            wanted.keys().map(|name| (name.clone(), parts(wanted.get(name), found.get(name))));
        differences::write(client, &differ.filter(|(_, parts)| !parts.is_empty()).collect())?;
    }
    let listed = differences::listed(client)?;
    let mut wrong = Vec::new();
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).chain(listed.keys()).collect();
    for name in names {
        let (wanted, found) = (wanted.get(name), found.get(name));
        let (differ, allowed) =
            (parts(wanted, found), listed.get(name).cloned().unwrap_or_default());
        if differ == allowed && found.is_some() {
            continue;
        }
        let what = |fields: Option<&Map<String, Value>>| {
            shortened(&Value::from(fields.cloned().unwrap_or_default()))
        };
        wrong.push(format!(
            "{client}: {name:?} differs in {differ:?}, listed are {allowed:?}\n  PostgreSQL {}\n  Otus       {}",
            what(wanted),
            what(found)
        ));
    }
    let count = wrong.len();
    anyhow::ensure!(count == 0, "{count} of {} probes:\n{}", wanted.len(), wrong.join("\n"));
    Ok(Counts { probes: wanted.len(), different: listed.len() })
}

/// The parts in which a probe differs.
fn parts(
    wanted: Option<&Map<String, Value>>,
    found: Option<&Map<String, Value>>,
) -> BTreeSet<String> {
    let differs =
        |part: &&str| wanted.and_then(|w| w.get(*part)) != found.and_then(|f| f.get(*part));
    PARTS.into_iter().filter(differs).map(str::to_owned).collect()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 1_000 {
        text.chars().take(1_000).collect::<String>() + " …"
    } else {
        text
    }
}
