//! Who may do what, as tools ask: everything that the catalogue shows may be read.

use std::sync::Arc;

use datafusion::error::Result as DfResult;

use super::names::{parts, relation};
use super::{Def, at, def, missing, no, yes};
use crate::access::Identity;
use crate::catalog::{Catalogue, Relation, Role, Value};
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

/// Whose rights are asked for, none for those of the user and of whoever owns everything, and the arguments without the user,
/// who may be left out.
fn whose<'a>(
    c: &Catalogue,
    given: &'a [Value],
    rest: usize,
) -> DfResult<(Option<Arc<Identity>>, &'a [Value])> {
    let (user, rest) = given.split_at(given.len().saturating_sub(rest));
    let Some(user) = user.first() else { return Ok((None, rest)) };
    let name = user.text().filter(|text| text.parse::<u32>().is_err());
    let is_meant = |r: &Role| Some(r.name.as_str()) == name || Some(r.oid) == user.oid();
    match (c.roles().into_iter().find(is_meant), name) {
        (Some(role), _) if role.is_admin || role.name == c.user() => Ok((None, rest)),
        (Some(role), _) => Ok((Some(c.role(&role.name)?), rest)),
        (None, Some(name)) => {
            missing::<Value>(sqlstate::UNDEFINED_OBJECT, "role", name).map(|_| (None, rest))
        }
        (None, None) => Ok((None, rest)),
    }
}

fn may_insert(c: &Catalogue, of: Option<&Arc<Identity>>, relation: &Relation) -> bool {
    let may = |i: &Arc<Identity>| i.may_insert(&relation.schema, &relation.name);
    relation.takes_rows && of.map_or_else(|| c.identity().is_none_or(may), may)
}

fn on_table(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let (of, given) = whose(c, given, 2)?;
    let Some(relation) = relation(c, at(given, 0))? else {
        return match at(given, 0).text().filter(|text| text.parse::<u32>().is_err()) {
            Some(name) => missing(sqlstate::UNDEFINED_TABLE, "relation", name),
            None => Ok(Value::Null),
        };
    };
    Ok(any(at(given, 1), |privilege| match privilege {
        "SELECT" => {
            of.as_ref().is_none_or(|i| i.may_select(&relation.schema, &relation.name, None))
        }
        "INSERT" => may_insert(c, of.as_ref(), relation),
        _ => false,
    }))
}

fn on_column(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let (of, given) = whose(c, given, 3)?;
    let Some(relation) = relation(c, at(given, 0))? else { return Ok(Value::Null) };
    let column = match at(given, 1) {
        Value::Text(name) => {
            if !relation.columns.iter().any(|column| column.name == *name) {
                let message =
                    format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
                return Err(SqlError::new(sqlstate::UNDEFINED_COLUMN, message).into());
            }
            Some(name.as_str())
        }
        number => {
            let place = number.int().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
            place.and_then(|at| relation.columns.get(at)).map(|column| column.name.as_str())
        }
    };
    let Some(column) = column else { return Ok(Value::Bool(false)) };
    Ok(any(at(given, 2), |privilege| match privilege {
        "SELECT" => {
            of.as_ref().is_none_or(|i| i.may_select(&relation.schema, &relation.name, Some(column)))
        }
        "INSERT" => may_insert(c, of.as_ref(), relation),
        _ => false,
    }))
}

fn on_schema(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let (_, given) = whose(c, given, 2)?;
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
    let (_, given) = whose(c, given, 2)?;
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
