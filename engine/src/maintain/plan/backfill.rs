//! Decides which offsets a rollup is filled with next: the latest that it lacks, so many that a step is neither
//! long nor reads much for little.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{OFFSET_COLUMN, RollupId, TableId};
use crate::log::manifest::{Manifest, TableState};
use crate::log::op::{FileEntry, StatValue};
use crate::position::{OffsetRange, TopicPartition};

/// A step takes at least this part of the rows that it reads, whatever their number: where event times lie
/// all over the offsets, each step reads every file.
const READ_RATIO: u64 = 8;
/// Halvings of a step that would take too many rows.
const HALVINGS_MAX: u32 = 62;

/// One step of filling a rollup with rows of before it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Backfill {
    /// The table.
    pub table: TableId,
    /// The rollup.
    pub rollup: RollupId,
    /// Offsets that it does not cover and will after the step, joined.
    pub ranges: Vec<OffsetRange>,
    /// All raw files that may hold rows of theirs, in the order of time.
    pub files: Vec<Arc<FileEntry>>,
}

/// The next step, of about `rows` rows, of any rollup of a served table.
pub fn next_backfill(manifest: &Manifest, rows: u64) -> Option<Backfill> {
    let filling = manifest.rollups.values().find_map(|rollup| {
        let table = manifest.tables.get(&rollup.table).filter(|t| t.attached)?;
        let missing = rollup.uncovered(table).filter(|missing| !missing.is_empty())?;
        Some((rollup, table, missing))
    });
    let (rollup, table, missing) = filling?;
    let ranges = OffsetRange::joined(latest(table, &missing, rows));
    let mut files: Vec<_> = overlapping(table, &ranges).map(|(file, _)| Arc::clone(file)).collect();
    files.sort_by_key(|f| f.time);
    Some(Backfill { table: table.id, rollup: rollup.id, ranges, files })
}

/// Offsets of the newest file that has missing ones, and all later ones of the same partitions: what is missing
/// stays one stretch per partition. More files if one has few, a part of its offsets if it has many.
fn latest(table: &TableState, missing: &[OffsetRange], rows: u64) -> Vec<OffsetRange> {
    let mut newest: Vec<_> = overlapping(table, missing).collect();
    newest.sort_by_key(|(file, _)| Reverse(file.time.map(|t| t.1)));
    let mut from: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
    let mut held = 0;
    for (file, parts) in &newest {
        if held >= rows.max(1) {
            break;
        }
        held += share(file, parts);
        for part in parts {
            let least = from.entry(&part.tp).or_insert(part.from);
            *least = part.from.min(*least);
        }
    }
    if from.is_empty() {
        // Nothing is left of these rows, or there never was any.
        return missing.to_vec();
    }
    let later = |range: &OffsetRange| {
        let least = *from.get(&range.tp)?;
        (least < range.to).then(|| OffsetRange { from: range.from.max(least), ..range.clone() })
    };
    let all: Vec<OffsetRange> = missing.iter().filter_map(later).collect();
    let mut chosen = all.clone();
    for halving in 1..=HALVINGS_MAX {
        let (mut taken, mut read) = (0_u64, 0_u64);
        for (file, parts) in overlapping(table, &chosen) {
            taken = taken.saturating_add(share(file, &parts));
            read = read.saturating_add(file.rows);
        }
        if taken <= rows.max(read / READ_RATIO) {
            break;
        }
        let fewer = upper(&all, halving);
        if fewer == chosen {
            break;
        }
        chosen = fewer;
    }
    chosen
}

/// Of each partition's offsets the upper 1 / 2^`halving`, one at least.
fn upper(ranges: &[OffsetRange], halving: u32) -> Vec<OffsetRange> {
    let mut widths: BTreeMap<&TopicPartition, u64> = BTreeMap::new();
    for range in ranges {
        let width = widths.entry(&range.tp).or_default();
        *width = width.saturating_add(range.width());
    }
    for width in widths.values_mut() {
        *width = (*width >> halving).max(1);
    }
    let mut chosen = Vec::new();
    for range in ranges.iter().rev() {
        let Some(left) = widths.get_mut(&range.tp).filter(|left| **left > 0) else { continue };
        let width = range.width().min(*left);
        *left -= width;
        let from = range.to.saturating_sub_unsigned(width);
        chosen.push(OffsetRange { from, ..range.clone() });
    }
    OffsetRange::joined(chosen)
}

/// Files that may hold rows of offsets, with the part of those offsets that they may hold.
fn overlapping<'a>(
    table: &'a TableState,
    ranges: &'a [OffsetRange],
) -> impl Iterator<Item = (&'a Arc<FileEntry>, Vec<OffsetRange>)> {
    table.files.iter().filter(|file| file.rows > 0).filter_map(move |file| {
        let own = own_ranges(file);
        let parts: Vec<_> =
            own.iter().flat_map(|own| ranges.iter().filter_map(|r| r.common(own))).collect();
        (!parts.is_empty()).then_some((file, parts))
    })
}

/// Offsets of a file: pieces split by day name those of their siblings too, their bounds do not.
fn own_ranges(file: &FileEntry) -> Vec<OffsetRange> {
    let bounds = file.columns.iter().find(|c| c.name == OFFSET_COLUMN);
    let (least, greatest) = match bounds.map(|c| (&c.min, &c.max)) {
        Some((Some(StatValue::Int(least)), Some(StatValue::Int(greatest)))) => {
            (*least, greatest.saturating_add(1))
        }
        _ => (i64::MIN, i64::MAX),
    };
    let within =
        |r: &OffsetRange| r.common(&OffsetRange { tp: r.tp.clone(), from: least, to: greatest });
    file.ranges.iter().filter_map(within).collect()
}

/// Rows of a file that lie in part of its offsets, if they lie evenly.
fn share(file: &FileEntry, parts: &[OffsetRange]) -> u64 {
    let width = |ranges: &[OffsetRange]| ranges.iter().map(|r| u128::from(r.width())).sum::<u128>();
    let rows = u128::from(file.rows) * width(parts);
    u64::try_from(rows.div_ceil(width(&own_ranges(file)).max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::op::{ColumnStats, Target};
    use crate::time::DAY_US;

    fn range(partition: i32, from: i64, to: i64) -> OffsetRange {
        OffsetRange { tp: TopicPartition::new("t", partition), from, to }
    }

    /// A file of one day with rows at every offset of its ranges within the bounds.
    fn file(day: i64, ranges: &[OffsetRange], bounds: (i64, i64)) -> Arc<FileEntry> {
        let column = ColumnStats {
            name: OFFSET_COLUMN.into(),
            min: Some(StatValue::Int(bounds.0)),
            max: Some(StatValue::Int(bounds.1 - 1)),
            exact: true,
            nulls: 0,
        };
        let mut file = FileEntry {
            path: format!("day {day}"),
            target: Target::Raw(TableId(1)),
            bytes: 1,
            footer_bytes: 1,
            rows: 0,
            schema_id: 1,
            level: 1,
            sorted_by: vec![],
            time: Some((day * DAY_US, (day + 1) * DAY_US - 1)),
            ranges: ranges.to_vec(),
            columns: vec![column],
            created_at_us: 0,
            commit: None,
        };
        file.rows = own_ranges(&file).iter().map(OffsetRange::width).sum();
        Arc::new(file)
    }

    fn table(files: Vec<Arc<FileEntry>>) -> TableState {
        TableState {
            id: TableId(1),
            def: Arc::new(crate::catalog::TableDef::events("t", "at", Vec::new())),
            schema_id: 1,
            attached: true,
            files,
            positions: BTreeMap::new(),
            horizon_us: None,
            fields: Vec::new(),
            past: Default::default(),
        }
    }

    /// Three days of two partitions in files that name all offsets.
    fn days() -> TableState {
        let all = [range(0, 0, 300), range(1, 0, 300)];
        table((0..3).map(|day| file(day, &all, (day * 100, (day + 1) * 100))).collect())
    }

    #[test]
    fn the_newest_day_is_first() {
        let missing = [range(0, 0, 320), range(1, 0, 300)];
        let table = days();
        let chosen = latest(&table, &missing, 200);
        assert_eq!(chosen, [range(0, 200, 320), range(1, 200, 300)]);
        let names: Vec<_> = overlapping(&table, &chosen).map(|(f, _)| f.path.as_str()).collect();
        assert_eq!(names, ["day 2"]);
        // More days as long as there are few rows, fewer offsets where there are many.
        assert_eq!(latest(&table, &missing, 201), [range(0, 210, 320), range(1, 200, 300)]);
        let chosen = latest(&table, &missing, 60);
        assert_eq!(chosen, [range(0, 290, 320), range(1, 275, 300)]);
    }

    #[test]
    fn steps_cover_everything_once() {
        for rows in [1, 7, 50, 1_000] {
            let table = days();
            let mut missing = vec![range(0, 0, 320), range(1, 0, 300), range(2, 5, 9)];
            let mut steps = 0;
            while !missing.is_empty() {
                let chosen = latest(&table, &missing, rows);
                assert!(!chosen.is_empty());
                for range in &chosen {
                    let held = missing.iter().filter_map(|m| m.common(range));
                    assert_eq!(held.map(|r| r.width()).sum::<u64>(), range.width(), "{range:?}");
                }
                missing = missing.iter().flat_map(|m| m.without(&chosen)).collect();
                steps += 1;
            }
            // An eighth of a file of 200 rows at least.
            assert!(steps >= 600 / rows.max(25) / 2, "{steps} of {rows}");
        }
    }

    /// Each step reads everything, so there are few.
    #[test]
    fn steps_are_large_where_times_lie_all_over_the_offsets() {
        let all = [range(0, 0, 64_000)];
        let files = (0..10).map(|day| {
            let mut file = FileEntry::clone(&file(day, &all, (0, 64_000)));
            file.rows = 6_400;
            Arc::new(file)
        });
        let table = table(files.collect());
        let chosen = latest(&table, &all, 10);
        assert_eq!(chosen, [range(0, 56_000, 64_000)]);
    }
}
