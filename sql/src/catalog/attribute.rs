//! What `pg_attribute` says of a column's type. The library knows no uuid, jsonb, precision or most arrays,
//! so the columns that depend on the type are written anew here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;

use crate::error::pg_field_type;

/// A type: internal name, its id and that of its array, bytes (-1 = varies), alignment.
type Known = (&'static str, i32, i32, i16, &'static str);

const TYPES: &[Known] = &[
    ("bool", 16, 1000, 1, "c"),
    ("bytea", 17, 1001, -1, "i"),
    ("int8", 20, 1016, 8, "d"),
    ("int2", 21, 1005, 2, "s"),
    ("int4", 23, 1007, 4, "i"),
    ("text", 25, 1009, -1, "i"),
    ("float4", 700, 1021, 4, "i"),
    ("float8", 701, 1022, 8, "d"),
    ("date", 1082, 1182, 4, "i"),
    ("time", 1083, 1183, 8, "d"),
    ("timestamp", 1114, 1115, 8, "d"),
    ("timestamptz", 1184, 1185, 8, "d"),
    ("interval", 1186, 1187, 16, "d"),
    ("numeric", 1700, 1231, -1, "i"),
    ("uuid", 2950, 2951, 16, "c"),
    ("jsonb", 3802, 3807, -1, "i"),
];

/// Ids of `numeric` and of its array.
pub(crate) const NUMERIC: [i32; 2] = [1700, 1231];

/// What depends on a column's type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    oid: i32,
    bytes: i16,
    dimensions: i32,
    modifier: i32,
    by_value: bool,
    align: &'static str,
    storage: &'static str,
}

impl Attribute {
    /// `declared`: the type was declared, so that even the widest numeric has the precision it shows;
    /// sums have the same Arrow type and none.
    pub(super) fn of(field: &Field, declared: bool) -> Self {
        let (_, name) = pg_field_type(field);
        let (is_array, item) = match name.strip_prefix('_') {
            Some(item) => (true, item),
            None => (false, name.as_str()),
        };
        let known = TYPES.iter().find(|t| t.0 == item);
        let (_, oid, array, bytes, align) = *known.unwrap_or(&("text", 25, 1009, -1, "i"));
        let modifier = modifier(field.data_type(), declared);
        if is_array {
            let align = if align == "d" { "d" } else { "i" };
            let (bytes, by_value, storage) = (-1, false, "x");
            let (oid, dimensions) = (array, 1);
            return Self { oid, bytes, dimensions, modifier, by_value, align, storage };
        }
        let storage = match (item, bytes) {
            ("numeric", _) => "m",
            (_, -1) => "x",
            _ => "p",
        };
        let by_value = (1..=8).contains(&bytes);
        Self { oid, bytes, dimensions: 0, modifier, by_value, align, storage }
    }
}

/// Precision and scale as Postgres packs them, -1 for types that have none.
fn modifier(data_type: &DataType, declared: bool) -> i32 {
    match data_type {
        DataType::Decimal128(precision, scale) if declared || *precision < 38 => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4
        }
        DataType::List(item) => modifier(item.data_type(), declared),
        _ => -1,
    }
}

/// Precision and scale out of a modifier, if it holds them.
pub(crate) fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    Some((packed >> 16, packed & 0x7ff))
}

/// The library's rows with the types put right. `known` tells by table id and column name.
pub(super) fn with_types(
    batch: &RecordBatch,
    known: &HashMap<(i32, String), Attribute>,
) -> DfResult<RecordBatch> {
    let schema = batch.schema();
    let column = |name: &str| batch.column_by_name(name).cloned();
    let (Some(tables), Some(names)) = (column("attrelid"), column("attname")) else {
        return Ok(batch.clone());
    };
    let (tables, names) = (cast(&tables, &DataType::Int32)?, cast(&names, &DataType::Utf8)?);
    let (tables, names) = (tables.as_primitive::<Int32Type>(), names.as_string::<i32>());
    let rows: Vec<Option<&Attribute>> = (0..batch.num_rows())
        .map(|i| known.get(&(tables.value(i), names.value(i).to_string())))
        .collect();
    // A table that came or went between the two looks keeps what the library said of it.
    if rows.iter().any(Option::is_none) {
        return Ok(batch.clone());
    }
    let rows: Vec<&Attribute> = rows.into_iter().flatten().collect();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, old)| {
        let new: ArrayRef = match field.name().as_str() {
            "atttypid" => Arc::new(rows.iter().map(|a| Some(a.oid)).collect::<Int32Array>()),
            "attlen" => Arc::new(rows.iter().map(|a| Some(a.bytes)).collect::<Int16Array>()),
            "attndims" => Arc::new(rows.iter().map(|a| Some(a.dimensions)).collect::<Int32Array>()),
            "atttypmod" => Arc::new(rows.iter().map(|a| Some(a.modifier)).collect::<Int32Array>()),
            "attbyval" => Arc::new(rows.iter().map(|a| Some(a.by_value)).collect::<BooleanArray>()),
            "attalign" => Arc::new(rows.iter().map(|a| Some(a.align)).collect::<StringArray>()),
            "attstorage" => Arc::new(rows.iter().map(|a| Some(a.storage)).collect::<StringArray>()),
            _ => Arc::clone(old),
        };
        cast(&new, field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[cfg(test)]
mod tests {
    use otus_engine::types::ColumnType;

    use super::*;

    #[test]
    fn declared_types_are_those_of_postgres() {
        for (name, oid, bytes, modifier, dimensions) in [
            ("boolean", 16, 1, -1, 0),
            ("smallint", 21, 2, -1, 0),
            ("integer", 23, 4, -1, 0),
            ("bigint", 20, 8, -1, 0),
            ("real", 700, 4, -1, 0),
            ("double precision", 701, 8, -1, 0),
            ("numeric(12,2)", 1700, -1, 786_438, 0),
            ("numeric(38,0)", 1700, -1, 2_490_372, 0),
            ("text", 25, -1, -1, 0),
            ("uuid", 2950, 16, -1, 0),
            ("jsonb", 3802, -1, -1, 0),
            ("date", 1082, 4, -1, 0),
            ("timestamp", 1114, 8, -1, 0),
            ("timestamptz", 1184, 8, -1, 0),
            ("bytea", 17, -1, -1, 0),
            ("uuid[]", 2951, -1, -1, 1),
            ("jsonb[]", 3807, -1, -1, 1),
            ("numeric(5,1)[]", 1231, -1, 327_685, 1),
        ] {
            let field = name.parse::<ColumnType>().unwrap().field("c", true);
            let a = Attribute::of(&field, true);
            assert_eq!(
                (a.oid, a.bytes, a.modifier, a.dimensions),
                (oid, bytes, modifier, dimensions),
                "{name}"
            );
        }
        assert_eq!(precision_and_scale(786_438), Some((12, 2)));
        assert_eq!(precision_and_scale(-1), None);
        let sum = Field::new("sum", DataType::Decimal128(38, 2), true);
        assert_eq!(Attribute::of(&sum, false).modifier, -1);
    }
}
