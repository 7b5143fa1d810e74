//! Comparisons that the planner does not know, or answers wrongly, in those that it knows: of rows, `(a, b) < (1, 2)`, with
//! the rows of a subquery, `x > ALL (SELECT …)`, and with the elements of an array that is written out.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    Query, SetExpr, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::arrays::elements;
use super::rewrite::call;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::HAS;

/// Rewrites all comparisons below a node.
pub(super) fn known_comparisons(node: &mut impl ast::VisitMut) -> SqlResult<()> {
    match node.visit(&mut Comparisons) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Comparisons;

impl ast::VisitorMut for Comparisons {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let Some(opposite) = opposite(expr) {
            *expr = opposite;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match known(expr) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(known)) => {
                *expr = known;
                ControlFlow::Continue(())
            }
            Err(e) => ControlFlow::Break(e),
        }
    }
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}

/// The operator that is true where this one is false.
fn contrary(op: &BinaryOperator) -> Option<BinaryOperator> {
    use BinaryOperator as B;
    Some(match op {
        B::Eq => B::NotEq,
        B::NotEq => B::Eq,
        B::Lt => B::GtEq,
        B::LtEq => B::Gt,
        B::Gt => B::LtEq,
        B::GtEq => B::Lt,
        _ => return None,
    })
}

/// `NOT (x > ALL (…))` is `x <= ANY (…)`, for nulls too.
fn opposite(expr: &Expr) -> Option<Expr> {
    let Expr::UnaryOp { op: UnaryOperator::Not, expr } = expr else { return None };
    match bare(expr) {
        Expr::AnyOp { left, compare_op, right, .. } => {
            let (left, right) = (left.clone(), right.clone());
            Some(Expr::AllOp { left, compare_op: contrary(compare_op)?, right })
        }
        Expr::AllOp { left, compare_op, right } => Some(Expr::AnyOp {
            left: left.clone(),
            compare_op: contrary(compare_op)?,
            right: right.clone(),
            is_some: false,
        }),
        _ => None,
    }
}

fn known(expr: &mut Expr) -> SqlResult<Option<Expr>> {
    Ok(match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => minus_first(expr),
        Expr::BinaryOp { left, op, right } => compared(left, op, right)?,
        Expr::IsNull(of) => {
            row(of).map(|row| all(row.into_iter().map(|e| Expr::IsNull(Box::new(e)))))
        }
        Expr::IsNotNull(of) => {
            row(of).map(|row| all(row.into_iter().map(|e| Expr::IsNotNull(Box::new(e)))))
        }
        Expr::IsDistinctFrom(left, right) => pairs(left, right)?
            .map(|pairs| any(pairs.map(|(l, r)| Expr::IsDistinctFrom(Box::new(l), Box::new(r))))),
        Expr::IsNotDistinctFrom(left, right) => pairs(left, right)?.map(|pairs| {
            all(pairs.map(|(l, r)| Expr::IsNotDistinctFrom(Box::new(l), Box::new(r))))
        }),
        Expr::Between { expr, negated, low, high } if row(expr).is_some() => {
            let low = compared(expr, &BinaryOperator::GtEq, low)?;
            let high = compared(expr, &BinaryOperator::LtEq, high)?;
            low.zip(high).map(|(low, high)| not_if(*negated, all([low, high])))
        }
        Expr::InList { expr, list, negated } => in_list(expr, list, *negated)?,
        Expr::InSubquery { expr, subquery, negated } => in_subquery(expr, subquery, *negated)?,
        Expr::AnyOp { left, compare_op, right, .. } => quantified(left, compare_op, right, true)?,
        Expr::AllOp { left, compare_op, right } => quantified(left, compare_op, right, false)?,
        Expr::Like { negated, any: true, expr, pattern, escape_char } => {
            let like = |pattern: Expr| Expr::Like {
                negated: *negated,
                any: false,
                expr: expr.clone(),
                pattern: Box::new(pattern),
                escape_char: escape_char.clone(),
            };
            elements(pattern)?.map(|list| any(list.into_iter().map(like)))
        }
        Expr::ILike { negated, any: true, expr, pattern, escape_char } => {
            let like = |pattern: Expr| Expr::ILike {
                negated: *negated,
                any: false,
                expr: expr.clone(),
                pattern: Box::new(pattern),
                escape_char: escape_char.clone(),
            };
            elements(pattern)?.map(|list| any(list.into_iter().map(like)))
        }
        _ => None,
    })
}

/// `-2 ^ 2` is `(-2) ^ 2`: the sign binds more tightly.
fn minus_first(of: &Expr) -> Option<Expr> {
    let Expr::BinaryOp { left, op: BinaryOperator::PGExp, right } = of else { return None };
    let negative = minus_first(left)
        .unwrap_or_else(|| Expr::UnaryOp { op: UnaryOperator::Minus, expr: left.clone() });
    let left = Box::new(Expr::Nested(Box::new(negative)));
    Some(Expr::BinaryOp { left, op: BinaryOperator::PGExp, right: right.clone() })
}

/// The columns of a row that is written out.
fn row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(columns) => Some(columns.clone()),
        Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &call.args else { return None };
            let column = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            list.args.iter().map(column).collect()
        }
        _ => None,
    }
}

fn pairs(
    left: &Expr,
    right: &Expr,
) -> SqlResult<Option<impl Iterator<Item = (Expr, Expr)> + use<>>> {
    let (Some(left), Some(right)) = (row(left), row(right)) else { return Ok(None) };
    if left.len() != right.len() {
        let message = "unequal number of entries in row expressions";
        return Err(SqlError::new(sqlstate::SYNTAX, message));
    }
    Ok(Some(left.into_iter().zip(right)))
}

fn compared(left: &Expr, op: &BinaryOperator, right: &Expr) -> SqlResult<Option<Expr>> {
    use BinaryOperator as B;
    if is_any_text(op, right) {
        // The planner would have null as false.
        let pattern = Expr::Value(Value::SingleQuotedString("^".into()).into());
        return Ok(Some(binary(left.clone(), op, pattern)));
    }
    if !matches!(op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq) {
        return Ok(None);
    }
    let Some(pairs) = pairs(left, right)? else { return Ok(None) };
    Ok(Some(match op {
        B::Eq => all(pairs.map(|(l, r)| binary(l, &B::Eq, r))),
        B::NotEq => any(pairs.map(|(l, r)| binary(l, &B::NotEq, r))),
        _ => {
            let strict = match op {
                B::LtEq => B::Lt,
                B::GtEq => B::Gt,
                other => other.clone(),
            };
            let mut pairs: Vec<_> = pairs.collect();
            let Some((l, r)) = pairs.pop() else { return Ok(None) };
            pairs.into_iter().rfold(binary(l, op, r), |after, (l, r)| {
                let same = binary(l.clone(), &B::Eq, r.clone());
                any([binary(l, &strict, r), all([same, after])])
            })
        }
    }))
}

fn is_any_text(op: &BinaryOperator, pattern: &Expr) -> bool {
    use BinaryOperator as B;
    let matches =
        matches!(op, B::PGRegexMatch | B::PGRegexIMatch | B::PGRegexNotMatch | B::PGRegexNotIMatch);
    let Expr::Value(value) = pattern else { return false };
    matches && matches!(&value.value, Value::SingleQuotedString(text) if text == ".*")
}

fn in_list(expr: &Expr, list: &[Expr], negated: bool) -> SqlResult<Option<Expr>> {
    if row(expr).is_none() {
        return Ok(None);
    }
    let mut same = Vec::with_capacity(list.len());
    for other in list {
        match compared(expr, &BinaryOperator::Eq, other)? {
            Some(equal) => same.push(equal),
            None => return Ok(None),
        }
    }
    Ok(Some(not_if(negated, any(same))))
}

fn in_subquery(expr: &Expr, subquery: &Query, negated: bool) -> SqlResult<Option<Expr>> {
    if let SetExpr::Values(values) = subquery.body.as_ref() {
        let listed = |row: &ast::Parens<Vec<Expr>>| match row.content.as_slice() {
            [one] => one.clone(),
            several => Expr::Tuple(several.to_vec()),
        };
        let list: Vec<Expr> = values.rows.iter().map(listed).collect();
        let known = in_list(expr, &list, negated)?;
        let plain = Expr::InList { expr: Box::new(expr.clone()), list, negated };
        return Ok(Some(known.unwrap_or(plain)));
    }
    let Some(columns) = row(expr) else {
        return Ok(if negated && is_constant(expr) { absent(expr, subquery) } else { None });
    };
    let names: Vec<Ident> = (0..columns.len()).map(|i| inner_name(&i.to_string())).collect();
    let same = names
        .iter()
        .zip(columns)
        .map(|(name, column)| binary(Expr::Identifier(name.clone()), &BinaryOperator::Eq, column));
    let same = all(same);
    // A row that may be the same, as far as nulls tell, makes NOT IN unknown.
    let same = match negated {
        true => Expr::IsNotFalse(Box::new(same)),
        false => same,
    };
    Ok(exists(subquery, &names, same, negated))
}

/// Whether it is the same for all rows.
fn is_constant(expr: &Expr) -> bool {
    let varies = ast::visit_expressions(expr, |e| match e {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    varies.is_continue()
}

/// `c NOT IN (query)` of a constant: the planner knows what nulls in the query mean for columns only.
fn absent(of: &Expr, query: &Query) -> Option<Expr> {
    let sql = "SELECT CASE WHEN count(*) = 0 THEN true WHEN bool_or(1 = otus_row_0) THEN false \
               WHEN 1 IS NULL OR count(otus_row_0) < count(*) THEN NULL ELSE true END \
               FROM (SELECT 1) AS otus_rows (otus_row_0)";
    let mut outer = template(sql)?;
    let SetExpr::Select(select) = outer.body.as_mut() else { return None };
    let ast::TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else {
        return None;
    };
    **subquery = query.clone();
    let [ast::SelectItem::UnnamedExpr(Expr::Case { conditions, .. })] =
        select.projection.as_mut_slice()
    else {
        return None;
    };
    let place = ast::visit_expressions_mut(conditions, |e| {
        let stands_for_it = match e {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right }
                if matches!(**right, Expr::Identifier(_)) =>
            {
                Some(left)
            }
            Expr::IsNull(inner) => Some(inner),
            _ => None,
        };
        if let Some(place) = stands_for_it {
            **place = of.clone();
        }
        ControlFlow::<()>::Continue(())
    });
    place.is_continue().then_some(Expr::Subquery(outer))
}

/// `x op ANY (…)` or `x op ALL (…)`.
fn quantified(
    left: &Expr,
    op: &BinaryOperator,
    right: &Expr,
    is_any: bool,
) -> SqlResult<Option<Expr>> {
    use BinaryOperator as B;
    let in_place_of = matches!((op, is_any), (B::Eq, true) | (B::NotEq, false));
    if let Expr::Subquery(query) = right {
        if in_place_of {
            let known = in_subquery(left, query, !is_any)?;
            let (expr, subquery) = (Box::new(left.clone()), query.clone());
            return Ok(Some(known.unwrap_or(Expr::InSubquery {
                expr,
                subquery,
                negated: !is_any,
            })));
        }
        let name = inner_name("0");
        let held = binary(left.clone(), op, Expr::Identifier(name.clone()));
        let held = if is_any { held } else { Expr::IsNotTrue(Box::new(held)) };
        return Ok(exists(query, &[name], held, !is_any));
    }
    let Some(list) = elements(right)? else {
        let has = || call(HAS, [right.clone(), left.clone()]);
        return Ok((is_any && *op == B::Eq).then(has));
    };
    if in_place_of && !list.is_empty() {
        return Ok(Some(Expr::InList { expr: Box::new(left.clone()), list, negated: !is_any }));
    }
    let each = list.into_iter().map(|element| binary(left.clone(), op, element));
    Ok(Some(if is_any { any(each) } else { all(each) }))
}

fn inner_name(name: &str) -> Ident {
    Ident::with_quote('"', format!("otus_row_{name}"))
}

/// `[NOT] EXISTS (SELECT 1 FROM (query) AS otus_rows (names) WHERE condition)`.
fn exists(query: &Query, names: &[Ident], condition: Expr, negated: bool) -> Option<Expr> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let sql = format!("SELECT 1 FROM (SELECT 1) AS otus_rows ({}) WHERE true", names.join(", "));
    let mut outer = template(&sql)?;
    let SetExpr::Select(select) = outer.body.as_mut() else { return None };
    let ast::TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else {
        return None;
    };
    **subquery = query.clone();
    select.selection = Some(condition);
    Some(Expr::Exists { subquery: outer, negated })
}

/// A query of our own, parsed.
pub(super) fn template(sql: &str) -> Option<Box<Query>> {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql);
    parser.and_then(|mut parser| parser.parse_query()).ok()
}

pub(super) fn binary(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) }
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) },
        false => expr,
    }
}

fn joined(list: impl IntoIterator<Item = Expr>, op: &BinaryOperator, of_none: bool) -> Expr {
    let joined = list.into_iter().reduce(|left, right| binary(left, op, right));
    let joined = joined.unwrap_or_else(|| Expr::Value(Value::Boolean(of_none).into()));
    Expr::Nested(Box::new(joined))
}

fn all(list: impl IntoIterator<Item = Expr>) -> Expr {
    joined(list, &BinaryOperator::And, true)
}

fn any(list: impl IntoIterator<Item = Expr>) -> Expr {
    joined(list, &BinaryOperator::Or, false)
}

/// A value cast to a type, as a statement would write it.
pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}
