//! Values of catalogue rows and functions, and the Arrow fields of Postgres types. An `oid` is an unsigned
//! 32-bit integer, which no table of events has; types that share an Arrow type are told apart by a mark.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, IntervalMonthDayNano, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use otus_engine::types::PG_TYPE_KEY;

use super::layout::Layout;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// None.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer, object ids included.
    Int(i64),
    /// A float.
    Real(f64),
    /// Text of any kind.
    Text(String),
    /// A time, microseconds since 1970 in UTC.
    Time(i64),
    /// A span of seconds.
    Span(i64),
    /// An array or a vector.
    List(Vec<Value>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl Value {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(*v),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn oid(&self) -> Option<u32> {
        self.int().and_then(|v| u32::try_from(v).ok())
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn real(&self) -> Option<f64> {
        match self {
            Self::Real(v) => Some(*v),
            Self::Int(v) => Some(*v as f64),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn shown(&self) -> Option<String> {
        match self {
            Self::Null | Self::List(_) | Self::Time(_) | Self::Span(_) => None,
            Self::Bool(v) => Some(v.to_string()),
            Self::Int(v) => Some(v.to_string()),
            Self::Real(v) => Some(v.to_string()),
            Self::Text(v) => Some(v.clone()),
        }
    }
}

/// Types whose values are object ids and are shown by name.
pub(crate) const REG_TYPES: [&str; 11] = [
    "regclass",
    "regtype",
    "regproc",
    "regprocedure",
    "regnamespace",
    "regrole",
    "regoper",
    "regoperator",
    "regconfig",
    "regdictionary",
    "regcollation",
];

/// Arrow type of a Postgres type by its internal name, and the mark that tells it from others of that type.
fn arrow_of(pg_type: &str) -> (DataType, Option<&str>) {
    let plain = match pg_type {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 0),
        "oid" => DataType::UInt32,
        "text" => DataType::Utf8,
        "bytea" => DataType::Binary,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "int2vector" => return (list_of("int2"), Some("int2vector")),
        "oidvector" => return (list_of("oid"), Some("oidvector")),
        "xid" => return (DataType::UInt32, Some("xid")),
        reg if REG_TYPES.contains(&reg) => return (DataType::UInt32, Some(reg)),
        "_pg_statistic" => return (DataType::Utf8, Some("text")),
        array if array.starts_with('_') => return (list_of(array.trim_start_matches('_')), None),
        other => return (DataType::Utf8, Some(other)),
    };
    (plain, None)
}

fn list_of(item: &str) -> DataType {
    DataType::List(Arc::new(field_of("item", item, true)))
}

/// The field of a column of a Postgres type.
pub(crate) fn field_of(name: &str, pg_type: &str, nullable: bool) -> Field {
    let (data_type, mark) = arrow_of(pg_type);
    let field = Field::new(name, data_type, nullable);
    match mark {
        Some(mark) => {
            field.with_metadata([(PG_TYPE_KEY.to_owned(), mark.to_owned())].into_iter().collect())
        }
        None => field,
    }
}

/// The mark of a field, if its values are object ids shown by name.
pub(crate) fn reg_type(field: &Field) -> Option<&'static str> {
    let mark = field.metadata().get(PG_TYPE_KEY)?;
    REG_TYPES.iter().find(|reg| *reg == mark).copied()
}

/// Values as an array of a field's type. Values of another kind are null.
pub(crate) fn array(field: &Field, values: &[Value]) -> DfResult<ArrayRef> {
    let ints = || values.iter().map(Value::int);
    Ok(match field.data_type() {
        DataType::Boolean => Arc::new(
            values
                .iter()
                .map(|v| match v {
                    Value::Bool(v) => Some(*v),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        DataType::Int16 => Arc::new(ints().map(|v| i16::try_from(v?).ok()).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(ints().map(|v| i32::try_from(v?).ok()).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::UInt32 => {
            Arc::new(ints().map(|v| u32::try_from(v?).ok()).collect::<UInt32Array>())
        }
        DataType::Float32 => {
            let wide: Float64Array = values.iter().map(Value::real).collect();
            return Ok(cast(&wide, &DataType::Float32)?);
        }
        DataType::Float64 => Arc::new(values.iter().map(Value::real).collect::<Float64Array>()),
        DataType::Utf8 => Arc::new(values.iter().map(Value::shown).collect::<StringArray>()),
        DataType::Decimal128(precision, scale) => {
            let all = ints().map(|v| v.map(i128::from)).collect::<Decimal128Array>();
            Arc::new(all.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let times = values.iter().map(|v| match v {
                Value::Time(us) => Some(*us),
                _ => None,
            });
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Interval(_) => {
            let spans = values.iter().map(|v| match v {
                Value::Span(s) => Some(IntervalMonthDayNano::new(0, 0, s * 1_000_000_000)),
                _ => None,
            });
            Arc::new(spans.collect::<IntervalMonthDayNanoArray>())
        }
        DataType::Binary => Arc::new(BinaryArray::new_null(values.len())),
        DataType::List(item) => list(item, values)?,
        other => new_null_array(other, values.len()),
    })
}

fn list(item: &Arc<Field>, values: &[Value]) -> DfResult<ArrayRef> {
    let mut items = Vec::new();
    let (mut lengths, mut valid) = (Vec::new(), Vec::new());
    for value in values {
        let before = items.len();
        if let Value::List(list) = value {
            items.extend(list.iter().cloned());
        }
        lengths.push(items.len() - before);
        valid.push(matches!(value, Value::List(_)));
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = NullBuffer::from(valid);
    let list = ListArray::try_new(Arc::clone(item), offsets, array(item, &items)?, Some(nulls))?;
    Ok(Arc::new(list))
}

/// The values of an array.
pub(crate) fn values(array: &ArrayRef) -> DfResult<Vec<Value>> {
    let list = match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => array.as_boolean().iter().map(Into::into).collect(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = cast(array, &DataType::Float64)?;
            floats
                .as_primitive::<Float64Type>()
                .iter()
                .map(|v| v.map_or(Value::Null, Value::Real))
                .collect()
        }
        t if t.is_integer() => {
            let ints = cast(array, &DataType::Int64)?;
            ints.as_primitive::<Int64Type>().iter().map(Into::into).collect()
        }
        DataType::Timestamp(..) => {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let times = cast(array, &utc)?;
            let times = times.as_primitive::<TimestampMicrosecondType>().iter();
            times.map(|us| us.map_or(Value::Null, Value::Time)).collect()
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>().iter();
            lists
                .map(|items| items.map_or(Ok(Value::Null), |i| values(&i).map(Value::List)))
                .collect::<DfResult<_>>()?
        }
        DataType::Struct(_) => vec![Value::Null; array.len()],
        _ => {
            let texts = cast(array, &DataType::Utf8)?;
            texts.as_string::<i32>().iter().map(Into::into).collect()
        }
    };
    Ok(list)
}

/// Rows of one relation under construction: what a row does not say has the column's default.
pub(crate) struct Rows {
    layout: &'static Layout,
    columns: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn new(layout: &'static Layout) -> Self {
        Self { layout, columns: layout.columns.iter().map(|_| Vec::new()).collect() }
    }

    /// Adds a row. Columns that the relation does not have are left out.
    pub(crate) fn push<'a>(&mut self, row: impl IntoIterator<Item = (&'a str, Value)>) {
        let before = self.len();
        for (name, value) in row {
            let column = self.layout.place(name).and_then(|at| self.columns.get_mut(at));
            if let Some(column) = column.filter(|column| column.len() == before) {
                column.push(value);
            }
        }
        for (column, layout) in self.columns.iter_mut().zip(&self.layout.columns) {
            if column.len() == before {
                column.push(layout.default());
            }
        }
    }

    fn len(&self) -> usize {
        self.columns.iter().map(Vec::len).min().unwrap_or_default()
    }

    pub(crate) fn batch(self) -> DfResult<RecordBatch> {
        let schema = self.layout.arrow();
        let columns = schema.fields().iter().zip(&self.columns).zip(&self.layout.columns);
        let columns = columns.map(|((field, column), layout)| {
            if !layout.not_null {
                return array(field, column);
            }
            let filled: Vec<Value> = column
                .iter()
                .map(|v| if *v == Value::Null { layout.default() } else { v.clone() })
                .collect();
            array(field, &filled)
        });
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}
