//! What counts rows that are the same. `EXCEPT ALL` and `INTERSECT ALL` take each row as often as both sides have it: rows
//! that are the same get numbers. `FETCH FIRST 3 ROWS WITH TIES` gives those that sort like the third too.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, LimitClause, OrderByKind, Query, SelectItem, SetExpr, SetOperator,
    SetQuantifier, TableFactor, Value, WindowType,
};

use super::forms::selected;
use super::rewrite::{folded, output_names};
use super::rows::template;

/// Rewrites all of a query and of those within it.
pub(super) fn numbered(query: &mut Query) {
    struct Sets;
    impl ast::VisitorMut for Sets {
        type Break = ();
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            with_ties(query);
            within(&mut query.body);
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Sets);
}

fn within(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    within(left);
    within(right);
    let counts = *set_quantifier == SetQuantifier::All;
    if counts
        && matches!(op, SetOperator::Except | SetOperator::Intersect)
        && let Some(once) = over_numbers(*op, left, right)
    {
        *body = *once.body;
    }
}

/// The operation over rows with numbers, of which each is there once. None if the columns of the left side cannot be told.
fn over_numbers(op: SetOperator, left: &SetExpr, right: &SetExpr) -> Option<Box<Query>> {
    let names = output_names(left)?;
    let columns: Vec<String> = (0..names.len()).map(|at| format!("otus_{at}")).collect();
    let list = columns.join(", ");
    let side = |name: &str| {
        format!(
            "SELECT {list}, row_number() OVER (PARTITION BY {list}) AS otus_number \
             FROM (SELECT 1) AS {name} ({list})"
        )
    };
    let shown = columns.iter().zip(&names);
    let shown = shown.map(|(column, name)| format!("{column} AS {}", Ident::with_quote('"', name)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    let (one, other) = (side("otus_left"), side("otus_right"));
    let sql = format!("SELECT {shown} FROM ({one} {op} {other}) AS otus_rows");
    let mut query = template(&sql)?;
    let SetExpr::SetOperation { left: one, right: other, .. } =
        derived(&mut query.body)?.body.as_mut()
    else {
        return None;
    };
    *derived(one)?.body = left.clone();
    *derived(other)?.body = right.clone();
    Some(query)
}

/// The first query in FROM.
fn derived(body: &mut SetExpr) -> Option<&mut Query> {
    let SetExpr::Select(select) = body else { return None };
    match &mut select.from.first_mut()?.relation {
        TableFactor::Derived { subquery, .. } => Some(subquery),
        _ => None,
    }
}

/// `FETCH FIRST 3 ROWS WITH TIES` as a condition on ranks.
fn with_ties(query: &mut Query) {
    if query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties && !fetch.percent)
        && let Some(condition) = of_ranks(query)
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.qualify = Some(condition);
        query.fetch = None;
        query.limit_clause = None;
    }
}

fn of_ranks(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let OrderByKind::Expressions(keys) = &query.order_by.as_ref()?.kind else { return None };
    if select.distinct.is_some() || select.qualify.is_some() {
        return None;
    }
    let one = Expr::Value(Value::Number("1".into(), false).into());
    let rows = query.fetch.as_ref()?.quantity.clone().unwrap_or(one);
    let skipped = match &query.limit_clause {
        None => None,
        Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) if limit_by.is_empty() => {
            offset.as_ref().map(|offset| offset.value.clone())
        }
        Some(_) => return None,
    };
    let mut keys = keys.clone();
    for key in &mut keys {
        let named = |item: &SelectItem| match (&key.expr, item) {
            (Expr::Identifier(name), SelectItem::ExprWithAlias { expr, alias }) => {
                (folded(alias) == folded(name)).then(|| expr.clone())
            }
            _ => None,
        };
        let shown = select.projection.iter().find_map(named);
        if let Some(shown) = shown.or_else(|| selected(&key.expr, &select.projection)) {
            key.expr = shown;
        }
    }
    let text = match &skipped {
        None => format!("rank() OVER (ORDER BY 1) <= ({rows})"),
        Some(skipped) => format!(
            "rank() OVER (ORDER BY 1) <= ({rows}) + ({skipped}) \
             AND row_number() OVER (ORDER BY 1) > ({skipped})"
        ),
    };
    let mut query = template(&format!("SELECT {text}"))?;
    let SetExpr::Select(outer) = query.body.as_mut() else { return None };
    let SelectItem::UnnamedExpr(condition) = outer.projection.pop()? else { return None };
    let mut condition = condition;
    let _flow = ast::visit_expressions_mut(&mut condition, |expr| {
        if let Expr::Function(call) = expr
            && let Some(WindowType::WindowSpec(window)) = &mut call.over
        {
            window.order_by.clone_from(&keys);
        }
        ControlFlow::<()>::Continue(())
    });
    Some(condition)
}
