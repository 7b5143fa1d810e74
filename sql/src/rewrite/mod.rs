//! Rollups chosen by themselves: an aggregate over the raw rows of a table becomes one over stored states,
//! with raw rows where states do not reach, if that gives the same answer; else it stays, and says why.
//!
//! ```text
//!  analyzed plan ─► chain (what lies between aggregate and scan) ─► range + rest of the conditions
//!        for each rollup: calls ─► needs ─► design (sources by time) ─► the cheapest ─► build
//! ```
//! Runs once, after types are coerced and before the optimizer, on the statement's one snapshot. What is not
//! known to be equal is refused.

mod alike;
mod branch;
mod build;
mod calls;
mod chain;
mod design;
mod facts;
#[cfg(test)]
mod fault;
mod fits;
mod frame;
mod implied;
mod needs;
mod offsets;
mod range;
mod report;
mod shift;
mod spelled;
mod states;
mod total;
mod wish;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, HashSet};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan, TableScan, lit};
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::snapshot::Snapshot;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::provider::{RawTable, StatesTable};
pub(crate) use branch::without_truth_tests;
use build::Build;
use calls::{Matched, Matcher};
use chain::{Chain, chain, raw_table, resolve, tables_below};
use design::{Design, Question, RawFacts, cut_notice};
pub(crate) use facts::{FactsCache, over_raw};
use facts::{Simplifier, TableFacts};
#[cfg(test)]
pub(crate) use fault::Fault;
use frame::{Atoms, Frame};
use needs::{Examiner, Needs};
use range::Split;
use report::Refusal;
pub(crate) use report::{Answer, Report, Use};
pub(crate) use wish::Wish;

/// `otus.rollups`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Where they give the same answer with fewer rows.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always; a statement that no rollup serves is an error.
    Force,
}

impl Mode {
    /// The mode of a setting's value.
    pub(crate) fn named(value: &str) -> Self {
        match value {
            "off" => Self::Off,
            "force" => Self::Force,
            _ => Self::Auto,
        }
    }
}

/// Lets rollups answer where they can. `plan` is analyzed and not yet optimized.
pub(crate) fn apply(
    plan: LogicalPlan,
    state: &SessionState,
    mode: Mode,
    facts: &FactsCache,
) -> SqlResult<(LogicalPlan, Report)> {
    #[cfg(test)]
    let _armed = fault::arm(state);
    let mut work = Work {
        state,
        mode,
        facts,
        report: Report::default(),
        seen: HashSet::new(),
        recent: HashSet::new(),
    };
    let done = plan.transform_down_with_subqueries(|node| work.visit(node))?;
    let report = work.report;
    if mode == Mode::Force
        && let Some(reason) = report.refusals()
    {
        let message = format!("no rollup serves this query: {reason}");
        return Err(SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
            .with_hint("SET otus.rollups = auto lets raw rows answer"));
    }
    Ok((done.data, report))
}

struct Work<'a> {
    state: &'a SessionState,
    mode: Mode,
    facts: &'a FactsCache,
    report: Report,
    /// Raw tables of which something is said already.
    seen: HashSet<String>,
    /// Raw tables that are filtered to what lies above their horizon.
    recent: HashSet<String>,
}

/// What becomes of an aggregate.
enum Fate {
    /// It is none over raw rows.
    Other,
    Served(Box<LogicalPlan>, Use, Option<String>),
    Refused(RawTable, Refusal, Option<String>),
}

impl Work<'_> {
    fn visit(&mut self, node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        #[cfg(test)]
        let node = match node {
            LogicalPlan::Filter(filter)
                if self.mode != Mode::Off
                    && fault::has(Fault::HavingDropped)
                    && matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)) =>
            {
                filter.input.as_ref().clone()
            }
            node => node,
        };
        let aggregate = match &node {
            LogicalPlan::Aggregate(aggregate) => Some(aggregate.clone()),
            LogicalPlan::Distinct(Distinct::All(input)) => distinct(input),
            LogicalPlan::TableScan(scan) => {
                if let Some(raw) = raw_table(scan) {
                    self.unaggregated(&raw);
                }
                self.notice(partial(scan));
                None
            }
            LogicalPlan::Filter(_) => {
                self.note_range(&node)?;
                None
            }
            _ => None,
        };
        let Some(aggregate) = aggregate else { return Ok(Transformed::no(node)) };
        match self.fate(&aggregate) {
            Fate::Other => Ok(Transformed::no(node)),
            Fate::Served(plan, used, notice) => {
                self.report.uses.push(used);
                self.notice(notice);
                Ok(Transformed::new(*plan, true, TreeNodeRecursion::Jump))
            }
            Fate::Refused(raw, refusal, notice) => {
                self.refused(&raw, refusal);
                self.notice(notice);
                Ok(Transformed::no(node))
            }
        }
    }

    /// Remembers a table whose rows are asked for from its horizon on only.
    fn note_range(&mut self, filter: &LogicalPlan) -> DfResult<()> {
        let mut tables = Vec::new();
        tables_below(filter, &mut tables);
        let [raw] = tables.as_slice() else { return Ok(()) };
        let Some(horizon) = raw.snapshot().horizon_us(raw.table().id) else { return Ok(()) };
        let Ok(Ok(Some(found))) = chain(filter) else { return Ok(()) };
        let table = found.raw.table();
        let simplifier = Simplifier::new(self.state, table)?;
        let simple = found.conditions.into_iter().map(|c| simplifier.simplify(c));
        let Ok(simple) = simple.collect::<DfResult<Vec<_>>>() else { return Ok(()) };
        if range::split(&examiner(table, &[], ""), &simple).from_us >= horizon {
            self.recent.insert(table.def.qualified_name());
        }
        Ok(())
    }

    fn notice(&mut self, notice: Option<String>) {
        if let Some(notice) = notice.filter(|n| !self.report.notices.contains(n)) {
            self.report.notices.push(notice);
        }
    }

    fn refused(&mut self, raw: &RawTable, refusal: Refusal) {
        self.seen.insert(raw.table().def.qualified_name());
        if refusal.idle && self.mode == Mode::Force {
            return;
        }
        let table = raw.table().def.name.clone();
        let used = Use { table, answer: Answer::Raw(refusal.reason) };
        if !self.report.uses.contains(&used) {
            self.report.uses.push(used);
        }
    }

    fn unaggregated(&mut self, raw: &RawTable) {
        if self.seen.contains(&raw.table().def.qualified_name()) {
            return;
        }
        self.refused(raw, Refusal::new("its rows are not aggregated"));
        let recent = self.recent.contains(&raw.table().def.qualified_name());
        if let Some(horizon) = raw.snapshot().horizon_us(raw.table().id).filter(|_| !recent) {
            self.notice(Some(cut_notice(raw.table(), horizon)));
        }
    }

    fn fate(&mut self, aggregate: &Aggregate) -> Fate {
        let Ok(views) = frame::views(aggregate) else { return Fate::Other };
        let mut fate = Fate::Other;
        for view in views {
            match (self.seen_as(aggregate, view.chain, Some(view.frame)), fate) {
                (served @ Fate::Served(..), _) => return served,
                (next, Fate::Refused(raw, refusal, notice)) => {
                    self.refused(&raw, refusal);
                    self.notice(notice);
                    fate = next;
                }
                (next, _) => fate = next,
            }
        }
        if !matches!(fate, Fate::Other) {
            return fate;
        }
        match chain(&aggregate.input) {
            Ok(Ok(Some(found))) => self.seen_as(aggregate, found, None),
            Ok(Ok(None)) | Err(_) => Fate::Other,
            Ok(Err(refusal)) => {
                let mut tables = Vec::new();
                tables_below(&aggregate.input, &mut tables);
                for raw in tables {
                    self.refused(&raw, refusal.clone());
                }
                Fate::Other
            }
        }
    }

    /// What becomes of an aggregate as one over the rows of a table.
    fn seen_as(&mut self, aggregate: &Aggregate, found: Chain, mut frame: Option<Frame>) -> Fate {
        let raw = found.raw;
        let case = match Case::new(self, &raw, aggregate, found.conditions, frame.as_mut()) {
            Ok(Ok(case)) => case,
            Ok(Err(refusal)) => return Fate::Refused(raw, refusal, None),
            Err(e) => {
                // What cannot be folded, such as a division by zero, is left to the plan over raw rows.
                let reason = format!("it could not be matched: {}", SqlError::from(e).message);
                return Fate::Refused(raw, Refusal::new(reason), None);
            }
        };
        let below = |case: &Case<'_>| {
            let horizon = case.raw_facts.horizon;
            (case.split.from_us < horizon).then(|| cut_notice(raw.table(), horizon))
        };
        match self.serve(&case, aggregate, frame) {
            Ok((plan, used, notice)) => Fate::Served(Box::new(plan), used, notice),
            Err(Failure::Refused(refusal)) => {
                let may_wish = raw.table().is_whole() && self.mode == Mode::Auto;
                if may_wish && !refusal.idle && !case.folds() {
                    let wish = wish::wish(&case, self.state, self.facts);
                    let known = &mut self.report.wishes;
                    known.extend(wish.filter(|wish| !known.contains(wish)));
                }
                let notice = below(&case);
                Fate::Refused(raw.clone(), refusal, notice)
            }
            Err(Failure::Failed(e)) => {
                // Raw rows answer all the same.
                let reason = format!("its plan could not be built: {}", SqlError::from(e).message);
                tracing::warn!(reason, "a plan over a rollup was not built");
                Fate::Refused(raw.clone(), Refusal::new(reason), below(&case))
            }
        }
    }

    fn serve(
        &mut self,
        case: &Case<'_>,
        aggregate: &Aggregate,
        mut frame: Option<Frame>,
    ) -> Result<(LogicalPlan, Use, Option<String>), Failure> {
        let table = case.raw.table();
        if self.mode == Mode::Off {
            return Err(Refusal::new("otus.rollups is off").into());
        }
        if table.rollups.is_empty() {
            return Err(Refusal::new("the table has no rollup").into());
        }
        if self.mode == Mode::Auto && case.folds() {
            return Err(Refusal::idle("the statistics of its files answer").into());
        }
        let mut best: Option<(Matcher<'_>, Vec<Expr>, Design)> = None;
        let mut refusal: Option<Refusal> = None;
        for rollup in &table.rollups {
            match case.match_rollup(rollup) {
                Ok(found) => {
                    let better = best.as_ref().is_none_or(|(_, _, known)| {
                        (!found.2.below_horizon, found.2.cost) < (!known.below_horizon, known.cost)
                    });
                    if better {
                        best = Some(found);
                    }
                }
                Err(e) => {
                    refusal = Some(match refusal {
                        Some(known) => nearer(known, e),
                        None => e,
                    });
                }
            }
        }
        let Some((matcher, values, design)) = best else {
            return Err(refusal.unwrap_or_else(|| Refusal::new("the table has no rollup")).into());
        };
        let raw_rows = case.raw_facts.rows((case.split.from_us, case.split.to_us));
        if self.mode == Mode::Auto && !design.below_horizon && design.cost > raw_rows {
            return Err(Refusal::idle(format!(
                "rollup {} has no fewer rows to read",
                matcher.rollup.def.name
            ))
            .into());
        }
        if let Some(frame) = &mut frame {
            frame.visit_others(&mut |plan| {
                Ok(plan.transform_down_with_subqueries(|node| self.visit(node))?.data)
            })?;
        }
        let plan = case.build(aggregate, &matcher, values, &design, frame.as_ref())?;
        let def = &matcher.rollup.def;
        let answer = Answer::Rollup {
            name: def.name.clone(),
            view: def.view_name(design.coarsest),
            // Times of rows that nobody may see are none of the statement's.
            parts: table.guard().map_or_else(|| design.lines(def.finest()), |_| Vec::new()),
        };
        let used = Use { table: table.def.name.clone(), answer };
        Ok((plan, used, design.notice))
    }
}

/// What is to be said of a finished view that is not whole.
fn partial(scan: &TableScan) -> Option<String> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<StatesTable>()?.partial()
}

/// Of two reasons the one that comes later in the matching.
fn nearer(known: Refusal, other: Refusal) -> Refusal {
    if other.stage > known.stage { other } else { known }
}

enum Failure {
    Refused(Refusal),
    Failed(DataFusionError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DataFusionError> for Failure {
    fn from(e: DataFusionError) -> Self {
        Self::Failed(e)
    }
}

/// `SELECT DISTINCT a, b` as the aggregate that it is.
fn distinct(input: &Arc<LogicalPlan>) -> Option<Aggregate> {
    let keys: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    Aggregate::try_new(Arc::clone(input), keys, Vec::new()).ok()
}

/// One aggregate over the raw rows of a table, in terms of the table's own columns.
struct Case<'a> {
    raw: &'a RawTable,
    facts: Arc<TableFacts>,
    schema: DFSchema,
    /// Distinct keys: as the aggregate has them, and over the table's columns. Under joins whatever they and the
    /// keys ask of rows of the table.
    keys: Vec<(Expr, Expr)>,
    calls: Vec<Expr>,
    conditions: Vec<Expr>,
    split: Split,
    raw_facts: RawFacts,
    /// Whether joins or subqueries stand between the rows and the aggregate.
    framed: bool,
}

impl<'a> Case<'a> {
    fn new(
        work: &Work<'_>,
        raw: &'a RawTable,
        aggregate: &Aggregate,
        conditions: Vec<Expr>,
        mut frame: Option<&mut Frame>,
    ) -> DfResult<Result<Self, Refusal>> {
        let table = raw.table();
        let simplifier = Simplifier::new(work.state, table)?;
        let own = |expr: &Expr| -> DfResult<Expr> {
            let expr = expr.clone().unalias_nested().data;
            simplifier.simplify(resolve(expr, &aggregate.input)?)
        };
        let grouped = grouping_set_to_exprlist(&aggregate.group_expr)?;
        let (mut keys, mut calls) = (Vec::new(), Vec::new());
        if let Some(frame) = &mut frame {
            let mut atoms = Atoms::new(&simplifier);
            let grouped: Vec<Expr> = grouped.into_iter().cloned().collect();
            if let Err(refusal) = frame.atomize(&grouped, &aggregate.input, &mut atoms)? {
                return Ok(Err(refusal));
            }
            keys.extend(atoms.found.into_iter().map(|atom| (atom.clone(), atom)));
            for call in &aggregate.aggr_expr {
                match frame.call(call, &aggregate.input)? {
                    Ok(call) => calls.push(simplifier.simplify(call)?),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
        } else {
            for key in grouped {
                keys.push((key.clone(), own(key)?));
            }
            calls = aggregate.aggr_expr.iter().map(own).collect::<DfResult<Vec<_>>>()?;
        }
        let mut simple = Vec::new();
        for condition in conditions {
            simple.extend(split_conjunction_owned(simplifier.simplify(condition)?));
        }
        simple.retain(|condition| *condition != lit(true));
        let examiner = examiner(table, &[], "");
        let split = range::split(&examiner, &simple);
        Ok(Ok(Self {
            raw,
            facts: work.facts.of(work.state, table),
            schema: DFSchema::try_from(table.schema.as_ref().clone())?,
            keys,
            calls,
            conditions: simple,
            split,
            raw_facts: RawFacts::new(raw.snapshot(), table),
            framed: frame.is_some(),
        }))
    }

    fn snapshot(&self) -> &Arc<Snapshot> {
        self.raw.snapshot()
    }

    /// Whether the planner answers from the statistics of files, without a row.
    fn folds(&self) -> bool {
        let simple = |call: &Expr| match call {
            Expr::AggregateFunction(f) => {
                let known = match f.params.args.as_slice() {
                    [Expr::Literal(..)] => f.func.name() == "count",
                    [Expr::Column(_)] => matches!(f.func.name(), "min" | "max"),
                    _ => false,
                };
                known && f.params.filter.is_none() && !f.params.distinct
            }
            _ => false,
        };
        !self.framed
            && self.raw.table().guard().is_none()
            && self.keys.is_empty()
            && self.conditions.is_empty()
            && self.raw_facts.horizon == i64::MIN
            && self.calls.iter().all(simple)
    }

    fn match_rollup<'b>(
        &'b self,
        rollup: &'b CompiledRollup,
    ) -> Matched<(Matcher<'b>, Vec<Expr>, Design)> {
        let table = self.raw.table();
        let def = &rollup.def;
        if def.dimension_names().any(|name| *name == table.def.time) {
            return Err(Refusal::new(format!(
                "rollup {} has the event time among its dimensions",
                def.name
            )));
        }
        let Some(forms) = self.facts.rollup(rollup.id) else {
            return Err(Refusal::new(format!("rollup {} could not be planned", def.name)));
        };
        let mut matcher = Matcher {
            table,
            snapshot: self.snapshot(),
            rollup,
            facts: &self.facts,
            examiner: examiner(table, &forms.names, &def.name),
            schema: &self.schema,
            needs: Needs::default(),
            forms,
            rest: Vec::new(),
            atoms: Vec::new(),
            states: Vec::new(),
            calls: Vec::new(),
        };
        if let Some(never) = self.conditions.iter().find(|c| matches!(c, Expr::Literal(..))) {
            let value = if *never == lit(false) { "false" } else { "null" };
            return Err(Refusal::idle(format!("the condition is always {value}")));
        }
        matcher.conditions(&self.conditions, &self.split.rest)?;
        for (_, key) in &self.keys {
            matcher.key(key).map_err(|e| e.at(2))?;
        }
        let mut values = Vec::new();
        for call in &self.calls {
            match call {
                Expr::AggregateFunction(f) => {
                    values.push(matcher.aggregate(f).map_err(|e| e.at(3))?);
                }
                _ => return Err(Refusal::new("an aggregate of a kind that is not matched")),
            }
        }
        #[cfg(test)]
        fault::needs(&mut matcher.needs);
        let question = Question {
            snapshot: self.snapshot(),
            table,
            rollup,
            raw: &self.raw_facts,
            needs: &matcher.needs,
            range: self.raw_facts.widened((self.split.from_us, self.split.to_us)),
        };
        let design = question.design().map_err(|e| e.at(4))?;
        Ok((matcher, values, design))
    }

    fn build(
        &self,
        aggregate: &Aggregate,
        matcher: &Matcher<'_>,
        values: Vec<Expr>,
        design: &Design,
        frame: Option<&Frame>,
    ) -> DfResult<LogicalPlan> {
        #[cfg(test)]
        let (design, rest, atoms) =
            fault::sources(design, &matcher.rest, &matcher.atoms, self.raw.table(), matcher.rollup);
        #[cfg(test)]
        let (design, rest, atoms) = (&design, &rest, &atoms);
        #[cfg(not(test))]
        let (rest, atoms) = (&matcher.rest, &matcher.atoms);
        let build = Build {
            snapshot: self.snapshot(),
            table: self.raw.table(),
            rollup: matcher.rollup,
            facts: &self.facts,
            design,
            conditions: &self.conditions,
            rest,
            atoms,
            states: &matcher.states,
        };
        let mut rows = build.rows()?;
        // The keys are the first atoms, in their order.
        let mut keys: Vec<(Expr, Expr)> = self
            .keys
            .iter()
            .enumerate()
            .map(|(i, (key, _))| (key.clone(), calls::column(calls::atom_name(i))))
            .collect();
        if let Some(frame) = frame {
            (rows, keys) = (frame.assembled(rows)?, frame.keys().to_vec());
        }
        let calls = matcher.named_calls();
        #[cfg(test)]
        let (calls, values) = fault::merges(calls, values)?;
        build::finished(rows, aggregate, &keys, calls, values)
    }
}

fn examiner<'a>(
    table: &'a CompiledTable,
    dimensions: &'a [String],
    rollup: &'a str,
) -> Examiner<'a> {
    let time_type = table.schema.field(table.time_index).data_type();
    Examiner { time: &table.def.time, time_type, dimensions, rollup }
}
