//! An event log in memory: for tests, of this crate and of users' own tables. Nothing survives the process.

use std::collections::BTreeMap;
use std::time::Duration;

use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};
use parking_lot::{Condvar, Mutex};

use super::Bounds;
use super::append::{AppendRecord, Appended, partition_of_key};
use super::store::RecordStore;
use crate::record::Slice;

#[derive(Debug, Clone)]
struct Kept {
    offset: i64,
    timestamp_us: Option<i64>,
    record: AppendRecord,
}

#[derive(Debug, Default)]
struct Partition {
    low: i64,
    next: i64,
    records: Vec<Kept>,
}

#[derive(Debug)]
struct Topic {
    id: String,
    partitions: Vec<Partition>,
    turn: usize,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    made: u64,
    version: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryLog {
    state: Mutex<State>,
    changed: Condvar,
}

impl MemoryLog {
    /// Makes a topic, or adds partitions to it.
    pub fn create(&self, topic: &str, partitions: i32) {
        let mut state = self.state.lock();
        state.made += 1;
        let id = format!("memory-{}", state.made);
        let entry = state.topics.entry(topic.to_string()).or_insert_with(|| Topic {
            id,
            partitions: Vec::new(),
            turn: 0,
        });
        let count = usize::try_from(partitions).unwrap_or(0).max(entry.partitions.len());
        entry.partitions.resize_with(count, Partition::default);
        self.announce(&mut state);
    }

    /// Removes a topic; made again it is another.
    pub fn remove(&self, topic: &str) {
        let mut state = self.state.lock();
        state.topics.remove(topic);
        self.announce(&mut state);
    }

    /// Drops records below `below`, as a log does that deletes by age.
    pub fn truncate(&self, tp: &TopicPartition, below: i64) {
        let mut state = self.state.lock();
        if let Ok(partition) = partition_mut(&mut state, tp) {
            partition.low = below;
            partition.next = partition.next.max(below);
            partition.records.retain(|kept| kept.offset >= below);
        }
        self.announce(&mut state);
    }

    /// Skips offsets, as transactions and compaction do.
    pub fn skip(&self, tp: &TopicPartition, by: i64) {
        let mut state = self.state.lock();
        if let Ok(partition) = partition_mut(&mut state, tp) {
            partition.next += by;
        }
        self.announce(&mut state);
    }

    /// Appends records; without a partition or key they go round.
    pub fn append(&self, topic: &str, records: Vec<AppendRecord>) -> Result<Vec<Appended>> {
        let mut state = self.state.lock();
        let Some(entry) = state.topics.get_mut(topic) else {
            return Err(Error::not_found(format!("topic {topic:?} does not exist")));
        };
        let count = i32::try_from(entry.partitions.len()).unwrap_or(i32::MAX);
        // All of them are written or none is.
        let mut wanted = records.iter().filter_map(|record| record.partition);
        if let Some(number) = wanted.find(|number| !(0..count).contains(number)) {
            return Err(Error::invalid(format!("topic {topic:?} has no partition {number}")));
        }
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let number = match (record.partition, &record.key) {
                (Some(number), _) => number,
                (None, Some(key)) => partition_of_key(key, count),
                (None, None) => {
                    entry.turn = (entry.turn + 1) % entry.partitions.len().max(1);
                    i32::try_from(entry.turn).unwrap_or(0)
                }
            };
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(partition) = entry.partitions.get_mut(index) else {
                return Err(Error::invalid(format!("topic {topic:?} has no partition {number}")));
            };
            let offset = partition.next;
            partition.next += 1;
            partition.records.push(Kept { offset, timestamp_us: record.timestamp_us, record });
            places.push((number, offset));
        }
        self.announce(&mut state);
        Ok(places)
    }

    fn announce(&self, state: &mut State) {
        state.version += 1;
        self.changed.notify_all();
    }
}

fn partition_mut<'a>(state: &'a mut State, tp: &TopicPartition) -> Result<&'a mut Partition> {
    let index = usize::try_from(tp.partition).unwrap_or(usize::MAX);
    state
        .topics
        .get_mut(&*tp.topic)
        .and_then(|topic| topic.partitions.get_mut(index))
        .ok_or_else(|| Error::not_found(format!("partition {tp} does not exist")))
}

impl RecordStore for MemoryLog {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn topics(&self) -> Vec<String> {
        self.state.lock().topics.keys().cloned().collect()
    }

    fn partition_count(&self, topic: &str) -> Option<i32> {
        let state = self.state.lock();
        state.topics.get(topic).and_then(|t| i32::try_from(t.partitions.len()).ok())
    }

    fn bounds(&self, tp: &TopicPartition) -> Result<Bounds> {
        let mut state = self.state.lock();
        let topic_id = state.topics.get(&*tp.topic).map(|t| t.id.clone()).unwrap_or_default();
        let partition = partition_mut(&mut state, tp)?;
        let identity = LogIdentity {
            kind: "memory".into(),
            cluster: String::new(),
            topic_id,
            ..LogIdentity::default()
        };
        Ok(Bounds { low: partition.low, high: Some(partition.next), identity })
    }

    fn read(&self, slice: &mut Slice, records_max: usize, bytes_max: usize) -> Result<()> {
        let mut state = self.state.lock();
        let partition = partition_mut(&mut state, &slice.tp)?;
        let from = partition.records.partition_point(|kept| kept.offset < slice.next);
        let mut full = false;
        for kept in partition.records.get(from..).unwrap_or_default() {
            let AppendRecord { key, value, headers, .. } = &kept.record;
            slice.push(kept.offset, kept.timestamp_us, key.as_deref(), value.as_deref());
            for (name, value) in headers {
                slice.push_header(name.as_bytes(), value.as_deref());
            }
            full = slice.len() >= records_max || slice.bytes_len() >= bytes_max;
            if full {
                break;
            }
        }
        if !full {
            slice.next = slice.next.max(partition.next);
        }
        Ok(())
    }

    fn offset_at(&self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64> {
        let mut state = self.state.lock();
        let partition = partition_mut(&mut state, tp)?;
        let found =
            partition.records.iter().find(|k| k.timestamp_us.is_some_and(|t| t >= timestamp_us));
        Ok(found.map_or(partition.next, |kept| kept.offset))
    }

    fn version(&self) -> u64 {
        self.state.lock().version
    }

    fn wait(&self, seen: u64, wait: Duration) {
        let mut state = self.state.lock();
        if state.version == seen {
            self.changed.wait_for(&mut state, wait);
        }
    }
}
