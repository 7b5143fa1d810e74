//! What the query maps of `:metrics` and `:records` share: a reader that refuses unknown keys, the interval
//! in its many spellings, order and paging.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;

use super::problem::{Path, Problem, join};
use super::value::{Map, Value};
use crate::calendar::{Period, Step, instant_of, local_of};
use otus_engine::time::Granularity;

/// Rows of an answer when no limit is given.
pub const ROWS_DEFAULT: usize = 10_000;
/// Most rows of an answer.
pub const ROWS_MAX: usize = 50_000;

/// What a query map is read against.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Now, microseconds.
    pub now_us: i64,
    /// Time of the newest event of the table, microseconds.
    pub newest_us: Option<i64>,
}

/// A half-open interval, in a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// First instant, microseconds.
    pub from_us: i64,
    /// End, microseconds; not part of it.
    pub to_us: i64,
    /// Zone of local times and buckets.
    pub zone: Tz,
    /// Until when anything can be known, microseconds: now, or the newest event if the window counts back from it.
    pub known_to_us: i64,
}

/// A page of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows skipped.
    pub offset: usize,
    /// Rows given at most.
    pub limit: usize,
}

/// Reads one query map; what is wrong goes to `problems`.
#[derive(Debug)]
pub struct Reader<'a> {
    map: &'a Map,
    path: Path,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader of `map`, in which only `known` keys may stand; `later` keys are part of the language but
    /// not of this server.
    pub fn new(
        map: &'a Map,
        known: &[&str],
        later: &[&str],
        path: Path,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        for (key, _) in map.iter() {
            let name = key.as_name().filter(|_| matches!(key, Value::Keyword(_))).unwrap_or("");
            let here = join(&path, key);
            if later.contains(&name) {
                let reason = format!(":{name} is not supported yet");
                problems.push(Problem::new("not-supported", reason, &here));
            } else if !known.contains(&name) {
                let reason = format!("unknown key; there is {}", known.join(", "));
                problems.push(Problem::bad_argument(reason, &here));
            }
        }
        Self { map, path, problems }
    }

    /// The value of a key; nil is as good as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get_keyword(name).filter(|value| !value.is_nil())
    }

    /// Path of a key.
    pub fn path_of(&self, name: &str) -> Path {
        join(&self.path, name)
    }

    /// Says what is wrong with a key.
    pub fn fail<T>(&mut self, name: &str, reason: impl Into<String>) -> Option<T> {
        let path = self.path_of(name);
        self.problems.push(Problem::bad_argument(reason, &path));
        None
    }

    /// All problems so far.
    pub fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    /// `:tz`
    pub fn zone(&mut self) -> Tz {
        match self.get("tz").map(|v| (v, v.as_name())) {
            None => Tz::UTC,
            Some((_, Some(name))) => name.parse().unwrap_or_else(|_| {
                self.fail::<()>("tz", "unknown time zone; give an IANA name");
                Tz::UTC
            }),
            Some(_) => {
                self.fail::<()>("tz", "must be the name of a time zone");
                Tz::UTC
            }
        }
    }

    /// `:from` and `:to`, or `:window`.
    pub fn interval(&mut self, zone: Tz, moment: Moment) -> Option<Interval> {
        if let Some(window) = self.get("window") {
            for name in ["from", "to"] {
                if self.get(name).is_some() {
                    self.fail::<()>(name, "stands beside :window; give one of them");
                }
            }
            return self.window(window, zone, moment);
        }
        let mut at = |name: &str| match self.get(name) {
            None => self.fail(name, format!(":{name} is required, or :window")),
            Some(value) => instant(value, zone).or_else(|| {
                self.fail(name, "must be an instant, RFC 3339, a local date or time, or epoch ms")
            }),
        };
        let (from, to) = (at("from"), at("to"));
        self.checked(from?, to?, zone, moment.now_us)
    }

    fn checked(
        &mut self,
        from_us: i64,
        to_us: i64,
        zone: Tz,
        known_to_us: i64,
    ) -> Option<Interval> {
        if from_us > to_us {
            let path = self.path.clone();
            self.problems.push(Problem::new("invalid-interval", ":from is after :to", &path));
            return None;
        }
        Some(Interval { from_us, to_us, zone, known_to_us })
    }

    fn window(&mut self, window: &Value, zone: Tz, moment: Moment) -> Option<Interval> {
        let kinds = "absolute, last, today, yesterday, this-week, last-week, this-month, last-month, \
                     this-quarter, last-quarter, this-year or last-year";
        let empty = Map::new();
        let (kind, map) = match window {
            Value::Map(map) => (map.get_keyword("kind").and_then(Value::as_name), map),
            other => (other.as_name(), &empty),
        };
        let Some(kind) = kind else {
            return self.fail("window", format!("needs a :kind: {kinds}"));
        };
        let allowed: &[&str] = match kind {
            "absolute" => &["kind", "from", "to"],
            "last" => &["kind", "period", "align", "anchor"],
            _ => &["kind", "anchor"],
        };
        for (key, _) in map.iter() {
            if !key.as_name().is_some_and(|name| allowed.contains(&name)) {
                let path = join(&self.path_of("window"), key);
                self.problems.push(Problem::bad_argument("unknown key of a window", &path));
            }
        }
        let anchor = match map.get_keyword("anchor").and_then(Value::as_name) {
            None | Some("now") => moment.now_us,
            Some("data") => moment.newest_us.map_or(moment.now_us, |newest| newest + 1),
            Some(_) => return self.fail("window", ":anchor is :now or :data"),
        };
        match kind {
            "absolute" => {
                let at = |name: &str| map.get_keyword(name).and_then(|v| instant(v, zone));
                match (at("from"), at("to")) {
                    (Some(from), Some(to)) => self.checked(from, to, zone, anchor),
                    _ => self.fail("window", "an absolute window needs :from and :to"),
                }
            }
            "last" => self.last(map, zone, anchor),
            _ => match calendar_window(kind, local_of(anchor, zone)) {
                Some((from, to)) => {
                    self.checked(instant_of(from, zone), instant_of(to, zone), zone, anchor)
                }
                None => self.fail("window", format!("unknown :kind; it is {kinds}")),
            },
        }
    }

    fn last(&mut self, map: &Map, zone: Tz, anchor: i64) -> Option<Interval> {
        let period = map.get_keyword("period").and_then(Value::as_name).and_then(Period::parse_iso);
        let Some(period) = period else {
            return self.fail("window", "needs a :period such as \"PT24H\" or \"P7D\"");
        };
        let to = match map.get_keyword("align").filter(|v| !v.is_nil()) {
            None => anchor,
            Some(align) => match align.as_name().and_then(period_of) {
                Some(align) => {
                    let step = Step::new(align, zone, None);
                    let floor = step.floor(anchor);
                    if floor == anchor { anchor } else { step.next(floor) }
                }
                None => return self.fail("window", ":align is a granularity"),
            },
        };
        self.checked(period.before(to, zone), to, zone, anchor)
    }

    /// `:limit` and `:offset`, narrowed by a `:seq` that follows the call.
    pub fn page(&mut self, seq: Option<(usize, Option<usize>)>) -> Page {
        let mut count = |name: &str| match self.get(name) {
            None => None,
            Some(Value::Int(n)) if *n >= 0 => usize::try_from(*n).ok(),
            Some(_) => self.fail(name, "must be an integer of zero or more"),
        };
        let (limit, offset) = (count("limit"), count("offset"));
        if limit.is_some_and(|limit| limit > ROWS_MAX) {
            self.fail::<()>("limit", format!("must be at most {ROWS_MAX}"));
        }
        let (skip, take) = seq.unwrap_or((0, None));
        let limit = match (limit, take) {
            (Some(limit), take) => limit.saturating_sub(skip).min(take.unwrap_or(ROWS_MAX)),
            (None, Some(take)) => take.min(ROWS_MAX),
            (None, None) => ROWS_DEFAULT,
        };
        Page { offset: offset.unwrap_or(0).saturating_add(skip), limit }
    }

    /// `:order`: names, each with whether it falls; `None` if it is not given.
    pub fn order(&mut self) -> Option<Vec<(String, bool)>> {
        let given = self.get("order")?;
        let wrong = "must be a vector of names and [name :asc] or [name :desc]";
        let Some(items) = given.as_sequence() else {
            self.fail::<()>("order", wrong);
            return None;
        };
        let mut order = Vec::with_capacity(items.len());
        for item in items {
            let term = match item.as_sequence() {
                None => item.as_name().map(|name| (name, false)),
                Some([name]) => name.as_name().map(|name| (name, false)),
                Some([name, way]) => match (name.as_name(), way.as_name()) {
                    (Some(name), Some("asc")) => Some((name, false)),
                    (Some(name), Some("desc")) => Some((name, true)),
                    _ => None,
                },
                Some(_) => None,
            };
            match term {
                Some((name, falls)) => order.push((name.to_string(), falls)),
                None => {
                    self.fail::<()>("order", wrong);
                    return None;
                }
            }
        }
        Some(order)
    }

    /// A vector of names.
    pub fn names(&mut self, name: &str) -> Option<Vec<String>> {
        let given = self.get(name)?;
        let names: Option<Vec<String>> = given.as_sequence().and_then(|items| {
            items.iter().map(|item| item.as_name().map(str::to_string)).collect()
        });
        if names.is_none() {
            self.fail::<()>(name, "must be a vector of names");
        }
        names
    }
}

/// A granularity's name or an ISO period.
pub fn period_of(text: &str) -> Option<Period> {
    match text.parse::<Granularity>() {
        Ok(granularity) => Some(Period::of(granularity)),
        Err(_) => Period::parse_iso(text),
    }
}

/// An instant in one of its spellings, microseconds: an `#inst`, epoch milliseconds, RFC 3339, or a local
/// date or time in `zone`.
pub fn instant(value: &Value, zone: Tz) -> Option<i64> {
    let micros = match value {
        Value::Inst { micros, .. } => *micros,
        Value::Int(millis) => millis.checked_mul(1_000)?,
        Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(at) => at.timestamp_micros(),
            Err(_) => instant_of(local_time(text)?, zone),
        },
        _ => return None,
    };
    // Years 1 to 9999: far beyond any event, and safe to calculate with.
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&micros).then_some(micros)
}

/// A local date or time, `T` or a blank between them.
pub fn local_time(text: &str) -> Option<NaiveDateTime> {
    let forms =
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    forms
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

fn calendar_window(kind: &str, now: NaiveDateTime) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let today = now.date();
    let monday =
        today.checked_sub_days(Days::new(u64::from(today.weekday().num_days_from_monday())))?;
    let first = today.with_day(1)?;
    let quarter = first.with_month0(first.month0() / 3 * 3)?;
    let year = first.with_month0(0)?;
    let (from, to) = match kind {
        "today" => (today, today.checked_add_days(Days::new(1))?),
        "yesterday" => (today.checked_sub_days(Days::new(1))?, today),
        "this-week" => (monday, monday.checked_add_days(Days::new(7))?),
        "last-week" => (monday.checked_sub_days(Days::new(7))?, monday),
        "this-month" => (first, first.checked_add_months(Months::new(1))?),
        "last-month" => (first.checked_sub_months(Months::new(1))?, first),
        "this-quarter" => (quarter, quarter.checked_add_months(Months::new(3))?),
        "last-quarter" => (quarter.checked_sub_months(Months::new(3))?, quarter),
        "this-year" => (year, year.checked_add_months(Months::new(12))?),
        "last-year" => (year.checked_sub_months(Months::new(12))?, year),
        _ => return None,
    };
    Some((from.and_hms_opt(0, 0, 0)?, to.and_hms_opt(0, 0, 0)?))
}
