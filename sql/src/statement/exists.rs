//! `SELECT EXISTS (…)`: the planner knows EXISTS in conditions alone. Elsewhere rows are counted.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr,
    UnaryOperator, Value,
};

use super::rows::{binary, template};

/// Puts counts in the place of EXISTS in the lists of results of a query and of those within it.
pub(super) fn counted(query: &mut Query) {
    struct Lists;
    impl ast::VisitorMut for Lists {
        type Break = ();
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                {
                    let _flow = ast::VisitMut::visit(expr, &mut Count { depth: 0 });
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Lists);
}

struct Count {
    depth: usize,
}

impl ast::VisitorMut for Count {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Exists { subquery, negated } = &*expr
            && self.depth == 0
            && let Some(counts) = counts(subquery)
        {
            let some = Expr::Subquery(counts);
            *expr = match negated {
                true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(some) },
                false => some,
            };
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT count(*) > 0` of the rows of a query.
fn counts(query: &Query) -> Option<Box<Query>> {
    let mut counted = template("SELECT count(*) FROM (SELECT 1) AS otus_rows")?;
    let SetExpr::Select(outer) = counted.body.as_mut() else { return None };
    let [SelectItem::UnnamedExpr(count)] = outer.projection.as_slice() else { return None };
    let zero = Expr::Value(Value::Number("0".into(), false).into());
    let expr = binary(count.clone(), &BinaryOperator::Gt, zero);
    let shown = vec![SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', "exists") }];
    if let SetExpr::Select(select) = query.body.as_ref()
        && is_plain(query, select)
    {
        let mut query = Box::new(query.clone());
        query.order_by = None;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection = shown;
        }
        return Some(query);
    }
    let ast::TableFactor::Derived { subquery, .. } = &mut outer.from.first_mut()?.relation else {
        return None;
    };
    **subquery = query.clone();
    outer.projection = shown;
    Some(counted)
}

/// Whether a select has a row for each row of its tables that its condition lets through.
fn is_plain(query: &Query, select: &Select) -> bool {
    let mut calls = false;
    for item in &select.projection {
        let _flow = ast::visit_expressions(item, |expr| {
            calls |= matches!(expr, Expr::Function(_));
            ControlFlow::<()>::Continue(())
        });
    }
    !calls
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.distinct.is_none()
        && select.having.is_none()
        && matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
}
