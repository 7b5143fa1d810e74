//! Compaction: many sorted segments merged into few, a few batches of each at a time.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use futures::StreamExt;

use super::{SegmentOptions, SegmentWriter, WrittenFile, read_segment, stream_segment};
use crate::error::{Error, Result};
use crate::log::op::FileEntry;
use crate::order::{BatchStream, merge_sorted, sort_batches};
use crate::store::Storage;
use crate::time::DAY_US;

/// Rows below which a day's piece does not get a file of its own.
const DAY_ROWS_MIN: u64 = 64 * 1024;
/// How segments are merged.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// How the results are written; `sorted_by` is the order merged by.
    pub segment: SegmentOptions,
    /// Whether a new UTC day starts a new file if the current one is worth it.
    pub split_days: bool,
    /// Bytes, about, at which a new file is started; 0 = no bound.
    pub file_bytes_max: u64,
    /// Rows with an earlier time are left out.
    pub from_us: Option<i64>,
}

/// Merges raw segments; those not sorted by the wanted keys are sorted in memory first. No rows, no file.
pub async fn merge_sorted_segments(
    storage: &Storage,
    files: &[Arc<FileEntry>],
    schema: &SchemaRef,
    dir: &str,
    now_ms: i64,
    options: &MergeOptions,
) -> Result<Vec<WrittenFile>> {
    let keys: Vec<&str> = options.segment.sorted_by.iter().map(String::as_str).collect();
    let mut merged = merged_stream(storage, files, schema, &keys).await?;
    let mut output = Output::new(Place { storage, dir, now_ms, schema, options });
    while let Some(batch) = merged.next().await {
        output.write(batch?).await?;
    }
    output.finish().await
}

/// All rows of the files in one order.
pub(super) async fn merged_stream(
    storage: &Storage,
    files: &[Arc<FileEntry>],
    schema: &SchemaRef,
    keys: &[&str],
) -> Result<BatchStream> {
    let mut streams = Vec::with_capacity(files.len());
    for file in files {
        let sorted = file.sorted_by.iter().map(String::as_str).take(keys.len());
        if sorted.eq(keys.iter().copied()) {
            streams.push(stream_segment(storage, file, schema, None).await?);
        } else {
            let batches = read_segment(storage, file, schema, None).await?;
            let all = sort_batches(schema, &batches, keys)?;
            streams.push(futures::stream::iter([Ok(all)]).boxed());
        }
    }
    merge_sorted(schema, streams, keys)
}

/// The times in a column of a merged batch.
pub(super) fn times<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a [i64]> {
    batch
        .column_by_name(column)
        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        .map(|c| c.values().as_ref())
        .ok_or_else(|| Error::internal(format!("no times in column {column:?}")))
}

/// Where and how files are written.
pub(super) struct Place<'a> {
    pub(super) storage: &'a Storage,
    pub(super) dir: &'a str,
    pub(super) now_ms: i64,
    pub(super) schema: &'a SchemaRef,
    pub(super) options: &'a MergeOptions,
}

/// The files that a merge writes, one after the other.
pub(super) struct Output<'a> {
    place: Place<'a>,
    current: Option<SegmentWriter>,
    day: i64,
    written: Vec<WrittenFile>,
}

impl<'a> Output<'a> {
    pub(super) fn new(place: Place<'a>) -> Self {
        Self { place, current: None, day: i64::MIN, written: Vec::new() }
    }

    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let options = self.place.options;
        let time_column = &options.segment.time_column;
        let mut rest = match options.from_us {
            Some(from) => keep_from(batch, time_column, from)?,
            None => batch,
        };
        while rest.num_rows() > 0 {
            let mut length = rest.num_rows();
            if options.split_days {
                let times = times(&rest, time_column)?;
                let day = times[0].div_euclid(DAY_US);
                length = times.partition_point(|t| t.div_euclid(DAY_US) <= day);
                self.start_day(day).await?;
            }
            self.write_piece(&rest.slice(0, length)).await?;
            rest = rest.slice(length, rest.num_rows() - length);
        }
        Ok(())
    }

    async fn start_day(&mut self, day: i64) -> Result<()> {
        let new_day = day != std::mem::replace(&mut self.day, day);
        let worth_it = self.current.as_ref().is_some_and(|w| w.rows() >= DAY_ROWS_MIN);
        if new_day && worth_it {
            self.close().await?;
        }
        Ok(())
    }

    async fn write_piece(&mut self, piece: &RecordBatch) -> Result<()> {
        let place = &self.place;
        let writer = match &mut self.current {
            Some(writer) => writer,
            none => none.insert(SegmentWriter::create(
                place.storage,
                place.dir,
                place.now_ms,
                place.schema,
                &place.options.segment,
            )?),
        };
        writer.write(piece).await?;
        let full = self.place.options.file_bytes_max;
        if full > 0 && writer.bytes() >= full {
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            self.written.push(writer.finish().await?);
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.close().await?;
        Ok(self.written)
    }
}

/// The rows whose time is not before `from`.
fn keep_from(batch: RecordBatch, column: &str, from: i64) -> Result<RecordBatch> {
    let times = times(&batch, column)?;
    if times.iter().all(|t| *t >= from) {
        return Ok(batch);
    }
    let keep: BooleanArray = times.iter().map(|t| Some(*t >= from)).collect();
    Ok(filter_record_batch(&batch, &keep)?)
}
