//! The rule that takes the three names out of a plan: runs after types are coerced and before times are put
//! into the session's zone, so that the buckets below become those that rollups know.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, Filter, LogicalPlan, Projection, ScalarUDF,
};
use datafusion::optimizer::AnalyzerRule;

use super::function::{GAPFILL, INTERPOLATE, LOCF, call, fills, mentioned, misplaced};
use super::node::{Fill, GapFill};
use super::range::{Bound, Range};
use crate::calendar::Step;
use crate::error::{SqlError, sqlstate};
use crate::function::{buckets, literal, time_bucket};

/// Prefix of the columns that are filled.
const PREFIX: &str = "__otus_fill";

/// See the module.
#[derive(Debug)]
pub(crate) struct GapFillRule;

impl AnalyzerRule for GapFillRule {
    fn name(&self) -> &'static str {
        "gap_fill"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        if first_mention(&plan)?.is_none() {
            return Ok(plan);
        }
        let plan = plan.transform_down_with_subqueries(|node| match &node {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => match over_gaps(&node)? {
                Some(filled) => Ok(Transformed::yes(filled)),
                None => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        })?;
        match first_mention(&plan.data)? {
            Some(name) => Err(misplaced(name)),
            // The columns that were filled may be null now.
            None => plan
                .data
                .transform_up(|n| n.recompute_schema().map(Transformed::yes))
                .map(|t| t.data),
        }
    }
}

fn first_mention(plan: &LogicalPlan) -> DfResult<Option<&'static str>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found = found.or(mentioned(expr)?);
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// A projection over windows, conditions and an aggregate with gaps to fill, or that aggregate alone, with the
/// gaps filled.
fn over_gaps(plan: &LogicalPlan) -> DfResult<Option<LogicalPlan>> {
    if !reaches_gaps(plan) {
        return Ok(None);
    }
    let mut calls = Vec::new();
    collect(plan, &mut calls)?;
    replaced(plan, &calls).map(Some)
}

fn reaches_gaps(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => {
            !matches!(p.input.as_ref(), LogicalPlan::Projection(_)) && reaches_gaps(&p.input)
        }
        LogicalPlan::Filter(f) => reaches_gaps(&f.input),
        LogicalPlan::Window(w) => reaches_gaps(&w.input),
        LogicalPlan::Aggregate(a) => {
            a.group_expr.iter().any(|e| call(unaliased(e), GAPFILL).is_some())
        }
        _ => false,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// Calls of `locf` and `interpolate` above the aggregate.
fn collect(plan: &LogicalPlan, calls: &mut Vec<Expr>) -> DfResult<()> {
    if matches!(plan, LogicalPlan::Aggregate(_)) {
        return Ok(());
    }
    plan.apply_expressions(|expr| {
        expr.apply(|e| {
            if !fills(e) {
                return Ok(TreeNodeRecursion::Continue);
            }
            if !calls.contains(e) {
                calls.push(e.clone());
            }
            Ok(TreeNodeRecursion::Jump)
        })
    })?;
    plan.inputs().into_iter().try_for_each(|input| collect(input, calls))
}

fn replaced(plan: &LogicalPlan, calls: &[Expr]) -> DfResult<LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => filled(aggregate, None, calls),
        LogicalPlan::Filter(filter) => match filter.input.as_ref() {
            // HAVING says which buckets there are; the others are gaps.
            LogicalPlan::Aggregate(aggregate) => {
                if let Some(name) = mentioned(&filter.predicate)? {
                    return Err(misplaced(name));
                }
                filled(aggregate, Some(&filter.predicate), calls)
            }
            _ => with_columns(plan, calls),
        },
        _ => with_columns(plan, calls),
    }
}

/// A node above the aggregate, its calls replaced by the filled columns.
fn with_columns(plan: &LogicalPlan, calls: &[Expr]) -> DfResult<LogicalPlan> {
    let names = NamePreserver::new(plan);
    let column = |e: Expr| match calls.iter().position(|known| *known == e) {
        Some(i) => Transformed::yes(Expr::Column(Column::new_unqualified(format!("{PREFIX}{i}")))),
        None => Transformed::no(e),
    };
    let exprs = plan.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_down(|e| Ok(column(e)))?;
        Ok(name.restore(done.data))
    });
    let exprs = exprs.collect::<DfResult<Vec<_>>>()?;
    let inputs = plan.inputs().into_iter().map(|input| replaced(input, calls));
    plan.with_new_exprs(exprs, inputs.collect::<DfResult<Vec<_>>>()?)
}

/// The aggregate by plain buckets, with its gaps filled.
fn filled(aggregate: &Aggregate, having: Option<&Expr>, calls: &[Expr]) -> DfResult<LogicalPlan> {
    let mut keys = aggregate.group_expr.clone();
    let is_bucket = |e: &Expr| call(unaliased(e), GAPFILL).is_some();
    let Some(time) = keys.iter().position(is_bucket) else {
        return Err(misplaced(GAPFILL));
    };
    if keys.iter().filter(|e| is_bucket(e)).count() > 1 {
        return Err(refused(format!("a query has one key {GAPFILL}()")));
    }
    let Some(key) = keys.get_mut(time) else { return Err(misplaced(GAPFILL)) };
    let name = key.schema_name().to_string();
    let (bucket, step, range) = bucket(unaliased(key), aggregate)?;
    *key = bucket.alias(name);
    let keys_count = keys.len();
    let below =
        Aggregate::try_new(Arc::clone(&aggregate.input), keys, aggregate.aggr_expr.clone())?;
    let mut plan = LogicalPlan::Aggregate(below);
    if let Some(having) = having {
        plan = LogicalPlan::Filter(Filter::try_new(having.clone(), Arc::new(plan))?);
    }
    let mut fill = vec![Fill::Null; plan.schema().fields().len()];
    for (i, kind) in fill.iter_mut().enumerate().take(keys_count) {
        *kind = if i == time { Fill::Time } else { Fill::Key };
    }
    if !calls.is_empty() {
        let mut columns: Vec<Expr> =
            plan.schema().columns().into_iter().map(Expr::Column).collect();
        for (i, call) in calls.iter().enumerate() {
            let (value, how) = value_of(call)?;
            columns.push(value.alias(format!("{PREFIX}{i}")));
            fill.push(how);
        }
        plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
    }
    let node = GapFill::try_new(plan, fill, step, range)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The argument of a call, and how its gaps are filled.
fn value_of(fill: &Expr) -> DfResult<(Expr, Fill)> {
    let (value, how) = match (call(fill, LOCF), call(fill, INTERPOLATE)) {
        (Some([value]), _) => (value, Fill::Locf { over_null: false }),
        (Some([value, over]), _) => match literal(over) {
            Some(ScalarValue::Boolean(over_null)) => {
                (value, Fill::Locf { over_null: over_null.unwrap_or(false) })
            }
            _ => return Err(refused(format!("the second argument of {LOCF}() is true or false"))),
        },
        (_, Some([value])) => (value, Fill::Interpolate),
        _ => return Err(misplaced(LOCF)),
    };
    match mentioned(value)? {
        Some(name) => Err(misplaced(name)),
        None => Ok((value.clone(), how)),
    }
}

/// The plain bucket of a call of `time_bucket_gapfill`, its step unless an argument is null, and its range. What
/// is missing is said when the plan is to run: while a statement is described its parameters are null.
fn bucket(expr: &Expr, aggregate: &Aggregate) -> DfResult<(Expr, Option<Step>, Range)> {
    let Some([width, time, rest @ ..]) = call(expr, GAPFILL) else {
        return Err(misplaced(GAPFILL));
    };
    let schema: &DFSchemaRef = aggregate.input.schema();
    let time_type = time.get_type(schema.as_ref())?;
    let (zone, given) = match rest {
        [zone] => (Some(zone), None),
        [start, finish] => (None, Some((start, finish))),
        [zone, start, finish] => (Some(zone), Some((start, finish))),
        _ => (None, None),
    };
    let constant = |e: &Expr, what: &str| {
        literal(e).ok_or_else(|| refused(format!("the {what} of {GAPFILL}() must be a constant")))
    };
    let zones = zone.map(|zone| constant(zone, "time zone")).transpose()?;
    let zones = zones.map(|zone| vec![zone]).unwrap_or_default();
    let known = buckets(GAPFILL, &constant(width, "interval")?, &zones)?;
    let mut range = Range::of_conditions(&aggregate.input, time, &time_type)?;
    if let Some((start, finish)) = given {
        let is_null = |e: &Expr| literal(e).is_some_and(|v| v.is_null());
        if !is_null(start) {
            range.lower = vec![Bound { expr: start.clone(), plus_us: 0 }];
        }
        if !is_null(finish) {
            range.upper = vec![Bound { expr: finish.clone(), plus_us: 0 }];
        }
    }
    let mut args = vec![width.clone(), time.clone()];
    args.extend(zone.cloned());
    let udf: ScalarUDF = time_bucket();
    Ok((udf.call(args), known.map(|known| known.step), range))
}

fn refused(message: String) -> DataFusionError {
    DataFusionError::from(SqlError::new(sqlstate::INVALID_PARAMETER, message))
}
