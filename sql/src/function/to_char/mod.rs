//! `to_char(value, pattern)` with the patterns of Postgres: [`time`] for dates and times, [`number`] for
//! numbers. A pattern that is not supported is an error, never text that only looks like an answer.

mod from_text;
mod number;
mod pattern;
mod reading;
mod span;
mod time;
mod to_number;

pub(crate) use from_text::FROM_TEXT;
pub(super) use from_text::{all as from_text, of_seconds};
pub(super) use to_number::to_number;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use otus_engine::time::Granularity;

use crate::datetime::Span;
use crate::error::{SqlError, SqlResult, sqlstate};

/// The function.
pub(super) fn to_char() -> ScalarUDF {
    ScalarUDF::from(ToChar::default())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Signature);

impl Default for ToChar {
    fn default() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &'static str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        use DataType as T;
        let wrong = || crate::aggregate::no_such_function("to_char", types);
        let [value, T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null] = types else {
            return Err(wrong());
        };
        let value = match value {
            T::Timestamp(_, zone) => T::Timestamp(TimeUnit::Microsecond, zone.clone()),
            T::Date32 | T::Date64 => T::Timestamp(TimeUnit::Microsecond, None),
            T::Null => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => T::Int64,
            T::UInt64 => T::Decimal128(20, 0),
            T::Decimal32(p, s) | T::Decimal64(p, s) => T::Decimal128(*p, *s),
            T::Decimal128(..) => value.clone(),
            T::Float16 | T::Float32 | T::Float64 => T::Float64,
            T::Interval(_) => T::Interval(IntervalUnit::MonthDayNano),
            _ => return Err(wrong()),
        };
        Ok(vec![value, T::Utf8View])
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let [value, pattern] = args.args.as_slice() else {
            return datafusion::common::internal_err!("to_char takes two arguments");
        };
        let values = value.to_array(rows)?;
        let text = match pattern {
            ColumnarValue::Scalar(pattern) => {
                match pattern.try_as_str().flatten().filter(|p| !is_nothing(p, values.data_type()))
                {
                    Some(pattern) => {
                        formatted(&values, &Format::new(pattern, values.data_type())?)?
                    }
                    None => StringViewArray::new_null(rows),
                }
            }
            ColumnarValue::Array(patterns) => by_row(&values, patterns)?,
        };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&text, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(text)))
    }
}

/// The longest unit of the calendar within which all times have the same text; `None` if a pattern tells
/// moments of a minute apart.
pub(crate) fn pattern_unit(pattern: &str) -> Option<Granularity> {
    time::Format::new(pattern).ok()?.unit()
}

/// A pattern, read once for all rows.
enum Format {
    Time(time::Format),
    Number(number::Format),
}

impl Format {
    fn new(pattern: &str, data_type: &DataType) -> SqlResult<Self> {
        match data_type {
            DataType::Timestamp(..) | DataType::Interval(_) => {
                time::Format::new(pattern).map(Self::Time)
            }
            _ => number::Format::new(pattern).map(Self::Number),
        }
    }
}

/// Nothing of a time is null; nothing of a number is an empty text.
fn is_nothing(pattern: &str, data_type: &DataType) -> bool {
    pattern.is_empty() && matches!(data_type, DataType::Timestamp(..) | DataType::Interval(_))
}

/// A pattern that differs from row to row.
fn by_row(values: &ArrayRef, patterns: &ArrayRef) -> DfResult<StringViewArray> {
    let patterns = cast(patterns, &DataType::Utf8View)?;
    let patterns = patterns.as_string_view();
    let cells = (0..values.len()).map(|row| -> DfResult<Option<String>> {
        if patterns.is_null(row) || is_nothing(patterns.value(row), values.data_type()) {
            return Ok(None);
        }
        let format = Format::new(patterns.value(row), values.data_type())?;
        let text = formatted(&values.slice(row, 1), &format)?;
        Ok(text.is_valid(0).then(|| text.value(0).to_string()))
    });
    cells.collect()
}

fn formatted(values: &ArrayRef, format: &Format) -> DfResult<StringViewArray> {
    Ok(match (format, values.data_type()) {
        (Format::Time(format), DataType::Timestamp(_, zone)) => {
            let zone = zone.as_deref().map(time::Zone::new).transpose()?;
            let plain = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let plain = plain.as_primitive::<TimestampMicrosecondType>();
            let cell = |us: i64| format.text(us, zone.as_ref());
            plain.iter().map(|us| us.map(cell).transpose()).collect::<SqlResult<_>>()?
        }
        (Format::Time(format), DataType::Interval(_)) => {
            let spans = values.as_primitive::<IntervalMonthDayNanoType>().iter();
            let cell = |span| span::text(format, Span::from(span));
            spans.map(|span| span.map(cell).transpose()).collect::<SqlResult<_>>()?
        }
        (Format::Number(format), DataType::Int64) => {
            let numbers = values.as_primitive::<Int64Type>().iter();
            numbers.map(|n| n.map(|n| format.decimal(n.into(), 0))).collect()
        }
        (Format::Number(format), DataType::Float64) => {
            let numbers = values.as_primitive::<Float64Type>().iter();
            numbers.map(|n| n.map(|n| format.float(n))).collect()
        }
        (Format::Number(format), DataType::Decimal128(_, scale)) => {
            let numbers = values.as_primitive::<Decimal128Type>().iter();
            numbers.map(|n| n.map(|n| format.decimal(n, *scale))).collect()
        }
        (_, other) => {
            return datafusion::common::internal_err!("to_char of {other}");
        }
    })
}

/// The refusal of a pattern.
fn wrong(pattern: &str, what: impl std::fmt::Display) -> SqlError {
    SqlError::new(
        sqlstate::INVALID_PARAMETER,
        format!("to_char() cannot use the pattern \"{pattern}\": {what}"),
    )
}

#[cfg(test)]
mod tests;
