//! Whether a column's default is a value of its type.

use otus_engine::types::ColumnType;
use serde_json::Value;

use super::tree::Node;

/// The default of a column of this type, or a problem.
pub(super) fn value(node: &Node<'_>, column_type: &ColumnType) -> Option<Value> {
    let value = node.json()?;
    if fits(&value, column_type) {
        return Some(value);
    }
    node.error(format!("default {value} is not a value of type {column_type}"));
    None
}

fn fits(value: &Value, column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Boolean => value.is_boolean(),
        ColumnType::SmallInt => value.as_i64().is_some_and(|n| i16::try_from(n).is_ok()),
        ColumnType::Integer => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        ColumnType::BigInt => value.as_i64().is_some(),
        ColumnType::Real | ColumnType::Double => value.is_number(),
        ColumnType::Numeric { .. } => {
            value.is_number() || value.as_str().is_some_and(|s| s.trim().parse::<f64>().is_ok())
        }
        ColumnType::Text | ColumnType::Bytea => value.is_string(),
        ColumnType::Uuid => value.as_str().is_some_and(|s| s.parse::<uuid::Uuid>().is_ok()),
        ColumnType::Date => value.as_str().is_some_and(|s| s.parse::<chrono::NaiveDate>().is_ok()),
        ColumnType::Timestamp => value.as_str().is_some_and(|s| {
            let s = s.replacen(' ', "T", 1);
            s.parse::<chrono::NaiveDateTime>().is_ok() || s.parse::<chrono::NaiveDate>().is_ok()
        }),
        ColumnType::Timestamptz => {
            value.as_str().is_some_and(|s| chrono::DateTime::parse_from_rfc3339(s).is_ok())
        }
        ColumnType::Jsonb => true,
        ColumnType::Array(item) => {
            value.as_array().is_some_and(|items| items.iter().all(|i| fits(i, item)))
        }
    }
}
