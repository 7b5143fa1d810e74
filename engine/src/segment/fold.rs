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
    let mut stages = Vec::with_capacity(targets.len());
    for (granularity, options) in targets {
        let place = Place { storage, dir, now_ms, schema: plan.schema(), options };
        stages.push(Stage {
            granularity: *granularity,
            aggregation: plan.start(*granularity)?,
            bucket: i64::MIN,
            output: Output::new(place),
        });
    }
    let sources = sources(targets);
    let mut merged = merged_stream(storage, files, plan.schema(), &[BUCKET_COLUMN]).await?;
    while let Some(batch) = merged.next().await {
        pass_on(&mut stages, &sources, None, batch?).await?;
    }
    for index in fine_to_coarse(targets) {
        let rest = stages[index].aggregation.take_states()?;
        pass_on(&mut stages, &sources, Some(index), rest.clone()).await?;
        stages[index].output.write(rest).await?;
    }
    let mut written = Vec::with_capacity(stages.len());
    for stage in stages {
        written.push(stage.output.finish().await?);
    }
    Ok(written)
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
            for complete in stage.push(&batch)? {
                waiting.push_back((Some(index), complete.clone()));
                stage.output.write(complete).await?;
            }
        }
    }
    Ok(())
}

/// One granularity on its way to files.
struct Stage<'a> {
    granularity: Granularity,
    aggregation: Aggregation<'a>,
    /// The bucket of the last row.
    bucket: i64,
    output: Output<'a>,
}

impl Stage<'_> {
    /// Takes rows in the order of their buckets; gives states whose buckets are complete.
    fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let mut complete = Vec::new();
        let mut from = 0;
        for (row, time) in times(batch, BUCKET_COLUMN)?.iter().enumerate() {
            let bucket = self.granularity.floor_us(*time);
            if bucket == self.bucket {
                continue;
            }
            self.bucket = bucket;
            if self.aggregation.len() >= FOLD_ROWS {
                self.aggregation.push_states(&batch.slice(from, row - from))?;
                from = row;
                complete.push(self.aggregation.take_states()?);
            }
        }
        self.aggregation.push_states(&batch.slice(from, batch.num_rows() - from))?;
        Ok(complete)
    }
}
