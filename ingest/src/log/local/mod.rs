//! The embedded event log, for those without Kafka: durable batches by topic, partition and base offset in an
//! embedded store.
//!
//! ```text
//!  append ─► queue ─► committer thread: offsets, framing, ONE fsync for all that wait ─► end moves, readers wake
//! ```
//!
//! Readers see only what is fsynced. One process at a time owns the folder. Batches leave only below every
//! reader's position ([`LocalLog::tend`]); the last batch of a partition stays, so that offsets never go back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use otus_engine::clock::Clock;
use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::append::{AppendRecord, Appended};
use super::store::RecordStore;
use super::{Bounds, TopicPolicy};
use crate::record::Slice;

mod batch;
mod commit;
mod tend;
#[cfg(test)]
mod tests;

/// Appends that may wait for the committer.
const QUEUE: usize = 1_024;
/// Bytes of the store's block cache.
const CACHE_BYTES: u64 = 32 << 20;
/// Size from which the store keeps a value apart from its key, bytes.
const SEPARATION_BYTES: u32 = 4 << 10;

/// How the local log keeps records.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Partitions of a topic that is made without saying how many.
    pub partitions: i32,
    /// Records older than this may go, microseconds.
    pub retention_us: Option<i64>,
    /// A partition larger than this may lose its oldest records, bytes as stored.
    pub retention_bytes: Option<u64>,
    /// Age at which a tombstone of a keyed topic may go, microseconds.
    pub delete_retention_us: i64,
    /// Free bytes of the disk below which appends are refused.
    pub disk_reserve_bytes: u64,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention_us: Some(7 * 86_400 * 1_000_000),
            retention_bytes: None,
            delete_retention_us: 86_400 * 1_000_000,
            disk_reserve_bytes: 256 << 20,
        }
    }
}

/// How a topic is made.
#[derive(Debug, Clone, Default)]
pub struct TopicOptions {
    /// Number of partitions; [`LocalOptions::partitions`] if none.
    pub partitions: Option<i32>,
    /// Whether only the latest value per key is kept.
    pub keyed: bool,
}

/// What is stored of a topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TopicMeta {
    number: u32,
    id: String,
    partitions: i32,
    keyed: bool,
}

/// What is readable of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    low: i64,
    high: i64,
}

#[derive(Debug)]
struct Topic {
    meta: TopicMeta,
    extents: Vec<Extent>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    version: u64,
}

/// What committer, readers and trimming share.
struct Shared {
    dir: PathBuf,
    id: String,
    options: LocalOptions,
    clock: Arc<dyn Clock>,
    database: Database,
    records: Keyspace,
    meta: Keyspace,
    state: Mutex<State>,
    changed: Condvar,
}

/// Records that wait for the committer.
struct Request {
    topic: String,
    /// Partition and record.
    records: Vec<(i32, AppendRecord)>,
    reply: oneshot::Sender<Result<Vec<Appended>>>,
}

/// See the module.
pub struct LocalLog {
    shared: Arc<Shared>,
    queue: Mutex<Option<SyncSender<Request>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    turn: AtomicUsize,
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLog").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl LocalLog {
    /// Opens the log in `dir`, or makes it.
    pub fn open(dir: &Path, options: LocalOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let shared = Arc::new(Shared::open(dir, options, clock)?);
        let (sender, receiver) = sync_channel(QUEUE);
        let own = Arc::clone(&shared);
        let committer = std::thread::Builder::new()
            .name("otus-local-log".into())
            .spawn(move || commit::run(&own, &receiver))
            .map_err(|e| Error::unavailable("a thread cannot be started").with_source(e))?;
        Ok(Arc::new(Self {
            shared,
            queue: Mutex::new(Some(sender)),
            committer: Mutex::new(Some(committer)),
            turn: AtomicUsize::new(0),
        }))
    }

    /// Makes a topic; one that is there stays, with more partitions if more are asked for.
    pub fn create(&self, topic: &str, options: &TopicOptions) -> Result<()> {
        self.shared.create(topic, options)
    }

    /// Appends records, durably, and gives their places. `NotFound`: no such topic; `Full`: the disk is;
    /// `Unavailable`: the outcome is unknown.
    pub async fn append(&self, topic: &str, records: Vec<AppendRecord>) -> Result<Vec<Appended>> {
        let (queue, request, answer) = self.prepare(topic, records)?;
        queue.try_send(request).map_err(|e| match e {
            TrySendError::Full(_) => Error::busy("too many appends wait for the local log"),
            TrySendError::Disconnected(_) => closed(),
        })?;
        answer.await.map_err(|_| unknown_outcome())?
    }

    /// As [`LocalLog::append`], on a thread that may block.
    pub fn append_blocking(
        &self,
        topic: &str,
        records: Vec<AppendRecord>,
    ) -> Result<Vec<Appended>> {
        let (queue, request, answer) = self.prepare(topic, records)?;
        queue.send(request).map_err(|_| closed())?;
        answer.blocking_recv().map_err(|_| unknown_outcome())?
    }

    /// Ends the committer; what was acknowledged is durable. The log can still be read.
    pub fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.committer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the local log's committer panicked");
        }
    }

    fn prepare(
        &self,
        topic: &str,
        records: Vec<AppendRecord>,
    ) -> Result<(SyncSender<Request>, Request, oneshot::Receiver<Result<Vec<Appended>>>)> {
        let count = self
            .shared
            .partition_count(topic)
            .ok_or_else(|| Error::not_found(format!("topic {topic:?} does not exist")))?;
        // Records without key or partition of one call stay together; calls take turns.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let records = commit::place(topic, records, count, turn)?;
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.lock().clone().ok_or_else(closed)?;
        Ok((queue, Request { topic: topic.to_string(), records, reply }, answer))
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> Error {
    Error::unavailable("the local log is closed")
}

fn unknown_outcome() -> Error {
    Error::unavailable("the outcome of the append is unknown")
}

/// The embedded store's error as ours.
fn store_error(what: &str, e: fjall::Error) -> Error {
    let full = match &e {
        fjall::Error::Io(io) => io.kind() == std::io::ErrorKind::StorageFull,
        fjall::Error::Storage(fjall::LsmError::Io(io)) => {
            io.kind() == std::io::ErrorKind::StorageFull
        }
        _ => false,
    };
    match e {
        _ if full => Error::full(format!("disk full: the local log {what}")).with_source(e),
        fjall::Error::Poisoned => {
            Error::unavailable("the local log refuses writes after one that failed")
                .with_hint("start otus again: what was acknowledged is safe")
                .with_source(e)
        }
        fjall::Error::Locked => {
            Error::busy("the local log is open in another process").with_source(e)
        }
        fjall::Error::JournalRecovery(_)
        | fjall::Error::Unrecoverable
        | fjall::Error::InvalidVersion(_) => {
            Error::corrupt(format!("the local log {what}")).with_source(e)
        }
        _ => Error::unavailable(format!("the local log {what}")).with_source(e),
    }
}

/// An id that no other log or topic has.
fn new_id(clock: &dyn Clock) -> String {
    let now = clock.now_us().max(0).cast_unsigned();
    let nanos = u32::try_from(now % 1_000_000 * 1_000).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, now / 1_000_000, nanos);
    uuid::Uuid::new_v7(at).to_string()
}

fn record_key(number: u32, partition: i32, base: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key[4..8].copy_from_slice(&partition.cast_unsigned().to_be_bytes());
    key[8..].copy_from_slice(&base.cast_unsigned().to_be_bytes());
    key
}

fn base_of(key: &[u8]) -> Result<i64> {
    let bytes = key.get(8..16).and_then(|b| b.try_into().ok());
    bytes
        .map(|bytes| u64::from_be_bytes(bytes).cast_signed())
        .ok_or_else(|| Error::corrupt("a key of the local log is damaged"))
}

impl Shared {
    fn open(dir: &Path, options: LocalOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let cannot = |e| store_error("cannot be opened", e);
        std::fs::create_dir_all(dir).map_err(|e| cannot(e.into()))?;
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .journal_compression(fjall::CompressionType::None)
            .manual_journal_persist(true)
            .open()
            .map_err(cannot)?;
        let separate = || {
            let separation = KvSeparationOptions::default()
                .separation_threshold(SEPARATION_BYTES)
                .compression(fjall::CompressionType::None);
            KeyspaceCreateOptions::default().with_kv_separation(Some(separation))
        };
        let records = database.keyspace("records", separate).map_err(cannot)?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default).map_err(cannot)?;
        let id = match meta.get("id").map_err(cannot)? {
            Some(id) => String::from_utf8_lossy(&id).into_owned(),
            None => {
                let id = new_id(clock.as_ref());
                meta.insert("id", id.as_str()).map_err(cannot)?;
                database.persist(PersistMode::SyncAll).map_err(cannot)?;
                id
            }
        };
        let shared = Self {
            dir: dir.to_path_buf(),
            id,
            options,
            clock,
            database,
            records,
            meta,
            state: Mutex::new(State { topics: BTreeMap::new(), version: 1 }),
            changed: Condvar::new(),
        };
        shared.load()?;
        Ok(shared)
    }

    /// Reads topics and what is there of their partitions.
    fn load(&self) -> Result<()> {
        let cannot = |e| store_error("cannot be read", e);
        for guard in self.meta.prefix("topic/") {
            let (key, value) = guard.into_inner().map_err(cannot)?;
            let name = String::from_utf8_lossy(key.get(6..).unwrap_or_default()).into_owned();
            let meta: TopicMeta = serde_json::from_slice(&value).map_err(|e| {
                Error::corrupt(format!("topic {name:?} of the local log is damaged")).with_source(e)
            })?;
            let mut extents = Vec::new();
            for partition in 0..meta.partitions {
                extents.push(self.find_extent(&meta, partition)?);
            }
            self.state.lock().topics.insert(name, Topic { meta, extents });
        }
        Ok(())
    }

    fn find_extent(&self, meta: &TopicMeta, partition: i32) -> Result<Extent> {
        let cannot = |e| store_error("cannot be read", e);
        let range = || {
            let (first, last) = (0, i64::MAX);
            record_key(meta.number, partition, first)..=record_key(meta.number, partition, last)
        };
        let Some(last) = self.records.range(range()).next_back() else {
            return Ok(Extent { low: 0, high: 0 });
        };
        let (key, value) = last.into_inner().map_err(cannot)?;
        let high = base_of(&key)? + i64::from(batch::head(&value)?.last_delta) + 1;
        let low = match self.records.range(range()).next() {
            Some(first) => base_of(&first.key().map_err(cannot)?)?,
            None => high,
        };
        Ok(Extent { low, high })
    }

    fn create(&self, topic: &str, options: &TopicOptions) -> Result<()> {
        let wanted = options.partitions.unwrap_or(self.options.partitions);
        if wanted < 1 || topic.is_empty() || topic.len() > 200 {
            return Err(Error::invalid(format!(
                "topic {topic:?} with {wanted} partitions cannot be made in the local log"
            )));
        }
        let mut state = self.state.lock();
        let number = state.topics.values().map(|t| t.meta.number).max().unwrap_or(0) + 1;
        let entry = state.topics.get(topic).map(|t| t.meta.clone());
        let mut meta = entry.clone().unwrap_or_else(|| TopicMeta {
            number,
            id: new_id(self.clock.as_ref()),
            partitions: wanted,
            keyed: options.keyed,
        });
        // A topic that some keyed table reads keeps the latest record of each key from now on.
        meta.keyed |= options.keyed;
        if options.partitions.is_some() {
            meta.partitions = meta.partitions.max(wanted);
        }
        let same = |old: &TopicMeta| old.partitions == meta.partitions && old.keyed == meta.keyed;
        if entry.as_ref().is_some_and(same) {
            return Ok(());
        }
        let text = serde_json::to_vec(&meta)
            .map_err(|e| Error::internal("a topic cannot be described").with_source(e))?;
        let cannot = |e| store_error("cannot make a topic", e);
        self.meta.insert(format!("topic/{topic}"), text).map_err(cannot)?;
        self.database.persist(PersistMode::SyncAll).map_err(cannot)?;
        let count = usize::try_from(meta.partitions).unwrap_or(0);
        let topics = &mut state.topics;
        let topic = topics
            .entry(topic.to_string())
            .or_insert_with(|| Topic { meta: meta.clone(), extents: Vec::new() });
        topic.meta = meta;
        topic.extents.resize(count, Extent { low: 0, high: 0 });
        state.version += 1;
        self.changed.notify_all();
        Ok(())
    }

    fn partition_count(&self, topic: &str) -> Option<i32> {
        self.state.lock().topics.get(topic).map(|t| t.meta.partitions)
    }

    /// The topic's number and what is readable of the partition.
    fn extent(&self, tp: &TopicPartition) -> Result<(u32, String, Extent)> {
        let state = self.state.lock();
        let topic = state.topics.get(&*tp.topic);
        let extent = topic.and_then(|topic| {
            let extent = topic.extents.get(usize::try_from(tp.partition).ok()?)?;
            Some((topic.meta.number, topic.meta.id.clone(), *extent))
        });
        extent.ok_or_else(|| Error::not_found(format!("partition {tp} does not exist")))
    }
}

impl RecordStore for LocalLog {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn topics(&self) -> Vec<String> {
        self.shared.state.lock().topics.keys().cloned().collect()
    }

    fn partition_count(&self, topic: &str) -> Option<i32> {
        self.shared.partition_count(topic)
    }

    fn bounds(&self, tp: &TopicPartition) -> Result<Bounds> {
        let (_, topic_id, extent) = self.shared.extent(tp)?;
        let identity = LogIdentity {
            kind: "local".into(),
            cluster: self.shared.id.clone(),
            topic_id,
            ..LogIdentity::default()
        };
        Ok(Bounds { low: extent.low, high: Some(extent.high), identity })
    }

    fn read(&self, slice: &mut Slice, records_max: usize, bytes_max: usize) -> Result<()> {
        let (number, _, extent) = self.shared.extent(&slice.tp)?;
        let partition = slice.tp.partition;
        if slice.next >= extent.high {
            return Ok(());
        }
        if slice.next < extent.low {
            return Err(Error::invalid(format!(
                "records {} to {} of {} are gone from the local log",
                slice.next,
                extent.low - 1,
                slice.tp
            )));
        }
        let cannot = |e| store_error("cannot be read", e);
        // The batch that holds the wanted offset begins at or before it.
        let below = record_key(number, partition, 0)..=record_key(number, partition, slice.next);
        let base = match self.shared.records.range(below).next_back() {
            Some(guard) => base_of(&guard.key().map_err(cannot)?)?,
            None => slice.next,
        };
        let above = record_key(number, partition, base)..record_key(number, partition, extent.high);
        for guard in self.shared.records.range(above) {
            let (key, value) = guard.into_inner().map_err(cannot)?;
            batch::read_into(&value, base_of(&key)?, slice)?;
            if slice.len() >= records_max || slice.bytes_len() >= bytes_max {
                return Ok(());
            }
        }
        slice.next = slice.next.max(extent.high);
        Ok(())
    }

    fn policy(&self, topic: &str) -> Option<TopicPolicy> {
        let keyed = self.shared.state.lock().topics.get(topic)?.meta.keyed;
        let delete_retention_us = self.shared.options.delete_retention_us;
        Some(TopicPolicy { compacts: keyed, deletes: !keyed, delete_retention_us })
    }

    fn offset_at(&self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64> {
        let (number, _, extent) = self.shared.extent(tp)?;
        let cannot = |e| store_error("cannot be read", e);
        let all = record_key(number, tp.partition, extent.low)
            ..record_key(number, tp.partition, extent.high);
        for guard in self.shared.records.range(all) {
            let (key, value) = guard.into_inner().map_err(cannot)?;
            if batch::head(&value)?.greatest_us < timestamp_us {
                continue;
            }
            let (_, entries) = batch::entries(&value)?;
            if let Some(entry) = entries.iter().find(|e| e.timestamp_us >= timestamp_us) {
                return Ok(base_of(&key)? + i64::from(entry.delta));
            }
        }
        Ok(extent.high)
    }

    fn version(&self) -> u64 {
        self.shared.state.lock().version
    }

    fn wait(&self, seen: u64, wait: Duration) {
        let mut state = self.shared.state.lock();
        if state.version == seen {
            self.shared.changed.wait_for(&mut state, wait);
        }
    }
}
