//! Numbers that are written in a statement have the types that they have in Postgres: `1` is an integer, `1.50` a numeric.
//! The planner has them as bigint and double precision; where their type shows, they are cast.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    Select, SelectItem, UnaryOperator, Value, Values,
};

use super::rows::cast;

/// Functions whose type is that of their arguments, or tells of it.
const ALIKE: [&str; 19] = [
    "abs",
    "ceil",
    "ceiling",
    "coalesce",
    "div",
    "floor",
    "generate_series",
    "greatest",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "least",
    "min_scale",
    "nullif",
    "pg_typeof",
    "round",
    "to_json",
    "to_jsonb",
];

/// Functions over arrays, whose elements are integers if they are written so.
const OF_ARRAYS: [&str; 7] = [
    "array_append",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove_all",
    "array_repeat",
    "array_replace_all",
];

/// Those of them whose arguments are typed if all are constant.
const OF_CONSTANTS: [&str; 6] = ["abs", "ceil", "ceiling", "coalesce", "floor", "round"];

/// Digits of a numeric here.
const DIGITS_MAX: u64 = 38;

/// Casts the numbers of a query where their type shows.
pub(super) fn typed(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Typed);
}

struct Typed;

impl ast::VisitorMut for Typed {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let ast::SetExpr::Values(Values { rows, .. }) = query.body.as_mut() {
            rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(number);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                number(expr);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // `2.5::int` is that of a numeric, which is rounded away from zero.
            Expr::Cast {
                expr,
                data_type:
                    DataType::Int(_)
                    | DataType::Integer(_)
                    | DataType::Int4(_)
                    | DataType::BigInt(_)
                    | DataType::Int8(_)
                    | DataType::SmallInt(_)
                    | DataType::Int2(_)
                    | DataType::Text,
                ..
            } if fraction(expr) => number(expr),
            Expr::BinaryOp { left, op: ast::BinaryOperator::StringConcat, right } => {
                let is_array = |e: &Expr| matches!(e, Expr::Array(_));
                if is_array(left) || is_array(right) {
                    number(left);
                    number(right);
                }
            }
            Expr::Array(array) => array.elem.iter_mut().for_each(number),
            Expr::Function(function) => {
                let name = function.name.to_string().to_ascii_lowercase();
                if let FunctionArguments::List(list) = &mut function.args
                    && (ALIKE.contains(&name.as_str()) || OF_ARRAYS.contains(&name.as_str()))
                    // A rollup answers coalesce(x, 0) or round(x, 2) by a state, which a cast here would not be of.
                    && (!OF_CONSTANTS.contains(&name.as_str()) || list.args.iter().all(is_constant))
                {
                    for arg in &mut list.args {
                        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
                            number(expr);
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_constant(arg: &FunctionArg) -> bool {
    fn is_value(expr: &Expr) -> bool {
        match expr {
            Expr::Value(_) => true,
            Expr::Nested(inner)
            | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => {
                is_value(inner)
            }
            _ => false,
        }
    }
    matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_value(expr))
}

/// Whether an expression is a number that is written with a point.
fn fraction(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
            fraction(inner)
        }
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(text, _) if text.contains('.'))
        }
        _ => false,
    }
}

fn number(expr: &mut Expr) {
    match expr {
        Expr::Nested(inner) => return number(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            return number(expr);
        }
        _ => {}
    }
    let Expr::Value(value) = &*expr else { return };
    let Value::Number(text, _) = &value.value else { return };
    if let Some(data_type) = type_of(text) {
        *expr = cast(expr.clone(), data_type);
    }
}

/// The type of a number that is written out, if the planner would have another.
fn type_of(text: &str) -> Option<DataType> {
    if text.parse::<i32>().is_ok() {
        return Some(DataType::Int(None));
    }
    if text.parse::<i64>().is_ok() {
        return None;
    }
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let places = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let before = i64::try_from(whole.len()).ok()?.checked_add(exponent)?.max(0);
    let scale = places.max(0);
    let precision = u64::try_from(before.checked_add(scale)?).ok()?.max(1);
    (precision <= DIGITS_MAX)
        .then_some(DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_numbers() {
        let check = |text: &str, expected: Option<&str>| {
            let found = type_of(text).map(|t| t.to_string().to_lowercase());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("1", Some("int"));
        check("2147483648", None);
        check("9223372036854775808", Some("numeric(19,0)"));
        check("1.50", Some("numeric(3,2)"));
        check(".5", Some("numeric(1,1)"));
        check("1e3", Some("numeric(4,0)"));
        check("1.5e-3", Some("numeric(4,4)"));
        check("1e400", None);
    }
}
