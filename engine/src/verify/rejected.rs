//! Rejected records against what was counted: each once, none lost but by age or bytes.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

use super::offsets::Stretches;
use super::{TableAudit, read, report};
use crate::dataset::rejected_schema;
use crate::error::{Error, Result};
use crate::position::TopicPartition;
use crate::snapshot::Snapshot;

type Offsets = BTreeMap<TopicPartition, Vec<i64>>;

/// Audits `otus.rejected`; none if nothing was ever rejected.
pub(super) async fn check(
    snapshot: &Snapshot,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Option<TableAudit>> {
    let manifest = snapshot.manifest();
    let positions = || manifest.tables.values().flat_map(|t| t.positions.values());
    let counted = positions().fold(0, |n: u64, p| n.saturating_add(p.counts.rejected));
    if manifest.rejected.is_empty() && counted == 0 {
        return Ok(None);
    }
    let mut audit = TableAudit { table: "otus.rejected".into(), ..TableAudit::default() };
    let mut found = Vec::new();
    let mut seen: BTreeMap<String, Offsets> = BTreeMap::new();
    let columns = ["table", "topic", "partition", "offset"].map(String::from);
    for file in &manifest.rejected {
        progress(&file.path);
        match read(snapshot, file, &rejected_schema(), Some(&columns)).await? {
            Ok(batches) => {
                audit.files += 1;
                for batch in &batches {
                    audit.rows += batch.num_rows() as u64;
                    collect(batch, &mut seen)?;
                }
            }
            Err(problem) => found.push(problem),
        }
    }
    let nothing_left = manifest.rejected_expired == Some(0);
    for state in manifest.tables.values() {
        let name = state.def.qualified_name();
        let mut own = seen.remove(&name).unwrap_or_default();
        let mut problems = Vec::new();
        Stretches::of(state).check(&mut own, &mut problems);
        for (tp, position) in &state.positions {
            let rows = own.get(tp).map_or(0, Vec::len) as u64;
            let rejected = position.counts.rejected;
            if rows > rejected || (rows < rejected && nothing_left) {
                problems.push(format!("{tp} has {rows} records, {rejected} were rejected"));
            }
        }
        found.extend(problems.into_iter().map(|p| format!("table {name}: {p}")));
    }
    found.extend(seen.keys().map(|name| format!("there is no table {name}")));
    // The counts of a dropped table are gone.
    let all = manifest.tables.len() as u64 == u64::from(manifest.last_table_id);
    if let Some(expired) = manifest.rejected_expired.filter(|n| *n > 0 && all)
        && audit.rows.saturating_add(expired) != counted
    {
        let rows = audit.rows;
        found.push(format!(
            "there are {rows} records, {counted} were rejected and {expired} have expired"
        ));
    }
    report(&mut audit, found);
    Ok(Some(audit))
}

fn collect(batch: &RecordBatch, seen: &mut BTreeMap<String, Offsets>) -> Result<()> {
    let missing = || Error::corrupt("a file of rejected records lacks a column");
    let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_view_opt());
    let tables = text("table").ok_or_else(missing)?;
    let topics = text("topic").ok_or_else(missing)?;
    let partitions = batch.column_by_name("partition");
    let partitions =
        partitions.and_then(|c| c.as_primitive_opt::<Int32Type>()).ok_or_else(missing)?;
    let offsets = batch.column_by_name("offset");
    let offsets = offsets.and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(missing)?;
    for row in 0..batch.num_rows() {
        let tp = TopicPartition::new(topics.value(row), partitions.value(row));
        let table = seen.entry(tables.value(row).to_string()).or_default();
        table.entry(tp).or_default().push(offsets.value(row));
    }
    Ok(())
}
