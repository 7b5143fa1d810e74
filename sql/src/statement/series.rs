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
const LISTS: [&str; 7] = [
    "generate_series",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
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

impl ast::VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = &mut *factor else {
            return ControlFlow::Continue(());
        };
        let Some(function) = named(name, &TABLES) else { return ControlFlow::Continue(()) };
        let mut given = alias.clone().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', function),
            columns: Vec::new(),
            at: None,
        });
        if given.columns.is_empty() {
            given.columns.push(column(given.name.clone()));
        }
        if args.args.iter().all(is_integer) {
            *alias = Some(given);
        } else if let Some(subquery) = rows_of(name, &args.args) {
            let subquery = Box::new(subquery);
            *factor =
                TableFactor::Derived { lateral: false, subquery, alias: Some(given), sample: None };
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

/// `SELECT unnest(f(…))`: here arguments are expressions, which know the session and its parameters.
fn rows_of(name: &ObjectName, args: &[FunctionArg]) -> Option<Query> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql("SELECT 0").ok()?;
    let mut query = parser.parse_query().ok()?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    let list = call(name.clone(), args.to_vec());
    select.projection = vec![SelectItem::ExprWithAlias {
        expr: unnest(list),
        alias: Ident::with_quote('"', "value"),
    }];
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
