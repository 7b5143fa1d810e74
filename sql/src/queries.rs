//! `otus.queries`: the latest queries of a process, with what they read and whether a rollup answered. Kept
//! in memory, bounded, gone at the end of the process.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use otus_engine::clock::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lanes::Lane;
use crate::provider::GuardedExec;
use crate::rewrite::{Report, Wish};

/// Queries that are kept.
pub(crate) const KEPT: usize = 1_000;
/// Bytes of a query's text that are kept.
const TEXT_BYTES: usize = 8 << 10;

/// One query that has run.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// When it began, microseconds.
    pub(crate) started_at_us: i64,
    /// From its beginning to its last row, microseconds.
    pub(crate) duration_us: i64,
    pub(crate) user: String,
    pub(crate) text: String,
    /// Where it ran; none if an answer was given again.
    pub(crate) lane: Option<Lane>,
    /// Whether an answer was given again.
    pub(crate) cached: bool,
    /// Rows given.
    pub(crate) rows: u64,
    /// Bytes read from files.
    pub(crate) bytes_read: u64,
    /// Rollups that answered.
    pub(crate) rollup: Option<String>,
    /// Why raw rows were read.
    pub(crate) reason: Option<String>,
    /// Rollups that would have answered what raw rows did.
    pub(crate) wishes: Vec<Wish>,
    /// SQLSTATE, if it failed.
    pub(crate) error: Option<String>,
}

impl Entry {
    /// What it wishes for as a JSON array; none if nothing.
    pub(crate) fn wanted(&self) -> Option<String> {
        let all: Vec<_> = self.wishes.iter().map(Wish::json).collect();
        (!all.is_empty()).then(|| serde_json::Value::Array(all).to_string())
    }
}

/// The latest queries.
#[derive(Debug, Default)]
pub(crate) struct Queries(Mutex<VecDeque<Entry>>);

impl Queries {
    fn add(&self, entry: Entry) {
        let mut list = self.0.lock();
        if list.len() >= KEPT {
            list.pop_front();
        }
        list.push_back(entry);
    }

    /// Newest last.
    pub(crate) fn list(&self) -> Vec<Entry> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Who asks what.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) queries: Arc<Queries>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) user: Arc<str>,
    pub(crate) text: Arc<str>,
}

/// A query that runs; noted when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    asked: Asked,
    begun: Instant,
    started_at_us: i64,
    rows: u64,
    lane: Lane,
    report: Report,
    error: Option<String>,
    plan: Arc<dyn ExecutionPlan>,
}

impl Running {
    /// A query that began at `begun`.
    pub(crate) fn new(
        asked: Asked,
        begun: Instant,
        (report, lane): (Report, Lane),
        plan: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let spent = i64::try_from(begun.elapsed().as_micros()).unwrap_or(0);
        let started_at_us = asked.clock.now_us().saturating_sub(spent);
        Self { asked, begun, started_at_us, rows: 0, lane, report, error: None, plan }
    }

    pub(crate) fn count(&mut self, rows: usize) {
        self.rows = self.rows.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
    }

    /// The first error counts.
    pub(crate) fn fail(&mut self, sqlstate: impl Into<String>) {
        self.error.get_or_insert_with(|| sqlstate.into());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let text = redacted(&self.asked.text);
        self.asked.queries.add(Entry {
            started_at_us: self.started_at_us,
            duration_us: i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX),
            user: self.asked.user.to_string(),
            text,
            lane: Some(self.lane),
            cached: false,
            rows: self.rows,
            bytes_read: all_bytes_read(&self.plan),
            rollup: self.report.rollups(),
            reason: self.report.refusals(),
            wishes: std::mem::take(&mut self.report.wishes),
            error: self.error.take(),
        });
    }
}

/// Notes that an answer was given again.
pub(crate) fn given_again(asked: Asked, begun: Instant, rows: usize, report: &Report) {
    let duration_us = i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX);
    asked.queries.add(Entry {
        started_at_us: asked.clock.now_us().saturating_sub(duration_us),
        duration_us,
        user: asked.user.to_string(),
        text: redacted(&asked.text),
        lane: None,
        cached: true,
        rows: u64::try_from(rows).unwrap_or(u64::MAX),
        bytes_read: 0,
        rollup: report.rollups(),
        reason: report.refusals(),
        wishes: Vec::new(),
        error: None,
    });
}

/// Bytes that the scans of a plan have read, also for rows that are not shown.
fn all_bytes_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    if let Some(guarded) = plan.downcast_ref::<GuardedExec>() {
        return bytes_read(guarded.hidden());
    }
    let children = plan.children();
    match children.is_empty() {
        true => bytes_read(plan),
        false => children.into_iter().map(all_bytes_read).fold(0, u64::saturating_add),
    }
}

/// Bytes that the scans of a plan have read, as far as whoever asked may know.
pub(crate) fn bytes_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan.metrics().and_then(|m| m.sum_by_name("bytes_scanned"));
    let own = own.map_or(0, |value| u64::try_from(value.as_usize()).unwrap_or(u64::MAX));
    plan.children().into_iter().map(bytes_read).fold(own, u64::saturating_add)
}

/// The text, cut, and without the strings that follow a word such as `password`.
fn redacted(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    let lower = text.to_ascii_lowercase();
    let secret = ["password", "secret", "token"].iter().any(|word| lower.contains(word));
    if !secret {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('\'').enumerate() {
        if i > 0 {
            out.push('\'');
        }
        // Every second part lies between quotes.
        out.push_str(if i % 2 == 1 { "…" } else { part });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_keep_no_secret() {
        assert_eq!(redacted("SELECT 'a'"), "SELECT 'a'");
        assert_eq!(
            redacted("SELECT x WHERE password = 'a''b' AND c = 'd'"),
            "SELECT x WHERE password = '…''…' AND c = '…'"
        );
        assert_eq!(redacted(&"ä".repeat(TEXT_BYTES)).len(), TEXT_BYTES);
    }
}
