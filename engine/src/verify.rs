//! The audit behind `otus inspect --verify`: reads what is committed and checks counts, tiling, uniqueness
//! and that every rollup equals its raw rows (invariants I1 and I2).

mod offsets;
mod rejected;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};

use crate::compiled::{CompiledRollup, CompiledTable};
use crate::coverage::keep_within;
use crate::error::{Error, ErrorKind, Result};
use crate::log::manifest::{RollupState, TableState};
use crate::log::op::FileEntry;
use crate::position::OffsetRange;
use crate::rollup::{Aggregation, compare};
use crate::segment::read_segment;
use crate::snapshot::Snapshot;
use crate::time::Granularity;

/// What the audit found in one table.
#[derive(Debug, Clone, Default)]
pub struct TableAudit {
    /// `schema.name`.
    pub table: String,
    /// Raw rows read.
    pub rows: u64,
    /// Files read.
    pub files: u64,
    /// What is wrong; empty = sound.
    pub problems: Vec<String>,
}

/// Problems of one kind that are listed; more are only counted.
const PROBLEMS_MAX: usize = 20;

/// Audits the committed part of every served table, and the rejected records. `progress` hears of each file
/// read.
pub async fn verify(
    snapshot: &Snapshot,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Vec<TableAudit>> {
    let mut audits = Vec::new();
    for table in snapshot.tables() {
        let Some(state) = snapshot.manifest().tables.get(&table.id) else { continue };
        let mut audit = TableAudit { table: table.def.qualified_name(), ..TableAudit::default() };
        offsets::check(snapshot, table, state, &mut audit, progress).await?;
        for rollup in &table.rollups {
            for &granularity in &rollup.def.granularities {
                let part = Part { snapshot, table, rollup, granularity };
                part.check(state, &mut audit, progress).await?;
            }
        }
        audits.push(audit);
    }
    audits.extend(rejected::check(snapshot, progress).await?);
    Ok(audits)
}

fn report(audit: &mut TableAudit, mut found: Vec<String>) {
    let more = found.len().saturating_sub(PROBLEMS_MAX);
    found.truncate(PROBLEMS_MAX);
    for problem in found {
        if !audit.problems.contains(&problem) {
            audit.problems.push(problem);
        }
    }
    if more > 0 {
        audit.problems.push(format!("… and {more} more of these"));
    }
}

/// The rows of a file, or what is wrong with it. A store that does not answer is an error.
async fn read(
    snapshot: &Snapshot,
    file: &FileEntry,
    schema: &SchemaRef,
    columns: Option<&[String]>,
) -> Result<Result<Vec<RecordBatch>, String>> {
    let path = &file.path;
    let batches = match read_segment(snapshot.storage(), file, schema, columns).await {
        Ok(batches) => batches,
        Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy) => return Err(e),
        Err(e) => return Ok(Err(format!("file {path} cannot be read: {e}"))),
    };
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
    if rows != file.rows {
        return Ok(Err(format!("file {path} holds {rows} rows, not {}", file.rows)));
    }
    Ok(Ok(batches))
}

/// One granularity of one rollup.
struct Part<'a> {
    snapshot: &'a Snapshot,
    table: &'a CompiledTable,
    rollup: &'a CompiledRollup,
    granularity: Granularity,
}

impl Part<'_> {
    /// States computed anew from raw rows against the stored ones, where both are still kept; and against
    /// those of the finest granularity, which may be kept for longer than raw rows.
    async fn check(
        &self,
        table: &TableState,
        audit: &mut TableAudit,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        let Some(state) = self.snapshot.manifest().rollups.get(&self.rollup.id) else {
            return Ok(());
        };
        let mut found = Vec::new();
        let horizon_us = self.snapshot.horizon_us(self.table.id);
        if let Some(covered) = Covered::of(state, table) {
            covered.check_files(state, &mut found);
            let from_us = self.begin_us(horizon_us);
            let mut raw = self.rollup.plan.start(self.granularity)?;
            for file in self.snapshot.raw_files(self.table.id) {
                progress(&file.path);
                match read(self.snapshot, file, &self.table.stored, None).await? {
                    Ok(batches) => {
                        for batch in &batches {
                            let batch = since(batch, self.table.time_index, from_us)?;
                            raw.push_raw(&covered.filter(self.table, &batch)?)?;
                        }
                    }
                    Err(problem) => found.push(problem),
                }
            }
            let stored =
                self.stored(self.granularity, from_us, audit, &mut found, progress).await?;
            self.differences(raw, stored, "raw rows", &mut found)?;
        }
        let finest = self.rollup.def.finest();
        if self.granularity != finest && horizon_us.is_some() {
            let kept = self.snapshot.rollup_horizon_us(self.rollup.id, finest);
            let from_us = self.begin_us(kept);
            let fine = self.stored(finest, from_us, audit, &mut found, progress).await?;
            let stored =
                self.stored(self.granularity, from_us, audit, &mut found, progress).await?;
            let name = self.rollup.def.view_name(finest);
            self.differences(fine, stored, &name, &mut found)?;
        }
        report(audit, found);
        Ok(())
    }

    /// First whole bucket at or after both horizons, microseconds.
    fn begin_us(&self, other_us: Option<i64>) -> Option<i64> {
        let own = self.snapshot.rollup_horizon_us(self.rollup.id, self.granularity);
        let latest = own.into_iter().chain(other_us).max()?;
        let floor = self.granularity.floor_us(latest);
        Some(if floor == latest { floor } else { self.granularity.next_us(latest) })
    }

    /// The states stored for `granularity`, at the granularity of this part.
    async fn stored(
        &self,
        granularity: Granularity,
        from_us: Option<i64>,
        audit: &mut TableAudit,
        found: &mut Vec<String>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Aggregation<'_>> {
        let mut stored = self.rollup.plan.start(self.granularity)?;
        for file in self.snapshot.rollup_files(self.rollup.id, granularity) {
            progress(&file.path);
            audit.files += 1;
            match read(self.snapshot, &file, self.rollup.plan.schema(), None).await? {
                Ok(batches) => {
                    for batch in &batches {
                        stored.push_states(&since(batch, 0, from_us)?)?;
                    }
                }
                Err(problem) => found.push(problem),
            }
        }
        Ok(stored)
    }

    fn differences(
        &self,
        right: Aggregation<'_>,
        stored: Aggregation<'_>,
        source: &str,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let name = self.rollup.def.view_name(self.granularity);
        found.extend(compare(right, stored)?.into_iter().map(|d| {
            let said = match (&d.rollup, &d.raw) {
                (Some(own), Some(other)) => {
                    let what = d.what.replace("count()", "count(*)");
                    format!("{what} is {own}, {source} give {other}")
                }
                (Some(_), None) => format!("it is there, {source} do not give it"),
                (None, _) => format!("it is missing, {source} give it"),
            };
            format!("{name} differs at {}: {said}", d.key)
        }));
        Ok(())
    }
}

/// Offsets whose rows a rollup holds.
struct Covered(Option<Vec<OffsetRange>>);

impl Covered {
    /// None if it cannot be told: offsets of before the rollup were read again after it.
    fn of(rollup: &RollupState, table: &TableState) -> Option<Self> {
        let missing = rollup.uncovered(table)?;
        Some(Self((!missing.is_empty()).then(|| rollup.covered())))
    }

    fn filter(&self, table: &CompiledTable, batch: &RecordBatch) -> Result<RecordBatch> {
        match &self.0 {
            Some(ranges) => keep_within(table, batch, ranges),
            None => Ok(batch.clone()),
        }
    }

    /// Files of states of offsets that the rollup is not said to cover.
    fn check_files(&self, rollup: &RollupState, found: &mut Vec<String>) {
        let Some(covered) = &self.0 else { return };
        for file in &rollup.files {
            for stray in file.ranges.iter().flat_map(|range| range.without(covered)) {
                let OffsetRange { tp, from, to } = stray;
                found.push(format!(
                    "file {} holds states of {tp} from {from} to {to}, which rollup {} does not cover",
                    file.path, rollup.def.name
                ));
            }
        }
    }
}

/// Rows whose time is at or after `from_us`.
fn since(batch: &RecordBatch, time: usize, from_us: Option<i64>) -> Result<RecordBatch> {
    let Some(from_us) = from_us else { return Ok(batch.clone()) };
    let times = batch
        .column(time)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| Error::corrupt("a time column has another type"))?;
    let keep: BooleanArray = times.iter().map(|t| t.map(|t| t >= from_us)).collect();
    Ok(filter_record_batch(batch, &keep)?)
}
