//! The branches of a request: each call of an endpoint becomes a checked query, all of them before any runs;
//! each runs on its own and gives rows, or an error that costs only its own place in the tree.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use chrono_tz::Tz;
use otus_engine::compiled::CompiledTable;

use super::convert::values as cells_of;
use super::eval::CallError;
use super::metrics::{self, Call, MetricsQuery};
use super::named::{self, NamedCall, QUERIES};
use super::pattern::{Entry, KeyOption, MapPattern, Pattern, RowsPattern, Target};
use super::problem::{Path, Problem, join};
use super::query::Moment;
use super::records::{self, RecordsQuery};
use super::run;
use super::source::TimeRanges;
use super::table::{event_tables, tree_name};
use super::tree::keyed;
use super::value::{Map, Value};
use super::values::{self, ValuesQuery};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::named::{NamedQueries, NamedQuery};
use crate::rewrite::{Answer, Report};
use crate::session::{PinnedState, Session};

/// Most calls of one request.
const BRANCHES_MAX: usize = 64;

/// Longest time of one call, where the session sets no shorter one.
const BRANCH_TIME_MAX: Duration = Duration::from_secs(60);

/// One call.
#[derive(Debug)]
pub(super) struct Branch {
    /// Path of the entry.
    pub(super) path: Path,
    /// Which call of a `:batch`.
    pub(super) call: usize,
    pub(super) query: Query,
    /// The name of its answer, as far as it can be told before it runs.
    pub(super) tag: Option<String>,
}

/// What a call asks for.
#[derive(Debug)]
pub(super) enum Query {
    Metrics(Arc<CompiledTable>, MetricsQuery),
    Records(Arc<CompiledTable>, RecordsQuery),
    Values(Arc<CompiledTable>, ValuesQuery),
    Named(NamedCall),
}

/// What is called.
#[derive(Clone, Copy)]
enum Endpoint<'a> {
    Metrics(&'a Arc<CompiledTable>),
    Records(&'a Arc<CompiledTable>),
    Values(&'a Arc<CompiledTable>),
    Named(&'a Arc<NamedQuery>),
}

/// What a branch gave.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) rows: Result<Value, CallError>,
    pub(super) meta: Value,
}

impl Outcome {
    /// Of a branch that did not run, as the client has its answer.
    pub(super) fn unchanged() -> Self {
        let meta = [("unchanged", Value::Bool(true))];
        Self { rows: Ok(Value::keyword("unchanged")), meta: keyed(meta) }
    }

    /// Puts the name of the answer into its meta.
    pub(super) fn name(&mut self, tag: Option<&str>) {
        if let (Value::Map(meta), Some(tag), Ok(_)) = (&mut self.meta, tag, &self.rows) {
            meta.insert(Value::keyword("etag"), Value::text(tag));
        }
    }
}

/// Takes the calls out of a pattern. What they do themselves (literals on columns, a page straight after the
/// call) is taken out of it too.
pub(super) fn collect(
    pattern: &mut Pattern,
    pinned: &PinnedState,
    ranges: &TimeRanges,
    queries: &NamedQueries,
    problems: &mut Vec<Problem>,
) -> Vec<Branch> {
    let mut work = Collector { pinned, ranges, problems, branches: Vec::new() };
    let Pattern::Map(root) = pattern else { return Vec::new() };
    for entry in &mut root.entries {
        let path = vec![entry.name().clone()];
        let kind = match &entry.key {
            Value::Keyword(name) => name.to_string(),
            _ => continue,
        };
        let Target::Into(Pattern::Map(below)) = &mut entry.target else { continue };
        match kind.as_str() {
            "metrics" | "records" | "values" => work.tables(&kind, below, &path),
            QUERIES => work.queries(queries, below, &path),
            _ => {}
        }
    }
    if work.branches.len() > BRANCHES_MAX {
        let reason = format!("a request makes at most {BRANCHES_MAX} calls");
        work.problems.push(Problem::new("too-large", reason, &[]));
    }
    work.branches
}

struct Collector<'a> {
    pinned: &'a PinnedState,
    ranges: &'a TimeRanges,
    problems: &'a mut Vec<Problem>,
    branches: Vec<Branch>,
}

impl Collector<'_> {
    fn tables(&mut self, kind: &str, tables: &mut MapPattern, path: &Path) {
        for entry in &mut tables.entries {
            let mut known = event_tables(self.pinned.snapshot());
            let table = known.find(|table| Value::keyword(tree_name(table)) == entry.key);
            if let Some(table) = table.cloned() {
                let here = join(path, entry.name());
                let endpoint = match kind {
                    "metrics" => Endpoint::Metrics(&table),
                    "values" => Endpoint::Values(&table),
                    _ => Endpoint::Records(&table),
                };
                self.entry(endpoint, entry, &here);
            }
        }
    }

    fn queries(&mut self, queries: &NamedQueries, calls: &mut MapPattern, path: &Path) {
        for entry in &mut calls.entries {
            let Value::Keyword(name) = &entry.key else { continue };
            if let Some(query) = queries.find(name) {
                let here = join(path, entry.name());
                self.entry(Endpoint::Named(query), entry, &here);
            }
        }
    }

    fn entry(&mut self, endpoint: Endpoint<'_>, entry: &mut Entry, path: &Path) {
        let mut calls: Vec<(Value, Path)> = Vec::new();
        let mut batched = false;
        for option in &entry.options {
            match option {
                KeyOption::With(arguments) => {
                    let at = join(&join(path, "with"), 0_usize);
                    calls.extend(arguments.first().map(|argument| (argument.clone(), at)));
                }
                KeyOption::Batch(all) => {
                    batched = true;
                    for (i, arguments) in all.iter().enumerate() {
                        let at = join(&join(&join(path, "batch"), i), 0_usize);
                        calls.extend(arguments.first().map(|argument| (argument.clone(), at)));
                    }
                }
                _ => {}
            }
        }
        let seq = if batched { None } else { page_after_call(&mut entry.options) };
        let rows = row_pattern(&mut entry.target, batched);
        for (call, (argument, argument_path)) in calls.iter().enumerate() {
            let Value::Map(argument) = argument else { continue };
            let argument = (argument, argument_path.clone());
            self.call(endpoint, argument, rows.as_deref(), seq, (path, call));
        }
        // A named query is what it is: what its rows are compared with is tested on the answer.
        if let (Some(rows), Endpoint::Metrics(_) | Endpoint::Records(_)) = (rows, endpoint) {
            metrics::strip_filters(rows);
        }
    }

    fn call(
        &mut self,
        endpoint: Endpoint<'_>,
        (argument, argument_path): (&Map, Path),
        rows: Option<&RowsPattern>,
        seq: Option<(usize, Option<usize>)>,
        (path, call): (&Path, usize),
    ) {
        let table = match endpoint {
            Endpoint::Metrics(table) | Endpoint::Records(table) | Endpoint::Values(table) => table,
            Endpoint::Named(query) => {
                let (state, argument) = (self.pinned.state(), (argument, &argument_path));
                let checked = named::check(state, query, argument, rows, seq, self.problems);
                return self.branches.extend(checked.map(|checked| Branch {
                    path: path.clone(),
                    call,
                    query: Query::Named(checked),
                    tag: None,
                }));
            }
        };
        let snapshot = self.pinned.snapshot();
        let newest_us = self.ranges.get(snapshot, table).map(|(_, newest)| newest);
        let moment = Moment { now_us: snapshot.pinned_at_us(), newest_us };
        let given = Call { table, argument, rows, seq, path, argument_path, moment };
        let own = Arc::clone(table);
        let query = match endpoint {
            Endpoint::Metrics(_) => {
                metrics::check(given, self.problems).map(|query| Query::Metrics(own, query))
            }
            Endpoint::Values(_) => {
                values::check(given, self.problems).map(|query| Query::Values(own, query))
            }
            _ => records::check(given, self.problems).map(|query| Query::Records(own, query)),
        };
        if let Some(query) = query {
            self.branches.push(Branch { path: path.clone(), call, query, tag: None });
        }
    }
}

/// Whether an option says how the answer is named or sent, and nothing of its rows.
fn is_about_the_answer(option: &KeyOption) -> bool {
    matches!(option, KeyOption::As(_) | KeyOption::Watch(_))
}

/// Takes the `:seq` that stands straight after `:with`.
fn page_after_call(options: &mut Vec<KeyOption>) -> Option<(usize, Option<usize>)> {
    let call = options.iter().position(|o| matches!(o, KeyOption::With(_)))?;
    let next = options.iter().enumerate().skip(call + 1).find(|(_, o)| !is_about_the_answer(o));
    let (place, page) = match next {
        Some((place, KeyOption::Seq(offset, count))) => (place, (*offset, *count)),
        _ => return None,
    };
    options.remove(place);
    Some(page)
}

fn row_pattern(target: &mut Target, batched: bool) -> Option<&mut RowsPattern> {
    let Target::Into(Pattern::Rows(rows)) = target else { return None };
    match (&rows.element, batched) {
        (Pattern::Rows(_), true) => match &mut rows.element {
            Pattern::Rows(inner) => Some(inner),
            Pattern::Map(_) => None,
        },
        (_, true) => None,
        (_, false) => Some(rows),
    }
}

impl Branch {
    /// Runs the query.
    pub(super) async fn run(&self, session: &Session, pinned: &PinnedState) -> Outcome {
        let begun = Instant::now();
        let mut meta = Map::new();
        let work = async {
            match &self.query {
                Query::Metrics(table, query) => {
                    run::metrics(&run::Over { table, session, pinned }, query, &mut meta).await
                }
                Query::Records(table, query) => {
                    run::records(&run::Over { table, session, pinned }, query, &mut meta).await
                }
                Query::Values(table, query) => {
                    run::values(&run::Over { table, session, pinned }, query, &mut meta).await
                }
                Query::Named(call) => call.run(session, pinned, &mut meta).await,
            }
        };
        let rows = tokio::time::timeout(BRANCH_TIME_MAX, work).await;
        let rows = rows.unwrap_or_else(|_| Err(SqlError::timed_out()));
        let millis = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        meta.insert(Value::keyword("ms"), Value::Int(millis));
        Outcome { rows: rows.map_err(|e| call_error(&e)), meta: Value::Map(meta) }
    }
}

pub(super) fn row_value(keys: &[Value], cells: impl Iterator<Item = Value>) -> Value {
    let entries: Vec<_> = keys.iter().cloned().zip(cells).collect();
    // Columns of a query are distinct.
    Map::from_entries(entries).map_or(Value::Nil, Value::Map)
}

pub(super) fn count_meta(rows: &[Value], truncated: bool, meta: &mut Map) {
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    meta.insert(Value::keyword("rows"), Value::Int(count));
    meta.insert(Value::keyword("truncated"), Value::Bool(truncated));
}

/// The view of the rollup that has answered, if one has.
pub(super) fn answering_view(report: Report) -> Option<String> {
    report.uses.into_iter().find_map(|used| match used.answer {
        Answer::Rollup { view, .. } => Some(view),
        Answer::Raw(_) => None,
    })
}

pub(super) fn columns_of(batch: &RecordBatch, zone: Tz, skip: usize) -> SqlResult<Vec<Vec<Value>>> {
    let schema = batch.schema();
    let columns = batch.columns().iter().zip(schema.fields()).skip(skip);
    columns.map(|(array, field)| cells_of(array, field, zone)).collect()
}

/// A failure as the answer tells it: messages of the engine may quote data, so only those known not to are
/// passed on.
fn call_error(error: &SqlError) -> CallError {
    tracing::warn!(sqlstate = error.sqlstate, message = %error.message, "pull branch failed");
    let told = |code: &'static str| CallError { code, reason: error.message.clone() };
    match error.sqlstate {
        sqlstate::CANCELED => told("timeout"),
        sqlstate::OUT_OF_MEMORY => {
            CallError { code: "too-large", reason: "the memory of queries is used up".into() }
        }
        sqlstate::LIMIT_EXCEEDED => told("too-large"),
        sqlstate::SNAPSHOT_TOO_OLD => told("execution-error"),
        other => CallError {
            code: "execution-error",
            reason: format!("the query failed (SQLSTATE {other})"),
        },
    }
}
