//! Dates, times and intervals: ISO text in the session's zone, and Postgres' binary form, which counts
//! from 2000-01-01.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};

use super::number::{FloatDigits, put_digits, put_int};
use crate::pgwire::error::WireError;

const DAY_US: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The zone in which a session shows instants, and the styles in which it shows other values.
#[derive(Debug, Clone)]
pub(in crate::pgwire) struct Zone {
    name: Arc<str>,
    zone: Option<Tz>,
    /// Whether intervals are shown as `P1DT2H`.
    pub(super) iso_intervals: bool,
    /// Whether bytes are shown as characters and octal escapes.
    pub(super) escaped_bytes: bool,
    /// How many digits floats are shown with.
    pub(super) float_digits: FloatDigits,
}

impl Zone {
    /// From the session's setting; UTC for names that are not known.
    pub(in crate::pgwire) fn new(name: &str) -> Self {
        let utc = ["UTC", "Etc/UTC", "GMT", "Z", "+00", "+00:00"];
        let zone =
            if utc.iter().any(|u| u.eq_ignore_ascii_case(name)) { None } else { name.parse().ok() };
        let float_digits = FloatDigits::Shortest;
        Self { name: name.into(), zone, iso_intervals: false, escaped_bytes: false, float_digits }
    }

    /// The same with the session's `IntervalStyle` and `bytea_output`.
    pub(in crate::pgwire) fn with_styles(self, interval: &str, bytea: &str) -> Self {
        let (iso_intervals, escaped_bytes) = (interval == "iso_8601", bytea == "escape");
        Self { iso_intervals, escaped_bytes, ..self }
    }

    /// The same with the session's `extra_float_digits`.
    pub(in crate::pgwire) fn with_float_digits(self, extra: &str) -> Self {
        Self { float_digits: FloatDigits::extra(extra), ..self }
    }

    /// The name it was made from.
    pub(in crate::pgwire) fn name(&self) -> &str {
        &self.name
    }

    /// Seconds east of UTC at an instant.
    fn offset_s(&self, us: i64) -> i32 {
        match (&self.zone, DateTime::from_timestamp_micros(us)) {
            (Some(zone), Some(at)) => {
                zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
            }
            _ => 0,
        }
    }
}

fn out_of_range(what: &str) -> WireError {
    WireError::error("22008", format!("{what} out of range"))
}

/// Year, month, day; and whether the year is before Christ.
fn put_day(days: i64, out: &mut BytesMut) -> Result<bool, WireError> {
    let day = i32::try_from(days)
        .ok()
        .and_then(|days| days.checked_add(719_163))
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .ok_or_else(|| out_of_range("date"))?;
    let year = i64::from(day.year());
    let before = year <= 0;
    let year = if before { 1 - year } else { year };
    put_digits(year.unsigned_abs(), 4, out);
    out.put_u8(b'-');
    put_digits(u64::from(day.month()), 2, out);
    out.put_u8(b'-');
    put_digits(u64::from(day.day()), 2, out);
    Ok(before)
}

/// `HH:MM:SS[.ffffff]`, hours unbounded, without trailing zeros.
fn put_clock(us: u64, out: &mut BytesMut) {
    let seconds = us / 1_000_000;
    put_digits(seconds / 3_600, 2, out);
    out.put_u8(b':');
    put_digits(seconds / 60 % 60, 2, out);
    out.put_u8(b':');
    put_digits(seconds % 60, 2, out);
    let (mut fraction, mut width) = (us % 1_000_000, 6);
    if fraction > 0 {
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        out.put_u8(b'.');
        put_digits(fraction, width, out);
    }
}

pub(super) fn put_date(days: i32, out: &mut BytesMut) -> Result<(), WireError> {
    if put_day(i64::from(days), out)? {
        out.put_slice(b" BC");
    }
    Ok(())
}

pub(super) fn put_time(us: i64, out: &mut BytesMut) {
    put_clock(us.unsigned_abs(), out);
}

pub(super) fn put_timestamp(
    us: i64,
    zone: Option<&Zone>,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let offset_s = zone.map(|z| z.offset_s(us));
    let local = us
        .checked_add(i64::from(offset_s.unwrap_or(0)) * 1_000_000)
        .ok_or_else(|| out_of_range("timestamp"))?;
    let before = put_day(local.div_euclid(DAY_US), out)?;
    out.put_u8(b' ');
    put_clock(local.rem_euclid(DAY_US).unsigned_abs(), out);
    if let Some(offset) = offset_s {
        out.put_u8(if offset < 0 { b'-' } else { b'+' });
        let offset = u64::from(offset.unsigned_abs());
        put_digits(offset / 3_600, 2, out);
        if !offset.is_multiple_of(3_600) {
            out.put_u8(b':');
            put_digits(offset / 60 % 60, 2, out);
        }
        if !offset.is_multiple_of(60) {
            out.put_u8(b':');
            put_digits(offset % 60, 2, out);
        }
    }
    if before {
        out.put_slice(b" BC");
    }
    Ok(())
}

/// Nanoseconds of more than a day as days.
pub(super) fn with_days(span: IntervalMonthDayNano) -> IntervalMonthDayNano {
    const DAY_NS: i64 = 86_400_000_000_000;
    match i32::try_from(span.nanoseconds / DAY_NS) {
        Ok(days) => IntervalMonthDayNano {
            days: span.days.saturating_add(days),
            nanoseconds: span.nanoseconds % DAY_NS,
            ..span
        },
        Err(_) => span,
    }
}

/// `1 year 2 mons 3 days 04:05:06`, the style `postgres`.
pub(super) fn put_interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let start = out.len();
    let mut negative_before = false;
    let mut part = |count: i64, one: &str, many: &str, out: &mut BytesMut| {
        if count == 0 {
            return;
        }
        if out.len() > start {
            out.put_u8(b' ');
        }
        if negative_before && count > 0 {
            out.put_u8(b'+');
        }
        negative_before = count < 0;
        put_int(count, out);
        out.put_u8(b' ');
        out.put_slice(if count == 1 { one } else { many }.as_bytes());
    };
    part(i64::from(value.months / 12), "year", "years", out);
    part(i64::from(value.months % 12), "mon", "mons", out);
    part(i64::from(value.days), "day", "days", out);
    let us = value.nanoseconds / 1_000;
    if us != 0 || out.len() == start {
        if out.len() > start {
            out.put_u8(b' ');
        }
        if us < 0 {
            out.put_u8(b'-');
        } else if negative_before {
            out.put_u8(b'+');
        }
        put_clock(us.unsigned_abs(), out);
    }
}

/// `P1Y2M3DT4H5M6.5S`, the style `iso_8601`.
pub(super) fn put_iso_interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let start = out.len();
    let part = |count: i64, unit: u8, out: &mut BytesMut| {
        if count != 0 {
            put_int(count, out);
            out.put_u8(unit);
        }
    };
    out.put_u8(b'P');
    part(i64::from(value.months / 12), b'Y', out);
    part(i64::from(value.months % 12), b'M', out);
    part(i64::from(value.days), b'D', out);
    let us = value.nanoseconds / 1_000;
    if us != 0 || out.len() == start + 1 {
        out.put_u8(b'T');
    }
    part(us / 3_600_000_000, b'H', out);
    part(us / 60_000_000 % 60, b'M', out);
    let rest = us % 60_000_000;
    if rest != 0 || out.len() == start + 2 {
        if rest < 0 {
            out.put_u8(b'-');
        }
        put_digits(rest.unsigned_abs() / 1_000_000, 1, out);
        let (mut fraction, mut width) = (rest.unsigned_abs() % 1_000_000, 6);
        if fraction > 0 {
            while fraction.is_multiple_of(10) {
                fraction /= 10;
                width -= 1;
            }
            out.put_u8(b'.');
            put_digits(fraction, width, out);
        }
        out.put_u8(b'S');
    }
}

pub(super) fn put_date_binary(days: i32, out: &mut BytesMut) -> Result<(), WireError> {
    out.put_i32(days.checked_sub(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?);
    Ok(())
}

pub(super) fn put_timestamp_binary(us: i64, out: &mut BytesMut) -> Result<(), WireError> {
    out.put_i64(us.checked_sub(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))?);
    Ok(())
}

pub(super) fn put_interval_binary(value: IntervalMonthDayNano, out: &mut BytesMut) {
    out.put_i64(value.nanoseconds / 1_000);
    out.put_i32(value.days);
    out.put_i32(value.months);
}

/// Days since 1970 of a binary date.
pub(in crate::pgwire) fn date_from_binary(days: i32) -> Result<i32, WireError> {
    days.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))
}

/// Microseconds since 1970 of a binary timestamp.
pub(in crate::pgwire) fn timestamp_from_binary(us: i64) -> Result<i64, WireError> {
    us.checked_add(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    /// The right sides are what PostgreSQL 15 shows.
    #[test]
    fn instants_in_zones() {
        for (instant, zone, expected) in [
            ("2015-09-12T13:47:58.771Z", "UTC", "2015-09-12 13:47:58.771+00"),
            ("2015-09-12T13:47:58Z", "Europe/Berlin", "2015-09-12 15:47:58+02"),
            ("2015-12-12T13:47:58.000001Z", "Europe/Berlin", "2015-12-12 14:47:58.000001+01"),
            ("2015-09-12T13:47:58Z", "Asia/Kolkata", "2015-09-12 19:17:58+05:30"),
            ("2015-09-12T01:00:00Z", "America/St_Johns", "2015-09-11 22:30:00-02:30"),
            ("1880-01-01T00:00:00Z", "Europe/Paris", "1880-01-01 00:09:21+00:09:21"),
            ("0001-01-01T00:00:00Z", "UTC", "0001-01-01 00:00:00+00"),
        ] {
            let zone = Zone::new(zone);
            let shown = text(|out| put_timestamp(at(instant), Some(&zone), out).unwrap());
            assert_eq!(shown, expected);
        }
        let before = at("0001-01-01T00:00:00Z") - DAY_US;
        assert_eq!(text(|out| put_timestamp(before, None, out).unwrap()), "0001-12-31 00:00:00 BC");
        let mut out = BytesMut::new();
        assert!(put_timestamp(i64::MIN, None, &mut out).is_err());
        assert!(put_timestamp_binary(i64::MIN, &mut out).is_err());
    }

    #[test]
    fn dates_and_clocks() {
        assert_eq!(text(|out| put_date(0, out).unwrap()), "1970-01-01");
        assert_eq!(text(|out| put_date(16_690, out).unwrap()), "2015-09-12");
        assert_eq!(text(|out| put_time(3_723_000_100, out)), "01:02:03.0001");
    }

    #[test]
    fn intervals_read_as_postgres_shows_them() {
        let interval = |months, days, us: i64| {
            text(|out| put_interval(IntervalMonthDayNano::new(months, days, us * 1_000_i64), out))
        };
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(14, 3, 14_706_000_000), "1 year 2 mons 3 days 04:05:06");
        assert_eq!(interval(-1, 1, 0), "-1 mons +1 day");
        assert_eq!(interval(0, -2, 60_000_000), "-2 days +00:01:00");
        assert_eq!(interval(0, 1, -1_500_000), "1 day -00:00:01.5");
        assert_eq!(interval(0, 0, 90_000_000_000), "25:00:00");
        let iso = |months, days, us: i64| {
            let span = IntervalMonthDayNano::new(months, days, us * 1_000_i64);
            text(|out| put_iso_interval(span, out))
        };
        assert_eq!(iso(0, 0, 0), "PT0S");
        assert_eq!(iso(14, 3, 14_706_500_000), "P1Y2M3DT4H5M6.5S");
        assert_eq!(iso(0, -1, -500_000), "P-1DT-0.5S");
        assert_eq!(iso(1, 0, 0), "P1M");
    }
}
