//! Whether the conditions of a query say what the filter of a rollup says. Equal conditions do, and some that are
//! narrower; what is not known to be is taken not to.

use std::cmp::Ordering;

use datafusion::logical_expr::{Expr, Operator, not};
use datafusion::scalar::ScalarValue;

/// Whether `wanted` is true of every row that `known` is true of.
pub(super) fn implies(known: &Expr, wanted: &Expr) -> bool {
    // Of conditions only their being true counts.
    match (known, wanted) {
        _ if known == wanted => return true,
        (Expr::IsTrue(known), _) => return implies(known, wanted),
        (_, Expr::IsTrue(wanted)) => return implies(known, wanted),
        (Expr::IsFalse(known), _) => return implies(&not(known.as_ref().clone()), wanted),
        (_, Expr::IsFalse(wanted)) => return implies(known, &not(wanted.as_ref().clone())),
        _ => {}
    }
    let by_wanted = match wanted {
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            implies(known, &b.left) && implies(known, &b.right)
        }
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            implies(known, &b.left) || implies(known, &b.right)
        }
        Expr::InList(list) if !list.negated => list
            .list
            .iter()
            .any(|item| implies(known, &list.expr.as_ref().clone().eq(item.clone()))),
        Expr::IsNotNull(value) => rejects_null(known, value),
        _ => false,
    };
    by_wanted
        || match known {
            Expr::BinaryExpr(b) if b.op == Operator::And => {
                implies(&b.left, wanted) || implies(&b.right, wanted)
            }
            Expr::BinaryExpr(b) if b.op == Operator::Or => {
                implies(&b.left, wanted) && implies(&b.right, wanted)
            }
            Expr::InList(list) if !list.negated && !list.list.is_empty() => {
                let one = |item: &Expr| list.expr.as_ref().clone().eq(item.clone());
                list.list.iter().all(|item| implies(&one(item), wanted))
            }
            Expr::Between(b) if !b.negated => {
                let value = b.expr.as_ref();
                implies(&value.clone().gt_eq(b.low.as_ref().clone()), wanted)
                    || implies(&value.clone().lt_eq(b.high.as_ref().clone()), wanted)
            }
            _ => matches!((compared(known), compared(wanted)), (Some(a), Some(b)) if a.says(&b)),
        }
}

/// Whether a condition is never true of a row in which `value` is null.
fn rejects_null(condition: &Expr, value: &Expr) -> bool {
    match condition {
        Expr::BinaryExpr(b) => {
            let compares = matches!(
                b.op,
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
            );
            compares && (b.left.as_ref() == value || b.right.as_ref() == value)
        }
        Expr::Between(b) => b.expr.as_ref() == value,
        Expr::Like(like) => like.expr.as_ref() == value,
        Expr::InList(list) => list.expr.as_ref() == value,
        Expr::Not(inner) => inner.as_ref() == value,
        other => other == value,
    }
}

/// A value compared with a constant.
struct Compared<'a> {
    value: &'a Expr,
    op: Operator,
    bound: &'a ScalarValue,
}

fn compared(expr: &Expr) -> Option<Compared<'_>> {
    let Expr::BinaryExpr(b) = expr else { return None };
    let (value, op, bound) = match (b.left.as_ref(), b.right.as_ref()) {
        (value, Expr::Literal(bound, _)) => (value, b.op, bound),
        (Expr::Literal(bound, _), value) => (value, b.op.swap()?, bound),
        _ => return None,
    };
    // Floats have two zeros and values that are no numbers.
    let plain = !bound.is_null() && !bound.data_type().is_floating();
    plain.then_some(Compared { value, op, bound })
}

impl Compared<'_> {
    fn says(&self, other: &Self) -> bool {
        use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if self.value != other.value {
            return false;
        }
        let Some(order) = self.bound.partial_cmp(other.bound) else { return false };
        match (self.op, other.op) {
            (Eq, Eq) => order.is_eq(),
            (Eq, NotEq) => order.is_ne(),
            (Eq | Lt | LtEq, Lt) => order.is_lt() || (self.op == Lt && order.is_eq()),
            (Eq | Lt | LtEq, LtEq) => order.is_le(),
            (Eq | Gt | GtEq, Gt) => order.is_gt() || (self.op == Gt && order.is_eq()),
            (Eq | Gt | GtEq, GtEq) => order.is_ge(),
            (Lt | LtEq, NotEq) => order.is_lt() || (self.op == Lt && order.is_eq()),
            (Gt | GtEq, NotEq) => order == Ordering::Greater || (self.op == Gt && order.is_eq()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    #[test]
    fn narrower_conditions_say_what_wider_ones_say() {
        let n = || col("n");
        let check = |known: Expr, wanted: Expr, expected: bool| {
            assert_eq!(implies(&known, &wanted), expected, "{known} says {wanted}");
        };
        let values: Vec<i64> = (0..5).collect();
        let all = |v: i64| {
            [
                n().eq(lit(v)),
                n().not_eq(lit(v)),
                n().lt(lit(v)),
                n().lt_eq(lit(v)),
                lit(v).lt(n()),
                n().gt_eq(lit(v)),
            ]
        };
        let holds = |op: usize, v: i64, n: i64| match op {
            0 => n == v,
            1 => n != v,
            2 => n < v,
            3 => n <= v,
            4 => n > v,
            _ => n >= v,
        };
        for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))) {
            for (i, known) in all(a).into_iter().enumerate() {
                for (j, wanted) in all(b).into_iter().enumerate() {
                    let is_so = (-3..9).all(|n| !holds(i, a, n) || holds(j, b, n));
                    let said = implies(&known, &wanted);
                    assert!(!said || is_so, "{known} says {wanted}");
                    // Over whole numbers more follows, such as n > 1 from n >= 2.
                    let over_all = i != 4 && j != 4 && i != 2 && j != 2;
                    assert!(said || !is_so || !over_all, "{known} does not say {wanted}");
                }
            }
        }
        check(n().eq(lit(1_i64)), n().is_not_null(), true);
        check(n().is_null(), n().is_not_null(), false);
        check(n().in_list(vec![lit(1_i64), lit(2_i64)], false), n().gt(lit(0_i64)), true);
        check(n().in_list(vec![lit(1_i64), lit(2_i64)], true), n().gt(lit(0_i64)), false);
        check(n().eq(lit(1_i64)), n().in_list(vec![lit(1_i64), lit(2_i64)], false), true);
        check(n().between(lit(3_i64), lit(4_i64)), n().gt_eq(lit(3_i64)), true);
        check(n().not_between(lit(3_i64), lit(4_i64)), n().gt_eq(lit(3_i64)), false);
        check(n().eq(lit(1.0)), n().lt(lit(2.0)), false);
        check(col("b").is_false(), not(col("b")), true);
        check(not(col("b")), col("b").is_false(), true);
        check(col("b").is_true(), col("b").is_false(), false);
        check(col("b"), col("b").or(n().eq(lit(1_i64))), true);
        check(col("b").or(n().eq(lit(1_i64))), col("b"), false);
        check(n().gt(lit(1_i64)), col("m").gt(lit(1_i64)), false);
    }
}
