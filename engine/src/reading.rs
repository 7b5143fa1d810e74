//! The seam through which whoever fills a dataset says how its partitions fare, so that system tables can
//! show it beside what is committed. The engine itself never reads a log.

use std::fmt::Debug;

use crate::catalog::TableId;

/// What a reader says of one partition of one table, or of a topic as a whole while that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// The table.
    pub table: TableId,
    /// The topic.
    pub topic: String,
    /// The partition; none if it is said of the topic as a whole.
    pub partition: Option<i32>,
    /// `waiting`, `running`, `finished`, `paused`, `rejecting` or `stopped`.
    pub state: &'static str,
    /// Why, where there is a reason.
    pub reason: Option<String>,
    /// End of the partition as last heard.
    pub end: Option<i64>,
    /// Offsets between what is visible and the end.
    pub lag: Option<i64>,
}

/// Whoever reads partitions in this process.
pub trait Reading: Debug + Send + Sync {
    /// What there is to say of the partitions of this process, now.
    fn reports(&self) -> Vec<PartitionReport>;
}
