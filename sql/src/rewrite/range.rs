//! Conditions split in two: a half-open range of event time, and the rest.

use arrow::datatypes::DataType;
use chrono::{LocalResult, TimeZone};
use chrono_tz::Tz;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use otus_engine::limits::{EVENT_TIME_MAX_US, EVENT_TIME_MIN_US};
use otus_engine::time::{DAY_US, Granularity, SECOND_US};
use std::str::FromStr;

use super::needs::{Bounds, EPOCH_S_MAX, Examiner, clamped, instant_of, text};
use super::offsets::Zone;
use crate::calendar::Step;

/// The times that conditions let through.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    /// First time, microseconds; `i64::MIN` = any.
    pub(super) from_us: i64,
    /// End, exclusive; `i64::MAX` = any.
    pub(super) to_us: i64,
    /// Conditions that the range does not say wholly.
    pub(super) rest: Vec<Expr>,
}

/// Splits the conditions of a scan.
pub(super) fn split(examiner: &Examiner<'_>, conditions: &[Expr]) -> Split {
    let mut found = Split { from_us: i64::MIN, to_us: i64::MAX, rest: Vec::new() };
    for condition in conditions {
        let hull = hull(examiner, condition);
        found.from_us = found.from_us.max(hull.from_us);
        found.to_us = found.to_us.min(hull.to_us);
        if !hull.whole {
            found.rest.push(condition.clone());
        }
    }
    found
}

/// A range that holds all times for which a condition is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hull {
    from_us: i64,
    to_us: i64,
    /// Whether the condition is true at all times of the range.
    whole: bool,
}

impl Hull {
    const ANY: Self = Self { from_us: i64::MIN, to_us: i64::MAX, whole: false };

    fn exactly(from_us: i64, to_us: i64) -> Self {
        Self { from_us, to_us, whole: true }
    }

    fn and(self, other: Self) -> Self {
        Self {
            from_us: self.from_us.max(other.from_us),
            to_us: self.to_us.min(other.to_us),
            whole: self.whole && other.whole,
        }
    }
}

fn hull(examiner: &Examiner<'_>, condition: &Expr) -> Hull {
    match condition {
        Expr::Between(b) if !b.negated => {
            let side = |op, bound: &Expr| {
                comparison(examiner, &BinaryExpr::new(b.expr.clone(), op, Box::new(bound.clone())))
            };
            side(Operator::GtEq, &b.low).and(side(Operator::LtEq, &b.high))
        }
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            hull(examiner, &b.left).and(hull(examiner, &b.right))
        }
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            let (l, r) = (hull(examiner, &b.left), hull(examiner, &b.right));
            Hull { from_us: l.from_us.min(r.from_us), to_us: l.to_us.max(r.to_us), whole: false }
        }
        Expr::BinaryExpr(b) => comparison(examiner, b),
        _ => Hull::ANY,
    }
}

fn comparison(examiner: &Examiner<'_>, b: &BinaryExpr) -> Hull {
    match examiner.comparison(b) {
        Some(Bounds::Within(from, to)) => Hull::exactly(from, to),
        Some(Bounds::Without(..)) => Hull::ANY,
        None => bucket(examiner, b).unwrap_or(Hull::ANY),
    }
}

/// The half-open range of times for which a comparison is true, if it is one.
pub(super) fn exact(examiner: &Examiner<'_>, condition: &Expr) -> Option<(i64, i64)> {
    let hull = match condition {
        Expr::Between(_) => hull(examiner, condition),
        Expr::BinaryExpr(b) if !matches!(b.op, Operator::And | Operator::Or) => {
            hull(examiner, condition)
        }
        _ => return None,
    };
    hull.whole.then_some((hull.from_us, hull.to_us))
}

/// A bucket of the event time compared with a constant.
fn bucket(examiner: &Examiner<'_>, b: &BinaryExpr) -> Option<Hull> {
    let (op, value, bound) = match (b.left.as_ref(), b.right.as_ref()) {
        (value, Expr::Literal(bound, _)) => (b.op, value, bound),
        (Expr::Literal(bound, _), value) => (b.op.swap()?, value, bound),
        _ => return None,
    };
    if examiner.is_epoch(value) {
        return epoch(op, bound);
    }
    if let Some(strides) = examiner.strides(value) {
        let at = match strides.unit_us {
            Some(unit_us) => counted_us(bound, unit_us)?,
            None => instant_us(bound)?,
        };
        let floor = strides.origin_us
            + (at - strides.origin_us).div_euclid(strides.width_us) * strides.width_us;
        let next = floor + strides.width_us;
        let is_told = !strides.inexact || next <= EPOCH_S_MAX * SECOND_US;
        return is_told.then(|| edges(op, at, floor, next)).flatten();
    }
    match value {
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Date32 => {
            let ScalarValue::Date32(Some(days)) = bound else { return None };
            let zone = examiner.calendar_of(&cast.expr)?;
            let at = i64::from(*days).checked_mul(DAY_US)?;
            let exact = match zone {
                Zone::Named(zone) => {
                    let begins = |us: i64| begins_once(zone, us);
                    begins(at)
                        .zip(begins(at + DAY_US))
                        .and_then(|(at, next)| edges(op, at, at, next))
                }
                _ => None,
            };
            exact.or_else(|| unit_hull(op, Granularity::Day, at, zone))
        }
        Expr::ScalarFunction(f) => {
            let at = instant_us(bound)?;
            let (unit, zone) = match (f.func.name(), f.args.as_slice()) {
                ("timezone", _) => {
                    let (at, next) = match examiner.calendar_of(value)? {
                        Zone::Named(zone) => (begins_once(zone, at)?, begins_once(zone, at + 1)?),
                        Zone::Utc => (at, at + 1),
                        Zone::Fixed(_) => return None,
                    };
                    return edges(op, at, at, next);
                }
                ("otus_floor", [unit, time]) => (unit, examiner.calendar_of(time)?),
                ("otus_bucket", [unit, time, zone]) => {
                    examiner.zone_of(time)?;
                    let zone = Zone::parse(text(zone)?)?;
                    if let Zone::Named(zone) = zone {
                        // Its buckets tile time.
                        let unit = Granularity::from_str(text(unit)?).ok()?;
                        let known = (EVENT_TIME_MIN_US..=2 * EVENT_TIME_MAX_US).contains(&at);
                        let (floor, next) = known.then(|| Step::of(unit, zone).bucket(at))?;
                        return edges(op, at, floor, next);
                    }
                    (unit, zone)
                }
                _ => return None,
            };
            unit_hull(op, Granularity::from_str(text(unit)?).ok()?, at, zone)
        }
        _ => None,
    }
}

/// A constant instant in whole microseconds.
fn instant_us(bound: &ScalarValue) -> Option<i64> {
    let nanos = instant_of(&Expr::Literal(bound.clone(), None))?;
    i64::try_from(nanos.div_euclid(1_000)).ok().filter(|_| nanos % 1_000 == 0)
}

/// A constant number of units in whole microseconds.
fn counted_us(bound: &ScalarValue, unit_us: i64) -> Option<i64> {
    let ScalarValue::Float64(Some(count)) = bound.cast_to(&DataType::Float64).ok()? else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "a unit is some days at most")]
    let us = count * unit_us as f64;
    if us.fract() != 0.0 || us.abs() > 1e16 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    Some(us as i64)
}

/// The instant from which on the clocks of a zone show a local time or a later one, and never an earlier one
/// again; none where clocks are changed.
fn begins_once(zone: Tz, local_us: i64) -> Option<i64> {
    let local = chrono::DateTime::from_timestamp_micros(local_us)?.naive_utc();
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Some(at.timestamp_micros()),
        _ => None,
    }
}

/// Times whose bucket compares so with `at`, which lies in the bucket `[floor, next)`.
fn edges(op: Operator, at: i64, floor: i64, next: i64) -> Option<Hull> {
    let up = if floor == at { at } else { next };
    let (from, to) = match op {
        Operator::GtEq => (Some(up), None),
        Operator::Gt => (Some(next), None),
        Operator::Lt => (None, Some(up)),
        Operator::LtEq => (None, Some(next)),
        Operator::Eq if floor == at => (Some(at), Some(next)),
        // No bucket starts there.
        Operator::Eq => (Some(next), Some(next)),
        _ => return None,
    };
    let edge = |us: Option<i64>, else_us: i64| us.map_or(else_us, |us| clamped(i128::from(us)));
    Some(Hull::exactly(edge(from, i64::MIN), edge(to, i64::MAX)))
}

/// Times whose bucket compares so with `at`: exactly for buckets of UTC, else a range that holds them.
fn unit_hull(op: Operator, unit: Granularity, at: i64, zone: Zone) -> Option<Hull> {
    if !(EVENT_TIME_MIN_US..=2 * EVENT_TIME_MAX_US).contains(&at) {
        return None;
    }
    let floor = unit.floor_us(at);
    if zone == Zone::Utc {
        return edges(op, at, floor, unit.next_us(at));
    }
    let edge = |us: Option<i64>, else_us: i64| us.map_or(else_us, |us| clamped(i128::from(us)));
    // Buckets of another zone lie at most a day and a unit aside; on whole days all granularities can end.
    let slack = unit.next_us(at) - floor + 2 * DAY_US;
    let (from, to) = match op {
        Operator::GtEq | Operator::Gt => (Some(at - slack), None),
        Operator::Lt | Operator::LtEq => (None, Some(at + slack)),
        Operator::Eq => (Some(at - slack), Some(at + slack)),
        _ => return None,
    };
    let from = from.map(|us| Granularity::Day.floor_us(us));
    let to = to.map(|us| Granularity::Day.next_us(us));
    Some(Hull { from_us: edge(from, i64::MIN), to_us: edge(to, i64::MAX), whole: false })
}

/// Seconds since the epoch compared with a constant. Doubles tell microseconds apart until far beyond the
/// latest event time.
fn epoch(op: Operator, bound: &ScalarValue) -> Option<Hull> {
    let at = counted_us(bound, SECOND_US)?;
    edges(op, at, at, at + 1)
}
