//! The rows of `pg_catalog`. What Otus has nothing of (triggers, foreign tables, locks …) is there without rows.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use otus_engine::snapshot::Snapshot;

use super::handle::{Catalogue, Role};
use super::layout::Layout;
use super::library::{PgType, library};
use super::relations::{Column, OWNER, OWNER_ID, PrimaryKey, Relation, database_id, figures};
use super::routines;
use super::status;
use super::value::{Rows, Value};
use crate::error::{SqlError, sqlstate};

/// Ids of the tables whose objects have comments.
pub(crate) const CLASS_OF_RELATIONS: u32 = 1259;
pub(crate) const CLASS_OF_FUNCTIONS: u32 = 1255;
/// Size of the pages in which Postgres counts, bytes.
const PAGE_BYTES: u64 = 8192;
/// Ids of the ways in which tables and indexes are kept.
const HEAP: u32 = 2;
const BTREE: u32 = 403;
const DEFAULT_TABLESPACE: u32 = 1663;

/// Until when rows can be kept: zero = as long as the definitions, otherwise the number of the snapshot. None for
/// rows of the session and the moment.
pub(crate) fn lasts(layout: &Layout, snapshot: &Snapshot) -> Option<u64> {
    match layout.name {
        "pg_settings" | "pg_roles" | "pg_authid" | "pg_user" | "pg_shadow" | "pg_group" => None,
        "pg_auth_members" | "enabled_roles" | "applicable_roles" => None,
        name if name.contains("privileges") || name.ends_with("_grants") => None,
        "pg_prepared_statements" | "pg_cursors" => None,
        "pg_timezone_names" | "pg_stat_activity" | "pg_stat_ssl" | "pg_stat_gssapi" => None,
        "pg_class" => Some(snapshot.sequence()),
        name if name.starts_with("pg_stat") => Some(snapshot.sequence()),
        _ => Some(0),
    }
}

/// The rows of a table.
pub(crate) fn rows(catalogue: &Catalogue, layout: &'static Layout) -> DfResult<RecordBatch> {
    let mut rows = Rows::new(layout);
    match layout.name {
        "pg_namespace" => namespaces(catalogue, &mut rows)?,
        "pg_class" => classes(catalogue, &mut rows)?,
        "pg_attribute" => attributes(catalogue, &mut rows)?,
        "pg_index" => indexes(catalogue, &mut rows)?,
        "pg_constraint" => constraints(catalogue, &mut rows)?,
        "pg_attrdef" => defaults(catalogue, &mut rows)?,
        "pg_database" => database(catalogue, &mut rows),
        hidden @ ("pg_authid" | "pg_shadow") if !catalogue.is_admin() => {
            let message = format!("permission denied for table {hidden}");
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message).into());
        }
        "pg_roles" | "pg_authid" | "pg_user" | "pg_shadow" | "pg_group" => {
            roles(catalogue, layout.name, &mut rows);
        }
        "pg_auth_members" => members(catalogue, &mut rows),
        "pg_tables" => listed_tables(catalogue, &mut rows)?,
        "pg_views" => listed_views(catalogue, &mut rows)?,
        "pg_indexes" => listed_indexes(catalogue, &mut rows)?,
        "pg_description" => comments(catalogue, &mut rows)?,
        "pg_proc" => return routines::functions(catalogue, layout),
        name if status::push(catalogue, name, &mut rows)? => {}
        name => {
            if let Some(known) = library()?.rows(name) {
                return Ok(known.clone());
            }
        }
    }
    let made = rows.batch()?;
    // What Otus has beside what every Postgres has.
    match library()?.rows(layout.name).filter(|_| layout.name == "pg_description") {
        Some(known) => Ok(concat_batches(&known.schema(), [known, &made])?),
        None => Ok(made),
    }
}

fn namespaces(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for (oid, name) in &catalogue.relations()?.schemas {
        rows.push([
            ("oid", (*oid).into()),
            ("nspname", name.into()),
            ("nspowner", OWNER_ID.into()),
        ]);
    }
    Ok(())
}

fn classes(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        let size = figures(catalogue.snapshot(), relation);
        let tuples = match relation.is_view() {
            true => 0.0,
            false => size.rows as f64,
        };
        rows.push(class(ClassRow {
            oid: relation.oid,
            name: &relation.name,
            schema: relation.schema_id,
            kind: relation.kind,
            method: if relation.is_view() { 0 } else { HEAP },
            columns: relation.shown().count(),
            tuples,
            pages: size.bytes.div_ceil(PAGE_BYTES),
            has_index: relation.key.is_some(),
        }));
    }
    for (relation, key) in catalogue.relations()?.keyed() {
        let size = figures(catalogue.snapshot(), relation);
        rows.push(class(ClassRow {
            oid: key.index_id,
            name: &key.name,
            schema: relation.schema_id,
            kind: "i",
            method: BTREE,
            columns: 1,
            tuples: size.rows as f64,
            pages: 0,
            has_index: false,
        }));
    }
    Ok(())
}

struct ClassRow<'a> {
    oid: u32,
    name: &'a str,
    schema: u32,
    kind: &'a str,
    method: u32,
    columns: usize,
    tuples: f64,
    pages: u64,
    has_index: bool,
}

fn class(row: ClassRow<'_>) -> Vec<(&'static str, Value)> {
    vec![
        ("oid", row.oid.into()),
        ("relname", row.name.into()),
        ("relnamespace", row.schema.into()),
        ("relowner", OWNER_ID.into()),
        ("relam", row.method.into()),
        ("relfilenode", row.oid.into()),
        ("relpages", i64::try_from(row.pages).unwrap_or(i64::MAX).into()),
        ("reltuples", Value::Real(row.tuples)),
        ("relhasindex", row.has_index.into()),
        ("relpersistence", "p".into()),
        ("relkind", row.kind.into()),
        ("relnatts", row.columns.into()),
        ("relispopulated", true.into()),
        ("relreplident", if row.kind == "r" { "d" } else { "n" }.into()),
    ]
}

fn attributes(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    let relations = catalogue.relations()?;
    for relation in &relations.list {
        for (number, column) in relation.numbered() {
            rows.push(attribute(relation.oid, number, column)?);
        }
    }
    for (relation, key) in relations.keyed() {
        let place = usize::try_from(key.column - 1).unwrap_or_default();
        if let Some(column) = relation.columns.get(place) {
            rows.push(attribute(key.index_id, 1, column)?);
        }
    }
    Ok(())
}

fn attribute(table: u32, number: i32, column: &Column) -> DfResult<Vec<(&'static str, Value)>> {
    let known: Option<&PgType> = library()?.pg_type(column.type_id);
    let of = |get: fn(&PgType) -> Value| known.map_or(Value::Null, get);
    Ok(vec![
        ("attrelid", table.into()),
        ("attname", (&column.name).into()),
        ("atttypid", column.type_id.into()),
        ("attstattarget", (-1).into()),
        ("attlen", of(|t| t.bytes.into())),
        ("attnum", number.into()),
        ("attndims", i32::from(known.is_some_and(|t| t.name.starts_with('_'))).into()),
        ("attcacheoff", (-1).into()),
        ("atttypmod", column.modifier.into()),
        ("attbyval", of(|t| t.by_value.into())),
        ("attalign", of(|t| (&t.align).into())),
        ("attstorage", of(|t| (&t.storage).into())),
        ("attnotnull", column.not_null.into()),
        ("atthasdef", column.default.is_some().into()),
        ("attislocal", true.into()),
        ("attcollation", of(|t| t.collation.into())),
    ])
}

/// Id of the class of operators by which keys of a type are told apart.
fn operator_class(type_id: u32) -> u32 {
    // Those of btree for bigint, text, uuid and jsonb.
    match type_id {
        20 => 3124,
        25 => 3126,
        2950 => 2968,
        3802 => 4033,
        _ => 1978,
    }
}

fn indexes(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for (relation, key) in catalogue.relations()?.keyed() {
        let place = usize::try_from(key.column - 1).unwrap_or_default();
        let type_id = relation.columns.get(place).map_or(0, |column| column.type_id);
        let collation = library()?.pg_type(type_id).map_or(0, |t| t.collation);
        rows.push([
            ("indexrelid", key.index_id.into()),
            ("indrelid", relation.oid.into()),
            ("indnatts", 1.into()),
            ("indnkeyatts", 1.into()),
            ("indisunique", true.into()),
            ("indisprimary", true.into()),
            ("indimmediate", true.into()),
            ("indisvalid", true.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", vec![key.column].into()),
            ("indcollation", vec![collation].into()),
            ("indclass", vec![operator_class(type_id)].into()),
            ("indoption", vec![0].into()),
        ]);
    }
    Ok(())
}

fn constraints(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for (relation, key) in catalogue.relations()?.keyed() {
        rows.push([
            ("oid", key.constraint_id.into()),
            ("conname", (&key.name).into()),
            ("connamespace", relation.schema_id.into()),
            ("contype", "p".into()),
            ("convalidated", true.into()),
            ("conrelid", relation.oid.into()),
            ("conindid", key.index_id.into()),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", true.into()),
            ("connoinherit", true.into()),
            ("conkey", vec![key.column].into()),
        ]);
    }
    Ok(())
}

fn defaults(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in &catalogue.relations()?.list {
        for (number, column) in relation.numbered() {
            let Some(default) = &column.default else { continue };
            rows.push([
                (
                    "oid",
                    super::relations::id_of(&format!("default {}.{number}", relation.oid)).into(),
                ),
                ("adrelid", relation.oid.into()),
                ("adnum", number.into()),
                ("adbin", default.into()),
            ]);
        }
    }
    Ok(())
}

fn database(catalogue: &Catalogue, rows: &mut Rows) {
    rows.push([
        ("oid", database_id(catalogue.database()).into()),
        ("datname", catalogue.database().into()),
        ("datdba", OWNER_ID.into()),
        ("encoding", 6.into()),
        // What Postgres calls the provider `libc`.
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("datminmxid", 1.into()),
        ("dattablespace", DEFAULT_TABLESPACE.into()),
        ("datcollate", "C".into()),
        ("datctype", "C.UTF-8".into()),
    ]);
}

fn roles(catalogue: &Catalogue, table: &str, rows: &mut Rows) {
    let all = catalogue.roles();
    for role in &all {
        match table {
            "pg_group" if !role.can_login => {
                let of = |member: &&Role| member.member_of.contains(&role.name);
                let members: Vec<u32> = all.iter().filter(of).map(|member| member.oid).collect();
                rows.push([
                    ("groname", (&role.name).into()),
                    ("grosysid", role.oid.into()),
                    ("grolist", members.into()),
                ]);
            }
            "pg_user" | "pg_shadow" if role.can_login => rows.push([
                ("usename", (&role.name).into()),
                ("usesysid", role.oid.into()),
                ("usecreatedb", false.into()),
                ("usesuper", role.is_admin.into()),
                ("userepl", false.into()),
                ("usebypassrls", role.is_admin.into()),
                ("passwd", "********".into()),
            ]),
            "pg_roles" | "pg_authid" => rows.push([
                ("oid", role.oid.into()),
                ("rolname", (&role.name).into()),
                ("rolsuper", role.is_admin.into()),
                ("rolinherit", true.into()),
                ("rolcreaterole", false.into()),
                ("rolcreatedb", false.into()),
                ("rolcanlogin", role.can_login.into()),
                ("rolreplication", false.into()),
                ("rolconnlimit", (-1).into()),
                ("rolpassword", if table == "pg_roles" { "********".into() } else { Value::Null }),
                ("rolbypassrls", role.is_admin.into()),
            ]),
            _ => {}
        }
    }
}

fn members(catalogue: &Catalogue, rows: &mut Rows) {
    let all = catalogue.roles();
    for member in &all {
        for role in all.iter().filter(|role| member.member_of.contains(&role.name)) {
            let name = format!("member {} of {}", member.name, role.name);
            rows.push([
                ("oid", super::relations::id_of(&name).into()),
                ("roleid", role.oid.into()),
                ("member", member.oid.into()),
                ("grantor", OWNER_ID.into()),
                ("inherit_option", true.into()),
                ("set_option", false.into()),
            ]);
        }
    }
}

fn listed_tables(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in catalogue.relations()?.list.iter().filter(|r| !r.is_view()) {
        rows.push([
            ("schemaname", (&relation.schema).into()),
            ("tablename", (&relation.name).into()),
            ("tableowner", OWNER.into()),
            ("hasindexes", relation.key.is_some().into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
    Ok(())
}

fn listed_views(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for relation in catalogue.relations()?.list.iter().filter(|r| r.is_view()) {
        rows.push([
            ("schemaname", (&relation.schema).into()),
            ("viewname", (&relation.name).into()),
            ("viewowner", OWNER.into()),
            ("definition", relation.definition.as_ref().into()),
        ]);
    }
    Ok(())
}

/// The statement that would make an index.
pub(crate) fn index_definition(relation: &Relation, key: &PrimaryKey) -> String {
    use super::relations::quoted;
    let place = usize::try_from(key.column - 1).unwrap_or_default();
    let column = relation.columns.get(place).map(|c| quoted(&c.name)).unwrap_or_default();
    format!(
        "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({column})",
        quoted(&key.name),
        quoted(&relation.schema),
        quoted(&relation.name),
    )
}

fn listed_indexes(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    for (relation, key) in catalogue.relations()?.keyed() {
        rows.push([
            ("schemaname", (&relation.schema).into()),
            ("tablename", (&relation.name).into()),
            ("indexname", (&key.name).into()),
            ("indexdef", index_definition(relation, key).into()),
        ]);
    }
    Ok(())
}

fn comments(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    let relations = catalogue.relations()?;
    let mut push = |class: u32, object: u32, part: i32, text: Option<&String>| {
        if let Some(text) = text {
            rows.push([
                ("objoid", object.into()),
                ("classoid", class.into()),
                ("objsubid", part.into()),
                ("description", text.into()),
            ]);
        }
    };
    for relation in &relations.list {
        push(CLASS_OF_RELATIONS, relation.oid, 0, relation.comment.as_ref());
        for (number, column) in relation.numbered() {
            push(CLASS_OF_RELATIONS, relation.oid, number, column.comment.as_ref());
        }
    }
    for routine in &relations.routines {
        push(CLASS_OF_FUNCTIONS, routine.oid, 0, routine.def.description.as_ref());
    }
    Ok(())
}
