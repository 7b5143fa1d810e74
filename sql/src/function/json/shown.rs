//! Values of columns as JSON: numbers and booleans as they are, JSON itself, arrays and records with what is in them, times
//! as ISO 8601 has them, all else as text.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::error::Result as DfResult;
use otus_engine::types::PG_TYPE_KEY;

use super::super::zoned::time_text;
use super::value::{Json, Style, write_string};
use crate::error::SqlResult;

/// A column, ready to be written.
#[derive(Debug)]
pub(super) struct Values {
    nulls: Option<NullBuffer>,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Null,
    Boolean(BooleanArray),
    /// Text that is JSON as it stands.
    Plain(StringViewArray),
    /// JSON that is shown in the form of jsonb.
    Jsonb(StringViewArray),
    Float(Float64Array, bool),
    Text(StringViewArray),
    List(ListArray, Box<Values>),
    Record(Vec<(String, Values)>),
}

impl Values {
    /// Of a column with this field, whose times are shown in `zone`.
    pub(super) fn new(field: &Field, array: &ArrayRef, zone: Option<&str>) -> DfResult<Self> {
        let views = |array: &ArrayRef| -> DfResult<StringViewArray> {
            Ok(cast(array, &DataType::Utf8View)?.as_string_view().clone())
        };
        let mark = field.metadata().get(PG_TYPE_KEY).map(String::as_str);
        let shape = match array.data_type() {
            DataType::Null => Shape::Null,
            DataType::Boolean => Shape::Boolean(array.as_boolean().clone()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                // Through its text: a real has the digits of a real.
                let is_real = *array.data_type() == DataType::Float32;
                let wide = if is_real {
                    cast(&cast(array, &DataType::Utf8)?, &DataType::Float64)?
                } else {
                    cast(array, &DataType::Float64)?
                };
                Shape::Float(wide.as_primitive::<Float64Type>().clone(), is_real)
            }
            t if t.is_numeric() => Shape::Plain(views(array)?),
            DataType::Timestamp(_, stored) => {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, stored.clone());
                let times = cast(array, &micros)?;
                let zone = stored.as_ref().map(|_| zone.unwrap_or("UTC"));
                let texts = times.as_primitive::<TimestampMicrosecondType>().iter();
                let texts = texts.map(|us| us.map(|us| time_text(us, zone)).transpose());
                Shape::Text(texts.collect::<SqlResult<StringViewArray>>()?)
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let list = cast(array, &DataType::List(std::sync::Arc::clone(item)))?;
                return Self::new(field, &list, zone);
            }
            DataType::List(item) => {
                let list = array.as_list::<i32>().clone();
                let items = Self::new(item, list.values(), zone)?;
                Shape::List(list, Box::new(items))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let columns = columns.map(|(field, column)| {
                    Ok((field.name().clone(), Self::new(field, column, zone)?))
                });
                Shape::Record(columns.collect::<DfResult<_>>()?)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                let bytes = cast(array, &DataType::BinaryView)?;
                let texts = bytes.as_binary_view().iter();
                Shape::Text(texts.map(|b| b.map(super::super::bytea::encoded)).collect())
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                let spans = std::sync::Arc::new(crate::aggregate::spans(array)?) as ArrayRef;
                Shape::Text(super::super::shown::texts(&spans)?)
            }
            _ => match mark {
                Some("json") => Shape::Plain(views(array)?),
                Some("jsonb") => Shape::Jsonb(views(array)?),
                _ => Shape::Text(views(array)?),
            },
        };
        Ok(Self { nulls: array.logical_nulls(), shape })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether it holds arrays or records.
    pub(super) fn is_nested(&self) -> bool {
        matches!(self.shape, Shape::List(..) | Shape::Record(_))
    }

    /// Whether a boolean is true.
    pub(super) fn flag(&self, row: usize) -> bool {
        matches!(&self.shape, Shape::Boolean(array) if !self.is_null(row) && array.value(row))
    }

    /// The texts of a list of them.
    pub(super) fn texts(&self, row: usize) -> Vec<&str> {
        let Shape::List(list, items) = &self.shape else { return Vec::new() };
        let (Shape::Plain(texts) | Shape::Jsonb(texts) | Shape::Text(texts)) = &items.shape else {
            return Vec::new();
        };
        items_of(list, row)
            .map(|i| if items.is_null(i) { "null" } else { texts.value(i) })
            .collect()
    }

    pub(super) fn write(&self, row: usize, out: &mut String) -> SqlResult<()> {
        self.write_lines(row, false, out)
    }

    /// Writes a value, the elements of an array or the members of a record on lines of their own.
    pub(super) fn write_lines(&self, row: usize, lines: bool, out: &mut String) -> SqlResult<()> {
        if self.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        let comma = if lines { ",\n " } else { "," };
        match &self.shape {
            Shape::Null => out.push_str("null"),
            Shape::Boolean(array) => out.push_str(if array.value(row) { "true" } else { "false" }),
            Shape::Plain(texts) => out.push_str(texts.value(row)),
            Shape::Jsonb(texts) => Json::parse(texts.value(row))?.write(Style::Jsonb, out),
            Shape::Float(array, is_real) => write_float(array.value(row), *is_real, out),
            Shape::Text(texts) => write_string(texts.value(row), out),
            Shape::List(list, items) => {
                out.push('[');
                for (count, item) in items_of(list, row).enumerate() {
                    out.push_str(if count > 0 { comma } else { "" });
                    items.write(item, out)?;
                }
                out.push(']');
            }
            Shape::Record(columns) => {
                out.push('{');
                for (count, (name, values)) in columns.iter().enumerate() {
                    out.push_str(if count > 0 { comma } else { "" });
                    write_string(name, out);
                    out.push(':');
                    values.write(row, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn items_of(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let at = |i: usize| {
        let offset = list.value_offsets().get(i).copied().unwrap_or(0);
        usize::try_from(offset).unwrap_or(0)
    };
    at(row)..at(row + 1)
}

/// A float as Postgres writes it; JSON has no infinities.
fn write_float(value: f64, is_real: bool, out: &mut String) {
    if value.is_nan() {
        return out.push_str("\"NaN\"");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
    let fixed_below = if is_real { 1e6 } else { 1e15 };
    let size = value.abs();
    if size == 0.0 || (1e-4..fixed_below).contains(&size) {
        return out.push_str(&value.to_string());
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    out.push_str(&format!("{digits}e{sign}{exponent:0>2}"));
}
