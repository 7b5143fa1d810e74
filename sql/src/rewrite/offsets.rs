//! Offsets of time zones over a range of time: a bucket by local calendar is made of whole UTC buckets only
//! where every offset is a multiple of their width and every change falls between two of them.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use chrono::{DateTime, Datelike, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use otus_engine::limits::{EVENT_TIME_MAX_US, EVENT_TIME_MIN_US};
use otus_engine::time::{Granularity, SECOND_US};
use parking_lot::Mutex;

/// Whose calendar a value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Utc,
    Named(Tz),
    /// Seconds east of Greenwich.
    Fixed(i64),
}

impl Zone {
    pub(super) fn parse(name: &str) -> Option<Self> {
        if matches!(name, "UTC" | "+00:00" | "Etc/UTC" | "Z") {
            return Some(Self::Utc);
        }
        if let Ok(zone) = Tz::from_str(name) {
            return Some(Self::Named(zone));
        }
        let sign = match name.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let (hours, minutes) = (digits.get(..2)?.parse::<i64>().ok()?, digits.get(2..)?);
        let minutes = if minutes.is_empty() { 0 } else { minutes.parse::<i64>().ok()? };
        (digits.len() <= 4).then_some(Self::Fixed(sign * (hours * 3_600 + minutes * 60)))
    }
}

/// Seconds between two looks at a zone's offset. No zone has changed there and back within so short a time.
const STEP_S: i64 = 6 * 3_600;

/// Offsets of one zone in one year.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Year {
    /// Seconds east of Greenwich, each once.
    offsets: Vec<i64>,
    /// Seconds since the epoch at which the offset changes.
    changes: Vec<i64>,
}

static YEARS: LazyLock<Mutex<HashMap<(Tz, i32), Year>>> = LazyLock::new(Mutex::default);

fn offset_at(zone: Tz, second: i64) -> i64 {
    let Some(instant) = DateTime::<Utc>::from_timestamp(second, 0) else { return 0 };
    i64::from(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc())
}

fn year(zone: Tz, number: i32) -> Year {
    if let Some(known) = YEARS.lock().get(&(zone, number)) {
        return known.clone();
    }
    let start =
        |n: i32| Utc.with_ymd_and_hms(n, 1, 1, 0, 0, 0).single().map_or(0, |t| t.timestamp());
    let (from, to) = (start(number), start(number + 1));
    let mut found = Year::default();
    let (mut at, mut before) = (from, offset_at(zone, from));
    found.offsets.push(before);
    while at < to {
        let next = (at + STEP_S).min(to);
        let after = offset_at(zone, next);
        if after != before {
            let (mut low, mut high) = (at, next);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match offset_at(zone, middle) == before {
                    true => low = middle,
                    false => high = middle,
                }
            }
            found.changes.push(high);
            if !found.offsets.contains(&after) {
                found.offsets.push(after);
            }
            before = after;
        }
        at = next;
    }
    YEARS.lock().insert((zone, number), found.clone());
    found
}

/// Whether local buckets of `zone` over `[from_us, to_us)` begin only where buckets of `granularity` do.
pub(super) fn aligned(zone: Tz, granularity: Granularity, from_us: i64, to_us: i64) -> bool {
    static UTC: OnceLock<Tz> = OnceLock::new();
    if zone == *UTC.get_or_init(|| Tz::UTC) {
        return true;
    }
    let number = |us: i64| {
        let us = us.clamp(EVENT_TIME_MIN_US, EVENT_TIME_MAX_US);
        DateTime::<Utc>::from_timestamp_micros(us).map_or(1970, |t| t.year())
    };
    (number(from_us)..=number(to_us)).map(|n| year(zone, n)).all(|year| {
        year.offsets.iter().all(|offset| whole(granularity, *offset))
            && year.changes.iter().all(|at| granularity.floor_us(at * SECOND_US) == at * SECOND_US)
    })
}

/// Whether an offset moves every boundary of a granularity to another one.
pub(super) fn whole(granularity: Granularity, offset_s: i64) -> bool {
    match granularity.fixed_us() {
        Some(width) => (offset_s * SECOND_US) % width == 0,
        None => offset_s == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_offsets_are_aligned() {
        use Granularity as G;
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let (from, to) = (at("2024-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let check = |zone: &str, g: G, expected: bool| {
            assert_eq!(aligned(zone.parse().unwrap(), g, from, to), expected, "{zone} {g}");
        };
        check("Europe/Berlin", G::Hour, true);
        check("Europe/Berlin", G::Day, false);
        check("Asia/Kolkata", G::Hour, false);
        check("Asia/Kolkata", G::FifteenMinute, true);
        check("Asia/Kathmandu", G::FifteenMinute, true);
        check("Asia/Kathmandu", G::Hour, false);
        check("Atlantic/Reykjavik", G::Day, true);
        check("Europe/London", G::Day, false);
        check("UTC", G::Month, true);
        // Changed at one minute past midnight until 2011.
        let before = aligned(
            "America/St_Johns".parse().unwrap(),
            G::FifteenMinute,
            at("2005-01-01T00:00:00Z"),
            at("2006-01-01T00:00:00Z"),
        );
        assert!(!before);
    }
}
