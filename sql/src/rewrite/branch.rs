//! CASE and its kin inside an aggregate: as branches that exclude one another, each with a condition.

use super::calls::widens;
use crate::analyze::map_expressions;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast, lit, not};
use datafusion::scalar::ScalarValue;

/// A row of a CASE: the condition under which it is the one, and its value; none = null.
pub(super) struct Branch {
    pub(super) condition: Expr,
    pub(super) value: Option<Expr>,
}

/// Most branches of a CASE with all within it: each carries the conditions of those before it.
const BRANCHES_MAX: usize = 48;

/// A CASE as branches that exclude one another, with those of a CASE that is the value of one in its place.
pub(super) fn branches(expr: &Expr, schema: &DFSchema) -> Option<Vec<Branch>> {
    let mut flat = Vec::new();
    for Branch { condition, value } in direct(expr, schema)? {
        match value {
            Some(inner) if is_case(&inner) && zero_for_null(&inner).is_none() => {
                flat.extend(branches(&inner, schema)?.into_iter().map(|branch| Branch {
                    condition: condition.clone().and(branch.condition),
                    value: branch.value,
                }));
            }
            value => flat.push(Branch { condition, value }),
        }
        if flat.len() > BRANCHES_MAX {
            return None;
        }
    }
    Some(flat)
}

fn is_case(expr: &Expr) -> bool {
    match expr {
        Expr::Case(_) => true,
        Expr::Cast(cast) => is_case(&cast.expr),
        _ => false,
    }
}

/// The branches of a CASE itself.
fn direct(expr: &Expr, schema: &DFSchema) -> Option<Vec<Branch>> {
    match expr {
        Expr::Case(case) => case_branches(case, schema),
        Expr::Cast(outer) => {
            let inner = direct(&outer.expr, schema)?;
            let to = outer.field.data_type();
            let moved = |b: Branch| Branch {
                condition: b.condition,
                value: b.value.map(|v| match v {
                    Expr::Literal(value, m) => match value.cast_to(to) {
                        Ok(value) => Expr::Literal(value, m),
                        Err(_) => cast(Expr::Literal(value, m), to.clone()),
                    },
                    other => cast(other, to.clone()),
                }),
            };
            Some(inner.into_iter().map(moved).collect())
        }
        _ => None,
    }
}

/// Branches are computed apart, on all rows: where a CASE guards one of them against an error, as in
/// `CASE WHEN x <> 0 THEN 1 / x END`, it has none.
fn case_branches(case: &Case, schema: &DFSchema) -> Option<Vec<Branch>> {
    let guarded = case.when_then_expr.iter().skip(1).map(|(when, _)| when);
    let values = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    if !guarded.chain(values).all(|expr| cannot_fail(expr, schema)) {
        return None;
    }
    let mut branches = Vec::new();
    let mut before: Option<Expr> = None;
    for (when, then) in &case.when_then_expr {
        let met = match &case.expr {
            Some(base) => base.as_ref().clone().eq(when.as_ref().clone()),
            None => when.as_ref().clone(),
        };
        let condition = match &before {
            Some(before) => before.clone().and(met.clone()),
            None => met.clone(),
        };
        let value = Some(then.as_ref().clone()).filter(|v| !is_null(v));
        branches.push(Branch { condition, value });
        let unmet = met.clone().is_null().or(not(met));
        before = Some(match before {
            Some(before) => before.and(unmet),
            None => unmet,
        });
    }
    let other = case.else_expr.as_deref().filter(|v| !is_null(v)).cloned();
    let condition = before.unwrap_or_else(|| not(lit(false)));
    branches.push(Branch { condition, value: other });
    Some(branches)
}

/// Whether an expression of this kind has a value wherever its operands have one.
pub(super) fn keeps_values(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Literal(..)
            | Expr::Column(_)
            | Expr::Like(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Case(_)
    )
}

/// Whether an expression has a value for every row: no division, no cast of texts, no function.
fn cannot_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let here = match expr {
        plain if keeps_values(plain) => true,
        Expr::ScalarFunction(f) => f.func.name() == "coalesce",
        Expr::BinaryExpr(b) => b.op.is_logic_operator() || b.op.supports_propagation(),
        // Types are coerced by casts of columns and constants to wider ones.
        Expr::Cast(c) => {
            let to = c.field.data_type();
            c.expr.get_type(schema).is_ok_and(|from| {
                widens(&from, to)
                    || (from.is_numeric()
                        && (to.is_floating() || matches!(to, DataType::Decimal128(..))))
            })
        }
        _ => false,
    };
    let mut all = here;
    let _visited = expr.apply_children(|child| {
        all &= cannot_fail(child, schema);
        Ok(TreeNodeRecursion::Continue)
    });
    all
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

/// The value and the zero of `coalesce(x, 0)`, which the simplifier may have made a CASE.
pub(super) fn zero_for_null(expr: &Expr) -> Option<(&Expr, &ScalarValue)> {
    let (value, other) = match expr {
        Expr::ScalarFunction(f) if f.func.name() == "coalesce" => match f.args.as_slice() {
            [value, other] => (value, other),
            _ => return None,
        },
        Expr::Case(case) => match (case.when_then_expr.as_slice(), case.else_expr.as_deref()) {
            ([(when, then)], Some(other)) if case.expr.is_none() => match when.as_ref() {
                // A value is null where its cast is.
                Expr::IsNotNull(known) if uncast(known) == uncast(then) => (then.as_ref(), other),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    match other {
        Expr::Literal(zero, _) if ScalarValue::new_zero(&zero.data_type()).ok()? == *zero => {
            Some((value, zero))
        }
        _ => None,
    }
}

/// The same condition without `IS TRUE` and its kin: the physical planner thinks those nullable where the
/// logical one does not, which it then finds fault with.
pub(super) fn two_valued(expr: &Expr) -> Expr {
    let changed = expr.clone().transform_up(|e| {
        Ok(match e {
            Expr::IsTrue(p) => Transformed::yes(p.clone().is_not_null().and(*p)),
            Expr::IsNotTrue(p) => Transformed::yes(p.clone().is_null().or(not(*p))),
            Expr::IsFalse(p) => Transformed::yes(p.clone().is_not_null().and(not(*p))),
            Expr::IsNotFalse(p) => Transformed::yes(p.clone().is_null().or(*p)),
            Expr::IsUnknown(p) => Transformed::yes(p.is_null()),
            Expr::IsNotUnknown(p) => Transformed::yes(p.is_not_null()),
            other => Transformed::no(other),
        })
    });
    changed.data().unwrap_or_else(|_| expr.clone())
}

/// The same plan without `IS TRUE` and its kin.
pub(crate) fn without_truth_tests(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    map_expressions(plan, &|expr, _| Ok(Transformed::yes(two_valued(&expr))))
}
