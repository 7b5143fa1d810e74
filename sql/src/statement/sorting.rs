//! `SELECT max(e.day) AS day FROM e ORDER BY e.day`: the planner carries the column along to sort by it, and
//! then has two of one name. The output travels under a private alias until the rows are sorted.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, OrderByKind, Query, SelectItem, SetExpr, TableFactor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::rewrite::{OutputNames, folded, named, private_alias};

/// Parts the names of outputs from those of columns to sort by, in a query and those within it.
pub(super) fn part_sort_keys(query: &mut Query, names: &mut OutputNames) {
    part(query, |shown| names.private(shown));
    part_inner_sort_keys(query);
}

/// The same within a query, as it stands inside another.
pub(super) fn part_inner_sort_keys(query: &mut Query) {
    struct Inner(usize);
    impl ast::VisitorMut for Inner {
        type Break = ();
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            let Some(shown) = outputs(query) else { return ControlFlow::Continue(()) };
            let parted = part(query, |shown| {
                self.0 += 1;
                private_alias(&format!("sorted_{}_{shown}", self.0))
            });
            if parted {
                show_as(query, &shown);
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Inner(0));
}

/// Renames outputs that have the name of a qualified column in ORDER BY. Whether there was any.
fn part(query: &mut Query, mut private: impl FnMut(String) -> String) -> bool {
    let Some(order) = &mut query.order_by else { return false };
    let OrderByKind::Expressions(keys) = &mut order.kind else { return false };
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let mut columns = HashSet::new();
    for key in keys.iter() {
        let _flow = ast::visit_expressions(&key.expr, |expr| {
            if let Expr::CompoundIdentifier(parts) = expr {
                columns.extend(parts.last().map(folded));
            }
            ControlFlow::<()>::Continue(())
        });
    }
    let mut any = false;
    let plain: HashSet<String> = keys.iter().filter_map(|key| plain_name(&key.expr)).collect();
    for item in &mut select.projection {
        let mut fresh = false;
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some(name) = unnamed(expr)
            && (columns.contains(&name) || plain.contains(&name))
        {
            let expr = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
            fresh = true;
        }
        let SelectItem::ExprWithAlias { alias, .. } = item else { continue };
        let shown = folded(alias);
        if !fresh && !columns.contains(&shown) {
            continue;
        }
        *alias = Ident::with_quote('"', private(shown.clone()));
        for key in keys.iter_mut() {
            if matches!(&key.expr, Expr::Identifier(name) if folded(name) == shown) {
                key.expr = Expr::Identifier(alias.clone());
            }
        }
        any = true;
    }
    any
}

fn plain_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        _ => None,
    }
}

/// The name of a computed output that was left without one, as a column of its name is used beside it.
fn unnamed(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => None,
        computed => named(computed),
    }
}

/// The names of a select's outputs, if all can be told.
pub(super) fn outputs(query: &Query) -> Option<Vec<Ident>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        SelectItem::UnnamedExpr(computed) => named(computed),
        _ => None,
    };
    select.projection.iter().map(|item| Some(Ident::with_quote('"', name(item)?))).collect()
}

/// Puts a query around one whose outputs were renamed, which gives them the names `shown`.
pub(super) fn show_as(query: &mut Query, shown: &[Ident]) {
    let Some(private) = outputs(query) else { return };
    let list: Vec<_> = private.iter().zip(shown).map(|(p, s)| format!("{p} AS {s}")).collect();
    let sql = format!("SELECT {} FROM (SELECT 1) AS \"otus_sorted\"", list.join(", "));
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql);
    let Ok(mut outer) = parser.and_then(|mut parser| parser.parse_query()) else { return };
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(table) = select.from.first_mut()
        && let TableFactor::Derived { subquery, .. } = &mut table.relation
    {
        std::mem::swap(subquery.as_mut(), query);
        std::mem::swap(query, &mut outer);
    }
}
