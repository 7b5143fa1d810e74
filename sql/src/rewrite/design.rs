//! Which source answers for which time: states of coarse granularities in the middle, finer ones towards
//! the ends, raw rows where a bucket is cut. A decision from the facts of a snapshot; nothing is read.

use datafusion::logical_expr::{Expr, lit};
use otus_engine::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, TOPIC_COLUMN};
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::log::manifest::{RollupState, TableState};
use otus_engine::log::op::FileEntry;
use otus_engine::position::{OffsetRange, TopicPartition};
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::calls::{Matched, column};
use super::needs::Needs;
use super::report::{Refusal, Shown, instant};

/// Most ranges that instants in conditions may cut a query's range into.
const RANGES_MAX: usize = 64;
/// Granularities that are weighed against each other.
const LEVELS_MAX: usize = 6;
/// What one more scan costs, in rows of states.
const SCAN_ROWS: u64 = 2_000;
/// What weighs more than any rows: rows that nobody has.
const LOST_ROWS: u64 = 1 << 60;
/// Files up to which rows are estimated file by file.
const FILES_MAX: usize = 256;

/// A half-open range of time, microseconds; `i64::MIN` and `i64::MAX` = without end.
pub(super) type Range = (i64, i64);

/// Sources for one rollup.
#[derive(Debug, Clone)]
pub(super) struct Design {
    /// Compacted states, by granularity.
    pub(super) compacted: Vec<(Granularity, Range)>,
    /// The coarsest granularity whose buckets are asked for.
    pub(super) coarsest: Granularity,
    /// All times for which states answer.
    pub(super) aligned: Vec<Range>,
    /// Whether files of flushes or sealed hot chunks hold states of those times.
    pub(super) fresh: bool,
    /// Whether the open hot chunk holds rows of those times.
    pub(super) open: bool,
    /// Times for which raw rows answer; only those where there are any.
    pub(super) edges: Vec<Range>,
    /// The offsets of those times whose rows the rollup does not hold.
    pub(super) uncovered: Option<Expr>,
    /// Estimated rows to read.
    pub(super) cost: u64,
    /// What the client is told.
    pub(super) notice: Option<String>,
    /// Whether rows that are gone from the raw table are part of the answer.
    pub(super) below_horizon: bool,
}

/// Rows by time.
#[derive(Debug, Default)]
struct Rows(Vec<(i64, i64, u64)>);

impl Rows {
    fn new(pieces: impl Iterator<Item = (i64, i64, u64)>) -> Self {
        let all: Vec<_> = pieces.collect();
        if all.len() <= FILES_MAX {
            return Self(all);
        }
        let joined = all.iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2 + b.2));
        Self(joined.into_iter().collect())
    }

    fn of<'a>(files: impl Iterator<Item = &'a Arc<FileEntry>>) -> Self {
        Self::new(files.filter_map(|f| f.time.map(|(min, max)| (min, max, f.rows))))
    }

    fn overlaps(&self, (from, to): Range) -> bool {
        self.0.iter().any(|(min, max, rows)| *rows > 0 && *min < to && *max >= from)
    }

    /// Rows in a range, if those of each piece lie evenly in time.
    fn within(&self, (from, to): Range) -> u64 {
        let share = |(min, max, rows): &(i64, i64, u64)| -> u64 {
            let (low, high) = (from.max(*min), to.min(max.saturating_add(1)));
            if low >= high {
                return 0;
            }
            let part = u128::from(high.abs_diff(low)) * u128::from(*rows);
            let whole = u128::from(max.abs_diff(*min)) + 1;
            u64::try_from(part.div_ceil(whole)).unwrap_or(u64::MAX)
        };
        self.0.iter().map(share).sum()
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        self.0.iter().map(|(min, max, _)| (*min, *max)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

/// What is known of a table's raw rows.
pub(super) struct RawFacts {
    files: Rows,
    hot: Rows,
    open: Rows,
    pub(super) horizon: i64,
}

fn chunk_rows(chunk: &otus_engine::hot::Chunk) -> Option<(i64, i64, u64)> {
    let (min, max) = chunk.time_range()?;
    Some((min, max, u64::try_from(chunk.rows()).unwrap_or(u64::MAX)))
}

impl RawFacts {
    pub(super) fn new(snapshot: &Snapshot, table: &CompiledTable) -> Self {
        let chunks = |list: &[Arc<otus_engine::hot::Chunk>]| {
            Rows::new(list.iter().filter_map(|c| chunk_rows(c)))
        };
        Self {
            files: Rows::of(snapshot.raw_files(table.id).iter()),
            hot: chunks(snapshot.hot(table.id)),
            open: Rows::new(snapshot.hot_open(table.id).into_iter().filter_map(|c| chunk_rows(c))),
            horizon: snapshot.horizon_us(table.id).unwrap_or(i64::MIN),
        }
    }

    /// Raw rows in a range.
    pub(super) fn rows(&self, (from, to): Range) -> u64 {
        let range = (from.max(self.horizon), to);
        self.files.within(range) + self.hot.within(range)
    }

    /// The range without ends beyond which there is no row.
    pub(super) fn widened(&self, (from, to): Range) -> Range {
        if from >= to {
            return (from, to);
        }
        let bounds = self.bounds();
        let whole = self.horizon == i64::MIN;
        let none_before = whole && bounds.is_none_or(|(oldest, _)| from <= oldest);
        let none_after = bounds.is_none_or(|(_, newest)| to > newest) && whole
            || bounds.is_some_and(|(_, newest)| to > newest && newest >= self.horizon);
        (if none_before { i64::MIN } else { from }, if none_after { i64::MAX } else { to })
    }

    fn overlaps(&self, range: Range) -> bool {
        self.files.overlaps(range) || self.hot.overlaps(range)
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        [self.files.bounds(), self.hot.bounds()]
            .into_iter()
            .flatten()
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

/// One granularity with its compacted files.
struct Level {
    granularity: Granularity,
    rows: Rows,
    /// Buckets before this are gone.
    kept: i64,
}

impl Level {
    /// The first bucket that is there and begins at or after an instant.
    fn first_whole(&self, at: i64) -> Option<i64> {
        let at = at.max(self.kept);
        let start = (at > i64::MIN).then(|| self.granularity.floor_us(at))?;
        Some(if start == at { at } else { self.granularity.next_us(at) })
    }
}

/// What a decision is made for.
pub(super) struct Question<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) table: &'a CompiledTable,
    pub(super) rollup: &'a CompiledRollup,
    pub(super) raw: &'a RawFacts,
    pub(super) needs: &'a Needs,
    pub(super) range: Range,
}

impl Question<'_> {
    /// The sources, or why there are none.
    pub(super) fn design(&self) -> Matched<Design> {
        let manifest = self.snapshot.manifest();
        let name = &self.rollup.def.name;
        let (Some(state), Some(table)) =
            (manifest.rollups.get(&self.rollup.id), manifest.tables.get(&self.table.id))
        else {
            return Err(Refusal::new(format!("rollup {name} is not in the log")));
        };
        let uncovered = self.uncovered(state, table)?;
        let fresh = self.fresh(state);
        let levels = self.levels(state, &fresh)?;
        let (from, to) = self.range;
        let oldest_kept = levels.iter().map(|l| l.kept).min().unwrap_or(i64::MIN);
        let horizon = self.raw.horizon;
        let from = from.max(oldest_kept.min(horizon));
        let found = self.cheapest(&levels, &fresh, (from, to))?;
        let is_cut = |design: &Design| design.edges.iter().any(|edge| edge.0 < horizon);
        let (mut design, from) = if from >= horizon || (!is_cut(&found) && uncovered.is_none()) {
            (found, from)
        } else {
            // Nobody has the rows of a bucket that the range cuts there: the answer begins with the next one.
            let mut starts: Vec<i64> = match uncovered {
                None => levels.iter().filter_map(|l| l.first_whole(from)).collect(),
                Some(_) => Vec::new(),
            };
            starts.sort_unstable();
            let later = starts.into_iter().filter(|start| *start < horizon).find_map(|start| {
                let design = self.cheapest(&levels, &fresh, (start, to)).ok()?;
                (!is_cut(&design)).then_some((design, start))
            });
            match later {
                Some(found) => found,
                None => (self.cheapest(&levels, &fresh, (horizon, to))?, horizon),
            }
        };
        design.below_horizon = from < horizon;
        if design.below_horizon {
            let rows = format!(
                "rows of {:?} before {} are gone; rollup {name:?} answers for them",
                self.table.def.name,
                instant(horizon)
            );
            design.notice = Some(match from > self.range.0 {
                true => format!("{rows} from {} on", instant(from)),
                false => rows,
            });
        } else if self.range.0 < horizon {
            design.notice = Some(cut_notice(self.table, horizon));
        }
        if let Some((expr, ranges)) = uncovered {
            design.cost = design.cost.saturating_add(self.uncovered_rows(&ranges));
            design.uncovered = Some(expr);
        }
        Ok(design)
    }

    /// Rows of states not yet compacted.
    fn fresh(&self, state: &RollupState) -> Rows {
        let files = state.files.iter().filter(|f| f.level == 0 && f.rows > 0);
        let finest = self.rollup.def.finest();
        let files = files.filter_map(|f| f.time.map(|(min, max)| (min, max, f.rows)));
        // The states of a chunk are not counted before they are computed; a quarter is a guess.
        let sealed = self.snapshot.hot_sealed(self.table.id).iter().filter_map(|c| chunk_rows(c));
        let sealed = sealed
            .map(|(min, max, rows)| (finest.floor_us(min), finest.floor_us(max), rows.div_ceil(4)));
        Rows::new(files.chain(sealed))
    }

    fn levels(&self, state: &RollupState, fresh: &Rows) -> Matched<Vec<Level>> {
        let mut bounds =
            [self.raw.bounds(), fresh.bounds()].into_iter().flatten().collect::<Vec<_>>();
        let mut levels = Vec::new();
        for granularity in self.rollup.def.granularities.iter().copied() {
            let target = |f: &&Arc<FileEntry>| {
                f.level > 0
                    && matches!(f.target, otus_engine::log::op::Target::Rollup { granularity: g, .. } if g == granularity)
            };
            let rows = Rows::of(state.files.iter().filter(target));
            bounds.extend(rows.bounds());
            // Of what came before it was whole, a rollup has a part.
            let kept = state.horizon_us.get(&granularity).copied().max(state.whole_from_us);
            let kept = kept.unwrap_or(i64::MIN);
            levels.push(Level { granularity, rows, kept });
        }
        let data = bounds.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (low, high) = data.unwrap_or((0, 0));
        // A bucket begins before its first row.
        let low = low.saturating_sub(367 * otus_engine::time::DAY_US).max(self.range.0);
        let high = high.saturating_add(1).min(self.range.1);
        levels.retain(|l| self.needs.served_by(l.granularity, low, high));
        levels.sort_by_key(|l| std::cmp::Reverse(l.granularity));
        levels.truncate(LEVELS_MAX);
        if levels.is_empty() {
            return Err(Refusal::new(format!(
                "no granularity of rollup {} has the buckets that the query asks for",
                self.rollup.def.name
            )));
        }
        Ok(levels)
    }

    /// The range, cut where conditions change within it.
    fn pieces(&self, (from, to): Range) -> Matched<Vec<Range>> {
        if from >= to {
            return Err(Refusal::idle("the time range is empty"));
        }
        // All rows lie before an instant after the newest one, and all buckets too.
        let newest = self.raw.bounds().map(|(_, newest)| newest);
        let end = newest.filter(|n| *n >= self.raw.horizon).map_or(i64::MAX, |n| n + 1);
        let inside: BTreeSet<i64> = self
            .needs
            .cuts
            .iter()
            .copied()
            .filter(|cut| from < *cut && *cut < to.min(end))
            .collect();
        if inside.len() >= RANGES_MAX {
            return Err(Refusal::new("it compares the event time with too many instants"));
        }
        let starts = std::iter::once(from).chain(inside.iter().copied());
        let ends = inside.iter().copied().chain([to]);
        Ok(starts.zip(ends).collect())
    }

    /// Of all choices of granularities, the one with the fewest rows.
    fn cheapest(&self, levels: &[Level], fresh: &Rows, range: Range) -> Matched<Design> {
        let pieces = self.pieces(range)?;
        let mut best: Option<(u64, Design)> = None;
        for choice in 1..(1_u32 << levels.len()) {
            let chosen: Vec<&Level> = levels
                .iter()
                .enumerate()
                .filter(|(i, _)| choice & (1 << i) != 0)
                .map(|(_, level)| level)
                .collect();
            let Some((weight, design)) = self.covered(&chosen, levels, fresh, &pieces) else {
                continue;
            };
            if best.as_ref().is_none_or(|(known, _)| weight < *known) {
                best = Some((weight, design));
            }
        }
        best.map(|(_, design)| design).ok_or_else(|| {
            Refusal::new(format!(
                "the time range holds no whole bucket of rollup {}",
                self.rollup.def.name
            ))
        })
    }

    fn covered(
        &self,
        levels: &[&Level],
        all: &[Level],
        fresh: &Rows,
        pieces: &[Range],
    ) -> Option<(u64, Design)> {
        let (mut parts, mut gaps) = (Vec::new(), Vec::new());
        for piece in pieces {
            cover(levels, *piece, &mut parts, &mut gaps);
        }
        if parts.is_empty() {
            return None;
        }
        parts.sort_by_key(|(_, range)| range.0);
        let aligned = joined(parts.iter().map(|(_, range)| *range));
        let mut compacted: Vec<(Granularity, Range)> = Vec::new();
        let mut cost = 0_u64;
        for (level, range) in &parts {
            if level.rows.overlaps(*range) {
                cost = cost.saturating_add(level.rows.within(*range));
                compacted.push((level.granularity, *range));
            }
        }
        // Below the horizon states have rows that raw files no longer tell of.
        let lost = |gap: &Range| {
            let gone = (gap.0, gap.1.min(self.raw.horizon));
            gone.0 < gone.1
                && (fresh.overlaps(gone) || all.iter().any(|level| level.rows.overlaps(gone)))
        };
        let edges = joined(gaps.into_iter().filter(|gap| self.raw.overlaps(*gap) || lost(gap)));
        let any = |rows: &Rows| aligned.iter().any(|range| rows.overlaps(*range));
        let (has_fresh, has_open) = (any(fresh), any(&self.raw.open));
        if compacted.is_empty() && !has_fresh && !has_open && !edges.is_empty() {
            return None;
        }
        for range in &aligned {
            cost = cost.saturating_add(fresh.within(*range) + self.raw.open.within(*range));
        }
        for edge in &edges {
            cost = cost.saturating_add(self.raw.rows(*edge));
        }
        let lost = if edges.iter().any(lost) { LOST_ROWS } else { 0 };
        let scans = compacted.len() + usize::from(!edges.is_empty());
        let weight =
            cost.saturating_add(SCAN_ROWS * u64::try_from(scans).unwrap_or(0)).saturating_add(lost);
        let coarsest = parts.iter().map(|(level, _)| level.granularity).max()?;
        let design = Design {
            compacted,
            coarsest,
            aligned,
            fresh: has_fresh,
            open: has_open,
            edges,
            uncovered: None,
            cost,
            notice: None,
            below_horizon: false,
        };
        Some((weight, design))
    }

    /// The offsets whose rows are in the raw table and not in the rollup.
    fn uncovered(
        &self,
        state: &RollupState,
        table: &TableState,
    ) -> Matched<Option<(Expr, Vec<OffsetRange>)>> {
        let Some(missing) = state.uncovered(table) else {
            return Err(Refusal::new(format!(
                "rollup {} does not say which rows it holds of offsets that were read again",
                state.def.name
            )));
        };
        if missing.is_empty() {
            return Ok(None);
        }
        let has_topic = self.table.schema.index_of(TOPIC_COLUMN).is_ok();
        let topics: BTreeSet<&str> = table.positions.keys().map(|tp| &*tp.topic).collect();
        if !has_topic && topics.len() > 1 {
            return Err(Refusal::new(format!(
                "rollup {} does not cover all offsets, and rows do not say their topic",
                state.def.name
            )));
        }
        let terms = missing.iter().map(|range| offsets(range, has_topic));
        Ok(terms.reduce(Expr::or).map(|expr| (expr, missing)))
    }

    fn uncovered_rows(&self, missing: &[OffsetRange]) -> u64 {
        let share = |file: &Arc<FileEntry>| -> u64 {
            let width = |r: &OffsetRange| u128::from(r.to.abs_diff(r.from));
            let whole: u128 = file.ranges.iter().map(width).sum();
            let common = |r: &OffsetRange, m: &OffsetRange| {
                let (from, to) = (r.from.max(m.from), r.to.min(m.to));
                if r.tp == m.tp && from < to { u128::from(to.abs_diff(from)) } else { 0 }
            };
            let part: u128 =
                file.ranges.iter().flat_map(|r| missing.iter().map(move |m| common(r, m))).sum();
            u64::try_from(part * u128::from(file.rows) / whole.max(1)).unwrap_or(u64::MAX)
        };
        self.snapshot.raw_files(self.table.id).iter().map(share).sum()
    }
}

fn offsets(range: &OffsetRange, has_topic: bool) -> Expr {
    let TopicPartition { topic, partition } = &range.tp;
    let offset = column(OFFSET_COLUMN);
    let within = offset.clone().gt_eq(lit(range.from)).and(offset.lt(lit(range.to)));
    let partition = column(PARTITION_COLUMN).eq(lit(*partition));
    let both = partition.and(within);
    if !has_topic {
        return both;
    }
    let topic = datafusion::scalar::ScalarValue::Utf8View(Some(topic.to_string()));
    column(TOPIC_COLUMN).eq(lit(topic)).and(both)
}

/// What is told where rows before the horizon would have been part of an answer.
pub(super) fn cut_notice(table: &CompiledTable, horizon: i64) -> String {
    let (name, at) = (&table.def.name, instant(horizon));
    format!("rows of {name:?} before {at} are gone; the answer begins there")
}

/// Covers a range with whole buckets, those of the first level first; what is left over goes to `gaps`.
fn cover<'a>(
    levels: &[&'a Level],
    (from, to): Range,
    parts: &mut Vec<(&'a Level, Range)>,
    gaps: &mut Vec<Range>,
) {
    if from >= to {
        return;
    }
    let [level, finer @ ..] = levels else {
        gaps.push((from, to));
        return;
    };
    let granularity = level.granularity;
    let up = |us: i64| match us {
        i64::MIN => us,
        us if granularity.floor_us(us) == us => us,
        us => granularity.next_us(us),
    };
    let first = up(from.max(level.kept));
    let end = if to == i64::MAX { to } else { granularity.floor_us(to) };
    if first >= end {
        return cover(finer, (from, to), parts, gaps);
    }
    cover(finer, (from, first), parts, gaps);
    parts.push((level, (first, end)));
    cover(finer, (end, to), parts, gaps);
}

/// Ranges in order, those that touch joined.
fn joined(ranges: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut sorted: Vec<Range> = ranges.collect();
    sorted.sort_unstable();
    let mut out: Vec<Range> = Vec::new();
    for (from, to) in sorted {
        match out.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

impl Design {
    /// One line for each source.
    pub(super) fn lines(&self, finest: Granularity) -> Vec<String> {
        let shown = |ranges: &[Range]| {
            let all: Vec<String> = ranges.iter().map(|(a, b)| Shown(*a, *b).to_string()).collect();
            all.join(", ")
        };
        let mut lines = Vec::new();
        for (granularity, range) in &self.compacted {
            lines.push(format!("{granularity} states, {}", shown(&[*range])));
        }
        if self.fresh {
            let aligned = shown(&self.aligned);
            lines.push(format!("{finest} states of latest flushes and sealed hot rows, {aligned}"));
        }
        if self.open {
            lines.push(format!("raw rows of the open hot chunk, {}", shown(&self.aligned)));
        }
        if !self.edges.is_empty() {
            lines.push(format!("raw rows of cut buckets, {}", shown(&self.edges)));
        }
        if self.uncovered.is_some() {
            let aligned = shown(&self.aligned);
            lines.push(format!("raw rows from before the rollup was declared, {aligned}"));
        }
        if lines.is_empty() {
            lines.push(format!("no rows, {}", shown(&self.aligned)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otus_engine::time::{DAY_US, SECOND_US};

    fn level(granularity: Granularity) -> Level {
        Level { granularity, rows: Rows::default(), kept: i64::MIN }
    }

    #[test]
    fn a_range_is_covered_coarsely_in_the_middle() {
        let (day, hour) = (level(Granularity::Day), level(Granularity::Hour));
        let (mut parts, mut gaps) = (Vec::new(), Vec::new());
        let hour_us = 3_600 * SECOND_US;
        let (from, to) = (DAY_US - 2 * hour_us - 5, 3 * DAY_US + hour_us + 7);
        cover(&[&day, &hour], (from, to), &mut parts, &mut gaps);
        let parts: Vec<_> = parts.iter().map(|(l, range)| (l.granularity, *range)).collect();
        let expected = [
            (Granularity::Hour, (DAY_US - 2 * hour_us, DAY_US)),
            (Granularity::Day, (DAY_US, 3 * DAY_US)),
            (Granularity::Hour, (3 * DAY_US, 3 * DAY_US + hour_us)),
        ];
        assert_eq!(parts, expected);
        assert_eq!(gaps, [(from, DAY_US - 2 * hour_us), (3 * DAY_US + hour_us, to)]);
    }

    #[test]
    fn a_range_without_ends_needs_no_edges() {
        let day = level(Granularity::Day);
        let (mut parts, mut gaps) = (Vec::new(), Vec::new());
        cover(&[&day], (i64::MIN, i64::MAX), &mut parts, &mut gaps);
        assert_eq!((parts.len(), gaps.len()), (1, 0));
        let kept = Level { kept: 5 * DAY_US, ..level(Granularity::Day) };
        let (mut parts, mut gaps) = (Vec::new(), Vec::new());
        cover(&[&kept], (i64::MIN, i64::MAX), &mut parts, &mut gaps);
        assert_eq!(gaps, [(i64::MIN, 5 * DAY_US)]);
        assert_eq!(parts.len(), 1);
    }
}
