//! Names for the answers of branches, so that nothing is run for, and nobody is sent, what is there already.
//!
//! A name stands for what a branch asks, for whom, and for all that its times reach of the snapshot: files, hot chunks
//! and the horizon. None of these ever changes, so that the same name means the same rows. Names are of one process.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, BuildHasherDefault};

use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

use super::branch::{Branch, Query};
use super::metrics::MetricsQuery;
use super::query::Interval;
use super::value::Value;
use crate::cache::{Seen, Tag};
use crate::session::{PinnedState, Session};

/// The name of a branch's answer; none for what only its rows can tell, those of a named query.
pub(super) fn of_branch(branch: &Branch, session: &Session, pinned: &PinnedState) -> Option<Tag> {
    let seen = session.engine().answers().seen();
    let snapshot = pinned.snapshot();
    let asked = match &branch.query {
        Query::Metrics(table, query) => {
            sources(&seen, snapshot, table, &intervals(query));
            format!("metrics {} {}", table.id.0, text_of(query))
        }
        Query::Records(table, query) => {
            let mut asked = query.clone();
            asked.interval.known_to_us = 0;
            sources(&seen, snapshot, table, &[query.interval]);
            format!("records {} {asked:?}", table.id.0)
        }
        Query::Values(table, query) => {
            let mut asked = query.clone();
            let times = &mut asked.groups.interval;
            times.known_to_us = 0;
            match query.bounded {
                true => sources(&seen, snapshot, table, &intervals(&query.groups)),
                // It has times that nothing of its answer hangs on.
                false => {
                    (times.from_us, times.to_us) = (0, 0);
                    asked.groups.starts.clear();
                    sources(&seen, snapshot, table, &[]);
                }
            }
            format!("values {} {asked:?}", table.id.0)
        }
        Query::Named(_) => return None,
    };
    name(session, pinned, &asked, &seen)
}

/// A name for what is there already: for an answer that only running gives, or a fact.
pub(super) fn of_value(session: &Session, pinned: &PinnedState, value: &Value) -> Option<Tag> {
    let seen = session.engine().answers().seen();
    name(session, pinned, &format!("{value:?}"), &seen)
}

fn name(session: &Session, pinned: &PinnedState, what: &str, seen: &Seen) -> Option<Tag> {
    let asked = (session.user(), session.identity(), what);
    session.engine().answers().name(pinned.snapshot(), asked, seen)
}

/// The times that a query reads.
fn intervals(query: &MetricsQuery) -> Vec<Interval> {
    let other = query.compare.as_ref().map(|other| other.interval);
    std::iter::once(query.interval).chain(other).collect()
}

/// Notes what an answer over these times hangs on; no times are all times.
fn sources(seen: &Seen, snapshot: &Snapshot, table: &CompiledTable, times: &[Interval]) {
    let reached = |range: Option<(i64, i64)>| {
        let overlaps = |(first, last): (i64, i64)| {
            times.iter().any(|times| first < times.to_us && last >= times.from_us)
        };
        times.is_empty() || range.is_none_or(overlaps)
    };
    for file in snapshot.raw_files(table.id).iter().filter(|file| reached(file.time)) {
        seen.files(std::slice::from_ref(file));
    }
    for chunk in snapshot.hot(table.id).iter().filter(|chunk| reached(chunk.time_range())) {
        seen.chunk(table.id, chunk);
    }
    if let Some(horizon) = snapshot.horizon_us(table.id) {
        seen.horizon(table.id, horizon);
    }
}

/// A query as text that differs where its answer may. Of the moment only that is part of it which tells the buckets
/// that are still filling.
fn text_of(query: &MetricsQuery) -> String {
    let mut asked = query.clone();
    let known = query.interval.known_to_us;
    let begun = query.starts.partition_point(|start| *start <= known);
    asked.interval.known_to_us = match known >= query.interval.to_us {
        true => i64::MAX,
        false => i64::try_from(begun).unwrap_or(i64::MAX),
    };
    // There may be ten thousand of them.
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let mut starts = vec![hash.hash_one(std::mem::take(&mut asked.starts))];
    if let Some(other) = &mut asked.compare {
        starts.push(hash.hash_one(std::mem::take(&mut other.starts)));
    }
    format!("{asked:?} {starts:?}")
}
