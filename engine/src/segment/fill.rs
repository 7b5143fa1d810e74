//! Filling a rollup with rows of before it was declared: raw segments in, segments of partial states out, at all
//! granularities in one pass in the order of time, as compaction would have written them.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use futures::{StreamExt, TryStreamExt};

use super::fold::{Buckets, Fold};
use super::read::{Within, stream_some};
use super::{MergeOptions, WrittenFile, select_fields};
use crate::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, TOPIC_COLUMN};
use crate::compiled::CompiledTable;
use crate::coverage::keep_within;
use crate::error::{Error, Result};
use crate::log::op::FileEntry;
use crate::order::{BatchStream, merge_sorted, sort_batches};
use crate::position::OffsetRange;
use crate::rollup::{Aggregation, RollupPlan};
use crate::store::Storage;
use crate::time::Granularity;

/// Which rows are taken, and how the results are written.
pub(crate) struct Filling<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) table: &'a Arc<CompiledTable>,
    pub(crate) plan: &'a RollupPlan,
    /// Only rows of these offsets, joined.
    pub(crate) ranges: &'a [OffsetRange],
    /// Only rows with an event time of at least this.
    pub(crate) from_us: Option<i64>,
    /// Granularities, the finest first, and how each is written.
    pub(crate) targets: &'a [(Granularity, MergeOptions)],
    /// Where.
    pub(crate) dir: &'a str,
    pub(crate) now_ms: i64,
}

/// A pass over some raw segments. Memory holds a few batches of each segment and the keys of one bucket.
pub(crate) struct Fill<'a> {
    table: &'a CompiledTable,
    rows: BatchStream,
    finest: Buckets<'a>,
    fold: Fold<'a>,
    taken: u64,
}

impl<'a> Fill<'a> {
    pub(crate) async fn start(filling: &Filling<'a>, files: &[Arc<FileEntry>]) -> Result<Self> {
        let Filling { storage, table, plan, targets, dir, now_ms, .. } = *filling;
        let Some((finest, _)) = targets.first() else {
            return Err(Error::internal("a rollup without granularity cannot be filled"));
        };
        Ok(Self {
            table,
            rows: filling.rows(files).await?,
            finest: Buckets::new(plan.start(*finest)?, *finest),
            fold: Fold::new(storage, plan, targets, dir, now_ms)?,
            taken: 0,
        })
    }

    /// Takes some rows; false when there are no more.
    pub(crate) async fn advance(&mut self) -> Result<bool> {
        let Some(batch) = self.rows.next().await else { return Ok(false) };
        let batch = widened(&self.table.stored, &batch?)?;
        self.taken += batch.num_rows() as u64;
        let time = &self.table.def.time;
        for states in self.finest.push(&batch, time, Aggregation::push_raw)? {
            self.fold.push(states).await?;
        }
        Ok(true)
    }

    /// Rows taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The files of each granularity, in the targets' order. No rows, no file.
    pub(crate) async fn finish(mut self) -> Result<Vec<Vec<WrittenFile>>> {
        let rest = self.finest.rest()?;
        self.fold.push(rest).await?;
        self.fold.finish().await
    }
}

impl Filling<'_> {
    /// The wanted rows of the files in the order of time, with the columns that are needed.
    async fn rows(&self, files: &[Arc<FileEntry>]) -> Result<BatchStream> {
        let schema = &self.table.stored;
        let time = self.table.def.time.as_str();
        let mut names = self.plan.raw_columns();
        names.extend([TOPIC_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN].map(str::to_string));
        let required = schema.fields().iter().filter(|f| !f.is_nullable());
        names.extend(required.map(|f| f.name().clone()));
        names.retain(|name| schema.index_of(name).is_ok());
        let narrow = select_fields(schema, Some(&names))?;
        let within = Within {
            column: OFFSET_COLUMN,
            least: self.ranges.iter().map(|r| r.from).min().unwrap_or(0),
            greatest: self.ranges.iter().map(|r| r.to).max().unwrap_or(i64::MAX),
        };
        let mut streams = Vec::with_capacity(files.len());
        for file in files {
            let stream =
                stream_some(self.storage, file, schema, Some(&names), Some(within)).await?;
            let wanted = Wanted {
                table: Arc::clone(self.table),
                ranges: self.ranges.to_vec(),
                from_us: self.from_us,
            };
            let kept = stream.map(move |batch| batch.and_then(|b| wanted.of(&b)));
            let kept = kept.try_filter(|batch| std::future::ready(batch.num_rows() > 0));
            streams.push(match file.sorted_by.first().is_some_and(|first| first == time) {
                true => kept.boxed(),
                false => {
                    let batches: Vec<_> = kept.try_collect().await?;
                    let sorted = sort_batches(&narrow, &batches, &[time])?;
                    futures::stream::iter([Ok(sorted)]).boxed()
                }
            });
        }
        merge_sorted(&narrow, streams, &[time])
    }
}

struct Wanted {
    table: Arc<CompiledTable>,
    ranges: Vec<OffsetRange>,
    from_us: Option<i64>,
}

impl Wanted {
    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = keep_within(&self.table, batch, &self.ranges)?;
        let Some(from_us) = self.from_us else { return Ok(batch) };
        let times = batch
            .column_by_name(&self.table.def.time)
            .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or_else(|| Error::corrupt("raw file without event times"))?;
        let keep: BooleanArray = times.values().iter().map(|t| Some(*t >= from_us)).collect();
        Ok(filter_record_batch(&batch, &keep)?)
    }
}

/// The batch under the schema that expressions are bound to; columns that nobody asked for are null.
fn widened(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let known = batch.column_by_name(field.name()).cloned();
        known.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}
