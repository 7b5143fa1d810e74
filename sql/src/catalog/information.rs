//! The information schema, with the names that Postgres gives to types.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::error::Result as DfResult;
use otus_engine::catalog::BUCKET_COLUMN;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::snapshot::Snapshot;

use super::{Found, INFORMATION_SCHEMA, PG_SCHEMA, find, schema_names, table_names};
use crate::error::pg_field_type;
use crate::provider::{self, SYSTEM_SCHEMA};

/// Names of its tables.
pub(crate) const TABLES: &[&str] = &[
    "schemata",
    "tables",
    "columns",
    "views",
    "table_constraints",
    "key_column_usage",
    "referential_constraints",
    "constraint_column_usage",
    "character_sets",
];

/// One of its tables.
pub(crate) fn table(
    snapshot: &Arc<Snapshot>,
    database: &str,
    name: &str,
) -> DfResult<Option<Arc<dyn TableProvider>>> {
    let build = match name {
        "schemata" => schemata(snapshot, database),
        "tables" => tables(snapshot, database),
        "columns" => return columns(snapshot, database).map(Some),
        "views" => views(snapshot, database),
        "table_constraints" => Text::new(&[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
        ]),
        "key_column_usage" => Text::new(&[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "position_in_unique_constraint",
        ]),
        "referential_constraints" => Text::new(&[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ]),
        "constraint_column_usage" => Text::new(&[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ]),
        "character_sets" => character_sets(database),
        _ => return Ok(None),
    };
    build.provider().map(Some)
}

/// The one character set that there is.
fn character_sets(database: &str) -> Text {
    let mut t = Text::new(&[
        "character_set_catalog",
        "character_set_schema",
        "character_set_name",
        "character_repertoire",
        "form_of_use",
        "default_collate_catalog",
        "default_collate_schema",
        "default_collate_name",
    ]);
    t.row(&[
        None,
        None,
        Some("UTF8"),
        Some("UCS"),
        Some("UTF8"),
        Some(database),
        Some(PG_SCHEMA),
        Some("default"),
    ]);
    t
}

/// A table of text.
struct Text {
    names: Vec<&'static str>,
    rows: Vec<Vec<Option<String>>>,
}

impl Text {
    fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new() }
    }

    fn row(&mut self, values: &[Option<&str>]) {
        self.rows.push(values.iter().map(|v| v.map(str::to_string)).collect());
    }

    fn provider(self) -> DfResult<Arc<dyn TableProvider>> {
        let fields: Vec<_> =
            self.names.iter().map(|n| Field::new(*n, DataType::Utf8, true)).collect();
        let columns = (0..self.names.len()).map(|i| {
            let values = self.rows.iter().map(|row| row.get(i).cloned().flatten());
            Arc::new(values.collect::<StringArray>()) as ArrayRef
        });
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect())?;
        provider::memory(batch)
    }
}

fn schemata(snapshot: &Snapshot, database: &str) -> Text {
    let mut t = Text::new(&[
        "catalog_name",
        "schema_name",
        "schema_owner",
        "default_character_set_catalog",
        "default_character_set_schema",
        "default_character_set_name",
        "sql_path",
    ]);
    for schema in schema_names(snapshot) {
        t.row(&[Some(database), Some(&schema), Some("otus"), None, None, None, None]);
    }
    t
}

/// Every table and view: schema, name, whether it is a view, columns.
fn all(snapshot: &Arc<Snapshot>) -> DfResult<Vec<(String, String, bool, SchemaRef)>> {
    let mut list = Vec::new();
    for schema in schema_names(snapshot) {
        if schema == PG_SCHEMA || schema == INFORMATION_SCHEMA {
            continue;
        }
        for name in table_names(snapshot, &schema) {
            let (view, columns) = match find(snapshot, &schema, &name) {
                Some(Found::Raw(t)) => (false, Some(Arc::clone(&t.schema))),
                Some(Found::View(t, rollup, _)) => (true, Some(view_schema(t, rollup))),
                None if schema == SYSTEM_SCHEMA => (
                    true,
                    provider::system_table(snapshot, &name, None, Vec::new)?.map(|p| p.schema()),
                ),
                None => (false, None),
            };
            if let Some(columns) = columns {
                list.push((schema.clone(), name, view, columns));
            }
        }
    }
    Ok(list)
}

/// Columns of a finished view.
pub(crate) fn view_schema(table: &CompiledTable, rollup: &CompiledRollup) -> SchemaRef {
    let states = rollup.plan.schema();
    let keys =
        std::iter::once(BUCKET_COLUMN).chain(rollup.def.dimension_names().map(String::as_str));
    let mut fields: Vec<Field> =
        keys.filter_map(|k| states.field_with_name(k).ok().cloned()).collect();
    for measure in &table.measures.measures {
        let listed = rollup.def.measures.is_empty() || rollup.def.measures.contains(&measure.name);
        if listed && measure.calls.iter().all(|c| rollup.plan.calls().contains(c)) {
            fields.push(Field::new(&measure.name, measure.data_type.clone(), true));
        }
    }
    Arc::new(Schema::new(fields))
}

fn tables(snapshot: &Arc<Snapshot>, database: &str) -> Text {
    let mut t = Text::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "table_type",
        "self_referencing_column_name",
        "reference_generation",
        "user_defined_type_catalog",
        "user_defined_type_schema",
        "user_defined_type_name",
        "is_insertable_into",
        "is_typed",
        "commit_action",
    ]);
    for (schema, name, view, _) in all(snapshot).unwrap_or_default() {
        let kind = if view { "VIEW" } else { "BASE TABLE" };
        t.row(&[
            Some(database),
            Some(&schema),
            Some(&name),
            Some(kind),
            None,
            None,
            None,
            None,
            None,
            Some("NO"),
            Some("NO"),
            None,
        ]);
    }
    t
}

fn views(snapshot: &Arc<Snapshot>, database: &str) -> Text {
    let mut t = Text::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "view_definition",
        "check_option",
        "is_updatable",
        "is_insertable_into",
    ]);
    for (schema, name, _, _) in all(snapshot).unwrap_or_default().into_iter().filter(|v| v.2) {
        t.row(&[
            Some(database),
            Some(&schema),
            Some(&name),
            None,
            Some("NONE"),
            Some("NO"),
            Some("NO"),
        ]);
    }
    t
}

/// Builder of `columns`, whose numbers are numbers.
#[derive(Default)]
struct Columns {
    text: Vec<[Option<String>; 8]>,
    position: Vec<i32>,
    precision: Vec<Option<i32>>,
    radix: Vec<Option<i32>>,
    scale: Vec<Option<i32>>,
    datetime: Vec<Option<i32>>,
}

fn columns(snapshot: &Arc<Snapshot>, database: &str) -> DfResult<Arc<dyn TableProvider>> {
    let mut c = Columns::default();
    for (schema, table, _, fields) in all(snapshot)? {
        for (position, field) in (1_i32..).zip(fields.fields()) {
            let (name, udt) = pg_field_type(field);
            let nullable = if field.is_nullable() { "YES" } else { "NO" };
            let text = [database, &schema, &table, field.name(), nullable, &name, &udt, "NEVER"];
            c.text.push(text.map(|t| Some(t.to_string())));
            c.position.push(position);
            let (precision, radix, scale) = numbers(field.data_type());
            c.precision.push(precision);
            c.radix.push(radix);
            c.scale.push(scale);
            let time = matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _));
            c.datetime.push(time.then_some(6));
        }
    }
    c.provider()
}

fn numbers(data_type: &DataType) -> (Option<i32>, Option<i32>, Option<i32>) {
    match data_type {
        DataType::Int16 => (Some(16), Some(2), Some(0)),
        DataType::Int32 => (Some(32), Some(2), Some(0)),
        DataType::Int64 => (Some(64), Some(2), Some(0)),
        DataType::Float32 => (Some(24), Some(2), None),
        DataType::Float64 => (Some(53), Some(2), None),
        DataType::Decimal128(p, s) => (Some(i32::from(*p)), Some(10), Some(i32::from(*s))),
        _ => (None, None, None),
    }
}

impl Columns {
    fn provider(self) -> DfResult<Arc<dyn TableProvider>> {
        let rows = self.position.len();
        let text = |i: usize| {
            let values = self.text.iter().map(move |row| row.get(i).cloned().flatten());
            Arc::new(values.collect::<StringArray>()) as ArrayRef
        };
        let null = || Arc::new(StringArray::new_null(rows)) as ArrayRef;
        let ints = |v: &Vec<Option<i32>>| Arc::new(Int32Array::from(v.clone())) as ArrayRef;
        let no = || Arc::new(StringArray::from(vec!["NO"; rows])) as ArrayRef;
        let named: Vec<(&str, ArrayRef)> = vec![
            ("table_catalog", text(0)),
            ("table_schema", text(1)),
            ("table_name", text(2)),
            ("column_name", text(3)),
            ("ordinal_position", Arc::new(Int32Array::from(self.position.clone()))),
            ("column_default", null()),
            ("is_nullable", text(4)),
            ("data_type", text(5)),
            ("character_maximum_length", ints(&vec![None; rows])),
            ("character_octet_length", ints(&vec![None; rows])),
            ("numeric_precision", ints(&self.precision)),
            ("numeric_precision_radix", ints(&self.radix)),
            ("numeric_scale", ints(&self.scale)),
            ("datetime_precision", ints(&self.datetime)),
            ("interval_type", null()),
            ("character_set_name", null()),
            ("collation_name", null()),
            ("domain_name", null()),
            ("udt_catalog", text(0)),
            ("udt_schema", Arc::new(StringArray::from(vec![PG_SCHEMA; rows]))),
            ("udt_name", text(6)),
            ("is_self_referencing", no()),
            ("is_identity", no()),
            ("identity_generation", null()),
            ("is_generated", text(7)),
            ("generation_expression", null()),
            ("is_updatable", no()),
        ];
        let fields: Vec<_> =
            named.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
        let arrays = named.into_iter().map(|(_, a)| a).collect();
        provider::memory(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}
