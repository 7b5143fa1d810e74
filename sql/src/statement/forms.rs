//! Clauses that the planner does not know, in those that it knows: `FETCH FIRST 3 ROWS ONLY` is `LIMIT 3`, and the numbers
//! in `ROLLUP (1, 2)` are what is selected there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, DataType, Expr, GroupByExpr, LimitClause, Query, Select, SelectItem, Value, Values,
};

use super::rows::cast;

/// Rewrites all of a query and of those within it.
pub(super) fn known_forms(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Forms);
}

struct Forms;

impl ast::VisitorMut for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        if let ast::SetExpr::Values(Values { rows, .. }) = query.body.as_mut() {
            let width = rows.first().map_or(0, |row| row.content.len());
            (0..width).for_each(|at| texts_as_one_type(rows, at));
        }
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

/// Texts in a column of VALUES have the type that another of its rows is cast to.
fn texts_as_one_type(rows: &mut [ast::Parens<Vec<Expr>>], at: usize) {
    let cast_to = rows.iter().find_map(|row| match row.content.get(at)? {
        Expr::Cast { data_type, .. } => match data_type {
            DataType::Uuid | DataType::JSON | DataType::JSONB => Some(data_type.clone()),
            _ => None,
        },
        _ => None,
    });
    let Some(data_type) = cast_to else { return };
    for expr in rows.iter_mut().filter_map(|row| row.content.get_mut(at)) {
        let is_text = matches!(expr, Expr::Value(v)
            if matches!(v.value, Value::SingleQuotedString(_) | Value::Null));
        if is_text {
            *expr = cast(expr.clone(), data_type.clone());
        }
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
