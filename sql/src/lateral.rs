//! `FROM t, LATERAL (SELECT unnest(t.tags))`: what is computed from each row of the left side alone, without tables of its
//! own, is computed over the left side, in place of a join that the planner does not know.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::builder::unnest_with_options;
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, Projection, SubqueryAlias,
};

/// Qualifies what is computed until it has the name of its query.
const COMPUTED: &str = "__otus_computed";

/// The plan with such joins computed over their left sides.
pub(crate) fn over_left_sides(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= matches!(node, LogicalPlan::Join(join) if is_lateral(join));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = &node
            && is_lateral(join)
            && let Some(over) = over(&join.right, &join.left)?
        {
            let joined = match &join.filter {
                Some(condition) => {
                    LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::new(over))?)
                }
                None => over,
            };
            return Ok(Transformed::yes(joined));
        }
        Ok(Transformed::no(node))
    })
    .data()
}

fn is_lateral(join: &Join) -> bool {
    let mut right = join.right.as_ref();
    while let LogicalPlan::SubqueryAlias(alias) = right {
        right = alias.input.as_ref();
    }
    join.join_type == JoinType::Inner
        && join.on.is_empty()
        && matches!(right, LogicalPlan::Subquery(_))
}

/// The columns of `left`, then those of `plan`; none if `plan` is no computation over one row.
fn over(plan: &LogicalPlan, left: &Arc<LogicalPlan>) -> DfResult<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => over(&subquery.subquery, left)?,
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(left.as_ref().clone()),
        LogicalPlan::Projection(projection) => {
            let Some(input) = over(&projection.input, left)? else { return Ok(None) };
            let mut list = columns_of(left);
            for (expr, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
                let Some(expr) = resolved(expr, left)? else { return Ok(None) };
                list.push(expr.alias_qualified(apart(qualifier, field.name(), left), field.name()));
            }
            Some(LogicalPlan::Projection(Projection::try_new(list, Arc::new(input))?))
        }
        LogicalPlan::Filter(filter) => {
            let Some(input) = over(&filter.input, left)? else { return Ok(None) };
            let Some(condition) = resolved(&filter.predicate, left)? else { return Ok(None) };
            Some(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(input))?))
        }
        LogicalPlan::SubqueryAlias(alias) => renamed(alias, left)?,
        LogicalPlan::Unnest(unnest) => {
            let Some(input) = over(&unnest.input, left)? else { return Ok(None) };
            let (columns, options) = (unnest.exec_columns.clone(), unnest.options.clone());
            Some(unnest_with_options(input, columns, options)?)
        }
        _ => None,
    })
}

fn renamed(alias: &SubqueryAlias, left: &Arc<LogicalPlan>) -> DfResult<Option<LogicalPlan>> {
    let Some(input) = over(&alias.input, left)? else { return Ok(None) };
    let mut list = columns_of(left);
    for ((from, field), shown) in alias.input.schema().iter().zip(alias.schema.fields()) {
        let column = Expr::Column(Column::new(apart(from, field.name(), left), field.name()));
        list.push(column.alias_qualified(Some(alias.alias.clone()), shown.name()));
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(list, Arc::new(input))?)))
}

/// The qualifier of a computed column: one of its own where a column of the left side has its name, too.
fn apart(
    qualifier: Option<&TableReference>,
    name: &str,
    left: &LogicalPlan,
) -> Option<TableReference> {
    let is_taken = || left.schema().fields().iter().any(|field| field.name() == name);
    qualifier.cloned().or_else(|| is_taken().then(|| TableReference::bare(COMPUTED)))
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// The expression over the columns of `left`; none if it names those of a query further out.
fn resolved(expr: &Expr, left: &LogicalPlan) -> DfResult<Option<Expr>> {
    let mut is_known = true;
    let resolved = expr.clone().transform(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => {
            is_known &= left.schema().has_column(&column);
            Ok(Transformed::yes(Expr::Column(column)))
        }
        Expr::Column(column) if column.relation.is_none() => {
            let relation = apart(None, &column.name, left);
            Ok(Transformed::yes(Expr::Column(Column { relation, ..column })))
        }
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
            is_known = false;
            Ok(Transformed::no(expr))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(is_known.then_some(resolved.data))
}
