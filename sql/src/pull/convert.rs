//! Columns of an answer as values, and the names of their types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use base64::Engine as _;
use chrono::{DateTime, Days, NaiveDate};
use chrono_tz::Tz;
use otus_engine::types::PG_TYPE_KEY;

use super::step::offset_seconds;
use super::text::ReadLimits;
use super::value::Value;
use super::{edn, json};
use crate::error::{SqlError, SqlResult};

/// The values of a column; instants are shown in `zone`.
pub(super) fn values(array: &ArrayRef, field: &Field, zone: Tz) -> SqlResult<Vec<Value>> {
    let failed = |e: arrow::error::ArrowError| SqlError::internal(e.to_string());
    let as_type = |data_type: &DataType| cast(array, data_type).map_err(failed);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Nil; array.len()],
        DataType::Boolean => collect(array.as_boolean().iter(), Value::Bool),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => {
            let ints = as_type(&DataType::Int64)?;
            collect(ints.as_primitive::<Int64Type>().iter(), Value::Int)
        }
        DataType::UInt64 => {
            let wide = as_type(&DataType::Decimal128(20, 0))?;
            collect(wide.as_primitive::<Decimal128Type>().iter(), |v| decimal(v, 0))
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = as_type(&DataType::Float64)?;
            let narrow = *array.data_type() != DataType::Float64;
            collect(floats.as_primitive::<Float64Type>().iter(), |x| {
                Value::Float(shorten(x, narrow))
            })
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            collect(array.as_primitive::<Decimal128Type>().iter(), |v| decimal(v, scale))
        }
        DataType::Date32 => collect(array.as_primitive::<Date32Type>().iter(), date),
        DataType::Timestamp(_, None) => {
            let local = as_type(&micros)?;
            collect(local.as_primitive::<TimestampMicrosecondType>().iter(), local_time)
        }
        DataType::Timestamp(_, Some(_)) => {
            let utc = as_type(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            collect(utc.as_primitive::<TimestampMicrosecondType>().iter(), |v| instant_in(v, zone))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            texts(&as_type(&DataType::Utf8View)?, field)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes = as_type(&DataType::BinaryView)?;
            let encode =
                |b: &[u8]| Value::text(base64::engine::general_purpose::STANDARD.encode(b));
            collect(bytes.as_binary_view().iter(), encode)
        }
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            let mut rows = Vec::with_capacity(lists.len());
            for list in lists.iter() {
                rows.push(match list {
                    Some(list) => Value::Vector(values(&list, item, zone)?),
                    None => Value::Nil,
                });
            }
            rows
        }
        _ => {
            let text = as_type(&DataType::Utf8)?;
            collect(text.as_string::<i32>().iter(), |text: &str| Value::text(text))
        }
    })
}

/// Text, or what the declared type makes of it.
fn texts(array: &ArrayRef, field: &Field) -> Vec<Value> {
    let kind = field.metadata().get(PG_TYPE_KEY).map(String::as_str);
    collect(array.as_string_view().iter(), |text| match kind {
        Some("uuid") => Value::Uuid(Arc::from(text)),
        Some("jsonb") => document(text),
        _ => Value::String(Arc::from(text)),
    })
}

fn collect<T>(items: impl Iterator<Item = Option<T>>, to: impl Fn(T) -> Value) -> Vec<Value> {
    items.map(|item| item.map_or(Value::Nil, &to)).collect()
}

/// An instant, shown with the offset that `zone` has then.
pub(super) fn instant_in(micros: i64, zone: Tz) -> Value {
    Value::Inst { micros, offset: offset_seconds(micros, zone) }
}

/// Whole numbers are integers whatever their width.
fn decimal(unscaled: i128, scale: i8) -> Value {
    match usize::try_from(scale) {
        Ok(0) => edn::integer(&unscaled.to_string()),
        Ok(places) => {
            let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let sign = if unscaled < 0 { "-" } else { "" };
            Value::Decimal(Arc::from(format!("{sign}{whole}.{fraction}")))
        }
        Err(_) => {
            let zeros = "0".repeat(usize::from(scale.unsigned_abs()));
            edn::integer(&format!("{unscaled}{}", if unscaled == 0 { "" } else { &zeros }))
        }
    }
}

/// A real as the short text that people wrote, not the long one of its double.
fn shorten(x: f64, narrow: bool) -> f64 {
    if !narrow {
        return x;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the value came from 32 bits")]
    let single = x as f32;
    single.to_string().parse().unwrap_or(x)
}

fn date(days: i32) -> Value {
    let shift = Days::new(u64::from(days.unsigned_abs()));
    let epoch = NaiveDate::default();
    let date = if days < 0 { epoch.checked_sub_days(shift) } else { epoch.checked_add_days(shift) };
    date.map_or(Value::Nil, |date| Value::text(date.format("%Y-%m-%d").to_string()))
}

fn local_time(micros: i64) -> Value {
    DateTime::from_timestamp_micros(micros).map_or(Value::Nil, |t| {
        Value::text(t.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string())
    })
}

fn document(text: &str) -> Value {
    json::read(text, ReadLimits::REQUEST).unwrap_or_else(|_| Value::text(text))
}

/// The Postgres name of a column's type.
pub(super) fn type_name(field: &Field) -> String {
    match field.metadata().get(PG_TYPE_KEY) {
        Some(name) => name.clone(),
        None => data_type_name(field.data_type()),
    }
}

/// The Postgres name of a type, in the spelling of the configuration.
pub(super) fn data_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(_, Some(_)) => "timestamptz".to_string(),
        DataType::Timestamp(_, None) => "timestamp".to_string(),
        other => crate::error::pg_type(other),
    }
}
