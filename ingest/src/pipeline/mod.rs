//! The pipeline: from event logs to appended batches, one thread per log.
//!
//! ```text
//!  EventLog ─► Runner ─► Partition ─► Decoder per table ─► Dataset::append (all tables of a topic at once)
//!     ▲           │
//!     └─ pause ───┴─ pressure, positions, status
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use otus_engine::catalog::{Source, Start, TableDef, TableId};
use otus_engine::dataset::Dataset;
use otus_engine::expr::ExpressionCompiler;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

mod open;
mod partition;
mod rebuild;
mod runner;
mod status;
#[cfg(test)]
mod tests;

pub use runner::ResetTo;
pub use status::{IngestCounters, PartitionState, PartitionStatus};

use crate::log::append::{AppendError, AppendFault, AppendRecord, AppendResult, Appended};
use crate::log::file::FileLog;
use crate::log::kafka::{KafkaConfig, KafkaLog, KafkaProducer};
use crate::log::local::{LocalLog, LocalOptions, TopicOptions};
use crate::log::memory::MemoryLog;
use crate::log::store::{RecordStore, StoreLog, read_one};
use crate::log::{EventLog, Selection, whole_name};
use open::reads;
use runner::{Command, Runner, RunnerParts};
use status::Board;

/// Time that readers have to make durable what they read before definitions change.
const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// Commands that may wait for a runner.
const COMMANDS_WAITING: usize = 16;

/// Where events come from. At most one of Kafka, the local log and a log in memory serves the topics.
#[derive(Clone, Default)]
pub struct IngestConfig {
    /// librdkafka properties; without them topics live in the local log.
    pub kafka: Option<BTreeMap<String, String>>,
    /// Name of the consumer group; processes that share a dataset must share it, and no others may. `otus-` and
    /// the dataset's id if none.
    pub group: Option<String>,
    /// Folder of the local log.
    pub local_dir: Option<PathBuf>,
    /// How the local log keeps records.
    pub local: LocalOptions,
    /// A log in memory instead, for tests.
    pub memory: Option<Arc<MemoryLog>>,
    /// Folder that relative paths of `file` sources start from; the working directory if none.
    pub files_dir: Option<PathBuf>,
}

impl fmt::Debug for IngestConfig {
    /// Values of Kafka's properties may be secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestConfig")
            .field("kafka", &self.kafka.as_ref().map(|k| k.keys().collect::<Vec<_>>()))
            .field("group", &self.group)
            .field("local_dir", &self.local_dir)
            .field("local", &self.local)
            .field("files_dir", &self.files_dir)
            .finish_non_exhaustive()
    }
}

type Tables = Vec<(TableId, Arc<TableDef>)>;

/// What serves topics for writing.
#[derive(Debug)]
enum Writer {
    Kafka(KafkaProducer),
    Local(Arc<LocalLog>),
    Memory(Arc<MemoryLog>),
    None,
}

#[derive(Debug)]
struct Running {
    board: Arc<Board>,
    commands: SyncSender<Command>,
    tables: Arc<RwLock<Tables>>,
    thread: JoinHandle<()>,
    /// Whether it reads topics rather than a file.
    of_topics: bool,
}

/// Reading of all attached tables of a dataset.
#[derive(Debug)]
pub struct Ingest {
    dataset: Arc<Dataset>,
    compiler: Arc<dyn ExpressionCompiler>,
    config: IngestConfig,
    runtime: Handle,
    runners: RwLock<Vec<Running>>,
    writer: RwLock<Arc<Writer>>,
    counters: Arc<IngestCounters>,
    paused: Mutex<BTreeSet<TableId>>,
    /// While topics are not read for a change: whether they had been caught up with.
    between: Mutex<Option<bool>>,
    /// Held while what is read changes; whether reading has ended for good.
    changing: AsyncMutex<bool>,
}

impl Ingest {
    /// Starts to read. Answers at once, whether or not a broker does. Must be called on a tokio runtime, which
    /// must outlive it.
    pub async fn start(
        dataset: Arc<Dataset>,
        compiler: Arc<dyn ExpressionCompiler>,
        config: IngestConfig,
    ) -> Result<Arc<Self>> {
        let tables = rebuild::read_tables(&dataset.snapshot());
        let (files, topics): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|(_, def)| matches!(def.source, Source::File(_)));
        let ingest = Self {
            dataset,
            compiler,
            config,
            runtime: Handle::current(),
            runners: RwLock::default(),
            writer: RwLock::new(Arc::new(Writer::None)),
            counters: Arc::default(),
            paused: Mutex::default(),
            between: Mutex::default(),
            changing: AsyncMutex::default(),
        };
        ingest.read_topics(topics, false)?;
        for (log, tables) in open_files(&ingest.config, files)? {
            ingest.run(log, tables, false)?;
        }
        Ok(Arc::new(ingest))
    }

    /// Starts to read topics for these tables; `caught_up` is what is said of that from the beginning.
    fn read_topics(&self, tables: Tables, caught_up: bool) -> Result<()> {
        // Nothing reads a topic, and what nothing reads takes no appends: no log is opened for it.
        if tables.is_empty() {
            return Ok(());
        }
        let open = match self.writer().as_ref() {
            Writer::None => Arc::new(open_writer(&self.config, &self.dataset)?),
            _ => self.writer(),
        };
        let log = open_reader(&self.config, &open, &tables, &self.dataset)?;
        *self.writer.write() = open;
        let board = self.run(log, tables, true)?;
        if caught_up {
            board.set_caught_up();
        }
        Ok(())
    }

    /// Starts a thread that reads `log` for `tables`.
    fn run(&self, log: Box<dyn EventLog>, tables: Tables, of_topics: bool) -> Result<Arc<Board>> {
        let (sender, receiver) = sync_channel(COMMANDS_WAITING);
        let board = Arc::new(Board::default());
        let name = format!("otus-{}", log.kind());
        let tables = Arc::new(RwLock::new(tables));
        let runner = Runner::new(RunnerParts {
            log,
            dataset: Arc::clone(&self.dataset),
            compiler: Arc::clone(&self.compiler),
            runtime: self.runtime.clone(),
            tables: Arc::clone(&tables),
            board: Arc::clone(&board),
            counters: Arc::clone(&self.counters),
            commands: receiver,
            paused: self.paused.lock().clone(),
        });
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || runner.run())
            .map_err(|e| Error::unavailable("a thread cannot be started").with_source(e))?;
        let told = Arc::clone(&board);
        self.runners.write().push(Running { board, commands: sender, tables, thread, of_topics });
        Ok(told)
    }

    /// Carries out a change of definitions: the reading of topics stops, what was read is made durable, and
    /// after the change reading goes on with the tables that the dataset then has, whether or not it failed.
    /// Reading must not be left stopped: the caller sees to it that the future is driven to its end.
    pub async fn change_tables<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = self.changing.lock().await;
        if *ended {
            return Err(Error::unavailable("reading is shutting down"));
        }
        let stopped: Vec<Running> = {
            let mut runners = self.runners.write();
            let all = std::mem::take(&mut *runners);
            let (topics, files): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.of_topics);
            *runners = files;
            topics
        };
        let caught_up = stopped.iter().all(|runner| runner.board.caught_up());
        *self.between.lock() = Some(caught_up);
        end(stopped, CHANGE_DEADLINE).await;
        let result = change.await;
        let tables = rebuild::read_tables(&self.dataset.snapshot());
        let topics = tables.into_iter().filter(|(_, def)| !matches!(def.source, Source::File(_)));
        let started = self.read_topics(topics.collect(), caught_up);
        *self.between.lock() = None;
        if let Err(error) = &started {
            tracing::error!(%error, "topics are not read any more: start the server again");
        }
        drop(ended);
        let value = result?;
        started?;
        Ok(value)
    }

    /// Whether topics could be read: there is a log for them.
    pub fn has_log(&self) -> bool {
        let IngestConfig { kafka, local_dir, memory, .. } = &self.config;
        kafka.is_some() || local_dir.is_some() || memory.is_some()
    }

    fn writer(&self) -> Arc<Writer> {
        Arc::clone(&self.writer.read())
    }

    /// Where every table stands in every partition.
    pub fn status(&self) -> Vec<PartitionStatus> {
        self.runners.read().iter().flat_map(|runner| runner.board.get()).collect()
    }

    /// Whether everything had once reached the end seen when reading began.
    pub fn caught_up_once(&self) -> bool {
        let before = self.between.lock().unwrap_or(true);
        before && self.runners.read().iter().all(|runner| runner.board.caught_up())
    }

    /// Totals for metrics.
    pub fn counters(&self) -> &Arc<IngestCounters> {
        &self.counters
    }

    /// Stops reading for a table; others go on.
    pub fn pause(&self, table: TableId) -> Result<()> {
        self.command(table, Command::Pause { table, paused: true })?;
        self.paused.lock().insert(table);
        Ok(())
    }

    /// Goes on reading for a table.
    pub fn resume(&self, table: TableId) -> Result<()> {
        self.command(table, Command::Pause { table, paused: false })?;
        self.paused.lock().remove(&table);
        Ok(())
    }

    /// Sets the position of a table in a partition, or in all that the topic has, over a gap or back: all of
    /// them or, on an error, none. Gives partitions and their offsets.
    pub async fn reset(
        &self,
        table: TableId,
        topic: &str,
        partition: Option<i32>,
        to: ResetTo,
    ) -> Result<Vec<(i32, i64)>> {
        let (reply, answer) = oneshot::channel();
        let topic = topic.to_string();
        self.command(table, Command::Reset { table, topic, partition, to, reply })?;
        answer.await.map_err(|_| Error::unavailable("reading is shutting down"))?
    }

    /// Appends records to a topic. Ok means that all are durable. `NotFound`: no table with `append = true`
    /// reads the topic, or it does not exist; `Full`: the disk is; `Unavailable`: the outcome is unknown. Where
    /// some records are durable and others are not, the first that is not is the error: see
    /// [`Ingest::append_each`].
    pub async fn append(&self, topic: &str, records: Vec<AppendRecord>) -> Result<Vec<Appended>> {
        let results = self.append_each(topic, records).await?;
        Ok(results.into_iter().collect::<Result<_, AppendError>>()?)
    }

    /// Appends records to a topic and says of each, in their order, where it is durable or why it is not. An
    /// error means the same of all.
    pub async fn append_each(
        &self,
        topic: &str,
        records: Vec<AppendRecord>,
    ) -> Result<Vec<AppendResult>, AppendError> {
        if !self.tables().iter().any(|(_, def)| def.append && reads(def, topic)) {
            let message = format!("topic {topic:?} takes no appends");
            return Err(AppendError::new(AppendFault::NotFound, message)
                .with_hint("declare `append = true` in a table that reads it"));
        }
        let all = |places: Vec<Appended>| places.into_iter().map(Ok).collect();
        let results: Vec<AppendResult> = match self.writer().as_ref() {
            Writer::Kafka(producer) => producer.append(topic, &records).await?,
            Writer::Local(log) => all(log.append(topic, records).await?),
            Writer::Memory(log) => all(log.append(topic, records)?),
            Writer::None => {
                return Err(Error::not_found("there is no log to append to").into());
            }
        };
        let durable = results.iter().filter(|result| result.is_ok()).count();
        IngestCounters::add(&self.counters.records_appended, durable as u64);
        Ok(results)
    }

    /// The record at a place of a topic; none if it is there no more. Blocks.
    pub fn read_record(&self, tp: &TopicPartition, offset: i64) -> Result<Option<AppendRecord>> {
        match self.writer().as_ref() {
            Writer::Kafka(producer) => producer.read(tp, offset),
            Writer::Local(log) => read_one(log.as_ref(), tp, offset),
            Writer::Memory(log) => read_one(log.as_ref(), tp, offset),
            Writer::None => Ok(None),
        }
    }

    /// The local log, if topics live there.
    pub fn local_log(&self) -> Option<Arc<LocalLog>> {
        match self.writer().as_ref() {
            Writer::Local(log) => Some(Arc::clone(log)),
            _ => None,
        }
    }

    /// Deletes from the local log what is past its retention and below every table's position, and compacts
    /// keyed topics. Called now and then; blocks on the disk.
    pub fn tend_local_log(&self) -> Result<()> {
        let writer = self.writer();
        let Writer::Local(log) = writer.as_ref() else { return Ok(()) };
        let snapshot = self.dataset.snapshot();
        let tables = self.tables();
        log.tend(&|tp| {
            let readers = tables.iter().filter(|(_, def)| reads(def, &tp.topic));
            let positions = readers.map(|(id, _)| {
                let state = snapshot.manifest().tables.get(id);
                state.and_then(|state| state.positions.get(tp)).map_or(0, |p| p.offset)
            });
            positions.min().unwrap_or(i64::MAX)
        })
    }

    /// Ends reading: what was read becomes visible and, within `deadline`, durable.
    pub async fn shutdown(&self, deadline: Duration) {
        let ended = async {
            *self.changing.lock().await = true;
            let runners = std::mem::take(&mut *self.runners.write());
            end(runners, deadline).await;
        };
        let limit = deadline.saturating_add(Duration::from_secs(5));
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("readers did not end in time");
        }
        if let Writer::Local(log) = self.writer().as_ref() {
            log.close();
        }
    }

    /// The tables that are read, also while reading is stopped for a change.
    fn tables(&self) -> Tables {
        rebuild::read_tables(&self.dataset.snapshot())
    }

    fn command(&self, table: TableId, command: Command) -> Result<()> {
        let runners = self.runners.read();
        let runner = runners
            .iter()
            .find(|runner| runner.tables.read().iter().any(|(id, _)| *id == table))
            .ok_or_else(|| Error::not_found(format!("table {table:?} is not read")))?;
        runner
            .commands
            .try_send(command)
            .map_err(|_| Error::busy("the reader is busy with other commands"))
    }
}

/// Ends readers: what they read becomes visible and, within `deadline`, durable.
async fn end(runners: Vec<Running>, deadline: Duration) {
    for runner in &runners {
        // A full channel or a thread that has ended: dropping the sender ends it as well.
        if runner.commands.try_send(Command::Stop { deadline }).is_err() {
            tracing::debug!("a reader has ended already");
        }
    }
    let joined = tokio::task::spawn_blocking(move || {
        for Running { thread, commands, .. } in runners {
            drop(commands);
            if thread.join().is_err() {
                tracing::error!("a reader panicked");
            }
        }
    });
    if joined.await.is_err() {
        tracing::error!("readers cannot be waited for");
    }
}

/// The log that serves topics, for writing.
fn open_writer(config: &IngestConfig, dataset: &Arc<Dataset>) -> Result<Writer> {
    if let Some(memory) = &config.memory {
        return Ok(Writer::Memory(Arc::clone(memory)));
    }
    if let Some(properties) = &config.kafka {
        return Ok(Writer::Kafka(KafkaProducer::new(&kafka(config, properties, dataset)?)));
    }
    let Some(dir) = &config.local_dir else {
        return Err(Error::invalid("tables read topics, but there is no log")
            .with_hint("configure [kafka], or a folder for the local log"));
    };
    let clock = Arc::clone(dataset.clock());
    Ok(Writer::Local(LocalLog::open(dir, config.local.clone(), clock)?))
}

/// The same log for reading. Topics of the local log come into being by being named.
fn open_reader(
    config: &IngestConfig,
    writer: &Writer,
    tables: &[(TableId, Arc<TableDef>)],
    dataset: &Arc<Dataset>,
) -> Result<Box<dyn EventLog>> {
    let selection = select(tables)?;
    let store: Arc<dyn RecordStore> = match writer {
        Writer::Memory(log) => Arc::clone(log) as _,
        Writer::Local(log) => {
            for topic in &selection.names {
                let keyed = tables.iter().any(|(_, t)| t.keyed().is_some() && reads(t, topic));
                log.create(topic, &TopicOptions { keyed, ..TopicOptions::default() })?;
            }
            Arc::clone(log) as _
        }
        Writer::Kafka(_) | Writer::None => {
            let properties = config.kafka.clone().unwrap_or_default();
            let kafka = kafka(config, &properties, dataset)?;
            return Ok(Box::new(KafkaLog::new(&kafka, &selection)?));
        }
    };
    Ok(Box::new(StoreLog::new(store, &selection)?))
}

fn kafka(
    config: &IngestConfig,
    properties: &BTreeMap<String, String>,
    dataset: &Arc<Dataset>,
) -> Result<KafkaConfig> {
    let id = dataset.snapshot().manifest().dataset_id;
    let named = || id.map_or_else(|| "otus".to_string(), |id| format!("otus-{id}"));
    let group = config.group.clone().unwrap_or_else(named);
    let kafka = KafkaConfig::new(properties, group)?;
    // A local folder is locked: no second process can share the dataset.
    Ok(if dataset.storage().local_dir().is_some() { kafka.alone() } else { kafka })
}

fn select(tables: &[(TableId, Arc<TableDef>)]) -> Result<Selection> {
    let (mut names, mut patterns) = (BTreeSet::new(), BTreeSet::new());
    for (_, def) in tables {
        match &def.source {
            Source::Topics(topics) => names.extend(topics.iter().cloned()),
            Source::Pattern(pattern) => {
                whole_name(pattern)?;
                patterns.insert(pattern.clone());
            }
            Source::File(_) => {}
        }
    }
    Ok(Selection { names: names.into_iter().collect(), patterns: patterns.into_iter().collect() })
}

/// One log per file, with the tables that read it.
fn open_files(config: &IngestConfig, tables: Tables) -> Result<Vec<(Box<dyn EventLog>, Tables)>> {
    let mut by_path: BTreeMap<String, Tables> = BTreeMap::new();
    for (id, def) in tables {
        if def.start != Start::Earliest {
            let name = def.qualified_name();
            return Err(Error::invalid(format!(
                "table {name:?} reads a file, which is read from its beginning: its start is another"
            ))
            .with_hint("lines of a file have no timestamps; use start = \"earliest\""));
        }
        if let Source::File(path) = &def.source {
            by_path.entry(path.clone()).or_default().push((id, def));
        }
    }
    let base = config.files_dir.clone().unwrap_or_default();
    let logs = by_path.into_iter().map(|(path, tables)| {
        let log: Box<dyn EventLog> = Box::new(FileLog::new(base.join(&path), &path));
        (log, tables)
    });
    Ok(logs.collect())
}
