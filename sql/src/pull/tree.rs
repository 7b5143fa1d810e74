//! The tree that a server offers: its shape, from the catalogue of one snapshot, and the parts of it that are
//! facts rather than queries, `:schema` and `:bounds`.

use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

use super::convert::{data_type_name, instant_in};
use super::named::QUERIES;
use super::shape::{ArgumentShape, Kind, Shape};
use super::source::TimeRanges;
use super::table::{event_tables, is_dimension, metrics_rows, record_rows, tree_name, value_rows};
use super::value::{Map, Value};

/// Parts of the language that come later, with what to say.
const LATER: [(&str, &str); 2] =
    [("tables", ":tables is not supported yet"), ("ingest", ":ingest is not supported yet")];

const TABLE_FACTS: [&str; 7] =
    ["name", "title", "description", "time", "dimensions", "measures", "rollups"];

/// A map of keywords.
pub(super) fn keyed<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut map = Map::new();
    for (name, value) in entries {
        map.insert(Value::keyword(name), value);
    }
    Value::Map(map)
}

fn shapes<'a>(entries: impl IntoIterator<Item = (&'a str, Shape)>) -> Shape {
    Shape::Map(entries.into_iter().map(|(name, s)| (Value::keyword(name), s)).collect())
}

/// Why a keyed table is no part of the tree.
const KEYED: &str = "keyed tables are asked with SQL or GET /api/tables/<table>";

/// The shape of the whole tree.
pub(super) fn shape(snapshot: &Snapshot, queries: Shape) -> Shape {
    let tables: Vec<_> = snapshot.tables().map(|table| (tree_name(table), table)).collect();
    let is_keyed = |table: &CompiledTable| table.def.keyed().is_some();
    let called = |rows: fn(&CompiledTable) -> Shape| {
        shapes(tables.iter().map(|(name, table)| {
            let arguments = vec![ArgumentShape::Query];
            let shape = match is_keyed(table) {
                true => Shape::Later(KEYED),
                false => Shape::Endpoint { arguments, returns: Box::new(rows(table)) },
            };
            (name.as_str(), shape)
        }))
    };
    let leaf = Shape::Leaf;
    let bounds = |table: &CompiledTable| match is_keyed(table) {
        true => Shape::Later(KEYED),
        false => shapes([
            ("first", leaf(Kind::Instant)),
            ("last", leaf(Kind::Instant)),
            ("lag", leaf(Kind::Int)),
        ]),
    };
    let facts = shapes(TABLE_FACTS.map(|name| {
        let whole = |keys: &[&'static str]| {
            let row = shapes(keys.iter().map(|key| (*key, leaf(Kind::Any))));
            Shape::Whole(Box::new(Shape::Rows(Box::new(row))))
        };
        let shape = match name {
            "dimensions" => whole(&DIMENSION_FACTS),
            "measures" => whole(&MEASURE_FACTS),
            "rollups" => whole(&ROLLUP_FACTS),
            _ => leaf(Kind::Any),
        };
        (name, shape)
    }));
    let schema = shapes([("tables", Shape::Rows(Box::new(facts)))]);
    let mut keys = vec![
        ("metrics", called(metrics_rows)),
        ("records", called(record_rows)),
        ("values", called(value_rows)),
        ("bounds", shapes(tables.iter().map(|(name, t)| (name.as_str(), bounds(t))))),
        ("schema", schema),
        (QUERIES, queries),
    ];
    keys.extend(LATER.map(|(name, reason)| (name, Shape::Later(reason))));
    shapes(keys)
}

/// `:bounds` of one table: first and last event, and how long ago the last was, in milliseconds.
pub(super) fn bounds(snapshot: &Snapshot, ranges: &TimeRanges, table: &CompiledTable) -> Value {
    let Some((first, last)) = ranges.get(snapshot, table) else {
        return keyed([("first", Value::Nil), ("last", Value::Nil), ("lag", Value::Nil)]);
    };
    let first = first.max(snapshot.horizon_us(table.id).unwrap_or(i64::MIN));
    let at = |us: i64| instant_in(us, chrono_tz::Tz::UTC);
    let lag = snapshot.pinned_at_us().saturating_sub(last).max(0) / 1_000;
    keyed([("first", at(first)), ("last", at(last)), ("lag", Value::Int(lag))])
}

const DIMENSION_FACTS: [&str; 6] = ["name", "type", "title", "description", "unit", "format"];
const MEASURE_FACTS: [&str; 8] =
    ["name", "type", "title", "description", "unit", "format", "additive", "approximate"];
const ROLLUP_FACTS: [&str; 4] = ["name", "granularities", "dimensions", "measures"];

/// `:schema`.
pub(super) fn schema(snapshot: &Snapshot) -> Value {
    let tables = event_tables(snapshot).map(|table| table_facts(table)).collect();
    keyed([("tables", Value::Vector(tables))])
}

fn optional(text: Option<&String>) -> Value {
    text.map_or(Value::Nil, Value::text)
}

fn table_facts(table: &CompiledTable) -> Value {
    let dimensions = table
        .def
        .columns
        .iter()
        .filter(|column| is_dimension(table, &column.name) && !column.presentation.hidden);
    let dimensions = dimensions.map(|column| {
        let shown = &column.presentation;
        keyed([
            ("name", Value::keyword(&column.name)),
            ("type", Value::text(column.column_type.to_string())),
            ("title", optional(shown.title.as_ref())),
            ("description", optional(shown.description.as_ref())),
            ("unit", optional(shown.unit.as_ref())),
            ("format", optional(shown.format.as_ref())),
        ])
    });
    let measures = table.measures.measures.iter().zip(&table.def.measures);
    let measures = measures.filter(|(_, def)| !def.presentation.hidden).map(|(measure, def)| {
        let shown = &def.presentation;
        keyed([
            ("name", Value::keyword(&measure.name)),
            ("type", Value::text(data_type_name(&measure.data_type))),
            ("title", optional(shown.title.as_ref())),
            ("description", optional(shown.description.as_ref())),
            ("unit", optional(shown.unit.as_ref())),
            ("format", optional(shown.format.as_ref())),
            ("additive", Value::Bool(measure.additive)),
            ("approximate", Value::Bool(measure.approximate)),
        ])
    });
    let names = |names: &[String]| Value::Vector(names.iter().map(Value::keyword).collect());
    let rollups = table.rollups.iter().map(|rollup| {
        let granularities = rollup.def.granularities.iter();
        let dimensions: Vec<_> = rollup.def.dimension_names().cloned().collect();
        let stored = match rollup.def.measures.as_slice() {
            [] => table.measures.measures.iter().map(|m| m.name.clone()).collect(),
            stored => stored.to_vec(),
        };
        keyed([
            ("name", Value::keyword(&rollup.def.name)),
            (
                "granularities",
                Value::Vector(
                    granularities.map(|g| Value::keyword(g.name().replace('_', "-"))).collect(),
                ),
            ),
            ("dimensions", names(&dimensions)),
            ("measures", names(&stored)),
        ])
    });
    keyed([
        ("name", Value::keyword(tree_name(table))),
        ("title", Value::Nil),
        ("description", optional(table.def.description.as_ref())),
        ("time", Value::keyword(&table.def.time)),
        ("dimensions", Value::Vector(dimensions.collect())),
        ("measures", Value::Vector(measures.collect())),
        ("rollups", Value::Vector(rollups.collect())),
    ])
}
