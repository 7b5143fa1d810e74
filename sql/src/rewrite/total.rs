//! Whether an expression over raw columns has a value, or null, for every row. Where it fails for one, a query
//! over raw rows fails; a rollup's filter and dimensions, which are made of rows that are kept already, have null
//! there. So a rollup serves only by expressions that are known not to fail.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::scalar::ScalarValue;

use super::branch::keeps_values;
use super::calls::widens;
use super::fits::Values;
use crate::function::Checked;

/// Functions that have an answer for all arguments of their types. Some refuse to build very long texts, which is
/// no other answer.
const TOTAL: [&str; 31] = [
    "lower",
    "upper",
    "btrim",
    "ltrim",
    "rtrim",
    "character_length",
    "length",
    "octet_length",
    "bit_length",
    "ascii",
    "starts_with",
    "ends_with",
    "strpos",
    "replace",
    "reverse",
    "concat",
    "concat_ws",
    "||",
    "coalesce",
    "nullif",
    "left",
    "right",
    "initcap",
    "contains",
    "translate",
    "md5",
    "sha256",
    "date_part",
    "iszero",
    "isnan",
    "greatest",
];

/// Functions whose pattern may be wrong; facts keep none whose constant pattern is.
pub(super) const BY_PATTERN: [&str; 4] =
    ["regexp_replace", "regexp_like", "regexp_match", "regexp_count"];

/// Whether no row makes an expression fail.
pub(super) fn is_total(expr: &Expr, schema: &DFSchema, values: &Values<'_>) -> bool {
    values.fits(expr) && has_value(expr, schema)
}

fn has_value(expr: &Expr, schema: &DFSchema) -> bool {
    let here = match expr {
        Expr::Alias(_) => true,
        plain if keeps_values(plain) => true,
        Expr::BinaryExpr(b) => match b.op {
            Operator::Divide | Operator::Modulo => {
                b.left.get_type(schema).is_ok_and(|t| t.is_integer()) && is_positive(&b.right)
            }
            Operator::StringConcat => true,
            // The arithmetic of integers is a function here; that of decimals may not fit.
            Operator::Plus | Operator::Minus | Operator::Multiply => false,
            op => op.is_logic_operator() || op.supports_propagation(),
        },
        Expr::Cast(c) => {
            c.expr.get_type(schema).is_ok_and(|from| casts(&from, c.field.data_type()))
        }
        Expr::ScalarFunction(f) => answers(f),
        _ => false,
    };
    let mut all = here;
    let _visited = expr.apply_children(|child| {
        all = all && has_value(child, schema);
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    all
}

fn answers(f: &ScalarFunction) -> bool {
    let args = f.args.as_slice();
    match (f.func.name(), args) {
        // Whether its numbers fit was looked at before.
        _ if Checked::parts(&f.func).is_some() => true,
        ("split_part", [_, _, place]) => integer(place).is_some_and(|n| n != 0),
        ("substr", [_, from]) => integer(from).is_some(),
        ("substr", [_, from, length]) => {
            integer(from).is_some() && integer(length).is_some_and(|n| n >= 0)
        }
        (name, [_, constants @ ..]) if BY_PATTERN.contains(&name) => {
            constants.iter().all(|arg| matches!(arg, Expr::Literal(..)))
        }
        (name, _) => TOTAL.contains(&name),
    }
}

/// Casts that have a value for all values.
fn casts(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Timestamp, Utf8, Utf8View};
    let is_text = |t: &DataType| matches!(t, Utf8 | Utf8View | DataType::LargeUtf8);
    match (from, to) {
        (a, b) if a == b => true,
        (a, b) if widens(a, b) => true,
        (a, b) if is_text(b) => {
            a.is_integer() || is_text(a) || matches!(a, Boolean | Date32 | Decimal128(..))
        }
        (a, Float32 | Float64) => a.is_numeric(),
        (a, Decimal128(precision, scale)) => {
            let digits = match a {
                DataType::Int16 => 5,
                DataType::Int32 => 10,
                DataType::Int64 => 19,
                _ => return false,
            };
            i16::from(*precision) - i16::from(*scale) >= digits
        }
        (Boolean, b) => b.is_integer(),
        (Timestamp(TimeUnit::Microsecond, _), Date32) => true,
        (Timestamp(a, None), Timestamp(b, Some(zone)))
        | (Timestamp(a, Some(zone)), Timestamp(b, None)) => a == b && &**zone == "UTC",
        _ => false,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

fn is_positive(expr: &Expr) -> bool {
    integer(expr).is_some_and(|n| n > 0)
}
