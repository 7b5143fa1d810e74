//! Parameters in binary, every length checked.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::ScalarValue;
use tokio_postgres::types::{Kind, Type};

use super::{array, numeric};
use crate::pgwire::encode::{Zone, date_from_binary, timestamp_from_binary};
use crate::pgwire::error::WireError;

/// Reads a value that is not null.
pub(super) fn from_binary(pg: &Type, bytes: &[u8], zone: &Zone) -> Result<ScalarValue, WireError> {
    let text = || {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| WireError::error("22021", "invalid byte sequence for encoding \"UTF8\""))
    };
    Ok(match *pg {
        Type::BOOL => ScalarValue::Boolean(Some(fixed::<1>(bytes)? != [0])),
        Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(bytes)?))),
        Type::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(bytes)?))),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::OID => ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(fixed(bytes)?)))),
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(bytes)?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(bytes)?))),
        Type::NUMERIC => numeric::from_binary(bytes)?,
        Type::UUID => {
            let uuid = uuid::Uuid::from_bytes(fixed(bytes)?);
            ScalarValue::Utf8View(Some(uuid.to_string()))
        }
        Type::JSONB => match text()?.strip_prefix('\u{1}') {
            Some(json) => ScalarValue::Utf8View(Some(super::json(json)?)),
            None => return Err(WireError::error("22P03", "unsupported jsonb version number")),
        },
        Type::BYTEA => ScalarValue::BinaryView(Some(bytes.to_vec())),
        Type::DATE => {
            ScalarValue::Date32(Some(date_from_binary(i32::from_be_bytes(fixed(bytes)?))?))
        }
        Type::TIME => ScalarValue::Time64Microsecond(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let us = timestamp_from_binary(i64::from_be_bytes(fixed(bytes)?))?;
            let zone = (*pg == Type::TIMESTAMPTZ).then(|| "UTC".into());
            ScalarValue::TimestampMicrosecond(Some(us), zone)
        }
        Type::INTERVAL => interval_from_binary(fixed(bytes)?)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            ScalarValue::Utf8View(Some(text()?))
        }
        _ => match pg.kind() {
            Kind::Array(item) => array::from_binary(item, bytes, zone)?,
            _ => {
                let message = format!("parameters of type {} are not supported", pg.name());
                return Err(WireError::error("0A000", message)
                    .with_hint("send the parameter as text, or cast it in the statement"));
            }
        },
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes
        .try_into()
        .map_err(|_| WireError::error("22P03", "incorrect binary data format in bind parameter"))
}

fn interval_from_binary(bytes: [u8; 16]) -> Result<ScalarValue, WireError> {
    let (us, rest) = bytes.split_at(8);
    let (days, months) = rest.split_at(4);
    let nanoseconds = i64::from_be_bytes(fixed(us)?)
        .checked_mul(1_000)
        .ok_or_else(|| WireError::error("22008", "interval out of range"))?;
    let days = i32::from_be_bytes(fixed(days)?);
    let months = i32::from_be_bytes(fixed(months)?);
    let value = IntervalMonthDayNano::new(months, days, nanoseconds);
    Ok(ScalarValue::IntervalMonthDayNano(Some(value)))
}
