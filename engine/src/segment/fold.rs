//! Compaction of rollups: partial states of many segments folded to one row per key, at several granularities
//! in one pass. The finest reads the files; each coarser one takes what the next finer one gives.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;

use super::WrittenFile;
use super::merge::{MergeOptions, Output, Place, merged_stream, times};
use crate::catalog::BUCKET_COLUMN;
use crate::error::Result;
use crate::log::op::FileEntry;
use crate::rollup::{Aggregation, RollupPlan};
use crate::store::Storage;
use crate::time::Granularity;

/// Keys at which partial states go out, once their bucket is complete.
const FOLD_ROWS: usize = 16 * 1024;

/// Merges segments of partial states to `granularity`, which is theirs or coarser. Memory holds the keys of
/// one bucket. No rows, no file.
pub async fn merge_rollup_segments(
    storage: &Storage,
    files: &[Arc<FileEntry>],
    plan: &RollupPlan,
    granularity: Granularity,
    dir: &str,
    now_ms: i64,
    options: &MergeOptions,
) -> Result<Vec<WrittenFile>> {
    let targets = [(granularity, options.clone())];
    let mut written = fold_rollup_segments(storage, files, plan, &targets, dir, now_ms).await?;
    Ok(written.pop().unwrap_or_default())
}

/// As [`merge_rollup_segments`], for several granularities at once, which all stand for the same files. The
/// answer has the files of each target, in the targets' order.
pub async fn fold_rollup_segments(
    storage: &Storage,
    files: &[Arc<FileEntry>],
    plan: &RollupPlan,
    targets: &[(Granularity, MergeOptions)],
    dir: &str,
    now_ms: i64,
) -> Result<Vec<Vec<WrittenFile>>> {
    let mut fold = Fold::new(storage, plan, targets, dir, now_ms)?;
    let mut merged = merged_stream(storage, files, plan.schema(), &[BUCKET_COLUMN]).await?;
    while let Some(batch) = merged.next().await {
        fold.push(batch?).await?;
    }
    fold.finish().await
}

/// Several granularities of a rollup on their way to files.
pub(super) struct Fold<'a> {
    stages: Vec<Stage<'a>>,
    /// See [`sources`].
    sources: Vec<Option<usize>>,
    fine_to_coarse: Vec<usize>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(
        storage: &'a Storage,
        plan: &'a RollupPlan,
        targets: &'a [(Granularity, MergeOptions)],
        dir: &'a str,
        now_ms: i64,
    ) -> Result<Self> {
        let mut stages = Vec::with_capacity(targets.len());
        for (granularity, options) in targets {
            let place = Place { storage, dir, now_ms, schema: plan.schema(), options };
            let buckets = Buckets::new(plan.start(*granularity)?, *granularity);
            stages.push(Stage { buckets, output: Output::new(place) });
        }
        Ok(Self { stages, sources: sources(targets), fine_to_coarse: fine_to_coarse(targets) })
    }

    /// Takes partial states in the order of their buckets.
    pub(super) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        pass_on(&mut self.stages, &self.sources, None, batch).await
    }

    /// The files of each target, in the targets' order.
    pub(super) async fn finish(mut self) -> Result<Vec<Vec<WrittenFile>>> {
        for index in self.fine_to_coarse {
            let rest = self.stages[index].buckets.rest()?;
            pass_on(&mut self.stages, &self.sources, Some(index), rest.clone()).await?;
            self.stages[index].output.write(rest).await?;
        }
        let mut written = Vec::with_capacity(self.stages.len());
        for stage in self.stages {
            written.push(stage.output.finish().await?);
        }
        Ok(written)
    }
}

/// Targets from fine to coarse.
fn fine_to_coarse(targets: &[(Granularity, MergeOptions)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_key(|index| targets[*index].0);
    order
}

/// Where each target takes its states from: the coarsest finer target whose buckets make up its own; none
/// for the files themselves.
fn sources(targets: &[(Granularity, MergeOptions)]) -> Vec<Option<usize>> {
    let source = |coarse: Granularity| {
        let finer = |index: &usize| targets[*index].0 < coarse && targets[*index].0.divides(coarse);
        (0..targets.len()).filter(finer).max_by_key(|index| targets[*index].0)
    };
    targets.iter().map(|(granularity, _)| source(*granularity)).collect()
}

/// Gives a batch to all that take from `from`, and what completes thereby to those that take from them.
async fn pass_on(
    stages: &mut [Stage<'_>],
    sources: &[Option<usize>],
    from: Option<usize>,
    batch: RecordBatch,
) -> Result<()> {
    let mut waiting = VecDeque::from([(from, batch)]);
    while let Some((from, batch)) = waiting.pop_front() {
        for (index, stage) in stages.iter_mut().enumerate() {
            if sources[index] != from {
                continue;
            }
            for complete in stage.buckets.push(&batch, BUCKET_COLUMN, Aggregation::push_states)? {
                waiting.push_back((Some(index), complete.clone()));
                stage.output.write(complete).await?;
            }
        }
    }
    Ok(())
}

/// One granularity on its way to files.
struct Stage<'a> {
    buckets: Buckets<'a>,
    output: Output<'a>,
}

/// States of one granularity that are being made of rows in the order of their times.
pub(super) struct Buckets<'a> {
    granularity: Granularity,
    aggregation: Aggregation<'a>,
    /// The bucket of the last row.
    bucket: i64,
}

impl<'a> Buckets<'a> {
    pub(super) fn new(aggregation: Aggregation<'a>, granularity: Granularity) -> Self {
        Self { granularity, aggregation, bucket: i64::MIN }
    }

    /// Takes rows in the order of the times in `column`, by `add`; gives states whose buckets are complete.
    pub(super) fn push(
        &mut self,
        batch: &RecordBatch,
        column: &str,
        add: fn(&mut Aggregation<'a>, &RecordBatch) -> Result<()>,
    ) -> Result<Vec<RecordBatch>> {
        let mut complete = Vec::new();
        let mut from = 0;
        for (row, time) in times(batch, column)?.iter().enumerate() {
            let bucket = self.granularity.floor_us(*time);
            if bucket == self.bucket {
                continue;
            }
            self.bucket = bucket;
            if self.aggregation.len() >= FOLD_ROWS {
                add(&mut self.aggregation, &batch.slice(from, row - from))?;
                from = row;
                complete.push(self.aggregation.take_states()?);
            }
        }
        add(&mut self.aggregation, &batch.slice(from, batch.num_rows() - from))?;
        Ok(complete)
    }

    /// What is not complete yet.
    pub(super) fn rest(&mut self) -> Result<RecordBatch> {
        self.aggregation.take_states()
    }
}
