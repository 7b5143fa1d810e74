//! Least and greatest of floats. DataFusion compares floats as numbers, so that in a group a NaN makes it
//! forget what came before; here they are ordered as in Postgres and in stored states, NaN above all.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan};
use otus_engine::expr::AggregateFunction;

use super::merging;

/// The same plan, whose `min` and `max` of floats are those of the engine.
pub(crate) fn ordered_floats(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else { return Ok(Transformed::no(node)) };
        let schema = aggregate.input.schema();
        if !aggregate.aggr_expr.iter().any(|expr| ordered(expr, schema).is_some()) {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let calls = aggregate.aggr_expr.iter().map(|expr| match ordered(expr, schema) {
            Some(call) => call.alias(expr.schema_name().to_string()),
            None => expr.clone(),
        });
        let calls = calls.collect();
        let (input, keys) = (Arc::clone(&aggregate.input), aggregate.group_expr);
        Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, keys, calls)?)))
    })
    .data()
}

/// What to call instead, if a call is one of these.
fn ordered(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::AggregateFunction(call) = expr.clone().unalias() else { return None };
    let function = match call.func.name() {
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        _ => return None,
    };
    let [arg] = call.params.args.as_slice() else { return None };
    if !arg.get_type(schema).ok()?.is_floating() {
        return None;
    }
    let mut call = call;
    call.func = Arc::new(merging(function));
    call.params.distinct = false;
    Some(Expr::AggregateFunction(call))
}
