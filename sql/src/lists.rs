//! Lists of values, `x IN (1, 2)`, as SQL has them where something is null. The planner makes one list of two
//! over the same expression and forgets nulls on the way, in the value or in a list; and under OR and NOT it asks
//! subqueries for true or false alone. Here lists are kept apart and free of nulls, and such subqueries refused.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::{InList, InSubquery};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::analyze::map_whole_expressions;
use crate::error::{SqlError, sqlstate};
use crate::lossy;

/// See the module. To run when types are coerced.
#[derive(Debug)]
pub(crate) struct Lists;

impl AnalyzerRule for Lists {
    fn name(&self) -> &'static str {
        "lists"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let mut has_list = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Filter(filter) = node {
                let schema = filter.input.schema();
                for condition in split_conjunction(&filter.predicate) {
                    refuse_subqueries(condition, schema)?;
                }
            }
            node.apply_expressions(|expr| {
                has_list |= expr.exists(|e| Ok(matches!(e, Expr::InList(_))))?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if !has_list {
            return Ok(plan);
        }
        map_whole_expressions(plan, &|expr, _| apart(expr))
    }
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}

/// `x IN (1, NULL)` is `x IN (1) OR NULL`, `x NOT IN (1, NULL)` is `x NOT IN (1) AND NULL`.
fn without_nulls(list: InList) -> Expr {
    if !list.list.iter().any(is_null) {
        return Expr::InList(list);
    }
    let InList { expr, list, negated } = list;
    let values: Vec<Expr> = list.into_iter().filter(|value| !is_null(value)).collect();
    let unknown = lit(ScalarValue::Boolean(None));
    if values.is_empty() {
        return unknown;
    }
    let rest = Expr::InList(InList { expr, list: values, negated });
    if negated { rest.and(unknown) } else { rest.or(unknown) }
}

/// Lists without nulls. Of several over the same value, all but the first one are over something that the planner
/// takes for another: a number tells them apart.
fn apart(expr: Expr) -> DfResult<Transformed<Expr>> {
    let (mut seen, mut count) = (Vec::<Expr>::new(), 0_i64);
    expr.transform_up(|e| {
        let Expr::InList(mut list) = e else { return Ok(Transformed::no(e)) };
        let mut changed = list.list.iter().any(is_null);
        if seen.contains(&list.expr) {
            count += 1;
            *list.expr = lossy::transparent().call(vec![*list.expr, lit(count)]);
            changed = true;
        } else {
            seen.push(Expr::clone(&list.expr));
        }
        Ok(Transformed::new(without_nulls(list), changed, TreeNodeRecursion::Continue))
    })
}

/// Refuses a subquery of whose answer false and null have to be told apart where the planner does not.
fn refuse_subqueries(condition: &Expr, schema: &DFSchema) -> DfResult<()> {
    let is_whole = match condition {
        Expr::Not(inner) => matches!(inner.as_ref(), Expr::InSubquery(_)),
        other => matches!(other, Expr::InSubquery(_)),
    };
    if is_whole { Ok(()) } else { refuse_below(condition, false, schema) }
}

fn refuse_below(expr: &Expr, negated: bool, schema: &DFSchema) -> DfResult<()> {
    match expr {
        Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => {
            refuse_below(&b.left, negated, schema)?;
            refuse_below(&b.right, negated, schema)
        }
        Expr::Not(inner) => refuse_below(inner, !negated, schema),
        Expr::InSubquery(found) if negated != found.negated && may_be_unknown(found, schema) => {
            Err(unknown_subquery())
        }
        Expr::InSubquery(_) => Ok(()),
        other => {
            let is_asked =
                |e: &Expr| Ok(matches!(e, Expr::InSubquery(s) if may_be_unknown(s, schema)));
            if other.exists(is_asked)? { Err(unknown_subquery()) } else { Ok(()) }
        }
    }
}

fn may_be_unknown(subquery: &InSubquery, schema: &DFSchema) -> bool {
    let given = subquery.subquery.subquery.schema();
    subquery.expr.nullable(schema).unwrap_or(true) || given.fields().iter().any(|f| f.is_nullable())
}

fn unknown_subquery() -> DataFusionError {
    let e = SqlError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "IN (SELECT …) under OR, NOT or CASE is not supported where it may be null",
    );
    DataFusionError::from(e.with_hint(
        "let it stand by itself in WHERE, or write EXISTS (SELECT … WHERE …) or NOT EXISTS, which are never null",
    ))
}
