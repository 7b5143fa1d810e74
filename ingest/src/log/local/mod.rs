//! The embedded event log, for those without Kafka: durable batches by topic, partition and base offset in an
//! embedded store.
//!
//! ```text
//!  append ─► queue ─► committer thread: offsets, framing, ONE fsync for all that wait ─► end moves, readers wake
//! ```
//!
//! Readers see only what is fsynced. One process at a time owns the folder. Batches leave only below every
//! reader's position ([`LocalLog::tend`]); the last batch of a partition stays, so that offsets never go back.
//! A store in which a write failed takes no more: it is opened again in place, and then says itself what it has.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::PersistMode;
use otus_engine::clock::Clock;
use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::append::{AppendError, AppendFault, AppendRecord, Appended};
use super::store::RecordStore;
use super::{Bounds, TopicPolicy};
use crate::record::Slice;

mod batch;
mod commit;
mod store;
mod tend;
#[cfg(test)]
mod tests;

use store::{Extent, Slot, Topic, TopicMeta, base_of, record_key, store_error};

/// Appends that may wait for the committer.
const QUEUE: usize = 1_024;

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
    slot: Slot,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a topic is made.
    making: Mutex<()>,
    #[cfg(test)]
    fault: Mutex<Option<tests::Fault>>,
}

/// Records that wait for the committer.
struct Request {
    topic: String,
    /// Partition and record.
    records: Vec<(i32, AppendRecord)>,
    reply: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
}

type Answer = oneshot::Receiver<Result<Vec<Appended>, AppendError>>;

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

    /// Appends records, durably, and gives their places: all of them are written or none is, unless the fault
    /// is [`AppendFault::Unknown`].
    pub async fn append(
        &self,
        topic: &str,
        records: Vec<AppendRecord>,
    ) -> Result<Vec<Appended>, AppendError> {
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
    ) -> Result<Vec<Appended>, AppendError> {
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
    ) -> Result<(SyncSender<Request>, Request, Answer)> {
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

fn unknown_outcome() -> AppendError {
    AppendError::new(AppendFault::Unknown, "the outcome of the append is unknown")
}

impl Shared {
    fn open(dir: &Path, options: LocalOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let (slot, id, topics) = Slot::open(dir, clock.as_ref())?;
        Ok(Self {
            dir: dir.to_path_buf(),
            id,
            options,
            clock,
            slot,
            state: Mutex::new(State { topics, version: 1 }),
            changed: Condvar::new(),
            making: Mutex::new(()),
            #[cfg(test)]
            fault: Mutex::new(None),
        })
    }

    fn create(&self, topic: &str, options: &TopicOptions) -> Result<()> {
        let wanted = options.partitions.unwrap_or(self.options.partitions);
        if wanted < 1 || topic.is_empty() || topic.len() > 200 {
            return Err(Error::invalid(format!(
                "topic {topic:?} with {wanted} partitions cannot be made in the local log"
            )));
        }
        let _making = self.making.lock();
        let (number, old) = {
            let state = self.state.lock();
            let number = state.topics.values().map(|t| t.meta.number).max().unwrap_or(0) + 1;
            (number, state.topics.get(topic).map(|t| t.meta.clone()))
        };
        let was = old.as_ref().map(|meta| (meta.partitions, meta.keyed));
        let mut meta = old.unwrap_or_else(|| TopicMeta {
            number,
            id: store::new_id(self.clock.as_ref()),
            partitions: wanted,
            keyed: options.keyed,
        });
        // A topic that some keyed table reads keeps the latest record of each key from now on.
        meta.keyed |= options.keyed;
        if options.partitions.is_some() {
            meta.partitions = meta.partitions.max(wanted);
        }
        if was == Some((meta.partitions, meta.keyed)) {
            return Ok(());
        }
        let text = serde_json::to_vec(&meta)
            .map_err(|e| Error::internal("a topic cannot be described").with_source(e))?;
        let cannot = |e| store_error("cannot make a topic", e);
        let store = self.writable()?;
        store.meta.insert(format!("topic/{topic}"), text).map_err(cannot)?;
        store.database.persist(PersistMode::SyncAll).map_err(cannot)?;
        drop(store);
        let count = usize::try_from(meta.partitions).unwrap_or(0);
        let mut state = self.state.lock();
        let topic = state
            .topics
            .entry(topic.to_string())
            .or_insert_with(|| Topic { meta: meta.clone(), extents: Vec::new() });
        topic.meta = meta;
        topic.extents.resize(count, Extent { low: 0, high: 0 });
        state.version += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// Writes a batch of appended records.
    fn commit(&self, writes: fjall::OwnedWriteBatch) -> fjall::Result<()> {
        #[cfg(test)]
        if let Some(fault) = self.fault.lock().take() {
            return fault.commit(writes);
        }
        writes.commit()
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
        let store = self.shared.slot.get()?;
        // The batch that holds the wanted offset begins at or before it.
        let below = record_key(number, partition, 0)..=record_key(number, partition, slice.next);
        let base = match store.records.range(below).next_back() {
            Some(guard) => base_of(&guard.key().map_err(cannot)?)?,
            None => slice.next,
        };
        let above = record_key(number, partition, base)..record_key(number, partition, extent.high);
        for guard in store.records.range(above) {
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
        let store = self.shared.slot.get()?;
        for guard in store.records.range(all) {
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
