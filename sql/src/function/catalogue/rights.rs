//! Who may do what, as tools ask: everything that the catalogue shows may be read.

use datafusion::error::Result as DfResult;

use super::names::{parts, relation};
use super::{Def, at, def, missing, no, yes};
use crate::catalog::{Catalogue, Value};
use crate::error::{SqlError, sqlstate};

#[rustfmt::skip]
pub(super) const ALL: &[Def] = &[
    def("has_table_privilege", (2, 3), "bool", on_table),
    def("has_any_column_privilege", (2, 3), "bool", on_table),
    def("has_column_privilege", (3, 4), "bool", on_column),
    def("has_schema_privilege", (2, 3), "bool", on_schema),
    def("has_database_privilege", (2, 3), "bool", on_database),
    def("has_function_privilege", (2, 3), "bool", yes),
    def("has_language_privilege", (2, 3), "bool", yes),
    def("has_type_privilege", (2, 3), "bool", yes),
    def("has_sequence_privilege", (2, 3), "bool", no),
    def("has_tablespace_privilege", (2, 3), "bool", no),
    def("has_foreign_data_wrapper_privilege", (2, 3), "bool", no),
    def("has_server_privilege", (2, 3), "bool", no),
    def("has_parameter_privilege", (2, 3), "bool", no),
    def("pg_has_role", (2, 3), "bool", has_role),
];

/// Whether any privilege of a list is one of those given.
fn any(list: &Value, mut has: impl FnMut(&str) -> bool) -> Value {
    let list = list.text().unwrap_or_default().to_uppercase();
    let mut names = list.split(',').map(str::trim);
    Value::Bool(names.any(&mut has))
}

/// The arguments without the user, who may be left out.
fn without_user(given: &[Value], rest: usize) -> &[Value] {
    given.get(given.len().saturating_sub(rest)..).unwrap_or(given)
}

fn on_table(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let given = without_user(given, 2);
    let Some(relation) = relation(c, at(given, 0))? else {
        return match at(given, 0).text().filter(|text| text.parse::<u32>().is_err()) {
            Some(name) => missing(sqlstate::UNDEFINED_TABLE, "relation", name),
            None => Ok(Value::Null),
        };
    };
    Ok(any(at(given, 1), |privilege| match privilege {
        "SELECT" => true,
        "INSERT" => relation.takes_rows,
        _ => false,
    }))
}

fn on_column(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let given = without_user(given, 3);
    let Some(relation) = relation(c, at(given, 0))? else { return Ok(Value::Null) };
    let is_there = match at(given, 1) {
        Value::Text(name) => {
            if !relation.columns.iter().any(|column| column.name == *name) {
                let message =
                    format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
                return Err(SqlError::new(sqlstate::UNDEFINED_COLUMN, message).into());
            }
            true
        }
        number => number.int().is_some_and(|n| {
            n > 0 && usize::try_from(n).is_ok_and(|n| n <= relation.columns.len())
        }),
    };
    Ok(any(at(given, 2), |privilege| match privilege {
        "SELECT" => is_there,
        "INSERT" => is_there && relation.takes_rows,
        _ => false,
    }))
}

fn on_schema(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let given = without_user(given, 2);
    let relations = c.relations()?;
    let is_there = match at(given, 0).text().filter(|text| text.parse::<u32>().is_err()) {
        Some(name) => {
            let bare = parts(name).pop().unwrap_or_default();
            if relations.schema_id(&bare).is_none() {
                return missing(sqlstate::NO_SCHEMA, "schema", name);
            }
            true
        }
        None => at(given, 0).oid().is_some_and(|oid| relations.schemas.contains_key(&oid)),
    };
    Ok(any(at(given, 1), |privilege| is_there && privilege == "USAGE"))
}

fn on_database(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let given = without_user(given, 2);
    if let Some(name) = at(given, 0).text()
        && name.parse::<u32>().is_err()
        && name != c.database()
    {
        return missing(sqlstate::NO_SCHEMA, "database", name);
    }
    Ok(any(at(given, 1), |privilege| privilege == "CONNECT"))
}

fn has_role(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let (user, role) = match given {
        [user, role, _] => (user.clone(), role),
        [role, _] => (c.user().into(), role),
        _ => return super::lost(),
    };
    let all = c.roles();
    let of = |value: &Value| {
        let name = value.text().filter(|text| text.parse::<u32>().is_err());
        all.iter().find(|r| Some(r.name.as_str()) == name || Some(r.oid) == value.oid())
    };
    let (Some(user), Some(role)) = (of(&user), of(role)) else { return Ok(Value::Bool(false)) };
    let (mut open, mut seen) = (vec![user], Vec::new());
    while let Some(next) = open.pop() {
        if next.oid == role.oid {
            return Ok(Value::Bool(true));
        }
        if !seen.contains(&next.oid) {
            seen.push(next.oid);
            open.extend(all.iter().filter(|r| next.member_of.contains(&r.name)));
        }
    }
    Ok(Value::Bool(user.is_admin))
}
