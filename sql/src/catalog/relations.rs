//! Everything that the catalogue shows of one set of definitions: schemas, tables, views and their columns, each
//! with an object id that is made of its name, so that it stays the same for every query and every start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::Result as DfResult;
use otus_engine::catalog::{BUCKET_COLUMN, Presentation, RollupDef, TableDef, TableId};
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::log::op::Target;
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;

use super::layout::{self, Layout};
use super::library::{Library, PG_NAMESPACE, PgType, library};
use super::{Found, INFORMATION_SCHEMA, PG_SCHEMA, PUBLIC_SCHEMA, find, schema_names, table_names};
use crate::append::SYSTEM;
use crate::error::pg_field_type;
use crate::named::{NamedQueries, NamedQueryDef};
use crate::provider::{self, SYSTEM_SCHEMA};

/// The least id of an object that is not Postgres's own.
const FIRST_ID: u32 = 16_384;
/// Id of the schema `public`, as everywhere.
const PUBLIC_ID: u32 = 2200;
/// Id of the role to which everything belongs.
pub(crate) const OWNER_ID: u32 = 10;
/// Its name.
pub(crate) const OWNER: &str = "otus";
/// Id of `text`.
const TEXT_ID: u32 = 25;

/// A column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_id: u32,
    /// Precision and scale as Postgres packs them, -1 for types that have none.
    pub(crate) modifier: i32,
    pub(crate) not_null: bool,
    pub(crate) comment: Option<String>,
    /// As an expression.
    pub(crate) default: Option<String>,
}

/// Where the rows of a relation come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Declared.
    Table(TableId),
    /// The finished view of a rollup of a table.
    Rollup(TableId, Granularity),
    /// `otus.*`.
    System,
    /// Postgres's own catalogue.
    Catalogue,
}

/// The number of the last column that Postgres itself adds to tables, `tableoid`.
const LAST_OF_POSTGRES: i32 = -7;

/// A table or view.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) schema_id: u32,
    pub(crate) name: String,
    /// `r` or `v`.
    pub(crate) kind: &'static str,
    pub(crate) origin: Origin,
    pub(crate) columns: Vec<Column>,
    pub(crate) comment: Option<String>,
    /// Statement of a view.
    pub(crate) definition: Option<String>,
    pub(crate) key: Option<PrimaryKey>,
    /// Whether rows may be added by clients.
    pub(crate) takes_rows: bool,
}

impl Relation {
    pub(crate) fn is_view(&self) -> bool {
        self.kind == "v"
    }
    /// Columns with their numbers. Those that a table has besides the declared ones have numbers below zero, as `ctid` and
    /// its like have in Postgres: whoever lists columns gets those that `*` gives.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (i32, &Column)> {
        let is_table = !self.is_view() && !self.is_built_in();
        let (mut declared, mut besides) = (0, LAST_OF_POSTGRES);
        self.columns.iter().map(move |column| {
            let number = match is_table && SYSTEM.contains(&column.name.as_str()) {
                true => {
                    besides -= 1;
                    besides
                }
                false => {
                    declared += 1;
                    declared
                }
            };
            (number, column)
        })
    }
    /// Columns that `*` gives, with their numbers.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (i32, &Column)> {
        self.numbered().filter(|(number, _)| *number > 0)
    }
    /// Whether Postgres or Otus brought it along.
    pub(crate) fn is_built_in(&self) -> bool {
        self.origin == Origin::Catalogue
    }
}

/// The primary key of a keyed table.
#[derive(Debug, Clone)]
pub(crate) struct PrimaryKey {
    /// Of the constraint and its index.
    pub(crate) name: String,
    pub(crate) index_id: u32,
    pub(crate) constraint_id: u32,
    /// Position of its column, from 1.
    pub(crate) column: i32,
}

/// A named query, as a function.
#[derive(Debug, Clone)]
pub(crate) struct Routine {
    pub(crate) oid: u32,
    pub(crate) def: NamedQueryDef,
    /// Types of its parameters.
    pub(crate) types: Vec<u32>,
}

/// What the catalogue shows.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Names by id.
    pub(crate) schemas: BTreeMap<u32, String>,
    pub(crate) list: Vec<Relation>,
    pub(crate) routines: Vec<Routine>,
    by_id: HashMap<u32, usize>,
    by_name: HashMap<(String, String), usize>,
}

/// Gives ids by name; of names with the same one each after the first gets the next free.
#[derive(Default)]
struct Ids(BTreeSet<u32>);

impl Ids {
    fn of(&mut self, name: &str) -> u32 {
        // FNV-1a, which stays the same in all versions.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        let mut id = FIRST_ID + u32::try_from((hash ^ (hash >> 32)) & 0x3fff_ffff).unwrap_or(0);
        while !self.0.insert(id) {
            id += 1;
        }
        id
    }
}

/// An id for a name that nothing else is told apart by.
pub(crate) fn id_of(name: &str) -> u32 {
    Ids::default().of(name)
}

/// Id of the database.
pub(crate) fn database_id(name: &str) -> u32 {
    id_of(&format!("database {name}"))
}

impl Relations {
    /// What a snapshot defines.
    pub(crate) fn of(snapshot: &Arc<Snapshot>, named: Option<&NamedQueries>) -> DfResult<Self> {
        let library = library()?;
        let mut made = Self::default();
        let mut ids = Ids::default();
        let schemas = schema_names(snapshot);
        for schema in &schemas {
            let id = match schema.as_str() {
                PG_SCHEMA => PG_NAMESPACE,
                PUBLIC_SCHEMA => PUBLIC_ID,
                other => ids.of(&format!("schema {other}")),
            };
            made.schemas.insert(id, schema.clone());
        }
        for layout in layout::all() {
            let schema_id = made.schema_id(layout.schema).unwrap_or_default();
            made.list.push(of_catalogue(layout, schema_id, library));
        }
        for schema in &schemas {
            if schema == PG_SCHEMA || schema == INFORMATION_SCHEMA {
                continue;
            }
            let schema_id = made.schema_id(schema).unwrap_or_default();
            let mut names = table_names(snapshot, schema);
            names.sort();
            for name in names {
                let oid = ids.of(&format!("relation {schema}.{name}"));
                let found = relation(snapshot, library, schema, &name)?;
                let Some(mut relation) = found else { continue };
                (relation.oid, relation.schema_id) = (oid, schema_id);
                if let Some(key) = &mut relation.key {
                    key.index_id = ids.of(&format!("index {schema}.{}", key.name));
                    key.constraint_id = ids.of(&format!("constraint {schema}.{}", key.name));
                }
                if relation.is_view() {
                    relation.columns.iter_mut().for_each(|column| column.not_null = false);
                }
                made.list.push(relation);
            }
        }
        let queries = named.into_iter().flat_map(NamedQueries::iter);
        for query in queries.filter(|query| query.is_seen_by(snapshot)) {
            let oid = ids.of(&format!("function {}", query.def.name));
            let types = query.def.parameters.iter();
            let types = types.map(|p| type_of(library, &p.column_type.field("p", true)).oid);
            let types = types.collect();
            made.routines.push(Routine { oid, def: query.def.clone(), types });
        }
        made.index();
        Ok(made)
    }

    fn index(&mut self) {
        for (at, relation) in self.list.iter().enumerate() {
            self.by_id.insert(relation.oid, at);
            self.by_name.insert((relation.schema.clone(), relation.name.clone()), at);
        }
    }

    pub(crate) fn schema_id(&self, name: &str) -> Option<u32> {
        self.schemas.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    pub(crate) fn by_id(&self, oid: u32) -> Option<&Relation> {
        self.by_id.get(&oid).and_then(|at| self.list.get(*at))
    }

    pub(crate) fn named(&self, schema: &str, name: &str) -> Option<&Relation> {
        let key = (schema.to_owned(), name.to_owned());
        self.by_name.get(&key).and_then(|at| self.list.get(*at))
    }

    /// The table whose primary key's index or constraint has this id.
    pub(crate) fn by_key(&self, oid: u32) -> Option<(&Relation, &PrimaryKey)> {
        self.keyed().find(|(_, key)| key.index_id == oid || key.constraint_id == oid)
    }

    /// Tables with a primary key.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (&Relation, &PrimaryKey)> {
        self.list.iter().filter_map(|relation| relation.key.as_ref().map(|key| (relation, key)))
    }
}

/// The Postgres type of a field.
pub(crate) fn type_of<'a>(library: &'a Library, field: &Field) -> &'a PgType {
    static TEXT: std::sync::LazyLock<PgType> = std::sync::LazyLock::new(|| PgType {
        oid: TEXT_ID,
        name: "text".into(),
        bytes: -1,
        by_value: false,
        align: "i".into(),
        storage: "x".into(),
        collation: 100,
        element: 0,
    });
    library.type_named(&pg_field_type(field).1).unwrap_or(&TEXT)
}

/// Precision and scale as Postgres packs them, -1 for types that have none. `declared`: the type was declared, so
/// that even the widest numeric has the precision it shows; sums have the same Arrow type and none.
pub(crate) fn modifier(data_type: &DataType, declared: bool) -> i32 {
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

fn of_catalogue(layout: &'static Layout, schema_id: u32, library: &Library) -> Relation {
    let columns = layout.columns.iter().map(|column| Column {
        name: column.name.to_owned(),
        type_id: library.type_named(column.pg_type).map_or(TEXT_ID, |t| t.oid),
        modifier: -1,
        not_null: column.not_null,
        comment: None,
        default: None,
    });
    Relation {
        oid: layout.oid,
        schema: layout.schema.to_owned(),
        schema_id,
        name: layout.name.to_owned(),
        kind: layout.kind,
        origin: Origin::Catalogue,
        columns: columns.collect(),
        comment: None,
        definition: None,
        key: None,
        takes_rows: false,
    }
}

fn columns(library: &Library, schema: &SchemaRef, declared: bool) -> Vec<Column> {
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        type_id: type_of(library, field).oid,
        modifier: modifier(field.data_type(), declared),
        not_null: !field.is_nullable(),
        comment: None,
        default: None,
    };
    schema.fields().iter().map(column).collect()
}

/// The relation of a name, without its ids.
fn relation(
    snapshot: &Arc<Snapshot>,
    library: &Library,
    schema: &str,
    name: &str,
) -> DfResult<Option<Relation>> {
    let plain = |kind, origin, columns| Relation {
        oid: 0,
        schema: schema.to_owned(),
        schema_id: 0,
        name: name.to_owned(),
        kind,
        origin,
        columns,
        comment: None,
        definition: None,
        key: None,
        takes_rows: false,
    };
    Ok(match find(snapshot, schema, name) {
        Some(Found::Raw(table)) => {
            let mut columns = columns(library, &table.schema, true);
            for column in &mut columns {
                if let Some(def) = table.def.columns.iter().find(|d| d.name == column.name) {
                    column.comment = said(&def.presentation);
                }
            }
            Some(Relation {
                comment: table.def.description.clone(),
                key: primary_key(&table.def, &columns),
                takes_rows: table.def.append,
                ..plain("r", Origin::Table(table.id), columns)
            })
        }
        Some(Found::View(table, rollup, granularity)) => {
            let columns = of_view(library, table, rollup);
            let definition = Some(definition(&table.def, &rollup.def, granularity, &columns));
            let every = format!("{} by {granularity}", table.def.name);
            let comment = Some(table.def.description.clone().unwrap_or(every));
            let origin = Origin::Rollup(table.id, granularity);
            Some(Relation { comment, definition, ..plain("v", origin, columns) })
        }
        None if schema == SYSTEM_SCHEMA => {
            let table = provider::system_table(snapshot, name, None, Vec::new)?;
            let columns = table.map(|table| columns(library, &table.schema(), false));
            columns.map(|columns| plain("v", Origin::System, columns))
        }
        None => None,
    })
}

fn of_view(library: &Library, table: &CompiledTable, rollup: &CompiledRollup) -> Vec<Column> {
    let mut columns = columns(library, &super::view_schema(table, rollup), false);
    for column in &mut columns {
        let measure = table.def.measures.iter().find(|m| m.name == column.name);
        let of_table = table.def.columns.iter().find(|c| c.name == column.name);
        column.comment = match (measure, of_table) {
            (Some(measure), _) => said(&measure.presentation),
            (None, Some(of_table)) => said(&of_table.presentation),
            (None, None) => None,
        };
    }
    columns
}

/// What is said of a column or measure for people.
fn said(presentation: &Presentation) -> Option<String> {
    let Presentation { title, description, unit, .. } = presentation;
    let text = match (title, description) {
        (Some(title), Some(description)) => Some(format!("{title}: {description}")),
        (title, description) => title.clone().or_else(|| description.clone()),
    };
    match (text, unit) {
        (Some(text), Some(unit)) => Some(format!("{text} [{unit}]")),
        (None, Some(unit)) => Some(format!("[{unit}]")),
        (text, None) => text,
    }
}

fn primary_key(table: &TableDef, columns: &[Column]) -> Option<PrimaryKey> {
    let key = table.keyed()?;
    let place = columns.iter().position(|column| column.name == key.key)?;
    let name = format!("{}_pkey", table.name);
    let column = i32::try_from(place).ok()? + 1;
    Some(PrimaryKey { name, index_id: 0, constraint_id: 0, column })
}

/// A statement that gives what a view of a rollup gives.
fn definition(
    table: &TableDef,
    rollup: &RollupDef,
    granularity: Granularity,
    columns: &[Column],
) -> String {
    let time = quoted(&table.time);
    let mut lines = Vec::new();
    let mut keys = 0_usize;
    for column in columns {
        let name = quoted(&column.name);
        let dimension = rollup.dimensions.iter().find(|d| d.name == column.name);
        let measure = table.measures.iter().find(|m| m.name == column.name);
        let line = match (dimension, measure) {
            _ if column.name == BUCKET_COLUMN => {
                format!("time_bucket('{}', {time}) AS {name}", granularity.name())
            }
            (Some(dimension), _) => match &dimension.sql {
                Some(sql) => format!("{sql} AS {name}"),
                None => name,
            },
            (None, Some(measure)) => {
                lines.push(format!("    {} AS {name}", measure.sql));
                continue;
            }
            (None, None) => continue,
        };
        keys += 1;
        lines.push(format!("    {line}"));
    }
    let from = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    let filter = rollup.filter.as_ref().map(|f| format!("\n  WHERE {f}")).unwrap_or_default();
    let keys: Vec<_> = (1..=keys).map(|k| k.to_string()).collect();
    let (list, keys) = (lines.join(",\n"), keys.join(", "));
    format!(" SELECT\n{list}\n   FROM {from}{filter}\n  GROUP BY {keys};")
}

/// A name as it stands in a statement.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    match plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Words that are no names unless they are quoted.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between",
    "bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce",
    "collate", "collation", "column", "concurrently", "constraint", "create", "cross", "current_catalog",
    "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "dec",
    "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists", "extract",
    "false", "fetch", "float", "for", "foreign", "freeze", "from", "full", "grant", "greatest", "group",
    "grouping", "having", "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect", "interval",
    "into", "is", "isnull", "join", "lateral", "leading", "least", "left", "like", "limit", "localtime",
    "localtimestamp", "national", "natural", "nchar", "none", "not", "notnull", "null", "nullif", "numeric",
    "offset", "on", "only", "or", "order", "out", "outer", "overlaps", "overlay", "placing", "position",
    "precision", "primary", "real", "references", "returning", "right", "row", "select", "session_user",
    "setof", "similar", "smallint", "some", "substring", "symmetric", "table", "tablesample", "then", "time",
    "timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values",
    "varchar", "variadic", "verbose", "when", "where", "window", "with", "xmlelement",
];

/// Rows and bytes of a relation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) rows: u64,
    /// Of live files and rows in memory.
    pub(crate) bytes: u64,
}

/// How large a relation is at the moment of a snapshot; nothing is said of a table that is only seen in part.
pub(crate) fn figures(snapshot: &Snapshot, relation: &Relation) -> Figures {
    let mut figures = Figures::default();
    let mut add = |rows: u64, bytes: u64| {
        figures.rows += rows;
        figures.bytes += bytes;
    };
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    if let Origin::Table(id) | Origin::Rollup(id, _) = relation.origin
        && snapshot.table_by_id(id).is_none_or(|table| table.restriction.is_some())
    {
        return figures;
    }
    match relation.origin {
        Origin::Table(id) => match snapshot.keyed(id) {
            Some(keyed) => add(wide(keyed.rows()), wide(keyed.bytes()) + keyed.spilled_bytes()),
            None => {
                snapshot.raw_files(id).iter().for_each(|file| add(file.rows, file.bytes));
                let hot = snapshot.hot(id).iter();
                hot.for_each(|chunk| add(wide(chunk.rows()), wide(chunk.bytes())));
            }
        },
        Origin::Rollup(id, granularity) => {
            let rollups = snapshot.table_by_id(id).into_iter().flat_map(|t| &t.rollups);
            let of = rollups.filter(|r| r.def.view_name(granularity) == relation.name);
            for file in of.flat_map(|r| snapshot.rollup_files(r.id, granularity)) {
                if matches!(file.target, Target::Rollup { granularity: g, .. } if g == granularity)
                {
                    add(file.rows, file.bytes);
                }
            }
        }
        Origin::System | Origin::Catalogue => {}
    }
    figures
}

#[cfg(test)]
mod tests {
    use otus_engine::types::ColumnType;

    use super::*;

    #[test]
    fn declared_types_are_those_of_postgres() {
        for (name, oid, bytes, packed) in [
            ("boolean", 16, 1, -1),
            ("smallint", 21, 2, -1),
            ("integer", 23, 4, -1),
            ("bigint", 20, 8, -1),
            ("real", 700, 4, -1),
            ("double precision", 701, 8, -1),
            ("numeric(12,2)", 1700, -1, 786_438),
            ("numeric(38,0)", 1700, -1, 2_490_372),
            ("text", 25, -1, -1),
            ("uuid", 2950, 16, -1),
            ("jsonb", 3802, -1, -1),
            ("date", 1082, 4, -1),
            ("timestamp", 1114, 8, -1),
            ("timestamptz", 1184, 8, -1),
            ("bytea", 17, -1, -1),
            ("uuid[]", 2951, -1, -1),
            ("jsonb[]", 3807, -1, -1),
            ("numeric(5,1)[]", 1231, -1, 327_685),
        ] {
            let field = name.parse::<ColumnType>().unwrap().field("c", true);
            let found = type_of(library().unwrap(), &field);
            let packed_here = modifier(field.data_type(), true);
            assert_eq!((found.oid, found.bytes, packed_here), (oid, bytes, packed), "{name}");
        }
        assert_eq!(precision_and_scale(786_438), Some((12, 2)));
        assert_eq!(precision_and_scale(-1), None);
        assert_eq!(modifier(&DataType::Decimal128(38, 2), false), -1);
    }

    #[test]
    fn ids_stay_the_same() {
        let mut ids = Ids::default();
        let first = ids.of("relation public.events");
        assert_eq!(first, id_of("relation public.events"));
        assert_eq!(ids.of("relation public.events"), first + 1);
        assert!(first >= FIRST_ID);
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(quoted("events"), "events");
        assert_eq!(quoted("mixedCase"), "\"mixedCase\"");
        assert_eq!(quoted("user"), "\"user\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
