//! A log that is read from a store in this process, and the [`EventLog`] over it: all partitions of the wanted
//! topics belong to this process, in turn each gives what it has.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, ErrorKind, Result};
use regex::Regex;

use super::{Bounds, EventLog, LogEvent, Selection, StartAt, TopicPolicy};
use crate::log::append::AppendRecord;
use crate::record::Slice;

/// Bytes of records after which a slice is handed on.
const SLICE_BYTES: usize = 1 << 20;
/// Records after which a slice is handed on.
const SLICE_RECORDS: usize = 8 * 1024;

/// Durable records by topic, partition and offset. Readers see only what is durable.
pub trait RecordStore: Debug + Send + Sync {
    /// `local` or `memory`.
    fn kind(&self) -> &'static str;
    /// Names of all topics.
    fn topics(&self) -> Vec<String>;
    /// Number of partitions of a topic, if it is there.
    fn partition_count(&self, topic: &str) -> Option<i32>;
    /// What is there of a partition.
    fn bounds(&self, tp: &TopicPartition) -> Result<Bounds>;
    /// Appends records from `slice.next` on to `slice`, up to about the given bounds, and moves `slice.next`
    /// behind what was covered.
    fn read(&self, slice: &mut Slice, records_max: usize, bytes_max: usize) -> Result<()>;
    /// What happens to old records of a topic; none if the store does not tell.
    fn policy(&self, topic: &str) -> Option<TopicPolicy> {
        let _unused = topic;
        None
    }
    /// First offset with a timestamp at or after `timestamp_us`; the end if there is none.
    fn offset_at(&self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64>;
    /// Grows whenever a topic or durable records are added.
    fn version(&self) -> u64;
    /// Waits until [`RecordStore::version`] differs from `seen`, or for `wait`.
    fn wait(&self, seen: u64, wait: Duration);
}

/// The record at a place of a store; none if it is there no more.
pub(crate) fn read_one(
    store: &dyn RecordStore,
    tp: &TopicPartition,
    offset: i64,
) -> Result<Option<AppendRecord>> {
    let mut slice = Slice::new(tp.clone(), offset);
    store.read(&mut slice, 1, 1)?;
    let record = slice.get(0).filter(|record| record.offset == offset);
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    Ok(record.map(|record| AppendRecord {
        key: record.key.map(bytes),
        value: record.value.map(bytes),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(bytes)))
            .collect(),
        timestamp_us: None,
        partition: Some(tp.partition),
    }))
}

#[derive(Debug)]
struct Reading {
    next: i64,
    paused: bool,
    at_end: bool,
}

/// See the module.
#[derive(Debug)]
pub struct StoreLog {
    store: Arc<dyn RecordStore>,
    names: Vec<String>,
    patterns: Vec<Regex>,
    /// Partitions announced so far, per topic.
    announced: BTreeMap<String, i32>,
    missing: Vec<String>,
    reading: BTreeMap<TopicPartition, Reading>,
    seen: Option<u64>,
    /// The store did not answer; it is asked again after a wait.
    troubled: bool,
}

impl StoreLog {
    /// Reads the selected topics of `store`.
    pub fn new(store: Arc<dyn RecordStore>, selection: &Selection) -> Result<Self> {
        Ok(Self {
            store,
            names: selection.names.clone(),
            patterns: selection.compiled()?,
            announced: BTreeMap::new(),
            missing: Vec::new(),
            reading: BTreeMap::new(),
            seen: None,
            troubled: false,
        })
    }

    /// Announces topics and partitions that are new since the last look.
    fn discover(&mut self, events: &mut Vec<LogEvent>) {
        let mut wanted: Vec<String> = self.names.clone();
        wanted.extend(
            self.store.topics().into_iter().filter(|t| self.patterns.iter().any(|p| p.is_match(t))),
        );
        let mut fresh = Vec::new();
        for topic in wanted {
            let Some(count) = self.store.partition_count(&topic) else {
                if !self.missing.contains(&topic) {
                    let reason = "the topic does not exist yet".to_string();
                    events.push(LogEvent::Missing { topic: topic.clone(), reason });
                    self.missing.push(topic);
                }
                continue;
            };
            self.missing.retain(|missing| *missing != topic);
            let known = self.announced.insert(topic.clone(), count).unwrap_or(0);
            let name: Arc<str> = topic.into();
            fresh.extend((known..count).map(|p| TopicPartition::new(Arc::clone(&name), p)));
        }
        for pattern in &self.patterns {
            let text = super::declared(pattern);
            let matched = self.announced.keys().any(|topic| pattern.is_match(topic));
            if !matched && !self.missing.contains(&text) {
                let reason = "no topic matches the pattern yet".to_string();
                events.push(LogEvent::Missing { topic: text.clone(), reason });
                self.missing.push(text);
            }
        }
        if !fresh.is_empty() {
            events.push(LogEvent::Assigned(fresh));
        }
    }

    fn read_all(&mut self, events: &mut Vec<LogEvent>) {
        for (tp, reading) in self.reading.iter_mut().filter(|(_, r)| !r.paused) {
            let mut slice = Slice::new(tp.clone(), reading.next);
            match self.store.read(&mut slice, SLICE_RECORDS, SLICE_BYTES) {
                Ok(()) if slice.next > reading.next => {
                    reading.next = slice.next;
                    reading.at_end = false;
                    events.push(LogEvent::Records(slice));
                }
                Ok(()) if !reading.at_end => {
                    reading.at_end = true;
                    events.push(LogEvent::End { tp: tp.clone(), offset: reading.next });
                }
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.troubled = true;
                    events.push(LogEvent::Trouble(error));
                }
                Err(error) => {
                    reading.paused = true;
                    events.push(LogEvent::Broken { tp: tp.clone(), error });
                }
            }
        }
    }

    fn set_paused(&mut self, tps: &[TopicPartition], paused: bool) {
        for tp in tps {
            if let Some(reading) = self.reading.get_mut(tp) {
                reading.paused = paused;
            }
        }
        self.seen = None;
    }
}

impl EventLog for StoreLog {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn poll(&mut self, wait: Duration, events: &mut Vec<LogEvent>) {
        let version = self.store.version();
        if std::mem::take(&mut self.troubled) {
            self.store.wait(version, wait);
        } else if self.seen == Some(version) {
            // Everything of this version has been read.
            self.store.wait(version, wait);
            if self.store.version() == version {
                return;
            }
        }
        let before = events.len();
        let version = self.store.version();
        self.discover(events);
        self.read_all(events);
        let records = events.iter().skip(before).any(|e| matches!(e, LogEvent::Records(_)));
        self.seen = (!records && !self.troubled).then_some(version);
    }

    fn partitions(&mut self, topic: &str) -> Result<Vec<i32>> {
        let count = self.store.partition_count(topic);
        let count =
            count.ok_or_else(|| Error::not_found(format!("topic {topic:?} does not exist")))?;
        Ok((0..count).collect())
    }

    fn bounds(&mut self, tp: &TopicPartition) -> Result<Bounds> {
        self.store.bounds(tp)
    }

    fn policy(&mut self, topic: &str) -> Result<Option<TopicPolicy>> {
        Ok(self.store.policy(topic))
    }

    fn offset_at(&mut self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64> {
        self.store.offset_at(tp, timestamp_us)
    }

    fn start(&mut self, starts: &[StartAt]) -> Result<()> {
        for start in starts {
            let reading = Reading { next: start.offset, paused: false, at_end: false };
            self.reading.insert(start.tp.clone(), reading);
        }
        self.seen = None;
        Ok(())
    }

    fn stop(&mut self, tps: &[TopicPartition]) -> Result<()> {
        for tp in tps {
            self.reading.remove(tp);
        }
        Ok(())
    }

    fn pause(&mut self, tps: &[TopicPartition]) -> Result<()> {
        self.set_paused(tps, true);
        Ok(())
    }

    fn resume(&mut self, tps: &[TopicPartition]) -> Result<()> {
        self.set_paused(tps, false);
        Ok(())
    }

    fn end(&mut self, tp: &TopicPartition) -> Option<i64> {
        self.store.bounds(tp).ok().and_then(|bounds| bounds.high)
    }
}
