//! Aggregates of ordered values, `f(…) WITHIN GROUP (ORDER BY x)`: those that the planner lacks become functions of the
//! list of the values, or counts.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Query, Value,
};

use super::rewrite::call;
use super::rows::{binary, cast};
use crate::function::{MODE, PERCENTILE_CONT, PERCENTILE_DISC, SORTED, SORTED_DOWN};

/// Spells the aggregates of a query.
pub(super) fn as_lists(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Ordered);
}

struct Ordered;

impl ast::VisitorMut for Ordered {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = &*expr {
            if let Some(spelled) = spelled(function) {
                *expr = spelled;
            } else if function.over.is_some()
                && function.name.to_string().eq_ignore_ascii_case("ntile")
            {
                // The planner has it as a wider integer.
                *expr = cast(expr.clone(), DataType::Int(None));
            }
        }
        ControlFlow::Continue(())
    }
}

fn spelled(function: &Function) -> Option<Expr> {
    let [order] = function.within_group.as_slice() else { return None };
    if function.over.is_some() {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let values: Vec<&Expr> = list.args.iter().map(value).collect::<Option<_>>()?;
    let of = || values_of(function, order);
    match (function.name.to_string().to_ascii_lowercase().as_str(), values.as_slice()) {
        ("mode", []) => Some(call(MODE, [of()])),
        ("percentile_disc", [share]) => Some(call(PERCENTILE_DISC, [(*share).clone(), of()])),
        ("percentile_cont", [share]) if is_array(share) => {
            Some(call(PERCENTILE_CONT, [(*share).clone(), of()]))
        }
        (name @ ("rank" | "dense_rank" | "percent_rank" | "cume_dist"), [value]) => {
            placed(name, function, order, value)
        }
        _ => None,
    }
}

fn value(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn is_array(expr: &Expr) -> bool {
    match expr {
        Expr::Array(_) | Expr::Cast { data_type: DataType::Array(_), .. } => true,
        Expr::Nested(inner) => is_array(inner),
        Expr::Function(f) => f.name.to_string().eq_ignore_ascii_case("make_array"),
        _ => false,
    }
}

/// `array_agg(x) FILTER (WHERE x IS NOT NULL AND …)`, sorted: an aggregate that orders its values by others takes more room.
fn values_of(function: &Function, order: &ast::OrderByExpr) -> Expr {
    let known = Expr::IsNotNull(Box::new(nested(order.expr.clone())));
    let list = aggregate("array_agg", [order.expr.clone()], function, known);
    call(if order.options.asc == Some(false) { SORTED_DOWN } else { SORTED }, [list])
}

/// An aggregate over the rows of another one for which something holds.
fn aggregate<const N: usize>(name: &str, args: [Expr; N], of: &Function, holds: Expr) -> Expr {
    let mut made = call(name, args);
    if let Expr::Function(made) = &mut made {
        let holds = match &of.filter {
            Some(filter) => binary(nested(*filter.clone()), &BinaryOperator::And, holds),
            None => holds,
        };
        made.filter = Some(Box::new(holds));
    }
    made
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

pub(super) fn number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.into(), false).into())
}

/// The place that a value would have among those of the rows.
fn placed(name: &str, f: &Function, order: &ast::OrderByExpr, value: &Expr) -> Option<Expr> {
    if order.options.nulls_first.is_some() {
        return None;
    }
    let x = || nested(order.expr.clone());
    let descends = order.options.asc == Some(false);
    let compare = |op| binary(x(), op, nested(value.clone()));
    let (before, not_after) = match descends {
        false => (compare(&BinaryOperator::Lt), compare(&BinaryOperator::LtEq)),
        true => {
            let null = Expr::IsNull(Box::new(x()));
            let or = |e| nested(binary(e, &BinaryOperator::Or, null.clone()));
            (or(compare(&BinaryOperator::Gt)), or(compare(&BinaryOperator::GtEq)))
        }
    };
    let plus = |e, n: &str| nested(binary(e, &BinaryOperator::Plus, number(n)));
    let count = |holds| aggregate("count", [number("1")], f, holds);
    let all = || count(Expr::Value(Value::Boolean(true).into()));
    let share = |above: Expr, below: Expr| {
        let double = cast(above, DataType::DoublePrecision);
        nested(binary(double, &BinaryOperator::Divide, below))
    };
    Some(match name {
        "rank" => plus(count(before), "1"),
        "dense_rank" => {
            // Nulls come first where the order descends, and are one value.
            if descends {
                return None;
            }
            let mut distinct = aggregate("count", [order.expr.clone()], f, before);
            if let Expr::Function(Function { args: FunctionArguments::List(l), .. }) = &mut distinct
            {
                l.duplicate_treatment = Some(DuplicateTreatment::Distinct);
            }
            plus(distinct, "1")
        }
        "percent_rank" => {
            let below = call("greatest", [cast(all(), DataType::BigInt(None)), number("1")]);
            share(count(before), below)
        }
        _ => share(plus(count(not_after), "1"), plus(all(), "1")),
    })
}
