//! Definitions and comments of what the catalogue lists.

use datafusion::error::Result as DfResult;

use super::names::relation;
use super::{Def, at, def, lax, nothing};
use crate::catalog::{
    CLASS_OF_RELATIONS, Catalogue, Routine, Value, builtin_definition, index_definition,
    internal_name, library, quoted_name as quoted, routine_arguments, routine_definition,
    type_name,
};

#[rustfmt::skip]
pub(super) const ALL: &[Def] = &[
    lax("pg_get_expr", (2, 3), "text", |_, a| Ok(at(a, 0).clone())),
    def("pg_get_viewdef", (1, 2), "text", view),
    def("pg_get_indexdef", (1, 3), "text", index),
    def("pg_get_constraintdef", (1, 2), "text", constraint),
    def("pg_get_functiondef", (1, 1), "text", function),
    def("pg_get_function_arguments", (1, 1), "text", |c, a| arguments(c, at(a, 0), true)),
    def("pg_get_function_identity_arguments", (1, 1), "text", |c, a| arguments(c, at(a, 0), false)),
    def("pg_get_function_result", (1, 1), "text", result),
    def("pg_get_function_arg_default", (2, 2), "text", nothing),
    def("pg_get_function_sqlbody", (1, 1), "text", nothing),
    def("pg_get_ruledef", (1, 2), "text", nothing),
    def("pg_get_triggerdef", (1, 2), "text", nothing),
    def("pg_get_statisticsobjdef", (1, 1), "text", nothing),
    def("pg_get_statisticsobjdef_columns", (1, 1), "text", nothing),
    def("pg_get_partkeydef", (1, 1), "text", nothing),
    def("pg_get_partition_constraintdef", (1, 1), "text", nothing),
    def("pg_get_serial_sequence", (2, 2), "text", nothing),
    lax("obj_description", (1, 2), "text", comment),
    def("col_description", (2, 2), "text", column_comment),
    def("shobj_description", (2, 2), "text", nothing),
];

fn view(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    Ok(relation(c, at(given, 0))?.and_then(|r| r.definition.clone()).into())
}

fn index(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(oid) = at(given, 0).oid() else { return Ok(Value::Null) };
    let Some((relation, key)) = c.relations()?.by_key(oid) else { return Ok(Value::Null) };
    Ok(match at(given, 1).int() {
        None | Some(0) => index_definition(relation, key).into(),
        Some(1) => {
            let place = usize::try_from(key.column - 1).unwrap_or_default();
            relation.columns.get(place).map(|column| quoted(&column.name)).into()
        }
        Some(_) => "".into(),
    })
}

fn constraint(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(oid) = at(given, 0).oid() else { return Ok(Value::Null) };
    let Some((relation, key)) = c.relations()?.by_key(oid) else { return Ok(Value::Null) };
    let place = usize::try_from(key.column - 1).unwrap_or_default();
    let column = relation.columns.get(place).map(|column| quoted(&column.name));
    Ok(format!("PRIMARY KEY ({})", column.unwrap_or_default()).into())
}

fn routine<'a>(c: &'a Catalogue, id: &Value) -> DfResult<Option<&'a Routine>> {
    let oid = id.oid();
    Ok(c.relations()?.routines.iter().find(|routine| Some(routine.oid) == oid))
}

fn function(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let library = library()?;
    Ok(match routine(c, at(given, 0))? {
        Some(routine) => routine_definition(library, routine).into(),
        None => at(given, 0).oid().and_then(|oid| builtin_definition(library, oid)).into(),
    })
}

fn arguments(c: &Catalogue, id: &Value, defaults: bool) -> DfResult<Value> {
    let library = library()?;
    if let Some(routine) = routine(c, id)? {
        return Ok(routine_arguments(library, routine, defaults).into());
    }
    let Some(function) = id.oid().and_then(|oid| library.function_by_id(oid)) else {
        return Ok("VARIADIC \"any\"".into());
    };
    let types = function.arguments.iter().map(|id| type_name(library, *id, -1));
    Ok(types.collect::<Vec<_>>().join(", ").into())
}

fn result(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let library = library()?;
    if routine(c, at(given, 0))?.is_some() {
        return Ok("SETOF record".into());
    }
    let Some(function) = at(given, 0).oid().and_then(|oid| library.function_by_id(oid)) else {
        return Ok(Value::Null);
    };
    let name = type_name(library, function.returns, -1);
    Ok(if function.returns_set { format!("SETOF {name}") } else { name }.into())
}

fn comment(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(oid) = at(given, 0).oid() else { return Ok(Value::Null) };
    let relations = c.relations()?;
    let class =
        at(given, 1).text().map(|name| internal_name(name.trim_start_matches("pg_catalog.")));
    if matches!(class.as_deref(), None | Some("pg_class"))
        && let Some(relation) = relations.by_id(oid)
    {
        return Ok(relation.comment.clone().into());
    }
    if let Some(routine) = relations.routines.iter().find(|routine| routine.oid == oid) {
        return Ok(routine.def.description.clone().into());
    }
    let class = class.and_then(|name| relations.named(crate::catalog::PG_SCHEMA, &name));
    let Some(class) = class.filter(|class| class.oid != CLASS_OF_RELATIONS) else {
        return Ok(Value::Null);
    };
    Ok(library()?.comment(class.oid, oid).into())
}

fn column_comment(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let place = at(given, 1).int().and_then(|n| usize::try_from(n - 1).ok());
    let relation = relation(c, at(given, 0))?;
    let column = relation.zip(place).and_then(|(relation, at)| relation.columns.get(at));
    Ok(column.and_then(|column| column.comment.clone()).into())
}
