//! Keys that rows are sorted by become columns where they are more than a function's value. The planner tells the order
//! of such an expression by its bounds; where it cannot tell them, as of `a / b > 5`, it takes rows that it has just
//! sorted for unsorted, and refuses its own plan. Runs after all rules that know the expressions.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, Projection, Sort, Window,
};
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::function::array_key;

/// Begins the names of such columns.
const KEY: &str = "__key";

/// Makes columns of keys.
#[derive(Debug)]
pub(crate) struct KeyColumns;

impl OptimizerRule for KeyColumns {
    fn name(&self) -> &'static str {
        "key_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        let changed = match &plan {
            LogicalPlan::Sort(sort) => sorted(sort)?,
            LogicalPlan::Window(window) => windows(window)?,
            LogicalPlan::Aggregate(aggregate) => aggregates(aggregate)?,
            _ => None,
        };
        Ok(match changed {
            Some(changed) => Transformed::yes(changed),
            None => Transformed::no(plan),
        })
    }
}

/// Keys of grouping sets that the planner simplifies, as `NOT a IN (1, 2)`, become columns: it would give them another
/// name, by which nothing finds them. Runs before anything is simplified.
#[derive(Debug)]
pub(crate) struct GroupingKeys;

impl AnalyzerRule for GroupingKeys {
    fn name(&self) -> &'static str {
        "grouping_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let done = plan.transform_up_with_subqueries(|node| {
            let changed = match &node {
                LogicalPlan::Aggregate(aggregate) => grouped(aggregate)?,
                _ => None,
            };
            Ok(match changed {
                Some(changed) => Transformed::yes(changed),
                None => Transformed::no(node),
            })
        })?;
        Ok(done.data)
    }
}

fn grouped(aggregate: &Aggregate) -> DfResult<Option<LogicalPlan>> {
    let [set @ Expr::GroupingSet(_)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let mut made = Made::default();
    let set = set.clone().map_children(|key| {
        let negates = key.exists(|e| Ok(matches!(e, Expr::Not(_))))?;
        Ok(if negates { Transformed::yes(made.column(key)) } else { Transformed::no(key) })
    })?;
    let Some(input) = made.over(&aggregate.input) else { return Ok(None) };
    let plan = Aggregate::try_new(input, vec![set.data], aggregate.aggr_expr.clone())?;
    let places: Vec<usize> = (0..aggregate.schema.fields().len()).collect();
    named(LogicalPlan::Aggregate(plan), &aggregate.schema, &places).map(Some)
}

/// Whether the planner may not know the order of an expression.
fn is_key(expr: &Expr) -> bool {
    let knows = |e: &Expr| {
        matches!(
            e,
            Expr::Column(_)
                | Expr::Literal(..)
                | Expr::ScalarFunction(_)
                | Expr::Cast(_)
                | Expr::Alias(_)
        )
    };
    expr.exists(|e| Ok(!knows(e))).unwrap_or(false)
}

/// Columns that are made of keys.
#[derive(Default)]
struct Made(Vec<(Expr, String)>);

impl Made {
    fn column(&mut self, key: Expr) -> Expr {
        if is_key(&key) { self.made(key) } else { key }
    }

    fn made(&mut self, key: Expr) -> Expr {
        let known = self.0.iter().find(|(made, _)| *made == key).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = format!("{KEY}{}", self.0.len());
            self.0.push((key, name.clone()));
            name
        });
        Expr::Column(Column::new_unqualified(name))
    }

    fn keys(&mut self, keys: Vec<SortKey>, schema: &DFSchema) -> DfResult<Vec<SortKey>> {
        let keys = keys.into_iter().map(|key| {
            let expr = match key.expr.get_type(schema)? {
                DataType::List(_) => self.made(array_key(key.expr)),
                _ => self.column(key.expr),
            };
            Ok(SortKey { expr, ..key })
        });
        keys.collect()
    }

    /// The input with these columns beside its own; none if names would clash.
    fn over(self, input: &Arc<LogicalPlan>) -> Option<Arc<LogicalPlan>> {
        let schema = input.schema();
        if self.0.is_empty() || schema.fields().iter().any(|f| f.name().starts_with(KEY)) {
            return None;
        }
        let made = self.0.into_iter().map(|(key, name)| key.alias(name));
        let all: Vec<Expr> = columns(schema).chain(made).collect();
        let projection = Projection::try_new(all, Arc::clone(input)).ok()?;
        Some(Arc::new(LogicalPlan::Projection(projection)))
    }
}

fn columns(schema: &DFSchema) -> impl Iterator<Item = Expr> + use<'_> {
    schema.columns().into_iter().map(Expr::Column)
}

/// The plan with the columns of `schema`, by their place.
fn named(plan: LogicalPlan, schema: &DFSchema, places: &[usize]) -> DfResult<LogicalPlan> {
    let made = plan.schema().columns();
    let shown = places.iter().zip(schema.iter()).filter_map(|(at, (qualifier, field))| {
        let column = made.get(*at)?.clone();
        let same = column.name == *field.name() && column.relation.as_ref() == qualifier;
        let column = Expr::Column(column);
        Some(match same {
            true => column,
            false => column.alias_qualified(qualifier.cloned(), field.name()),
        })
    });
    let projection = Projection::try_new(shown.collect(), Arc::new(plan))?;
    Ok(LogicalPlan::Projection(projection))
}

fn sorted(sort: &Sort) -> DfResult<Option<LogicalPlan>> {
    let mut made = Made::default();
    let expr = made.keys(sort.expr.clone(), sort.input.schema())?;
    let Some(input) = made.over(&sort.input) else { return Ok(None) };
    let schema = Arc::clone(sort.input.schema());
    let places: Vec<usize> = (0..schema.fields().len()).collect();
    let plan = LogicalPlan::Sort(Sort { expr, input, fetch: sort.fetch });
    named(plan, &schema, &places).map(Some)
}

fn windows(window: &Window) -> DfResult<Option<LogicalPlan>> {
    let mut made = Made::default();
    let mut changed = Vec::with_capacity(window.window_expr.len());
    for expr in &window.window_expr {
        let with_columns = expr.clone().transform_up(|expr| match expr {
            Expr::WindowFunction(mut function) => {
                let params = &mut function.params;
                let partition = std::mem::take(&mut params.partition_by);
                params.partition_by = partition.into_iter().map(|key| made.column(key)).collect();
                let order = std::mem::take(&mut params.order_by);
                params.order_by = made.keys(order, window.input.schema())?;
                Ok(Transformed::yes(Expr::WindowFunction(function)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        changed.push(with_columns.data);
    }
    let own = window.input.schema().fields().len();
    let added = made.0.len();
    let Some(input) = made.over(&window.input) else { return Ok(None) };
    let plan = LogicalPlan::Window(Window::try_new(changed, input)?);
    let places = (0..own).chain((0..window.window_expr.len()).map(|at| own + added + at));
    named(plan, &window.schema, &places.collect::<Vec<_>>()).map(Some)
}

fn aggregates(aggregate: &Aggregate) -> DfResult<Option<LogicalPlan>> {
    let mut made = Made::default();
    let plan = LogicalPlan::Aggregate(aggregate.clone());
    let names = NamePreserver::new(&plan);
    let mut changed = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        let name = names.save(expr);
        let with_columns = expr.clone().transform_up(|expr| match expr {
            Expr::AggregateFunction(mut call) if !call.params.order_by.is_empty() => {
                let order = std::mem::take(&mut call.params.order_by);
                if call.params.distinct {
                    // They are ordered by themselves: both become the same column, or neither.
                    let args = std::mem::take(&mut call.params.args);
                    call.params.args = args.into_iter().map(|arg| made.column(arg)).collect();
                    let key = |key: SortKey| SortKey { expr: made.column(key.expr), ..key };
                    call.params.order_by = order.into_iter().map(key).collect();
                } else {
                    call.params.order_by = made.keys(order, aggregate.input.schema())?;
                }
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        changed.push(with_columns.update_data(|expr| name.restore(expr)).data);
    }
    let Some(input) = made.over(&aggregate.input) else { return Ok(None) };
    let groups = aggregate.group_expr.clone();
    Ok(Some(LogicalPlan::Aggregate(Aggregate::try_new(input, groups, changed)?)))
}
