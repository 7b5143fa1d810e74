//! The audit behind `otus inspect --verify`: reads what is committed and checks counts, tiling, uniqueness
//! and that every rollup equals its raw rows (invariants I1 and I2).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};

use crate::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, Source, TOPIC_COLUMN};
use crate::compiled::{CompiledRollup, CompiledTable};
use crate::error::{Error, Result};
use crate::log::manifest::TableState;
use crate::position::TopicPartition;
use crate::rollup::compare;
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

/// Audits the committed part of every served table. `progress` hears of each file read.
pub async fn verify(
    snapshot: &Snapshot,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Vec<TableAudit>> {
    let mut audits = Vec::new();
    for table in snapshot.tables() {
        let Some(state) = snapshot.manifest().tables.get(&table.id) else { continue };
        let mut audit = TableAudit { table: table.def.qualified_name(), ..TableAudit::default() };
        check_offsets(snapshot, table, state, &mut audit, progress).await?;
        for rollup in &table.rollups {
            for &granularity in &rollup.def.granularities {
                check_rollup(snapshot, table, rollup, granularity, &mut audit, progress).await?;
            }
        }
        audits.push(audit);
    }
    Ok(audits)
}

/// Every kept record once, within the positions; as many as the commits counted.
async fn check_offsets(
    snapshot: &Snapshot,
    table: &CompiledTable,
    state: &TableState,
    audit: &mut TableAudit,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let mut names = vec![PARTITION_COLUMN.to_string(), OFFSET_COLUMN.to_string()];
    if table.def.source.is_many() {
        names.push(TOPIC_COLUMN.to_string());
    }
    let mut seen: BTreeMap<TopicPartition, Vec<i64>> = BTreeMap::new();
    for file in &state.files {
        progress(&file.path);
        let batches = read_segment(snapshot.storage(), file, &table.stored, Some(&names)).await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows as u64 != file.rows {
            let path = &file.path;
            audit.problems.push(format!("file {path} holds {rows} rows, not {}", file.rows));
        }
        audit.rows += rows as u64;
        audit.files += 1;
        for batch in &batches {
            collect_offsets(table, batch, &mut seen)?;
        }
    }
    let mut found = Vec::new();
    for (tp, offsets) in &mut seen {
        offsets.sort_unstable();
        for pair in offsets.windows(2).filter(|w| w[0] == w[1]) {
            found.push(format!("{tp} offset {} stands twice", pair[0]));
        }
        let Some(position) = state.positions.get(tp) else {
            found.push(format!("{tp} has rows but no position"));
            continue;
        };
        let outside = |o: &&i64| **o < position.start || **o >= position.offset;
        for offset in offsets.iter().filter(outside) {
            found.push(format!("{tp} offset {offset} is outside what was committed"));
        }
    }
    for (tp, position) in &state.positions {
        let rows = seen.get(tp).map_or(0, Vec::len) as u64;
        // Of a keyed table only the latest rows are kept.
        let gone = state.horizon_us.is_some() || table.def.keyed().is_some();
        if rows > position.counts.kept || (rows < position.counts.kept && !gone) {
            found.push(format!("{tp} has {rows} rows, {} were kept", position.counts.kept));
        }
    }
    report(audit, found);
    Ok(())
}

fn report(audit: &mut TableAudit, mut found: Vec<String>) {
    let more = found.len().saturating_sub(PROBLEMS_MAX);
    found.truncate(PROBLEMS_MAX);
    audit.problems.append(&mut found);
    if more > 0 {
        audit.problems.push(format!("… and {more} more of these"));
    }
}

fn collect_offsets(
    table: &CompiledTable,
    batch: &RecordBatch,
    seen: &mut BTreeMap<TopicPartition, Vec<i64>>,
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
    let mut list = Vec::new();
    for row in 0..batch.num_rows() {
        let topic = topics.map(|t| t.value(row)).filter(|t| *t != &*tp.topic);
        if topic.is_some() || tp.partition != partitions.value(row) {
            if !list.is_empty() {
                seen.entry(tp.clone()).or_default().append(&mut list);
            }
            if let Some(topic) = topic {
                tp.topic = topic.into();
            }
            tp.partition = partitions.value(row);
        }
        list.push(offsets.value(row));
    }
    if !list.is_empty() {
        seen.entry(tp).or_default().append(&mut list);
    }
    Ok(())
}

/// States computed anew from raw rows against the stored ones, where both are still kept.
async fn check_rollup(
    snapshot: &Snapshot,
    table: &CompiledTable,
    rollup: &CompiledRollup,
    granularity: Granularity,
    audit: &mut TableAudit,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let Some(state) = snapshot.manifest().rollups.get(&rollup.id) else { return Ok(()) };
    let began_later = snapshot.manifest().tables.get(&table.id).is_some_and(|t| {
        t.positions.iter().any(|(tp, p)| state.since.get(tp).is_some_and(|s| *s > p.start))
    });
    if began_later {
        // Raw rows from before the rollup was declared have no states to compare with.
        return Ok(());
    }
    let from_us =
        [snapshot.horizon_us(table.id), snapshot.rollup_horizon_us(rollup.id, granularity)]
            .into_iter()
            .flatten()
            .max()
            .map(|h| if granularity.floor_us(h) == h { h } else { granularity.next_us(h) });
    let mut raw = rollup.plan.start(granularity)?;
    for file in snapshot.raw_files(table.id) {
        progress(&file.path);
        for batch in read_segment(snapshot.storage(), file, &table.schema, None).await? {
            raw.push_raw(&since(&batch, table.time_index, from_us)?)?;
        }
    }
    let mut stored = rollup.plan.start(granularity)?;
    for file in snapshot.rollup_files(rollup.id, granularity) {
        progress(&file.path);
        audit.files += 1;
        let schema = rollup.plan.schema();
        for batch in read_segment(snapshot.storage(), &file, schema, None).await? {
            stored.push_states(&since(&batch, 0, from_us)?)?;
        }
    }
    let name = rollup.def.view_name(granularity);
    let differences = compare(raw, stored)?;
    let text = differences.into_iter().map(|d| {
        format!(
            "{name} differs at {}: {} is {:?}, raw rows give {:?}",
            d.key, d.what, d.rollup, d.raw
        )
    });
    report(audit, text.collect());
    Ok(())
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
