//! The aggregate calls whose states a table's rollups store, in the form in which the planner has the calls
//! of a query after it has coerced types: equal forms mean equal calls.

use std::sync::{Arc, OnceLock};

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::{empty::EmptyTable, provider_as_source};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use otus_engine::compiled::CompiledTable;
use otus_engine::expr::{AggregateCall, AggregateFunction as Stored};
use parking_lot::Mutex;

use super::chain::resolve;
use crate::aggregate;
use crate::bounded::{BoundCalls, Bounds};
use crate::compile::finish_expr;
use crate::error::{SqlError, SqlResult};
use crate::lossy::named_casts_removed;
use crate::state::functions;

/// Tables whose facts are kept.
const KEPT: usize = 256;

/// What the matching needs to know of a table's definition.
#[derive(Debug)]
pub(crate) struct TableFacts {
    /// Per compiled call of the table, the call as a query would have it; none if it cannot be had so.
    pub(super) calls: Vec<Option<AggregateFunction>>,
}

/// Facts of the tables of a catalogue, made once for each compiled definition.
#[derive(Debug, Default)]
pub(crate) struct FactsCache {
    tables: Mutex<Vec<(Arc<CompiledTable>, Arc<TableFacts>)>>,
    /// The state that declarations are planned with.
    declaring: OnceLock<Option<Box<SessionState>>>,
}

impl FactsCache {
    /// Facts of `table`. Declared expressions mean UTC, whatever the zone of the session.
    pub(super) fn of(&self, state: &SessionState, table: &Arc<CompiledTable>) -> Arc<TableFacts> {
        let same = |known: &&(Arc<CompiledTable>, Arc<TableFacts>)| Arc::ptr_eq(&known.0, table);
        if let Some((_, facts)) = self.tables.lock().iter().find(same) {
            return Arc::clone(facts);
        }
        let declaring = self.declaring.get_or_init(|| functions().ok().map(Box::new));
        let facts = match declaring {
            Some(declaring) => facts(state, declaring, table),
            None => TableFacts { calls: Vec::new() },
        };
        let facts = Arc::new(facts);
        let mut known = self.tables.lock();
        known.retain(|(other, _)| other.id != table.id && Arc::strong_count(other) > 1);
        if known.len() < KEPT {
            known.push((Arc::clone(table), Arc::clone(&facts)));
        }
        facts
    }
}

fn facts(state: &SessionState, declaring: &SessionState, table: &CompiledTable) -> TableFacts {
    let mut utc = state.clone();
    utc.config_mut().options_mut().execution.time_zone = Some("UTC".into());
    // A declaration has the planner's own operators, some of which mean another number than those of a query.
    let form = |call: &AggregateCall| {
        let asked = analyzed(&utc, table, over_raw(&utc, table, call).ok()?).ok()?;
        let stored = analyzed(&utc, table, over_raw(declaring, table, call).ok()?).ok()?;
        (asked == stored).then_some(asked)
    };
    TableFacts { calls: table.measures.calls.iter().map(form).collect() }
}

fn analyzed(
    state: &SessionState,
    table: &CompiledTable,
    call: Expr,
) -> SqlResult<AggregateFunction> {
    let source = provider_as_source(Arc::new(EmptyTable::new(Arc::clone(&table.schema))));
    let plan = LogicalPlanBuilder::scan("raw", source, None)?
        .aggregate(Vec::<Expr>::new(), [call])?
        .build()?;
    let plan = endless(state).execute_and_check(plan, state.config_options(), |_, _| {})?;
    let LogicalPlan::Aggregate(aggregate) = plan else {
        return Err(SqlError::internal("an aggregate was analyzed to something else"));
    };
    let expr = aggregate.aggr_expr.first().cloned().unwrap_or_else(|| lit(0));
    let expr = resolve(expr.unalias(), &aggregate.input)?;
    let simplifier = Simplifier::new(state, table)?;
    match simplifier.simplify(expr)? {
        Expr::AggregateFunction(function) => Ok(function),
        _ => Err(SqlError::internal("a call was simplified to something else")),
    }
}

/// The analyzer without what ends with the statement: facts outlive it.
fn endless(state: &SessionState) -> Analyzer {
    let known = state.analyzer();
    let bounds = BoundCalls(Bounds::new(Arc::default(), usize::MAX));
    let rules = known.rules.iter().map(|rule| match rule.name() == bounds.name() {
        true => Arc::new(bounds.clone()) as _,
        false => Arc::clone(rule),
    });
    Analyzer { rules: rules.collect(), function_rewrites: known.function_rewrites.clone() }
}

/// A stored call as an expression over raw columns.
pub(crate) fn over_raw(
    state: &SessionState,
    table: &CompiledTable,
    call: &AggregateCall,
) -> SqlResult<Expr> {
    let name = call.function.sql_name();
    let Some(function) = state.aggregate_functions().get(name) else {
        return Err(SqlError::internal(format!("aggregate function {name}() is not registered")));
    };
    let schema = table.schema.as_ref();
    let args = call.args_sql.iter().map(|sql| finish_expr(state, sql, schema));
    let mut args = args.collect::<SqlResult<Vec<_>>>()?;
    match call.function {
        Stored::CountAll => args.push(lit(1_i64)),
        function => args.extend(aggregate::parameter(function)),
    }
    let expr = function.call(args);
    match &call.filter_sql {
        Some(sql) => Ok(expr.filter(finish_expr(state, sql, schema)?).build()?),
        None => Ok(expr),
    }
}

/// Brings expressions over a table's columns to one form.
pub(super) struct Simplifier(ExprSimplifier);

impl Simplifier {
    pub(super) fn new(state: &SessionState, table: &CompiledTable) -> DfResult<Self> {
        let schema = DFSchema::try_from(table.schema.as_ref().clone())?;
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema))
            .with_config_options(Arc::clone(state.config_options()))
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        Ok(Self(ExprSimplifier::new(context)))
    }

    /// Folds constants; an aggregate call stays one.
    pub(super) fn simplify(&self, expr: Expr) -> DfResult<Expr> {
        self.simplified(named_casts_removed(expr)?)
    }

    fn simplified(&self, expr: Expr) -> DfResult<Expr> {
        match expr {
            Expr::AggregateFunction(mut f) => {
                f.params.args = f
                    .params
                    .args
                    .into_iter()
                    .map(|arg| self.simplify(arg))
                    .collect::<DfResult<Vec<_>>>()?;
                if let Some(filter) = f.params.filter.take() {
                    f.params.filter = Some(Box::new(self.simplify(*filter)?));
                }
                Ok(Expr::AggregateFunction(f))
            }
            other => plain(self.0.simplify(other)?),
        }
    }
}

/// Without aliases and metadata of literals, which mean nothing here.
fn plain(expr: Expr) -> DfResult<Expr> {
    expr.transform_up(|e| {
        Ok(match e {
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            Expr::Literal(value, Some(_)) => Transformed::yes(Expr::Literal(value, None)),
            other => Transformed::no(other),
        })
    })
    .data()
}
