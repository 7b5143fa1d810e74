//! `SELECT unnest(t.tags) FROM t ORDER BY t.id`: the planner cannot carry a column that is not shown past a function that
//! gives several rows. Such keys are outputs of the query here, and of no query around it; elements of one row stay in
//! their order.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, LimitClause, OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr,
};

use super::rewrite::folded;
use super::series::{list_of_rows, place_of_row};
use super::sorting::{outputs, show_as};

/// Does so for a query and those within it.
pub(super) fn with_keys(query: &mut Query) {
    struct Each;
    impl ast::VisitorMut for Each {
        type Break = ();
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            carried(query);
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Each);
}

fn carried(query: &mut Query) {
    let Some(shown) = outputs(query) else { return };
    let (Some(order), SetExpr::Select(select)) = (&mut query.order_by, query.body.as_mut()) else {
        return;
    };
    let OrderByKind::Expressions(keys) = &mut order.kind else { return };
    let lists: Vec<Expr> = select.projection.iter().filter_map(list_of).collect();
    let limited_by = matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty());
    let any_rows = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => gives_rows(expr),
        _ => false,
    });
    if !any_rows || limited_by || !is_plain(select) {
        return;
    }
    let hidden = |key: &ast::OrderByExpr| match &key.expr {
        Expr::Value(_) => false,
        Expr::Identifier(name) => !shown.iter().any(|output| output.value == folded(name)),
        _ => true,
    };
    if !keys.iter().any(hidden) || keys.iter().any(|key| gives_rows(&key.expr)) {
        return;
    }
    for (at, key) in keys.iter_mut().filter(|key| hidden(key)).enumerate() {
        let alias = Ident::new(format!("otus_key{at}"));
        let expr = std::mem::replace(&mut key.expr, Expr::Identifier(alias.clone()));
        select.projection.push(SelectItem::ExprWithAlias { expr, alias });
    }
    if let [list] = lists.as_slice() {
        let alias = Ident::new("otus_place");
        let expr = place_of_row(list.clone());
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: alias.clone() });
        let options = OrderByOptions { asc: None, nulls_first: None };
        let expr = Expr::Identifier(alias);
        keys.push(ast::OrderByExpr { expr, options, with_fill: None });
    }
    show_as(query, &shown);
}

/// The list of whose elements an output gives rows.
fn list_of(item: &SelectItem) -> Option<Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            list_of_rows(expr)
        }
        _ => None,
    }
}

fn is_plain(select: &Select) -> bool {
    let ungrouped =
        matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty());
    ungrouped && select.distinct.is_none() && select.having.is_none()
}

fn gives_rows(expr: &Expr) -> bool {
    ast::visit_expressions(expr, |e| match list_of_rows(e) {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    })
    .is_break()
}
