//! Decides what maintenance would do: pure functions from the manifest and the time to plans.

mod backfill;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{RollupId, TableId};
use crate::log::manifest::{Manifest, RollupState, TableState};
use crate::log::op::{FileEntry, Target};
use crate::time::{DAY_US, Granularity};

pub use backfill::{Backfill, next_backfill};

/// Files of one level that are merged once there are this many.
const MERGE_FILES: usize = 8;
/// Files at least this large are left alone, bytes.
const LARGE_BYTES: u64 = 192 << 20;
/// A file of a keyed table is merged with others that have together at least this part of its bytes.
const SNAPSHOT_RATIO: u64 = 8;
/// Inputs of one merge, at most.
const MERGE_FILES_MAX: usize = 128;

/// One merge of files into fewer, in one commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Compaction {
    /// The table.
    pub table: TableId,
    /// Raw files to merge; may be empty.
    pub raw: Vec<Arc<FileEntry>>,
    /// Merges of rollup files, per rollup and granularity written.
    pub rollups: Vec<RollupMerge>,
    /// Level of what is written.
    pub level: u8,
}

/// Files of a rollup that become one of `granularity`.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupMerge {
    /// The rollup.
    pub id: RollupId,
    /// Granularity written.
    pub granularity: Granularity,
    /// Inputs, of that granularity or (level 0) finer.
    pub files: Vec<Arc<FileEntry>>,
}

/// What is past its retention.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expiry {
    /// New raw horizons.
    pub raw: Vec<(TableId, i64)>,
    /// New rollup horizons.
    pub rollups: Vec<(RollupId, Granularity, i64)>,
}

/// The next compaction of any table, most urgent first; `force` merges whatever can be merged.
pub fn next_compaction(
    manifest: &Manifest,
    compact_files: usize,
    force: bool,
) -> Option<Compaction> {
    let tables = || manifest.tables.values().filter(|t| t.attached);
    let fresh = |t: &TableState| t.files.iter().filter(|f| f.level == 0).count();
    let most = tables().max_by_key(|t| fresh(t))?;
    if fresh(most) >= compact_files || (force && fresh(most) > 0) {
        return Some(match most.def.keyed() {
            Some(_) => fold_keyed(most, force),
            None => fold_fresh(manifest, most),
        });
    }
    tables().filter(|t| t.def.keyed().is_none()).find_map(|t| merge_old(manifest, t, force))
}

/// All level-0 files of a table and its rollups: raw becomes level 1, each granularity gets its own file.
fn fold_fresh(manifest: &Manifest, table: &TableState) -> Compaction {
    let level0 = |files: &[Arc<FileEntry>]| -> Vec<Arc<FileEntry>> {
        files.iter().filter(|f| f.level == 0).cloned().collect()
    };
    let mut rollups = Vec::new();
    for rollup in manifest.rollups.values().filter(|r| r.table == table.id) {
        let files = level0(&rollup.files);
        if files.is_empty() {
            continue;
        }
        for &granularity in &rollup.def.granularities {
            rollups.push(RollupMerge { id: rollup.id, granularity, files: files.clone() });
        }
    }
    Compaction { table: table.id, raw: level0(&table.files), rollups, level: 1 }
}

/// All level-0 files of a keyed table, and of the others those that are not much larger than what is merged
/// anyway, the smallest first: so a row is rewritten few times, and in the end there is one snapshot.
fn fold_keyed(table: &TableState, force: bool) -> Compaction {
    let (fresh, mut old): (Vec<_>, Vec<_>) =
        table.files.iter().cloned().partition(|f| f.level == 0);
    let mut bytes: u64 = fresh.iter().map(|f| f.bytes).sum();
    let mut raw = fresh;
    old.sort_by_key(|f| f.bytes);
    for file in old {
        if force || file.bytes <= bytes.saturating_mul(SNAPSHOT_RATIO) {
            bytes += file.bytes;
            raw.push(file);
        }
    }
    let level = next_level(&raw);
    Compaction { table: table.id, raw, rollups: Vec::new(), level }
}

fn merge_old(manifest: &Manifest, table: &TableState, force: bool) -> Option<Compaction> {
    let wanted = if force { 2 } else { MERGE_FILES };
    let mut days: BTreeMap<i64, Vec<Arc<FileEntry>>> = BTreeMap::new();
    for file in table.files.iter().filter(|f| f.level > 0 && f.bytes < LARGE_BYTES) {
        let day = file.time.map_or(0, |t| t.0.div_euclid(DAY_US));
        days.entry(day).or_default().push(Arc::clone(file));
    }
    if let Some(raw) = days.into_values().find_map(|files| pick(files, wanted)) {
        let level = next_level(&raw);
        return Some(Compaction { table: table.id, raw, rollups: Vec::new(), level });
    }
    manifest.rollups.values().filter(|r| r.table == table.id).find_map(|r| merge_rollup(r, wanted))
}

fn merge_rollup(rollup: &RollupState, wanted: usize) -> Option<Compaction> {
    rollup.def.granularities.iter().find_map(|&granularity| {
        let own = |f: &&Arc<FileEntry>| {
            f.level > 0
                && f.bytes < LARGE_BYTES
                && f.target == Target::Rollup { id: rollup.id, granularity }
        };
        let files = pick(rollup.files.iter().filter(own).cloned().collect(), wanted)?;
        let level = next_level(&files);
        let merge = RollupMerge { id: rollup.id, granularity, files };
        Some(Compaction { table: rollup.table, raw: Vec::new(), rollups: vec![merge], level })
    })
}

/// The files of the lowest level that has enough of them; with all of them few and `wanted` low, all.
fn pick(mut files: Vec<Arc<FileEntry>>, wanted: usize) -> Option<Vec<Arc<FileEntry>>> {
    if files.len() < wanted {
        return None;
    }
    files.sort_by_key(|f| (f.level, f.time));
    for level in 1..=u8::MAX {
        let below = files.iter().filter(|f| f.level <= level).count();
        if below >= wanted {
            files.truncate(below.min(MERGE_FILES_MAX));
            return Some(files);
        }
        if below == files.len() {
            return None;
        }
    }
    None
}

fn next_level(files: &[Arc<FileEntry>]) -> u8 {
    files.iter().map(|f| f.level).max().unwrap_or(0).saturating_add(1)
}

/// Horizons that the declared retentions ask for at `now_us`, whole UTC days, where they move.
pub fn expiry(manifest: &Manifest, now_us: i64) -> Expiry {
    let day = |age_us: i64| now_us.saturating_sub(age_us).div_euclid(DAY_US) * DAY_US;
    let mut expiry = Expiry::default();
    for table in manifest.tables.values().filter(|t| t.attached) {
        if let Some(before) = table.def.retention.raw_us.map(day)
            && table.horizon_us.is_none_or(|h| h < before)
            && oldest(&table.files).is_some_and(|t| t < before)
        {
            expiry.raw.push((table.id, before));
        }
        for rollup in manifest.rollups.values().filter(|r| r.table == table.id) {
            for (&granularity, &age) in &table.def.retention.rollup_us {
                let before = day(age);
                let moves = rollup.horizon_us.get(&granularity).is_none_or(|&h| h < before);
                let declared = rollup.def.granularities.contains(&granularity);
                if declared && moves && oldest(&rollup.files).is_some_and(|t| t < before) {
                    expiry.rollups.push((rollup.id, granularity, before));
                }
            }
        }
    }
    expiry
}

fn oldest(files: &[Arc<FileEntry>]) -> Option<i64> {
    files.iter().filter_map(|f| f.time).map(|t| t.0).min()
}

/// Live files that lie wholly before their horizon.
pub fn expired_files(manifest: &Manifest) -> Vec<Arc<FileEntry>> {
    let mut out = Vec::new();
    for table in manifest.tables.values() {
        if let Some(before) = table.horizon_us {
            out.extend(table.files.iter().filter(|f| is_before(f, before)).cloned());
        }
    }
    for rollup in manifest.rollups.values() {
        for file in &rollup.files {
            let Target::Rollup { granularity, .. } = file.target else { continue };
            // A level-0 file serves every granularity, so the most patient one keeps it.
            let horizon = if file.level == 0 {
                let all = rollup.def.granularities.iter().map(|g| rollup.horizon_us.get(g));
                all.min().flatten()
            } else {
                rollup.horizon_us.get(&granularity)
            };
            if horizon.is_some_and(|&before| is_before(file, before)) {
                out.push(Arc::clone(file));
            }
        }
    }
    out
}

fn is_before(file: &FileEntry, before_us: i64) -> bool {
    file.time.is_some_and(|(_, last)| last < before_us)
}

/// Rejected files that leave: those past the age, then the oldest until `bytes_max` holds.
pub fn expired_rejected(
    manifest: &Manifest,
    now_us: i64,
    age_us: i64,
    bytes_max: u64,
) -> Vec<Arc<FileEntry>> {
    let mut files = manifest.rejected.clone();
    files.sort_by_key(|f| std::cmp::Reverse(f.created_at_us));
    let mut total = 0;
    files.retain(|file| {
        total += file.bytes;
        total > bytes_max || now_us.saturating_sub(file.created_at_us) > age_us
    });
    files
}

/// Small files of rejected records that become one, if there are many.
pub fn merge_rejected(manifest: &Manifest, force: bool) -> Option<Vec<Arc<FileEntry>>> {
    let wanted = if force { 2 } else { 16 };
    let small = manifest.rejected.iter().filter(|f| f.bytes < (8 << 20));
    let files: Vec<_> = small.take(MERGE_FILES_MAX).cloned().collect();
    (files.len() >= wanted).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::op::ColumnStats;

    fn file(name: &str, level: u8, day: i64, bytes: u64) -> Arc<FileEntry> {
        Arc::new(FileEntry {
            path: name.into(),
            target: Target::Raw(TableId(1)),
            bytes,
            footer_bytes: 8,
            rows: 1,
            schema_id: 1,
            level,
            sorted_by: vec![],
            time: Some((day * DAY_US, day * DAY_US + 1)),
            ranges: vec![],
            columns: Vec::<ColumnStats>::new(),
            created_at_us: day * DAY_US,
            commit: None,
        })
    }

    #[test]
    fn the_lowest_level_with_enough_files_is_picked() {
        let files = vec![file("a", 1, 0, 1), file("b", 2, 0, 1), file("c", 1, 0, 1)];
        let picked = pick(files.clone(), 2).unwrap();
        assert_eq!(picked.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(pick(files.clone(), 3).unwrap().len(), 3);
        assert!(pick(files, 4).is_none());
    }

    #[test]
    fn rejected_files_leave_by_age_and_by_bytes() {
        let rejected = vec![file("old", 0, 1, 10), file("mid", 0, 8, 10), file("new", 0, 9, 10)];
        let manifest = Manifest { rejected, ..Manifest::default() };
        let names = |files: Vec<Arc<FileEntry>>| -> Vec<String> {
            files.iter().map(|f| f.path.clone()).collect()
        };
        assert_eq!(names(expired_rejected(&manifest, 10 * DAY_US, 5 * DAY_US, 100)), ["old"]);
        assert_eq!(
            names(expired_rejected(&manifest, 10 * DAY_US, 50 * DAY_US, 15)),
            ["mid", "old"]
        );
    }
}
