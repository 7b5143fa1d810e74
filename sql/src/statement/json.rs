//! JSON of rows and of whole tables: `json_agg(x ORDER BY y)` puts together the elements that `array_agg` collects, and a table
//! that is named in place of a value, `row_to_json(t)`, is the record of its columns.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Value,
};

use super::rewrite::{call, folded};

/// Aggregates of Postgres, the function of their elements and the one that puts them together.
const AGGREGATES: [(&str, &str, &str); 4] = [
    ("json_agg", "otus_json_element", "otus_json_of_elements"),
    ("jsonb_agg", "otus_json_element", "otus_jsonb_of_elements"),
    ("json_object_agg", "otus_json_member", "otus_json_of_members"),
    ("jsonb_object_agg", "otus_jsonb_member", "otus_jsonb_of_members"),
];

/// Functions that take a record.
const OF_RECORDS: [&str; 5] = ["row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg"];

/// Rewrites all of a query and of those within it.
pub(super) fn known_functions(query: &mut Query) {
    let mut ctes = HashMap::new();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        if let Some(columns) = columns_of(&cte.query, &cte.alias) {
            ctes.insert(folded(&cte.alias.name), columns);
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Records(ctes));
    let _flow = ast::visit_expressions_mut(query, |expr| {
        if let Some(known) = aggregate(expr) {
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

/// Puts records in the place of tables; knows the columns of common tables.
struct Records(HashMap<String, Vec<Ident>>);

impl ast::VisitorMut for Records {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut tables = HashMap::new();
        for from in &select.from {
            let joined = from.joins.iter().map(|join| &join.relation);
            for factor in std::iter::once(&from.relation).chain(joined) {
                if let Some((name, columns)) = self.table(factor) {
                    tables.insert(folded(&name), (name, columns));
                }
            }
        }
        let _flow = ast::visit_expressions_mut(&mut select.projection, |expr| {
            if let Expr::Function(function) = expr {
                records_in(function, &tables);
            }
            ControlFlow::<()>::Continue(())
        });
        ControlFlow::Continue(())
    }
}

impl Records {
    /// The name of a table in FROM and its columns, if they are known.
    fn table(&self, factor: &TableFactor) -> Option<(Ident, Vec<Ident>)> {
        match factor {
            TableFactor::Derived { subquery, alias: Some(alias), .. } => {
                Some((alias.name.clone(), columns_of(subquery, alias)?))
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                let [part] = name.0.as_slice() else { return None };
                let own = part.as_ident()?;
                let columns = self.0.get(&folded(own))?;
                let name = alias.as_ref().map_or(own, |alias| &alias.name);
                Some((name.clone(), columns.clone()))
            }
            _ => None,
        }
    }
}

/// The columns of a query, if it names all of them.
fn columns_of(query: &Query, alias: &TableAlias) -> Option<Vec<Ident>> {
    if !alias.columns.is_empty() {
        return Some(alias.columns.iter().map(|column| column.name.clone()).collect());
    }
    let mut body = query.body.as_ref();
    let select = loop {
        body = match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(inner) => inner.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    };
    let columns = select.projection.iter().map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    });
    columns.collect()
}

fn records_in(function: &mut Function, tables: &HashMap<String, (Ident, Vec<Ident>)>) {
    if name_of(function).is_none_or(|name| !OF_RECORDS.contains(&name.as_str())) {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))) = list.args.first_mut() else {
        return;
    };
    let record = match &*arg {
        Expr::Identifier(name) => match tables.get(&folded(name)) {
            // A column of that name is meant before the table.
            Some((_, columns)) if columns.iter().any(|c| folded(c) == folded(name)) => None,
            Some((table, columns)) => {
                let members = columns.iter().map(|column| {
                    let value = Expr::CompoundIdentifier(vec![table.clone(), column.clone()]);
                    (folded(column), value)
                });
                Some(record(members))
            }
            None => None,
        },
        row => record_of_row(row),
    };
    if let Some(record) = record {
        *arg = record;
    }
}

/// `ROW(a, b)` as a record whose members have the names that Postgres gives them.
fn record_of_row(row: &Expr) -> Option<Expr> {
    let Expr::Function(row) = row else { return None };
    if name_of(row).is_none_or(|name| name != "row") {
        return None;
    }
    let FunctionArguments::List(list) = &row.args else { return None };
    let members = list.args.iter().enumerate().map(|(i, arg)| {
        let value = unnamed(arg)?;
        let value = record_of_row(value).unwrap_or_else(|| value.clone());
        Some((format!("f{}", i + 1), value))
    });
    members.collect::<Option<Vec<_>>>().map(record)
}

fn record(members: impl IntoIterator<Item = (String, Expr)>) -> Expr {
    let parts = members
        .into_iter()
        .flat_map(|(name, value)| [Expr::Value(Value::SingleQuotedString(name).into()), value]);
    call("named_struct", parts)
}
