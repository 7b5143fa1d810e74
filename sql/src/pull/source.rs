//! Chooses what answers a query: the raw rows, or the states of one granularity of a rollup that has every
//! row, every needed column, and whose buckets end wherever the query's do.

use std::sync::Arc;

use otus_engine::catalog::RollupId;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::log::manifest::{RollupState, TableState};
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;

use super::metrics::MetricsQuery;

/// What answers a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Raw rows.
    Raw,
    /// States of a rollup.
    Rollup(Part),
}

/// The part of an interval that whole buckets of a rollup make up, and what raw rows must add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The rollup.
    pub(super) id: RollupId,
    /// Its granularity.
    pub(super) granularity: Granularity,
    /// First bucket read, microseconds.
    pub(super) from_us: i64,
    /// End of the buckets read, microseconds.
    pub(super) to_us: i64,
    /// Intervals at either end that cut a bucket: raw rows answer for them.
    pub(super) edges: Vec<(i64, i64)>,
}

/// Times of the oldest and the newest raw row.
pub(super) fn time_range(snapshot: &Snapshot, table: &CompiledTable) -> Option<(i64, i64)> {
    let files = snapshot.raw_files(table.id).iter().filter_map(|file| file.time);
    let hot = snapshot.hot(table.id).iter().filter_map(|chunk| chunk.time_range());
    files.chain(hot).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}

/// The cheapest source, by rows to read.
pub(super) fn choose(
    snapshot: &Arc<Snapshot>,
    table: &CompiledTable,
    query: &MetricsQuery,
) -> Source {
    let facts = Facts::new(snapshot, table);
    let mut best = (facts.raw_rows, Source::Raw);
    for rollup in &table.rollups {
        if !holds(snapshot, table, rollup, query) {
            continue;
        }
        for granularity in rollup.def.granularities.iter().copied() {
            let Some(part) = facts.part(rollup.id, granularity, query) else { continue };
            let kept = snapshot.rollup_horizon_us(rollup.id, granularity).unwrap_or(i64::MIN);
            if kept > part.from_us && kept > facts.kept_us {
                continue;
            }
            let files = snapshot.rollup_files(rollup.id, granularity);
            let rows = files.iter().map(|file| file.rows).sum::<u64>();
            let cost = rows.saturating_add(facts.edge_rows(&part.edges));
            // At equal rows the coarser one: its rows are merged already.
            let better = cost < best.0
                || (cost == best.0
                    && match &best.1 {
                        Source::Raw => true,
                        Source::Rollup(known) => granularity > known.granularity,
                    });
            if better {
                best = (cost, Source::Rollup(part));
            }
        }
    }
    best.1
}

/// What a choice goes by.
struct Facts {
    raw_rows: u64,
    range: Option<(i64, i64)>,
    /// Raw rows before this are gone.
    kept_us: i64,
}

impl Facts {
    fn new(snapshot: &Snapshot, table: &CompiledTable) -> Self {
        Self {
            raw_rows: snapshot.raw_files(table.id).iter().map(|file| file.rows).sum(),
            range: time_range(snapshot, table),
            kept_us: snapshot.horizon_us(table.id).unwrap_or(i64::MIN),
        }
    }

    /// Rows in the edges, if rows lie evenly in time; at least one.
    fn edge_rows(&self, edges: &[(i64, i64)]) -> u64 {
        let width: i64 = edges.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        let whole = self.range.map_or(1, |(oldest, newest)| newest.saturating_sub(oldest).max(1));
        let rows = u128::from(self.raw_rows) * u128::from(width.max(0).unsigned_abs())
            / u128::from(whole.unsigned_abs().max(1));
        if edges.is_empty() { 0 } else { u64::try_from(rows).unwrap_or(u64::MAX).saturating_add(1) }
    }

    /// The part of a query that whole buckets answer, if the query's own buckets are made of whole ones. An
    /// end of the interval beyond which there is no row cuts nothing.
    fn part(&self, id: RollupId, granularity: Granularity, query: &MetricsQuery) -> Option<Part> {
        let on_edge = |at: &i64| granularity.floor_us(*at) == *at;
        if !query.starts.iter().skip(1).all(on_edge) {
            return None;
        }
        let (from, to) = (query.interval.from_us, query.interval.to_us);
        let whole = self.kept_us == i64::MIN;
        let mut edges = Vec::new();
        let mut first = granularity.floor_us(from);
        if first < from && !(whole && self.range.is_none_or(|(oldest, _)| from <= oldest)) {
            first = granularity.next_us(from);
            edges.push((from, first.min(to)));
        }
        let mut end = to;
        if !on_edge(&to) && self.range.is_some_and(|(_, newest)| to <= newest) {
            end = granularity.floor_us(to);
            edges.push((end.max(first), to));
        }
        let kept = edges.iter().all(|(from, _)| *from >= self.kept_us);
        (first < end && kept).then_some(Part { id, granularity, from_us: first, to_us: end, edges })
    }
}

/// Whether a rollup has every row of the table and every column that the query needs.
fn holds(
    snapshot: &Snapshot,
    table: &CompiledTable,
    rollup: &CompiledRollup,
    query: &MetricsQuery,
) -> bool {
    let mut names = query.dims.clone();
    query.filters.iter().for_each(|filter| filter.names(&mut names));
    let calls = query
        .measures
        .iter()
        .filter_map(|index| table.measures.measures.get(*index))
        .flat_map(|measure| &measure.calls);
    let manifest = snapshot.manifest();
    let states = manifest.rollups.get(&rollup.id).zip(manifest.tables.get(&table.id));
    names.iter().all(|name| rollup.def.dimensions.contains(name))
        && calls.into_iter().all(|call| rollup.plan.calls().contains(call))
        && states.is_some_and(|(rollup, table)| covers(rollup, table))
}

/// Whether the rollup has been computed from the first offset of every partition on.
fn covers(rollup: &RollupState, table: &TableState) -> bool {
    table.positions.iter().all(|(tp, position)| {
        let mut ranges: Vec<_> = rollup.coverage.iter().filter(|range| range.tp == *tp).collect();
        ranges.sort_by_key(|range| range.from);
        let reached = ranges.iter().fold(position.start, |reached, range| {
            if range.from <= reached { reached.max(range.to) } else { reached }
        });
        rollup.since.get(tp).is_some_and(|since| *since <= reached)
    })
}
