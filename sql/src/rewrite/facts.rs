//! The aggregate calls whose states a table's rollups store, in the form in which the planner has the calls
//! of a query after it has coerced types: equal forms mean equal calls.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{empty::EmptyTable, provider_as_source};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::scalar::ScalarValue;
use otus_engine::catalog::{DimensionDef, RollupId};
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::expr::{AggregateCall, AggregateFunction as Stored};
use parking_lot::Mutex;

use super::alike;
use super::calls::column;
use super::chain::resolve;
use super::total::BY_PATTERN;
use crate::aggregate;
use crate::bounded::{BoundCalls, Bounds};
use crate::compile::{constant, finish_expr, queried_part, queried_row, row_expr};
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
    /// What the rollups of the table filter and compute.
    rollups: Vec<(RollupId, RollupForms)>,
}

/// Filter and dimensions of a rollup as a query would have them.
#[derive(Debug, Default)]
pub(super) struct RollupForms {
    /// Names of all dimensions.
    pub(super) names: Vec<String>,
    /// Conditions that are true of all its rows; none if they cannot be had.
    pub(super) conditions: Option<Vec<Expr>>,
    /// Computed dimensions; those that cannot be had are left out.
    pub(super) computed: Vec<Computed>,
}

/// A computed dimension.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) name: String,
    /// The expression over raw columns.
    pub(super) form: Expr,
    /// Its column of states, as a value of the expression's type.
    pub(super) column: Expr,
}

impl TableFacts {
    /// What is known of a rollup.
    pub(super) fn rollup(&self, id: RollupId) -> Option<&RollupForms> {
        self.rollups.iter().find(|(known, _)| *known == id).map(|(_, forms)| forms)
    }
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
            None => TableFacts { calls: Vec::new(), rollups: Vec::new() },
        };
        let facts = Arc::new(facts);
        let mut known = self.tables.lock();
        // Of one table there may be several parts, each of which somebody sees.
        let stays = |other: &CompiledTable| other.id != table.id || !other.is_whole();
        known.retain(|(other, _)| stays(other) && Arc::strong_count(other) > 1);
        if known.len() < KEPT {
            known.push((Arc::clone(table), Arc::clone(&facts)));
        }
        facts
    }

    /// The text of a row expression of a declaration as a query would have it.
    pub(super) fn row(
        &self,
        state: &SessionState,
        table: &CompiledTable,
        sql: &str,
    ) -> Option<Expr> {
        self.states(state)?.row(table, sql)
    }

    /// The text of an aggregate call as a query would have it, if declarations mean the same by it.
    pub(super) fn call(
        &self,
        state: &SessionState,
        table: &CompiledTable,
        sql: &str,
    ) -> Option<AggregateFunction> {
        let states = self.states(state)?;
        let schema = table.schema.as_ref();
        let asked = analyzed(&states.utc, table, queried_row(&states.utc, schema, sql).ok()?);
        let stored = analyzed(&states.utc, table, row_expr(states.declaring, schema, sql).ok()?);
        let (asked, stored) = (asked.ok()?, stored.ok()?);
        alike::calls(table, &asked, &stored).then_some(asked)
    }

    fn states(&self, state: &SessionState) -> Option<States<'_>> {
        let declaring = self.declaring.get_or_init(|| functions().ok().map(Box::new));
        Some(States { utc: in_utc(state), declaring: declaring.as_deref()? })
    }
}

fn facts(state: &SessionState, declaring: &SessionState, table: &CompiledTable) -> TableFacts {
    let states = States { utc: in_utc(state), declaring };
    let calls = table.measures.calls.iter().map(|call| states.call(table, call)).collect();
    let rollups = table.rollups.iter().map(|rollup| (rollup.id, states.forms(table, rollup)));
    TableFacts { calls, rollups: rollups.collect() }
}

fn in_utc(state: &SessionState) -> SessionState {
    let mut utc = state.clone();
    utc.config_mut().options_mut().execution.time_zone = Some("UTC".into());
    utc
}

/// A declaration has the planner's own operators and its types of numbers, some of which mean another number than those of
/// a query: only what is the same with either has a form.
struct States<'a> {
    utc: SessionState,
    declaring: &'a SessionState,
}

impl States<'_> {
    fn call(&self, table: &CompiledTable, call: &AggregateCall) -> Option<AggregateFunction> {
        let asked = analyzed(&self.utc, table, over_raw(&self.utc, table, call).ok()?).ok()?;
        let stored = called(self.declaring, table, call, declared_part).ok()?;
        let stored = analyzed(&self.utc, table, stored).ok()?;
        alike::calls(table, &asked, &stored).then_some(asked)
    }

    fn forms(&self, table: &CompiledTable, rollup: &CompiledRollup) -> RollupForms {
        let def = &rollup.def;
        let conditions = match &def.filter {
            None => Some(Vec::new()),
            Some(sql) => {
                self.conditions(table, sql).filter(|all| all.iter().all(|c| self.is_sound(c)))
            }
        };
        let computed = |dimension: &DimensionDef| {
            let form =
                self.row(table, dimension.sql.as_ref()?).filter(|form| self.is_sound(form))?;
            let schema = DFSchema::try_from(table.schema.as_ref().clone()).ok()?;
            let wanted = form.get_type(&schema).ok()?;
            let stored = rollup.plan.schema().field_with_name(&dimension.name).ok()?;
            let column = column(&dimension.name);
            let column = match *stored.data_type() == wanted {
                true => column,
                false if is_same_value(stored.data_type(), &wanted) => cast(column, wanted),
                false => return None,
            };
            Some(Computed { name: dimension.name.clone(), form, column })
        };
        RollupForms {
            names: def.dimension_names().cloned().collect(),
            conditions,
            computed: def.dimensions.iter().filter_map(computed).collect(),
        }
    }

    fn row(&self, table: &CompiledTable, sql: &str) -> Option<Expr> {
        let one = |expr: Expr| -> SqlResult<Option<Expr>> {
            let plan = scan(table)?.aggregate([expr], Vec::<Expr>::new())?.build()?;
            let LogicalPlan::Aggregate(aggregate) = self.planned(plan)? else { return Ok(None) };
            let Some(key) = aggregate.group_expr.first() else { return Ok(None) };
            let key = resolve(key.clone().unalias_nested().data, &aggregate.input)?;
            Ok(Some(Simplifier::new(&self.utc, table)?.simplify(key)?))
        };
        let schema = table.schema.as_ref();
        let asked = one(queried_row(&self.utc, schema, sql).ok()?).ok()??;
        let stored = one(row_expr(self.declaring, schema, sql).ok()?).ok()??;
        alike::values(table, &asked, &stored).then_some(asked)
    }

    /// The conjuncts of a condition.
    fn conditions(&self, table: &CompiledTable, sql: &str) -> Option<Vec<Expr>> {
        let all = |expr: Expr| -> SqlResult<Option<Vec<Expr>>> {
            let plan = scan(table)?.filter(expr)?.build()?;
            let LogicalPlan::Filter(filter) = self.planned(plan)? else { return Ok(None) };
            let simplifier = Simplifier::new(&self.utc, table)?;
            let mut found = Vec::new();
            for part in split_conjunction(&filter.predicate) {
                let part = simplifier.simplify(resolve(part.clone(), &filter.input)?)?;
                found.extend(split_conjunction_owned(part));
            }
            found.retain(|condition| *condition != lit(true));
            Ok(Some(found))
        };
        let schema = table.schema.as_ref();
        let asked = all(queried_row(&self.utc, schema, sql).ok()?).ok()??;
        let stored = all(row_expr(self.declaring, schema, sql).ok()?).ok()??;
        let mut pairs = asked.iter().zip(&stored);
        let same = asked.len() == stored.len() && pairs.all(|(a, b)| alike::values(table, a, b));
        same.then_some(asked)
    }

    fn planned(&self, plan: LogicalPlan) -> SqlResult<LogicalPlan> {
        let state = &self.utc;
        Ok(endless(state).execute_and_check(plan, state.config_options(), |_, _| {})?)
    }

    /// Whether constant patterns are patterns.
    fn is_sound(&self, expr: &Expr) -> bool {
        let mut sound = true;
        let _visited = expr.apply(|e| {
            if let Expr::ScalarFunction(f) = e
                && BY_PATTERN.contains(&f.func.name())
                && let [_, constants @ ..] = f.args.as_slice()
                && constants.iter().all(|arg| matches!(arg, Expr::Literal(..)))
            {
                let mut call = f.clone();
                if let Some(text) = call.args.first_mut() {
                    *text = lit(ScalarValue::Utf8View(Some("a".into())));
                }
                sound &= constant(&self.utc, Expr::ScalarFunction(call)).is_ok();
            }
            Ok(TreeNodeRecursion::Continue)
        });
        sound
    }
}

/// Whether all values of one type are values of the other: how values are kept and how they are computed.
fn is_same_value(stored: &DataType, wanted: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(
        (stored, wanted),
        (Utf8View, Utf8 | LargeUtf8)
            | (BinaryView, Binary | LargeBinary)
            | (DataType::Int16, DataType::Int8 | DataType::UInt8)
            | (DataType::Int32, DataType::UInt16)
            | (DataType::Int64, DataType::UInt32)
            // Declarations have numbers as bigint: what does not fit its type fails over raw rows too.
            | (DataType::Int64, DataType::Int16 | DataType::Int32)
            | (DataType::Int32, DataType::Int16)
    )
}

fn scan(table: &CompiledTable) -> DfResult<LogicalPlanBuilder> {
    let source = provider_as_source(Arc::new(EmptyTable::new(Arc::clone(&table.schema))));
    LogicalPlanBuilder::scan("raw", source, None)
}

fn analyzed(
    state: &SessionState,
    table: &CompiledTable,
    call: Expr,
) -> SqlResult<AggregateFunction> {
    let plan = scan(table)?.aggregate(Vec::<Expr>::new(), [call])?.build()?;
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

/// A stored call as an expression over raw columns, as a query would have it.
pub(crate) fn over_raw(
    state: &SessionState,
    table: &CompiledTable,
    call: &AggregateCall,
) -> SqlResult<Expr> {
    called(state, table, call, queried_part)
}

fn declared_part(state: &SessionState, schema: &Schema, sql: &str) -> SqlResult<Expr> {
    finish_expr(state, sql, schema)
}

/// A stored call whose texts are planned by `planned`.
fn called(
    state: &SessionState,
    table: &CompiledTable,
    call: &AggregateCall,
    planned: fn(&SessionState, &Schema, &str) -> SqlResult<Expr>,
) -> SqlResult<Expr> {
    let name = call.function.sql_name();
    let Some(function) = state.aggregate_functions().get(name) else {
        return Err(SqlError::internal(format!("aggregate function {name}() is not registered")));
    };
    let schema = table.schema.as_ref();
    let args = call.args_sql.iter().map(|sql| planned(state, schema, sql));
    let mut args = args.collect::<SqlResult<Vec<_>>>()?;
    match call.function {
        Stored::CountAll => args.push(lit(1_i64)),
        function => args.extend(aggregate::parameter(function)),
    }
    let expr = function.call(args);
    match &call.filter_sql {
        Some(sql) => Ok(expr.filter(planned(state, schema, sql)?).build()?),
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
