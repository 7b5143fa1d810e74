//! What is computed with numbers that are written out has the type of Postgres: `1 + 1` and `n * 2` of an integer are
//! integers, `n / 2.0` is a numeric. The planner has such numbers as bigint and double precision.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::fractions::results_as;

/// Most digits of a number that is read as a numeric: a double has no more.
const DIGITS_MAX: usize = 17;

/// The operation with its numbers typed.
pub(super) fn typed(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    use BinaryOperator as B;
    let of_bits = matches!(
        expr.op,
        B::BitwiseAnd
            | B::BitwiseOr
            | B::BitwiseXor
            | B::PGBitwiseXor
            | B::PGBitwiseShiftLeft
            | B::PGBitwiseShiftRight
    );
    if !of_bits && !matches!(expr.op, B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo) {
        return expr;
    }
    if has_part(&expr.left) || has_part(&expr.right) {
        // `extract(second FROM t) / 5` keeps its fraction: a part is no integer in Postgres.
        if matches!(expr.op, B::Divide) && (computes_part(&expr.left) || computes_part(&expr.right))
        {
            expr.left = as_double(expr.left, schema);
            expr.right = as_double(expr.right, schema);
        }
        return expr;
    }
    expr.left = alike(expr.left, schema);
    expr.right = alike(expr.right, schema);
    let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
        return expr;
    };
    let (of_left, of_right) = (is_number(&expr.left), is_number(&expr.right));
    let both = of_left && of_right;
    if of_left {
        expr.left = beside(expr.left, &right, both);
    }
    if of_right {
        expr.right = beside(expr.right, &left, both);
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

/// A CASE whose results are numbers of one type. Until its types are coerced its type is that of its first result, by which
/// an operator would be chosen that is not that of the others.
fn alike(expr: Expr, schema: &DFSchema) -> Expr {
    let Expr::Case(case) = expr else { return expr };
    let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    let types = results.chain(case.else_expr.as_deref()).map(|result| result.get_type(schema));
    let Ok(types) = types.collect::<DfResult<Vec<_>>>() else { return Expr::Case(case) };
    let widest = types.iter().filter(|of| !of.is_null()).cloned().map(Some).reduce(|a, b| {
        let (a, b) = (a?, b?);
        wider(&a, &b)
    });
    match widest.flatten() {
        Some(widest) if types.iter().any(|of| !of.is_null() && *of != widest) => {
            Expr::Case(results_as(case, |result| match result.get_type(schema) {
                Ok(of) if of != widest => cast(result, widest.clone()),
                _ => result,
            }))
        }
        _ => Expr::Case(case),
    }
}

/// The type of two numbers beside one another; none if they are no numbers.
fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    let exact = |of: &DataType| match of {
        T::Int8 | T::Int16 => Some((5, 0)),
        T::Int32 => Some((10, 0)),
        T::Int64 => Some((19, 0)),
        T::Decimal128(digits, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            Some((digits.saturating_sub(scale), scale))
        }
        _ => None,
    };
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (T::Float32 | T::Float64, other) | (other, T::Float32 | T::Float64) => {
            (other.is_floating() || exact(other).is_some()).then_some(T::Float64)
        }
        (T::Decimal128(..), _) | (_, T::Decimal128(..)) => {
            let ((whole, scale), (other, fraction)) = (exact(a)?, exact(b)?);
            let scale = scale.max(fraction);
            let digits = whole.max(other).saturating_add(scale).min(DECIMAL128_MAX_PRECISION);
            Some(T::Decimal128(digits, i8::try_from(scale).ok()?))
        }
        _ => {
            let (first, second) = (exact(a)?, exact(b)?);
            Some(if first >= second { a.clone() } else { b.clone() })
        }
    }
}

/// Whether parts of times are computed with: some get another type when their fractions are kept. A cast gives a type of
/// its own.
fn has_part(expr: &Expr) -> bool {
    let mut found = false;
    let visited = expr.apply(|e| match e {
        Expr::Cast(_) => Ok(TreeNodeRecursion::Jump),
        Expr::ScalarFunction(call) if call.name() == "date_part" => {
            found = true;
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    found || visited.is_err()
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
    fn wider_types_of_numbers() {
        use DataType as T;
        let check = |a: T, b: T, expected: Option<T>| {
            assert_eq!(wider(&a, &b), expected, "{a} {b}");
            assert_eq!(wider(&b, &a), expected, "{b} {a}");
        };
        check(T::Int16, T::Int32, Some(T::Int32));
        check(T::Int32, T::Decimal128(2, 1), Some(T::Decimal128(11, 1)));
        check(T::Decimal128(38, 16), T::Int64, Some(T::Decimal128(38, 16)));
        check(T::Decimal128(4, 4), T::Decimal128(3, 0), Some(T::Decimal128(7, 4)));
        check(T::Float64, T::Decimal128(2, 1), Some(T::Float64));
        check(T::Float32, T::Int32, Some(T::Float64));
        check(T::Utf8, T::Int32, None);
    }

    #[test]
    fn doubles_as_they_are_written() {
        assert_eq!(numeric(1.5), Some(ScalarValue::Decimal128(Some(15), 2, 1)));
        assert_eq!(numeric(0.05), Some(ScalarValue::Decimal128(Some(5), 2, 2)));
        assert_eq!(numeric(100.0), Some(ScalarValue::Decimal128(Some(100), 3, 0)));
        assert_eq!(numeric(0.0), Some(ScalarValue::Decimal128(Some(0), 1, 0)));
        assert_eq!(numeric(1e300), None);
    }
}
