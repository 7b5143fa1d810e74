//! The committer: gives offsets, frames batches and makes all that waits durable with one fsync. Readers are
//! told only afterwards.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use fjall::PersistMode;
use otus_engine::{Error, ErrorKind, Result};

use super::batch::{self, Entry};
use super::{Request, Shared, record_key, store_error, unknown_outcome};
use crate::log::append::{AppendRecord, Appended, partition_of_key};

/// Bytes of records that one fsync takes at most.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes of records in one batch, about.
const BATCH_BYTES: usize = 512 << 10;
/// Records in one batch at most.
const BATCH_RECORDS: usize = 8 * 1024;

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
    while let Ok(first) = queue.recv() {
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
                drop(reply.send(Err(Error::new(error.kind(), error.to_string()))));
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

fn commit(shared: &Shared, requests: Requests, bytes: usize) -> Result<Vec<Vec<Appended>>> {
    check_disk(shared, bytes)?;
    let now_us = shared.clock.now_us();
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut open: BTreeMap<(u32, i32), Open> = BTreeMap::new();
    let mut writes = shared.database.batch().durability(Some(PersistMode::SyncAll));
    let mut places = Vec::with_capacity(requests.len());
    for (topic, records) in requests {
        let (number, highs) = highs(shared, &topic)?;
        let mut own = Vec::with_capacity(records.len());
        for (partition, record) in records {
            let end = ends.entry((topic.clone(), partition)).or_insert_with(|| {
                usize::try_from(partition).ok().and_then(|p| highs.get(p).copied()).unwrap_or(0)
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
                write(shared, &mut writes, number, partition, &full)?;
            }
        }
        places.push(own);
    }
    for ((number, partition), rest) in open {
        write(shared, &mut writes, number, partition, &rest)?;
    }
    writes.commit().map_err(|e| {
        let is_known = matches!(e, fjall::Error::Poisoned);
        let error = store_error("cannot write", e);
        match error.kind() {
            ErrorKind::Full => error,
            _ if is_known => error,
            _ => unknown_outcome().with_source(error),
        }
    })?;
    publish(shared, ends);
    Ok(places)
}

fn write(
    shared: &Shared,
    writes: &mut fjall::OwnedWriteBatch,
    number: u32,
    partition: i32,
    open: &Open,
) -> Result<()> {
    let Some(last) = open.entries.last() else { return Ok(()) };
    let value = batch::encode(&open.entries, last.delta)?;
    writes.insert(&shared.records, record_key(number, partition, open.base).to_vec(), value);
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

/// Refuses before the disk is full: a store that fails in the middle of a write would have to be opened again.
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
