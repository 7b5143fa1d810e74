//! Keeps the demo within its budget of disk: the oldest days of raw rows go, rollups stay. What goes is
//! decided from the sizes of the live files alone.

use std::path::Path;

use otus_engine::log::op::FileEntry;
use otus_engine::time::DAY_US;

/// Days of raw rows that stay whatever the budget says.
const DAYS_KEPT: i64 = 1;

/// The raw horizon, microseconds, that brings `live_bytes` down to `budget_bytes`, if it must move.
pub(super) fn horizon<'f>(
    raw: impl Iterator<Item = &'f FileEntry> + Clone,
    live_bytes: u64,
    budget_bytes: u64,
) -> Option<i64> {
    let excess = live_bytes.checked_sub(budget_bytes).filter(|excess| *excess > 0)?;
    let day = |us: i64| us.div_euclid(DAY_US);
    let newest = raw.clone().filter_map(|f| f.time).map(|t| day(t.1)).max()?;
    let oldest = raw.clone().filter_map(|f| f.time).map(|t| day(t.0)).min()?;
    let freed_by = |horizon: i64| -> u64 {
        let gone = raw.clone().filter(|f| f.time.is_some_and(|t| day(t.1) < horizon));
        gone.map(|f| f.bytes).sum()
    };
    let last = newest + 1 - DAYS_KEPT;
    let enough = (oldest + 1..=last).find(|horizon| freed_by(*horizon) >= excess);
    let horizon = enough.unwrap_or(last);
    (freed_by(horizon) > 0).then_some(horizon * DAY_US)
}

/// Bytes of all files below a folder. What vanishes meanwhile counts nothing.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use otus_engine::catalog::TableId;
    use otus_engine::log::op::Target;

    use super::*;

    fn file(from_day: i64, to_day: i64, bytes: u64) -> FileEntry {
        FileEntry {
            path: String::new(),
            target: Target::Raw(TableId(1)),
            bytes,
            footer_bytes: 0,
            rows: 1,
            schema_id: 1,
            level: 1,
            sorted_by: Vec::new(),
            time: Some((from_day * DAY_US, to_day * DAY_US + DAY_US - 1)),
            ranges: Vec::new(),
            columns: Vec::new(),
            created_at_us: 0,
            commit: None,
        }
    }

    #[test]
    fn the_oldest_days_go_first() {
        let files = [file(10, 10, 100), file(11, 11, 100), file(11, 12, 100), file(13, 13, 100)];
        let at = |live, budget| horizon(files.iter(), live, budget).map(|us| us / DAY_US);
        assert_eq!(at(400, 400), None);
        assert_eq!(at(400, 350), Some(11));
        assert_eq!(at(400, 250), Some(12));
        assert_eq!(at(400, 150), Some(13), "a file goes only as a whole");
        assert_eq!(at(400, 0), Some(13), "the newest day stays");
        assert_eq!(horizon([file(13, 13, 100)].iter(), 100, 0), None);
    }
}
