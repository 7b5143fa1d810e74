//! Kafka as an event log, and the only home of its client library. One consumer on the pipeline's thread; its
//! group decides which process reads which partition, never where: every partition is assigned at the position
//! that is handed in, and what the group stores is written for lag tools only.
//!
//! A rebalance is shown to the pipeline first and carried out when the pipeline has flushed: the group waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use regex::Regex;

use super::{Bounds, EventLog, LogEvent, Selection, StartAt, TopicPolicy};
use crate::record::Slice;

mod admin;
mod config;
mod fetch;
mod outage;
mod producer;
mod raw;
#[cfg(test)]
mod tests;

pub use config::KafkaConfig;
pub use producer::KafkaProducer;

use admin::Admin;
use outage::Outage;
use raw::{Polled, Queue, RawMessage};

/// Between two clients, when the first came to its end.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest wait for an answer of the broker.
const ASK: Duration = Duration::from_secs(5);
/// How often topics are looked at: new ones that match, ids that changed, a broker that is back.
const LOOK: Duration = Duration::from_secs(5);
/// Records that one poll gathers.
const POLL_RECORDS: usize = 8 * 1024;
/// Bytes of records that one poll gathers.
const POLL_BYTES: usize = 2 << 20;
/// See the module.
pub struct KafkaLog {
    // Before the consumer: it must go first.
    queue: Option<Queue>,
    consumer: BaseConsumer,
    admin: Admin,
    names: Vec<String>,
    patterns: Vec<Regex>,
    subscribed: BTreeSet<String>,
    /// Topics that the broker has shown.
    known: BTreeSet<String>,
    missing: BTreeSet<String>,
    /// What the group gave to this process.
    held: BTreeSet<TopicPartition>,
    /// What is assigned, with the next offset expected.
    reading: BTreeMap<TopicPartition, i64>,
    cluster: Option<String>,
    /// Ids of topics when their partitions were opened.
    topic_ids: BTreeMap<String, String>,
    looked: Option<Instant>,
    outage: Outage,
    /// For another client, should this one come to its end.
    config: KafkaConfig,
    /// Whether the client has come to its end: the library does nothing more with it.
    is_over: bool,
    /// When the client was made.
    made: Instant,
    gathered: Vec<Slice>,
    /// Where in `gathered` the last record went: topic handle, partition, index.
    last: Option<(usize, i32, usize)>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("reading", &self.reading).finish_non_exhaustive()
    }
}

fn broker_error(what: &str, e: KafkaError) -> Error {
    Error::unavailable(format!("Kafka: {what}")).with_source(e)
}

impl KafkaLog {
    /// A consumer for the selected topics. Nothing is asked of a broker yet.
    pub fn new(config: &KafkaConfig, selection: &Selection) -> Result<Self> {
        let (consumer, queue) = Self::client(config)?;
        let mut log = Self {
            queue: Some(queue),
            consumer,
            admin: Admin::new(config),
            names: selection.names.clone(),
            patterns: selection.compiled()?,
            subscribed: BTreeSet::new(),
            known: BTreeSet::new(),
            missing: BTreeSet::new(),
            held: BTreeSet::new(),
            reading: BTreeMap::new(),
            cluster: None,
            topic_ids: BTreeMap::new(),
            looked: None,
            outage: Outage::default(),
            config: config.clone(),
            is_over: false,
            made: Instant::now(),
            gathered: Vec::new(),
            last: None,
        };
        log.subscribe(selection.names.iter().cloned().collect())?;
        Ok(log)
    }

    fn client(config: &KafkaConfig) -> Result<(BaseConsumer, Queue)> {
        let consumer: BaseConsumer =
            config.consumer().create().map_err(|e| config::cannot_make("consumer", e))?;
        let queue = Queue::of(consumer.client().native_ptr())
            .ok_or_else(|| Error::internal("the Kafka consumer has no queue"))?;
        Ok((consumer, queue))
    }

    /// After an error from which a client never recovers, as when the group has put it out while it was away:
    /// another client. All partitions are lost until the group gives them again.
    fn begin_again(&mut self, events: &mut Vec<LogEvent>) {
        self.reading.clear();
        self.gathered.clear();
        self.last = None;
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.held).into_iter().collect();
        if !lost.is_empty() {
            events.push(LogEvent::Lost(lost));
        }
        if self.made.elapsed() < AGAIN {
            return;
        }
        self.made = Instant::now();
        let begun = Self::client(&self.config).and_then(|(consumer, queue)| {
            // The queue goes before its consumer.
            self.queue = None;
            self.consumer = consumer;
            self.queue = Some(queue);
            self.is_over = false;
            let topics = std::mem::take(&mut self.subscribed);
            self.subscribe(topics)
        });
        match begun {
            Ok(()) => tracing::warn!("the consumer of Kafka was made anew"),
            Err(error) => events.push(LogEvent::Trouble(error)),
        }
    }

    fn subscribe(&mut self, topics: BTreeSet<String>) -> Result<()> {
        if topics.is_empty() || topics == self.subscribed {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names).map_err(|e| broker_error("cannot subscribe", e))?;
        self.subscribed = topics;
        Ok(())
    }

    fn gather(&mut self, message: &RawMessage<'_>) {
        let (handle, partition) = (message.topic_handle(), message.partition());
        let known = self.last.filter(|last| (last.0, last.1) == (handle, partition));
        let index = match known {
            Some((.., index)) => index,
            None => {
                let tp = TopicPartition::new(message.topic(), partition);
                // Records of a partition that was stopped meanwhile are nobody's.
                let Some(next) = self.reading.get(&tp) else { return };
                let found = self.gathered.iter().position(|slice| slice.tp == tp);
                let index = found.unwrap_or_else(|| {
                    self.gathered.push(Slice::new(tp, *next));
                    self.gathered.len() - 1
                });
                self.last = Some((handle, partition, index));
                index
            }
        };
        let slice = &mut self.gathered[index];
        if message.offset() < slice.next {
            return;
        }
        let timestamp_us = message.timestamp_ms().map(|ms| ms.saturating_mul(1_000));
        slice.push(message.offset(), timestamp_us, message.key(), message.value());
        message.headers(&mut |name, value| slice.push_header(name, value));
        slice.leader_epoch = message.leader_epoch().or(slice.leader_epoch);
    }

    /// Hands on what was gathered.
    fn hand_on(&mut self, events: &mut Vec<LogEvent>) {
        self.last = None;
        for slice in self.gathered.drain(..) {
            if let Some(next) = self.reading.get_mut(&slice.tp) {
                *next = slice.next;
                events.push(LogEvent::Records(slice));
            }
        }
    }

    fn rebalance(&mut self, assign: bool, tps: Vec<TopicPartition>, events: &mut Vec<LogEvent>) {
        if assign {
            tracing::info!(partitions = tps.len(), "the consumer group gave partitions");
            self.held.extend(tps.iter().cloned());
            // The group waits for an answer; the partitions follow one by one, each at its position.
            if let Err(e) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
                events.push(LogEvent::Trouble(broker_error("cannot take an assignment", e)));
            }
            events.push(LogEvent::Assigned(tps));
            return;
        }
        for tp in &tps {
            self.held.remove(tp);
        }
        tracing::info!(partitions = tps.len(), "the consumer group takes partitions back");
        events.push(match self.consumer.assignment_lost() {
            true => LogEvent::Lost(tps),
            false => LogEvent::Revoked(tps),
        });
    }

    fn partition_error(
        &mut self,
        tp: TopicPartition,
        offset: i64,
        code: RDKafkaErrorCode,
        text: String,
        events: &mut Vec<LogEvent>,
    ) {
        use RDKafkaErrorCode as Code;
        match code {
            Code::PartitionEOF => {
                self.hand_on(events);
                let Some(next) = self.reading.get_mut(&tp) else { return };
                *next = offset.max(*next);
                events.push(LogEvent::End { offset: *next, tp });
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                let at = self.reading.get(&tp).copied().unwrap_or(offset);
                let error = Error::invalid(format!(
                    "position {at} of {tp} is not in the log any more: it was cut or made again"
                ))
                .with_source(text);
                events.push(LogEvent::Broken { tp, error });
            }
            Code::LogTruncation => {
                let error = Error::invalid(format!(
                    "{tp} was cut behind the position that was read: records that were counted are gone"
                ))
                .with_source(text);
                events.push(LogEvent::Broken { tp, error });
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                if self.missing.insert(tp.topic.to_string()) {
                    let reason = "the topic does not exist in Kafka".to_string();
                    events.push(LogEvent::Missing { topic: tp.topic.to_string(), reason });
                }
                // It may come back as another topic: ids are looked at before anything else is read.
                self.known.remove(&*tp.topic);
                self.looked = None;
            }
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                if self.missing.insert(tp.topic.to_string()) {
                    let reason = format!("Kafka refuses access: {text}");
                    events.push(LogEvent::Missing { topic: tp.topic.to_string(), reason });
                }
            }
            _ => tracing::debug!(partition = %tp, %code, text, "error of a partition"),
        }
    }

    /// Looks at topics now and then.
    fn look(&mut self, events: &mut Vec<LogEvent>) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        let unknown = self.names.iter().any(|name| !self.known.contains(name));
        if self.outage.is_on() || unknown || !self.patterns.is_empty() {
            self.look_at_topics(events);
        }
        self.compare_ids(events);
    }

    /// Asks which topics there are; tells what is missing, subscribes to what matches.
    fn look_at_topics(&mut self, events: &mut Vec<LogEvent>) {
        let Ok(metadata) = self.consumer.fetch_metadata(None, Duration::from_secs(1)) else {
            return;
        };
        if self.outage.end() {
            events.push(LogEvent::Healthy);
        }
        let there = metadata.topics().iter().filter(|t| t.error().is_none());
        self.known = there.map(|t| t.name().to_string()).filter(|t| !t.starts_with("__")).collect();
        let known = &self.known;
        self.missing.retain(|topic| !known.contains(topic));
        let mut wanted: BTreeSet<String> = self.names.iter().cloned().collect();
        let mut absent: Vec<(String, &str)> = Vec::new();
        for name in self.names.iter().filter(|name| !known.contains(*name)) {
            absent.push((name.clone(), "the topic does not exist in Kafka"));
        }
        for pattern in &self.patterns {
            let matching: Vec<&String> = known.iter().filter(|t| pattern.is_match(t)).collect();
            if matching.is_empty() {
                absent
                    .push((super::declared(pattern), "no topic in Kafka matches the pattern yet"));
            }
            wanted.extend(matching.into_iter().cloned());
        }
        for (topic, reason) in absent {
            if self.missing.insert(topic.clone()) {
                events.push(LogEvent::Missing { topic, reason: reason.to_string() });
            }
        }
        if let Err(error) = self.subscribe(wanted) {
            events.push(LogEvent::Trouble(error));
        }
    }

    /// A topic whose id changed under us is another topic: its partitions are broken.
    fn compare_ids(&mut self, events: &mut Vec<LogEvent>) {
        let topics: Vec<String> = self.topic_ids.keys().cloned().collect();
        if topics.is_empty() || self.reading.is_empty() {
            return;
        }
        let client = self.consumer.client().native_ptr();
        let Some(now) = raw::topic_ids(client, &topics, Duration::from_secs(1)) else { return };
        for (topic, id) in now {
            let Some(before) = self.topic_ids.get(&topic).filter(|before| **before != id) else {
                continue;
            };
            let tps = self.reading.keys().filter(|tp| *tp.topic == *topic);
            for tp in tps.cloned().collect::<Vec<_>>() {
                let error = Error::invalid(format!(
                    "topic {topic:?} was deleted and made again (its id was {before}, is {id})"
                ));
                events.push(LogEvent::Broken { tp, error });
            }
            self.topic_ids.insert(topic, id);
        }
    }

    fn list(tps: &[TopicPartition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(tps.len());
        for tp in tps {
            list.add_partition(&tp.topic, tp.partition);
        }
        list
    }

    /// Those of `tps` that are assigned.
    fn assigned(&self, tps: &[TopicPartition]) -> Vec<TopicPartition> {
        tps.iter().filter(|tp| self.reading.contains_key(tp)).cloned().collect()
    }

    fn cluster(&mut self) -> Result<String> {
        if self.cluster.is_none() {
            self.cluster = self.consumer.client().fetch_cluster_id(ASK);
        }
        self.cluster
            .clone()
            .ok_or_else(|| Error::unavailable("Kafka: the cluster's id is not known"))
    }
}

impl EventLog for KafkaLog {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn poll(&mut self, wait: Duration, events: &mut Vec<LogEvent>) {
        self.look(events);
        let Some(mut queue) = self.queue.take() else { return };
        let mut wait = if events.is_empty() { wait } else { Duration::ZERO };
        let (mut records, mut bytes, mut turn) = (0, 0, false);
        while !turn && records < POLL_RECORDS && bytes < POLL_BYTES {
            let found = queue.poll(wait, &mut |polled| match polled {
                Polled::Message(message) => {
                    records += 1;
                    bytes += message.value().map_or(0, <[u8]>::len);
                    self.gather(&message);
                }
                Polled::Partition { topic, partition, offset, code, text } => {
                    let tp = TopicPartition::new(topic, partition);
                    self.partition_error(tp, offset, code, text, events);
                }
                Polled::Client { code, fatal, text } => {
                    self.is_over |= fatal;
                    let trouble = self.outage.error(code, fatal, text);
                    events.extend(trouble.map(LogEvent::Trouble));
                }
                Polled::Rebalance { assign, tps } => {
                    turn = true;
                    self.hand_on(events);
                    self.rebalance(assign, tps, events);
                }
                Polled::Log { level, facility, text } => {
                    log_line(level, &facility, &text);
                    let trouble = self.outage.logged(&facility, &text);
                    events.extend(trouble.map(LogEvent::Trouble));
                }
                Polled::Other => {}
            });
            if !found {
                break;
            }
            wait = Duration::ZERO;
        }
        self.queue = Some(queue);
        self.hand_on(events);
        if self.is_over {
            self.begin_again(events);
        }
    }

    fn partitions(&mut self, topic: &str) -> Result<Vec<i32>> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), ASK)
            .map_err(|e| broker_error("topics cannot be listed", e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let found = found
            .ok_or_else(|| Error::not_found(format!("topic {topic:?} does not exist in Kafka")))?;
        Ok(found.partitions().iter().map(|p| p.id()).collect())
    }

    fn bounds(&mut self, tp: &TopicPartition) -> Result<Bounds> {
        let (low, high) = self
            .consumer
            .fetch_watermarks(&tp.topic, tp.partition, ASK)
            .map_err(|e| broker_error(&format!("the bounds of {tp} are not known"), e))?;
        let cluster = self.cluster()?;
        let topic = tp.topic.to_string();
        let client = self.consumer.client().native_ptr();
        let ids = raw::topic_ids(client, std::slice::from_ref(&topic), ASK);
        let topic_id = match ids.and_then(|mut ids| ids.remove(&topic)) {
            Some(id) => {
                self.topic_ids.insert(topic, id.clone());
                id
            }
            None => {
                tracing::debug!(topic, "the broker gives no topic id");
                String::new()
            }
        };
        let identity =
            LogIdentity { kind: "kafka".into(), cluster, topic_id, ..LogIdentity::default() };
        Ok(Bounds { low, high: Some(high), identity })
    }

    fn policy(&mut self, topic: &str) -> Result<Option<TopicPolicy>> {
        self.admin.policy(topic)
    }

    fn offset_at(&mut self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64> {
        let mut list = TopicPartitionList::new();
        // The first millisecond that is not before the moment.
        let millis =
            Offset::Offset(timestamp_us.div_euclid(1_000) + i64::from(timestamp_us % 1_000 != 0));
        let refused = |e| broker_error(&format!("times of {tp} cannot be looked up"), e);
        list.add_partition_offset(&tp.topic, tp.partition, millis).map_err(refused)?;
        let found = self.consumer.offsets_for_times(list, ASK).map_err(refused)?;
        let element = found.find_partition(&tp.topic, tp.partition);
        match element.map(|e| (e.offset(), e.error())) {
            Some((Offset::Offset(offset), Ok(()))) => Ok(offset),
            Some((Offset::End, Ok(()))) => {
                self.bounds(tp)?.high.ok_or_else(|| Error::internal("a partition without end"))
            }
            Some((_, Err(e))) => Err(refused(e)),
            _ => Err(Error::unavailable(format!("Kafka: times of {tp} cannot be looked up"))),
        }
    }

    fn start(&mut self, starts: &[StartAt]) -> Result<()> {
        let tps: Vec<TopicPartition> = starts.iter().map(|s| s.tp.clone()).collect();
        let again = self.assigned(&tps);
        if !again.is_empty() {
            self.consumer
                .incremental_unassign(&Self::list(&again))
                .map_err(|e| broker_error("partitions cannot be unassigned", e))?;
            for tp in &again {
                self.reading.remove(tp);
            }
        }
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for start in starts {
            let tp = &start.tp;
            list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(start.offset))
                .map_err(|e| broker_error("a position is refused", e))?;
        }
        for (at, start) in starts.iter().enumerate() {
            if let Some(epoch) = start.leader_epoch {
                raw::set_leader_epoch(list.ptr(), at, epoch);
            }
        }
        self.consumer
            .incremental_assign(&list)
            .map_err(|e| broker_error("partitions cannot be assigned", e))?;
        self.consumer.resume(&list).map_err(|e| broker_error("partitions cannot be resumed", e))?;
        self.reading.extend(starts.iter().map(|start| (start.tp.clone(), start.offset)));
        Ok(())
    }

    fn stop(&mut self, tps: &[TopicPartition]) -> Result<()> {
        let assigned = self.assigned(tps);
        for tp in &assigned {
            self.reading.remove(tp);
        }
        self.consumer
            .incremental_unassign(&Self::list(&assigned))
            .map_err(|e| broker_error("partitions cannot be unassigned", e))
    }

    fn pause(&mut self, tps: &[TopicPartition]) -> Result<()> {
        self.consumer
            .pause(&Self::list(&self.assigned(tps)))
            .map_err(|e| broker_error("partitions cannot be paused", e))
    }

    fn resume(&mut self, tps: &[TopicPartition]) -> Result<()> {
        self.consumer
            .resume(&Self::list(&self.assigned(tps)))
            .map_err(|e| broker_error("partitions cannot be resumed", e))
    }

    fn end(&mut self, tp: &TopicPartition) -> Option<i64> {
        raw::cached_high(self.consumer.client().native_ptr(), tp)
    }

    fn committed(&mut self, positions: &[(TopicPartition, i64)]) {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (tp, offset) in positions.iter().filter(|(tp, _)| self.held.contains(tp)) {
            if list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*offset)).is_err()
            {
                return;
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "positions could not be told to the group");
        }
    }

    fn holds(&mut self, tp: &TopicPartition) -> bool {
        self.held.contains(tp)
    }

    fn close(&mut self) {
        // Dropping the consumer leaves the group; it needs its queue for itself.
        drop(self.queue.take());
    }
}

fn log_line(level: i32, facility: &str, text: &str) {
    match level {
        0..=3 => tracing::warn!(facility, "{text}"),
        4..=5 => tracing::info!(facility, "{text}"),
        _ => tracing::debug!(facility, "{text}"),
    }
}
