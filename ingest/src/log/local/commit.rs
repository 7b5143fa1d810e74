//! The committer: gives offsets, frames batches and makes all that waits durable with one fsync. Readers are
//! told only afterwards.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::PersistMode;
use otus_engine::{Error, Result};

use super::batch::{self, Entry};
use super::store::{Store, is_full, record_key, store_error};
use super::{Request, Shared};
use crate::log::append::{AppendError, AppendFault, AppendRecord, Appended, partition_of_key};

/// Bytes of records that one fsync takes at most.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes of records in one batch, about.
const BATCH_BYTES: usize = 512 << 10;
/// Records in one batch at most.
const BATCH_RECORDS: usize = 8 * 1024;
/// Between two tries to open a store that could not be opened, while nobody appends.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// Chooses the partition of each record: its own, by key, or the one whose turn it is.
pub(super) fn place(
    topic: &str,
    records: Vec<AppendRecord>,
    count: i32,
    turn: usize,
) -> Result<Vec<(i32, AppendRecord)>> {
    let turn = i32::try_from(turn % usize::try_from(count).unwrap_or(1).max(1)).unwrap_or(0);
    let placed = records.into_iter().map(|record| {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) if !(0..count).contains(&partition) => {
                return Err(Error::invalid(format!(
                    "topic {topic:?} has no partition {partition}"
                )));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => turn,
        };
        Ok((partition, record))
    });
    placed.collect()
}

/// Commits requests until all senders are gone.
pub(super) fn run(shared: &Shared, queue: &Receiver<Request>) {
    while let Some(first) = next(shared, queue) {
        let mut bytes = size(&first);
        let mut group = vec![first];
        while bytes < GROUP_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += size(&next);
            group.push(next);
        }
        answer(shared, group, bytes);
    }
}

/// The next request. While the store is not open, it is tried now and then: readers wait for it too.
fn next(shared: &Shared, queue: &Receiver<Request>) -> Option<Request> {
    loop {
        if shared.slot.is_open() {
            return queue.recv().ok();
        }
        match queue.recv_timeout(REOPEN_EVERY) {
            Ok(request) => return Some(request),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = shared.writable() {
                    tracing::debug!(%error, "the local log is still not open");
                }
            }
        }
    }
}

fn size(request: &Request) -> usize {
    request.records.iter().map(|(_, record)| record.bytes() + 16).sum()
}

fn answer(shared: &Shared, group: Vec<Request>, bytes: usize) {
    let mut replies = Vec::with_capacity(group.len());
    let mut requests = Vec::with_capacity(group.len());
    for Request { topic, records, reply } in group {
        replies.push(reply);
        requests.push((topic, records));
    }
    match commit(shared, requests, bytes) {
        Ok(places) => {
            for (reply, places) in replies.into_iter().zip(places) {
                // A caller that has gone away does not want its answer.
                drop(reply.send(Ok(places)));
            }
        }
        Err(error) => {
            tracing::warn!(%error, "append to the local log failed");
            for reply in replies {
                drop(reply.send(Err(error.clone())));
            }
        }
    }
}

/// Entries of one partition that wait to be framed.
#[derive(Debug, Default)]
struct Open {
    base: i64,
    bytes: usize,
    entries: Vec<Entry>,
}

type Requests = Vec<(String, Vec<(i32, AppendRecord)>)>;
/// Next offsets, by topic and partition.
type Ends = BTreeMap<(String, i32), i64>;

fn commit(
    shared: &Shared,
    requests: Requests,
    bytes: usize,
) -> Result<Vec<Vec<Appended>>, AppendError> {
    check_disk(shared, bytes)?;
    let opened = shared.slot.opened();
    // Held until all is written: opening the store again may move the ends.
    let store = shared.writable()?;
    let now_us = shared.clock.now_us();
    let (mut starts, mut ends) = (Ends::new(), Ends::new());
    let mut open: BTreeMap<(u32, i32), Open> = BTreeMap::new();
    let mut writes = store.database.batch().durability(Some(PersistMode::SyncAll));
    let mut places = Vec::with_capacity(requests.len());
    for (topic, records) in requests {
        let (number, highs) = highs(shared, &topic)?;
        let mut own = Vec::with_capacity(records.len());
        for (partition, record) in records {
            let end = ends.entry((topic.clone(), partition)).or_insert_with(|| {
                let high = usize::try_from(partition).ok().and_then(|p| highs.get(p).copied());
                starts.insert((topic.clone(), partition), high.unwrap_or(0));
                high.unwrap_or(0)
            });
            let offset = *end;
            *end += 1;
            own.push((partition, offset));
            let slot = open.entry((number, partition)).or_default();
            if slot.entries.is_empty() {
                slot.base = offset;
            }
            let delta = u32::try_from(offset - slot.base).unwrap_or(u32::MAX);
            slot.bytes += record.bytes();
            let timestamp_us = record.timestamp_us.unwrap_or(now_us);
            slot.entries.push(Entry { delta, timestamp_us, record });
            if slot.bytes >= BATCH_BYTES || slot.entries.len() >= BATCH_RECORDS {
                let full = std::mem::take(slot);
                write(&store, &mut writes, number, partition, &full)?;
            }
        }
        places.push(own);
    }
    for ((number, partition), rest) in open {
        write(&store, &mut writes, number, partition, &rest)?;
    }
    let written = shared.commit(writes);
    drop(store);
    match written {
        Ok(()) => publish(shared, ends),
        Err(error) => settle(shared, opened, &starts, &ends, error)?,
    }
    Ok(places)
}

/// After a write that failed: opens the store again to see whether it was written. Ok if it was.
fn settle(
    shared: &Shared,
    opened: u64,
    starts: &Ends,
    ends: &Ends,
    error: fjall::Error,
) -> Result<(), AppendError> {
    let was_refused = matches!(error, fjall::Error::Poisoned);
    let was_full = is_full(&error);
    let error = store_error("cannot write", error);
    if was_refused {
        return Err(error.into());
    }
    let unknown = |why: String| AppendError::new(AppendFault::Unknown, why);
    if let Err(closed) = shared.reopen(opened) {
        return Err(unknown(format!("the outcome of the append is unknown: {error}; {closed}")));
    }
    let stands_at = |wanted: &Ends| {
        let state = shared.state.lock();
        wanted.iter().all(|((topic, partition), end)| {
            let extents = state.topics.get(topic).map(|topic| &topic.extents);
            let at = usize::try_from(*partition).unwrap_or(usize::MAX);
            extents.and_then(|extents| extents.get(at)).is_some_and(|e| e.high == *end)
        })
    };
    if stands_at(starts) {
        return Err(AppendError::from(error));
    }
    // A disk without room loses nothing that it took; one that fails otherwise is not believed.
    if was_full && stands_at(ends) {
        return Ok(());
    }
    Err(unknown(format!("the outcome of the append is unknown: {error}")))
}

fn write(
    store: &Store,
    writes: &mut fjall::OwnedWriteBatch,
    number: u32,
    partition: i32,
    open: &Open,
) -> Result<()> {
    let Some(last) = open.entries.last() else { return Ok(()) };
    let value = batch::encode(&open.entries, last.delta)?;
    writes.insert(&store.records, record_key(number, partition, open.base).to_vec(), value);
    Ok(())
}

/// Moves the ends that readers see, and wakes them.
fn publish(shared: &Shared, ends: BTreeMap<(String, i32), i64>) {
    let mut state = shared.state.lock();
    for ((topic, partition), end) in ends {
        let extent = state
            .topics
            .get_mut(&topic)
            .and_then(|topic| topic.extents.get_mut(usize::try_from(partition).ok()?));
        if let Some(extent) = extent {
            extent.high = end;
        }
    }
    state.version += 1;
    shared.changed.notify_all();
}

fn highs(shared: &Shared, topic: &str) -> Result<(u32, Vec<i64>)> {
    let state = shared.state.lock();
    let topic = state
        .topics
        .get(topic)
        .ok_or_else(|| Error::not_found(format!("topic {topic:?} does not exist")))?;
    Ok((topic.meta.number, topic.extents.iter().map(|e| e.high).collect()))
}

/// Refuses before the disk is full: a store that fails in the middle of a write has to be opened again.
fn check_disk(shared: &Shared, bytes: usize) -> Result<()> {
    let free = fs4::available_space(&shared.dir).map_err(|e| {
        Error::unavailable("the free space of the local log's disk is not known").with_source(e)
    })?;
    let needed = shared.options.disk_reserve_bytes.saturating_add(bytes as u64);
    if free < needed {
        return Err(Error::full(format!(
            "disk full: {free} bytes are free for the local log, {needed} are needed"
        )));
    }
    Ok(())
}
