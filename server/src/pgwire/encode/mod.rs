//! Values of Arrow columns as Postgres writes them, in text and in binary. An [`Encoder`] looks at its column
//! once per batch and then writes row by row. arrow-pg's encoders are not used: they hold a numeric to
//! 28 digits where sums of integers have 38, and resolve type and time zone for every value.

mod nested;
mod number;
mod time;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::array::{
    BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{self as types, DataType, Field, IntervalUnit, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use self::number::Decimal;
use super::error::WireError;
use super::frame::Format;
use super::types::pg_type;

pub(super) use self::time::{Zone, date_from_binary, timestamp_from_binary};

/// One column of one batch, ready to be written.
#[derive(Debug)]
pub(super) struct Encoder {
    pg: Type,
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Null,
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Oid(UInt32Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Text(StringArray),
    TextView(StringViewArray),
    Binary(BinaryArray),
    BinaryView(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Timestamptz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray, Box<Encoder>),
    Struct(Vec<Encoder>),
}

impl Encoder {
    /// For `array`, a column of a batch whose field is `field`.
    pub(super) fn new(field: &Field, array: &ArrayRef) -> Result<Self, WireError> {
        let values = Values::new(field, array)?;
        Ok(Self { pg: pg_type(field), nulls: array.logical_nulls(), values })
    }

    /// Whether the value of `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Length and value of `row`, as in DataRow.
    pub(super) fn put(
        &self,
        row: usize,
        format: Format,
        zone: &Zone,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        with_length(out, |out| match format {
            Format::Text => self.put_text(row, zone, out),
            Format::Binary => self.put_binary(row, zone, out),
        })
    }

    /// Text of a value that is not null.
    pub(super) fn put_text(
        &self,
        row: usize,
        zone: &Zone,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        match &self.values {
            Values::Null => {}
            Values::Boolean(a) => out.put_u8(if a.value(row) { b't' } else { b'f' }),
            Values::Int16(a) => number::put_int(i64::from(a.value(row)), out),
            Values::Int32(a) => number::put_int(i64::from(a.value(row)), out),
            Values::Int64(a) => number::put_int(a.value(row), out),
            Values::Oid(a) => number::put_int(i64::from(a.value(row)), out),
            Values::Float32(a) => number::put_float4(a.value(row), zone.float_digits, out),
            Values::Float64(a) => number::put_float8(a.value(row), zone.float_digits, out),
            Values::Decimal(a, scale) => match i64::try_from(a.value(row)) {
                Ok(value) if *scale == 0 => number::put_int(value, out),
                _ => Decimal::new(&a.value(row).to_string(), *scale).put_text(out),
            },
            Values::Decimal256(a, scale) => {
                Decimal::new(&a.value(row).to_string(), *scale).put_text(out);
            }
            Values::Text(a) => self.put_plain(a.value(row), out),
            Values::TextView(a) => self.put_plain(a.value(row), out),
            Values::Binary(a) => put_bytes(a.value(row), zone, out),
            Values::BinaryView(a) => put_bytes(a.value(row), zone, out),
            Values::Date(a) => time::put_date(a.value(row), out)?,
            Values::Time(a) => time::put_time(a.value(row), out),
            Values::Timestamp(a) => time::put_timestamp(a.value(row), None, out)?,
            Values::Timestamptz(a) => time::put_timestamp(a.value(row), Some(zone), out)?,
            Values::Interval(a) if zone.iso_intervals => {
                time::put_iso_interval(a.value(row), out);
            }
            Values::Interval(a) => time::put_interval(a.value(row), out),
            Values::List(a, items) if self.is_vector() => {
                nested::put_vector_text(a, items, row, zone, out)?;
            }
            Values::List(a, items) => nested::put_array_text(a, items, row, zone, out)?,
            Values::Struct(fields) => nested::put_record_text(fields, row, zone, out)?,
        }
        Ok(())
    }

    /// Binary form of a value that is not null.
    pub(super) fn put_binary(
        &self,
        row: usize,
        zone: &Zone,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        match &self.values {
            Values::Null => {}
            Values::Boolean(a) => out.put_u8(u8::from(a.value(row))),
            Values::Int16(a) => out.put_i16(a.value(row)),
            Values::Int32(a) => out.put_i32(a.value(row)),
            Values::Int64(a) => out.put_i64(a.value(row)),
            Values::Oid(a) => out.put_u32(a.value(row)),
            Values::Float32(a) => out.put_f32(a.value(row)),
            Values::Float64(a) => out.put_f64(a.value(row)),
            Values::Decimal(a, scale) => {
                Decimal::new(&a.value(row).to_string(), *scale).put_binary(out)?;
            }
            Values::Decimal256(a, scale) => {
                Decimal::new(&a.value(row).to_string(), *scale).put_binary(out)?;
            }
            Values::Text(a) => self.put_text_binary(a.value(row), out)?,
            Values::TextView(a) => self.put_text_binary(a.value(row), out)?,
            Values::Binary(a) => out.put_slice(a.value(row)),
            Values::BinaryView(a) => out.put_slice(a.value(row)),
            Values::Date(a) => time::put_date_binary(a.value(row), out)?,
            Values::Time(a) => out.put_i64(a.value(row)),
            Values::Timestamp(a) | Values::Timestamptz(a) => {
                time::put_timestamp_binary(a.value(row), out)?;
            }
            Values::Interval(a) => time::put_interval_binary(a.value(row), out),
            Values::List(a, items) => {
                let first = i32::from(!self.is_vector());
                nested::put_array_binary(a, items, row, first, zone, out)?;
            }
            Values::Struct(fields) => nested::put_record_binary(fields, row, zone, out)?,
        }
        Ok(())
    }

    /// Whether it is an array of the catalogue that counts from zero and is written without braces.
    fn is_vector(&self) -> bool {
        matches!(self.pg, Type::INT2_VECTOR | Type::OID_VECTOR)
    }

    /// A text; a jsonb is stored as it came and shown as Postgres does.
    fn put_plain(&self, text: &str, out: &mut BytesMut) {
        match self.pg {
            Type::JSONB => out.put_slice(otus_sql::jsonb_text(text).as_bytes()),
            _ => out.put_slice(text.as_bytes()),
        }
    }

    /// Types that are text in Arrow but not on the wire.
    fn put_text_binary(&self, text: &str, out: &mut BytesMut) -> Result<(), WireError> {
        match self.pg {
            Type::UUID => {
                let uuid = uuid::Uuid::parse_str(text)
                    .map_err(|_| WireError::value("22P02", "uuid", text))?;
                out.put_slice(uuid.as_bytes());
            }
            Type::JSONB => {
                out.put_u8(1);
                self.put_plain(text, out);
            }
            _ => out.put_slice(text.as_bytes()),
        }
        Ok(())
    }
}

impl Values {
    fn new(field: &Field, array: &ArrayRef) -> Result<Self, WireError> {
        let micros = TimeUnit::Microsecond;
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int16 => Self::Int16(array.as_primitive().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive().clone()),
            DataType::Int64 => Self::Int64(array.as_primitive().clone()),
            DataType::Float32 => Self::Float32(array.as_primitive().clone()),
            DataType::Float64 => Self::Float64(array.as_primitive().clone()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive().clone(), *scale),
            DataType::Decimal256(_, scale) => {
                Self::Decimal256(array.as_primitive().clone(), *scale)
            }
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::Utf8View => Self::TextView(array.as_string_view().clone()),
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            DataType::Date32 => Self::Date(array.as_primitive().clone()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let values = array.as_primitive::<types::TimestampMicrosecondType>().clone();
                match zone {
                    None => Self::Timestamp(values),
                    Some(_) => Self::Timestamptz(values),
                }
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Self::Interval(array.as_primitive().clone())
            }
            DataType::List(item) => {
                let list = array.as_list::<i32>().clone();
                let items = Encoder::new(item, list.values())?;
                Self::List(list, Box::new(items))
            }
            DataType::Struct(fields) => Self::Struct(struct_encoders(array.as_struct(), fields)?),
            // Everything else is brought to one of these first.
            DataType::Int8 | DataType::UInt8 => Self::cast(field, array, &DataType::Int16)?,
            DataType::UInt16 => Self::cast(field, array, &DataType::Int32)?,
            DataType::UInt32 => Self::Oid(array.as_primitive().clone()),
            DataType::UInt64 => Self::cast(field, array, &DataType::Int64)?,
            DataType::Float16 => Self::cast(field, array, &DataType::Float32)?,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => {
                Self::cast(field, array, &DataType::Decimal128(*p, *s))?
            }
            DataType::LargeUtf8 => Self::cast(field, array, &DataType::Utf8View)?,
            DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                Self::cast(field, array, &DataType::BinaryView)?
            }
            DataType::Date64 => Self::cast(field, array, &DataType::Date32)?,
            DataType::Time32(_) | DataType::Time64(_) => {
                Self::cast(field, array, &DataType::Time64(micros))?
            }
            DataType::Timestamp(_, zone) => {
                Self::cast(field, array, &DataType::Timestamp(micros, zone.clone()))?
            }
            DataType::Interval(_) => {
                Self::cast(field, array, &DataType::Interval(IntervalUnit::MonthDayNano))?
            }
            DataType::Duration(_) => Self::difference(field, array)?,
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => {
                Self::cast(field, array, &DataType::List(Arc::clone(item)))?
            }
            DataType::Dictionary(_, value) => Self::cast(field, array, value)?,
            DataType::RunEndEncoded(_, value) => Self::cast(field, array, value.data_type())?,
            DataType::Map(..) | DataType::Union(..) => Self::shown(array)?,
        })
    }

    /// A difference of times: in Postgres days, and a time of less than a day.
    fn difference(field: &Field, array: &ArrayRef) -> Result<Self, WireError> {
        let spans = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let spans: IntervalMonthDayNanoArray =
            spans.as_primitive::<types::IntervalMonthDayNanoType>().unary(time::with_days);
        Self::new(field, &(Arc::new(spans) as ArrayRef))
    }

    /// Casts and tries again. A value that does not fit is an error, never a null.
    fn cast(field: &Field, array: &ArrayRef, to: &DataType) -> Result<Self, WireError> {
        let wide = cast(array, to)?;
        if wide.null_count() > array.logical_null_count() {
            return Err(WireError::error("22003", format!("{:?} is out of range", field.name())));
        }
        Self::new(field, &wide)
    }

    /// Types without a Postgres form: Arrow's own text.
    fn shown(array: &ArrayRef) -> Result<Self, WireError> {
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
        let text = (0..array.len())
            .map(|row| array.is_valid(row).then(|| formatter.value(row).to_string()))
            .collect();
        Ok(Self::Text(text))
    }
}

fn struct_encoders(array: &StructArray, fields: &types::Fields) -> Result<Vec<Encoder>, WireError> {
    fields.iter().zip(array.columns()).map(|(field, column)| Encoder::new(field, column)).collect()
}

/// Writes what `put` writes behind its length.
fn with_length(
    out: &mut BytesMut,
    put: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    out.put_i32(0);
    put(out)?;
    let length = i32::try_from(out.len() - start - 4)
        .map_err(|_| WireError::error("54000", "a value is longer than 2 GiB"))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_bytes(bytes: &[u8], zone: &Zone, out: &mut BytesMut) {
    if !zone.escaped_bytes {
        return put_hex(bytes, out);
    }
    for byte in bytes {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            0x20..=0x7e => out.put_u8(*byte),
            _ => {
                let octal = [b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)];
                out.put_slice(&octal);
            }
        }
    }
}

fn put_hex(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests;
