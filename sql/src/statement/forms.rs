//! Clauses that the planner does not know, in those that it knows: `FETCH FIRST 3 ROWS ONLY` is `LIMIT 3`, and the numbers
//! in `ROLLUP (1, 2)` are what is selected there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, LimitClause, Query, Select, SelectItem, Value,
};

/// Rewrites all of a query and of those within it.
pub(super) fn known_forms(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Forms);
}

struct Forms;

impl ast::VisitorMut for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let Select { projection, group_by, .. } = select;
        if let GroupByExpr::Expressions(keys, _) = group_by {
            for key in keys {
                if let Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) = key {
                    for place in sets.iter_mut().flatten() {
                        if let Some(selected) = selected(place, projection) {
                            *place = selected;
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = &query.fetch else { return };
    if fetch.with_ties || fetch.percent {
        return;
    }
    let rows = fetch.quantity.clone();
    let rows = rows.unwrap_or_else(|| Expr::Value(Value::Number("1".into(), false).into()));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(rows),
                offset: None,
                limit_by: Vec::new(),
            });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return,
    }
    query.fetch = None;
}

/// What a number in a list of keys stands for.
fn selected(key: &Expr, projection: &[SelectItem]) -> Option<Expr> {
    let Expr::Value(value) = key else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    let place = number.to_string().parse::<usize>().ok()?.checked_sub(1)?;
    match projection.get(place)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            Some(expr.clone())
        }
        _ => None,
    }
}
