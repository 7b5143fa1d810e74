//! Times, dates and intervals that are written in a statement, in spellings that the planner reads; and forms over times
//! that it does not have.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, DateTimeField, Expr, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Interval, IntervalFields, Query, TimezoneInfo,
    UnaryOperator, Value,
};

use super::rewrite::call;
use crate::datetime::{Field, Moment, Named, Written, date_and_time, interval};
use crate::function::zoned_us;

/// Arguments of `make_interval` in their order.
const SPAN_ARGUMENTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Spells an interval with words, or a time as ISO 8601 has it.
pub(super) fn spell(expr: &mut Expr) {
    match expr {
        Expr::Interval(interval) => interval_in_words(interval),
        // The planner would take the sign for that of the first word.
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(**expr, Expr::Interval(_)) => {
            **expr = Expr::Nested(expr.clone());
        }
        Expr::Cast { expr, data_type: DataType::Interval { fields, precision }, .. } => {
            let range = fields.as_ref().map(range_of);
            if let Some(text) = text_of(expr)
                && let Some(span) = interval(text, range)
            {
                *text = span.in_words();
                (*fields, *precision) = (None, None);
            }
        }
        Expr::Cast { expr, data_type, .. } => {
            if let Some(text) = text_of(expr)
                && let Some(spelled) = time_in_iso(text, data_type)
            {
                *text = spelled;
            }
        }
        Expr::TypedString(typed) => {
            if let Value::SingleQuotedString(text) = &mut typed.value.value
                && let Some(spelled) = time_in_iso(text, &typed.data_type)
            {
                *text = spelled;
            }
        }
        _ => {}
    }
}

fn text_of(expr: &mut Expr) -> Option<&mut String> {
    match expr {
        Expr::Nested(inner) => text_of(inner),
        Expr::Value(value) => match &mut value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn interval_in_words(given: &mut Interval) {
    let field = |named: &DateTimeField| {
        Some(match named {
            DateTimeField::Year => Field::Year,
            DateTimeField::Month => Field::Month,
            DateTimeField::Day => Field::Day,
            DateTimeField::Hour => Field::Hour,
            DateTimeField::Minute => Field::Minute,
            DateTimeField::Second => Field::Second,
            _ => return None,
        })
    };
    let range = match (&given.leading_field, &given.last_field) {
        (None, _) => None,
        (Some(first), last) => {
            let first = field(first);
            let last = last.as_ref().map_or(first, field);
            let Some(range) = first.zip(last) else { return };
            Some(range)
        }
    };
    if let Some(text) = text_of(&mut given.value)
        && let Some(span) = interval(text, range)
    {
        *text = span.in_words();
        (given.leading_field, given.last_field) = (None, None);
        (given.leading_precision, given.fractional_seconds_precision) = (None, None);
    }
}

fn range_of(fields: &IntervalFields) -> (Field, Field) {
    use Field as F;
    use IntervalFields as I;
    match fields {
        I::Year => (F::Year, F::Year),
        I::Month => (F::Month, F::Month),
        I::Day => (F::Day, F::Day),
        I::Hour => (F::Hour, F::Hour),
        I::Minute => (F::Minute, F::Minute),
        I::Second => (F::Second, F::Second),
        I::YearToMonth => (F::Year, F::Month),
        I::DayToHour => (F::Day, F::Hour),
        I::DayToMinute => (F::Day, F::Minute),
        I::DayToSecond => (F::Day, F::Second),
        I::HourToMinute => (F::Hour, F::Minute),
        I::HourToSecond => (F::Hour, F::Second),
        I::MinuteToSecond => (F::Minute, F::Second),
    }
}

/// What a text is cast to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Date,
    Time,
    Local,
    Instant,
}

fn kind(data_type: &DataType) -> Option<(To, Option<u64>)> {
    use TimezoneInfo as Z;
    Some(match data_type {
        DataType::Date => (To::Date, None),
        DataType::Time(digits, Z::None | Z::WithoutTimeZone) => (To::Time, *digits),
        DataType::Timestamp(digits, Z::None | Z::WithoutTimeZone) => (To::Local, *digits),
        DataType::Timestamp(digits, Z::WithTimeZone | Z::Tz) => (To::Instant, *digits),
        _ => return None,
    })
}

/// The text of a time as the planner reads it, if it is one.
fn time_in_iso(text: &str, data_type: &DataType) -> Option<String> {
    let (to, digits) = kind(data_type)?;
    let mut moment = match date_and_time(text)? {
        Written::At(moment) => moment,
        Written::Named(Named::Epoch) => {
            return Some(match to {
                To::Date => "1970-01-01".into(),
                To::Time => return None,
                To::Local => "1970-01-01 00:00:00".into(),
                To::Instant => "1970-01-01 00:00:00+00:00".into(),
            });
        }
        Written::Named(_) => return None,
    };
    if let Some(clock) = moment.clock {
        moment.clock = Some(rounded(clock, digits));
    }
    match to {
        To::Date => moment.day.map(|day| day.format("%Y-%m-%d").to_string()),
        To::Time => {
            let clock = Moment { day: None, ..moment };
            clock.clock.map(|_| clock.to_string())
        }
        To::Local => moment.local().map(|_| moment.to_string()),
        To::Instant => {
            let local = moment.local()?;
            let Some(zone) = moment.zone else { return Some(moment.to_string()) };
            let at = chrono::DateTime::from_timestamp_micros(zoned_us(local, zone))?;
            Some(at.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string())
        }
    }
}

/// Microseconds rounded to so many digits of a second.
fn rounded(clock: i64, digits: Option<u64>) -> i64 {
    let unit = match digits {
        Some(digits @ 0..6) => 10_i64.pow(u32::try_from(6 - digits).unwrap_or(0)),
        _ => return clock,
    };
    (clock + unit / 2).div_euclid(unit) * unit
}

/// `(a, b) OVERLAPS (c, d)` is `overlaps(a, b, c, d)`.
pub(super) fn overlaps(expr: &mut Expr) {
    let Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } = expr else { return };
    let (Some([a, b]), Some([c, d])) = (pair(left), pair(right)) else { return };
    *expr = call("overlaps", [a, b, c, d]);
}

fn pair(expr: &Expr) -> Option<[Expr; 2]> {
    match expr {
        Expr::Tuple(items) => match items.as_slice() {
            [a, b] => Some([a.clone(), b.clone()]),
            _ => None,
        },
        Expr::Function(row) if row.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &row.args else { return None };
            match list.args.as_slice() {
                [
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(a)),
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(b)),
                ] => Some([a.clone(), b.clone()]),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What the planner is told of times that have a name, after the columns have theirs: `'today'::date` is
/// `current_date`.
pub(super) fn named_times(query: &mut Query) {
    let _flow = ast::visit_expressions_mut(query, |expr| {
        if let Some(named) = named_time(expr) {
            *expr = named;
        }
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("make_interval")
            && let FunctionArguments::List(list) = &mut function.args
        {
            in_order(list);
        }
        ControlFlow::<()>::Continue(())
    });
}

fn cast_to(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn named_time(expr: &mut Expr) -> Option<Expr> {
    let (text, data_type) = match expr {
        Expr::Cast { expr, data_type, .. } => (text_of(expr)?.clone(), data_type.clone()),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => (text.clone(), typed.data_type.clone()),
            _ => return None,
        },
        _ => return None,
    };
    let (to, _) = kind(&data_type)?;
    let Written::Named(name) = date_and_time(&text)? else { return None };
    let today = || call("current_date", []);
    let away = |days: &str| {
        let text = Value::SingleQuotedString(format!("{days} days"));
        let span =
            cast_to(Expr::Value(text.into()), DataType::Interval { fields: None, precision: None });
        let left = Box::new(today());
        Expr::Nested(Box::new(Expr::BinaryOp {
            left,
            op: BinaryOperator::Plus,
            right: Box::new(span),
        }))
    };
    let value = match (name, to) {
        (Named::Epoch, _) => return None,
        (Named::Now, _) => call("now", []),
        (_, To::Time) => return None,
        (Named::Today, _) => today(),
        (Named::Tomorrow, _) => away("1"),
        (Named::Yesterday, _) => away("-1"),
    };
    Some(cast_to(value, data_type))
}

/// Arguments that are named, in their order, with 0 for those that are not given.
fn in_order(list: &mut FunctionArgumentList) {
    let zero = || {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(
            Value::Number("0".into(), false).into(),
        )))
    };
    let mut ordered: Vec<FunctionArg> = SPAN_ARGUMENTS.iter().map(|_| zero()).collect();
    for (place, arg) in list.args.iter().enumerate() {
        let (place, value) = match arg {
            FunctionArg::Unnamed(value) => (Some(place), value),
            FunctionArg::Named { name, arg, .. } => {
                let name = super::folded(name);
                (SPAN_ARGUMENTS.iter().position(|known| *known == name), arg)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                let name = super::folded(name);
                (SPAN_ARGUMENTS.iter().position(|known| *known == name), arg)
            }
            FunctionArg::ExprNamed { .. } => return,
        };
        let Some(slot) = place.and_then(|place| ordered.get_mut(place)) else { return };
        *slot = FunctionArg::Unnamed(value.clone());
    }
    list.args = ordered;
}
