//! Buckets of time in a zone: the boundaries of a query's interval, one list for grouping, for filling gaps
//! and for choosing a rollup. Days and longer follow the calendar of the zone, daylight saving included.

use std::fmt;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use otus_engine::time::{Granularity, SECOND_US};

/// Most buckets of one query.
pub const BUCKETS_MAX: usize = 10_000;

const HOUR_US: i64 = 3_600 * SECOND_US;
/// The longest fixed period, so that arithmetic stays far from overflow.
const PERIOD_MAX_US: i64 = 366 * 24 * HOUR_US;

/// A length of time, as a granularity or an ISO 8601 period gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Hours and shorter, microseconds.
    Time(i64),
    /// Calendar days.
    Days(u32),
    /// Calendar months.
    Months(u32),
}

impl Period {
    /// The period of a granularity.
    pub fn of(granularity: Granularity) -> Self {
        match granularity {
            Granularity::Day => Self::Days(1),
            Granularity::Week => Self::Days(7),
            Granularity::Month => Self::Months(1),
            Granularity::Quarter => Self::Months(3),
            Granularity::Year => Self::Months(12),
            fine => Self::Time(fine.fixed_us().unwrap_or(SECOND_US)),
        }
    }

    /// `PT15M`, `PT24H`, `P1D`, `P2W`, `P3M`, `P1Y`; years with months and hours with minutes and seconds
    /// may stand together, days not with either.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let body = text.strip_prefix('P')?;
        let (date, time) = match body.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (body, ""),
        };
        let date = iso_parts(date, "YMWD")?;
        let time = iso_parts(time, "HMS")?;
        let [years, months, weeks, days] = date.as_slice() else { return None };
        let [hours, minutes, seconds] = time.as_slice() else { return None };
        let months = years.checked_mul(12)?.checked_add(*months)?;
        let days = weeks.checked_mul(7)?.checked_add(*days)?;
        let seconds = hours
            .checked_mul(3_600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(*seconds)?;
        match (months, days, seconds) {
            (1..=1_200, 0, 0) => Some(Self::Months(u32::try_from(months).ok()?)),
            (0, 1..=36_600, 0) => Some(Self::Days(u32::try_from(days).ok()?)),
            (0, 0, 1..) => {
                let micros = i64::try_from(seconds).ok()?.checked_mul(SECOND_US)?;
                (micros <= PERIOD_MAX_US).then_some(Self::Time(micros))
            }
            _ => None,
        }
    }

    /// Local midnight from which buckets are counted: a Monday for whole weeks.
    fn default_origin(self) -> NaiveDateTime {
        let monday = matches!(self, Self::Days(n) if n % 7 == 0);
        let date = if monday { NaiveDate::from_ymd_opt(1969, 12, 29) } else { None };
        date.and_then(|d| d.and_hms_opt(0, 0, 0)).unwrap_or_default()
    }

    /// This much before an instant, in a zone.
    pub fn before(self, instant_us: i64, zone: Tz) -> i64 {
        match self {
            Self::Time(micros) => instant_us - micros,
            Self::Days(_) | Self::Months(_) => {
                let local = local_of(instant_us, zone);
                instant_of(self.shift(local, -1).unwrap_or(local), zone)
            }
        }
    }

    /// `count` periods after a local time.
    fn shift(self, local: NaiveDateTime, count: i64) -> Option<NaiveDateTime> {
        match self {
            Self::Time(micros) => {
                local.checked_add_signed(chrono::Duration::microseconds(micros.checked_mul(count)?))
            }
            Self::Days(n) => {
                let days = Days::new(u64::from(n).checked_mul(count.unsigned_abs())?);
                if count < 0 { local.checked_sub_days(days) } else { local.checked_add_days(days) }
            }
            Self::Months(n) => {
                let months = u32::try_from(count.unsigned_abs()).ok()?.checked_mul(n)?;
                let months = Months::new(months);
                if count < 0 {
                    local.checked_sub_months(months)
                } else {
                    local.checked_add_months(months)
                }
            }
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(micros) => write!(f, "PT{}S", micros / SECOND_US),
            Self::Days(n) => write!(f, "P{n}D"),
            Self::Months(n) => write!(f, "P{n}M"),
        }
    }
}

/// The numbers before each of `units`, in their order, 0 where missing.
fn iso_parts(text: &str, units: &str) -> Option<Vec<u64>> {
    let mut rest = text;
    let mut parts = Vec::with_capacity(units.len());
    for unit in units.chars() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let after = rest.get(digits..).unwrap_or("");
        match after.strip_prefix(unit) {
            Some(next) if digits > 0 => {
                parts.push(rest.get(..digits)?.parse().ok()?);
                rest = next;
            }
            _ => parts.push(0),
        }
    }
    rest.is_empty().then_some(parts)
}

/// Buckets of one period in one zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    period: Period,
    zone: Tz,
    origin: NaiveDateTime,
}

impl Step {
    /// Buckets of `period` in `zone`, counted from `origin` or from local midnight.
    pub fn new(period: Period, zone: Tz, origin_us: Option<i64>) -> Self {
        let origin = match origin_us {
            Some(us) => local_of(us, zone),
            None => period.default_origin(),
        };
        Self { period, zone, origin }
    }

    /// Start of the bucket that holds an instant.
    pub fn floor(&self, at_us: i64) -> i64 {
        let local = local_of(at_us, self.zone);
        let start = self.start(self.count(local));
        let at_most = |start: i64| start.min(at_us);
        match self.period {
            Period::Time(micros) if micros <= HOUR_US => {
                let offset = offset_us(at_us, self.zone);
                let start = micros_of(start) - offset;
                if offset_us(start, self.zone) == offset {
                    at_most(start)
                } else {
                    transition(start, at_us, self.zone)
                }
            }
            _ => at_most(instant_of(start, self.zone)),
        }
    }

    /// Start of the bucket after the one that starts at `start_us`.
    pub fn next(&self, start_us: i64) -> i64 {
        let local = local_of(start_us, self.zone);
        let after = self.start(self.count(local).saturating_add(1));
        let next = match self.period {
            // Short buckets run on through a change of the clock.
            Period::Time(micros) if micros <= HOUR_US => {
                micros_of(after) - offset_us(start_us, self.zone)
            }
            _ => instant_of(after, self.zone),
        };
        if next > start_us { next } else { start_us + SECOND_US }
    }

    /// Starts of all buckets that meet `[from, to)`; `None` if there are more than [`BUCKETS_MAX`].
    pub fn starts(&self, from_us: i64, to_us: i64) -> Option<Vec<i64>> {
        let mut starts = Vec::new();
        if from_us >= to_us {
            return Some(starts);
        }
        let mut start = self.floor(from_us);
        while start < to_us {
            if starts.len() == BUCKETS_MAX {
                return None;
            }
            starts.push(start);
            start = self.next(start);
        }
        Some(starts)
    }

    /// Number of the bucket, from the origin, that holds a local time.
    fn count(&self, local: NaiveDateTime) -> i64 {
        let past = local.signed_duration_since(self.origin).num_microseconds().unwrap_or(0);
        match self.period {
            Period::Time(micros) => past.div_euclid(micros),
            Period::Days(n) => past.div_euclid(24 * HOUR_US).div_euclid(i64::from(n)),
            Period::Months(n) => {
                let months = |t: NaiveDateTime| i64::from(t.year()) * 12 + i64::from(t.month0());
                let count = (months(local) - months(self.origin)).div_euclid(i64::from(n));
                if self.start(count) > local { count - 1 } else { count }
            }
        }
    }

    /// Local start of a bucket. Always from the origin: a month after January 31 and a month more is not
    /// a month after February 29.
    fn start(&self, count: i64) -> NaiveDateTime {
        self.period.shift(self.origin, count).unwrap_or(self.origin)
    }
}

/// Local time in a zone, microseconds cut to what chrono holds.
pub fn local_of(at_us: i64, zone: Tz) -> NaiveDateTime {
    DateTime::from_timestamp_micros(at_us)
        .map_or_else(NaiveDateTime::default, |utc| utc.with_timezone(&zone).naive_local())
}

/// The instant of a local time: the earlier of two, the end of the gap if there is none.
pub fn instant_of(local: NaiveDateTime, zone: Tz) -> i64 {
    match zone.from_local_datetime(&local).earliest() {
        Some(found) => found.timestamp_micros(),
        None => {
            let naive = micros_of(local);
            naive - offset_us(naive - 24 * HOUR_US, zone)
        }
    }
}

/// Seconds east of UTC at an instant.
pub fn offset_seconds(at_us: i64, zone: Tz) -> i32 {
    DateTime::from_timestamp_micros(at_us)
        .map_or(0, |utc| zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc())
}

fn offset_us(at_us: i64, zone: Tz) -> i64 {
    i64::from(offset_seconds(at_us, zone)) * SECOND_US
}

fn micros_of(local: NaiveDateTime) -> i64 {
    local.and_utc().timestamp_micros()
}

/// The first instant after `low` with the offset of `high`.
fn transition(low: i64, high: i64, zone: Tz) -> i64 {
    let (mut low, mut high) = (low.div_euclid(SECOND_US), high.div_euclid(SECOND_US));
    let offset = offset_us(high * SECOND_US, zone);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset_us(middle * SECOND_US, zone) == offset { high = middle } else { low = middle }
    }
    high * SECOND_US
}

#[cfg(test)]
mod tests {
    use super::super::text::{instant_text, parse_instant};
    use super::*;

    #[track_caller]
    fn check(period: &str, zone: &str, from: &str, to: &str, expected: &[&str]) {
        let zone: Tz = zone.parse().unwrap();
        let at = |text: &str| parse_instant(text).unwrap().0;
        let step = Step::new(Period::parse_iso(period).unwrap(), zone, None);
        let starts = step.starts(at(from), at(to)).unwrap();
        let shown: Vec<String> =
            starts.iter().map(|s| instant_text(*s, offset_seconds(*s, zone))).collect();
        assert_eq!(shown, expected);
        for pair in starts.windows(2) {
            assert_eq!(step.floor(pair[0]), pair[0]);
            assert_eq!(step.floor(pair[1] - 1), pair[0]);
        }
    }

    #[test]
    fn hours_follow_the_zone() {
        check(
            "PT1H",
            "Asia/Kolkata",
            "2024-08-20T00:00:00Z",
            "2024-08-20T02:00:00Z",
            &[
                "2024-08-20T05:00:00+05:30",
                "2024-08-20T06:00:00+05:30",
                "2024-08-20T07:00:00+05:30",
            ],
        );
        check(
            "PT1H",
            "America/New_York",
            "2024-11-03T04:30:00Z",
            "2024-11-03T07:30:00Z",
            &[
                "2024-11-03T00:00:00-04:00",
                "2024-11-03T01:00:00-04:00",
                "2024-11-03T01:00:00-05:00",
                "2024-11-03T02:00:00-05:00",
            ],
        );
        check(
            "PT1H",
            "Australia/Lord_Howe",
            "2024-04-06T13:45:00Z",
            "2024-04-06T16:30:00Z",
            &[
                "2024-04-07T00:00:00+11:00",
                "2024-04-07T01:00:00+11:00",
                "2024-04-07T01:30:00+10:30",
                "2024-04-07T02:00:00+10:30",
            ],
        );
        check(
            "PT6H",
            "America/New_York",
            "2024-11-03T04:00:00Z",
            "2024-11-03T17:00:00Z",
            &["2024-11-03T00:00:00-04:00", "2024-11-03T06:00:00-05:00"],
        );
    }

    #[test]
    fn days_and_longer_follow_the_calendar() {
        check(
            "P1D",
            "Europe/Berlin",
            "2024-03-30T12:00:00Z",
            "2024-04-01T00:00:00Z",
            &[
                "2024-03-30T00:00:00+01:00",
                "2024-03-31T00:00:00+01:00",
                "2024-04-01T00:00:00+02:00",
            ],
        );
        check(
            "P1D",
            "America/Sao_Paulo",
            "2018-11-03T12:00:00Z",
            "2018-11-05T00:00:00Z",
            &["2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"],
        );
        let weeks = ["2024-08-19T00:00:00Z", "2024-08-26T00:00:00Z"];
        check("P1W", "UTC", "2024-08-20T00:00:00Z", "2024-08-27T00:00:00Z", &weeks);
        let quarters = ["2023-10-01T00:00:00Z", "2024-01-01T00:00:00Z", "2024-04-01T00:00:00Z"];
        check("P3M", "UTC", "2023-12-31T23:59:59Z", "2024-04-01T00:00:01Z", &quarters);
        check(
            "P1Y",
            "UTC",
            "2024-05-05T00:00:00Z",
            "2024-06-01T00:00:00Z",
            &["2024-01-01T00:00:00Z"],
        );
    }

    #[test]
    fn granularities_agree_with_the_engine_in_utc() {
        let from = parse_instant("2023-12-30T22:47:13.25Z").unwrap().0;
        for granularity in Granularity::ALL {
            let step = Step::new(Period::of(granularity), Tz::UTC, None);
            let mut at = from;
            for _ in 0..500 {
                assert_eq!(step.floor(at), granularity.floor_us(at), "{granularity}");
                assert_eq!(step.next(step.floor(at)), granularity.next_us(at), "{granularity}");
                at += 7_919 * 61 * SECOND_US;
            }
        }
    }

    #[test]
    fn periods_read() {
        for (text, period) in [
            ("PT15M", Some(Period::Time(900 * SECOND_US))),
            ("PT1H30M", Some(Period::Time(5_400 * SECOND_US))),
            ("P7D", Some(Period::Days(7))),
            ("P2W", Some(Period::Days(14))),
            ("P1Y6M", Some(Period::Months(18))),
            ("P1DT1H", None),
            ("P", None),
            ("PT", None),
            ("P0D", None),
            ("P-1D", None),
            ("PT99999999999999999999H", None),
            ("P1M1D", None),
            ("1D", None),
            ("PT1.5H", None),
        ] {
            assert_eq!(Period::parse_iso(text), period, "{text}");
        }
        let step = Step::new(Period::Time(SECOND_US), Tz::UTC, None);
        assert_eq!(step.starts(0, 20_000 * SECOND_US), None);
        let origin = parse_instant("2024-01-31T06:00:00Z").unwrap().0;
        let step = Step::new(Period::Months(1), Tz::UTC, Some(origin));
        let from = parse_instant("2024-02-01T00:00:00Z").unwrap().0;
        let to = parse_instant("2024-04-01T00:00:00Z").unwrap().0;
        let shown: Vec<String> =
            step.starts(from, to).unwrap().iter().map(|s| instant_text(*s, 0)).collect();
        let expected = ["2024-01-31T06:00:00Z", "2024-02-29T06:00:00Z", "2024-03-31T06:00:00Z"];
        assert_eq!(shown, expected);
    }
}
