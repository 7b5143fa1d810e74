//! Arrays that are written as text, `'{a,"b c",NULL}'::text[]`, and those that a subquery makes, `ARRAY(SELECT …)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, DataType, Expr, FunctionArguments, GroupByExpr, Ident, OrderByKind,
    Query, SelectItem, SetExpr, Value,
};

use super::rewrite::{call, folded};
use super::rows::{cast, template};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::OR_EMPTY;

/// Spells arrays out, everywhere below a node.
pub(super) fn spelled_out(node: &mut impl ast::VisitMut) -> SqlResult<()> {
    struct Spelled;
    impl ast::VisitorMut for Spelled {
        type Break = SqlError;
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
            match spelled(expr) {
                Ok(None) => ControlFlow::Continue(()),
                Ok(Some(array)) => {
                    *expr = array;
                    ControlFlow::Continue(())
                }
                Err(e) => ControlFlow::Break(e),
            }
        }
    }
    match node.visit(&mut Spelled) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

fn spelled(expr: &Expr) -> SqlResult<Option<Expr>> {
    Ok(match expr {
        Expr::Cast { expr, data_type, .. } if element_type(data_type).is_some() => {
            match text_of(expr) {
                Some(text) => {
                    let list = parsed(text)?;
                    Some(cast(array(&list), of_depth(data_type, &list)))
                }
                None => None,
            }
        }
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("array") => {
            match &function.args {
                FunctionArguments::Subquery(query) => gathered(query),
                _ => None,
            }
        }
        _ => None,
    })
}

/// Arrays of columns and subqueries as calls of the function behind them: within brackets the planner sees nothing of the
/// query around, neither columns nor common tables.
pub(super) fn as_calls(query: &mut Query) {
    let _flow = ast::visit_expressions_mut(query, |expr| {
        let Expr::Array(array) = &mut *expr else { return ControlFlow::Continue(()) };
        let looks_around = ast::visit_expressions(&array.elem, |element| match element {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::Subquery(_)
            | Expr::Exists { .. }
            | Expr::InSubquery { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if looks_around.is_break() {
            *expr = call("make_array", std::mem::take(&mut array.elem));
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The type of an array's elements.
fn element_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, _) | ArrayElemTypeDef::AngleBracket(inner),
        ) => Some(inner),
        _ => None,
    }
}

/// The type of an array with as many dimensions as its text has: `int[]` is that of all of them.
fn of_depth(data_type: &DataType, list: &[Item]) -> DataType {
    match list.first() {
        Some(Item::List(inner)) => {
            let inner = Box::new(of_depth(data_type, inner));
            DataType::Array(ArrayElemTypeDef::SquareBracket(inner, None))
        }
        _ => data_type.clone(),
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        _ => None,
    }
}

/// The elements of an array that is written out.
pub(super) fn elements(expr: &Expr) -> SqlResult<Option<Vec<Expr>>> {
    Ok(match expr {
        Expr::Nested(inner) => elements(inner)?,
        Expr::Array(array) => Some(array.elem.clone()),
        Expr::Cast { expr, data_type, .. } => match (element_type(data_type), elements(expr)?) {
            (Some(of), Some(list)) => {
                Some(list.into_iter().map(|element| cast(element, of.clone())).collect())
            }
            _ => None,
        },
        other => match text_of(other) {
            Some(text) => Some(parsed(text)?.iter().map(unknown).collect()),
            None => None,
        },
    })
}

/// An element whose type is that of what it is compared with.
fn unknown(item: &Item) -> Expr {
    match item {
        Item::Text(text) if text.parse::<i64>().is_ok() => {
            Expr::Value(Value::Number(text.clone(), false).into())
        }
        other => element(other),
    }
}

fn element(item: &Item) -> Expr {
    match item {
        Item::Null => Expr::Value(Value::Null.into()),
        Item::Text(text) => Expr::Value(Value::SingleQuotedString(text.clone()).into()),
        Item::List(list) => array(list),
    }
}

fn array(list: &[Item]) -> Expr {
    let elem = list.iter().map(element).collect();
    Expr::Array(ast::Array { elem, named: false })
}

/// An element of an array that is written as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// `NULL`.
    Null,
    /// Anything else.
    Text(String),
    /// An array within.
    List(Vec<Item>),
}

/// The elements of `{…}`.
pub(crate) fn parsed(text: &str) -> SqlResult<Vec<Item>> {
    let malformed = || {
        let message = format!("malformed array literal: \"{text}\"");
        SqlError::new(sqlstate::INVALID_TEXT, message)
            .with_detail("an array is written as {a,b,\"c d\",NULL}")
    };
    let mut rest = text.trim();
    let list = list(&mut rest, 0).filter(|_| rest.trim().is_empty());
    list.ok_or_else(malformed)
}

/// Most dimensions of an array, as in Postgres.
const DIMENSIONS_MAX: usize = 6;

fn list(rest: &mut &str, depth: usize) -> Option<Vec<Item>> {
    let take = |rest: &mut &str, c: char| match rest.trim_start().strip_prefix(c) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    };
    if depth == DIMENSIONS_MAX || !take(rest, '{') {
        return None;
    }
    let mut items = Vec::new();
    if take(rest, '}') {
        return Some(items);
    }
    loop {
        let item = match rest.trim_start().chars().next()? {
            '{' => Item::List(list(rest, depth + 1)?),
            _ => one(rest)?,
        };
        items.push(item);
        if take(rest, '}') {
            return Some(items);
        }
        if !take(rest, ',') {
            return None;
        }
    }
}

/// An element in quotes, or up to what ends it.
fn one(rest: &mut &str) -> Option<Item> {
    let text = rest.trim_start();
    let (mut value, mut escaped) = (String::new(), false);
    if let Some(quoted) = text.strip_prefix('"') {
        for (at, c) in quoted.char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    *rest = quoted.get(at + 1..)?;
                    return Some(Item::Text(value));
                }
                c => value.push(c),
            }
        }
        return None;
    }
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            ',' | '}' => {
                *rest = text.get(at..)?;
                let value = value.trim_end();
                return match value {
                    "" => None,
                    null if null.eq_ignore_ascii_case("null") => Some(Item::Null),
                    other => Some(Item::Text(other.to_owned())),
                };
            }
            '{' | '"' => return None,
            c => value.push(c),
        }
    }
    None
}

/// `ARRAY(SELECT x FROM t ORDER BY k)`: `(SELECT array_agg(x ORDER BY k) FROM t)`, an empty array for no rows.
fn gathered(query: &Query) -> Option<Expr> {
    let mut query = query.clone();
    let mut keys = match query.order_by.as_ref().map(|order| &order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(keys)) => keys.clone(),
        Some(OrderByKind::All(_)) => return None,
    };
    let by_place = |key: &ast::OrderByExpr| matches!(&key.expr, Expr::Value(_));
    let simple = match query.body.as_ref() {
        SetExpr::Select(select) => {
            query.limit_clause.is_none()
                && query.fetch.is_none()
                && select.distinct.is_none()
                && select.having.is_none()
                && matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
                && !gives_rows(&select.projection)
                && !keys.iter().any(by_place)
        }
        _ => false,
    };
    let mut gathered = if simple {
        query.order_by = None;
        Box::new(query)
    } else {
        let names = keys_beside(&mut query, &mut keys);
        let outer = format!("SELECT otus_item FROM (SELECT 1) AS otus_items ({names})");
        let mut outer = template(&outer)?;
        let SetExpr::Select(select) = outer.body.as_mut() else { return None };
        let ast::TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation
        else {
            return None;
        };
        **subquery = query;
        outer
    };
    let SetExpr::Select(select) = gathered.body.as_mut() else { return None };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_mut_slice()
    else {
        return None;
    };
    let mut aggregate = call("array_agg", [item.clone()]);
    if let Expr::Function(function) = &mut aggregate
        && let FunctionArguments::List(list) = &mut function.args
        && !keys.is_empty()
    {
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(keys));
    }
    select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    Some(call(OR_EMPTY, [Expr::Subquery(gathered)]))
}

/// Gives a query what its rows are ordered by as further columns, and names the keys after them; the columns' names.
fn keys_beside(query: &mut Query, keys: &mut [ast::OrderByExpr]) -> String {
    const ITEM: &str = "otus_item";
    let mut names = vec![ITEM.to_owned()];
    let mut select = match query.body.as_mut() {
        SetExpr::Select(select) if select.distinct.is_none() => Some(select),
        _ => None,
    };
    for key in keys {
        let is_item = match (&key.expr, select.as_ref().map(|select| select.projection.as_slice()))
        {
            (Expr::Value(_), _) | (_, None) => true,
            (Expr::Identifier(name), Some([SelectItem::ExprWithAlias { alias, .. }, ..])) => {
                folded(name) == folded(alias)
            }
            (by, Some([SelectItem::UnnamedExpr(item), ..])) => by == item,
            _ => false,
        };
        let mut name = Ident::new(ITEM);
        if !is_item && let Some(select) = &mut select {
            name = Ident::new(format!("otus_key{}", names.len()));
            names.push(name.value.clone());
            let (expr, alias) = (key.expr.clone(), name.clone());
            select.projection.push(SelectItem::ExprWithAlias { expr, alias });
        }
        key.expr = Expr::Identifier(name);
    }
    names.join(", ")
}

/// Whether a select list has functions of several rows or aggregates, which one more aggregate cannot take.
fn gives_rows(list: &[SelectItem]) -> bool {
    let mut found = false;
    for item in list {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            return true;
        };
        let _flow = ast::visit_expressions(expr, |e| {
            found |= matches!(e, Expr::Function(_));
            ControlFlow::<()>::Continue(())
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn arrays_as_text() {
        assert_eq!(parsed("{}").unwrap(), []);
        assert_eq!(
            parsed(" {a, b c ,\"d,\\\"e\"} ").unwrap(),
            [text("a"), text("b c"), text("d,\"e")]
        );
        assert_eq!(parsed("{null,\"null\"}").unwrap(), [Item::Null, text("null")]);
        let nested = parsed("{{1,2},{3}}").unwrap();
        assert_eq!(nested, [Item::List(vec![text("1"), text("2")]), Item::List(vec![text("3")])]);
        for wrong in ["", "a", "{", "{a", "{a,}", "{a}b", "{\"a}", "{a{b}}"] {
            assert_eq!(parsed(wrong).unwrap_err().sqlstate, "22P02", "{wrong}");
        }
    }
}
