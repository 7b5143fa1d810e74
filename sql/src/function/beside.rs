//! A text that is written out beside a value of another type is read as one of that type, as Postgres reads literals whose
//! type is not said: `flag = 'false'`, `'5' + 1`, `date '2026-03-01' - '2026-02-01'`.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::is_text;
use crate::error::{SqlError, SqlResult, sqlstate};

/// The operation with such a text read.
pub(super) fn read(mut expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<RawBinaryExpr> {
    let (left, right) = (written(&expr.left), written(&expr.right));
    match (left, right) {
        (Some(text), None) => {
            if let (Ok(of), false) = (expr.right.get_type(schema), expr.op == BinaryOperator::Minus)
            {
                expr.left = as_type(expr.left, &text, &of, &expr.op)?;
            } else if let Ok(of) = expr.right.get_type(schema)
                && of.is_numeric()
            {
                expr.left = as_type(expr.left, &text, &of, &expr.op)?;
            }
        }
        (None, Some(text)) => {
            if let Ok(of) = expr.left.get_type(schema) {
                expr.right = as_type(expr.right, &text, &of, &expr.op)?;
            }
        }
        _ => {}
    }
    Ok(expr)
}

/// A text that is written out without a type.
fn written(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    if !is_text(&value.data_type()) {
        return None;
    }
    value.try_as_str().flatten().map(str::to_owned)
}

fn as_type(expr: Expr, text: &str, of: &DataType, op: &BinaryOperator) -> DfResult<Expr> {
    use BinaryOperator as B;
    let compares = matches!(op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq);
    let computes = matches!(op, B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo);
    Ok(match of {
        DataType::Boolean if compares => {
            Expr::Literal(ScalarValue::Boolean(Some(boolean(text)?)), None)
        }
        t if computes && t.is_integer() => {
            let number = text.trim().parse::<i64>().map_err(|_| {
                SqlError::new(
                    sqlstate::INVALID_TEXT,
                    format!("invalid input syntax for type integer: \"{text}\""),
                )
            })?;
            Expr::Literal(ScalarValue::Int64(Some(number)), None)
        }
        DataType::Float64 if computes => {
            let number = text.trim().parse::<f64>().map_err(|_| {
                SqlError::new(
                    sqlstate::INVALID_TEXT,
                    format!("invalid input syntax for type numeric: \"{text}\""),
                )
            })?;
            Expr::Literal(ScalarValue::Float64(Some(number)), None)
        }
        t if computes && t.is_numeric() => cast(expr, t.clone()),
        DataType::Date32 | DataType::Timestamp(..) if *op == B::Minus && !is_span(text) => {
            cast(expr, of.clone())
        }
        _ => expr,
    })
}

/// Whether a text is a span rather than a time: it has a word for its unit.
fn is_span(text: &str) -> bool {
    let word = |unit: &str| text.to_ascii_lowercase().contains(unit);
    ["year", "mon", "week", "day", "hour", "min", "sec"].iter().any(|unit| word(unit))
}

/// A boolean, as Postgres reads it: any beginning of the words that tells them apart.
fn boolean(text: &str) -> SqlResult<bool> {
    let word = text.trim().to_ascii_lowercase();
    let begins = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Ok(false)
    } else {
        let message = format!("invalid input syntax for type boolean: \"{text}\"");
        Err(SqlError::new(sqlstate::INVALID_TEXT, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_booleans() {
        for text in ["t", "TRUE", " yes ", "y", "on", "1"] {
            assert!(boolean(text).unwrap(), "{text}");
        }
        for text in ["f", "False", "no", "n", "off", "of", "0"] {
            assert!(!boolean(text).unwrap(), "{text}");
        }
        for text in ["", "o", "2", "truer", "yep"] {
            assert_eq!(boolean(text).unwrap_err().sqlstate, sqlstate::INVALID_TEXT, "{text}");
        }
    }
}
