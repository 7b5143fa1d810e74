//! `SELECT sum(x), sum(x::bigint)`: the planner names an expression without its casts, and refuses two calls
//! or keys of one name in an aggregate. Casts that make the difference are put into a function that gives its
//! first argument, and has a name with the type in it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
};

use super::rewrite::call;
use crate::lossy::OPAQUE;

/// Names casts where leaving them out would make two expressions one.
pub(super) fn name_casts(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Selects);
}

struct Selects;

impl ast::VisitorMut for Selects {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        if !is_ambiguous(select) {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                wrap(expr);
            }
        }
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            keys.iter_mut().for_each(wrap);
        }
        select.having.iter_mut().for_each(wrap);
        if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|o| &mut o.kind) {
            keys.iter_mut().for_each(|key| wrap(&mut key.expr));
        }
        ControlFlow::Continue(())
    }
}

/// Whether two keys or calls differ in their casts alone.
fn is_ambiguous(select: &Select) -> bool {
    let mut found = Found::default();
    let has_keys = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => {
            keys.iter().for_each(|key| found.add(key));
            !keys.is_empty()
        }
    };
    for item in &select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            // A key may be named by its number.
            if has_keys {
                found.add(expr);
            }
            let _flow = ast::Visit::visit(expr, &mut found);
        }
    }
    if let Some(having) = &select.having {
        let _flow = ast::Visit::visit(having, &mut found);
    }
    found.ambiguous
}

/// Expressions by what they are without casts.
#[derive(Default)]
struct Found {
    known: HashMap<String, String>,
    ambiguous: bool,
}

impl Found {
    fn add(&mut self, expr: &Expr) {
        // Parentheses make no difference, and two expressions that they alone keep apart do no harm as one.
        let (mut bare, mut whole) = (expr.clone(), expr.clone());
        let _flow = ast::VisitMut::visit(&mut bare, &mut Strip { casts: true });
        let _flow = ast::VisitMut::visit(&mut whole, &mut Strip { casts: false });
        let whole = whole.to_string();
        let known = self.known.entry(bare.to_string()).or_insert_with(|| whole.clone());
        self.ambiguous |= *known != whole;
    }
}

impl ast::Visitor for Found {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Function(_)) {
            self.add(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Leaves out parentheses, and casts.
struct Strip {
    casts: bool,
}

impl ast::VisitorMut for Strip {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let inner = match &*expr {
            Expr::Nested(inner) => Some(inner.as_ref()),
            other if self.casts => of_cast(other),
            _ => None,
        };
        if let Some(inner) = inner.cloned() {
            *expr = inner;
        }
        ControlFlow::Continue(())
    }
}

/// What is cast, if it is no constant.
fn of_cast(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Cast { expr, .. } if !matches!(expr.as_ref(), Expr::Value(_)) => Some(expr),
        _ => None,
    }
}

fn wrap(expr: &mut Expr) {
    struct Wrap;
    impl ast::VisitorMut for Wrap {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if of_cast(expr).is_some() {
                let cast = std::mem::replace(expr, Expr::Value(ast::Value::Null.into()));
                let to = match &cast {
                    Expr::Cast { data_type, .. } => data_type.to_string(),
                    _ => String::new(),
                };
                let name = Expr::Value(ast::Value::SingleQuotedString(to).into());
                *expr = call(OPAQUE, [cast, name]);
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(expr, &mut Wrap);
}
