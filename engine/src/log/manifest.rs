//! The state that the log's entries add up to: immutable, shared by pointer, cheap to derive the next from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{RollupDef, RollupId, TableDef, TableId};
use crate::log::op::{FieldSeen, FileEntry, Note};
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::time::Granularity;
use crate::types::ColumnType;

/// Who reads a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimState {
    /// Current epoch.
    pub epoch: u64,
    /// Current member.
    pub member: String,
}

/// Where a table stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionState {
    /// Where it began.
    pub start: i64,
    /// Next offset to read.
    pub offset: i64,
    /// Totals of all committed records.
    pub counts: ReadCounts,
    /// The log it counts in.
    pub identity: LogIdentity,
}

/// A rollup and its live files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollupState {
    /// Its id.
    pub id: RollupId,
    /// Its table.
    pub table: TableId,
    /// Its definition.
    pub def: RollupDef,
    /// Offsets it covers since it was declared: per partition `[from, ∞)`.
    #[serde(with = "pairs")]
    pub since: BTreeMap<TopicPartition, i64>,
    /// Offsets it covers besides (backfilled).
    pub coverage: Vec<OffsetRange>,
    /// Rows before this event time were gone from the raw table when it was filled with what was left of it,
    /// microseconds: its states of before are not all there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_from_us: Option<i64>,
    /// When it was declared, microseconds; not known of those out of older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_at_us: Option<i64>,
    /// Live files.
    pub files: Vec<Arc<FileEntry>>,
    /// Buckets before this are gone, per granularity.
    pub horizon_us: BTreeMap<Granularity, i64>,
}

/// A table and its live files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// Its id.
    pub id: TableId,
    /// Its definition.
    pub def: Arc<TableDef>,
    /// Current schema id.
    pub schema_id: u32,
    /// Whether it is served.
    pub attached: bool,
    /// Live raw files.
    pub files: Vec<Arc<FileEntry>>,
    /// Positions.
    #[serde(with = "pairs")]
    pub positions: BTreeMap<TopicPartition, PositionState>,
    /// Raw rows before this event time are gone, microseconds.
    pub horizon_us: Option<i64>,
    /// Undeclared fields seen, by (path, JSON type).
    pub fields: Vec<FieldSeen>,
    /// What was once.
    #[serde(default, skip_serializing_if = "Past::is_unknown")]
    pub past: Past,
}

/// What the present state of a table does not tell of its past, for declarations and audits. Kept from
/// some version on: a table out of an older checkpoint has none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Columns that are not declared any more, with their last types; files may hold their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnType>,
    /// Raw rows that left by retention; none = it was not counted from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_rows: Option<u64>,
    /// Resets of positions, oldest first, the last [`RESETS_MAX`](crate::limits::RESETS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resets: Vec<Reset>,
}

impl Past {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A position that was set by an operator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// What had been read since the beginning, or since the reset before.
    pub read: OffsetRange,
    /// Where reading went on.
    pub to: i64,
}

/// A change of definitions that took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Number of the commit.
    pub commit: u64,
    /// When, microseconds.
    pub at_us: i64,
    /// Who and what.
    pub note: Note,
}

/// The whole dataset at one commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of the last entry applied; 0 = empty.
    pub number: u64,
    /// Who the dataset is, for ever: the id of its first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_id: Option<Uuid>,
    /// Tables.
    pub tables: BTreeMap<TableId, Arc<TableState>>,
    /// Rollups.
    pub rollups: BTreeMap<RollupId, Arc<RollupState>>,
    /// Live files of rejected records.
    pub rejected: Vec<Arc<FileEntry>>,
    /// Rejected records that left by age or bytes; none = it was not counted from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_expired: Option<u64>,
    /// Claims.
    #[serde(with = "pairs")]
    pub claims: BTreeMap<TopicPartition, ClaimState>,
    /// Largest ids ever given, so that none is given twice.
    pub last_table_id: u32,
    /// See `last_table_id`.
    pub last_rollup_id: u32,
    /// No file named before this may join, milliseconds.
    pub sweep_before_ms: i64,
    /// The maintainer's lease: member, until (microseconds).
    pub lease: Option<(String, i64)>,
    /// Changes of definitions, oldest first, the last [`NOTES_MAX`](crate::limits::NOTES_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Arc<Noted>>,
}

/// JSON has no structured keys: such maps travel as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K, V, S>(map: &BTreeMap<K, V>, s: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        s.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(d: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(d)?.into_iter().collect())
    }
}
