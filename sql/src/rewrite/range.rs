//! Conditions split in two: a half-open range of event time, and the rest.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use otus_engine::limits::{EVENT_TIME_MAX_US, EVENT_TIME_MIN_US};
use otus_engine::time::{DAY_US, Granularity};
use std::str::FromStr;

use super::needs::{Bounds, Examiner, Zone, clamped, instant_of, text};

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
}

fn hull(examiner: &Examiner<'_>, condition: &Expr) -> Hull {
    match condition {
        Expr::Between(b) if !b.negated && examiner.zone_of(&b.expr).is_some() => {
            match (instant_of(&b.low), instant_of(&b.high)) {
                (Some(low), Some(high)) => {
                    let from = clamped(-((-low).div_euclid(1_000)));
                    Hull::exactly(from, clamped(high.div_euclid(1_000) + 1))
                }
                _ => Hull::ANY,
            }
        }
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            let (l, r) = (hull(examiner, &b.left), hull(examiner, &b.right));
            Hull {
                from_us: l.from_us.max(r.from_us),
                to_us: l.to_us.min(r.to_us),
                whole: l.whole && r.whole,
            }
        }
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            let (l, r) = (hull(examiner, &b.left), hull(examiner, &b.right));
            Hull { from_us: l.from_us.min(r.from_us), to_us: l.to_us.max(r.to_us), whole: false }
        }
        Expr::BinaryExpr(b) => match examiner.comparison(b) {
            Some(Bounds::Within(from, to)) => Hull::exactly(from, to),
            Some(Bounds::Without(..)) => Hull::ANY,
            None => bucket(examiner, b).unwrap_or(Hull::ANY),
        },
        _ => Hull::ANY,
    }
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
    match value {
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Date32 => {
            let ScalarValue::Date32(Some(days)) = bound else { return None };
            let zone = examiner.calendar_of(&cast.expr)?;
            unit_hull(op, Granularity::Day, i64::from(*days).checked_mul(DAY_US)?, zone)
        }
        Expr::ScalarFunction(f) => {
            let at = instant_of(&Expr::Literal(bound.clone(), None))?;
            let at = i64::try_from(at.div_euclid(1_000)).ok().filter(|_| at % 1_000 == 0)?;
            let (unit, zone) = match (f.func.name(), f.args.as_slice()) {
                ("otus_floor", [unit, time]) => (unit, examiner.calendar_of(time)?),
                ("otus_bucket", [unit, time, zone]) => {
                    examiner.zone_of(time)?;
                    (unit, Zone::parse(text(zone)?)?)
                }
                _ => return None,
            };
            unit_hull(op, Granularity::from_str(text(unit)?).ok()?, at, zone)
        }
        _ => None,
    }
}

/// Times whose bucket compares so with `at`: exactly for buckets of UTC, else a range that holds them.
fn unit_hull(op: Operator, unit: Granularity, at: i64, zone: Zone) -> Option<Hull> {
    if !(EVENT_TIME_MIN_US..=2 * EVENT_TIME_MAX_US).contains(&at) {
        return None;
    }
    let floor = unit.floor_us(at);
    let next = unit.next_us(at);
    let up = if floor == at { at } else { next };
    let (from, to) = match op {
        Operator::GtEq => (Some(up), None),
        Operator::Gt => (Some(next), None),
        Operator::Lt => (None, Some(up)),
        Operator::LtEq => (None, Some(next)),
        Operator::Eq if floor == at => (Some(at), Some(next)),
        // No bucket of UTC starts there.
        Operator::Eq => (Some(next), Some(next)),
        _ => return None,
    };
    let edge = |us: Option<i64>, else_us: i64| us.map_or(else_us, |us| clamped(i128::from(us)));
    if zone == Zone::Utc {
        return Some(Hull::exactly(edge(from, i64::MIN), edge(to, i64::MAX)));
    }
    // Buckets of another zone lie at most a day and a unit aside; on whole days all granularities can end.
    let slack = unit.next_us(at) - floor + 2 * DAY_US;
    let (from, to) = match op {
        Operator::GtEq | Operator::Gt => (Some(at - slack), None),
        Operator::Lt | Operator::LtEq => (None, Some(at + slack)),
        _ => (Some(at - slack), Some(at + slack)),
    };
    let from = from.map(|us| Granularity::Day.floor_us(us));
    let to = to.map(|us| Granularity::Day.next_us(us));
    Some(Hull { from_us: edge(from, i64::MIN), to_us: edge(to, i64::MAX), whole: false })
}

/// Seconds since the epoch compared with a constant. Doubles tell microseconds apart until far beyond the
/// latest event time.
fn epoch(op: Operator, bound: &ScalarValue) -> Option<Hull> {
    let ScalarValue::Float64(Some(seconds)) = bound.cast_to(&DataType::Float64).ok()? else {
        return None;
    };
    let us = seconds * 1e6;
    if us.fract() != 0.0 || us.abs() > 1e16 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    let us = i128::from(us as i64);
    let (at, after) = (clamped(us), clamped(us + 1));
    Some(match op {
        Operator::GtEq => Hull::exactly(at, i64::MAX),
        Operator::Gt => Hull::exactly(after, i64::MAX),
        Operator::Lt => Hull::exactly(i64::MIN, at),
        Operator::LtEq => Hull::exactly(i64::MIN, after),
        Operator::Eq => Hull::exactly(at, after),
        _ => return None,
    })
}
