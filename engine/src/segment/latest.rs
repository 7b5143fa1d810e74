//! Keyed tables on disk: of each key and partition only the latest row is kept, and deletions only until the
//! log may have forgotten them too. Rows come sorted by key, place and offset, so equal ones stand together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, partition};
use arrow::datatypes::TimestampMicrosecondType;
use futures::StreamExt;

use super::merge::{Output, Place, merged_stream};
use super::{MergeOptions, WrittenFile};
use crate::catalog::{DELETED_COLUMN, OFFSET_COLUMN, TIMESTAMP_COLUMN};
use crate::compiled::CompiledTable;
use crate::error::{Error, Result};
use crate::log::op::FileEntry;
use crate::store::Storage;

/// Of sorted rows of a keyed table, the latest of each key and partition.
pub fn latest_only(table: &CompiledTable, sorted: RecordBatch) -> Result<RecordBatch> {
    Groups::of(table)?.latest(&sorted, None)
}

/// Merges segments of a keyed table into fewer. `purge_us`: deletions with an older timestamp go, unless the
/// key has rows in other partitions; only right if `files` are all of the table.
pub async fn fold_keyed_segments(
    storage: &Storage,
    files: &[Arc<FileEntry>],
    table: &CompiledTable,
    dir: &str,
    now_ms: i64,
    options: &MergeOptions,
    purge_us: Option<i64>,
) -> Result<Vec<WrittenFile>> {
    let groups = Groups::of(table)?;
    let schema = &table.stored;
    let keys: Vec<&str> = options.segment.sorted_by.iter().map(String::as_str).collect();
    let mut merged = merged_stream(storage, files, schema, &keys).await?;
    let mut output = Output::new(Place { storage, dir, now_ms, schema, options });
    // The rows of the last key seen: more of them may follow.
    let mut open: Option<RecordBatch> = None;
    while let Some(batch) = merged.next().await {
        let mut all = batch?;
        if let Some(before) = open.take() {
            all = concat_batches(schema, [&before, &all])?;
        }
        let start = groups.last_key(&all)?;
        output.write(groups.latest(&all.slice(0, start), purge_us)?).await?;
        open = Some(all.slice(start, all.num_rows() - start));
    }
    if let Some(rest) = open {
        output.write(groups.latest(&rest, purge_us)?).await?;
    }
    output.finish().await
}

/// Which columns tell keys and places apart.
struct Groups {
    key: usize,
    place: Vec<usize>,
}

impl Groups {
    fn of(table: &CompiledTable) -> Result<Self> {
        let key = table.key_index();
        let key = key.ok_or_else(|| Error::internal("a table without key has no latest rows"))?;
        let sorted_by = table.raw_options(0).sorted_by;
        let place = sorted_by.iter().filter(|name| *name != OFFSET_COLUMN);
        let place = place.map(|name| Ok(table.stored.index_of(name)?)).collect::<Result<_>>()?;
        Ok(Self { key, place })
    }

    /// Where the rows of the last key begin.
    fn last_key(&self, batch: &RecordBatch) -> Result<usize> {
        let keys = partition(&[Arc::clone(batch.column(self.key))])?;
        Ok(keys.ranges().last().map_or(0, |range| range.start))
    }

    fn latest(&self, batch: &RecordBatch, purge_us: Option<i64>) -> Result<RecordBatch> {
        if batch.num_rows() == 0 {
            return Ok(batch.clone());
        }
        let columns: Vec<ArrayRef> =
            self.place.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let mut keep = vec![false; batch.num_rows()];
        for range in partition(&columns)?.ranges() {
            keep[range.end - 1] = true;
        }
        if let Some(before_us) = purge_us {
            self.purge(batch, before_us, &mut keep)?;
        }
        Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
    }

    fn purge(&self, batch: &RecordBatch, before_us: i64, keep: &mut [bool]) -> Result<()> {
        let missing = || Error::internal("a keyed segment lacks its own columns");
        let deleted = batch.column_by_name(DELETED_COLUMN).and_then(|c| c.as_boolean_opt());
        let deleted = deleted.ok_or_else(missing)?;
        let times = batch.column_by_name(TIMESTAMP_COLUMN);
        let times = times.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(missing)?;
        for range in partition(&[Arc::clone(batch.column(self.key))])?.ranges() {
            let mut kept = range.filter(|row| keep[*row]);
            if let (Some(row), None) = (kept.next(), kept.next()) {
                let is_old = times.is_null(row) || times.value(row) < before_us;
                keep[row] = !(deleted.value(row) && is_old);
            }
        }
        Ok(())
    }
}
