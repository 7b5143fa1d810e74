//! What a rollup holds of its table: every row since it was declared, and of before what was filled in from raw
//! rows, by partition and offset. Pure functions of the manifest, for queries, backfill, audits and people.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};

use crate::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, Source, TOPIC_COLUMN};
use crate::compiled::CompiledTable;
use crate::error::{Error, Result};
use crate::limits::RESETS_MAX;
use crate::log::manifest::{Past, Reset, RollupState, TableState};
use crate::position::{OffsetRange, TopicPartition};

/// How far a rollup has come, in offsets of its table that were read and committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Offsets read.
    pub total: u64,
    /// Those whose rows it holds; none if that cannot be told.
    pub covered: Option<u64>,
}

impl Progress {
    /// Whether rows of before it was declared are still to be filled in; none if that cannot be told.
    pub fn is_filling(&self) -> Option<bool> {
        self.covered.map(|covered| covered < self.total)
    }

    /// Part of the offsets whose rows it holds, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "for people; 2^53 is far")]
    pub fn fraction(&self) -> Option<f64> {
        let part =
            |covered: u64| if self.total == 0 { 1.0 } else { covered as f64 / self.total as f64 };
        self.covered.map(part)
    }
}

impl RollupState {
    /// The offsets that `table` has read and whose rows the rollup does not hold. None if that cannot be told:
    /// a position went back to before the rollup, so that an offset means several records, of which it holds
    /// some.
    pub fn uncovered(&self, table: &TableState) -> Option<Vec<OffsetRange>> {
        let mut missing = Vec::new();
        for (tp, position) in &table.positions {
            let since = *self.since.get(tp)?;
            let before = OffsetRange { tp: tp.clone(), from: position.start, to: since };
            let own = before.without(&self.coverage);
            if !own.is_empty() && table.past.went_back(tp, since) {
                return None;
            }
            missing.extend(own);
        }
        Some(missing)
    }

    /// How far it has come.
    pub fn progress(&self, table: &TableState) -> Progress {
        let read = |(start, end): (i64, i64)| if start < end { end.abs_diff(start) } else { 0 };
        let total = table.positions.values().map(|p| read((p.start, p.offset))).sum();
        let missing = self.uncovered(table);
        let missing = missing.map(|ranges| ranges.iter().map(OffsetRange::width).sum::<u64>());
        Progress { total, covered: missing.map(|missing| total.saturating_sub(missing)) }
    }

    /// What it covers, joined: since it was declared without end, and what was filled in.
    pub(crate) fn covered(&self) -> Vec<OffsetRange> {
        let onwards = |(tp, from): (&TopicPartition, &i64)| OffsetRange {
            tp: tp.clone(),
            from: *from,
            to: i64::MAX,
        };
        let all = self.since.iter().map(onwards).chain(self.coverage.iter().cloned());
        OffsetRange::joined(all.collect())
    }
}

impl Past {
    /// Whether reading went back to `offset` or before, as far as is remembered.
    fn went_back(&self, tp: &TopicPartition, offset: i64) -> bool {
        let back = |r: &Reset| r.read.tp == *tp && r.to < r.read.to && r.to <= offset;
        self.resets.len() >= RESETS_MAX || self.resets.iter().any(back)
    }
}

/// The rows of a batch whose offsets one of the joined ranges holds.
pub(crate) fn keep_within(
    table: &CompiledTable,
    batch: &RecordBatch,
    ranges: &[OffsetRange],
) -> Result<RecordBatch> {
    let mut keep = Vec::with_capacity(batch.num_rows());
    each_offset(table, batch, &mut |tp, offset| keep.push(contains(ranges, tp, offset)))?;
    Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
}

/// Whether one of the joined ranges holds the offset.
pub(crate) fn contains(ranges: &[OffsetRange], tp: &TopicPartition, offset: i64) -> bool {
    let after = ranges.partition_point(|r| (&r.tp, r.from) <= (tp, offset));
    let before = after.checked_sub(1).and_then(|i| ranges.get(i));
    before.is_some_and(|r| r.tp == *tp && offset < r.to)
}

/// Partition and offset of every row, in the order of the batch.
pub(crate) fn each_offset(
    table: &CompiledTable,
    batch: &RecordBatch,
    hear: &mut dyn FnMut(&TopicPartition, i64),
) -> Result<()> {
    let missing = |name: &str| Error::corrupt(format!("raw file without column {name:?}"));
    let partitions = batch
        .column_by_name(PARTITION_COLUMN)
        .and_then(|c| c.as_primitive_opt::<Int32Type>())
        .ok_or_else(|| missing(PARTITION_COLUMN))?;
    let offsets = batch
        .column_by_name(OFFSET_COLUMN)
        .and_then(|c| c.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| missing(OFFSET_COLUMN))?;
    let topics = batch.column_by_name(TOPIC_COLUMN).and_then(|c| c.as_string_view_opt());
    let only: Arc<str> = match &table.def.source {
        Source::Topics(topics) => topics.first().map_or("", String::as_str).into(),
        Source::File(path) => path.as_str().into(),
        Source::Pattern(_) => "".into(),
    };
    let mut tp = TopicPartition::new(only, -1);
    for row in 0..batch.num_rows() {
        if let Some(topic) = topics.map(|t| t.value(row)).filter(|t| *t != &*tp.topic) {
            tp.topic = topic.into();
        }
        tp.partition = partitions.value(row);
        hear(&tp, offsets.value(row));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64) -> OffsetRange {
        OffsetRange { tp: TopicPartition::new("t", 0), from, to }
    }

    #[test]
    fn what_is_covered_is_taken_out() {
        let check = |covered: &[(i64, i64)], left: &[(i64, i64)]| {
            let covered: Vec<_> = covered.iter().map(|(a, b)| range(*a, *b)).collect();
            let found: Vec<_> =
                range(10, 20).without(&covered).iter().map(|r| (r.from, r.to)).collect();
            assert_eq!(found, left, "{covered:?}");
        };
        check(&[], &[(10, 20)]);
        check(&[(0, 10), (20, 30)], &[(10, 20)]);
        check(&[(5, 12), (18, 40)], &[(12, 18)]);
        check(&[(14, 15), (12, 13)], &[(10, 12), (13, 14), (15, 20)]);
        check(&[(10, 20)], &[]);
        assert_eq!((range(3, 3).width(), range(4, 3).width(), range(3, 5).width()), (0, 0, 2));
        assert!(range(3, 3).without(&[]).is_empty());
    }
}
