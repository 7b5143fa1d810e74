//! What a pipeline says about itself: states of partitions, and totals.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use otus_engine::catalog::TableId;
use parking_lot::Mutex;

/// What a table does with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionState {
    /// The topic, the broker or the store is not there yet; it will be tried again.
    Waiting {
        /// What is waited for.
        reason: String,
    },
    /// Records are read.
    Running,
    /// A file was read to its end.
    Finished,
    /// Reading waits, by an operator's word or because the dataset cannot take more.
    Paused {
        /// Why.
        reason: String,
    },
    /// Most records of the last window were rejected.
    Rejecting {
        /// The reason of one of them.
        reason: String,
    },
    /// Reading ended until an operator resets the position.
    Stopped {
        /// Why.
        error: String,
    },
}

impl PartitionState {
    /// `waiting`, `running`, `finished`, `paused`, `rejecting` or `stopped`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Paused { .. } => "paused",
            Self::Rejecting { .. } => "rejecting",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// Why, where there is a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Running | Self::Finished => None,
            Self::Waiting { reason } | Self::Paused { reason } | Self::Rejecting { reason } => {
                Some(reason)
            }
            Self::Stopped { error } => Some(error),
        }
    }
}

/// Where one table stands in one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionStatus {
    /// The table.
    pub table: TableId,
    /// The table's name with its schema.
    pub table_name: String,
    /// The topic, or the declared pattern while no topic matches it.
    pub topic: String,
    /// The partition; none while a topic or the log as a whole is waited for.
    pub partition: Option<i32>,
    /// What happens.
    pub state: PartitionState,
    /// Next offset that is not yet visible.
    pub position: Option<i64>,
    /// End of the partition as last heard.
    pub end: Option<i64>,
    /// Offsets between position and end; 0 once the end was reached.
    pub lag: Option<i64>,
    /// Records read per second, lately.
    pub rate: f64,
}

/// Totals since start, for metrics.
#[derive(Debug, Default)]
pub struct IngestCounters {
    /// Records taken from logs, each once however many tables read it.
    pub records_read: AtomicU64,
    /// Bytes of those records.
    pub bytes_read: AtomicU64,
    /// Rows made, over all tables.
    pub rows_kept: AtomicU64,
    /// Records dropped by filters and null payloads, over all tables.
    pub records_filtered: AtomicU64,
    /// Records rejected, over all tables.
    pub records_rejected: AtomicU64,
    /// Batches made visible.
    pub batches_published: AtomicU64,
    /// Records appended through this process.
    pub records_appended: AtomicU64,
    /// Partitions opened again after a failure.
    pub partitions_reopened: AtomicU64,
    /// Nanoseconds spent decoding.
    pub decode_ns: AtomicU64,
}

impl IngestCounters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// What one runner last said.
#[derive(Debug, Default)]
pub(crate) struct Board {
    statuses: Mutex<Vec<PartitionStatus>>,
    /// Latched when everything had reached the end seen at its start.
    caught_up: AtomicBool,
}

impl Board {
    pub(crate) fn set(&self, statuses: Vec<PartitionStatus>) {
        *self.statuses.lock() = statuses;
    }
    pub(crate) fn get(&self) -> Vec<PartitionStatus> {
        self.statuses.lock().clone()
    }
    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }
    pub(crate) fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }
}
