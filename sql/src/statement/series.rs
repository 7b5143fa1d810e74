//! Functions that give several rows, where Postgres lets them stand: in FROM their column takes the name of
//! the alias, and in the SELECT list their lists become rows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Query, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::folded;

/// Table functions with one column.
const TABLES: [&str; 2] = ["generate_series", "range"];

/// Functions that give a list here and rows in Postgres.
const LISTS: [&str; 11] = [
    "_pg_expandarray",
    "generate_series",
    "generate_subscripts",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
    "regexp_matches",
    "regexp_split_to_table",
];

/// Functions with one value that tools ask for in FROM, where they are a table of one row.
const SINGLE: [&str; 9] = [
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "now",
    "pg_backend_pid",
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
    let known = [&TABLES[..], &LISTS[..]].concat();
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

impl ast::VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(plain) = without_lateral(factor) {
            *factor = plain;
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

/// `SELECT unnest(f(…))`, or `SELECT f(…)` for what is no list: here arguments are expressions, which know the session and its parameters.
fn rows_of(
    name: &ObjectName,
    args: &[FunctionArg],
    is_list: bool,
    with_ordinality: bool,
) -> Option<Query> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql("SELECT 0").ok()?;
    let mut query = parser.parse_query().ok()?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    let list = call(name.clone(), args.to_vec());
    let shown =
        |expr, name| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    let value = if is_list { unnest(list.clone()) } else { list.clone() };
    select.projection = vec![shown(value, "value")];
    if with_ordinality {
        select.projection.push(shown(unnest(places_of(list)), "ordinality"));
    }
    Some(*query)
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
            *expr = unnest(inner);
        }
        ControlFlow::Continue(())
    }
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
