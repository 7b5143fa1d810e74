//! Carries out a compaction: reads files, writes fewer, and swaps them in one commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::plan::{self, Compaction, RollupMerge};
use super::remove;
use crate::compiled::CompiledTable;
use crate::dataset::{Dataset, rejected_schema};
use crate::error::Result;
use crate::log::op::{FileEntry, Op, RemoveReason, Target};
use crate::position::OffsetRange;
use crate::segment::{
    MergeOptions, SegmentOptions, WrittenFile, fold_keyed_segments, fold_rollup_segments,
    merge_sorted_segments,
};

/// Bytes at which a compacted file is closed and another begun.
pub(super) const FILE_BYTES_MAX: u64 = 256 << 20;

impl Dataset {
    /// Carries out the most urgent compaction; whether there was one.
    pub(crate) async fn compact_once(&self, force: bool) -> Result<bool> {
        let snapshot = self.snapshot();
        let manifest = Arc::clone(snapshot.manifest());
        if let Some(files) = plan::merge_rejected(&manifest, force) {
            self.take_lease().await?;
            self.compact_rejected(&files).await?;
            return Ok(true);
        }
        let limit = self.options.flush.compact_files;
        let Some(compaction) = plan::next_compaction(&manifest, limit, force) else {
            return Ok(false);
        };
        let Some(table) = snapshot.table_by_id(compaction.table) else {
            return Ok(false);
        };
        self.take_lease().await?;
        self.compact(table, &compaction).await?;
        Ok(true)
    }

    async fn compact(&self, table: &CompiledTable, compaction: &Compaction) -> Result<()> {
        let now_us = self.options.clock.now_us();
        let mut ops = Vec::new();
        for file in inputs(compaction) {
            ops.push(remove(&file, RemoveReason::Compaction));
        }
        for file in self.merge_raw(table, compaction, now_us).await? {
            self.own_file(table, &file);
            ops.push(Op::AddFile { file });
        }
        for merges in by_rollup(&compaction.rollups) {
            for file in self.merge_rollup(table, &merges, compaction.level, now_us).await? {
                ops.push(Op::AddFile { file });
            }
        }
        crate::failpoint::hit("compact.files_written");
        let number = self.commit(ops).await?;
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(number, table = table.def.qualified_name(), "compacted");
        Ok(())
    }

    async fn merge_raw(
        &self,
        table: &CompiledTable,
        compaction: &Compaction,
        now_us: i64,
    ) -> Result<Vec<FileEntry>> {
        if compaction.raw.is_empty() {
            return Ok(Vec::new());
        }
        if table.shape.is_some() {
            return self.fold_keyed(table, compaction, now_us).await;
        }
        let options = MergeOptions {
            segment: table.raw_options(compaction.level),
            split_days: true,
            file_bytes_max: FILE_BYTES_MAX,
            from_us: self.snapshot().horizon_us(table.id),
        };
        let (files, dir) = (&compaction.raw, table.raw_dir());
        let ms = now_us / 1000;
        let written =
            merge_sorted_segments(&self.storage, files, &table.schema, &dir, ms, &options).await?;
        let ranges = ranges(files);
        let entry = |file: WrittenFile| {
            file.into_entry(Target::Raw(table.id), table.schema_id, ranges.clone(), now_us)
        };
        Ok(written.into_iter().map(entry).collect())
    }

    async fn fold_keyed(
        &self,
        table: &CompiledTable,
        compaction: &Compaction,
        now_us: i64,
    ) -> Result<Vec<FileEntry>> {
        let options = MergeOptions {
            segment: table.raw_options(compaction.level),
            file_bytes_max: FILE_BYTES_MAX,
            ..MergeOptions::default()
        };
        let (files, dir, ms) = (&compaction.raw, table.raw_dir(), now_us / 1000);
        // Older rows of a deleted key must all be at hand; files only grow in number meanwhile.
        let is_all = self.snapshot().raw_files(table.id).iter().all(|f| files.contains(f));
        let purge_us = is_all.then(|| now_us - self.options.flush.keyed_delete_us);
        let written =
            fold_keyed_segments(&self.storage, files, table, &dir, ms, &options, purge_us).await?;
        let ranges = ranges(files);
        let entry = |file: WrittenFile| {
            file.into_entry(Target::Raw(table.id), table.schema_id, ranges.clone(), now_us)
        };
        Ok(written.into_iter().map(entry).collect())
    }

    /// All granularities of one rollup from the same files, in one pass over them.
    async fn merge_rollup(
        &self,
        table: &CompiledTable,
        merges: &[&RollupMerge],
        level: u8,
        now_us: i64,
    ) -> Result<Vec<FileEntry>> {
        let Some((first, rollup)) =
            merges.first().and_then(|m| table.rollup(m.id).map(|rollup| (m, rollup)))
        else {
            return Ok(Vec::new());
        };
        let snapshot = self.snapshot();
        let wanted: Vec<_> = merges
            .iter()
            .map(|merge| {
                let options = MergeOptions {
                    segment: rollup.options(level),
                    split_days: false,
                    file_bytes_max: FILE_BYTES_MAX,
                    from_us: snapshot.rollup_horizon_us(merge.id, merge.granularity),
                };
                (merge.granularity, options)
            })
            .collect();
        let (dir, ms, files) = (rollup.dir(table.id), now_us / 1000, &first.files);
        let written =
            fold_rollup_segments(&self.storage, files, &rollup.plan, &wanted, &dir, ms).await?;
        let ranges = ranges(files);
        let mut entries = Vec::new();
        for (merge, files) in merges.iter().zip(written) {
            let target = Target::Rollup { id: merge.id, granularity: merge.granularity };
            let entry = |file: WrittenFile| file.into_entry(target, 1, ranges.clone(), now_us);
            entries.extend(files.into_iter().map(entry));
        }
        Ok(entries)
    }

    async fn compact_rejected(&self, files: &[Arc<FileEntry>]) -> Result<()> {
        let now_us = self.options.clock.now_us();
        let level = files.iter().map(|f| f.level).max().unwrap_or(0).saturating_add(1);
        let segment = SegmentOptions {
            level,
            sorted_by: vec!["ingested_at".into()],
            bloom: Vec::new(),
            time_column: "ingested_at".into(),
        };
        let options = MergeOptions { segment, ..MergeOptions::default() };
        let (schema, ms) = (rejected_schema(), now_us / 1000);
        let written =
            merge_sorted_segments(&self.storage, files, &schema, "rejected", ms, &options).await?;
        let mut ops: Vec<Op> = files.iter().map(|f| remove(f, RemoveReason::Compaction)).collect();
        // Age is counted from the youngest record: nothing leaves before its time.
        let created_us = files.iter().map(|f| f.created_at_us).max().unwrap_or(now_us);
        for file in written {
            let file = file.into_entry(Target::Rejected, 1, ranges(files), created_us);
            ops.push(Op::AddFile { file });
        }
        self.commit(ops).await?;
        Ok(())
    }
}

/// Merges that read the same files of the same rollup, together.
fn by_rollup(merges: &[RollupMerge]) -> Vec<Vec<&RollupMerge>> {
    let mut groups: Vec<Vec<&RollupMerge>> = Vec::new();
    for merge in merges {
        let same = |group: &&mut Vec<&RollupMerge>| {
            group.first().is_some_and(|m| m.id == merge.id && m.files == merge.files)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(merge),
            None => groups.push(vec![merge]),
        }
    }
    groups
}

/// All inputs, each once: level-0 rollup files feed several granularities.
fn inputs(compaction: &Compaction) -> Vec<Arc<FileEntry>> {
    let mut files = compaction.raw.clone();
    for file in compaction.rollups.iter().flat_map(|m| &m.files) {
        if !files.iter().any(|f| f.path == file.path) {
            files.push(Arc::clone(file));
        }
    }
    files
}

/// Union of the inputs' offset ranges.
fn ranges(files: &[Arc<FileEntry>]) -> Vec<OffsetRange> {
    OffsetRange::joined(files.iter().flat_map(|f| f.ranges.iter().cloned()).collect())
}
