//! A plan that has at least the values of another one and gives the same ones however often it runs, for a domain: what
//! cuts rows off by an order that may have ties is left out.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Filter, GroupingSet, Join, LogicalPlan,
    LogicalPlanBuilder, Projection, SubqueryAlias, Union, lit,
};

use super::domain::is_repeatable;
use super::{projected, unknown_form};

/// Such a plan; it has the columns `needed`.
pub(super) fn wider(plan: LogicalPlan, needed: &[Column]) -> DfResult<LogicalPlan> {
    if is_repeatable(&plan)? {
        return Ok(plan);
    }
    let below = |input: Arc<LogicalPlan>| wider(Arc::unwrap_or_clone(input), needed);
    match plan {
        LogicalPlan::Projection(projection) => {
            let Projection { expr, input, schema, .. } = projection;
            let kept = kept(expr, &schema.columns(), needed)?;
            projected(wider(Arc::unwrap_or_clone(input), &named(&kept))?, kept)
        }
        LogicalPlan::Filter(filter) => {
            let Filter { predicate, input, .. } = filter;
            let mut all = needed.to_vec();
            all.extend(predicate.column_refs().into_iter().cloned());
            // Most rows are cut off by it, unless it looks at what is left out.
            match wider(input.as_ref().clone(), &all) {
                Ok(input) if !predicate.is_volatile() => {
                    Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?))
                }
                _ => below(input),
            }
        }
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, schema, .. }) => {
            let places = schema.columns().into_iter().zip(input.schema().columns());
            let places = places.filter(|(shown, _)| needed.contains(shown));
            let inner: Vec<Column> = places.map(|(_, own)| own).collect();
            let input = projected(
                wider(Arc::unwrap_or_clone(input), &inner)?,
                inner.into_iter().map(Expr::Column).collect(),
            )?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias)?))
        }
        LogicalPlan::Window(window) if has_all(&window.input, needed) => below(window.input),
        LogicalPlan::Limit(limit) => below(limit.input),
        LogicalPlan::Sort(sort) => below(sort.input),
        LogicalPlan::Distinct(Distinct::All(input)) => below(input),
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let kept = kept(on.select_expr, &on.schema.columns(), needed)?;
            projected(wider(Arc::unwrap_or_clone(on.input), &named(&kept))?, kept)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let shown = aggregate.schema.columns();
            if let [Expr::GroupingSet(set)] = aggregate.group_expr.as_slice() {
                return of_sets(&aggregate, set, needed);
            }
            // A key that is named twice has one column.
            let mut exprs: Vec<Expr> = Vec::with_capacity(aggregate.group_expr.len());
            for key in aggregate.group_expr {
                if !exprs.contains(&key) {
                    exprs.push(key);
                }
            }
            let count = shown.len().saturating_sub(aggregate.aggr_expr.len());
            let keys = shown.get(..count).unwrap_or_default();
            if keys.len() != exprs.len() || !needed.iter().all(|column| keys.contains(column)) {
                return Err(unknown_form());
            }
            let kept = kept(exprs, keys, needed)?;
            projected(wider(Arc::unwrap_or_clone(aggregate.input), &named(&kept))?, kept)
        }
        LogicalPlan::Join(join) => joined(join, needed),
        _ => Err(unknown_form()),
    }
}

/// The expressions that stand for the columns `needed`.
fn kept(exprs: Vec<Expr>, shown: &[Column], needed: &[Column]) -> DfResult<Vec<Expr>> {
    let kept = exprs.into_iter().zip(shown).filter(|(_, column)| needed.contains(column));
    let kept: Vec<Expr> = kept.map(|(expr, _)| expr).collect();
    if kept.iter().any(Expr::is_volatile) { Err(unknown_form()) } else { Ok(kept) }
}

fn named(exprs: &[Expr]) -> Vec<Column> {
    exprs.iter().flat_map(Expr::column_refs).cloned().collect()
}

fn has_all(plan: &LogicalPlan, needed: &[Column]) -> bool {
    needed.iter().all(|column| plan.schema().has_column(column))
}

fn joined(join: Join, needed: &[Column]) -> DfResult<LogicalPlan> {
    let keeps_left =
        matches!(join.join_type, JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
    if keeps_left && has_all(&join.left, needed) {
        return wider(Arc::unwrap_or_clone(join.left), needed);
    }
    if join.join_type == JoinType::Right && has_all(&join.right, needed) {
        return wider(Arc::unwrap_or_clone(join.right), needed);
    }
    match join.join_type {
        JoinType::Inner => paired(join, needed),
        JoinType::Left if !has_all(&join.right, needed) => {
            let left = Arc::clone(&join.left);
            let alone = needed.iter().map(|column| {
                if left.schema().has_column(column) {
                    return Ok(Expr::Column(column.clone()));
                }
                let of = Expr::Column(column.clone()).get_type(&join.schema)?;
                let null = lit(ScalarValue::try_from(of)?);
                Ok(null.alias_qualified(column.relation.clone(), &column.name))
            });
            let alone = alone.collect::<DfResult<Vec<_>>>()?;
            let own: Vec<Column> =
                needed.iter().filter(|c| left.schema().has_column(c)).cloned().collect();
            let alone = projected(wider(Arc::unwrap_or_clone(left), &own)?, alone)?;
            let found = paired(Join { join_type: JoinType::Inner, ..join }, needed)?;
            either(found, alone, needed)
        }
        // A row without a partner has nulls for the side's columns.
        JoinType::Left | JoinType::Right | JoinType::Full => {
            let side = [&join.left, &join.right].into_iter().find(|side| has_all(side, needed));
            let side = side.cloned().ok_or_else(unknown_form)?;
            let found = wider(Arc::unwrap_or_clone(side), needed)?;
            with_nulls(found, needed)
        }
        _ => Err(unknown_form()),
    }
}

/// The rows of two plans.
fn either(one: LogicalPlan, other: LogicalPlan, needed: &[Column]) -> DfResult<LogicalPlan> {
    let one = projected(one, needed.iter().cloned().map(Expr::Column).collect())?;
    let both = Union::try_new_with_loose_types(vec![Arc::new(one), Arc::new(other)])?;
    let shown = both.schema.columns().into_iter().zip(needed).map(|(given, column)| {
        Expr::Column(given).alias_qualified(column.relation.clone(), &column.name)
    });
    let shown = shown.collect();
    projected(LogicalPlan::Union(both), shown)
}

/// The rows, and one that has nulls only.
fn with_nulls(plan: LogicalPlan, needed: &[Column]) -> DfResult<LogicalPlan> {
    let nulls = needed.iter().map(|column| {
        let of = Expr::Column(column.clone()).get_type(plan.schema())?;
        let null = lit(ScalarValue::try_from(of)?);
        Ok(null.alias_qualified(column.relation.clone(), &column.name))
    });
    let nulls = nulls.collect::<DfResult<Vec<_>>>()?;
    let row = LogicalPlanBuilder::empty(true).project(nulls)?.build()?;
    either(plan, row, needed)
}

/// Of several grouping sets: a key is null in those without it.
fn of_sets(aggregate: &Aggregate, set: &GroupingSet, needed: &[Column]) -> DfResult<LogicalPlan> {
    let shown = aggregate.schema.columns();
    let keys: Vec<Expr> = set.distinct_expr().into_iter().cloned().collect();
    let shown = shown.get(..keys.len()).unwrap_or_default();
    // Of several keys each may be null by itself.
    let [only] = needed else { return Err(unknown_form()) };
    if !shown.contains(only) {
        return Err(unknown_form());
    }
    let kept = kept(keys, shown, needed)?;
    let kept = kept.into_iter().map(|key| match key {
        Expr::Column(column) => Expr::Column(column),
        computed => computed.alias_qualified(only.relation.clone(), &only.name),
    });
    let kept: Vec<Expr> = kept.collect();
    let input = wider(aggregate.input.as_ref().clone(), &named(&kept))?;
    with_nulls(projected(input, kept)?, needed)
}

/// An inner join over wider sides; or the side that has all that is needed, where its partner is not known.
fn paired(join: Join, needed: &[Column]) -> DfResult<LogicalPlan> {
    let side = [&join.left, &join.right].into_iter().find(|side| has_all(side, needed)).cloned();
    match (with_partner(join, needed), side) {
        (Err(_), Some(side)) => wider(Arc::unwrap_or_clone(side), needed),
        (paired, _) => paired,
    }
}

fn with_partner(join: Join, needed: &[Column]) -> DfResult<LogicalPlan> {
    let Join { left, right, on, filter, join_type, join_constraint, null_equality, .. } = join;
    let mut all = needed.to_vec();
    for (l, r) in &on {
        all.extend(l.column_refs().into_iter().chain(r.column_refs()).cloned());
    }
    all.extend(filter.iter().flat_map(Expr::column_refs).cloned());
    let side = |side: Arc<LogicalPlan>| {
        let own: Vec<Column> =
            all.iter().filter(|c| side.schema().has_column(c)).cloned().collect();
        wider(Arc::unwrap_or_clone(side), &own).map(Arc::new)
    };
    let (left, right) = (side(left)?, side(right)?);
    let constraint = join_constraint;
    let join = Join::try_new(left, right, on, filter, join_type, constraint, null_equality, false)?;
    Ok(LogicalPlan::Join(join))
}
