//! Times in records: ISO 8601 text with any offset, and epoch numbers with a declared unit.
//! Fractions finer than a microsecond are cut. A text without offset is UTC.

use otus_engine::catalog::EpochUnit;
use otus_engine::time::{DAY_US, SECOND_US};

/// What a time text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The instant, microseconds since the epoch (without offset in the text: taken as UTC).
    pub(crate) utc_us: i64,
}

/// Reads a date and time: `YYYY-MM-DD`, then optionally `T` or a space and `HH:MM[:SS[.fraction]]`, then
/// optionally `Z` or an offset `+HH`, `+HHMM`, `+HH:MM`, `+HH:MM:SS`; also the basic form
/// `YYYYMMDDTHHMMSS`. None if the text is anything else.
pub(crate) fn parse_moment(text: &str) -> Option<Moment> {
    let mut at = Reader { bytes: text.as_bytes() };
    let days = at.date()?;
    let mut us = i64::from(days) * DAY_US;
    if at.bytes.is_empty() {
        return Some(Moment { utc_us: us });
    }
    if !(at.take(b'T') || at.take(b't') || at.take(b' ')) {
        return None;
    }
    us += at.time_of_day()?;
    at.take(b' ');
    us -= at.offset()?;
    at.bytes.is_empty().then_some(Moment { utc_us: us })
}

/// Reads a date alone, as days since the epoch.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let mut at = Reader { bytes: text.as_bytes() };
    let days = at.date()?;
    at.bytes.is_empty().then_some(days)
}

/// Instants of the years that a text can name, 0000 to 9999, as microseconds since the epoch. What lies beyond
/// could be stored, but not shown.
const SHOWN_US: std::ops::Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

/// Reads an epoch number of the given unit, as microseconds. Exact for any decimal text that fits; digits
/// finer than a microsecond are cut towards the past. None if it is no number or beyond the year 9999.
pub(crate) fn parse_epoch(number: &str, unit: EpochUnit) -> Option<i64> {
    let shift = match unit {
        EpochUnit::Seconds => 6,
        EpochUnit::Millis => 3,
        EpochUnit::Micros => 0,
        EpochUnit::Nanos => -3,
    };
    let decimal = super::number::Decimal::parse(number)?;
    let us = i64::try_from(decimal.shifted(shift)?.floor()?).ok()?;
    SHOWN_US.contains(&us).then_some(us)
}

/// Days since the epoch of a civil date (proleptic Gregorian).
fn days_of(year: i32, month: u32, day: u32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if day == 0 || day > length {
        return None;
    }
    // Years counted from March, so that the leap day comes last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let month_from_march = i32::try_from((month + 9) % 12).ok()?;
    let day_of_year = (153 * month_from_march + 2) / 5 + i32::try_from(day).ok()? - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        match self.bytes.split_first() {
            Some((first, rest)) if *first == byte => {
                self.bytes = rest;
                true
            }
            _ => false,
        }
    }

    /// Exactly `N` digits.
    #[inline]
    fn digits<const N: usize>(&mut self) -> Option<u32> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        let mut value = 0;
        for byte in head {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u32::from(digit);
        }
        self.bytes = rest;
        Some(value)
    }

    fn date(&mut self) -> Option<i32> {
        let year = i32::try_from(self.digits::<4>()?).ok()?;
        let dashed = self.take(b'-');
        let month = self.digits::<2>()?;
        if dashed && !self.take(b'-') {
            return None;
        }
        let day = self.digits::<2>()?;
        days_of(year, month, day)
    }

    /// `HH:MM[:SS[.fraction]]` or `HHMM[SS[.fraction]]`, as microseconds. 24:00:00 and a leap second are taken
    /// as the moment they reach.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits::<2>()?;
        let colons = self.take(b':');
        let minute = self.digits::<2>()?;
        let mut second = 0;
        let mut fraction = 0;
        let has_second = if colons { self.take(b':') } else { self.starts_with_digit() };
        if has_second {
            second = self.digits::<2>()?;
            if self.take(b'.') || self.take(b',') {
                fraction = self.fraction()?;
            }
        }
        if hour > 24 || minute > 59 || second > 60 || (hour == 24 && minute + second > 0) {
            return None;
        }
        if hour == 24 && fraction > 0 {
            return None;
        }
        Some(i64::from(hour * 3600 + minute * 60 + second) * SECOND_US + fraction)
    }

    fn starts_with_digit(&self) -> bool {
        self.bytes.first().is_some_and(u8::is_ascii_digit)
    }

    fn fraction(&mut self) -> Option<i64> {
        let mut micros = 0;
        let mut scale = 100_000;
        let mut seen = false;
        while let Some((byte, rest)) = self.bytes.split_first() {
            if !byte.is_ascii_digit() {
                break;
            }
            micros += i64::from(byte - b'0') * scale;
            scale /= 10;
            seen = true;
            self.bytes = rest;
        }
        seen.then_some(micros)
    }

    /// The offset east of UTC, microseconds; 0 if there is none.
    fn offset(&mut self) -> Option<i64> {
        if self.bytes.is_empty() || self.take(b'Z') || self.take(b'z') {
            return Some(0);
        }
        let sign = if self.take(b'-') {
            -1
        } else if self.take(b'+') {
            1
        } else {
            return None;
        };
        let hour = self.digits::<2>()?;
        let (mut minute, mut second) = (0, 0);
        if self.take(b':') || self.starts_with_digit() {
            minute = self.digits::<2>()?;
            if self.take(b':') {
                second = self.digits::<2>()?;
            }
        }
        if hour > 18 || minute > 59 || second > 59 {
            return None;
        }
        Some(sign * i64::from(hour * 3600 + minute * 60 + second) * SECOND_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Days, NaiveDate};

    #[test]
    fn every_day_agrees_with_a_calendar_library() {
        let mut date = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for _ in 0..3_000 {
            let expected = i32::try_from((date - epoch).num_days()).unwrap();
            assert_eq!(parse_date(&date.format("%Y-%m-%d").to_string()), Some(expected), "{date}");
            date = date + Days::new(1217);
            if date > NaiveDate::from_ymd_opt(9999, 1, 1).unwrap() {
                break;
            }
        }
    }

    #[test]
    fn iso_texts() {
        let at = |s: &str| Some(DateTime::parse_from_rfc3339(s).unwrap().timestamp_micros());
        for (text, expected) in [
            ("2015-09-12T00:46:58.771Z", at("2015-09-12T00:46:58.771Z")),
            ("2015-09-12 00:46:58", at("2015-09-12T00:46:58Z")),
            ("2015-09-12T00:46", at("2015-09-12T00:46:00Z")),
            ("2015-09-12", at("2015-09-12T00:00:00Z")),
            ("20150912T004658Z", at("2015-09-12T00:46:58Z")),
            ("20150912T004658.5+0200", at("2015-09-11T22:46:58.5Z")),
            ("2015-09-12t00:46:58,5z", at("2015-09-12T00:46:58.5Z")),
            ("2015-09-12T00:46:58+05:30", at("2015-09-11T19:16:58Z")),
            ("2015-09-12T00:46:58-08", at("2015-09-12T08:46:58Z")),
            ("2015-09-12T00:46:58 +02:00", at("2015-09-11T22:46:58Z")),
            ("2015-09-12T00:46:58.1234567891Z", at("2015-09-12T00:46:58.123456Z")),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2016-12-31T23:59:60Z", at("2017-01-01T00:00:00Z")),
            ("2015-09-12T24:00:00Z", at("2015-09-13T00:00:00Z")),
            ("2015-02-29", None),
            ("2015-13-01", None),
            ("2015-9-12", None),
            ("2015-09-12T25:00:00", None),
            ("2015-09-12T00:46:58+99:00", None),
            ("2015-09-12T", None),
            ("2015-09-12T00:46:58.Z", None),
            ("2015-09-12T00:46:58Zjunk", None),
            ("12/09/2015", None),
            ("", None),
        ] {
            assert_eq!(parse_moment(text).map(|m| m.utc_us), expected, "{text}");
        }
    }

    #[test]
    fn epochs() {
        for (text, unit, expected) in [
            ("1442018818", EpochUnit::Seconds, Some(1_442_018_818_000_000)),
            ("1442018818.771", EpochUnit::Seconds, Some(1_442_018_818_771_000)),
            ("1442018818771", EpochUnit::Millis, Some(1_442_018_818_771_000)),
            ("1.442018818771e12", EpochUnit::Millis, Some(1_442_018_818_771_000)),
            ("1442018818771001", EpochUnit::Micros, Some(1_442_018_818_771_001)),
            ("1442018818771001999", EpochUnit::Nanos, Some(1_442_018_818_771_001)),
            ("-1", EpochUnit::Nanos, Some(-1)),
            ("1e999", EpochUnit::Seconds, None),
            ("99999999999999999999", EpochUnit::Seconds, None),
            ("9223372036854775807", EpochUnit::Micros, None),
            ("253402300800", EpochUnit::Seconds, None),
            ("253402300799", EpochUnit::Seconds, Some(253_402_300_799_000_000)),
            ("-62167219200.1", EpochUnit::Seconds, None),
        ] {
            assert_eq!(parse_epoch(text, unit), expected, "{text}");
        }
    }
}
