//! The session's time zone in plans: instants are kept in UTC, but `date_trunc`, `extract`, dates and texts
//! follow the zone of the session, as in Postgres. `date_trunc` becomes our bucket function, which is also
//! some hundred times faster than truncating by calendar row by row.

use std::str::FromStr;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast, lit};
use datafusion::optimizer::AnalyzerRule;
use otus_engine::time::Granularity;

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
        let done = plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                let source = scan.source.schema();
                schema
                    .merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source)?);
            }
            let names = NamePreserver::new(&node);
            let moved = |expr: Expr| -> DfResult<Transformed<Expr>> {
                let name = names.save(&expr);
                let changed = expr.transform_up(|e| rewrite(e, &schema, &zone))?;
                Ok(changed.update_data(|e| name.restore(e)))
            };
            node.map_expressions(|expr| match expr {
                // The set has no name of its own; its members have.
                Expr::GroupingSet(_) => expr.map_children(moved),
                expr => moved(expr),
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(done.data)
    }
}

fn rewrite(expr: Expr, schema: &DFSchema, zone: &Zone) -> DfResult<Transformed<Expr>> {
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
        && func.name() == "date_trunc"
        && let Some(bucket) = truncated(args, schema, zone)
    {
        return Ok(Transformed::yes(bucket));
    }
    let Zone::Named(zone) = zone else { return Ok(Transformed::no(expr)) };
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
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            }
            let inner = Box::new(cast(*expr, instant(zone)));
            Ok(Transformed::yes(Expr::Cast(Cast { expr: inner, field })))
        }
        other => Ok(Transformed::no(other)),
    }
}
