//! Clauses that the planner does not know, in those that it knows: `FETCH FIRST 3 ROWS ONLY` is `LIMIT 3`, and the numbers
//! in `ROLLUP (1, 2)` are what is selected there.

use std::num::IntErrorKind;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, DataType, Distinct, Expr, GroupByExpr, LimitClause, Query,
    Select, SelectItem, Subscript, UnaryOperator, Value, Values,
};

use super::rows::{binary, cast, template};
use super::words::take_symmetric;
use crate::error::{SqlError, SqlResult, sqlstate};

/// Rewrites all of a query and of those within it.
pub(super) fn known_forms(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Forms);
}

/// Text after LIMIT and OFFSET is read as the number that it spells, `LIMIT '2'`.
pub(super) fn counts_of_text(query: &mut Query) -> SqlResult<()> {
    match ast::VisitMut::visit(query, &mut Counts) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Counts;

impl ast::VisitorMut for Counts {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            let offset = offset.as_mut().map(|offset| &mut offset.value);
            for count in limit.iter_mut().chain(offset) {
                if let Err(e) = count_of_text(count) {
                    return ControlFlow::Break(e);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn count_of_text(expr: &mut Expr) -> SqlResult<()> {
    let Expr::Value(value) = expr else { return Ok(()) };
    let Value::SingleQuotedString(text) = &value.value else { return Ok(()) };
    let count = text.trim().parse::<i64>().map_err(|e| match e.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => SqlError::new(
            sqlstate::OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type bigint"),
        ),
        _ => SqlError::new(
            sqlstate::INVALID_TEXT,
            format!("invalid input syntax for type bigint: \"{text}\""),
        ),
    })?;
    let number = Value::Number(count.unsigned_abs().to_string(), false);
    let number = Expr::Value(number.into());
    *expr = match count < 0 {
        true => Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) },
        false => number,
    };
    Ok(())
}

/// `x BETWEEN SYMMETRIC a AND b` is between them in either order.
pub(super) fn in_either_order(query: &mut Query) {
    let _flow = ast::visit_expressions_mut(query, |expr| {
        let Expr::Between { expr: of, negated, low, high } = expr else {
            return ControlFlow::Continue(());
        };
        if take_symmetric(low) {
            let between = |low: &Expr, high: &Expr| Expr::Between {
                expr: of.clone(),
                negated: *negated,
                low: Box::new(low.clone()),
                high: Box::new(high.clone()),
            };
            let op = if *negated { BinaryOperator::And } else { BinaryOperator::Or };
            let either = binary(between(low, high), &op, between(high, low));
            *expr = Expr::Nested(Box::new(either));
        }
        ControlFlow::<()>::Continue(())
    });
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
        one_group(select);
        let Select { projection, group_by, distinct, .. } = select;
        if let Some(Distinct::On(keys)) = distinct {
            for key in keys {
                if let Some(selected) = selected(key, projection) {
                    *key = selected;
                }
            }
        }
        if let GroupByExpr::Expressions(keys, _) = group_by {
            // The empty set of keys, beside others, adds none.
            let is_empty = |key: &Expr| matches!(key, Expr::Tuple(list) if list.is_empty());
            if keys.iter().any(|key| !is_empty(key)) {
                keys.retain(|key| !is_empty(key));
            }
            for key in keys {
                if is_empty(key) {
                    *key = Expr::GroupingSets(vec![Vec::new()]);
                }
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

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
            access_chain.iter_mut().for_each(with_bounds);
        }
        ControlFlow::Continue(())
    }
}

/// `a[:2]` and `a[2:]` with both bounds. Places before the first have no elements.
fn with_bounds(access: &mut AccessExpr) {
    let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) = access
    else {
        return;
    };
    let number = |number: i32| Expr::Value(Value::Number(number.to_string(), false).into());
    if upper_bound.as_ref().is_some_and(is_before_first) {
        (*lower_bound, *upper_bound) = (Some(number(2)), Some(number(1)));
    }
    if lower_bound.as_ref().is_none_or(is_before_first) {
        *lower_bound = Some(number(1));
    }
    upper_bound.get_or_insert_with(|| number(i32::MAX));
}

/// Whether a place is written as a number below one, which the planner would count from the end.
fn is_before_first(place: &Expr) -> bool {
    match place {
        Expr::UnaryOp { op: UnaryOperator::Minus, .. } => true,
        Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits == "0"),
        _ => false,
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

/// `SELECT 1 HAVING false` is of one group though nothing in it says so.
fn one_group(select: &mut Select) {
    let Select { having: Some(having), group_by, .. } = select else { return };
    let has_keys = match &*group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() || !modifiers.is_empty(),
    };
    let calls = ast::visit_expressions(&*having, |expr| match expr {
        Expr::Function(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if has_keys || calls.is_break() {
        return;
    }
    let Some(SelectItem::UnnamedExpr(some)) = template("SELECT count(*) >= 0").and_then(first_item)
    else {
        return;
    };
    let given = std::mem::replace(having, some);
    let some = std::mem::replace(having, Expr::Value(Value::Null.into()));
    *having = binary(Expr::Nested(Box::new(given)), &BinaryOperator::And, some);
}

fn first_item(query: Box<Query>) -> Option<SelectItem> {
    match *query.body {
        ast::SetExpr::Select(select) => select.projection.into_iter().next(),
        _ => None,
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
pub(super) fn selected(key: &Expr, projection: &[SelectItem]) -> Option<Expr> {
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
