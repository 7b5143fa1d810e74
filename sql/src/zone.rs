//! The session's time zone in plans: instants are kept in UTC, but `date_trunc`, `extract`, dates and texts
//! follow the zone of the session, as in Postgres. `date_trunc` becomes our bucket function, which is also
//! some hundred times faster than truncating by calendar row by row.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use otus_engine::types::PG_TYPE_KEY;

use crate::analyze::{compares, map_expressions};
use crate::function::{
    FROM_TEXT, TIME_BUCKET, bucket, floor, instant_of_text, is_shown, lowered, shift, shown,
    timezone, unit_granularity, with_full_seconds, zone_named,
};

/// Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct SessionZone;

/// The zone of a session, or of a call.
#[derive(Debug, Clone)]
enum Zone {
    Utc,
    Named(String),
}

impl Zone {
    fn of(config: &ConfigOptions) -> Self {
        match config.execution.time_zone.as_deref() {
            None | Some("UTC" | "+00:00" | "") => Self::Utc,
            Some(name) => Self::Named(name.to_string()),
        }
    }

    /// A zone of the database, by the name that it has there.
    fn named(name: &str) -> Option<Self> {
        let zone = zone_named(name).ok()?;
        Some(if zone == chrono_tz::Tz::UTC { Self::Utc } else { Self::Named(zone.name().into()) })
    }
}

/// A lone expression in the zone of a session.
pub(crate) fn in_zone(expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> DfResult<Expr> {
    let zone = Zone::of(config);
    Ok(expr.transform_up(|expr| rewrite(expr, schema, &zone))?.data)
}

/// `date_trunc` by our bucket functions, where they fit.
fn truncated(args: &[Expr], schema: &DFSchema, zone: &Zone) -> Option<Expr> {
    let (unit, time, zone) = match args {
        [unit, time] => (unit, time, zone.clone()),
        [unit, time, Expr::Literal(zone, _)] => (unit, time, Zone::named(zone.try_as_str()??)?),
        _ => return None,
    };
    let Expr::Literal(unit, _) = unit else { return None };
    let granularity = unit_granularity(unit.try_as_str()??)?;
    let time_type = time.get_type(schema).ok()?;
    let name = lit(granularity.name());
    match (&time_type, &zone) {
        (DataType::Timestamp(TimeUnit::Microsecond, None), _) => {
            Some(floor().call(vec![name, time.clone()]))
        }
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), Zone::Utc) if is_utc(&time_type) => {
            Some(floor().call(vec![name, time.clone()]))
        }
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), Zone::Named(zone))
            if is_utc(&time_type) && chrono_tz::Tz::from_str(zone).is_ok() =>
        {
            Some(bucket().call(vec![name, time.clone(), lit(zone.as_str())]))
        }
        _ => None,
    }
}

fn instant(zone: &str) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()))
}

fn is_utc(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00"))
}

impl AnalyzerRule for SessionZone {
    fn name(&self) -> &'static str {
        "session_zone"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let zone = Zone::of(config);
        map_expressions(plan, &|expr, schema| rewrite(expr, schema, &zone))
    }
}

/// Before types are coerced: a date or a local time that is compared with an instant becomes one, as in
/// Postgres. The planner would make the instant local, so that an hour which comes twice is compared wrongly
/// and files are not pruned by the column.
#[derive(Debug)]
pub(crate) struct ComparedInstants;

impl AnalyzerRule for ComparedInstants {
    fn name(&self) -> &'static str {
        "compared_instants"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &as_instants)
    }
}

/// A text that is compared with a time is a time of its type. The planner would take both to nanoseconds, which end in
/// the year 2262.
fn timed(expr: &mut Expr, with: &Expr, schema: &DFSchema) -> bool {
    let Expr::Literal(value, _) = &*expr else { return false };
    if value.try_as_str().flatten().is_none() {
        return false;
    }
    match with.get_type(schema) {
        Ok(to @ DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            *expr = cast(std::mem::take(expr), to);
            true
        }
        _ => false,
    }
}

fn texts_as_times(expr: &mut Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(binary) if compares(binary.op) => {
            timed(&mut binary.left, &binary.right, schema)
                || timed(&mut binary.right, &binary.left, schema)
        }
        Expr::Between(between) => {
            let low = timed(&mut between.low, &between.expr, schema);
            timed(&mut between.high, &between.expr, schema) || low
        }
        Expr::InList(list) => {
            let mut changed = false;
            for item in &mut list.list {
                changed |= timed(item, &list.expr, schema);
            }
            changed
        }
        _ => false,
    }
}

/// Booleans in a text that is put together by `concat` are letters: `t` and `f`.
fn letters_of_booleans(expr: &mut Expr, schema: &DFSchema) -> DfResult<bool> {
    let Expr::ScalarFunction(call) = expr else { return Ok(false) };
    let mut changed = false;
    if matches!(call.func.name(), "concat" | "concat_ws") {
        for arg in &mut call.args {
            if matches!(arg.get_type(schema), Ok(DataType::Boolean)) {
                let is_false = arg.clone().is_false();
                let letter = when(std::mem::take(arg).is_true(), lit("t"));
                *arg = { letter }.when(is_false, lit("f")).end()?;
                changed = true;
            }
        }
    }
    Ok(changed)
}

fn as_instants(mut expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let timed = texts_as_times(&mut expr, schema) | letters_of_booleans(&mut expr, schema)?;
    let mut found = local_as_instants(expr, schema)?;
    found.transformed |= timed;
    Ok(found)
}

fn local_as_instants(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let is_instant = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Timestamp(_, Some(_))));
    let is_local = |e: &Expr| {
        matches!(e.get_type(schema), Ok(DataType::Timestamp(_, None) | DataType::Date32))
    };
    let become_one = |e: &mut Expr| {
        if is_local(e) {
            *e = cast(std::mem::take(e), instant("UTC"));
        }
    };
    match expr {
        Expr::BinaryExpr(mut binary) if compares(binary.op) => {
            let is_mixed = is_instant(&binary.left) && is_local(&binary.right)
                || is_local(&binary.left) && is_instant(&binary.right);
            if is_mixed {
                become_one(&mut binary.left);
                become_one(&mut binary.right);
            }
            Ok(Transformed::new_transformed(Expr::BinaryExpr(binary), is_mixed))
        }
        Expr::Between(mut between) if is_instant(&between.expr) => {
            let is_mixed = is_local(&between.low) || is_local(&between.high);
            become_one(&mut between.low);
            become_one(&mut between.high);
            Ok(Transformed::new_transformed(Expr::Between(between), is_mixed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A text that is cast to a time and ends with its minutes, `2026-03-01 12:00`, gets the seconds that arrow
/// wants.
fn with_seconds(expr: &Expr) -> Option<Expr> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let Expr::Literal(value, _) = expr.as_ref() else { return None };
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return None;
    }
    let whole = lit(with_full_seconds(value.try_as_str()??.trim())?);
    Some(Expr::Cast(Cast { expr: Box::new(whole), field: Arc::clone(field) }))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A text, a local time or a date as the instant that it is in a zone.
fn read(expr: Expr, from: &DataType, zone: &str) -> Expr {
    if is_text(from) {
        return instant_of_text().call(vec![expr, lit(zone)]);
    }
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let local = if *from == local { expr } else { cast(expr, local) };
    timezone().call(vec![lit(zone), local])
}

/// An instant as a text, a local time, a date or a time of day of a zone, if `to` is one; `None` if not.
fn written(expr: &Expr, from: &DataType, to: &DataType, zone: &str) -> Option<Expr> {
    if is_text(to) && (is_shown(from) || matches!(from, DataType::Timestamp(..))) {
        return Some(cast(shown().call(vec![expr.clone(), lit(zone)]), to.clone()));
    }
    let is_local = matches!(
        to,
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 | DataType::Time64(_)
    );
    (is_utc(from) && is_local && zone != "UTC")
        .then(|| cast(timezone().call(vec![lit(zone), expr.clone()]), to.clone()))
}

fn is_uuid(expr: &Expr, schema: &DFSchema) -> bool {
    let field = expr.to_field(schema).map(|(_, field)| field);
    field.is_ok_and(|f| f.metadata().get(PG_TYPE_KEY).is_some_and(|mark| mark == "uuid"))
}

/// A cast between times and what they are written as, by the zone of the session.
fn converted(expr: &Expr, to: &DataType, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let from = expr.get_type(schema).ok()?;
    // A cast that changes nothing is one that was asked for: what is marked as a uuid is plain text behind it.
    if from == *to && is_text(to) && is_uuid(expr, schema) {
        return Some(cast(shown().call(vec![expr.clone(), lit(zone)]), to.clone()));
    }
    let is_read = is_text(&from)
        || zone != "UTC" && matches!(from, DataType::Timestamp(_, None) | DataType::Date32);
    if is_utc(to) && is_read {
        let read = read(expr.clone(), &from, zone);
        return Some(if *to == instant("UTC") { read } else { cast(read, to.clone()) });
    }
    written(expr, &from, to, zone)
}

/// Months and days are those of the zone's calendar.
fn moved(binary: &BinaryExpr, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let is_span = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(_)));
    let is_instant = |e: &Expr| e.get_type(schema).is_ok_and(|t| is_utc(&t));
    let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
    let (time, span) = match binary.op {
        Operator::Plus if is_instant(left) && is_span(right) => (left, right.clone()),
        Operator::Plus if is_span(left) && is_instant(right) => (right, left.clone()),
        Operator::Minus if is_instant(left) && is_span(right) => {
            (left, Expr::Negative(Box::new(right.clone())))
        }
        _ => return None,
    };
    Some(shift().call(vec![time.clone(), span, lit(zone)]))
}

fn rewrite(expr: Expr, schema: &DFSchema, zone: &Zone) -> DfResult<Transformed<Expr>> {
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
        && func.name() == "date_trunc"
        && let Some(bucket) = truncated(args, schema, zone)
    {
        return Ok(Transformed::yes(bucket));
    }
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
        && func.name() == TIME_BUCKET
        && let Some(bucket) = lowered(args, schema)?
    {
        return Ok(Transformed::yes(bucket));
    }
    let whole = with_seconds(&expr);
    let changed = whole.is_some();
    let expr = whole.unwrap_or(expr);
    let name = match zone {
        Zone::Utc => "UTC",
        Zone::Named(name) => name.as_str(),
    };
    if let Expr::Cast(Cast { expr: inner, field }) = &expr
        && let Some(converted) = converted(inner, field.data_type(), schema, name)
    {
        return Ok(Transformed::yes(converted));
    }
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
        && args.len() == 2
        && FROM_TEXT.iter().any(|(_, own)| *own == func.name())
    {
        let args = args.iter().cloned().chain([lit(name)]).collect();
        let call = ScalarFunction { func: Arc::clone(func), args };
        return Ok(Transformed::yes(Expr::ScalarFunction(call)));
    }
    let Zone::Named(zone) = zone else {
        return Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) });
    };
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if matches!(func.name(), "date_trunc" | "date_part" | "to_char") && args.len() == 2 =>
        {
            let mut moved = false;
            for arg in &mut args {
                if arg.get_type(schema).is_ok_and(|t| is_utc(&t)) {
                    *arg = cast(std::mem::take(arg), instant(zone));
                    moved = true;
                }
            }
            let truncates = func.name() == "date_trunc";
            let call = Expr::ScalarFunction(ScalarFunction { func, args });
            Ok(match (moved, truncates) {
                (false, _) => Transformed::no(call),
                (true, true) => Transformed::yes(cast(call, instant("UTC"))),
                (true, false) => Transformed::yes(call),
            })
        }
        Expr::BinaryExpr(binary) => Ok(match moved(&binary, schema, zone) {
            Some(moved) => Transformed::yes(moved),
            None => Transformed::no(Expr::BinaryExpr(binary)),
        }),
        other => Ok(if changed { Transformed::yes(other) } else { Transformed::no(other) }),
    }
}
