//! `bytea` from text and as text, as Postgres does it: `\x00ff`, or bytes as characters with `\\` and three
//! octal digits for those that are none. The planner's casts would take the text's own bytes.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast as cast_expr,
};
use datafusion::optimizer::AnalyzerRule;

use crate::analyze::map_expressions;
use crate::error::{SqlError, SqlResult, sqlstate};

/// `otus_bytea(text)`.
fn bytea_from_text() -> ScalarUDF {
    ScalarUDF::from(FromText(Signature::any(1, Volatility::Immutable)))
}

/// `otus_bytea_text(bytea)`.
fn bytea_to_text() -> ScalarUDF {
    ScalarUDF::from(ToText(Signature::any(1, Volatility::Immutable)))
}

/// Puts the functions in the place of casts. What the planner casts of its own accord stays as it is, but for
/// constants: a function over bytes may take text as bytes, `raw = '\x00'` means a value.
#[derive(Debug)]
pub(crate) enum Bytea {
    /// Casts that were written. Runs before types are coerced.
    Written,
    /// Constants. Runs after types are coerced.
    Constants,
}

impl AnalyzerRule for Bytea {
    fn name(&self) -> &'static str {
        match self {
            Self::Written => "bytea_casts",
            Self::Constants => "bytea_constants",
        }
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &|expr, schema| Ok(self.rewrite(expr, schema)))
    }
}

impl Bytea {
    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let Expr::Cast(Cast { expr, field }) = expr else { return Transformed::no(expr) };
        let to = field.data_type();
        let from = match self {
            Self::Constants if !matches!(*expr, Expr::Literal(..)) => None,
            _ => expr.get_type(schema).ok(),
        };
        let (function, given) = match from {
            Some(from) if is_text(&from) && is_bytes(to) => (bytea_from_text(), DataType::Binary),
            Some(from) if is_bytes(&from) && is_text(to) => (bytea_to_text(), DataType::Utf8View),
            _ => return Transformed::no(Expr::Cast(Cast { expr, field })),
        };
        let call = function.call(vec![*expr]);
        Transformed::yes(if *to == given { call } else { cast_expr(call, to.clone()) })
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromText(Signature);

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &'static str {
        "otus_bytea"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Binary)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [text] = args.args.as_slice() else {
            return Err(SqlError::internal("otus_bytea takes one text").into());
        };
        let texts = cast(&text.to_array(1)?, &DataType::Utf8View)?;
        let bytes = texts.as_string_view().iter().map(|text| text.map(decoded).transpose());
        let bytes = bytes.collect::<SqlResult<Vec<Option<Vec<u8>>>>>()?;
        let bytes: BinaryArray = bytes.iter().map(Option::as_deref).collect();
        Ok(match text {
            ColumnarValue::Scalar(_) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&bytes, 0)?)
            }
            ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(bytes)),
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToText(Signature);

impl ScalarUDFImpl for ToText {
    fn name(&self) -> &'static str {
        "otus_bytea_text"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [bytes] = args.args.as_slice() else {
            return Err(SqlError::internal("otus_bytea_text takes one value").into());
        };
        let values = cast(&bytes.to_array(1)?, &DataType::BinaryView)?;
        let texts = values.as_binary_view().iter().map(|bytes| bytes.map(encoded));
        let texts: StringViewArray = texts.collect();
        Ok(match bytes {
            ColumnarValue::Scalar(_) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
            }
            ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(texts)),
        })
    }
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

fn decoded(text: &str) -> SqlResult<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => from_hex(digits),
        None => from_escapes(text.as_bytes()).ok_or_else(|| {
            SqlError::new(sqlstate::INVALID_TEXT, "invalid input syntax for type bytea")
                .with_hint("write a backslash as \\\\, other bytes as \\ and three octal digits")
        }),
    }
}

/// Pairs of digits; white space may stand between two pairs.
pub(super) fn from_hex(digits: &str) -> SqlResult<Vec<u8>> {
    let wrong = |message: String| SqlError::new(sqlstate::INVALID_PARAMETER, message);
    let value = |digit: char| match digit.to_digit(16).map(u8::try_from) {
        Some(Ok(value)) => Ok(value),
        _ => Err(wrong(format!("invalid hexadecimal digit: \"{digit}\""))),
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits.chars();
    while let Some(first) = rest.by_ref().find(|c| !matches!(c, ' ' | '\n' | '\t' | '\r')) {
        let first = value(first)?;
        let odd = || wrong("invalid hexadecimal data: odd number of digits".to_string());
        let second = value(rest.next().ok_or_else(odd)?)?;
        bytes.push(first << 4 | second);
    }
    Ok(bytes)
}

pub(super) fn from_escapes(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        text = match text {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
