//! Raw rows against positions: every kept record once, in a file that says so, as many as were counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{TableAudit, read, report};
use crate::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, TOPIC_COLUMN};
use crate::compiled::CompiledTable;
use crate::coverage::{contains, each_offset};
use crate::error::Result;
use crate::limits::RESETS_MAX;
use crate::log::manifest::TableState;
use crate::log::op::FileEntry;
use crate::position::{OffsetRange, TopicPartition};
use crate::snapshot::Snapshot;

/// What was read of each partition of a table: one stretch, and one more for each reset of its position.
pub(super) struct Stretches {
    by_partition: BTreeMap<TopicPartition, Vec<OffsetRange>>,
    /// Whether all resets are remembered.
    complete: bool,
}

impl Stretches {
    pub(super) fn of(state: &TableState) -> Self {
        let mut by_partition: BTreeMap<TopicPartition, Vec<OffsetRange>> = BTreeMap::new();
        let resets = &state.past.resets;
        for (tp, position) in &state.positions {
            let own: Vec<_> = resets.iter().filter(|r| r.read.tp == *tp).collect();
            let from = own.last().map_or(position.start, |r| r.to);
            let mut stretches: Vec<_> = own.into_iter().map(|r| r.read.clone()).collect();
            stretches.push(OffsetRange { tp: tp.clone(), from, to: position.offset });
            by_partition.insert(tp.clone(), stretches);
        }
        Self { by_partition, complete: resets.len() < RESETS_MAX }
    }

    /// Whether a position went back, so that an offset means more than one record.
    pub(super) fn overlap(&self, tp: &TopicPartition) -> bool {
        let mut own = self.by_partition.get(tp).cloned().unwrap_or_default();
        own.sort_by_key(|r| r.from);
        !self.complete || own.windows(2).any(|w| w[1].from < w[0].to)
    }

    /// Times that the record at `offset` was read.
    fn times(&self, tp: &TopicPartition, offset: i64) -> usize {
        let own = self.by_partition.get(tp).into_iter().flatten();
        own.filter(|r| r.from <= offset && offset < r.to).count()
    }

    /// Offsets that stand there more often than they were read.
    pub(super) fn check(
        &self,
        seen: &mut BTreeMap<TopicPartition, Vec<i64>>,
        found: &mut Vec<String>,
    ) {
        for (tp, offsets) in seen {
            if !self.by_partition.contains_key(tp) {
                found.push(format!("{tp} has rows but no position"));
                continue;
            }
            offsets.sort_unstable();
            if !self.complete {
                continue;
            }
            for same in offsets.chunk_by(|a, b| a == b) {
                let Some(offset) = same.first() else { continue };
                match self.times(tp, *offset) {
                    0 => found.push(format!("{tp} offset {offset} is outside what was committed")),
                    read if same.len() > read && read == 1 => {
                        found.push(format!("{tp} offset {offset} stands {} times", same.len()));
                    }
                    read if same.len() > read => found.push(format!(
                        "{tp} offset {offset} stands {} times, it was read {read} times",
                        same.len()
                    )),
                    _ => {}
                }
            }
        }
    }

    /// A file's ranges lie within what was read.
    fn check_ranges(&self, file: &FileEntry, found: &mut Vec<String>) {
        for range in file.ranges.iter().filter(|_| self.complete) {
            let own = self.by_partition.get(&range.tp).cloned().unwrap_or_default();
            let within = |read: &OffsetRange| read.from <= range.from && range.to <= read.to;
            if !OffsetRange::joined(own).iter().any(within) {
                found.push(format!(
                    "file {} says it holds {} from {} to {}, which is more than was read",
                    file.path, range.tp, range.from, range.to
                ));
            }
        }
    }
}

/// Every kept record once, within the positions; as many as the commits counted.
pub(super) async fn check(
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
    let stretches = Stretches::of(state);
    let mut seen: BTreeMap<TopicPartition, Vec<i64>> = BTreeMap::new();
    let mut found = Vec::new();
    for file in &state.files {
        progress(&file.path);
        stretches.check_ranges(file, &mut found);
        let batches = match read(snapshot, file, &table.stored, Some(&names)).await? {
            Ok(batches) => batches,
            Err(problem) => {
                found.push(problem);
                continue;
            }
        };
        audit.rows += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        audit.files += 1;
        let ranges = OffsetRange::joined(file.ranges.clone());
        let mut strange = 0_u64;
        for batch in &batches {
            each_offset(table, batch, &mut |tp, offset| {
                strange += u64::from(!contains(&ranges, tp, offset));
                match seen.get_mut(tp) {
                    Some(list) => list.push(offset),
                    None => drop(seen.insert(tp.clone(), vec![offset])),
                }
            })?;
        }
        if strange > 0 {
            let path = &file.path;
            found.push(format!("file {path} holds {strange} rows outside the offsets it names"));
        }
    }
    check_fresh(&state.files, &stretches, &mut found);
    stretches.check(&mut seen, &mut found);
    // Of a keyed table only the latest rows stay.
    if table.def.keyed().is_none() {
        check_counts(state, &seen, audit.rows, &mut found);
    }
    report(audit, found);
    Ok(())
}

/// Files of flushes tile: no other file has their offsets. (Merged ones are split by day and share theirs.
/// A flush that kept nothing writes no file, so holes are told by the counts.)
fn check_fresh(files: &[Arc<FileEntry>], stretches: &Stretches, found: &mut Vec<String>) {
    let ranges = |fresh: bool| -> Vec<OffsetRange> {
        let files = files.iter().filter(|f| (f.level == 0) == fresh);
        let all = files.flat_map(|f| f.ranges.iter().cloned());
        all.filter(|r| r.from < r.to && !stretches.overlap(&r.tp)).collect()
    };
    let mut all = ranges(true);
    all.extend(OffsetRange::joined(ranges(false)));
    all.sort_by(|a, b| (&a.tp, a.from).cmp(&(&b.tp, b.from)));
    for pair in all.windows(2) {
        if let [a, b] = pair
            && a.tp == b.tp
            && b.from < a.to
        {
            let to = a.to.min(b.to);
            found.push(format!("{} from {} to {to} is in two files", a.tp, b.from));
        }
    }
}

fn check_counts(
    state: &TableState,
    seen: &BTreeMap<TopicPartition, Vec<i64>>,
    rows: u64,
    found: &mut Vec<String>,
) {
    let nothing_left = match state.past.expired_rows {
        Some(expired) => expired == 0,
        None => state.horizon_us.is_none(),
    };
    for (tp, position) in &state.positions {
        let rows = seen.get(tp).map_or(0, Vec::len) as u64;
        let kept = position.counts.kept;
        if rows > kept || (rows < kept && nothing_left) {
            found.push(format!("{tp} has {rows} rows, {kept} were kept"));
        }
    }
    let kept = state.positions.values().fold(0, |n: u64, p| n.saturating_add(p.counts.kept));
    if let Some(expired) = state.past.expired_rows.filter(|_| !nothing_left)
        && rows.saturating_add(expired) != kept
    {
        found.push(format!("there are {rows} rows, {kept} were kept and {expired} have expired"));
    }
}
