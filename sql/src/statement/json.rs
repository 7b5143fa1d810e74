//! JSON of rows: `json_agg(x ORDER BY y)` puts together the elements that `array_agg` collects; and `ROW(a, b)`, which is a
//! record.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    Query, Value,
};

use super::rewrite::{call, folded};
use crate::function::RECORD;

/// Aggregates of Postgres, the function of their elements and the one that puts them together.
const AGGREGATES: [(&str, &str, &str); 4] = [
    ("json_agg", "otus_json_element", "otus_json_of_elements"),
    ("jsonb_agg", "otus_json_element", "otus_jsonb_of_elements"),
    ("json_object_agg", "otus_json_member", "otus_json_of_members"),
    ("jsonb_object_agg", "otus_jsonb_member", "otus_jsonb_of_members"),
];

/// Rewrites all of a query and of those within it.
pub(super) fn known_functions(query: &mut Query) {
    let _flow = ast::visit_expressions_mut(query, |expr| {
        if let Some(known) = aggregate(expr).or_else(|| record_of_row(expr)) {
            *expr = known;
        }
        ControlFlow::<()>::Continue(())
    });
}

fn name_of(function: &Function) -> Option<String> {
    let [part] = function.name.0.as_slice() else { return None };
    part.as_ident().map(folded)
}

fn unnamed(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// `json_agg(x …)` as `otus_json_of_elements(array_agg(otus_json_element(x) …))`.
fn aggregate(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let name = name_of(function)?;
    let (_, each, whole) = AGGREGATES.iter().find(|(known, ..)| *known == name)?;
    let mut collected = function.clone();
    let FunctionArguments::List(list) = &mut collected.args else { return None };
    let values: Vec<Expr> =
        list.args.iter().map(|arg| unnamed(arg).cloned()).collect::<Option<_>>()?;
    if values.len() != if name.ends_with("object_agg") { 2 } else { 1 } {
        return None;
    }
    list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(call(each, values)))];
    collected.name = ObjectName::from(vec![Ident::new("array_agg")]);
    Some(call(whole, [Expr::Function(collected)]))
}

/// `ROW(a, b)` as a record whose members have the names that Postgres gives them.
fn record_of_row(row: &Expr) -> Option<Expr> {
    let Expr::Function(row) = row else { return None };
    if name_of(row).is_none_or(|name| name != "row") {
        return None;
    }
    let FunctionArguments::List(list) = &row.args else { return None };
    let members = list
        .args
        .iter()
        .enumerate()
        .map(|(i, arg)| Some((format!("f{}", i + 1), unnamed(arg)?.clone())));
    members.collect::<Option<Vec<_>>>().map(record)
}

/// A record of members by their names.
pub(crate) fn record(members: impl IntoIterator<Item = (String, Expr)>) -> Expr {
    let parts = members
        .into_iter()
        .flat_map(|(name, value)| [Expr::Value(Value::SingleQuotedString(name).into()), value]);
    call(RECORD, parts)
}
