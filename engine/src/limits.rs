//! Every bound of the engine, with unit and reason.

/// Rows at which the open hot chunk is sealed and its rollup states are computed once.
pub const CHUNK_ROWS: usize = 32 * 1024;
/// Bytes of one table's hot rows at which it is flushed.
pub const FLUSH_TABLE_BYTES: usize = 64 << 20;
/// Bytes of all hot rows at which everything is flushed.
pub const FLUSH_ALL_BYTES: usize = 256 << 20;
/// Age of the oldest hot row at which a table is flushed, microseconds.
pub const FLUSH_AGE_US: i64 = 60 * 1_000_000;
/// Below this many hot rows a table waits for [`FLUSH_AGE_SMALL_US`].
pub const FLUSH_SMALL_ROWS: usize = 10_000;
/// Age at which even a small table is flushed, microseconds.
pub const FLUSH_AGE_SMALL_US: i64 = 10 * 60 * 1_000_000;
/// Largest record of a table that says nothing else, bytes: Kafka's own default for a message.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Level-0 files of a table at which compaction starts.
pub const COMPACT_FILES: usize = 16;
/// Level-0 files of a table at which ingestion waits for compaction.
pub const PAUSE_FILES: usize = 64;
/// Raw rows, about, of one step of filling a rollup: a second or so of work, which a crash may lose.
pub const BACKFILL_ROWS: usize = 1 << 20;
/// Commits between two checkpoints of the log.
pub const CHECKPOINT_EVERY: u64 = 64;
/// Log entries are kept at least this long, microseconds (a slower writer re-opens first).
pub const LOG_RETENTION_US: i64 = 7 * 86_400 * 1_000_000;
/// A writer that has not read the log's tail for this long re-opens first, microseconds.
pub const LOG_STALE_US: i64 = 60 * 60 * 1_000_000;
/// Checkpoints kept: one to open from, others to fall back on.
pub const CHECKPOINTS_KEPT: usize = 3;
/// Times that one commit may lose its number to others before its caller is told.
pub const COMMIT_RACES_MAX: u32 = 1_000;
/// Undeclared fields that are remembered per table; a topic with generated keys has no end of them.
pub const FIELDS_MAX: usize = 1_000;
/// Resets of positions that are remembered per table, for audits.
pub const RESETS_MAX: usize = 1_000;
/// Bytes of a statement that are kept with the change it made.
pub const NOTE_BYTES_MAX: usize = 4 << 10;
/// Changes of definitions that are remembered.
pub const NOTES_MAX: usize = 500;
/// Rows of a Parquet row group.
pub const ROW_GROUP_ROWS: usize = 512 * 1024;
/// Age after which a pinned snapshot is refused, microseconds.
pub const PIN_AGE_MAX_US: i64 = 60 * 60 * 1_000_000;
/// An unreferenced file is deleted only when older than this, microseconds.
pub const COLLECT_GRACE_US: i64 = 2 * 60 * 60 * 1_000_000;
/// Earliest event time accepted: 1970-01-01.
pub const EVENT_TIME_MIN_US: i64 = 0;
/// Latest event time accepted (exclusive): 2200-01-01.
pub const EVENT_TIME_MAX_US: i64 = 7_258_118_400 * 1_000_000;
/// Bytes of one rejected record that are kept; the rest is cut and said.
pub const REJECTED_RECORD_BYTES: usize = 64 << 10;
/// Bytes of all rejected records kept per dataset, on disk.
pub const REJECTED_BYTES: u64 = 1 << 30;
/// Age of rejected records kept, microseconds.
pub const REJECTED_AGE_US: i64 = 30 * 86_400 * 1_000_000;

/// Bytes of memory that all keyed tables may take; past it rows go to disk, and where not even keys have room
/// tables take no more records.
pub const KEYED_BYTES: usize = 2 << 30;
/// Age at which the mark of a deletion in a keyed table goes, microseconds: Kafka's own default of
/// `delete.retention.ms`, after which the topic may have forgotten it too.
pub const KEYED_DELETE_US: i64 = 86_400 * 1_000_000;

/// Free bytes of the disk below which ingestion waits, so that logs, queries and compaction go on.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;

const _: () = assert!(COLLECT_GRACE_US > PIN_AGE_MAX_US);
const _: () = assert!(LOG_RETENTION_US > 24 * LOG_STALE_US);
const _: () = assert!(PAUSE_FILES > COMPACT_FILES);
const _: () = assert!(FLUSH_ALL_BYTES >= FLUSH_TABLE_BYTES);
