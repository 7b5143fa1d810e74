//! A running `otus serve`: its configuration, its start and readiness, its death and start again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::broker::Broker;
use crate::leash;
use crate::paths;
use crate::postgres::{Client, Psql};
use crate::process::{Process, free_port, pause, until};

/// How long a start or a catching up may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a server is started with; [`Setup::start`] starts it.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    storage: Option<String>,
    kafka: Option<String>,
    limits: Vec<(String, String)>,
    server: Vec<(String, String)>,
    tables: String,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
    apply: bool,
}

impl Setup {
    /// A server with these `[tables…]` sections, on a fresh folder and the embedded log.
    pub fn tables(sections: impl Into<String>) -> Self {
        Self { tables: sections.into(), ..Self::default() }
    }

    /// Reads topics of this broker.
    #[must_use]
    pub fn kafka(self, broker: &Broker) -> Self {
        self.kafka_with(&broker.address(), "")
    }

    /// Reads topics of the broker at `address`, with further `lines` of the `[kafka]` section.
    #[must_use]
    pub fn kafka_with(mut self, address: &str, lines: &str) -> Self {
        self.kafka = Some(format!(
            "[kafka]\nbootstrap.servers = \"{address}\"\n\
             topic.metadata.refresh.interval.ms = 1000\nsession.timeout.ms = 6000\n{lines}"
        ));
        self
    }

    /// Uses this `[storage]` section.
    #[must_use]
    pub fn storage(mut self, section: String) -> Self {
        self.storage = Some(section);
        self
    }

    /// Uses this folder for configuration and data, as another server did before.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Sets a bound of the `[limits]` section.
    #[must_use]
    pub fn limit(mut self, name: &str, value: &str) -> Self {
        self.limits.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts with `--apply`.
    #[must_use]
    pub fn apply(mut self) -> Self {
        self.apply = true;
        self
    }

    /// Sets a key of the `[server]` section.
    #[must_use]
    pub fn server(mut self, name: &str, value: &str) -> Self {
        self.server.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a variable of the process's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn text(&self, folder: &Path, postgres: u16, http: u16) -> String {
        let mut text = self.storage.clone().unwrap_or_else(|| {
            format!("[storage]\nurl = \"file:{}\"\n", folder.join("data").display())
        });
        let server = "\n[server]\npostgres = \"127.0.0.1:";
        write!(text, "{server}{postgres}\"\nhttp = \"127.0.0.1:{http}\"\n").ok();
        for (name, value) in &self.server {
            writeln!(text, "{name} = {value}").ok();
        }
        text.push('\n');
        text.push_str(self.kafka.as_deref().unwrap_or_default());
        if !self.limits.is_empty() {
            text.push_str("\n[limits]\n");
        }
        for (name, value) in &self.limits {
            writeln!(text, "{name} = {value}").ok();
        }
        text.push_str(&self.tables);
        text
    }

    /// Writes the configuration without starting anything; gives the server that [`Otus::launch`] starts.
    pub fn prepare(self) -> Result<Otus> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => leash::fresh_folder("otus")?,
        };
        let (postgres, http) = (free_port()?, free_port()?);
        std::fs::write(folder.join("otus.toml"), self.text(&folder, postgres, http))?;
        Ok(Otus { setup: self, folder, postgres, http, process: None })
    }

    /// Starts the server and waits until its endpoints answer.
    pub fn start(self) -> Result<Otus> {
        let mut otus = self.prepare()?;
        otus.launch()?;
        Ok(otus)
    }
}

/// A server and its folder; the process may be dead between two starts.
#[derive(Debug)]
pub struct Otus {
    setup: Setup,
    folder: PathBuf,
    postgres: u16,
    http: u16,
    process: Option<Process>,
}

impl Otus {
    /// Folder of the configuration (`otus.toml`), the data (`data`) and the output (`output`).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it printed, over all its lives.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    fn tail(&self) -> String {
        self.process.as_ref().map(|p| p.tail(40)).unwrap_or_default()
    }

    /// Starts the process and waits until its endpoints answer.
    pub fn launch(&mut self) -> Result<()> {
        self.spawn(&[])?;
        self.wait_alive()
    }

    /// Starts the process with further environment, and does not wait.
    pub fn spawn(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(paths::binary()?);
        command.arg("serve").arg("-c").arg("otus.toml").current_dir(&self.folder);
        if self.setup.apply {
            command.arg("--apply");
        }
        for (name, value) in &self.setup.environment {
            command.env(name, value);
        }
        command.envs(environment.iter().copied());
        self.process = Some(Process::start(&mut command, &self.folder.join("output"))?);
        Ok(())
    }

    /// Waits until `/healthz` answers; fails at once if the process ends.
    pub fn wait_alive(&mut self) -> Result<()> {
        let url = self.url("/healthz");
        until("otus serve", PATIENCE, || {
            if let Some(status) = self.ended()? {
                bail!("otus ended with {status}:\n{}", self.tail());
            }
            let (status, body) = get(&url)?;
            anyhow::ensure!(status == 200, "/healthz: {status} {body}");
            Ok(())
        })
        .map_err(|e| match self.process.is_some() {
            true => e.context(format!("its last words:\n{}", self.tail())),
            false => e,
        })
    }

    /// Waits until `/readyz` answers 200: the end offsets seen at start have been reached.
    pub fn wait_ready(&self) -> Result<()> {
        let url = self.url("/readyz");
        until("/readyz", PATIENCE, || {
            let (status, body) = get(&url)?;
            anyhow::ensure!(status == 200, "{status} {body}");
            Ok(())
        })
        .with_context(|| self.tail())
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.as_mut().map_or(Ok(None), Process::ended)
    }

    /// Waits for the process to end by itself (a failpoint).
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.as_mut().context("not started")?.wait(within)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::kill)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().context("not started")?.signal(name)
    }

    /// SIGTERM, and waits for the end, which must be a clean one.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            let status = process.stop(PATIENCE)?;
            anyhow::ensure!(status.success(), "otus ended with {status}:\n{}", self.tail());
        }
        Ok(())
    }

    /// The process id.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The port of the Postgres endpoint.
    pub fn postgres_port(&self) -> u16 {
        self.postgres
    }

    /// Address of a path over HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// psql against this server; or why there is none.
    pub fn psql(&self) -> Result<Psql, String> {
        Psql::new(self.postgres)
    }

    /// A connection of its own.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.postgres)
    }

    /// One value of one row.
    pub fn value(&self, sql: &str) -> Result<String> {
        let rows = self.rows(sql)?;
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.with_context(|| format!("no value from {sql}"))
    }

    /// One integer.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let text = self.value(sql)?;
        text.parse().with_context(|| format!("{text:?} from {sql}"))
    }

    /// All rows as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.connect()?.rows(sql)
    }

    /// Waits until a query gives this number.
    pub fn wait_number(&self, sql: &str, wanted: i64) -> Result<()> {
        until(sql, PATIENCE, || {
            let found = self.number(sql)?;
            anyhow::ensure!(found == wanted, "{found} instead of {wanted}");
            Ok(())
        })
        .with_context(|| self.tail())
    }

    /// What ingestion says about each partition: table, topic, state, position, end, lag.
    pub fn partitions(&self) -> Result<Vec<Value>> {
        let (status, text) = get(&self.url("/api/ingest"))?;
        anyhow::ensure!(status == 200, "/api/ingest: {status} {text}");
        let value: Value = serde_json::from_str(&text)?;
        value["partitions"].as_array().cloned().context("no partitions")
    }

    /// Waits until a partition is in this state; gives all it says, the reason included.
    pub fn wait_state(&self, state: &str) -> Result<String> {
        until(&format!("a partition is {state}"), PATIENCE, || {
            let partitions = self.partitions()?;
            let found = partitions.iter().find(|p| p["state"] == state);
            found.map(Value::to_string).with_context(|| format!("{partitions:?}"))
        })
    }

    /// Writes all hot rows and commits them.
    pub fn flush(&self) -> Result<()> {
        let (status, body) = post(&self.url("/api/ingest/flush"), "application/json", "{}")?;
        anyhow::ensure!(status == 200, "flush: {status} {body}");
        Ok(())
    }

    /// Does all maintenance that is due or could wait: compaction, retention, collection.
    pub fn maintain(&self) -> Result<()> {
        let (status, body) = post(&self.url("/api/ingest/maintain"), "application/json", "{}")?;
        anyhow::ensure!(status == 200, "maintain: {status} {body}");
        Ok(())
    }

    /// Posts a pull request in JSON.
    pub fn pull(&self, request: &Value) -> Result<(u16, Value)> {
        self.post_json("/api/pull", request)
    }

    /// Appends records, one a line, to a topic of the embedded log: status and answer.
    pub fn append(&self, topic: &str, lines: &[Vec<u8>]) -> Result<(u16, String)> {
        let body = String::from_utf8(lines.join(&b'\n'))?;
        post(&self.url(&format!("/api/append/{topic}")), "application/x-ndjson", &body)
    }

    /// Posts JSON and reads JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let (status, text) = post(&self.url(path), "application/json", &body.to_string())?;
        let value = serde_json::from_str(&text).with_context(|| format!("{status} {text:?}"))?;
        Ok((status, value))
    }

    /// Runs a verb of the command line against this server's configuration.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        Ok(Command::new(paths::binary()?)
            .args(arguments)
            .env("OTUS_SERVER", self.url(""))
            .envs(self.setup.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .output()?)
    }

    /// Runs a verb that must succeed, and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "otus {arguments:?}: {words}\n{text}");
        Ok(text)
    }
}

/// GET: status and body.
pub fn get(url: &str) -> Result<(u16, String)> {
    let url = url.to_owned();
    http(async move {
        let answer = reqwest::Client::new().get(url).timeout(PATIENCE).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

/// POST: status and body.
pub fn post(url: &str, content_type: &str, body: &str) -> Result<(u16, String)> {
    let (url, kind, body) = (url.to_owned(), content_type.to_owned(), body.to_owned());
    http(async move {
        let request = reqwest::Client::new().post(url).header("content-type", kind).body(body);
        let answer = request.timeout(PATIENCE).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

fn http<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Kills a process again and again at moments that `next` chooses, while something else goes on.
pub fn wait_between(time: Duration) {
    let until = std::time::Instant::now() + time;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        pause(left.min(Duration::from_millis(50)));
    }
}
