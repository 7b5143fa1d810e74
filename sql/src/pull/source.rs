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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Raw rows.
    Raw,
    /// States of a rollup.
    Rollup {
        /// The rollup.
        id: RollupId,
        /// Its granularity.
        granularity: Granularity,
        /// First bucket read, microseconds.
        from_us: i64,
    },
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
    let mut best = (raw_rows(snapshot, table), Source::Raw);
    for rollup in &table.rollups {
        if !holds(snapshot, table, rollup, query) {
            continue;
        }
        for granularity in rollup.def.granularities.iter().copied() {
            let Some(from_us) = aligned(snapshot, table, query, granularity) else { continue };
            let kept = snapshot.rollup_horizon_us(rollup.id, granularity).unwrap_or(i64::MIN);
            let raw_kept = snapshot.horizon_us(table.id).unwrap_or(i64::MIN);
            if kept > from_us && kept > raw_kept {
                continue;
            }
            let files = snapshot.rollup_files(rollup.id, granularity);
            let rows = files.iter().map(|file| file.rows).sum::<u64>();
            // At equal rows the coarser one: its rows are merged already.
            let better = rows < best.0
                || (rows == best.0
                    && match best.1 {
                        Source::Raw => true,
                        Source::Rollup { granularity: known, .. } => granularity > known,
                    });
            if better {
                best = (rows, Source::Rollup { id: rollup.id, granularity, from_us });
            }
        }
    }
    best.1
}

fn raw_rows(snapshot: &Snapshot, table: &CompiledTable) -> u64 {
    snapshot.raw_files(table.id).iter().map(|file| file.rows).sum()
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

/// Whether every boundary of the query is one of the granularity's; the first bucket to read if so. An end
/// of the interval beyond which there is no row counts as aligned.
fn aligned(
    snapshot: &Snapshot,
    table: &CompiledTable,
    query: &MetricsQuery,
    granularity: Granularity,
) -> Option<i64> {
    let on_edge = |at: &i64| granularity.floor_us(*at) == *at;
    let range = time_range(snapshot, table);
    let whole = snapshot.horizon_us(table.id).is_none();
    let from = query.interval.from_us;
    let nothing_before = whole && range.is_none_or(|(oldest, _)| from <= oldest);
    let nothing_after = range.is_none_or(|(_, newest)| query.interval.to_us > newest);
    let ends = (nothing_before || on_edge(&from))
        && (nothing_after || on_edge(&query.interval.to_us))
        && query.starts.iter().skip(1).all(on_edge);
    ends.then(|| granularity.floor_us(from))
}
