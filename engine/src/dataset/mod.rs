//! The dataset: one store, one log, one pointer. Every change of what a query sees goes through here.
//!
//! Readers load the pointer; appends and commits replace it under one short lock, so a statement sees one
//! moment in every table it names (promise P3).

mod append;
mod claims;
mod declare;
mod define;
mod flush;
mod keyed;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use crate::catalog::TableId;
use crate::clock::Clock;
use crate::compiled::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ExpressionCompiler;
use crate::hot::HotSet;
use crate::limits;
use crate::log::manifest::Manifest;
use crate::log::op::{Note, Op};
use crate::log::{CommitLog, LogSettings};
use crate::position::TopicPartition;
use crate::reading::Reading;
use crate::snapshot::{Snapshot, Version};
use crate::store::Storage;

pub use append::{Append, Pressure};
pub use claims::{Claim, StartPosition};
pub use declare::Change;
use keyed::Loaded;

/// When hot rows are written and when reading waits.
#[derive(Debug, Clone)]
pub struct FlushLimits {
    /// Bytes of one table's hot rows.
    pub table_bytes: usize,
    /// Bytes of all hot rows.
    pub all_bytes: usize,
    /// Age of the oldest hot row of a table, microseconds.
    pub age_us: i64,
    /// Tables with fewer rows than this wait for `age_small_us`.
    pub small_rows: usize,
    /// Age for small tables, microseconds.
    pub age_small_us: i64,
    /// Level-0 files of a table at which compaction starts.
    pub compact_files: usize,
    /// Level-0 files of a table at which reading waits.
    pub pause_files: usize,
    /// Rows, about, that one step of filling a rollup takes.
    pub backfill_rows: usize,
    /// Free bytes of the disk below which reading waits.
    pub disk_reserve_bytes: u64,
    /// Bytes of rejected records kept.
    pub rejected_bytes: u64,
    /// Age of rejected records kept, microseconds.
    pub rejected_age_us: i64,
    /// Age before which an unreferenced file is not deleted, microseconds.
    pub collect_grace_us: i64,
    /// Bytes of memory of all keyed tables.
    pub keyed_bytes: usize,
    /// Where rows of keyed tables go that memory has no room for; beside the data if those lie in a local
    /// folder, else the system's folder for temporary files.
    pub keyed_folder: Option<PathBuf>,
    /// Age at which the mark of a deletion in a keyed table goes, microseconds.
    pub keyed_delete_us: i64,
}

impl Default for FlushLimits {
    fn default() -> Self {
        Self {
            table_bytes: limits::FLUSH_TABLE_BYTES,
            all_bytes: limits::FLUSH_ALL_BYTES,
            age_us: limits::FLUSH_AGE_US,
            small_rows: limits::FLUSH_SMALL_ROWS,
            age_small_us: limits::FLUSH_AGE_SMALL_US,
            compact_files: limits::COMPACT_FILES,
            pause_files: limits::PAUSE_FILES,
            backfill_rows: limits::BACKFILL_ROWS,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES,
            rejected_bytes: limits::REJECTED_BYTES,
            rejected_age_us: limits::REJECTED_AGE_US,
            collect_grace_us: limits::COLLECT_GRACE_US,
            keyed_bytes: limits::KEYED_BYTES,
            keyed_folder: None,
            keyed_delete_us: limits::KEYED_DELETE_US,
        }
    }
}

/// How a dataset is opened.
#[derive(Debug, Clone)]
pub struct DatasetOptions {
    /// Name of this process in claims and log entries.
    pub member: String,
    /// Source of the time.
    pub clock: Arc<dyn Clock>,
    /// Compiles the expressions of declarations.
    pub compiler: Arc<dyn ExpressionCompiler>,
    /// When to write and when to wait.
    pub flush: FlushLimits,
}

/// One open dataset.
pub struct Dataset {
    pub(crate) storage: Storage,
    pub(crate) options: DatasetOptions,
    version: ArcSwap<Version>,
    /// Held for the short moment in which the pointer is replaced.
    swap: Mutex<()>,
    /// The committer: commits go one after the other.
    log: AsyncMutex<CommitLog>,
    /// One flush at a time.
    flushing: AsyncMutex<()>,
    /// One maintenance run at a time, with the paths it saw leave (path, when).
    pub(crate) maintaining: AsyncMutex<crate::maintain::Removed>,
    sequence: watch::Sender<u64>,
    flush_wanted: Notify,
    trouble: Mutex<Option<String>>,
    reading: Mutex<Option<Arc<dyn Reading>>>,
    /// Files of keyed tables that this process wrote: their rows are in its maps already.
    own_files: Mutex<HashSet<String>>,
    room: keyed::Room,
    pub(crate) counters: Counters,
}

/// Totals since the process began, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rows published.
    pub rows_appended: AtomicU64,
    /// Flush commits.
    pub flushes: AtomicU64,
    /// Rows made durable.
    pub rows_flushed: AtomicU64,
    /// Bytes of files written by flushes.
    pub bytes_flushed: AtomicU64,
    /// Flushes that failed and will be tried again.
    pub flush_failures: AtomicU64,
    /// Compactions committed.
    pub compactions: AtomicU64,
    /// Steps of filling rollups committed.
    pub backfills: AtomicU64,
    /// Raw rows that rollups were filled with.
    pub rows_backfilled: AtomicU64,
    /// Files deleted by collection.
    pub files_deleted: AtomicU64,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("member", &self.options.member)
            .field("number", &self.version.load().manifest.number)
            .finish_non_exhaustive()
    }
}

/// Schema of rejected records. The reason is the same for all records of a kind; what is particular to one is
/// its detail, which files of earlier versions lack.
pub fn rejected_schema() -> SchemaRef {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("table", DataType::Utf8View, false),
        Field::new("topic", DataType::Utf8View, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", utc(), true),
        Field::new("key", DataType::BinaryView, true),
        Field::new("payload", DataType::BinaryView, true),
        Field::new("payload_bytes", DataType::Int64, false),
        Field::new("reason", DataType::Utf8View, false),
        Field::new("detail", DataType::Utf8View, true),
        Field::new("ingested_at", utc(), false),
    ]))
}

impl Dataset {
    /// Opens the dataset of `storage`: reads the log, compiles the declared tables.
    pub async fn open(storage: Storage, options: DatasetOptions) -> Result<Arc<Self>> {
        Self::open_with(storage, options, LogSettings::default()).await
    }

    /// As [`open`](Self::open), with a log of these settings.
    pub(crate) async fn open_with(
        storage: Storage,
        options: DatasetOptions,
        settings: LogSettings,
    ) -> Result<Arc<Self>> {
        let member = options.member.clone();
        let clock = Arc::clone(&options.clock);
        let (log, manifest) =
            CommitLog::open_with(storage.clone(), member, clock, settings).await?;
        let catalog = Catalog::compile(&manifest, None, options.compiler.as_ref())?;
        let version = Version {
            sequence: 1,
            manifest,
            hot: Arc::new(HotSet::default()),
            keyed: Arc::default(),
            catalog: Arc::new(catalog),
        };
        let room = keyed::Room::new(&storage, &options.flush);
        let dataset = Self {
            storage,
            options,
            version: ArcSwap::from_pointee(version),
            swap: Mutex::new(()),
            log: AsyncMutex::new(log),
            flushing: AsyncMutex::new(()),
            maintaining: AsyncMutex::default(),
            sequence: watch::Sender::new(1),
            flush_wanted: Notify::new(),
            trouble: Mutex::new(None),
            reading: Mutex::new(None),
            own_files: Mutex::default(),
            room,
            counters: Counters::default(),
        };
        dataset.open_keyed().await?;
        Ok(Arc::new(dataset))
    }

    /// Pins what is visible now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let now = self.options.clock.now_us();
        let grace_us = self.options.flush.collect_grace_us;
        let reading = self.reading.lock().clone();
        let (version, storage) = (self.version.load_full(), self.storage.clone());
        Arc::new(Snapshot::new(version, storage, now, grace_us, reading))
    }

    /// Names whoever reads partitions in this process, for system tables.
    pub fn set_reading(&self, reading: Arc<dyn Reading>) {
        *self.reading.lock() = Some(reading);
    }

    /// The store.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
    /// Source of the time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }
    /// Compiler of declared expressions.
    pub fn compiler(&self) -> &Arc<dyn ExpressionCompiler> {
        &self.options.compiler
    }
    /// Name of this process in claims.
    pub fn member(&self) -> &str {
        &self.options.member
    }
    /// Totals for metrics.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    /// The limits in force.
    pub fn flush_limits(&self) -> &FlushLimits {
        &self.options.flush
    }
    /// Changes whenever something new is visible.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// Waits until the record at `offset` is visible in `table`, as a row or as a counted one.
    pub async fn wait_visible(
        &self,
        table: TableId,
        tp: &TopicPartition,
        offset: i64,
        timeout: Duration,
    ) -> Result<()> {
        let mut changes = self.watch();
        let visible = async {
            loop {
                let end = self.snapshot().positions(table).get(tp).map(|p| p.1);
                if end.is_some_and(|end| end > offset) {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Err(Error::unavailable("the dataset is closing"));
                }
            }
        };
        tokio::time::timeout(timeout, visible).await.unwrap_or_else(|_| {
            let waited = timeout.as_millis();
            Err(Error::unavailable(format!("{tp} at {offset} is not visible after {waited} ms")))
        })
    }

    /// Audits what is committed; see [`crate::verify`].
    pub async fn verify(
        &self,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<crate::verify::TableAudit>> {
        crate::verify::verify(&self.snapshot(), progress).await
    }

    /// Applies what other processes have committed since.
    pub async fn refresh(&self) -> Result<()> {
        let mut log = self.log.lock().await;
        let manifest = log.refresh().await?;
        self.publish_newer(manifest).await
    }

    /// Finds out what became of a commit in doubt, if there is one.
    pub(crate) async fn settle(&self) -> Result<()> {
        let mut log = self.log.lock().await;
        match log.resolve().await {
            // Refused: it never took place, and what it was to make durable is still hot.
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let manifest = log.manifest();
        self.publish_newer(manifest).await
    }

    /// Called with the log locked.
    async fn publish_newer(&self, manifest: Arc<Manifest>) -> Result<()> {
        if manifest.number > self.version.load().manifest.number {
            let loaded = self.load_keyed(&manifest).await?;
            self.publish(manifest, loaded, |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// One commit, visible together with its manifest.
    pub(crate) async fn commit(&self, ops: Vec<Op>) -> Result<u64> {
        self.commit_and(ops, |_, _| Ok(())).await
    }

    /// One commit that changes definitions, with who changed them.
    async fn commit_noted(&self, ops: Vec<Op>, notes: Vec<Note>) -> Result<u64> {
        self.commit_all(ops, notes, |_, _| Ok(())).await
    }

    /// One commit; `change` edits the hot rows in the same move of the pointer.
    pub(crate) async fn commit_and(
        &self,
        ops: Vec<Op>,
        change: impl FnOnce(&Catalog, &mut HotSet) -> Result<()>,
    ) -> Result<u64> {
        self.commit_all(ops, Vec::new(), change).await
    }

    async fn commit_all(
        &self,
        ops: Vec<Op>,
        notes: Vec<Note>,
        change: impl FnOnce(&Catalog, &mut HotSet) -> Result<()>,
    ) -> Result<u64> {
        let mut log = self.log.lock().await;
        let committed = log.commit_noted(ops, notes).await?;
        crate::failpoint::hit("commit.put_done");
        // The log stays locked until the pointer has moved, so that pointers move in the log's order.
        let loaded = self.load_keyed(&committed.manifest).await?;
        self.publish(committed.manifest, loaded, change)?;
        drop(log);
        Ok(committed.number)
    }

    /// Moves the pointer to a newer manifest. Hot rows that it holds as durable leave in the same move.
    fn publish(
        &self,
        manifest: Arc<Manifest>,
        loaded: Loaded,
        change: impl FnOnce(&Catalog, &mut HotSet) -> Result<()>,
    ) -> Result<()> {
        let _guard = self.swap.lock();
        let old = self.version.load_full();
        let compiler = self.options.compiler.as_ref();
        let catalog = Catalog::compile(&manifest, Some(&old.catalog), compiler)?;
        let mut hot = old.hot.without_committed(&manifest);
        change(&old.catalog, &mut hot)?;
        let keyed = self.follow_keyed(&old.keyed, &manifest, &catalog, loaded)?;
        // What is made for a catalogue is found again by the very one.
        let catalog = match catalog.is_same(&old.catalog) {
            true => Arc::clone(&old.catalog),
            false => Arc::new(catalog),
        };
        let (hot, keyed) = (Arc::new(hot), Arc::new(keyed));
        self.replace(Version { manifest, hot, catalog, keyed, ..Version::clone(&old) });
        Ok(())
    }

    /// The one place that moves the pointer; called under `swap`.
    fn replace(&self, next: Version) {
        let sequence = next.sequence + 1;
        self.version.store(Arc::new(Version { sequence, ..next }));
        self.sequence.send_replace(sequence);
    }
}
