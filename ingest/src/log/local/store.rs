//! The embedded store behind the local log: its keys, its errors, and opening it again in place after a write
//! that failed. The only place that knows when it may be used.

use std::collections::BTreeMap;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use otus_engine::clock::Clock;
use otus_engine::{Error, Result};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};

use super::{Shared, batch};

/// Bytes of the store's block cache.
const CACHE_BYTES: u64 = 32 << 20;
/// Size from which the store keeps a value apart from its key, bytes.
const SEPARATION_BYTES: u32 = 4 << 10;
/// Between two tries to open a store that could not be opened, microseconds.
const RETRY_US: i64 = 1_000_000;

/// What is stored of a topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TopicMeta {
    pub(super) number: u32,
    pub(super) id: String,
    pub(super) partitions: i32,
    pub(super) keyed: bool,
}

/// What is readable of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) low: i64,
    pub(super) high: i64,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) meta: TopicMeta,
    pub(super) extents: Vec<Extent>,
}

type Topics = BTreeMap<String, Topic>;

/// An open store.
pub(super) struct Store {
    pub(super) database: Database,
    pub(super) records: Keyspace,
    pub(super) meta: Keyspace,
}

/// The store while it is open. All its handles must go before its folder can be opened again, so nobody keeps
/// one beyond a guard.
pub(super) struct Slot {
    inner: RwLock<Inner>,
}

struct Inner {
    store: Option<Store>,
    /// Times it was opened.
    opened: u64,
    /// Last try that failed, and why.
    failed: Option<(i64, String)>,
}

impl Slot {
    /// Opens the store in `dir` or makes it; gives its id and what it has.
    pub(super) fn open(dir: &Path, clock: &dyn Clock) -> Result<(Self, String, Topics)> {
        let store = Store::open(dir)?;
        let id = match store.id()? {
            Some(id) => id,
            None => {
                let cannot = |e| store_error("cannot be made", e);
                let id = new_id(clock);
                store.meta.insert("id", id.as_str()).map_err(cannot)?;
                store.database.persist(PersistMode::SyncAll).map_err(cannot)?;
                id
            }
        };
        let topics = store.topics()?;
        let inner = Inner { store: Some(store), opened: 1, failed: None };
        Ok((Self { inner: RwLock::new(inner) }, id, topics))
    }

    /// The open store. `Unavailable` while it cannot be opened again.
    pub(super) fn get(&self) -> Result<MappedRwLockReadGuard<'_, Store>> {
        RwLockReadGuard::try_map(self.inner.read(), |inner| inner.store.as_ref()).map_err(|inner| {
            let why = inner.failed.as_ref().map_or("", |(_, why)| why.as_str());
            Error::unavailable(format!("the local log is not open: {why}"))
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.inner.read().store.is_some()
    }

    /// Times it was opened: tells whether somebody opened it again meanwhile.
    pub(super) fn opened(&self) -> u64 {
        self.inner.read().opened
    }
}

impl Shared {
    /// The open store, which takes writes: opened again if it does not.
    pub(super) fn writable(&self) -> Result<MappedRwLockReadGuard<'_, Store>> {
        let opened = self.slot.opened();
        if let Ok(store) = self.slot.get()
            && store.database.persist(PersistMode::Buffer).is_ok()
        {
            return Ok(store);
        }
        self.reopen(opened)?;
        self.slot.get()
    }

    /// Opens the store again, unless somebody did since it was opened for the `seen`th time, and takes over what
    /// it has: after a write that failed only the store itself knows whether it was written.
    pub(super) fn reopen(&self, seen: u64) -> Result<()> {
        let mut inner = self.slot.inner.write();
        if inner.store.is_some() && inner.opened != seen {
            return Ok(());
        }
        let now_us = self.clock.now_us();
        if let Some((at_us, why)) = inner.failed.as_ref().filter(|_| inner.store.is_none())
            && now_us.saturating_sub(*at_us) < RETRY_US
        {
            return Err(Error::unavailable(format!("the local log is not open: {why}")));
        }
        inner.store = None;
        match self.open_again() {
            Ok((store, topics)) => {
                inner.store = Some(store);
                inner.opened += 1;
                inner.failed = None;
                let mut state = self.state.lock();
                state.topics = topics;
                state.version += 1;
                self.changed.notify_all();
                tracing::warn!(
                    dir = %self.dir.display(),
                    "the local log was opened again after a write that failed"
                );
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the local log cannot be opened again yet");
                inner.failed = Some((now_us, error.to_string()));
                Err(error)
            }
        }
    }

    fn open_again(&self) -> Result<(Store, Topics)> {
        // A folder that is gone (a disk that was unmounted) must not become a new, empty log.
        let mut entries = std::fs::read_dir(&self.dir).into_iter().flatten();
        if entries.next().is_none() {
            let dir = &self.dir;
            return Err(Error::unavailable(format!("the local log's folder {dir:?} is gone")));
        }
        let store = Store::open(&self.dir)?;
        if store.id()?.as_deref() != Some(self.id.as_str()) {
            let dir = &self.dir;
            return Err(Error::corrupt(format!("{dir:?} holds another local log than before")));
        }
        let mut topics = store.topics()?;
        for (name, known) in &self.state.lock().topics {
            let found = topics.get_mut(name).filter(|found| found.meta.id == known.meta.id);
            let extents = found.map(|found| found.extents.as_mut_slice()).unwrap_or_default();
            for (partition, known) in known.extents.iter().enumerate() {
                let found = extents.get_mut(partition).filter(|found| found.high >= known.high);
                let Some(found) = found else {
                    return Err(Error::corrupt(format!(
                        "the local log has lost acknowledged records of {name}/{partition}, which \
                         ended at {}",
                        known.high
                    )));
                };
                found.low = found.low.max(known.low);
            }
        }
        Ok((store, topics))
    }
}

impl Store {
    fn open(dir: &Path) -> Result<Self> {
        let cannot = |e| store_error("cannot be opened", e);
        let mut folder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.recursive(true).create(dir).map_err(|e| cannot(e.into()))?;
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
        Ok(Self { database, records, meta })
    }

    fn id(&self) -> Result<Option<String>> {
        let id = self.meta.get("id").map_err(|e| store_error("cannot be read", e))?;
        Ok(id.map(|id| String::from_utf8_lossy(&id).into_owned()))
    }

    /// Topics and what is there of their partitions.
    fn topics(&self) -> Result<Topics> {
        let cannot = |e| store_error("cannot be read", e);
        let mut topics = Topics::new();
        for guard in self.meta.prefix("topic/") {
            let (key, value) = guard.into_inner().map_err(cannot)?;
            let name = String::from_utf8_lossy(key.get(6..).unwrap_or_default()).into_owned();
            let meta: TopicMeta = serde_json::from_slice(&value).map_err(|e| {
                Error::corrupt(format!("topic {name:?} of the local log is damaged")).with_source(e)
            })?;
            let extents =
                (0..meta.partitions).map(|p| self.extent(&meta, p)).collect::<Result<_>>()?;
            topics.insert(name, Topic { meta, extents });
        }
        Ok(topics)
    }

    fn extent(&self, meta: &TopicMeta, partition: i32) -> Result<Extent> {
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
}

/// The store's error as ours.
pub(super) fn store_error(what: &str, e: fjall::Error) -> Error {
    match e {
        e if is_full(&e) => Error::full(format!("disk full: the local log {what}")).with_source(e),
        fjall::Error::Poisoned => {
            Error::unavailable("the local log refuses writes after one that failed").with_source(e)
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

/// Whether the disk had no room.
pub(super) fn is_full(e: &fjall::Error) -> bool {
    match e {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => {
            io.kind() == std::io::ErrorKind::StorageFull
        }
        _ => false,
    }
}

/// An id that no other log or topic has.
pub(super) fn new_id(clock: &dyn Clock) -> String {
    let now = clock.now_us().max(0).cast_unsigned();
    let nanos = u32::try_from(now % 1_000_000 * 1_000).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, now / 1_000_000, nanos);
    uuid::Uuid::new_v7(at).to_string()
}

pub(super) fn record_key(number: u32, partition: i32, base: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key[4..8].copy_from_slice(&partition.cast_unsigned().to_be_bytes());
    key[8..].copy_from_slice(&base.cast_unsigned().to_be_bytes());
    key
}

pub(super) fn base_of(key: &[u8]) -> Result<i64> {
    let bytes = key.get(8..16).and_then(|b| b.try_into().ok());
    bytes
        .map(|bytes| u64::from_be_bytes(bytes).cast_signed())
        .ok_or_else(|| Error::corrupt("a key of the local log is damaged"))
}
