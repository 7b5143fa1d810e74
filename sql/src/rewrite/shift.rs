//! The event time with a constant span added, as in weeks that begin on Sunday:
//! `date_trunc('week', time + interval '1 day') - interval '1 day'`.

use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use otus_engine::time::{DAY_US, Granularity};

use super::needs::{Examiner, Need, operands, text};
use super::offsets::Zone;

/// The event time, later by days of a zone's calendar and then by microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shifted {
    pub(super) zone: Zone,
    days: i64,
    micros: i64,
}

impl Shifted {
    /// How much later it is, if it is equally much everywhere.
    pub(super) fn fixed_us(self) -> Option<i64> {
        let days_us = self.days.checked_mul(DAY_US)?;
        (self.days == 0 || self.zone == Zone::Utc).then(|| days_us.checked_add(self.micros))?
    }
}

/// Days and microseconds of a constant span without months.
fn span(expr: &Expr) -> Option<(i64, i64)> {
    match expr {
        Expr::Negative(inner) => span(inner).map(|(days, micros)| (-days, -micros)),
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(v)), _) => {
            let whole = v.months == 0 && v.nanoseconds % 1_000 == 0;
            whole.then(|| (i64::from(v.days), v.nanoseconds / 1_000))
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(v)), _) => {
            Some((i64::from(v.days), i64::from(v.milliseconds) * 1_000))
        }
        _ => None,
    }
}

impl Examiner<'_> {
    /// Whether `expr` is the event time, perhaps with constant spans added.
    pub(super) fn shifted(&self, expr: &Expr) -> Option<Shifted> {
        if let Some(zone) = self.zone_of(expr) {
            return Some(Shifted { zone, days: 0, micros: 0 });
        }
        if let Expr::Alias(alias) = expr {
            return self.shifted(&alias.expr);
        }
        let (time, (days, micros), zone) = match expr {
            Expr::ScalarFunction(f) if f.func.name() == "otus_shift" => match f.args.as_slice() {
                [time, by, zone] => (time, span(by)?, Some(Zone::parse(text(zone)?)?)),
                _ => return None,
            },
            _ => {
                let plus = operands(expr, Operator::Plus).and_then(|(left, right)| {
                    let by = span(right).map(|by| (left, by));
                    by.or_else(|| span(left).map(|by| (right, by)))
                });
                let minus = operands(expr, Operator::Minus).and_then(|(left, right)| {
                    span(right).map(|(days, micros)| (left, (-days, -micros)))
                });
                let (time, by) = plus.or(minus)?;
                (time, by, None)
            }
        };
        let inner = self.shifted(time)?;
        let (days, micros) = (inner.days.checked_add(days)?, inner.micros.checked_add(micros)?);
        // Days of a calendar and lengths of time do not add up to the same in any order.
        let zone = zone.unwrap_or(inner.zone);
        let same = inner.days == 0 && inner.micros == 0 || zone == inner.zone;
        same.then_some(Shifted { zone, days, micros })
    }
}

/// What units of a calendar, seen from a shifted time, ask of buckets.
pub(super) fn need(unit: Granularity, time: Shifted) -> Option<Need> {
    let day_or_longer = Granularity::Day.divides(unit);
    if time.micros == 0 && day_or_longer {
        return Some(Need::Calendar(Granularity::Day, time.zone));
    }
    if time.zone != Zone::Utc {
        return None;
    }
    let width = if day_or_longer { DAY_US } else { unit.fixed_us()? };
    let shift = time.fixed_us()?.rem_euclid(width);
    Some(Need::Stride { width_us: divisor(width, shift), origin_us: 0, inexact: false })
}

fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
