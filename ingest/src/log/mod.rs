//! Event logs: what gives records by partition and offset, and can be read again.
//!
//! ```text
//!  kafka ────────────────────────────┐
//!  local, memory ─► RecordStore ─────┼─► EventLog ─► pipeline
//!  file ─────────────────────────────┘
//! ```
//!
//! An [`EventLog`] is driven by one thread. It never decides where to read: positions are handed in, because
//! only the dataset knows them.

use std::fmt::Debug;
use std::time::Duration;

use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};
use regex::Regex;

use crate::record::Slice;

pub mod append;
pub mod condition;
pub mod file;
pub mod kafka;
pub mod local;
pub mod memory;
pub mod store;

/// Topics to read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By name.
    pub names: Vec<String>,
    /// By pattern over the whole name, as declared.
    pub patterns: Vec<String>,
}

impl Selection {
    /// The patterns as regular expressions over the whole name.
    pub fn compiled(&self) -> Result<Vec<Regex>> {
        self.patterns.iter().map(|pattern| whole_name(pattern)).collect()
    }
}

/// The regular expression of a declared topic pattern: it must match the whole name.
pub fn whole_name(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
        Error::invalid(format!("topic pattern {pattern:?} is not valid")).with_source(e)
    })
}

/// The pattern as declared, from its regular expression.
pub(crate) fn declared(pattern: &Regex) -> String {
    let text = pattern.as_str();
    let inner = text.strip_prefix("^(?:").and_then(|t| t.strip_suffix(")$"));
    inner.unwrap_or(text).to_string()
}

/// What a log has of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that can be read.
    pub low: i64,
    /// One past the last offset, if known.
    pub high: Option<i64>,
    /// Who the log is.
    pub identity: LogIdentity,
}

/// What a log does with the old records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPolicy {
    /// Of each key the latest record stays.
    pub compacts: bool,
    /// Records go by age or size, whatever their key.
    pub deletes: bool,
    /// How long the mark of a deletion stays, microseconds.
    pub delete_retention_us: i64,
}

/// Where to begin reading a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartAt {
    /// The partition.
    pub tp: TopicPartition,
    /// First offset wanted.
    pub offset: i64,
    /// Leader epoch of the position, if known: lets the log notice that it was cut behind our back.
    pub leader_epoch: Option<i32>,
}

/// What happens on a log.
#[derive(Debug)]
pub enum LogEvent {
    /// Partitions for this process to open.
    Assigned(Vec<TopicPartition>),
    /// Partitions to hand over: flush, commit, then [`EventLog::stop`].
    Revoked(Vec<TopicPartition>),
    /// Partitions that are already another's.
    Lost(Vec<TopicPartition>),
    /// Records, in order.
    Records(Slice),
    /// The reader stands at the end; `offset` is the next offset there will be.
    End {
        /// The partition.
        tp: TopicPartition,
        /// The end offset.
        offset: i64,
    },
    /// The whole source has been read and nothing more will come.
    Finished(TopicPartition),
    /// A wanted topic is not there (yet).
    Missing {
        /// Its name or pattern.
        topic: String,
        /// What is known.
        reason: String,
    },
    /// A partition cannot be read on; an operator must look.
    Broken {
        /// The partition.
        tp: TopicPartition,
        /// Why.
        error: Error,
    },
    /// The log does not answer; it will be tried again.
    Trouble(Error),
    /// The log answers (again).
    Healthy,
}

/// One source of partitions and records, driven by one thread.
pub trait EventLog: Debug + Send {
    /// `kafka`, `local`, `memory` or `file`.
    fn kind(&self) -> &'static str;
    /// Waits up to `wait` for something to happen and appends it to `events`.
    fn poll(&mut self, wait: Duration, events: &mut Vec<LogEvent>);
    /// Numbers of all partitions of a topic.
    fn partitions(&mut self, topic: &str) -> Result<Vec<i32>>;
    /// What the log has of a partition, and who it is.
    fn bounds(&mut self, tp: &TopicPartition) -> Result<Bounds>;
    /// What happens to old records of a topic; none if the log does not tell.
    fn policy(&mut self, topic: &str) -> Result<Option<TopicPolicy>> {
        let _unused = topic;
        Ok(None)
    }
    /// The identity that the log would have had when it was seen as `was`, if that can be told: a file that has
    /// grown since has another fingerprint now, and the same one over as many bytes as then.
    fn identity_as(
        &mut self,
        tp: &TopicPartition,
        was: &LogIdentity,
    ) -> Result<Option<LogIdentity>> {
        let _unused = (tp, was);
        Ok(None)
    }
    /// First offset with a timestamp at or after `timestamp_us`; the end if there is none.
    fn offset_at(&mut self, tp: &TopicPartition, timestamp_us: i64) -> Result<i64>;
    /// Begins to read partitions, or goes on from another offset.
    fn start(&mut self, starts: &[StartAt]) -> Result<()>;
    /// Ends reading of partitions that were assigned.
    fn stop(&mut self, tps: &[TopicPartition]) -> Result<()>;
    /// Gives no records of these partitions until resumed.
    fn pause(&mut self, tps: &[TopicPartition]) -> Result<()>;
    /// See [`EventLog::pause`].
    fn resume(&mut self, tps: &[TopicPartition]) -> Result<()>;
    /// The end of a partition as last heard, without asking.
    fn end(&mut self, tp: &TopicPartition) -> Option<i64>;
    /// Tells committed positions to whoever watches lag; best effort.
    fn committed(&mut self, positions: &[(TopicPartition, i64)]) {
        let _unused = positions;
    }
    /// Whether this process still holds the partition, as far as the log knows.
    fn holds(&mut self, tp: &TopicPartition) -> bool {
        let _unused = tp;
        true
    }
    /// Leaves; partitions have been stopped before.
    fn close(&mut self) {}
}

/// A name for a test's file that no other test has.
#[cfg(test)]
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
