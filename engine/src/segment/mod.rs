//! Segments: immutable Parquet files of raw rows, partial states or rejected records. The one home of the
//! Parquet writer; the query engine reads the same files by its own reader.
//!
//! On disk stand plain types only (no views, dictionaries or unsigned integers, times in UTC
//! microseconds, no Arrow metadata), so that any tool opens them. Text becomes views again on reading.

use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::log::op::{ColumnStats, FileEntry, Target};
use crate::position::OffsetRange;

mod fill;
mod fold;
mod latest;
mod merge;
mod properties;
mod read;
mod stats;
mod write;

pub(crate) use fill::{Fill, Filling};
pub use fold::{fold_rollup_segments, merge_rollup_segments};
pub use latest::{fold_keyed_segments, latest_only};
pub use merge::{MergeOptions, merge_sorted_segments};
pub use read::{read_segment, stream_segment};
pub use write::{SegmentWriter, write_segment};

pub use crate::order::sort_batches;

#[cfg(test)]
mod tests;

/// How a segment is written.
#[derive(Debug, Clone, Default)]
pub struct SegmentOptions {
    /// 0 = by a flush (fast to write), more = by compaction (small to keep).
    pub level: u8,
    /// Columns by which the batches are sorted, ascending, nulls first. The caller vouches for it.
    pub sorted_by: Vec<String>,
    /// Columns that get a bloom filter.
    pub bloom: Vec<String>,
    /// Column whose bounds become the segment's time range.
    pub time_column: String,
}

/// A segment that is durable but not yet part of the dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenFile {
    /// Path below the dataset's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes at the end that a reader fetches first: page indexes, footer, length and magic.
    pub footer_bytes: u32,
    /// Rows.
    pub rows: u64,
    /// Level it was written for.
    pub level: u8,
    /// Columns it is sorted by.
    pub sorted_by: Vec<String>,
    /// Least and greatest time, microseconds, inclusive.
    pub time: Option<(i64, i64)>,
    /// Bounds and null counts.
    pub columns: Vec<ColumnStats>,
}

impl WrittenFile {
    /// The entry that makes it part of the dataset.
    pub fn into_entry(
        self,
        target: Target,
        schema_id: u32,
        ranges: Vec<OffsetRange>,
        created_at_us: i64,
    ) -> FileEntry {
        FileEntry {
            path: self.path,
            target,
            bytes: self.bytes,
            footer_bytes: self.footer_bytes,
            rows: self.rows,
            schema_id,
            level: self.level,
            sorted_by: self.sorted_by,
            time: self.time,
            ranges,
            columns: self.columns,
            created_at_us,
            commit: None,
        }
    }
}

/// A new path in `dir`. Its name tells the time, which the sweep goes by.
fn new_path(dir: &str, now_ms: i64) -> Result<Path> {
    let ms = u64::try_from(now_ms)
        .map_err(|_| Error::internal(format!("a segment cannot be named at {now_ms} ms")))?;
    let nanos = u32::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    let name = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, nanos));
    Ok(Path::from(format!("{dir}/{name}.parquet")))
}

/// A failure of Parquet code: the store's own error if that is what lies behind it.
fn failed(path: &Path, e: parquet::errors::ParquetError) -> Error {
    use parquet::errors::ParquetError;
    let unknown = |e: ParquetError| {
        Error::corrupt(format!("segment {:?} cannot be read or written", path.as_ref()))
            .with_source(e)
    };
    match e {
        ParquetError::External(inner) => match inner.downcast::<object_store::Error>() {
            Ok(store) => Error::from(*store),
            Err(inner) => match inner.downcast::<std::io::Error>() {
                Ok(io) => Error::unavailable(format!("segment {:?} failed", path.as_ref()))
                    .with_source(io),
                Err(inner) => unknown(ParquetError::External(inner)),
            },
        },
        other => unknown(other),
    }
}

/// The fields of `schema` named in `columns`, in the schema's order; all without a list.
fn select_fields(schema: &SchemaRef, columns: Option<&[String]>) -> Result<SchemaRef> {
    let Some(columns) = columns else { return Ok(std::sync::Arc::clone(schema)) };
    if let Some(unknown) = columns.iter().find(|c| schema.index_of(c).is_err()) {
        return Err(Error::internal(format!("no column {unknown:?} to read")));
    }
    let wanted: Vec<usize> = schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, f)| columns.contains(f.name()))
        .map(|(index, _)| index)
        .collect();
    Ok(std::sync::Arc::new(schema.project(&wanted)?))
}
