//! Buckets of time in a zone: the one place that knows where a bucket begins and ends, for SQL, pull, gap
//! filling and finished views. Buckets tile time: each instant lies in exactly one, which begins at or before
//! it. Days and longer follow the calendar of the zone, daylight saving included.

use std::fmt;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use otus_engine::time::{DAY_US, Granularity, SECOND_US};

/// Most buckets of one pull query.
pub const BUCKETS_MAX: usize = 10_000;

const HOUR_US: i64 = 3_600 * SECOND_US;
/// The longest fixed period, so that arithmetic stays far from overflow.
const PERIOD_MAX_US: i64 = 366 * 24 * HOUR_US;

/// A length of time, as a granularity or an ISO 8601 period gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// The granularity whose buckets are those of this period, if there is one.
    pub fn granularity(self) -> Option<Granularity> {
        Granularity::ALL.into_iter().find(|g| Self::of(*g) == self)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    period: Period,
    zone: Tz,
    /// Local time from which buckets are counted.
    origin: NaiveDateTime,
}

impl Step {
    /// Buckets of `period` in `zone`, counted from `origin` or from local midnight.
    pub fn new(period: Period, zone: Tz, origin_us: Option<i64>) -> Self {
        let origin = match origin_us {
            Some(us) => local_of(us, zone),
            None => period.default_origin(),
        };
        Self::from_local(period, zone, origin)
    }

    /// Buckets of `period` in `zone`, counted from a local time.
    pub fn from_local(period: Period, zone: Tz, origin: NaiveDateTime) -> Self {
        Self { period, zone, origin }
    }

    /// Buckets of a granularity in `zone`.
    pub fn of(granularity: Granularity, zone: Tz) -> Self {
        Self::new(Period::of(granularity), zone, None)
    }

    /// The zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Length and origin, microseconds, of buckets that are equally long wherever they stand.
    pub(crate) fn strides(&self) -> Option<(i64, i64)> {
        let width_us = match self.period {
            Period::Time(micros) => micros,
            Period::Days(days) => i64::from(days).checked_mul(DAY_US)?,
            Period::Months(_) => return None,
        };
        (self.zone == Tz::UTC).then(|| (width_us, micros_of(self.origin)))
    }

    /// Whether all local boundaries are multiples of `width_us`, a part of a day, from midnight on.
    pub(crate) fn is_of_days_in(&self, width_us: i64) -> bool {
        let whole = match self.period {
            Period::Time(micros) => micros % width_us == 0,
            Period::Days(_) | Period::Months(_) => true,
        };
        DAY_US % width_us == 0 && whole && micros_of(self.origin) % width_us == 0
    }

    /// Start of the bucket that holds an instant.
    pub fn floor(&self, at_us: i64) -> i64 {
        self.bucket(at_us).0
    }

    /// Start of the bucket after the one that holds an instant.
    pub fn next(&self, at_us: i64) -> i64 {
        self.bucket(at_us).1
    }

    /// The bucket that holds an instant, `[from, to)`. An instant that no calendar reaches is a bucket alone.
    pub fn bucket(&self, at_us: i64) -> (i64, i64) {
        let alone = (at_us, at_us.saturating_add(1));
        if DateTime::from_timestamp_micros(at_us).is_none() {
            return alone;
        }
        let bucket = match self.period {
            Period::Time(micros) if self.zone == Tz::UTC || micros <= HOUR_US => {
                self.short(at_us, micros)
            }
            _ => self.long(at_us),
        };
        bucket.filter(|(from, to)| (*from..*to).contains(&at_us)).unwrap_or(alone)
    }

    /// A bucket of an hour or less: counted with the zone's offset at the instant, and cut where that changes.
    fn short(&self, at_us: i64, micros: i64) -> Option<(i64, i64)> {
        let offset = offset_us(at_us, self.zone);
        let past = at_us.checked_add(offset)?.checked_sub(micros_of(self.origin))?;
        let from = at_us.checked_sub(past.rem_euclid(micros))?;
        let to = from.checked_add(micros)?;
        if self.zone == Tz::UTC {
            return Some((from, to));
        }
        let same = |instant: i64| offset_us(instant, self.zone) == offset;
        let from = if same(from) { from } else { transition(from, at_us, self.zone) };
        let to = if same(to - 1) { to } else { transition(at_us, to - 1, self.zone) };
        Some((from, to))
    }

    /// A longer bucket: it begins at the first instant of its local start.
    fn long(&self, at_us: i64) -> Option<(i64, i64)> {
        let mut count = self.count(local_of(at_us, self.zone));
        let mut from = self.boundary(count)?;
        loop {
            // A clock set back may repeat a time before a boundary after that boundary has passed.
            let to = self.boundary(count.checked_add(1)?)?;
            if to > at_us {
                return Some((from, to));
            }
            (count, from) = (count + 1, to);
        }
    }

    /// Starts of all buckets that meet `[from, to)`; `None` if there are more than [`BUCKETS_MAX`].
    pub fn starts(&self, from_us: i64, to_us: i64) -> Option<Vec<i64>> {
        self.starts_within(from_us, to_us, BUCKETS_MAX)
    }

    /// Starts of all buckets that meet `[from, to)`; `None` if there are more than `buckets_max`.
    pub fn starts_within(&self, from_us: i64, to_us: i64, buckets_max: usize) -> Option<Vec<i64>> {
        let mut starts = Vec::new();
        let mut at = from_us;
        while at < to_us {
            if starts.len() == buckets_max {
                return None;
            }
            let (start, next) = self.bucket(at);
            starts.push(start);
            at = next;
        }
        Some(starts)
    }

    /// Number of the bucket, from the origin, that holds a local time.
    fn count(&self, local: NaiveDateTime) -> i64 {
        let past = local.signed_duration_since(self.origin).num_microseconds().unwrap_or(0);
        match self.period {
            Period::Time(micros) => past.div_euclid(micros),
            Period::Days(n) => past.div_euclid(DAY_US).div_euclid(i64::from(n)),
            Period::Months(n) => {
                let months = |t: NaiveDateTime| i64::from(t.year()) * 12 + i64::from(t.month0());
                let count = (months(local) - months(self.origin)).div_euclid(i64::from(n));
                if self.start(count).is_some_and(|s| s > local) { count - 1 } else { count }
            }
        }
    }

    /// Local start of a bucket. Always from the origin: a month after January 31 and a month more is not
    /// a month after February 29.
    fn start(&self, count: i64) -> Option<NaiveDateTime> {
        self.period.shift(self.origin, count)
    }

    /// The instant at which a bucket starts.
    fn boundary(&self, count: i64) -> Option<i64> {
        self.start(count).map(|local| instant_of(local, self.zone))
    }
}

/// Local time in a zone, microseconds cut to what chrono holds.
pub fn local_of(at_us: i64, zone: Tz) -> NaiveDateTime {
    DateTime::from_timestamp_micros(at_us)
        .map_or_else(NaiveDateTime::default, |utc| utc.with_timezone(&zone).naive_local())
}

/// The instant of a local time: the earlier of two; if the clock skips it, the first instant after the gap.
pub fn instant_of(local: NaiveDateTime, zone: Tz) -> i64 {
    match zone.from_local_datetime(&local).earliest() {
        Some(found) => found.timestamp_micros(),
        // Offsets lie between -15 and +15 hours, a whole skipped day included.
        None => {
            let naive = micros_of(local);
            transition(naive - 15 * HOUR_US, naive + 15 * HOUR_US, zone)
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
mod tests;
