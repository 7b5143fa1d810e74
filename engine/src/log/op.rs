//! The operations of a commit and the entries they travel in. This is a disk format: names and meanings
//! stay; a change that an older reader would misread raises [`FORMAT`].

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{Origin, RollupDef, RollupId, TableDef, TableId};
use crate::limits::{FIELDS_MAX, NOTE_BYTES_MAX};
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::time::Granularity;

/// Format number of log entries and checkpoints. Newer is refused, older is opened.
pub const FORMAT: u32 = 1;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Raw rows of a table.
    Raw(TableId),
    /// Partial states of a rollup. At level 0 the granularity is the rollup's finest and the file counts
    /// for every granularity; from level 1 on it counts for its own alone.
    Rollup {
        /// The rollup.
        id: RollupId,
        /// Granularity of the buckets in the file.
        granularity: Granularity,
    },
    /// Rejected records of all tables.
    Rejected,
}

/// A typed bound of a column's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatValue {
    /// boolean
    Bool(bool),
    /// all integers, dates (days) and timestamps (microseconds)
    Int(i64),
    /// numeric: unscaled value as text
    Decimal(String),
    /// real and double precision; never NaN
    #[serde(with = "float")]
    Float(f64),
    /// text-like; a maximum that was cut is rounded up
    Text(String),
}

/// Bounds and null count of one column of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnStats {
    /// Column name.
    pub name: String,
    /// Least non-null value, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<StatValue>,
    /// Greatest non-null value, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<StatValue>,
    /// Whether min and max are exact values rather than bounds.
    #[serde(default)]
    pub exact: bool,
    /// Nulls.
    pub nulls: u64,
}

/// One immutable Parquet file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the dataset's root; its name is a UUIDv7.
    pub path: String,
    /// What it holds.
    pub target: Target,
    /// Size in bytes.
    pub bytes: u64,
    /// Size of the Parquet footer in bytes, magic and length included.
    pub footer_bytes: u32,
    /// Rows.
    pub rows: u64,
    /// Schema id of the table (or rollup) under which it was written.
    pub schema_id: u32,
    /// 0 = written by a flush.
    pub level: u8,
    /// Names of the columns it is sorted by, ascending, nulls first.
    pub sorted_by: Vec<String>,
    /// Least and greatest event time (or bucket), microseconds, both inclusive; none if empty.
    pub time: Option<(i64, i64)>,
    /// Offsets whose rows it may hold (a raw piece split by day shares its ranges with its siblings).
    pub ranges: Vec<OffsetRange>,
    /// Per column bounds.
    pub columns: Vec<ColumnStats>,
    /// Commit time of the rows, microseconds.
    pub created_at_us: i64,
    /// Number of the commit that added it. None in an entry, which cannot know its number before it has
    /// it, and for files out of checkpoints that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
}

/// Why a file leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoveReason {
    /// Replaced by a compacted one in the same commit.
    Compaction,
    /// Past its retention.
    Retention,
    /// Rewritten: replay, erasure, reingest.
    Rewrite,
    /// Its table or rollup was dropped.
    Drop,
}

/// An undeclared or retyped field seen in the records of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSeen {
    /// Dotted path from the record's root.
    pub path: String,
    /// JSON type: `string`, `number`, `boolean`, `object`, `array`, `null`.
    pub json_type: String,
    /// Times seen (in this commit; summed up in the manifest).
    pub count: u64,
    /// Where first seen.
    pub first: (TopicPartition, i64),
}

impl FieldSeen {
    /// Adds fields to a list that has each path and JSON type once; it grows to at most [`FIELDS_MAX`].
    pub(crate) fn add_all<'a>(list: &mut Vec<Self>, fields: impl IntoIterator<Item = &'a Self>) {
        for new in fields {
            let same = |old: &&mut Self| old.path == new.path && old.json_type == new.json_type;
            if let Some(old) = list.iter_mut().find(same) {
                old.count = old.count.saturating_add(new.count);
            } else if list.len() < FIELDS_MAX {
                list.push(new.clone());
            }
        }
    }
}

/// One step of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Op {
    /// A member takes a partition; `epoch` is the old epoch + 1.
    Claim {
        /// The partition.
        tp: TopicPartition,
        /// New epoch.
        epoch: u64,
        /// Who.
        member: String,
    },
    /// Sets the first position of a table in a partition; refused if it has one.
    Start {
        /// The table.
        table: TableId,
        /// The partition.
        tp: TopicPartition,
        /// Claim epoch under which this is said.
        epoch: u64,
        /// The position.
        offset: i64,
        /// Identity of the log.
        identity: LogIdentity,
    },
    /// Moves a table's position; refused unless it is `from` and the claim epoch is current.
    Advance {
        /// The table.
        table: TableId,
        /// The partition.
        tp: TopicPartition,
        /// Claim epoch.
        epoch: u64,
        /// Old position.
        from: i64,
        /// New position.
        to: i64,
        /// How the records between ended.
        counts: ReadCounts,
        /// Identity of the log at `to`.
        identity: LogIdentity,
    },
    /// An operator's jump over a gap (or back): sets the position whatever it was.
    Reset {
        /// The table.
        table: TableId,
        /// The partition.
        tp: TopicPartition,
        /// New position.
        to: i64,
        /// Identity of the log from now on.
        identity: LogIdentity,
        /// What the operator said, or the configured policy.
        reason: String,
    },
    /// A file joins. Refused if it was named before the sweep horizon.
    AddFile {
        /// The file.
        file: FileEntry,
    },
    /// A live file leaves; refused if it is not live.
    RemoveFile {
        /// Its path.
        path: String,
        /// Its target.
        target: Target,
        /// Why.
        reason: RemoveReason,
    },
    /// Adds to the undeclared fields of a table.
    Fields {
        /// The table.
        table: TableId,
        /// What was seen.
        fields: Vec<FieldSeen>,
    },
    /// Declares or changes a table. A new id creates it; the schema id grows when columns change.
    PutTable {
        /// The table.
        table: TableId,
        /// Schema id.
        schema_id: u32,
        /// Definition, its rollups included.
        def: Box<TableDef>,
    },
    /// Takes a table out of sight (missing in the file) or brings it back.
    AttachTable {
        /// The table.
        table: TableId,
        /// Whether it is served.
        attached: bool,
    },
    /// Forgets a table; its files must leave in the same commit.
    DropTable {
        /// The table.
        table: TableId,
    },
    /// Declares a rollup of a table. Covers offsets from the table's positions at this commit on.
    PutRollup {
        /// The rollup.
        rollup: RollupId,
        /// Its table.
        table: TableId,
        /// Definition.
        def: RollupDef,
        /// Offsets covered besides those from here on (backfill adds to it).
        coverage: Vec<OffsetRange>,
    },
    /// Adds covered offsets to a rollup (backfill).
    Cover {
        /// The rollup.
        rollup: RollupId,
        /// Newly covered.
        ranges: Vec<OffsetRange>,
    },
    /// Forgets a rollup; its files must leave in the same commit.
    DropRollup {
        /// The rollup.
        rollup: RollupId,
    },
    /// Raw rows with an event time before this are no longer part of the table. Only grows.
    Horizon {
        /// The table.
        table: TableId,
        /// Start of a UTC day, microseconds.
        before_us: i64,
    },
    /// Buckets before this are no longer part of a granularity of a rollup. Only grows.
    RollupHorizon {
        /// The rollup.
        rollup: RollupId,
        /// The granularity.
        granularity: Granularity,
        /// Start of a UTC day, microseconds.
        before_us: i64,
    },
    /// From now on no file named (UUIDv7) before this moment may join.
    Sweep {
        /// Milliseconds since the epoch.
        before_ms: i64,
    },
    /// Takes or renews the lease of the maintainer; refused while another's is unexpired.
    Lease {
        /// Who.
        member: String,
        /// Until when, microseconds.
        until_us: i64,
        /// The committer's clock, microseconds.
        now_us: i64,
    },
}

/// Who changed a definition, and by what words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// By what it was changed.
    pub origin: Origin,
    /// The user whose statement it was; empty if it was the configuration file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The table, with its schema.
    pub object: String,
    /// The statement, or what the configuration file changed; at most
    /// [`NOTE_BYTES_MAX`].
    pub statement: String,
}

impl Note {
    /// A note whose statement is cut to what is kept.
    pub fn new(origin: Origin, user: &str, object: String, statement: &str) -> Self {
        let mut end = statement.len().min(NOTE_BYTES_MAX);
        while !statement.is_char_boundary(end) {
            end -= 1;
        }
        let statement = statement.get(..end).unwrap_or_default().to_string();
        Self { origin, user: user.to_string(), object, statement }
    }
}

/// One commit: an object named by its 20-digit number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// See [`FORMAT`].
    pub format: u32,
    /// Its number; consecutive from 1.
    pub number: u64,
    /// Tells our own commit from another's after a lost acknowledgement.
    pub commit_id: Uuid,
    /// Who wrote it.
    pub member: String,
    /// When, microseconds.
    pub at_us: i64,
    /// What it does, in order.
    pub ops: Vec<Op>,
    /// Who changed which definitions by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// JSON has no infinities: they travel as text.
mod float {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() { x.serialize(s) } else { s.collect_str(x) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        match Number::deserialize(d)? {
            Number::Finite(x) => Ok(x),
            Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}
