//! Expressions over a table's columns as text, for proposals that people put into a declaration. What comes out
//! need not mean the same: whoever asks reads it again and compares.

use std::fmt::Write as _;

use arrow::datatypes::DataType;
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use datafusion::common::utils::quote_identifier;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::function::Checked;

/// Longest text of an expression, bytes.
const TEXT_BYTES: usize = 400;

/// The text of an expression, if there is one. Casts that types ask for are left out, or all are written.
pub(super) fn spelled(expr: &Expr, casts: bool) -> Option<String> {
    let text = Spelling { casts }.of(expr)?;
    (text.len() <= TEXT_BYTES).then(|| bare(text))
}

/// Without the brackets around all of it.
fn bare(text: String) -> String {
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else { return text };
    let mut depth = 0_i32;
    let closes_early = inner.chars().any(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth < 0
    });
    // A bracket in a string may look like one that closes: then all of them stay.
    if closes_early || depth != 0 { text } else { inner.to_string() }
}

struct Spelling {
    casts: bool,
}

impl Spelling {
    fn of(&self, expr: &Expr) -> Option<String> {
        Some(match expr {
            Expr::Alias(alias) => self.of(&alias.expr)?,
            Expr::Column(column) => quote_identifier(&column.name).into_owned(),
            Expr::Literal(value, _) => literal(value)?,
            Expr::BinaryExpr(b) => {
                let op = match b.op {
                    Operator::NotEq => "<>".to_string(),
                    op => op.to_string(),
                };
                format!("({} {op} {})", self.of(&b.left)?, self.of(&b.right)?)
            }
            Expr::Not(e) => format!("(NOT {})", self.of(e)?),
            Expr::Negative(e) => format!("(- {})", self.of(e)?),
            Expr::IsNull(e) => format!("({} IS NULL)", self.of(e)?),
            Expr::IsNotNull(e) => format!("({} IS NOT NULL)", self.of(e)?),
            Expr::IsTrue(e) => format!("({} IS TRUE)", self.of(e)?),
            Expr::IsFalse(e) => format!("({} IS FALSE)", self.of(e)?),
            Expr::IsNotTrue(e) => format!("({} IS NOT TRUE)", self.of(e)?),
            Expr::IsNotFalse(e) => format!("({} IS NOT FALSE)", self.of(e)?),
            Expr::Like(like) if like.escape_char.is_none() => {
                let not = if like.negated { "NOT " } else { "" };
                let word = if like.case_insensitive { "ILIKE" } else { "LIKE" };
                format!("({} {not}{word} {})", self.of(&like.expr)?, self.of(&like.pattern)?)
            }
            Expr::Between(b) => {
                let not = if b.negated { "NOT " } else { "" };
                let (low, high) = (self.of(&b.low)?, self.of(&b.high)?);
                format!("({} {not}BETWEEN {low} AND {high})", self.of(&b.expr)?)
            }
            Expr::InList(list) => {
                let not = if list.negated { "NOT " } else { "" };
                format!("({} {not}IN ({}))", self.of(&list.expr)?, self.list(&list.list)?)
            }
            Expr::Case(case) => self.case(case)?,
            Expr::Cast(cast) => {
                let inner = self.of(&cast.expr)?;
                match self.casts {
                    true => format!("CAST({inner} AS {})", type_name(cast.field.data_type())?),
                    false => inner,
                }
            }
            Expr::ScalarFunction(f) => self.function(f)?,
            _ => return None,
        })
    }

    fn list(&self, exprs: &[Expr]) -> Option<String> {
        let all: Option<Vec<_>> = exprs.iter().map(|e| self.of(e)).collect();
        Some(all?.join(", "))
    }

    fn case(&self, case: &Case) -> Option<String> {
        let mut out = "CASE".to_string();
        if let Some(base) = &case.expr {
            write!(out, " {}", self.of(base)?).ok()?;
        }
        for (when, then) in &case.when_then_expr {
            write!(out, " WHEN {} THEN {}", self.of(when)?, self.of(then)?).ok()?;
        }
        if let Some(other) = &case.else_expr {
            write!(out, " ELSE {}", self.of(other)?).ok()?;
        }
        Some(out + " END")
    }

    fn function(&self, f: &ScalarFunction) -> Option<String> {
        if let Some(checked) = Checked::parts(&f.func) {
            let (first, others) = f.args.split_first()?;
            let mut out = self.of(first)?;
            for (op, arg) in checked.operators().iter().zip(others) {
                out = format!("({out} {op} {})", self.of(arg)?);
            }
            return Some(out);
        }
        match f.func.name() {
            "||" => {
                let all: Option<Vec<_>> = f.args.iter().map(|e| self.of(e)).collect();
                Some(format!("({})", all?.join(" || ")))
            }
            name if name.starts_with("otus_") => None,
            name => Some(format!("{name}({})", self.list(&f.args)?)),
        }
    }
}

fn literal(value: &ScalarValue) -> Option<String> {
    if value.is_null() {
        return Some("NULL".into());
    }
    if let Some(text) = value.try_as_str() {
        return Some(format!("'{}'", text?.replace('\'', "''")));
    }
    Some(match value {
        ScalarValue::Boolean(Some(v)) => v.to_string(),
        ScalarValue::Float64(Some(v)) if v.is_finite() => format!("{v:?}"),
        ScalarValue::Date32(Some(days)) => {
            let day = NaiveDate::default().checked_add_signed(TimeDelta::days((*days).into()))?;
            format!("DATE '{day}'")
        }
        ScalarValue::TimestampMicrosecond(Some(us), Some(_)) => {
            let at = DateTime::from_timestamp_micros(*us)?;
            format!("TIMESTAMPTZ '{}'", at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        ScalarValue::Decimal128(Some(unscaled), _, scale) => {
            let scale = usize::try_from(*scale).ok()?;
            let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
            let (whole, part) = digits.split_at(digits.len() - scale);
            let sign = if *unscaled < 0 { "-" } else { "" };
            // As it was before it was made a number of the other side's digits.
            let part = part.trim_end_matches('0');
            let point = if part.is_empty() { "" } else { "." };
            format!("{sign}{whole}{point}{part}")
        }
        value if value.data_type().is_integer() => value.to_string(),
        _ => return None,
    })
}

fn type_name(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text".into(),
        DataType::Date32 => "date".into(),
        _ => return None,
    })
}
