//! What is computed of numbers alone has the type of Postgres: `1 + 1` is an integer, `1 / 2.0` a numeric. The planner
//! has numbers as bigint and double precision.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Most digits of a number that is read as a numeric: a double has no more.
const DIGITS_MAX: usize = 17;

/// The operation with its numbers typed.
pub(super) fn typed(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    use BinaryOperator as B;
    if !matches!(expr.op, B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo) {
        return expr;
    }
    if is_part(&expr.left) || is_part(&expr.right) {
        // `extract(second FROM t) / 5` keeps its fraction: a part is no integer in Postgres.
        if matches!(expr.op, B::Divide) && (computes_part(&expr.left) || computes_part(&expr.right))
        {
            expr.left = as_double(expr.left, schema);
            expr.right = as_double(expr.right, schema);
        }
        return expr;
    }
    let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
        return expr;
    };
    // Beside a column numbers stay as declared measures have them: else no rollup would answer sum(n * 2).
    if is_number(&expr.left) && is_number(&expr.right) {
        expr.left = beside(expr.left, &right, true);
        expr.right = beside(expr.right, &left, true);
    } else if is_number(&expr.left) && is_settled(&expr.right) {
        expr.left = beside(expr.left, &right, false);
    } else if is_number(&expr.right) && is_settled(&expr.left) {
        expr.right = beside(expr.right, &left, false);
    }
    // An integer beside a real makes it a double.
    if left == DataType::Float32 && right.is_integer() {
        expr.left = cast(expr.left, DataType::Float64);
    }
    if right == DataType::Float32 && left.is_integer() {
        expr.right = cast(expr.right, DataType::Float64);
    }
    expr
}

/// Whether parts of times are computed with: some get another type when their fractions are kept.
fn is_part(expr: &Expr) -> bool {
    let part = |e: &Expr| matches!(e, Expr::ScalarFunction(call) if call.name() == "date_part");
    expr.exists(|e| Ok(part(e))).unwrap_or(true)
}

/// Whether an expression has a part's own type: a cast gives another.
fn computes_part(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.name() == "date_part",
        Expr::BinaryExpr(of) => computes_part(&of.left) || computes_part(&of.right),
        Expr::Negative(of) => computes_part(of),
        Expr::Alias(of) => computes_part(&of.expr),
        _ => false,
    }
}

fn as_double(expr: Expr, schema: &DFSchema) -> Expr {
    match expr.get_type(schema) {
        Ok(found) if found.is_integer() => cast(expr, DataType::Float64),
        _ => expr,
    }
}

/// Whether no state of a rollup is of an expression with this one in it: it has results of aggregates, or is constant.
fn is_settled(expr: &Expr) -> bool {
    let is_result = |e: &Expr| matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_));
    is_constant(expr) || expr.exists(|e| Ok(is_result(e))).unwrap_or(false)
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::BinaryExpr(of) => is_constant(&of.left) && is_constant(&of.right),
        Expr::Negative(of) => is_constant(of),
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(_)) | ScalarValue::Float64(Some(_)), _) => true,
        Expr::Negative(inner) => is_number(inner),
        _ => false,
    }
}

/// A number beside a value of another type.
fn beside(number: Expr, other: &DataType, is_literal: bool) -> Expr {
    match number {
        Expr::Negative(inner) => Expr::Negative(Box::new(beside(*inner, other, is_literal))),
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
            let narrow = matches!(other, DataType::Int8 | DataType::Int16 | DataType::Int32);
            let value = match i32::try_from(value) {
                Ok(value) if narrow || is_literal => ScalarValue::Int32(Some(value)),
                _ => ScalarValue::Int64(Some(value)),
            };
            Expr::Literal(value, metadata)
        }
        Expr::Literal(ScalarValue::Float64(Some(value)), metadata) => {
            let exact = other.is_integer() || matches!(other, DataType::Decimal128(..));
            let numeric = if exact || is_literal { numeric(value) } else { None };
            Expr::Literal(numeric.unwrap_or(ScalarValue::Float64(Some(value))), metadata)
        }
        other => other,
    }
}

/// The numeric of as many digits as a double is written with.
fn numeric(value: f64) -> Option<ScalarValue> {
    let text = format!("{value}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.trim_start_matches('0');
    let digits = whole.len() + fraction.len();
    if digits > DIGITS_MAX {
        return None;
    }
    let unscaled: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let precision = u8::try_from(digits.max(1)).ok()?;
    Some(ScalarValue::Decimal128(Some(unscaled), precision, i8::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_as_they_are_written() {
        assert_eq!(numeric(1.5), Some(ScalarValue::Decimal128(Some(15), 2, 1)));
        assert_eq!(numeric(0.05), Some(ScalarValue::Decimal128(Some(5), 2, 2)));
        assert_eq!(numeric(100.0), Some(ScalarValue::Decimal128(Some(100), 3, 0)));
        assert_eq!(numeric(0.0), Some(ScalarValue::Decimal128(Some(0), 1, 0)));
        assert_eq!(numeric(1e300), None);
    }
}
