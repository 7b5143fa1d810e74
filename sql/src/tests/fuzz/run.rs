//! One case: a query answered twice over the same rows, with rollups and without; what differs, made small.

use std::collections::BTreeMap;

use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use super::compare::{Answer, difference};
use super::query::Query;
use super::world::World;
use crate::rewrite::Fault;
use crate::{Outcome, Session, SqlError};

/// How a case ended.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The same answer twice.
    Same,
    /// The same error twice.
    Failed(String),
    /// Two answers; what differs.
    Different(String),
    /// An answer and an error, or two errors.
    Broken(String),
}

/// How many cases ended how.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) cases: u64,
    /// The same error twice.
    pub(super) failed: u64,
    /// A rollup answers.
    pub(super) rollup: u64,
    /// States, raw rows of cut buckets and raw rows of the open chunk answer together.
    pub(super) mixed: u64,
    /// Offsets from before the rollup was declared are read from raw rows.
    pub(super) uncovered: u64,
    /// Why raw rows answer, without the names.
    pub(super) raw: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts what EXPLAIN says of the sources of an answer.
    pub(super) fn count(&mut self, plan: &str) {
        let says = |text: &str| plan.contains(text);
        let rollup = says("events: rollup ");
        self.cases += 1;
        self.rollup += u64::from(rollup);
        self.mixed += u64::from(
            rollup && says(" states") && says("of cut buckets") && says("of the open hot chunk"),
        );
        self.uncovered += u64::from(rollup && says("before the rollup was declared"));
        let reason = plan.lines().find_map(|line| line.strip_prefix("events: raw rows ("));
        if let Some(reason) = reason.filter(|_| !rollup) {
            let words = reason.split(' ').filter(|w| !w.contains(['"', '_', '(', '=']));
            *self.raw.entry(words.collect::<Vec<_>>().join(" ")).or_default() += 1;
        }
    }
}

/// Runs one statement to its end.
pub(super) async fn answer(
    session: &Session,
    sql: &str,
    params: Vec<ScalarValue>,
) -> Result<Answer, SqlError> {
    let statements = session.parse(sql)?;
    let [statement] = statements.as_slice() else { panic!("one statement: {sql}") };
    match session.execute(statement, params).await? {
        Outcome::Rows { schema, mut stream, .. } => {
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await {
                batches.push(batch.map_err(SqlError::from)?);
            }
            Ok(Answer::new(schema, &batches))
        }
        Outcome::Command { .. } => {
            Ok(Answer::new(std::sync::Arc::new(arrow::datatypes::Schema::empty()), &[]))
        }
        other => panic!("{other:?}"),
    }
}

/// Sets something of the session.
pub(super) async fn set(session: &Session, name: &str, value: &str) {
    answer(session, &format!("SET {name} = '{value}'"), vec![]).await.unwrap();
}

/// The answer in a session, in the query's zone.
async fn answer_with(session: &Session, rollups: &str, query: &Query) -> Result<Answer, SqlError> {
    set(session, "TimeZone", &query.zone).await;
    set(session, "otus.rollups", rollups).await;
    let (sql, params) = query.sql();
    answer(session, &sql, params).await
}

/// Whether `left` with one setting and `right` with another answer alike.
pub(super) async fn compare(
    (left, with): (&World, &str),
    (right, without): (&World, &str),
    query: &Query,
) -> Verdict {
    compare_sessions((&left.session, with), (&right.session, without), query).await
}

/// The same for sessions.
pub(super) async fn compare_sessions(
    (left, with): (&Session, &str),
    (right, without): (&Session, &str),
    query: &Query,
) -> Verdict {
    let a = answer_with(left, with, query).await;
    let b = answer_with(right, without, query).await;
    match (a, b) {
        (Ok(a), Ok(b)) => match difference(&a, &b, &query.natures(), query.is_ordered()) {
            None => Verdict::Same,
            Some(text) => Verdict::Different(text),
        },
        (Err(a), Err(b)) if a.sqlstate == b.sqlstate => {
            Verdict::Failed(format!("{}: {}", a.sqlstate, a.message))
        }
        (Err(a), Err(b)) => Verdict::Broken(format!("errors {a:?} and {b:?}")),
        (Err(a), Ok(_)) => Verdict::Broken(format!("with rollups: {a:?}")),
        (Ok(_), Err(b)) => Verdict::Broken(format!("without rollups: {b:?}")),
    }
}

/// Asks a query three times: of a session that takes kept answers of this moment alone, twice, and of one that
/// takes none. What differs, and whether the first was given again.
pub(super) async fn kept(world: &World, query: &Query) -> (Option<String>, bool) {
    set(&world.session, "otus.cache_max_age", "1ms").await;
    let first = answer_with(&world.session, "auto", query).await;
    let given = world.session.provenance().age.is_some();
    let second = answer_with(&world.session, "auto", query).await;
    let told = world.session.provenance();
    set(&world.session, "otus.cache_max_age", "0").await;
    let fresh = answer_with(&world.session, "auto", query).await;
    let (natures, ordered) = (query.natures(), query.is_ordered());
    let differs = match (&first, &second, &fresh) {
        (Ok(first), Ok(second), Ok(fresh)) => match told.age {
            None => Some("what was kept this moment was not given again".to_string()),
            Some(_) => difference(first, fresh, &natures, ordered)
                .or_else(|| difference(second, fresh, &natures, ordered)),
        },
        (Err(a), Err(b), Err(c)) if a.sqlstate == c.sqlstate && b.sqlstate == c.sqlstate => None,
        all => Some(format!("{all:?}")),
    };
    (differs, given)
}

/// Whether the answer of a rewriting that is wrong in one way differs from that of raw rows.
pub(super) async fn is_noticed(world: &World, fault: Fault, query: &Query) -> bool {
    set(&world.session, "fuzz.fault", &format!("{fault:?}")).await;
    let verdict = compare((world, "auto"), (world, "off"), query).await;
    set(&world.session, "fuzz.fault", "none").await;
    matches!(verdict, Verdict::Different(_))
}

/// The plan of a query as `EXPLAIN` shows it, with the parameters' values in the text.
pub(super) async fn explain(world: &World, query: &Query) -> String {
    explain_in(&world.session, query).await
}

/// The same in a session.
pub(super) async fn explain_in(session: &Session, query: &Query) -> String {
    set(session, "TimeZone", &query.zone).await;
    set(session, "otus.rollups", "auto").await;
    let (sql, params) = query.sql();
    match answer(session, &format!("EXPLAIN {sql}"), params).await {
        Ok(answer) => {
            let lines = answer.rows.iter().map(|row| match &row[0] {
                super::compare::Cell::Text(line) => line.clone(),
                other => other.to_string(),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        Err(e) => format!("EXPLAIN fails: {e:?}"),
    }
}

/// Drops parts of a query as long as the difference stays.
async fn shrunk(world: &World, query: Query) -> Query {
    let mut least = query;
    'again: for _ in 0..60 {
        for smaller in least.smaller() {
            let verdict = compare((world, "auto"), (world, "off"), &smaller).await;
            if matches!(verdict, Verdict::Different(_) | Verdict::Broken(_)) {
                least = smaller;
                continue 'again;
            }
        }
        break;
    }
    least
}

/// Everything about a difference: how to see it again, the table, the least query that shows it, its plan.
pub(super) async fn report(world: &World, seed: u64, query: Query, at_first: &str) -> String {
    let (first, _) = query.sql();
    let query = Box::pin(shrunk(world, query)).await;
    let what = match compare((world, "auto"), (world, "off"), &query).await {
        Verdict::Different(what) | Verdict::Broken(what) => what,
        other => format!("gone when tried again: {other:?}; at first {at_first}"),
    };
    let (sql, params) = query.sql();
    let plan = explain(world, &query).await;
    format!(
        "different answers with and without rollups; again by OTUS_SEED={seed}\n\n\
         table {}life {:?}\n\nfirst {first}\nzone {}\nquery {sql}\nparameters {params:?}\n\n{what}\n\n{plan}\n",
        world.table.describe(),
        world.steps,
        query.zone,
    )
}
