//! What `extract` gives is numeric, what `date_part` gives double precision. The planner has them as integers and
//! doubles, by which filters and rollups know them: they are cast only where their type shows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Distinct, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, UnaryOperator,
    Value,
};

use super::rows::cast;

/// Digits of a numeric here.
const DIGITS: u64 = 38;
/// Digits after the point of a quotient.
const QUOTIENT_SCALE: i64 = 16;
/// Functions whose value is of their argument's type.
const ALIKE: [&str; 6] = ["abs", "coalesce", "greatest", "least", "max", "min"];
/// Functions that give whole numbers of numerics.
const WHOLE: [&str; 4] = ["ceil", "ceiling", "floor", "sign"];

/// The type that an expression over parts has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A numeric with so many digits after the point.
    Exact(i64),
    Double,
}

/// Casts parts where a query shows them.
pub(super) fn typed(query: &mut Query) {
    struct Typed;
    impl ast::VisitorMut for Typed {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            let SetExpr::Select(select) = query.body.as_mut() else {
                return ControlFlow::Continue(());
            };
            let plain: Vec<Option<Expr>> = select.projection.iter_mut().map(cast_item).collect();
            let order = query.order_by.as_mut().map(|order| &mut order.kind);
            if let Some(OrderByKind::Expressions(keys)) = order
                && gathers(select)
            {
                keys.iter_mut().for_each(|key| by_place(&mut key.expr, &plain));
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr
                && function.name.to_string().eq_ignore_ascii_case("pg_typeof")
                && let FunctionArguments::List(list) = &mut function.args
                && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_mut_slice()
            {
                shown(of);
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Typed);
}

/// Casts a result of a select; gives what it was before if it is cast.
fn cast_item(item: &mut SelectItem) -> Option<Expr> {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
        return None;
    };
    let plain = expr.clone();
    shown(expr).then_some(plain)
}

/// Whether a select makes rows one, which are then sorted by its keys or results alone.
fn gathers(select: &Select) -> bool {
    let has_all = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let groups = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
    };
    !has_all && (groups || matches!(select.distinct, Some(Distinct::Distinct)))
}

/// A key to sort by that is a result which was cast: the place of that result.
fn by_place(key: &mut Expr, plain: &[Option<Expr>]) {
    let is_it = |expr: &Option<Expr>| expr.as_ref() == Some(&*key);
    if let Some(place) = plain.iter().position(is_it) {
        *key = Expr::Value(Value::Number((place + 1).to_string(), false).into());
    }
}

/// Casts an expression over parts; whether it is one.
fn shown(expr: &mut Expr) -> bool {
    let data_type = match part(expr) {
        Some(Part::Exact(scale)) => {
            DataType::Numeric(ExactNumberInfo::PrecisionAndScale(DIGITS, scale))
        }
        Some(Part::Double) => DataType::DoublePrecision,
        None => return false,
    };
    *expr = cast(expr.clone(), data_type);
    true
}

fn of_field(field: &str) -> Part {
    Part::Exact(match field.to_ascii_lowercase().trim_matches(['"', '\'']) {
        "second" | "seconds" | "epoch" => 6,
        "millisecond" | "milliseconds" => 3,
        "julian" => QUOTIENT_SCALE,
        _ => 0,
    })
}

/// The type of a computation with parts; none if it has none, or anything whose type is not known here.
fn part(expr: &Expr) -> Option<Part> {
    match expr {
        Expr::Nested(inner) => part(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => part(expr),
        Expr::Extract { field, .. } => Some(of_field(&field.to_string())),
        Expr::Floor { expr, .. } | Expr::Ceil { expr, .. } => part(expr).map(whole),
        Expr::BinaryOp { left, op, right } => {
            let sides = (part(left), part(right));
            let both = match sides {
                (None, None) => return None,
                (Some(a), Some(b)) => joined(a, b),
                (Some(a), None) => joined(a, number(right)?),
                (None, Some(b)) => joined(number(left)?, b),
            };
            match (op, both) {
                (BinaryOperator::Divide, Part::Exact(_)) => Some(Part::Exact(QUOTIENT_SCALE)),
                (
                    BinaryOperator::Plus
                    | BinaryOperator::Minus
                    | BinaryOperator::Multiply
                    | BinaryOperator::Divide
                    | BinaryOperator::Modulo,
                    both,
                ) => Some(both),
                _ => None,
            }
        }
        Expr::Function(function) => of_function(function),
        _ => None,
    }
}

fn of_function(function: &ast::Function) -> Option<Part> {
    let name = function.name.to_string().to_ascii_lowercase();
    if name == "date_part" {
        return Some(Part::Double);
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let first = part(args.next()??)?;
    let is_sum = matches!(name.as_str(), "sum" | "avg") && list.args.len() == 1;
    match name.as_str() {
        "sum" if is_sum => Some(first),
        "avg" if is_sum && first != Part::Double => Some(Part::Exact(QUOTIENT_SCALE)),
        "avg" if is_sum => Some(first),
        known if WHOLE.contains(&known) => Some(whole(first)),
        "round" | "trunc" if list.args.len() == 1 => Some(whole(first)),
        known if ALIKE.contains(&known) => args.try_fold(first, |all, arg| {
            let arg = arg?;
            Some(joined(all, part(arg).or_else(|| number(arg))?))
        }),
        _ => None,
    }
}

fn whole(part: Part) -> Part {
    match part {
        Part::Exact(_) => Part::Exact(0),
        Part::Double => Part::Double,
    }
}

fn joined(a: Part, b: Part) -> Part {
    match (a, b) {
        (Part::Exact(a), Part::Exact(b)) => Part::Exact((a + b).min(QUOTIENT_SCALE)),
        _ => Part::Double,
    }
}

/// A number that is written out.
fn number(expr: &Expr) -> Option<Part> {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
            number(inner)
        }
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) if !text.contains(['e', 'E']) => {
                let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                Some(Part::Exact(i64::try_from(places).ok()?))
            }
            Value::Null => Some(Part::Exact(0)),
            _ => None,
        },
        Expr::Cast { data_type, .. } => match data_type {
            DataType::DoublePrecision | DataType::Real | DataType::Float(_) => Some(Part::Double),
            DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) => Some(Part::Exact(0)),
            _ => None,
        },
        _ => None,
    }
}
