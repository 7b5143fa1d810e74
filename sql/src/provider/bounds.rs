//! The bounds that the log keeps of a file's columns, as the planner's scalars and statistics.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::scalar::ScalarValue;
use otus_engine::log::op::{ColumnStats, FileEntry, StatValue};

/// A bound as a scalar of the column's type; none if it does not fit.
pub(super) fn scalar(value: &StatValue, data_type: &DataType) -> Option<ScalarValue> {
    let plain = match value {
        StatValue::Bool(v) => ScalarValue::Boolean(Some(*v)),
        StatValue::Float(v) => ScalarValue::Float64(Some(*v)),
        StatValue::Text(v) => ScalarValue::Utf8(Some(v.clone())),
        StatValue::Decimal(v) => {
            let DataType::Decimal128(precision, scale) = data_type else { return None };
            return Some(ScalarValue::Decimal128(Some(v.parse().ok()?), *precision, *scale));
        }
        StatValue::Int(v) => return integer(*v, data_type),
    };
    plain.cast_to(data_type).ok()
}

fn integer(v: i64, data_type: &DataType) -> Option<ScalarValue> {
    use arrow::datatypes::TimeUnit::Microsecond;
    Some(match data_type {
        DataType::Timestamp(Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(v), zone.clone())
        }
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(v).ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(v)),
        DataType::Int32 => ScalarValue::Int32(Some(i32::try_from(v).ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(i16::try_from(v).ok()?)),
        _ => return None,
    })
}

/// Statistics of a file for the columns in `used`; nothing is said of the others.
pub(super) fn statistics(file: &FileEntry, schema: &SchemaRef, used: &[bool]) -> Arc<Statistics> {
    let rows = usize::try_from(file.rows).unwrap_or(usize::MAX);
    let columns = schema.fields().iter().zip(used).map(|(field, used)| {
        if !used {
            return ColumnStatistics::new_unknown();
        }
        let found = file.columns.iter().find(|c| c.name == *field.name());
        found.map_or_else(ColumnStatistics::new_unknown, |c| column(c, field.data_type()))
    });
    Arc::new(Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: columns.collect(),
    })
}

fn column(stats: &ColumnStats, data_type: &DataType) -> ColumnStatistics {
    let exact = stats.exact && !data_type.is_floating();
    let bound = |value: &Option<StatValue>| match value.as_ref().and_then(|v| scalar(v, data_type))
    {
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    };
    ColumnStatistics {
        null_count: Precision::Exact(usize::try_from(stats.nulls).unwrap_or(usize::MAX)),
        min_value: bound(&stats.min),
        max_value: bound(&stats.max),
        ..ColumnStatistics::new_unknown()
    }
}
