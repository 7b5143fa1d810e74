//! Compaction: many sorted segments merged into few, a few batches of each at a time. Raw rows keep their
//! order; partial states are folded to one row per key on the way.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use futures::StreamExt;

use super::{SegmentOptions, SegmentWriter, WrittenFile, read_segment, stream_segment};
use crate::error::{Error, Result};
use crate::log::op::FileEntry;
use crate::order::{BatchStream, merge_sorted, sort_batches};
use crate::rollup::RollupPlan;
use crate::store::Storage;
use crate::time::{DAY_US, Granularity};

/// Rows below which a day's piece does not get a file of its own.
const DAY_ROWS_MIN: u64 = 64 * 1024;
/// Rows at which partial states go out, once a bucket is complete.
const FOLD_ROWS: usize = 16 * 1024;

/// Merges raw segments into one sorted as the options say; those that are not sorted so are sorted in memory
/// first. With `split_days` a new UTC day starts a new file if the current one is worth it.
pub async fn merge_segments(
    storage: &Storage,
    dir: &str,
    now_ms: i64,
    files: &[Arc<FileEntry>],
    schema: &SchemaRef,
    options: &SegmentOptions,
    split_days: bool,
) -> Result<Vec<WrittenFile>> {
    let keys: Vec<&str> = options.sorted_by.iter().map(String::as_str).collect();
    let mut merged = merged_stream(storage, files, schema, &keys).await?;
    let place = Place { storage, dir, now_ms, schema, options };
    let mut output =
        Output { place, split_days, current: None, day: i64::MIN, written: Vec::new() };
    while let Some(batch) = merged.next().await {
        output.write(batch?).await?;
    }
    output.finish().await
}

/// Merges segments of partial states into one of `granularity`, which is theirs or coarser; none if there
/// are no rows. Memory holds the keys of one bucket.
pub async fn merge_states(
    storage: &Storage,
    dir: &str,
    now_ms: i64,
    files: &[Arc<FileEntry>],
    plan: &RollupPlan,
    granularity: Granularity,
    options: &SegmentOptions,
) -> Result<Option<WrittenFile>> {
    let sort_keys = plan.sort_keys();
    let bucket = &sort_keys[..1];
    let mut merged = merged_stream(storage, files, plan.schema(), bucket).await?;
    let place = Place { storage, dir, now_ms, schema: plan.schema(), options };
    let mut writer = place.create()?;
    let mut aggregation = plan.start(granularity)?;
    let mut current = i64::MIN;
    while let Some(batch) = merged.next().await {
        let batch = batch?;
        let mut from = 0;
        for (row, time) in times(&batch, bucket[0])?.iter().enumerate() {
            let start = granularity.floor_us(*time);
            if start == current {
                continue;
            }
            current = start;
            if aggregation.len() >= FOLD_ROWS {
                // All keys so far lie in earlier buckets: their order is final.
                aggregation.push_states(&batch.slice(from, row - from))?;
                from = row;
                writer.write(&aggregation.take_states()?).await?;
            }
        }
        aggregation.push_states(&batch.slice(from, batch.num_rows() - from))?;
    }
    writer.write(&aggregation.finish()?).await?;
    match writer.rows() {
        0 => Ok(None),
        _ => Ok(Some(writer.finish().await?)),
    }
}

/// All rows of the files in one order.
async fn merged_stream(
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
            streams.push(futures::stream::iter(all.into_iter().map(Ok)).boxed());
        }
    }
    merge_sorted(schema, streams, keys)
}

/// The times in a column of a merged batch.
fn times<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a [i64]> {
    batch
        .column_by_name(column)
        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        .map(|c| c.values().as_ref())
        .ok_or_else(|| Error::internal(format!("no times in column {column:?}")))
}

/// Where and how files are written.
#[derive(Clone, Copy)]
struct Place<'a> {
    storage: &'a Storage,
    dir: &'a str,
    now_ms: i64,
    schema: &'a SchemaRef,
    options: &'a SegmentOptions,
}

impl Place<'_> {
    fn create(&self) -> Result<SegmentWriter> {
        SegmentWriter::create(self.storage, self.dir, self.now_ms, self.schema, self.options)
    }
}

/// The files that a merge writes, one after the other.
struct Output<'a> {
    place: Place<'a>,
    split_days: bool,
    current: Option<SegmentWriter>,
    day: i64,
    written: Vec<WrittenFile>,
}

impl Output<'_> {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if !self.split_days {
            return self.write_piece(&batch).await;
        }
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let times = times(&rest, &self.place.options.time_column)?;
            let day = times[0].div_euclid(DAY_US);
            let length = times.partition_point(|t| t.div_euclid(DAY_US) <= day);
            self.start_day(day).await?;
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
        let writer = match &mut self.current {
            Some(writer) => writer,
            none => none.insert(self.place.create()?),
        };
        writer.write(piece).await
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            self.written.push(writer.finish().await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.close().await?;
        Ok(self.written)
    }
}
