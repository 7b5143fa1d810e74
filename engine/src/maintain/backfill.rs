//! Backfill: a rollup that was declared when its table had rows already is filled with them, step by step. A step
//! is one commit of files and of the offsets that they stand for; refused, it leaves nothing (I2).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::compact::FILE_BYTES_MAX;
use super::plan::{self, Backfill};
use super::{LEASE_US, MaintenanceReport};
use crate::compiled::{CompiledRollup, CompiledTable};
use crate::dataset::{Dataset, Pressure};
use crate::error::{Error, Result};
use crate::log::op::{FileEntry, Op, Target};
use crate::segment::{Fill, Filling, MergeOptions};
use crate::time::Granularity;

/// Raw files read side by side; a step of more has several sets of files.
const FILES_AT_ONCE: usize = 32;
/// Batches between two looks at what is more urgent.
const BATCHES: u64 = 64;
/// Level of what is written: compaction merges it with its own.
const LEVEL: u8 = 1;

/// A step that is computed and not committed.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) ops: Vec<Op>,
    rows: u64,
}

impl Dataset {
    /// Fills one rollup with one step's worth of rows; whether there was anything to fill. Part of what
    /// [`Dataset::maintain`] does.
    pub async fn backfill_step(&self) -> Result<bool> {
        let _maintaining = self.maintaining.lock().await;
        self.backfill_once(&mut MaintenanceReport::default()).await
    }

    /// As long as ingestion waits for nothing.
    pub(super) async fn backfill_once(&self, report: &mut MaintenanceReport) -> Result<bool> {
        if self.pressure() != Pressure::Run {
            return Ok(false);
        }
        // A step in doubt, or refused on a newer state, must be known before the next is planned.
        self.settle().await?;
        let Some(step) = self.compute_step(report).await? else { return Ok(false) };
        crate::failpoint::hit("backfill.files_written");
        let number = self.commit(step.ops).await?;
        crate::failpoint::hit("backfill.committed");
        report.backfills += 1;
        self.counters.backfills.fetch_add(1, Ordering::Relaxed);
        self.counters.rows_backfilled.fetch_add(step.rows, Ordering::Relaxed);
        tracing::debug!(number, rows = step.rows, "backfilled");
        Ok(true)
    }

    /// Writes the files of the next step. Nothing is part of the dataset before its operations are committed:
    /// they are refused if the rollup is gone, the lease lost, or an offset covered meanwhile.
    pub(crate) async fn compute_step(
        &self,
        report: &mut MaintenanceReport,
    ) -> Result<Option<Step>> {
        let snapshot = self.snapshot();
        let rows = u64::try_from(self.options.flush.backfill_rows).unwrap_or(u64::MAX);
        let Some(plan) = plan::next_backfill(snapshot.manifest(), rows) else { return Ok(None) };
        let table = snapshot.table_by_id(plan.table);
        let Some((table, rollup)) = table.and_then(|t| t.rollup(plan.rollup).map(|r| (t, r)))
        else {
            return Err(Error::internal("a rollup to be filled is not in the catalogue"));
        };
        self.take_lease().await?;
        let mut step = Step { ops: Vec::new(), rows: 0 };
        for files in plan.files.chunks(FILES_AT_ONCE) {
            // Boxed: it is large, and so would be whatever awaits maintenance.
            let fill = Box::pin(self.fill(table, rollup, &plan, files, report));
            let (written, rows) = fill.await?;
            step.ops.extend(written.into_iter().map(|file| Op::AddFile { file }));
            step.rows += rows;
        }
        step.ops.push(Op::Cover { rollup: plan.rollup, ranges: plan.ranges });
        let (member, now_us) = (self.options.member.clone(), self.options.clock.now_us());
        step.ops.push(Op::Lease { member, until_us: now_us + LEASE_US, now_us });
        Ok(Some(step))
    }

    async fn fill(
        &self,
        table: &Arc<CompiledTable>,
        rollup: &CompiledRollup,
        plan: &Backfill,
        files: &[Arc<FileEntry>],
        report: &mut MaintenanceReport,
    ) -> Result<(Vec<FileEntry>, u64)> {
        let now_us = self.options.clock.now_us();
        let (snapshot, dir) = (self.snapshot(), rollup.dir(table.id));
        let target = |granularity: Granularity| {
            let options = MergeOptions {
                segment: rollup.options(LEVEL),
                split_days: false,
                file_bytes_max: FILE_BYTES_MAX,
                from_us: snapshot.rollup_horizon_us(rollup.id, granularity),
            };
            (granularity, options)
        };
        let mut targets: Vec<_> = rollup.def.granularities.iter().copied().map(target).collect();
        targets.sort_by_key(|(granularity, _)| *granularity);
        let filling = Filling {
            storage: &self.storage,
            table,
            plan: &rollup.plan,
            ranges: &plan.ranges,
            from_us: snapshot.horizon_us(table.id),
            targets: &targets,
            dir: &dir,
            now_ms: now_us / 1000,
        };
        let mut fill = Fill::start(&filling, files).await?;
        let mut batches = 0_u64;
        while fill.advance().await? {
            batches += 1;
            if batches.is_multiple_of(BATCHES) {
                self.give_way(report).await?;
            }
        }
        let rows = fill.taken();
        let mut entries = Vec::new();
        for ((granularity, _), written) in targets.iter().zip(fill.finish().await?) {
            let target = Target::Rollup { id: rollup.id, granularity: *granularity };
            let ranges = || plan.ranges.clone();
            let entry =
                |file: crate::segment::WrittenFile| file.into_entry(target, 1, ranges(), now_us);
            entries.extend(written.into_iter().map(entry));
        }
        Ok((entries, rows))
    }

    /// Ingestion waits for compaction, so compaction does not wait for a long step. The files that the step
    /// reads stay where they are long enough.
    async fn give_way(&self, report: &mut MaintenanceReport) -> Result<()> {
        self.take_lease().await?;
        if self.compact_once(false).await? {
            report.compactions += 1;
        }
        Ok(())
    }
}
