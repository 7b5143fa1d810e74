//! What pull offers of a table: which names are dimensions, measures and columns, and the shapes of their rows.

use std::sync::Arc;

use arrow::datatypes::DataType;
use otus_engine::catalog::BUCKET_COLUMN;
use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;
use otus_engine::types::ColumnType;

use super::compare::Facet;
use super::filter::FieldType;
use super::shape::{Kind, Shape};
use super::value::Value;
use super::values::VALUE;

/// Schema whose tables are named without it.
pub const DEFAULT_SCHEMA: &str = "public";

/// The tables that pull asks: those of events.
pub fn event_tables(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<CompiledTable>> {
    snapshot.tables().filter(|table| table.def.keyed().is_none())
}

/// The name of a table in the tree.
pub fn tree_name(table: &CompiledTable) -> String {
    if table.def.schema == DEFAULT_SCHEMA {
        table.def.name.clone()
    } else {
        table.def.qualified_name()
    }
}

/// What a name means in `:metrics`, where a measure hides a column of its name.
pub fn metrics_field(table: &CompiledTable, name: &str) -> Option<FieldType> {
    if measure_index(table, name).is_some() {
        return None;
    }
    table.def.column(name).map(|column| FieldType::Column(column.column_type.clone()))
}

/// Index of a measure.
pub fn measure_index(table: &CompiledTable, name: &str) -> Option<usize> {
    table.measures.measures.iter().position(|measure| measure.name == name)
}

/// A measure, or how it compares: `plays`, `plays/prev`, `plays/delta`, `plays/pct`.
pub fn faceted(table: &CompiledTable, name: &str) -> Option<(usize, Facet)> {
    if let Some(index) = measure_index(table, name) {
        return Some((index, Facet::Now));
    }
    let compared = Facet::ALL.into_iter().filter(|facet| *facet != Facet::Now);
    compared
        .filter_map(|facet| {
            Some((measure_index(table, name.strip_suffix(facet.suffix())?)?, facet))
        })
        .next()
}

/// Whether rows can be grouped by a column: not the event time, floats, arrays or documents.
pub fn is_dimension(table: &CompiledTable, name: &str) -> bool {
    let groups = |column_type: &ColumnType| {
        !column_type.is_float()
            && !matches!(column_type, ColumnType::Array(_) | ColumnType::Jsonb | ColumnType::Bytea)
    };
    name != table.def.time
        && name != BUCKET_COLUMN
        && measure_index(table, name).is_none()
        && table.def.column(name).is_some_and(|column| groups(&column.column_type))
}

/// The rows of `:metrics`.
pub fn metrics_rows(table: &CompiledTable) -> Shape {
    let mut keys = vec![(Value::keyword(BUCKET_COLUMN), Shape::Leaf(Kind::Instant))];
    for column in table.def.columns.iter().filter(|c| is_dimension(table, &c.name)) {
        keys.push((Value::keyword(&column.name), Shape::Leaf(kind_of(&column.column_type))));
    }
    for measure in &table.measures.measures {
        let kind = kind_of_data(&measure.data_type);
        keys.push((Value::keyword(&measure.name), Shape::Leaf(kind)));
        for facet in Facet::ALL.into_iter().filter(|facet| *facet != Facet::Now) {
            let name = format!("{}{}", measure.name, facet.suffix());
            let kind = if facet == Facet::Share { Kind::Number } else { kind };
            keys.push((Value::keyword(name), Shape::Leaf(kind)));
        }
    }
    Shape::Rows(Box::new(Shape::Map(keys)))
}

/// The rows of `:values`.
pub fn value_rows(table: &CompiledTable) -> Shape {
    let measures = table.measures.measures.iter();
    let measures = measures.filter(|measure| measure.name != VALUE).map(|measure| {
        (Value::keyword(&measure.name), Shape::Leaf(kind_of_data(&measure.data_type)))
    });
    let value = (Value::keyword(VALUE), Shape::Leaf(Kind::Any));
    Shape::Rows(Box::new(Shape::Map(std::iter::once(value).chain(measures).collect())))
}

/// The rows of `:records`.
pub fn record_rows(table: &CompiledTable) -> Shape {
    let declared = table.def.columns.iter();
    let mut keys: Vec<(Value, Shape)> = declared
        .map(|column| (Value::keyword(&column.name), Shape::Leaf(kind_of(&column.column_type))))
        .collect();
    for field in table.schema.fields() {
        let key = Value::keyword(field.name());
        if !keys.iter().any(|(known, _)| *known == key) {
            keys.push((key, Shape::Leaf(kind_of_data(field.data_type()))));
        }
    }
    Shape::Rows(Box::new(Shape::Map(keys)))
}

fn kind_of(column_type: &ColumnType) -> Kind {
    match column_type {
        ColumnType::Boolean => Kind::Bool,
        // Text as well: JSON gives integers beyond 2^53 and decimals so.
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::Real | ColumnType::Double => {
            Kind::Number
        }
        ColumnType::BigInt | ColumnType::Numeric { .. } => Kind::NumberOrText,
        ColumnType::Text | ColumnType::Uuid | ColumnType::Date | ColumnType::Timestamp => {
            Kind::String
        }
        ColumnType::Timestamptz => Kind::Instant,
        ColumnType::Bytea | ColumnType::Jsonb | ColumnType::Array(_) => Kind::Any,
    }
}

pub(super) fn kind_of_data(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Kind::String,
        DataType::Timestamp(_, Some(_)) => Kind::Instant,
        t if t.is_numeric() => Kind::NumberOrText,
        _ => Kind::Any,
    }
}
