//! Ids by name and names by id: `regclass` and its like.

use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, ScalarUDF, lit};

use super::{Def, at, def, lax, missing, no, yes};
use crate::catalog::{
    Catalogue, Library, Relation, Value, internal_name, library, quoted_name as quoted, type_name,
};
use crate::error::{SqlError, sqlstate};

/// Gives the name that an id stands for, as text: `otus_name_of('regclass', id)`.
pub(crate) const NAME_OF: &str = "otus_name_of";
/// The same, marked as the type that the id has.
pub(crate) const SHOWN_NAME: &str = "otus_shown_name";

#[rustfmt::skip]
pub(super) const ALL: &[Def] = &[
    def("regclass", (1, 1), "regclass", |c, a| strict(c, "regclass", at(a, 0))),
    def("regtype", (1, 1), "regtype", |c, a| strict(c, "regtype", at(a, 0))),
    def("regproc", (1, 1), "regproc", |c, a| strict(c, "regproc", at(a, 0))),
    def("regprocedure", (1, 1), "regprocedure", |c, a| strict(c, "regprocedure", at(a, 0))),
    def("regnamespace", (1, 1), "regnamespace", |c, a| strict(c, "regnamespace", at(a, 0))),
    def("regrole", (1, 1), "regrole", |c, a| strict(c, "regrole", at(a, 0))),
    def("regoper", (1, 1), "regoper", |c, a| strict(c, "regoper", at(a, 0))),
    def("regoperator", (1, 1), "regoperator", |c, a| strict(c, "regoperator", at(a, 0))),
    def("regconfig", (1, 1), "regconfig", |c, a| strict(c, "regconfig", at(a, 0))),
    def("regdictionary", (1, 1), "regdictionary", |c, a| strict(c, "regdictionary", at(a, 0))),
    def("regcollation", (1, 1), "regcollation", |c, a| strict(c, "regcollation", at(a, 0))),
    def("oid", (1, 1), "oid", |_, a| id(at(a, 0))),
    def("to_regclass", (1, 1), "regclass", |c, a| found(c, "regclass", at(a, 0))),
    def("to_regtype", (1, 1), "regtype", |c, a| found(c, "regtype", at(a, 0))),
    def("to_regproc", (1, 1), "regproc", |c, a| found(c, "regproc", at(a, 0))),
    def("to_regprocedure", (1, 1), "regprocedure", |c, a| found(c, "regprocedure", at(a, 0))),
    def("to_regnamespace", (1, 1), "regnamespace", |c, a| found(c, "regnamespace", at(a, 0))),
    def("to_regrole", (1, 1), "regrole", |c, a| found(c, "regrole", at(a, 0))),
    def("to_regoper", (1, 1), "regoper", |c, a| found(c, "regoper", at(a, 0))),
    def("to_regoperator", (1, 1), "regoperator", |c, a| found(c, "regoperator", at(a, 0))),
    def("to_regcollation", (1, 1), "regcollation", |c, a| found(c, "regcollation", at(a, 0))),
    def(NAME_OF, (2, 2), "text", |c, a| shown(c, at(a, 0).text().unwrap_or_default(), at(a, 1))),
    def(SHOWN_NAME, (2, 2), "text", |c, a| shown(c, at(a, 0).text().unwrap_or_default(), at(a, 1))),
    lax("format_type", (2, 2), "text", format_type),
    def("pg_get_userbyid", (1, 1), "name", |c, a| role_named(c, at(a, 0))),
    def("quote_ident", (1, 1), "text", |_, a| Ok(at(a, 0).text().map(quoted).into())),
    def("parse_ident", (1, 2), "_text", |_, a| Ok(parts(at(a, 0).text().unwrap_or_default()).into())),
    def("pg_table_is_visible", (1, 1), "bool", table_is_visible),
    def("pg_function_is_visible", (1, 1), "bool", yes),
    def("pg_type_is_visible", (1, 1), "bool", yes),
    def("pg_opclass_is_visible", (1, 1), "bool", yes),
    def("pg_opfamily_is_visible", (1, 1), "bool", yes),
    def("pg_operator_is_visible", (1, 1), "bool", yes),
    def("pg_collation_is_visible", (1, 1), "bool", yes),
    def("pg_conversion_is_visible", (1, 1), "bool", yes),
    def("pg_statistics_obj_is_visible", (1, 1), "bool", yes),
    def("pg_ts_config_is_visible", (1, 1), "bool", yes),
    def("pg_ts_dict_is_visible", (1, 1), "bool", yes),
    def("pg_ts_parser_is_visible", (1, 1), "bool", yes),
    def("pg_ts_template_is_visible", (1, 1), "bool", yes),
    def("pg_is_other_temp_schema", (1, 1), "bool", no),
];

/// The call of [`NAME_OF`] or [`SHOWN_NAME`] for an id of this kind.
pub(crate) fn name_of(function: &str, kind: &str, id: Expr) -> Option<Expr> {
    let udf: Option<ScalarUDF> = super::all().find(|udf| udf.name() == function);
    udf.map(|udf| udf.call(vec![lit(kind), id]))
}

/// The call that gives the id of a name of this kind.
pub(crate) fn reg_call(kind: &str, name: &str) -> Option<Expr> {
    let udf: Option<ScalarUDF> = super::all().find(|udf| udf.name() == kind);
    udf.map(|udf| udf.call(vec![lit(name)]))
}

/// The number of an id.
fn id(value: &Value) -> DfResult<Value> {
    match (value.oid(), value.text()) {
        (None, Some(text)) => {
            let message = format!("invalid input syntax for type oid: \"{text}\"");
            Err(SqlError::new(sqlstate::INVALID_TEXT, message).into())
        }
        (None, None) => Err(SqlError::new(sqlstate::OUT_OF_RANGE, "OID out of range").into()),
        (Some(id), _) => Ok(id.into()),
    }
}

/// The parts of a qualified name, folded as in a statement; blanks around the dots are no part of it.
pub(super) fn parts(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let (mut begun, mut blanks) = (false, String::new());
    let mut letters = name.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        if !quoted && letter.is_whitespace() {
            if begun {
                blanks.push(letter);
            }
            continue;
        }
        if !quoted && letter == '.' {
            blanks.clear();
            begun = false;
        } else {
            part.push_str(&std::mem::take(&mut blanks));
            begun = true;
        }
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => part.extend(letters.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            letter if quoted => part.push(letter),
            letter => part.extend(letter.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

/// The relation that text or an id stands for.
pub(super) fn relation<'a>(c: &'a Catalogue, value: &Value) -> DfResult<Option<&'a Relation>> {
    match value.text().filter(|text| text.parse::<u32>().is_err()) {
        None => Ok(value.oid().and_then(|oid| c.relations().ok()?.by_id(oid))),
        Some(name) => {
            let mut parts = parts(name);
            let name = parts.pop().unwrap_or_default();
            c.relation(parts.last().map(String::as_str), &name)
        }
    }
}

fn strict(c: &Catalogue, kind: &'static str, value: &Value) -> DfResult<Value> {
    if let ("regproc", Some(text)) = (kind, value.text())
        && let Some(name) = parts(text).pop()
        && library()?.functions_named(&name).len() > 1
    {
        let message = format!("more than one function named \"{text}\"");
        return Err(SqlError::new(sqlstate::AMBIGUOUS_FUNCTION, message).into());
    }
    let id = found(c, kind, value)?;
    let (Value::Null, Some(name)) = (&id, value.text()) else { return Ok(id) };
    match kind {
        "regclass" => missing(sqlstate::UNDEFINED_TABLE, "relation", name),
        "regtype" => missing(sqlstate::UNDEFINED_OBJECT, "type", name),
        "regnamespace" => missing(sqlstate::NO_SCHEMA, "schema", name),
        "regrole" => missing(sqlstate::UNDEFINED_OBJECT, "role", name),
        "regproc" | "regprocedure" => missing(sqlstate::UNDEFINED_FUNCTION, "function", name),
        "regoper" | "regoperator" => {
            let message = format!("operator does not exist: {name}");
            Err(SqlError::new(sqlstate::UNDEFINED_FUNCTION, message).into())
        }
        _ => missing(sqlstate::UNDEFINED_OBJECT, kind.trim_start_matches("reg"), name),
    }
}

/// The id that a name stands for; an id is itself.
fn found(c: &Catalogue, kind: &str, value: &Value) -> DfResult<Value> {
    let Some(text) = value.text() else { return Ok(value.clone()) };
    if text == "-" {
        return Ok(Value::Int(0));
    }
    if let Ok(id) = text.parse::<u32>() {
        return Ok(id.into());
    }
    let bare = || parts(text).pop().unwrap_or_default();
    let library = library()?;
    Ok(match kind {
        "regclass" => match relation(c, value)? {
            Some(relation) => relation.oid.into(),
            None => key_named(c, &bare())?.into(),
        },
        "regtype" => library.type_named(&internal_name(text)).map(|t| t.oid).into(),
        "regnamespace" => c.relations()?.schema_id(&bare()).into(),
        "regrole" => c.roles().iter().find(|role| role.name == bare()).map(|role| role.oid).into(),
        "regproc" | "regprocedure" => {
            let name = text.split('(').next().unwrap_or_default();
            let name = parts(name).pop().unwrap_or_default();
            let routine = c.relations()?.routines.iter().find(|r| r.def.name == name);
            match (routine, text.split_once('(')) {
                (Some(routine), _) => routine.oid.into(),
                (None, Some((_, types))) if kind == "regprocedure" => {
                    overload(library, &name, types.trim_end().trim_end_matches(')')).into()
                }
                (None, _) => library.function(&name).map(|function| function.oid).into(),
            }
        }
        "regoper" | "regoperator" => {
            let name = text.split('(').next().unwrap_or_default();
            library.operator_named(name.trim_start_matches("pg_catalog.")).into()
        }
        "regcollation" => row_named("pg_collation", "collname", &bare())?.into(),
        "regconfig" => row_named("pg_ts_config", "cfgname", &bare())?.into(),
        "regdictionary" => row_named("pg_ts_dict", "dictname", &bare())?.into(),
        _ => Value::Null,
    })
}

/// The function of a name that takes these types.
fn overload(library: &Library, name: &str, types: &str) -> Option<u32> {
    let types = types.split(',').map(str::trim).filter(|one| !one.is_empty());
    let wanted: Vec<u32> = types
        .map(|one| library.type_named(&internal_name(one)).map(|known| known.oid))
        .collect::<Option<_>>()?;
    let ids = library.functions_named(name).iter();
    let mut known = ids.filter_map(|id| library.function_by_id(*id));
    known.find(|function| function.arguments == wanted).map(|function| function.oid)
}

fn key_named(c: &Catalogue, name: &str) -> DfResult<Option<u32>> {
    let found = c.relations()?.keyed().find(|(_, key)| key.name == name);
    Ok(found.map(|(_, key)| key.index_id))
}

/// Ids and names of a table that is the same everywhere.
fn named_rows(table: &str, column: &str) -> DfResult<Vec<(u32, String)>> {
    let Some(batch) = library()?.rows(table) else { return Ok(Vec::new()) };
    let of = |name: &str| match batch.column_by_name(name) {
        Some(column) => crate::catalog::values(column),
        None => Ok(Vec::new()),
    };
    let named = of("oid")?.into_iter().zip(of(column)?);
    Ok(named.filter_map(|(id, name)| Some((id.oid()?, name.text()?.to_owned()))).collect())
}

fn row_named(table: &str, column: &str, name: &str) -> DfResult<Option<u32>> {
    Ok(named_rows(table, column)?.into_iter().find(|(_, known)| known == name).map(|(id, _)| id))
}

fn row_name(table: &str, column: &str, oid: u32) -> DfResult<Option<String>> {
    Ok(named_rows(table, column)?.into_iter().find(|(id, _)| *id == oid).map(|(_, name)| name))
}

/// The name that an id stands for, as Postgres shows it; the number itself if there is none.
fn shown(c: &Catalogue, kind: &str, value: &Value) -> DfResult<Value> {
    let Some(oid) = value.oid() else { return Ok(value.clone()) };
    if oid == 0 {
        return Ok("-".into());
    }
    let library = library()?;
    let name = match kind {
        "regclass" => class_name(c, oid)?,
        "regtype" => library.pg_type(oid).map(|_| type_name(library, oid, -1)),
        "regnamespace" => c.relations()?.schemas.get(&oid).map(|name| quoted(name)),
        "regrole" => c.roles().iter().find(|r| r.oid == oid).map(|r| quoted(&r.name)),
        "regproc" => function_name(c, oid)?,
        "regprocedure" => function_name(c, oid)?.map(|name| {
            let arguments = library.function_by_id(oid).map(|f| f.arguments.clone());
            let arguments = arguments.unwrap_or_default();
            let types = arguments.iter().map(|id| type_name(library, *id, -1));
            format!("{name}({})", types.collect::<Vec<_>>().join(","))
        }),
        "regoper" => library.operator(oid).map(|(name, ..)| name.clone()),
        "regoperator" => library.operator(oid).map(|(name, left, right)| {
            let side = |id: &u32| match id {
                0 => "NONE".to_owned(),
                id => type_name(library, *id, -1),
            };
            format!("{name}({},{})", side(left), side(right))
        }),
        "regcollation" => row_name("pg_collation", "collname", oid)?.map(|name| quoted(&name)),
        "regconfig" => row_name("pg_ts_config", "cfgname", oid)?,
        "regdictionary" => row_name("pg_ts_dict", "dictname", oid)?,
        _ => None,
    };
    Ok(name.unwrap_or_else(|| oid.to_string()).into())
}

fn class_name(c: &Catalogue, oid: u32) -> DfResult<Option<String>> {
    let relations = c.relations()?;
    let (relation, name) = match (relations.by_id(oid), relations.by_key(oid)) {
        (Some(relation), _) => (relation, &relation.name),
        (None, Some((relation, key))) => (relation, &key.name),
        (None, None) => return Ok(None),
    };
    let is_reached = match relations.by_id(oid) {
        Some(relation) => c.is_visible(relation)?,
        None => c.path().any(|schema| schema == relation.schema),
    };
    Ok(Some(match is_reached {
        true => quoted(name),
        false => format!("{}.{}", quoted(&relation.schema), quoted(name)),
    }))
}

fn function_name(c: &Catalogue, oid: u32) -> DfResult<Option<String>> {
    if let Some(routine) = c.relations()?.routines.iter().find(|r| r.oid == oid) {
        return Ok(Some(quoted(&routine.def.name)));
    }
    let library = library()?;
    let Some(function) = library.function_by_id(oid) else { return Ok(None) };
    let is_one = library.functions_named(&function.name).len() == 1;
    let name = &function.name;
    Ok(Some(if is_one { name.clone() } else { format!("pg_catalog.{name}") }))
}

fn format_type(_: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(oid) = at(given, 0).oid() else { return Ok(Value::Null) };
    let modifier = at(given, 1).int().and_then(|m| i32::try_from(m).ok()).unwrap_or(-1);
    Ok(type_name(library()?, oid, modifier).into())
}

fn role_named(c: &Catalogue, id: &Value) -> DfResult<Value> {
    let Some(oid) = id.oid() else { return Ok(Value::Null) };
    let role = c.roles().into_iter().find(|role| role.oid == oid);
    Ok(role.map_or_else(|| format!("unknown (OID={oid})"), |role| role.name).into())
}

fn table_is_visible(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(oid) = at(given, 0).oid() else { return Ok(Value::Null) };
    let relations = c.relations()?;
    Ok(match (relations.by_id(oid), relations.by_key(oid)) {
        (Some(relation), _) => c.is_visible(relation)?.into(),
        (None, Some((relation, _))) => c.path().any(|s| s == relation.schema).into(),
        (None, None) => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn blanks_stand_around_dots_and_within_quotes() {
        assert_eq!(parts("\"public\" . \"visits\""), ["public", "visits"]);
        assert_eq!(parts(" Public . Visits "), ["public", "visits"]);
        assert_eq!(parts("\" a . b \".\"c\"\"d\""), [" a . b ", "c\"d"]);
        assert_eq!(parts("a b.c"), ["a b", "c"]);
    }
}
