//! `:compare`: the interval that a query is compared with, bucket for bucket.
//!
//! Buckets are matched by their number, so that a day of 23 hours stands beside one of 24 and a month beside a
//! shorter one. Periods are shifted by the calendar of the zone. If the interval has not ended, the other is cut to
//! the part that has passed: today until 14:20 is compared with yesterday until 14:20.

use chrono::{Datelike, NaiveDateTime, NaiveTime};

use super::problem::{Problem, join};
use super::query::{Interval, Reader, instant, period_of};
use super::value::{Map, Value};
use crate::calendar::{Period, Step, local_of};

/// What stands behind the name of a measure when a query compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// The measure itself.
    Now,
    /// `plays/prev`: in the other interval.
    Previous,
    /// `plays/delta`: how much more it is now.
    Delta,
    /// `plays/pct`: the difference as a share of the other; nil if that is zero.
    Share,
}

impl Facet {
    /// All of them, in the order in which plans give them.
    pub const ALL: [Self; 4] = [Self::Now, Self::Previous, Self::Delta, Self::Share];

    /// What follows the name of the measure.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Now => "",
            Self::Previous => "/prev",
            Self::Delta => "/delta",
            Self::Share => "/pct",
        }
    }
}

/// The other interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    /// Its times, in the zone of the query.
    pub interval: Interval,
    /// Starts of its buckets, at most as many as the query has.
    pub starts: Vec<i64>,
    /// Whether it ends before the last of these buckets would.
    pub cut: bool,
}

impl Compare {
    /// Whether there is something to compare a bucket with: not beyond the end of the other interval.
    pub fn has(&self, bucket: usize) -> bool {
        bucket < self.starts.len()
    }
}

/// Reads `:compare` of a query with buckets of `step` (none: one bucket), `buckets` in number.
pub(super) fn read(
    reader: &mut Reader<'_>,
    interval: Option<Interval>,
    step: Option<&Step>,
    buckets: usize,
) -> Option<Compare> {
    let form = reader.get("compare")?;
    let interval = interval?;
    let (from_us, to_us, passed_us) = match form {
        Value::Map(map) => times(map, interval, reader)?,
        other if other.as_name() == Some("previous-period") => {
            let period = length(interval);
            let before = |us: i64| period.before(us, interval.zone);
            (before(interval.from_us), interval.from_us, before(interval.known_to_us))
        }
        _ => return reader.fail("compare", WRONG),
    };
    let unfinished = (interval.from_us..interval.to_us).contains(&interval.known_to_us);
    let to_us = if unfinished { to_us.min(passed_us) } else { to_us };
    let whole = Interval { from_us, to_us, zone: interval.zone, known_to_us: i64::MAX };
    let (mut starts, mut whole) = match step {
        None if from_us >= to_us => (Vec::new(), whole),
        None => (vec![from_us], whole),
        Some(step) => match step.starts(from_us, to_us) {
            Some(starts) => (starts, whole),
            None => return reader.fail("compare", "has too many buckets"),
        },
    };
    if let Some(next) = starts.get(buckets) {
        whole.to_us = *next;
    }
    starts.truncate(buckets);
    Some(Compare { interval: whole, starts, cut: unfinished })
}

const WRONG: &str = "must be :previous-period, {:shift \"P7D\"} or {:from … :to …}";

/// From, to, and what has the place of the time until which the query knows anything.
fn times(map: &Map, interval: Interval, reader: &mut Reader<'_>) -> Option<(i64, i64, i64)> {
    for (key, _) in map.iter() {
        if !key.as_name().is_some_and(|name| ["shift", "from", "to"].contains(&name)) {
            let path = join(&reader.path_of("compare"), key);
            reader.problems().push(Problem::bad_argument("unknown key of a comparison", &path));
        }
    }
    let zone = interval.zone;
    let at = |name: &str| map.get_keyword(name).and_then(|value| instant(value, zone));
    match (map.get_keyword("shift"), at("from"), at("to")) {
        (Some(shift), None, None) if map.len() == 1 => {
            let Some(period) = shift.as_name().and_then(period_of) else {
                return reader.fail("compare", "needs a :shift such as \"P7D\"");
            };
            let before = |us: i64| period.before(us, zone);
            Some((before(interval.from_us), before(interval.to_us), before(interval.known_to_us)))
        }
        (None, Some(from), Some(to)) if from <= to => {
            let passed = interval.known_to_us.saturating_sub(interval.from_us);
            Some((from, to, from.saturating_add(passed)))
        }
        (None, Some(_), Some(_)) => {
            let path = reader.path_of("compare");
            reader.problems().push(Problem::new("invalid-interval", ":from is after :to", &path));
            None
        }
        _ => reader.fail("compare", WRONG),
    }
}

/// How long an interval is: in months if it consists of whole ones, in days if both ends are at one time of the day.
fn length(interval: Interval) -> Period {
    let local = |us: i64| local_of(us, interval.zone);
    let (from, to) = (local(interval.from_us), local(interval.to_us));
    let month = |at: NaiveDateTime| i64::from(at.year()) * 12 + i64::from(at.month0());
    let is_month = |at: NaiveDateTime| at.day() == 1 && at.time() == NaiveTime::MIN;
    let months = u32::try_from(month(to) - month(from)).unwrap_or(0);
    let days = u32::try_from((to.date() - from.date()).num_days()).unwrap_or(0);
    match (months, days) {
        (1.., _) if is_month(from) && is_month(to) => Period::Months(months),
        (_, 1..) if from.time() == to.time() => Period::Days(days),
        _ => Period::Time(interval.to_us.saturating_sub(interval.from_us)),
    }
}
