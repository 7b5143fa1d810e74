//! The rows of `information_schema`, with the names that Postgres gives to types. What Otus has nothing of
//! (triggers, domains, sequences …) is there without rows.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use otus_engine::catalog::BUCKET_COLUMN;
use otus_engine::compiled::{CompiledRollup, CompiledTable};

use super::PG_SCHEMA;
use super::PUBLIC_SCHEMA;
use super::handle::Catalogue;
use super::layout::Layout;
use super::library::library;
use super::relations::{Column, OWNER, PrimaryKey, Relation, precision_and_scale};
use super::types::sql_name;
use super::value::{Rows, Value};

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

/// The rows of one of its relations.
pub(crate) fn rows(catalogue: &Catalogue, layout: &'static Layout) -> DfResult<RecordBatch> {
    let mut rows = Rows::new(layout);
    match layout.name {
        "information_schema_catalog_name" => {
            rows.push([("catalog_name", catalogue.database().into())]);
        }
        "schemata" => schemata(catalogue, &mut rows)?,
        "tables" => tables(catalogue, &mut rows)?,
        "views" => views(catalogue, &mut rows)?,
        "columns" => columns(catalogue, &mut rows)?,
        "table_constraints"
        | "key_column_usage"
        | "constraint_column_usage"
        | "constraint_table_usage" => keys(catalogue, layout.name, &mut rows)?,
        "character_sets" => character_sets(catalogue, &mut rows),
        "enabled_roles" => {
            for role in catalogue.roles() {
                rows.push([("role_name", role.name.into())]);
            }
        }
        "applicable_roles" => applicable(catalogue, &mut rows),
        "table_privileges" | "role_table_grants" => {
            privileges(catalogue, &mut rows)?;
        }
        "column_privileges" | "role_column_grants" => column_privileges(catalogue, &mut rows)?,
        "routines" => routines(catalogue, &mut rows)?,
        "parameters" => parameters(catalogue, &mut rows)?,
        "element_types" => elements(catalogue, &mut rows)?,
        _ => {}
    }
    rows.batch()
}

/// The database, schema and name of something, under the names of a relation's columns.
fn named<'a>(
    catalogue: &Catalogue,
    keys: [&'a str; 3],
    schema: &str,
    name: &str,
) -> [(&'a str, Value); 3] {
    let [database_key, schema_key, name_key] = keys;
    let database = catalogue.database().into();
    [(database_key, database), (schema_key, schema.into()), (name_key, name.into())]
}

const TABLE: [&str; 3] = ["table_catalog", "table_schema", "table_name"];
const CONSTRAINT: [&str; 3] = ["constraint_catalog", "constraint_schema", "constraint_name"];

fn of_table(catalogue: &Catalogue, relation: &Relation) -> [(&'static str, Value); 3] {
    named(catalogue, TABLE, &relation.schema, &relation.name)
}

fn schemata(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for schema in catalogue.relations()?.schemas.values() {
        rows.push([
            ("catalog_name", catalogue.database().into()),
            ("schema_name", schema.into()),
            ("schema_owner", OWNER.into()),
        ]);
    }
    Ok(())
}

fn tables(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        let kind = if relation.is_view() { "VIEW" } else { "BASE TABLE" };
        let rest = [
            ("table_type", kind.into()),
            ("is_insertable_into", yes_or_no(relation.takes_rows)),
            ("is_typed", "NO".into()),
        ];
        rows.push(of_table(catalogue, relation).into_iter().chain(rest));
    }
    Ok(())
}

fn views(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in catalogue.relations()?.list.iter().filter(|r| r.is_view()) {
        let no = || Value::from("NO");
        let rest = [
            ("view_definition", relation.definition.as_ref().into()),
            ("check_option", "NONE".into()),
            ("is_updatable", no()),
            ("is_insertable_into", no()),
            ("is_trigger_updatable", no()),
            ("is_trigger_deletable", no()),
            ("is_trigger_insertable_into", no()),
        ];
        rows.push(of_table(catalogue, relation).into_iter().chain(rest));
    }
    Ok(())
}

fn yes_or_no(yes: bool) -> Value {
    if yes { "YES" } else { "NO" }.into()
}

/// The type of a column as the standard wants it described.
fn described(column: &Column) -> DfResult<Vec<(&'static str, Value)>> {
    let known = library()?.pg_type(column.type_id);
    let internal = known.map_or("text", |t| t.name.as_str());
    let name = match internal.starts_with('_') {
        true => "ARRAY",
        false => sql_name(internal),
    };
    let (precision, radix, scale): (Value, Value, Value) = match internal {
        "int2" => (16.into(), 2.into(), 0.into()),
        "int4" => (32.into(), 2.into(), 0.into()),
        "int8" => (64.into(), 2.into(), 0.into()),
        "float4" => (24.into(), 2.into(), Value::Null),
        "float8" => (53.into(), 2.into(), Value::Null),
        "numeric" => match precision_and_scale(column.modifier) {
            Some((precision, scale)) => (precision.into(), 10.into(), scale.into()),
            None => (Value::Null, 10.into(), Value::Null),
        },
        _ => (Value::Null, Value::Null, Value::Null),
    };
    let octets = matches!(internal, "text" | "varchar" | "bpchar").then_some(1_073_741_824_i64);
    let datetime = match internal {
        "timestamp" | "timestamptz" | "time" | "timetz" | "interval" => Some(6),
        "date" => Some(0),
        _ => None,
    };
    Ok(vec![
        ("data_type", name.into()),
        ("character_octet_length", octets.into()),
        ("numeric_precision", precision),
        ("numeric_precision_radix", radix),
        ("numeric_scale", scale),
        ("datetime_precision", datetime.into()),
        ("udt_schema", PG_SCHEMA.into()),
        ("udt_name", internal.into()),
    ])
}

fn columns(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        for (position, column) in relation.shown() {
            let rest = [
                ("column_name", (&column.name).into()),
                ("ordinal_position", position.into()),
                ("column_default", column.default.as_ref().into()),
                ("is_nullable", yes_or_no(!column.not_null)),
                ("udt_catalog", catalogue.database().into()),
                ("dtd_identifier", position.to_string().into()),
                ("is_self_referencing", "NO".into()),
                ("is_identity", "NO".into()),
                ("identity_cycle", "NO".into()),
                ("is_generated", "NEVER".into()),
                ("is_updatable", yes_or_no(relation.takes_rows)),
            ];
            let row = of_table(catalogue, relation).into_iter().chain(rest);
            rows.push(row.chain(described(column)?));
        }
    }
    Ok(())
}

fn key_column<'a>(relation: &'a Relation, key: &PrimaryKey) -> Option<&'a Column> {
    let place = usize::try_from(key.column - 1).ok()?;
    relation.columns.get(place)
}

fn keys(catalogue: &Catalogue, table: &str, rows: &mut Rows) -> DfResult<()> {
    for (relation, key) in catalogue.relations()?.keyed() {
        let mut row = of_table(catalogue, relation).to_vec();
        row.extend(named(catalogue, CONSTRAINT, &relation.schema, &key.name));
        let column = key_column(relation, key).map(|column| &column.name);
        match table {
            "table_constraints" => row.extend([
                ("constraint_type", "PRIMARY KEY".into()),
                ("is_deferrable", "NO".into()),
                ("initially_deferred", "NO".into()),
                ("enforced", "YES".into()),
            ]),
            "key_column_usage" => {
                row.extend([("column_name", column.into()), ("ordinal_position", 1.into())]);
            }
            _ => row.push(("column_name", column.into())),
        }
        rows.push(row);
    }
    Ok(())
}

/// The one character set that there is.
fn character_sets(catalogue: &Catalogue, rows: &mut Rows) {
    rows.push([
        ("character_set_name", "UTF8".into()),
        ("character_repertoire", "UCS".into()),
        ("form_of_use", "UTF8".into()),
        ("default_collate_catalog", catalogue.database().into()),
        ("default_collate_schema", PG_SCHEMA.into()),
        ("default_collate_name", "default".into()),
    ]);
}

fn applicable(catalogue: &Catalogue, rows: &mut Rows) {
    let all = catalogue.roles();
    for member in &all {
        for role in &member.member_of {
            rows.push([
                ("grantee", (&member.name).into()),
                ("role_name", role.into()),
                ("is_grantable", "NO".into()),
            ]);
        }
    }
}

fn privileges(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        for (privilege, has) in [("SELECT", true), ("INSERT", relation.takes_rows)] {
            if !has {
                continue;
            }
            let rest = [
                ("grantor", OWNER.into()),
                ("grantee", catalogue.user().into()),
                ("privilege_type", privilege.into()),
                ("is_grantable", "NO".into()),
                ("with_hierarchy", yes_or_no(privilege == "SELECT")),
            ];
            rows.push(of_table(catalogue, relation).into_iter().chain(rest));
        }
    }
    Ok(())
}

fn column_privileges(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        for (_, column) in relation.shown() {
            let rest = [
                ("column_name", (&column.name).into()),
                ("grantor", OWNER.into()),
                ("grantee", catalogue.user().into()),
                ("privilege_type", "SELECT".into()),
                ("is_grantable", "NO".into()),
            ];
            rows.push(of_table(catalogue, relation).into_iter().chain(rest));
        }
    }
    Ok(())
}

const SPECIFIC: [&str; 3] = ["specific_catalog", "specific_schema", "specific_name"];

fn routines(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    let keys = ["routine_catalog", "routine_schema", "routine_name"];
    for routine in &catalogue.relations()?.routines {
        let specific = format!("{}_{}", routine.def.name, routine.oid);
        let mut row = named(catalogue, SPECIFIC, PUBLIC_SCHEMA, &specific).to_vec();
        row.extend(named(catalogue, keys, PUBLIC_SCHEMA, &routine.def.name));
        row.extend([
            ("routine_type", "FUNCTION".into()),
            ("data_type", "record".into()),
            ("type_udt_catalog", catalogue.database().into()),
            ("type_udt_schema", PG_SCHEMA.into()),
            ("type_udt_name", "record".into()),
            ("dtd_identifier", "0".into()),
            ("routine_body", "SQL".into()),
            ("routine_definition", (&routine.def.sql).into()),
            ("external_language", "SQL".into()),
            ("parameter_style", "GENERAL".into()),
            ("is_deterministic", "NO".into()),
            ("sql_data_access", "MODIFIES".into()),
            ("security_type", "INVOKER".into()),
        ]);
        rows.push(row);
    }
    Ok(())
}

fn parameters(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for routine in &catalogue.relations()?.routines {
        let specific = format!("{}_{}", routine.def.name, routine.oid);
        let listed = routine.def.parameters.iter().zip(&routine.types);
        for (position, (parameter, type_id)) in (1_i32..).zip(listed) {
            let internal = library()?.pg_type(*type_id).map_or("text", |t| t.name.as_str());
            let mut row = named(catalogue, SPECIFIC, PUBLIC_SCHEMA, &specific).to_vec();
            row.extend([
                ("ordinal_position", position.into()),
                ("parameter_mode", "IN".into()),
                ("is_result", "NO".into()),
                ("as_locator", "NO".into()),
                ("parameter_name", (&parameter.name).into()),
                ("data_type", sql_name(internal).into()),
                ("udt_catalog", catalogue.database().into()),
                ("udt_schema", PG_SCHEMA.into()),
                ("udt_name", internal.into()),
                ("dtd_identifier", position.to_string().into()),
                ("parameter_default", parameter.default.as_ref().into()),
            ]);
            rows.push(row);
        }
    }
    Ok(())
}

fn elements(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    let library = library()?;
    let keys = ["object_catalog", "object_schema", "object_name"];
    for relation in &catalogue.relations()?.list {
        for (position, column) in relation.shown() {
            let array = library.pg_type(column.type_id).filter(|t| t.name.starts_with('_'));
            let Some(item) = array.and_then(|t| library.pg_type(t.element)) else { continue };
            let mut row = named(catalogue, keys, &relation.schema, &relation.name).to_vec();
            row.extend([
                ("object_type", if relation.is_view() { "VIEW" } else { "TABLE" }.into()),
                ("collection_type_identifier", position.to_string().into()),
                ("data_type", sql_name(&item.name).into()),
                ("udt_catalog", catalogue.database().into()),
                ("udt_schema", PG_SCHEMA.into()),
                ("udt_name", (&item.name).into()),
                ("dtd_identifier", format!("a{position}").into()),
            ]);
            rows.push(row);
        }
    }
    Ok(())
}
