//! PostgreSQL 15, which answers are compared with.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::NoTls;

use crate::leash;
use crate::process::{Process, free_port, until};

/// Where Debian installs it.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Fast rather than durable, with the settings that Otus has without asking.
const SETTINGS: [&str; 4] =
    ["fsync=off", "full_page_writes=off", "timezone=UTC", "listen_addresses=127.0.0.1"];

static SHARED: OnceLock<Result<Reference, String>> = OnceLock::new();

/// A running PostgreSQL with the superuser `postgres` and the plain user `otus`, neither with a password. Texts
/// sort by their bytes.
#[derive(Debug)]
pub struct Reference {
    port: u16,
    _process: Process,
}

impl Reference {
    /// The server of this run, started on first use; or why there is none.
    pub fn shared() -> Result<&'static Self, String> {
        if !Path::new(PROGRAMS).join("initdb").is_file() {
            return Err("PostgreSQL 15 is not installed (tests/run --install)".into());
        }
        let started = SHARED.get_or_init(|| Self::start().map_err(|e| format!("{e:#}")));
        started.as_ref().map_err(Clone::clone)
    }

    fn start() -> Result<Self> {
        let folder = leash::fresh_folder("postgres")?;
        let user = unprivileged()?;
        if let Some(user) = user {
            chown(&folder, Some(user), None)?;
        }
        let data = folder.join("data");
        let mut init = program("initdb", user, &folder);
        init.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]);
        init.args(["--lc-collate=C", "--lc-ctype=C.UTF-8"]);
        let output = init.output().context("initdb")?;
        anyhow::ensure!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let port = free_port()?;
        let mut serve = program("postgres", user, &folder);
        serve.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-p", &port.to_string()]);
        serve.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let this = Self { port, _process: Process::start(&mut serve, &folder.join("output"))? };
        until("PostgreSQL", Duration::from_secs(60), || {
            this.run("postgres", "postgres", "SELECT 1").map(drop)
        })?;
        this.run("postgres", "postgres", "CREATE ROLE otus LOGIN")?;
        Ok(this)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A fresh database that the user `otus` owns.
    pub fn database(&self, name: &str) -> Result<()> {
        self.run("postgres", "postgres", &format!("CREATE DATABASE \"{name}\" OWNER otus"))
    }

    /// Runs statements.
    pub fn run(&self, user: &str, database: &str, sql: &str) -> Result<()> {
        self.with(user, database, async |client| Ok(client.batch_execute(sql).await?))
    }

    /// Runs async work over a connection.
    pub fn with<T>(
        &self,
        user: &str,
        database: &str,
        work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> Result<T>,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(self.port).user(user).dbname(database);
            let (mut client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let outcome = work(&mut client).await;
            drop(client);
            connection.await??;
            outcome
        })
    }
}

fn program(name: &str, user: Option<u32>, folder: &Path) -> Command {
    let mut command = Command::new(PathBuf::from(PROGRAMS).join(name));
    command.current_dir(folder).env("LC_ALL", "C.UTF-8");
    if let Some(user) = user {
        command.uid(user);
    }
    command
}

/// Who PostgreSQL has to run as: it refuses to run as root.
fn unprivileged() -> Result<Option<u32>> {
    let id = |arguments: &[&str]| -> Result<u32> {
        let output = Command::new("id").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    if id(&["-u"])? == 0 {
        Ok(Some(id(&["-u", "postgres"]).context("there is no user postgres")?))
    } else {
        Ok(None)
    }
}
