//! The session's time zone in plans: instants are kept in UTC, but `date_trunc`, `extract`, dates and texts
//! follow the zone of the session, as in Postgres. `date_trunc` becomes our bucket function, which is also
//! some hundred times faster than truncating by calendar row by row.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast, lit};
use datafusion::optimizer::AnalyzerRule;
use otus_engine::time::Granularity;

use crate::analyze::map_expressions;
use crate::function::{bucket, floor};

/// Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct SessionZone;

/// The zone of a session.
enum Zone {
    Utc,
    Named(String),
}

/// The granularity that a unit of `date_trunc` names, if it has one.
fn granularity(unit: &Expr) -> Option<Granularity> {
    let Expr::Literal(value, _) = unit else { return None };
    let name = value.try_as_str()??.to_ascii_lowercase();
    let name = name.strip_suffix('s').unwrap_or(&name);
    let known = Granularity::from_str(name).ok()?;
    (!matches!(known, Granularity::FiveMinute | Granularity::FifteenMinute)).then_some(known)
}

/// `date_trunc` by our bucket functions, where they fit.
fn truncated(args: &[Expr], schema: &DFSchema, zone: &Zone) -> Option<Expr> {
    let [unit, time] = args else { return None };
    let granularity = granularity(unit)?;
    let time_type = time.get_type(schema).ok()?;
    let name = lit(granularity.name());
    match (&time_type, zone) {
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
        let zone = match config.execution.time_zone.as_deref() {
            None | Some("UTC" | "+00:00" | "") => Zone::Utc,
            Some(name) => Zone::Named(name.to_string()),
        };
        map_expressions(plan, &|expr, schema| rewrite(expr, schema, &zone))
    }
}

/// A text that is cast to a time and ends with its minutes, `2026-03-01 12:00`, gets the seconds that arrow
/// wants.
fn with_seconds(expr: &Expr) -> Option<Expr> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let Expr::Literal(value, _) = expr.as_ref() else { return None };
    let text = value.try_as_str()??.trim();
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return None;
    }
    let (minutes, rest) = text.split_at_checked("2026-03-01 12:00".len())?;
    let place = |c| match c {
        '0'..='9' => '0',
        'T' => ' ',
        other => other,
    };
    let is_minutes = minutes.chars().map(place).eq("0000-00-00 00:00".chars());
    if !is_minutes || !(rest.is_empty() || rest.starts_with(['Z', '+', '-', ' '])) {
        return None;
    }
    let whole = lit(format!("{minutes}:00{rest}"));
    Some(Expr::Cast(Cast { expr: Box::new(whole), field: Arc::clone(field) }))
}

fn rewrite(expr: Expr, schema: &DFSchema, zone: &Zone) -> DfResult<Transformed<Expr>> {
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
        && func.name() == "date_trunc"
        && let Some(bucket) = truncated(args, schema, zone)
    {
        return Ok(Transformed::yes(bucket));
    }
    let whole = with_seconds(&expr);
    let changed = whole.is_some();
    let expr = whole.unwrap_or(expr);
    let Zone::Named(zone) = zone else {
        return Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) });
    };
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if matches!(func.name(), "date_trunc" | "date_part" | "to_char") =>
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
        Expr::Cast(Cast { expr, field }) => {
            let Ok(from) = expr.get_type(schema) else {
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            };
            let text = |t: &DataType| {
                matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            };
            let to = field.data_type();
            let plain = |t: &DataType| matches!(t, DataType::Timestamp(_, None));
            let reads = is_utc(to) && (text(&from) || plain(&from) || from == DataType::Date32);
            let shows = is_utc(&from) && (text(to) || plain(to) || *to == DataType::Date32);
            if !(reads || shows) {
                let same = Expr::Cast(Cast { expr, field });
                return Ok(if changed { Transformed::yes(same) } else { Transformed::no(same) });
            }
            let inner = Box::new(cast(*expr, instant(zone)));
            Ok(Transformed::yes(Expr::Cast(Cast { expr: inner, field })))
        }
        other => Ok(Transformed::no(other)),
    }
}
