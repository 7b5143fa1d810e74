//! Numbers that are written in a statement have the types that they have in Postgres: `1` is an integer, `1.50` a numeric.
//! The planner has them as bigint and double precision; where their type shows, they are cast.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    Select, SelectItem, UnaryOperator, Value, Values,
};

use super::rows::cast;

/// Functions whose type is that of their arguments, or tells of it.
const ALIKE: [&str; 40] = [
    "abs",
    "array_agg",
    "avg",
    "ceil",
    "ceiling",
    "coalesce",
    "div",
    "first_value",
    "floor",
    "gcd",
    "generate_series",
    "greatest",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "lag",
    "last_value",
    "lcm",
    "lead",
    "least",
    "ln",
    "log",
    "log10",
    "max",
    "min",
    "min_scale",
    "mod",
    "nth_value",
    "nullif",
    "pg_typeof",
    "round",
    "scale",
    "sign",
    "sqrt",
    "sum",
    "to_json",
    "to_jsonb",
    "trim_scale",
    "trunc",
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

/// Those of them that count with their second argument: by how many digits a numeric has, the planner knows its type.
const OF_FIRST: [&str; 7] =
    ["first_value", "lag", "last_value", "lead", "nth_value", "round", "trunc"];

/// Digits of a numeric here.
const DIGITS_MAX: u64 = 38;

/// Casts the numbers of a query where their type shows.
pub(super) fn typed(query: &mut Query) {
    let _flow = ast::VisitMut::visit(query, &mut Typed);
}

/// The same for an expression.
pub(super) fn typed_within(expr: &mut Expr) {
    let _flow = ast::VisitMut::visit(expr, &mut Typed);
}

struct Typed;

impl ast::VisitorMut for Typed {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        values(&mut query.body);
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
            // A parameter beside a number is an integer as that is.
            Expr::BinaryOp { left, right, .. } if is_parameter(right) => number(left),
            Expr::BinaryOp { left, right, .. } if is_parameter(left) => number(right),
            Expr::InList { expr, list, .. } if list.iter().any(is_parameter) => number(expr),
            Expr::Between { expr, low, high, .. } if is_parameter(low) || is_parameter(high) => {
                number(expr);
            }
            Expr::Array(array) => array.elem.iter_mut().for_each(number),
            Expr::Ceil { expr, .. } | Expr::Floor { expr, .. } => number(expr),
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => number(expr),
            Expr::Case { conditions, else_result, .. } => {
                conditions.iter_mut().map(|when| &mut when.result).for_each(number);
                else_result.iter_mut().for_each(|other| number(other));
            }
            Expr::Function(function) => {
                let name = function.name.to_string().to_ascii_lowercase();
                if let FunctionArguments::List(list) = &mut function.args
                    && (ALIKE.contains(&name.as_str()) || OF_ARRAYS.contains(&name.as_str()))
                {
                    let typed = if OF_FIRST.contains(&name.as_str()) { 1 } else { usize::MAX };
                    for arg in list.args.iter_mut().take(typed) {
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

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(of) = power(expr)
            && of.is_numeric
            && let Some(data_type) = type_of_double(of.value)
        {
            *expr = cast(std::mem::replace(expr, Expr::Value(Value::Null.into())), data_type);
        }
        // `1.005::numeric(4,2)` is that of a numeric too. Not earlier: within it there is such a cast then.
        if let Expr::Cast { expr, data_type: DataType::Numeric(_) | DataType::Decimal(_), .. } =
            expr
            && fraction(expr)
        {
            number(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Casts the numbers of lists of values, which may be put to others: `VALUES (1) UNION ALL …`.
fn values(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::Values(Values { rows, .. }) => {
            rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(number);
        }
        ast::SetExpr::SetOperation { left, right, .. } => {
            values(left);
            values(right);
        }
        _ => {}
    }
}

/// What is computed of numbers that are written out.
struct Constant {
    value: f64,
    is_numeric: bool,
}

/// A power of such numbers: a numeric if one of them is. Of other numerics it is double precision, as nothing tells here how
/// many digits it has.
fn power(expr: &Expr) -> Option<Constant> {
    let (base, exponent) = match expr {
        Expr::BinaryOp { left, op: ast::BinaryOperator::PGExp, right } => {
            (constant(left)?, constant(right)?)
        }
        Expr::Function(function) => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let of = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => constant(expr),
                _ => None,
            };
            let name = function.name.to_string().to_ascii_lowercase();
            match (name.as_str(), list.args.as_slice()) {
                ("power" | "pow", [base, exponent]) => (of(base)?, of(exponent)?),
                ("exp", [exponent]) => {
                    let e = Constant { value: std::f64::consts::E, is_numeric: false };
                    (e, of(exponent)?)
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Constant {
        value: base.value.powf(exponent.value),
        is_numeric: base.is_numeric || exponent.is_numeric,
    })
}

fn constant(expr: &Expr) -> Option<Constant> {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => {
            constant(inner)
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
            constant(inner).map(|of| Constant { value: -of.value, ..of })
        }
        Expr::Value(value) => {
            let Value::Number(text, _) = &value.value else { return None };
            let is_numeric = text.parse::<i64>().is_err();
            Some(Constant { value: text.parse().ok()?, is_numeric })
        }
        _ => None,
    }
}

/// The numeric that has the digits of a double, as far as they go.
fn type_of_double(value: f64) -> Option<DataType> {
    if !value.is_finite() {
        return None;
    }
    let written = format!("{:e}", value.abs());
    let exponent: i64 = written.split_once('e')?.1.parse().ok()?;
    let most = i64::try_from(DIGITS_MAX).ok()?;
    let scale = (16 - exponent.min(0)).min(most - exponent.max(0) - 1);
    (scale >= 0).then_some(DataType::Numeric(ExactNumberInfo::PrecisionAndScale(DIGITS_MAX, scale)))
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

fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_parameter(inner),
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
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
    fn types_of_powers() {
        let check = |sql: &str, expected: &str| {
            let mut expr = super::super::expression(sql, &|_| false).unwrap();
            typed_within(&mut expr);
            assert_eq!(expr.to_string(), expected, "{sql}");
        };
        check("2.0 ^ 3", "CAST(2.0 ^ 3 AS NUMERIC(38,16))");
        check("power(10.0, 30)", "CAST(power(10.0, 30) AS NUMERIC(38,7))");
        check("exp(-20.0)", "CAST(exp(-20.0) AS NUMERIC(38,25))");
        check("power(10.0, 40)", "power(10.0, 40)");
        check("2 ^ 10", "2 ^ 10");
        check("exp(n)", "exp(n)");
    }

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
