//! Positions in event logs. Offsets are not dense: a range says what was read, rows are counted apart.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name (for the `file` log: the file's path as configured).
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The half-open range `[from, to)` of offsets of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The partition.
    pub tp: TopicPartition,
    /// First offset covered.
    pub from: i64,
    /// One past the last offset covered.
    pub to: i64,
}

impl OffsetRange {
    /// The union of ranges, by partition and offset, with touching ones joined.
    pub fn joined(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_by(|a, b| (&a.tp, a.from).cmp(&(&b.tp, b.from)));
        let mut joined: Vec<Self> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.tp == range.tp && range.from <= last.to => {
                    last.to = last.to.max(range.to);
                }
                _ => joined.push(range),
            }
        }
        joined
    }
}

impl OffsetRange {
    /// What both ranges hold; none if nothing.
    pub fn common(&self, other: &Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (self.tp == other.tp && from < to).then(|| Self { tp: self.tp.clone(), from, to })
    }

    /// What of this range none of `others` holds, ascending.
    pub fn without(&self, others: &[Self]) -> Vec<Self> {
        let mut held: Vec<Self> = others.iter().filter_map(|r| self.common(r)).collect();
        held.sort_by_key(|r| r.from);
        let mut left = Vec::new();
        let mut from = self.from;
        for range in held {
            if from < range.from {
                left.push(Self { tp: self.tp.clone(), from, to: range.from });
            }
            from = from.max(range.to);
        }
        if from < self.to {
            left.push(Self { tp: self.tp.clone(), from, to: self.to });
        }
        left
    }

    /// Offsets in it, whether there are records or not.
    pub fn width(&self) -> u64 {
        if self.from < self.to { self.to.abs_diff(self.from) } else { 0 }
    }
}

/// How the records of a range ended. `read()` is their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// Records that became rows.
    pub kept: u64,
    /// Records dropped by the filter, and null payloads.
    pub filtered: u64,
    /// Records kept as rejected.
    pub rejected: u64,
}

impl ReadCounts {
    /// Records read.
    pub fn read(&self) -> u64 {
        self.kept + self.filtered + self.rejected
    }
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.filtered += other.filtered;
        self.rejected += other.rejected;
    }
}

/// Who a topic is, so that a re-created topic or another cluster is noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// `kafka`, `local` or `file`.
    pub kind: String,
    /// The cluster's id (`local`: the log's id; `file`: empty).
    pub cluster: String,
    /// The topic's id (`file`: a fingerprint of the file's beginning).
    pub topic_id: String,
    /// Leader epoch at the position, if the log has one.
    pub leader_epoch: Option<i32>,
    /// Everything written to the partition before this moment stands before the position, microseconds; said
    /// where it matters, for keyed tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_us: Option<i64>,
}
