//! Functions that give several rows, where Postgres lets them stand: in FROM their column takes the name of
//! the alias, and in the SELECT list their lists become rows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Query, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
};

use super::folded;
use crate::function::{KNOWN_JSON, KNOWN_JSONB};

/// Table functions with one column.
const TABLES: [&str; 2] = ["generate_series", "range"];

/// Functions that give keys and values, and those behind them that give a list of each.
const EACH: [(&str, &str, &str); 4] = [
    ("json_each", "json_object_keys", "otus_json_values"),
    ("json_each_text", "json_object_keys", "otus_json_value_texts"),
    ("jsonb_each", "jsonb_object_keys", "otus_jsonb_values"),
    ("jsonb_each_text", "jsonb_object_keys", "otus_jsonb_value_texts"),
];

/// Functions whose columns the statement declares, and whether they give many rows.
const RECORDS: [(&str, bool); 4] = [
    ("json_to_record", false),
    ("json_to_recordset", true),
    ("jsonb_to_record", false),
    ("jsonb_to_recordset", true),
];

/// Functions that give a list here and rows in Postgres.
const LISTS: [&str; 13] = [
    "_pg_expandarray",
    "generate_series",
    "generate_subscripts",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
    "jsonb_path_query",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
];

/// Functions with one value that tools ask for in FROM, where they are a table of one row.
const SINGLE: [&str; 11] = [
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "now",
    "pg_backend_pid",
    "pg_cancel_backend",
    "pg_terminate_backend",
    "regexp_match",
    "string_to_array",
    "version",
];

/// Rewrites a query in place.
pub(super) fn rows_of_functions(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Rewrite);
}

struct Rewrite;

fn named(name: &ObjectName, list: &[&str]) -> Option<String> {
    let [part] = name.0.as_slice() else { return None };
    let name = folded(part.as_ident()?);
    list.contains(&name.as_str()).then_some(name)
}

/// Whether a relation has WITH ORDINALITY that is not made here.
pub(super) fn lacks_ordinality(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args, with_ordinality: true, .. } => {
            args.is_none() || (named(name, &TABLES).is_none() && named(name, &LISTS).is_none())
        }
        TableFactor::UNNEST { array_exprs, with_ordinality: true, .. } => array_exprs.len() != 1,
        TableFactor::Function { name, with_ordinality: true, .. } => {
            let known = [&TABLES[..], &LISTS[..], &["unnest"]].concat();
            named(name, &known).is_none()
        }
        _ => false,
    }
}

/// The column of a function in FROM that has a name of its own, which an alias of the table leaves.
fn own_column(function: &str) -> Option<&'static str> {
    let has_value = function.ends_with("_array_elements") || function.ends_with("_elements_text");
    has_value.then_some("value")
}

/// The alias with a name for each column.
fn whole_alias(alias: Option<TableAlias>, function: &str, with_ordinality: bool) -> TableAlias {
    let mut given = alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', function),
        columns: Vec::new(),
        at: None,
    });
    if given.columns.is_empty() {
        let own = own_column(function).map(|name| Ident::with_quote('"', name));
        given.columns.push(column(own.unwrap_or_else(|| given.name.clone())));
    }
    if with_ordinality && given.columns.len() == 1 {
        given.columns.push(column(Ident::with_quote('"', "ordinality")));
    }
    given
}

/// The places of a list's elements, as a list: `generate_series(1, cardinality(list))`.
fn places_of(list: Expr) -> Expr {
    let arg = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let function = |name: &str, args| call(ObjectName::from(vec![Ident::new(name)]), args);
    let one = Expr::Value(ast::Value::Number("1".into(), false).into());
    let one = super::rows::cast(one, ast::DataType::BigInt(None));
    let last = function("cardinality", vec![arg(list)]);
    function("generate_series", vec![arg(one), arg(last)])
}

/// `LATERAL f(…)` as `f(…)`, which sees what stands before it anyway.
fn without_lateral(factor: &TableFactor) -> Option<TableFactor> {
    let TableFactor::Function { name, args, with_ordinality, alias, .. } = factor else {
        return None;
    };
    let expr = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    if named(name, &["unnest"]).is_some() {
        return Some(TableFactor::UNNEST {
            alias: alias.clone(),
            array_exprs: args.iter().map(expr).collect::<Option<_>>()?,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: *with_ordinality,
        });
    }
    let each = EACH.map(|(name, ..)| name);
    let records = RECORDS.map(|(name, _)| name);
    let known = [&TABLES[..], &LISTS[..], &each[..], &records[..]].concat();
    named(name, &known)?;
    Some(TableFactor::Table {
        name: name.clone(),
        alias: alias.clone(),
        args: Some(ast::TableFunctionArgs { args: args.clone(), settings: None }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: *with_ordinality,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

/// `(SELECT … FROM unnest(t.list) AS u)` in an expression: rows of a list of the rows around, as a query that gives them,
/// which can be asked over its domain.
fn unnest_as_query(query: &mut Query) {
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(first) = select.from.first_mut() else { return };
    let TableFactor::UNNEST {
        alias, array_exprs, with_offset: false, with_ordinality: false, ..
    } = &mut first.relation
    else {
        return;
    };
    let [list] = array_exprs.as_slice() else { return };
    let arg = FunctionArg::Unnamed(FunctionArgExpr::Expr(list.clone()));
    let name = ObjectName::from(vec![Ident::new("unnest")]);
    if let Some(rows) = rows_of(&name, &[arg], false, false) {
        first.relation = TableFactor::Derived {
            lateral: false,
            subquery: Box::new(rows),
            alias: Some(whole_alias(alias.take(), "unnest", false)),
            sample: None,
        };
    }
}

impl ast::VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Subquery(subquery)
        | Expr::Exists { subquery, .. }
        | Expr::InSubquery { subquery, .. } = expr
        {
            unnest_as_query(subquery);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(plain) = without_lateral(factor) {
            *factor = plain;
        }
        if let TableFactor::Derived { lateral: true, subquery, .. } = factor {
            unnest_as_query(subquery);
        }
        if let TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } = &mut *factor {
            if let [list] = array_exprs.as_slice() {
                let places = with_ordinality.then(|| places_of(list.clone()));
                *alias = Some(whole_alias(alias.take(), "unnest", *with_ordinality));
                array_exprs.extend(places);
                *with_ordinality = false;
            }
            return ControlFlow::Continue(());
        }
        let TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } =
            &mut *factor
        else {
            return ControlFlow::Continue(());
        };
        if let Some(rows) = key_values(name, &args.args, alias.as_ref(), *with_ordinality)
            .or_else(|| declared_rows(name, &args.args, alias.as_ref()))
        {
            *factor = rows;
            return ControlFlow::Continue(());
        }
        let table = named(name, &TABLES);
        let single = named(name, &SINGLE).filter(|_| !*with_ordinality);
        let is_single = single.is_some();
        let Some(function) = table.clone().or_else(|| named(name, &LISTS)).or(single) else {
            return ControlFlow::Continue(());
        };
        let given = whole_alias(alias.clone(), &function, *with_ordinality);
        if table.is_some() && !*with_ordinality && args.args.iter().all(is_integer) {
            *alias = Some(given);
        } else if let Some(subquery) = rows_of(name, &args.args, !is_single, *with_ordinality) {
            let subquery = Box::new(subquery);
            *factor =
                TableFactor::Derived { lateral: true, subquery, alias: Some(given), sample: None };
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        values_by_table(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _flow = ast::VisitMut::visit(expr, &mut Unnest { depth: 0 });
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether an argument is an integer that is written out.
fn is_integer(arg: &FunctionArg) -> bool {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else { return false };
    let number = match expr {
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => expr.as_ref(),
        other => other,
    };
    match number {
        Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => digits.parse::<i64>().is_ok(),
            _ => false,
        },
        _ => false,
    }
}

/// A query of our own with these results.
fn select(projection: Vec<SelectItem>) -> Option<Query> {
    let mut query = super::rows::template("SELECT 0")?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    select.projection = projection;
    Some(*query)
}

fn aliased(expr: Expr, name: Ident) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: name }
}

/// `jsonb_each(…)` as lists of keys and of values, side by side.
fn key_values(
    name: &ObjectName,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
    with_ordinality: bool,
) -> Option<TableFactor> {
    let function = named(name, &EACH.map(|(name, ..)| name))?;
    let (_, keys, values) = EACH.into_iter().find(|(name, ..)| *name == function)?;
    if with_ordinality {
        return None;
    }
    let list = |name: &str| call(ObjectName::from(vec![Ident::new(name)]), args.to_vec());
    let quoted = |name| Ident::with_quote('"', name);
    let items = vec![
        aliased(rows_of_list(list(keys)), quoted("key")),
        aliased(rows_of_list(list(values)), quoted("value")),
    ];
    let alias = alias.cloned().unwrap_or_else(|| table_alias(&function));
    let subquery = Box::new(select(items)?);
    Some(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None })
}

fn table_alias(name: &str) -> TableAlias {
    let name = Ident::with_quote('"', name);
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// `jsonb_to_record(…) AS t(a int, b text)` as the members of that name, cast to those types.
fn declared_rows(
    name: &ObjectName,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
) -> Option<TableFactor> {
    let function = named(name, &RECORDS.map(|(name, _)| name))?;
    let (_, is_set) = RECORDS.into_iter().find(|(name, _)| *name == function)?;
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(given))] = args else { return None };
    let alias = alias?;
    let kind = function.split('_').next()?;
    let arg = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let own = |name: String, args| call(ObjectName::from(vec![Ident::new(name)]), args);
    let json = match is_set {
        true => unnest(own(format!("{kind}_array_elements"), vec![arg(given.clone())])),
        false => given.clone(),
    };
    let column = |column: &TableAliasColumnDef| {
        let data_type = column.data_type.clone()?;
        let key = Expr::Value(ast::Value::SingleQuotedString(folded(&column.name)).into());
        let is_json = matches!(data_type, ast::DataType::JSON | ast::DataType::JSONB);
        let get = if is_json { "get" } else { "get_text" };
        let value = own(format!("{kind}_{get}"), vec![arg(json.clone()), arg(key)]);
        // A null of JSON is one of the column.
        let null = Expr::Value(ast::Value::SingleQuotedString("null".into()).into());
        let value = match is_json {
            true => super::rewrite::call("nullif", [value, null]),
            false => value,
        };
        let value = match data_type {
            ast::DataType::JSONB => super::rewrite::call(KNOWN_JSONB, [value]),
            ast::DataType::JSON => super::rewrite::call(KNOWN_JSON, [value]),
            other => super::rows::cast(value, other),
        };
        Some(aliased(value, column.name.clone()))
    };
    let items = alias.columns.iter().map(column).collect::<Option<Vec<_>>>()?;
    let plain = TableAlias { columns: Vec::new(), ..alias.clone() };
    let subquery = Box::new(select(items).filter(|_| !alias.columns.is_empty())?);
    Some(TableFactor::Derived { lateral: true, subquery, alias: Some(plain), sample: None })
}

/// The names of functions in FROM that stand for their values.
fn named_values(select: &Select) -> Vec<String> {
    let factors = select.from.iter().flat_map(|from| {
        std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
    });
    let value = |factor: &TableFactor| {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias: Some(alias), args: Some(_), .. }
            | TableFactor::Function { name, alias: Some(alias), .. } => (name, alias),
            _ => return None,
        };
        let function = named(name, &LISTS)?;
        own_column(&function).filter(|_| alias.columns.is_empty())?;
        Some(folded(&alias.name))
    };
    factors.filter_map(value).collect()
}

/// `e ->> 'id'` beside `jsonb_array_elements(…) AS e` is of its column, `e.value`.
fn values_by_table(select: &mut Select) {
    let values = named_values(select);
    if values.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
            && values.contains(&folded(name))
        {
            let name = name.clone();
            *item = aliased(Expr::Identifier(name.clone()), name);
        }
    }
    let mut by_table = |expr: &mut Expr| {
        if let Expr::Identifier(name) = expr
            && values.contains(&folded(name))
        {
            let value = Ident::with_quote('"', "value");
            *expr = Expr::CompoundIdentifier(vec![name.clone(), value]);
        }
        ControlFlow::<()>::Continue(())
    };
    let _flow = ast::visit_expressions_mut(select, &mut by_table);
}

/// `SELECT unnest(f(…))`, or `SELECT f(…)` for what is no list: here arguments are expressions, which know the session and its parameters.
fn rows_of(
    name: &ObjectName,
    args: &[FunctionArg],
    is_list: bool,
    with_ordinality: bool,
) -> Option<Query> {
    let list = call(name.clone(), args.to_vec());
    let shown =
        |expr, name| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    let value = if is_list { rows_of_list(list.clone()) } else { list.clone() };
    let mut items = vec![shown(value, "value")];
    if with_ordinality {
        items.push(shown(unnest(places_of(list)), "ordinality"));
    }
    select(items)
}

fn column(name: Ident) -> TableAliasColumnDef {
    TableAliasColumnDef { name, data_type: None }
}

/// Makes rows of the lists in one expression of a SELECT list, but not of those in a subquery or in a call
/// of `unnest`.
struct Unnest {
    depth: usize,
}

impl ast::VisitorMut for Unnest {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(f) = expr {
            self.depth += usize::from(named(&f.name, &["unnest"]).is_some());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(f) = &*expr else { return ControlFlow::Continue(()) };
        if named(&f.name, &["unnest"]).is_some() {
            self.depth -= 1;
        } else if self.depth == 0 && f.over.is_none() && named(&f.name, &LISTS).is_some() {
            let inner = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
            *expr = rows_of_list(inner);
        }
        ControlFlow::Continue(())
    }
}

/// The rows of a list that a function gives; the type of JSON is told anew.
fn rows_of_list(list: Expr) -> Expr {
    let function = match &list {
        Expr::Function(f) => f.name.0.last().and_then(|part| part.as_ident()).map(folded),
        _ => None,
    };
    let mark = match function.as_deref() {
        Some("jsonb_array_elements" | "jsonb_path_query" | "otus_jsonb_values") => KNOWN_JSONB,
        Some("json_array_elements" | "otus_json_values") => KNOWN_JSON,
        _ => return unnest(list),
    };
    super::rewrite::call(mark, [unnest(list)])
}

/// The list of whose elements an expression, as it has been rewritten, gives rows.
pub(super) fn list_of_rows(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_slice() else {
        return None;
    };
    if named(&function.name, &["unnest"]).is_some() {
        return Some(of.clone());
    }
    named(&function.name, &[KNOWN_JSON, KNOWN_JSONB]).and_then(|_| list_of_rows(of))
}

/// The place of an element among those of its list.
pub(super) fn place_of_row(list: Expr) -> Expr {
    let one = || super::rows::cast(super::ordered::number("1"), ast::DataType::BigInt(None));
    let last = super::rewrite::call("array_length", [list, one()]);
    unnest(super::rewrite::call("generate_series", [one(), last]))
}

fn unnest(list: Expr) -> Expr {
    let arg = FunctionArg::Unnamed(FunctionArgExpr::Expr(list));
    call(ObjectName::from(vec![Ident::new("unnest")]), vec![arg])
}

fn call(name: ObjectName, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
