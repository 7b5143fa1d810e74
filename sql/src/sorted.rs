//! The order of a derived table or of a query of a WITH, `SELECT * FROM (SELECT … ORDER BY 2) a LIMIT 5`, as tools wrap
//! what they are given. As in Postgres the rows come out as they were ordered, unless something between puts them
//! into an order of its own. The planner would leave out every such order.

use datafusion::common::Column;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortExpr};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias,
};
use datafusion::optimizer::AnalyzerRule;

use crate::error::{SqlError, sqlstate};

/// Aggregates whose result shows in which order they took their values.
const GATHERING: [&str; 2] = ["array_agg", "string_agg"];

/// Leaves out the orders that nobody sees: those under what groups, joins, unites or orders anew. They would only
/// cost time, and keep rollups from being found.
#[derive(Debug)]
pub(crate) struct SeenOrders;

impl AnalyzerRule for SeenOrders {
    fn name(&self) -> &'static str {
        "seen_orders"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        seen(plan, true)
    }
}

/// The plan without the orders that cannot be seen; whether its own can, is given.
fn seen(plan: LogicalPlan, visible: bool) -> DfResult<LogicalPlan> {
    let below = match &plan {
        LogicalPlan::Sort(sort) if !visible && sort.fetch.is_none() => {
            return seen(sort.input.as_ref().clone(), false);
        }
        // Which rows it keeps hangs on their order.
        LogicalPlan::Limit(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_) => visible,
        LogicalPlan::Window(window) => visible && !window.window_expr.iter().any(orders_anew),
        _ => false,
    };
    let plan = in_order(plan)?;
    let plan = plan.map_children(|child| Ok(Transformed::yes(seen(child, below)?)))?.data;
    // In a subquery of an expression an order counts where a limit does.
    let plan = plan.map_subqueries(|query| match query {
        LogicalPlan::Subquery(mut subquery) => {
            let inner = seen(subquery.subquery.as_ref().clone(), false)?;
            subquery.subquery = inner.into();
            Ok(Transformed::yes(LogicalPlan::Subquery(subquery)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// Whether a window, `OVER (PARTITION BY a ORDER BY b)`, puts its rows into an order of its own.
fn orders_anew(window: &Expr) -> bool {
    match window.clone().unalias() {
        Expr::WindowFunction(function) => {
            !function.params.partition_by.is_empty() || !function.params.order_by.is_empty()
        }
        _ => true,
    }
}

/// Gives aggregates that gather values, and name no order, the order of the rows they stand over; distinct values come
/// sorted, as in Postgres.
fn in_order(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(plan) };
    let rows = match order_of(&aggregate.input) {
        None if aggregate.aggr_expr.iter().any(takes_rows_as_they_come) => {
            let (input, by) = match numbered(&aggregate.input)? {
                Some((input, number)) => (input, vec![Expr::Column(number).sort(true, false)]),
                None => match with_keys(&aggregate.input)? {
                    Some(found) => found,
                    None => return ordered(plan, &[]),
                },
            };
            let keys = aggregate.group_expr.clone();
            let over = Aggregate::try_new(input.into(), keys, aggregate.aggr_expr.clone())?;
            return ordered(LogicalPlan::Aggregate(over), &by);
        }
        order => order.unwrap_or_default(),
    };
    ordered(plan, &rows)
}

/// Whether a call gathers values in the order of its rows.
fn takes_rows_as_they_come(expr: &Expr) -> bool {
    match expr.clone().unalias() {
        Expr::AggregateFunction(call) => {
            GATHERING.contains(&call.func.name())
                && call.params.order_by.is_empty()
                && !call.params.distinct
        }
        _ => false,
    }
}

/// Gives aggregates the order of their rows.
fn ordered(plan: LogicalPlan, rows: &[SortExpr]) -> DfResult<LogicalPlan> {
    let names = NamePreserver::new(&plan);
    let ordered = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| {
            check_distinct(&expr)?;
            Ok(with_order(expr, rows))
        })?;
        Ok(changed.update_data(|expr| name.restore(expr)))
    })?;
    match ordered.transformed {
        true => ordered.data.recompute_schema(),
        false => Ok(ordered.data),
    }
}

/// Refuses distinct values in the order of others, of which each has several.
fn check_distinct(expr: &Expr) -> DfResult<()> {
    let Expr::AggregateFunction(AggregateFunction { params, .. }) = expr else { return Ok(()) };
    let mut keys = params.order_by.iter();
    if !params.distinct || keys.all(|key| params.args.contains(&key.expr)) {
        return Ok(());
    }
    let message =
        "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
    Err(SqlError::new(sqlstate::INVALID_COLUMN, message).into())
}

fn with_order(expr: Expr, rows: &[SortExpr]) -> Transformed<Expr> {
    let Expr::AggregateFunction(AggregateFunction { func, mut params }) = expr else {
        return Transformed::no(expr);
    };
    let gathers = GATHERING.contains(&func.name()) && params.order_by.is_empty();
    let order = match params.args.first() {
        Some(value) if gathers && params.distinct => vec![value.clone().sort(true, false)],
        Some(_) if gathers => rows.to_vec(),
        _ => Vec::new(),
    };
    let changed = !order.is_empty();
    params.order_by.extend(order);
    let expr = Expr::AggregateFunction(AggregateFunction { func, params });
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

/// The order that a plan's rows come in, by columns of the plan.
fn order_of(plan: &LogicalPlan) -> Option<Vec<SortExpr>> {
    let (input, place): (_, &dyn Fn(&Expr) -> Option<usize>) = match plan {
        LogicalPlan::Sort(sort) => {
            let columns = sort.expr.iter().all(|key| matches!(key.expr, Expr::Column(_)));
            return columns.then(|| sort.expr.clone());
        }
        LogicalPlan::Filter(filter) => return order_of(&filter.input),
        LogicalPlan::Limit(limit) => return order_of(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => (&alias.input, &|key| match key {
            Expr::Column(column) => alias.input.schema().index_of_column(column).ok(),
            _ => None,
        }),
        LogicalPlan::Projection(projection) => (&projection.input, &|key| {
            projection.expr.iter().position(|shown| shown.clone().unalias() == *key)
        }),
        _ => return None,
    };
    let columns = plan.schema().columns();
    let above = |key: SortExpr| {
        let column = columns.get(place(&key.expr)?)?.clone();
        Some(SortExpr { expr: Expr::Column(column), ..key })
    };
    order_of(input)?.into_iter().map(above).collect()
}

/// The plan with the columns that its rows are ordered by, where a derived table does not show them; none if it has no
/// order.
fn with_keys(plan: &LogicalPlan) -> DfResult<Option<(LogicalPlan, Vec<SortExpr>)>> {
    Ok(match plan {
        LogicalPlan::Sort(sort) => {
            let columns = sort.expr.iter().all(|key| matches!(key.expr, Expr::Column(_)));
            columns.then(|| (plan.clone(), sort.expr.clone()))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some((input, keys)) = with_keys(&alias.input)? else { return Ok(None) };
            let plan = SubqueryAlias::try_new(input.into(), alias.alias.clone())?;
            let named = keys.into_iter().map(|key| {
                let Expr::Column(column) = key.expr else { return key };
                let column = Column::new(Some(alias.alias.clone()), column.name);
                SortExpr { expr: Expr::Column(column), ..key }
            });
            let keys: Vec<SortExpr> = named.collect();
            // Two columns of one name are told apart by nothing here.
            let known = |key: &SortExpr| {
                let Expr::Column(column) = &key.expr else { return false };
                plan.schema.columns().iter().filter(|c| c.name == column.name).count() == 1
            };
            keys.iter().all(known).then(|| (LogicalPlan::SubqueryAlias(plan), keys))
        }
        LogicalPlan::Filter(filter) => {
            let Some((input, keys)) = with_keys(&filter.input)? else { return Ok(None) };
            let plan = Filter::try_new(filter.predicate.clone(), input.into())?;
            Some((LogicalPlan::Filter(plan), keys))
        }
        LogicalPlan::Projection(projection) => {
            let Some((input, keys)) = with_keys(&projection.input)? else { return Ok(None) };
            let mut list = projection.expr.clone();
            let names: Vec<String> =
                plan.schema().fields().iter().map(|f| f.name().clone()).collect();
            let mut shown = Vec::with_capacity(keys.len());
            for (at, key) in keys.into_iter().enumerate() {
                let name = format!("__order{at}");
                if names.contains(&name) {
                    return Ok(None);
                }
                list.push(key.expr.clone().alias(&name));
                shown.push(SortExpr { expr: Expr::Column(Column::new_unqualified(name)), ..key });
            }
            Some((LogicalPlan::Projection(Projection::try_new(list, input.into())?), shown))
        }
        _ => None,
    })
}

/// The plan with a column that numbers the rows of a recursive query as they were generated, the order in which
/// Postgres has them; none if it has no such rows.
fn numbered(plan: &LogicalPlan) -> DfResult<Option<(LogicalPlan, Column)>> {
    Ok(match plan {
        LogicalPlan::RecursiveQuery(_) => {
            let number = row_number();
            let column = Column::new_unqualified(number.schema_name().to_string());
            let plan = LogicalPlanBuilder::from(plan.clone()).window([number])?.build()?;
            Some((plan, column))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some((input, column)) = numbered(&alias.input)? else { return Ok(None) };
            let column = Column::new(Some(alias.alias.clone()), column.name);
            let plan = SubqueryAlias::try_new(input.into(), alias.alias.clone())?;
            Some((LogicalPlan::SubqueryAlias(plan), column))
        }
        LogicalPlan::Filter(filter) => {
            let Some((input, column)) = numbered(&filter.input)? else { return Ok(None) };
            let plan = Filter::try_new(filter.predicate.clone(), input.into())?;
            Some((LogicalPlan::Filter(plan), column))
        }
        LogicalPlan::Projection(projection) => {
            let Some((input, column)) = numbered(&projection.input)? else { return Ok(None) };
            let mut list = projection.expr.clone();
            list.push(Expr::Column(column.clone()));
            let plan = Projection::try_new(list, input.into())?;
            Some((LogicalPlan::Projection(plan), column))
        }
        _ => None,
    })
}
