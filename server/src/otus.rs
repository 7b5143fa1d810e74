//! One open Otus: a dataset, the ingestion that fills it and the SQL engine that reads it, wired together.
//! Programs that embed Otus and the `otus serve` command both stand on this.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use otus_engine::catalog::{Source, TableDef};
use otus_engine::clock::{Clock, SystemClock};
use otus_engine::dataset::{Change, Dataset, DatasetOptions};
use otus_engine::expr::ExpressionCompiler;
use otus_engine::position::TopicPartition;
use otus_engine::reading::{PartitionReport, Reading};
use otus_engine::store::{Access, Storage};
use otus_engine::{Error, ErrorKind, Result};
use otus_ingest::log::memory::MemoryLog;
use otus_ingest::{AppendError, AppendRecord, AppendResult, Ingest, IngestConfig, PartitionStatus};
use otus_sql::{Outcome, SessionOptions, SqlCompiler, SqlConfig, SqlEngine};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::appends::Appends;
use crate::auth::Accounts;
use crate::config::{Config, SystemEnvironment};
use crate::ddl::{self, Definitions};
use crate::keyed::{self, RowLocks};

/// Threads that flush and compact.
const WORK_THREADS: usize = 2;
/// Folder of the embedded log below a local storage folder.
pub(crate) const LOCAL_LOG: &str = "local-log";
/// Between two trims of the embedded log.
const TEND_EVERY: Duration = Duration::from_secs(30);
/// Between two looks whether reading has caught up.
const LOOK: Duration = Duration::from_millis(10);

/// An open Otus. Clones share it.
#[derive(Clone)]
pub struct Otus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    dataset: Arc<Dataset>,
    ingest: Arc<Ingest>,
    sql: Arc<SqlEngine>,
    changes: Vec<Change>,
    stop: watch::Sender<bool>,
    work: Mutex<Option<Work>>,
    row_locks: RowLocks,
    accounts: Arc<Accounts>,
}

/// The threads that flush and maintain.
struct Work {
    /// None when it is being dropped.
    runtime: Option<Runtime>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Work {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.extend(self.runtime.as_ref().map(|runtime| runtime.spawn(task)));
    }
}

impl Drop for Work {
    /// Waits for nothing: a runtime that waits for its threads must not be dropped on one that serves others,
    /// as where opening fails.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How an [`Otus`] is opened.
#[derive(Debug)]
pub struct OtusBuilder {
    config: Config,
    problem: Option<Error>,
    apply: bool,
    holder: String,
    clock: Arc<dyn Clock>,
}

impl OtusBuilder {
    /// Uses this configuration.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Uses a configuration written in TOML, as in `otus.toml`. Problems come out at [`Self::open`].
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        let compiler = SqlCompiler::new();
        match Config::parse("configuration", text, &SystemEnvironment, Some(compiler.as_ref())) {
            Ok(config) => self.config = config,
            Err(problems) => self.problem = Some(problems.into()),
        }
        self
    }

    /// Keeps the data in this folder.
    #[must_use]
    pub fn folder(self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.storage(format!("file:{}", folder.display()))
    }

    /// Keeps the data in memory: for tests.
    #[must_use]
    pub fn in_memory(self) -> Self {
        self.storage("memory:")
    }

    /// Keeps the data at this storage URL.
    #[must_use]
    pub fn storage(mut self, url: impl Into<String>) -> Self {
        self.config.storage.url = url.into();
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: TableDef) -> Self {
        self.config.tables.push(table);
        self
    }

    /// Brings the stored definitions to the declared ones where they differ; otherwise that is an error.
    #[must_use]
    pub fn apply(mut self, apply: bool) -> Self {
        self.apply = apply;
        self
    }

    /// Text that names this process in the lock of a local folder.
    #[must_use]
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// Uses this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens: reads the log, applies the definitions, starts to read topics and files.
    pub async fn open(self) -> Result<Otus> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let Self { config, apply, holder, clock, .. } = self;
        let storage = Storage::open(&config.storage, Access::ReadWrite, &holder).await?;
        let compiler: Arc<dyn ExpressionCompiler> = SqlCompiler::new();
        let options = DatasetOptions {
            member: member(),
            clock,
            compiler: Arc::clone(&compiler),
            flush: config.limits.clone(),
        };
        let dataset = Dataset::open(storage.clone(), options).await?;
        check_names(&dataset, &config)?;
        let changes = dataset.apply_tables(&config.tables, apply).await?;
        let sql = SqlEngine::new(Arc::clone(&dataset), sql_config(&config)).map_err(sql_error)?;
        let accounts = Accounts::open(&config, sql.roles(), Arc::clone(dataset.clock()))?;
        let (stop, stopped) = watch::channel(false);
        let mut work = work(&dataset, &stopped)?;
        let ingest_config = ingest_config(&config, &storage, &dataset);
        let memory = ingest_config.memory.clone();
        let ingest = Ingest::start(Arc::clone(&dataset), compiler, ingest_config).await?;
        let definitions =
            Definitions::new(Arc::clone(&dataset), Arc::clone(&ingest), &config, memory);
        sql.set_definer(Arc::new(definitions));
        dataset.set_reading(Arc::new(IngestReports(Arc::downgrade(&ingest))));
        let restore = keyed::restore(Arc::clone(&dataset), Arc::clone(&ingest), stopped.clone());
        work.spawn(restore);
        work.spawn(tend(Arc::clone(&ingest), stopped.clone()));
        work.spawn(crate::memory::trim(Arc::clone(&sql), stopped));
        let work = Mutex::new(Some(work));
        let row_locks = RowLocks::default();
        let inner =
            Inner { config, dataset, ingest, sql, changes, stop, work, row_locks, accounts };
        let otus = Otus { inner: Arc::new(inner) };
        otus.sql().set_appender(Arc::new(Appends::new(&otus)));
        Ok(otus)
    }
}

impl Otus {
    /// Begins to describe an Otus: without more said, an empty one in memory.
    pub fn builder() -> OtusBuilder {
        OtusBuilder {
            config: Config::new("memory:"),
            problem: None,
            apply: false,
            holder: format!("process {}", std::process::id()),
            clock: Arc::new(SystemClock),
        }
    }

    /// Opens what a configuration describes.
    pub async fn open(config: Config) -> Result<Self> {
        Self::builder().config(config).open().await
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
    /// The stored data.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.inner.dataset
    }
    /// What fills it.
    pub fn ingest(&self) -> &Arc<Ingest> {
        &self.inner.ingest
    }
    /// What reads it.
    pub fn sql(&self) -> &Arc<SqlEngine> {
        &self.inner.sql
    }
    /// A way to it that does not keep it open.
    pub(crate) fn weak(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }
    /// What [`Self::weak`] leads to, if it is still open.
    pub(crate) fn of(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(|inner| Self { inner })
    }
    /// Who may sign in.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.inner.accounts
    }
    /// Held by those who write rows.
    pub(crate) fn row_locks(&self) -> &RowLocks {
        &self.inner.row_locks
    }
    /// What opening changed in the stored definitions.
    pub fn changes(&self) -> &[Change] {
        &self.inner.changes
    }

    /// Runs one query and collects its rows.
    pub async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let options = SessionOptions { is_local: true, ..SessionOptions::default() };
        let session = self.inner.sql.session(options);
        let statements = session.parse(sql).map_err(sql_error)?;
        let [statement] = statements.as_slice() else {
            return Err(Error::invalid("one statement at a time, please"));
        };
        match session.execute(statement, Vec::new()).await.map_err(sql_error)? {
            Outcome::Rows { stream, .. } | Outcome::CopyOut { stream, .. } => {
                stream.try_collect().await.map_err(|e| sql_error(e.into()))
            }
            Outcome::CopyIn(_) => {
                Err(Error::invalid("COPY FROM STDIN has no data here")
                    .with_hint("use Otus::append"))
            }
            Outcome::Command { .. } | Outcome::Empty => Ok(Vec::new()),
        }
    }

    /// Writes records to a topic of the embedded log, or of Kafka. Durable on return, visible soon after:
    /// see [`Self::wait_visible`]. Each answer is a partition and an offset. On an error some may be durable:
    /// see [`Self::append_each`].
    pub async fn append(&self, topic: &str, records: Vec<AppendRecord>) -> Result<Vec<(i32, i64)>> {
        self.inner.ingest.append(topic, records).await
    }

    /// As [`Self::append`], and says of each record where it is durable or why it is not. An error means the
    /// same of all.
    pub async fn append_each(
        &self,
        topic: &str,
        records: Vec<AppendRecord>,
    ) -> Result<Vec<AppendResult>, AppendError> {
        self.inner.ingest.append_each(topic, records).await
    }

    /// Waits until a record is visible, as a row or as a counted one, in every table that reads its topic.
    pub async fn wait_visible(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        timeout: Duration,
    ) -> Result<()> {
        let tp = TopicPartition::new(topic, partition);
        let snapshot = self.inner.dataset.snapshot();
        let reading: Vec<_> =
            snapshot.tables().filter(|t| reads(&t.def, topic)).map(|t| t.id).collect();
        if reading.is_empty() {
            return Err(Error::not_found(format!("no table reads topic {topic:?}")));
        }
        for table in reading {
            self.inner.dataset.wait_visible(table, &tp, offset, timeout).await?;
        }
        Ok(())
    }

    /// Waits until everything that the topics and files held at the start is visible.
    pub async fn wait_caught_up(&self, timeout: Duration) -> Result<()> {
        let caught_up = async {
            while !self.inner.ingest.caught_up_once() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(timeout, caught_up).await.map_err(|_| {
            let waited = timeout.as_secs_f32();
            let waiting: BTreeSet<String> = (self.inner.ingest.status().iter())
                .filter(|p| p.lag != Some(0))
                .map(|p| format!("{} is {}", p.topic, p.state.name()))
                .collect();
            let waiting: Vec<String> = waiting.into_iter().collect();
            Error::unavailable(format!("not caught up after {waited} s: {}", waiting.join(", ")))
        })
    }

    /// Stops reading, makes everything durable, lets go of the storage. Whether all of it was durable
    /// within the deadline: what was not is read again at the next start.
    pub async fn close(self, deadline: Duration) -> bool {
        let flushed = tokio::time::timeout(deadline, async {
            self.inner.ingest.shutdown(deadline).await;
            self.inner.dataset.flush().await
        })
        .await;
        let is_flushed = match flushed {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the last rows could not be written");
                false
            }
            Err(_) => false,
        };
        self.inner.accounts.close();
        self.inner.stop.send_replace(true);
        let work = self.inner.work.lock().take();
        if let Some(mut work) = work {
            let ended = futures::future::join_all(std::mem::take(&mut work.tasks));
            let ended = async {
                ended.await;
                self.inner.dataset.give_up_lease().await
            };
            match tokio::time::timeout(Duration::from_secs(2), ended).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the lease runs out by itself"),
                Err(_) => tracing::debug!("maintenance is stopped in its course"),
            }
        }
        is_flushed
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for Otus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otus").field("dataset", &self.inner.dataset).finish_non_exhaustive()
    }
}

/// What ingestion says of its partitions, for `otus.partitions`. Weak: ingestion holds the dataset.
#[derive(Debug)]
struct IngestReports(Weak<Ingest>);

impl Reading for IngestReports {
    fn reports(&self) -> Vec<PartitionReport> {
        let Some(ingest) = self.0.upgrade() else { return Vec::new() };
        let report = |p: PartitionStatus| PartitionReport {
            table: p.table,
            state: p.state.name(),
            reason: p.state.reason().map(str::to_string),
            topic: p.topic,
            partition: p.partition,
            end: p.end,
            lag: p.lag,
        };
        ingest.status().into_iter().map(report).collect()
    }
}

/// Whether a table reads a topic.
pub(crate) fn reads(table: &TableDef, topic: &str) -> bool {
    match &table.source {
        Source::Topics(topics) => topics.iter().any(|t| t == topic),
        Source::Pattern(pattern) => regex::Regex::new(&format!("^(?:{pattern})$"))
            .is_ok_and(|pattern| pattern.is_match(topic)),
        Source::File(file) => file == topic,
    }
}

/// Opens the storage only to look at it: no lock is taken, nothing is written.
pub async fn open_read_only(config: &Config) -> Result<Arc<Dataset>> {
    let storage = Storage::open(&config.storage, Access::ReadOnly, "").await?;
    let options = DatasetOptions {
        member: member(),
        clock: Arc::new(SystemClock),
        compiler: SqlCompiler::new(),
        flush: config.limits.clone(),
    };
    Dataset::open(storage, options).await
}

/// An error of the SQL engine as one of ours.
pub(crate) fn sql_error(error: otus_sql::SqlError) -> Error {
    let kind = match error.sqlstate.get(..2) {
        Some("53") => ErrorKind::Full,
        Some("55") => ErrorKind::Busy,
        Some("57" | "58") => ErrorKind::Unavailable,
        Some("XX") => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    let converted = Error::new(kind, error.to_string());
    match error.hint {
        Some(hint) => converted.with_hint(hint),
        None => converted,
    }
}

/// A name that no other process bears, now or later.
#[expect(clippy::disallowed_methods, reason = "a process's name must differ in every run")]
fn member() -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", std::process::id(), unique.get(..12).unwrap_or_default())
}

fn sql_config(config: &Config) -> SqlConfig {
    let mut sql = SqlConfig::default();
    if let Some(bytes) = config.query.memory_bytes {
        sql.memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(bytes) = config.query.result_cache_bytes {
        sql.result_cache_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(bytes) = config.query.rows_cache_bytes {
        sql.rows_cache_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(bytes) = config.query.states_cache_bytes {
        sql.states_cache_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(threads) = config.query.threads {
        sql.threads = threads;
    }
    sql.statement_timeout = config.query.timeout;
    sql.queries = config.queries.clone();
    sql.roles = config.access.roles.clone();
    let port = config.server.postgres.rsplit_once(':').map(|(_, port)| port.parse());
    sql.connections_max = config.server.connections;
    sql.port = port.and_then(Result::ok).unwrap_or(0);
    sql
}

/// Where topics live: in Kafka, in the embedded log beside the data, or in memory if the data do.
fn ingest_config(config: &Config, storage: &Storage, dataset: &Dataset) -> IngestConfig {
    let snapshot = dataset.snapshot();
    let stored: Vec<_> = ddl::stored_by_statements(&snapshot, config).map(|(_, def)| def).collect();
    let mut ingest = IngestConfig {
        kafka: config.kafka.clone(),
        local: config.local_log.options.clone(),
        ..IngestConfig::default()
    };
    ingest.local.disk_reserve_bytes = config.limits.disk_reserve_bytes;
    if config.uses_local_log(&stored) {
        let beside = storage.local_dir().map(|dir| dir.join(LOCAL_LOG));
        ingest.local_dir = config.local_log.folder.clone().or(beside);
        if ingest.local_dir.is_none() && config.storage.url.starts_with("memory:") {
            let log = MemoryLog::default();
            for table in &config.tables {
                if let Source::Topics(topics) = &table.source {
                    topics.iter().for_each(|topic| log.create(topic, 1));
                }
            }
            ingest.memory = Some(Arc::new(log));
        }
    }
    ingest
}

/// A table of the file cannot take the name of what a statement made.
fn check_names(dataset: &Dataset, config: &Config) -> Result<()> {
    let snapshot = dataset.snapshot();
    let made: Vec<_> = ddl::stored_by_statements(&snapshot, config).map(|(_, def)| def).collect();
    let collides = |def: &TableDef| ddl::collision(def, made.iter().copied());
    match config.tables.iter().find_map(collides) {
        Some(message) => Err(Error::invalid(message).with_hint(
            "rename it in the configuration file, or drop what was made by a statement first",
        )),
        None => Ok(()),
    }
}

/// Trims and compacts the embedded log now and then.
async fn tend(ingest: Arc<Ingest>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TEND_EVERY) => {}
            changed = stopped.changed() => {
                if changed.is_err() || *stopped.borrow() {
                    return;
                }
            }
        }
        let own = Arc::clone(&ingest);
        match tokio::task::spawn_blocking(move || own.tend_local_log()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the embedded log could not be trimmed"),
            Err(error) => tracing::error!(%error, "trimming the embedded log ended with a bug"),
        }
    }
}

/// Starts flushing and maintenance on threads of their own, so that a query or a socket never waits for
/// them.
fn work(dataset: &Arc<Dataset>, stopped: &watch::Receiver<bool>) -> Result<Work> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORK_THREADS)
        .thread_name("otus-work")
        .enable_all()
        .build()
        .map_err(|e| Error::unavailable("threads cannot be started").with_source(e))?;
    let flusher = Arc::clone(dataset).run_flusher(stopped.clone());
    let maintenance = Arc::clone(dataset).run_maintenance(stopped.clone());
    let mut work = Work { runtime: Some(runtime), tasks: Vec::new() };
    work.spawn(flusher);
    work.spawn(maintenance);
    Ok(work)
}

#[cfg(test)]
mod tests;
