//! Functions as `pg_proc` lists them: those of Postgres that are here or stand behind its types, those of Otus
//! alone, and named queries as functions of `public`.

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;

use super::PUBLIC_SCHEMA;
use super::handle::Catalogue;
use super::layout::Layout;
use super::library::{Library, PG_NAMESPACE, library};
use super::relations::{OWNER_ID, Routine, id_of, quoted};
use super::types::type_name;
use super::value::{Rows, Value};

/// Ids of languages and types.
const INTERNAL: u32 = 12;
const SQL: u32 = 14;
const RECORD: u32 = 2249;
const ANY: u32 = 2276;

/// The rows of `pg_proc`.
pub(crate) fn functions(catalogue: &Catalogue, layout: &'static Layout) -> DfResult<RecordBatch> {
    let library = library()?;
    let mut rows = Rows::new(layout);
    let prefix = "otus_";
    let own = catalogue
        .functions()
        .iter()
        .filter(|name| library.functions_named(name).is_empty() && !name.starts_with(prefix));
    for name in own {
        rows.push([
            ("oid", id_of(&format!("function {name}")).into()),
            ("proname", name.into()),
            ("pronamespace", PG_NAMESPACE.into()),
            ("proowner", OWNER_ID.into()),
            ("prolang", INTERNAL.into()),
            ("procost", Value::Real(1.0)),
            ("provariadic", ANY.into()),
            ("prokind", "f".into()),
            ("provolatile", "s".into()),
            ("proparallel", "s".into()),
            ("pronargs", 1.into()),
            ("prorettype", ANY.into()),
            ("proargtypes", vec![ANY].into()),
            ("proargmodes", vec!["v"].into()),
            ("proallargtypes", vec![ANY].into()),
            ("prosrc", name.into()),
        ]);
    }
    let relations = catalogue.relations()?;
    let public = relations.schema_id(PUBLIC_SCHEMA).unwrap_or_default();
    for routine in &relations.routines {
        let names: Vec<_> = routine.def.parameters.iter().map(|p| p.name.clone()).collect();
        let defaults: Vec<_> =
            routine.def.parameters.iter().filter_map(|p| p.default.as_ref()).collect();
        rows.push([
            ("oid", routine.oid.into()),
            ("proname", (&routine.def.name).into()),
            ("pronamespace", public.into()),
            ("proowner", OWNER_ID.into()),
            ("prolang", SQL.into()),
            ("procost", Value::Real(100.0)),
            ("prorows", Value::Real(1000.0)),
            ("prokind", "f".into()),
            ("proretset", true.into()),
            ("provolatile", "s".into()),
            ("proparallel", "s".into()),
            ("pronargs", names.len().into()),
            ("pronargdefaults", defaults.len().into()),
            ("prorettype", RECORD.into()),
            ("proargtypes", routine.types.clone().into()),
            ("proargnames", if names.is_empty() { Value::Null } else { names.into() }),
            ("prosrc", (&routine.def.sql).into()),
        ]);
    }
    let made = rows.batch()?;
    match library.rows("pg_proc") {
        Some(known) => {
            let known = present(catalogue, known)?;
            Ok(concat_batches(&made.schema(), [&known, &made])?)
        }
        None => Ok(made),
    }
}

/// Of Postgres's functions those that can be called, or that its types and operators name.
fn present(catalogue: &Catalogue, known: &RecordBatch) -> DfResult<RecordBatch> {
    let called: std::collections::HashSet<&str> =
        catalogue.functions().iter().map(String::as_str).collect();
    let Some(names) = known.column_by_name("proname") else { return Ok(known.clone()) };
    let behind = |name: &str| {
        let ends = [
            "in",
            "out",
            "recv",
            "send",
            "typmodin",
            "typmodout",
            "handler",
            "canonical",
            "subdiff",
        ];
        ends.iter().any(|end| name.ends_with(end))
    };
    // Casts are functions with the name of a type.
    let library = library()?;
    let casts = |name: &str| library.type_named(name).is_some();
    let keep: BooleanArray = names
        .as_string::<i32>()
        .iter()
        .map(|name| {
            Some(name.is_some_and(|name| called.contains(name) || behind(name) || casts(name)))
        })
        .collect();
    Ok(filter_record_batch(known, &keep)?)
}

/// `a bigint, b text DEFAULT 'x'`.
pub(crate) fn arguments(library: &Library, routine: &Routine, defaults: bool) -> String {
    let parameters = routine.def.parameters.iter().zip(&routine.types);
    let shown = parameters.map(|(parameter, type_id)| {
        let name = format!("{} {}", quoted(&parameter.name), type_name(library, *type_id, -1));
        match parameter.default.as_ref().filter(|_| defaults) {
            Some(default) => format!("{name} DEFAULT '{}'", default.replace('\'', "''")),
            None => name,
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The statement that would make a function which every server has; none if there is no such function.
pub(crate) fn builtin(library: &Library, oid: u32) -> Option<String> {
    let function = library.function_by_id(oid)?;
    let types: Vec<_> = function.arguments.iter().map(|id| type_name(library, *id, -1)).collect();
    let mut marks: Vec<&str> = Vec::new();
    match function.volatile.as_str() {
        "i" => marks.push("IMMUTABLE"),
        "s" => marks.push("STABLE"),
        _ => {}
    }
    match function.parallel.as_str() {
        "s" => marks.push("PARALLEL SAFE"),
        "r" => marks.push("PARALLEL RESTRICTED"),
        _ => {}
    }
    if function.strict {
        marks.push("STRICT");
    }
    let marks = match marks.is_empty() {
        true => String::new(),
        false => format!(" {}\n", marks.join(" ")),
    };
    Some(format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.{}({})\n RETURNS {}{}\n LANGUAGE internal\n{marks}AS $function${}$function$\n",
        quoted(&function.name),
        types.join(", "),
        if function.returns_set { "SETOF " } else { "" },
        type_name(library, function.returns, -1),
        function.source,
    ))
}

/// The statement that would make a named query a function.
pub(crate) fn definition(library: &Library, routine: &Routine) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {PUBLIC_SCHEMA}.{}({})\n RETURNS SETOF record\n LANGUAGE sql\n STABLE\n\
         AS $function${}$function$\n",
        quoted(&routine.def.name),
        arguments(library, routine, true),
        routine.def.sql,
    )
}
