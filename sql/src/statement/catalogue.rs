//! What Postgres's own catalogue queries say and the planner does not know: names with the schema `pg_catalog`,
//! operators with it, collations, casts to ids, arrays out of subqueries.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, Value,
};

use super::rewrite::{call, folded};
use crate::catalog::{INFORMATION_SCHEMA, Layout, PG_SCHEMA, REG_TYPES, layout};

/// Gives the empty list in the place of none.
pub(crate) const OR_EMPTY: &str = "otus_or_empty";

/// Rewrites a query in place.
pub(super) fn plain_names(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Plain);
}

struct Plain;

impl ast::VisitorMut for Plain {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                unqualify(name);
            }
            _ => {}
        }
        if let Some(unnested) = unnested(factor) {
            *factor = unnested;
        }
        if let TableFactor::UNNEST { alias: alias @ None, array_exprs, .. } = factor
            && array_exprs.len() == 1
        {
            let name = Ident::with_quote('"', "unnest");
            let columns = vec![TableAliasColumnDef { name: name.clone(), data_type: None }];
            *alias = Some(TableAlias { explicit: true, name, columns, at: None });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        system_columns(select);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if let Some(gathered) = gathered(function) {
                    *expr = gathered;
                }
            }
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(kind) = reg_type(data_type) {
                    *expr = call(kind, [taken(inner)]);
                }
            }
            Expr::TypedString(typed) => {
                if let Some(kind) = reg_type(&typed.data_type) {
                    *expr = call(kind, [Expr::Value(typed.value.clone())]);
                }
            }
            Expr::Collate { expr: inner, collation } if is_ours(collation) => {
                *expr = taken(inner);
            }
            Expr::BinaryOp { op, .. } => plain_operator(op),
            Expr::CompoundFieldAccess { root, access_chain } => {
                // `(record).field`
                if let (Expr::Nested(record), [AccessExpr::Dot(Expr::Identifier(field))]) =
                    (root.as_mut(), access_chain.as_slice())
                {
                    let field = Value::SingleQuotedString(folded(field));
                    *expr = call("get_field", [taken(record), Expr::Value(field.into())]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn taken(expr: &mut Box<Expr>) -> Expr {
    std::mem::replace(expr.as_mut(), Expr::Value(Value::Null.into()))
}

/// `pg_catalog.unnest(…)` in FROM, which the parser takes for any function.
fn unnested(factor: &mut TableFactor) -> Option<TableFactor> {
    let TableFactor::Table { name, alias, args: Some(args), .. } = factor else { return None };
    if !name.to_string().eq_ignore_ascii_case("unnest") {
        return None;
    }
    let items = args.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    let mut alias = alias.take();
    if let Some(alias) = alias.as_mut().filter(|alias| alias.columns.is_empty()) {
        // The only column of a function has the name of its alias.
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
    Some(TableFactor::UNNEST {
        alias,
        array_exprs: items.collect::<Option<_>>()?,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    })
}

/// Takes the schema off a function of Postgres.
fn unqualify(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && let Some(schema) = schema.as_ident()
        && [PG_SCHEMA, INFORMATION_SCHEMA].contains(&schema.value.to_lowercase().as_str())
    {
        name.0.remove(0);
    }
}

/// Columns that every relation of Postgres has beside its own: `c.tableoid` is the id of the relation that `c`
/// stands for, and rows have the age of none.
fn system_columns(select: &mut Select) {
    let mut known: Vec<(String, &'static Layout)> = Vec::new();
    let factors = select.from.iter().flat_map(|from| {
        std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
    });
    for factor in factors {
        let TableFactor::Table { name, alias, args: None, .. } = factor else { continue };
        let parts: Vec<String> =
            name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let (schema, table) = match parts.as_slice() {
            [table] => (PG_SCHEMA, table),
            [schema, table] => (schema.as_str(), table),
            _ => continue,
        };
        let Some(layout) = layout(schema, table) else { continue };
        known.push((alias.as_ref().map_or_else(|| table.clone(), |a| folded(&a.name)), layout));
    }
    if known.is_empty() {
        return;
    }
    let _flow = ast::visit_expressions_mut(select, |expr| {
        let Expr::CompoundIdentifier(parts) = &*expr else { return ControlFlow::Continue(()) };
        let [table, column] = parts.as_slice() else { return ControlFlow::Continue(()) };
        let (table, column) = (folded(table), folded(column));
        let layout = known.iter().find(|(alias, _)| *alias == table).map(|(_, layout)| *layout);
        let number = |n: String| Expr::Value(Value::Number(n, false).into());
        match (layout, column.as_str()) {
            (Some(layout), "tableoid") => *expr = call("oid", [number(layout.oid.to_string())]),
            (Some(_), "xmin" | "xmax") => *expr = call("oid", [number("1".into())]),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The kind of ids that a type stands for.
fn reg_type(data_type: &ast::DataType) -> Option<&'static str> {
    match data_type {
        ast::DataType::Regclass => Some("regclass"),
        ast::DataType::Custom(name, arguments) if arguments.is_empty() => {
            let mut name = name.clone();
            unqualify(&mut name);
            let [part] = name.0.as_slice() else { return None };
            let word = part.as_ident()?.value.to_lowercase();
            if word == "oid" {
                return Some("oid");
            }
            REG_TYPES.iter().find(|known| **known == word).copied()
        }
        _ => None,
    }
}

/// Text is ordered by code point, whatever of these is said.
fn is_ours(collation: &ObjectName) -> bool {
    let last = collation.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|name| ["default", "C", "POSIX", "ucs_basic"].contains(&name.value.as_str()))
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return };
    let known = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("!~~*") => BinaryOperator::PGNotILikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>" | "!=") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("||") => BinaryOperator::StringConcat,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        _ => return,
    };
    *op = known;
}

/// `ARRAY(SELECT x … ORDER BY y)` as a subquery for one value.
fn gathered(function: &mut ast::Function) -> Option<Expr> {
    if !function.name.to_string().eq_ignore_ascii_case("array") {
        return None;
    }
    let FunctionArguments::Subquery(query) = &mut function.args else { return None };
    let mut query = query.clone();
    let is_plain = query.limit_clause.is_none() && query.fetch.is_none() && query.with.is_none();
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    if !is_plain || select.distinct.is_some() || !is_ungrouped(select) {
        return None;
    }
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_mut_slice()
    else {
        return None;
    };
    let value = item.clone();
    let mut list = call("array_agg", [value.clone()]);
    if let (Some(order), Expr::Function(list)) = (order, &mut list)
        && let OrderByKind::Expressions(mut keys) = order.kind
        && let FunctionArguments::List(arguments) = &mut list.args
    {
        for key in &mut keys {
            if matches!(&key.expr, Expr::Value(v) if matches!(&v.value, Value::Number(n, _) if n == "1"))
            {
                key.expr = value.clone();
            }
        }
        arguments.clauses.push(ast::FunctionArgumentClause::OrderBy(keys));
    }
    select.projection =
        vec![SelectItem::ExprWithAlias { expr: list, alias: Ident::with_quote('"', "array") }];
    Some(call(OR_EMPTY, [Expr::Subquery(query)]))
}

fn is_ungrouped(select: &Select) -> bool {
    matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.having.is_none()
}
