//! Intervals as text: `1 year 2 mons -3 days 04:05:06.7`, with units in words, and `P1Y2M3DT4H5M6.7S`.

use arrow::datatypes::IntervalMonthDayNano;

/// Nanoseconds of an hour.
const HOUR_NS: i128 = 3_600_000_000_000;

/// Months, days and nanoseconds, summed apart as Postgres does.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    ns: i128,
}

impl Sum {
    /// Adds `whole` and `micro` millionths of a unit; a fraction goes on to the next smaller units.
    fn add(&mut self, unit: &str, whole: i128, micro: i128) -> Option<()> {
        let part = |factor: i128| Some(whole.checked_mul(factor)? + micro * factor / 1_000_000);
        let lower = unit.to_ascii_lowercase();
        match lower.as_str() {
            "millennium" | "millennia" | "mil" | "mils" => self.months += part(12_000)?,
            "century" | "centuries" | "cent" | "c" => self.months += part(1_200)?,
            "decade" | "decades" | "dec" | "decs" => self.months += part(120)?,
            "year" | "years" | "yr" | "yrs" | "y" => self.months += part(12)?,
            "month" | "months" | "mon" | "mons" => {
                self.months += whole;
                self.days += micro * 30 / 1_000_000;
                self.ns += micro * 30 % 1_000_000 * 24 * HOUR_NS / 1_000_000;
            }
            "week" | "weeks" | "w" => {
                self.days += whole.checked_mul(7)? + micro * 7 / 1_000_000;
                self.ns += micro * 7 % 1_000_000 * 24 * HOUR_NS / 1_000_000;
            }
            "day" | "days" | "d" => {
                self.days += whole;
                self.ns += micro * 24 * HOUR_NS / 1_000_000;
            }
            "hour" | "hours" | "hr" | "hrs" | "h" => self.ns += part(HOUR_NS)?,
            "minute" | "minutes" | "min" | "mins" | "m" => self.ns += part(HOUR_NS / 60)?,
            "" | "second" | "seconds" | "sec" | "secs" | "s" => self.ns += part(1_000_000_000)?,
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => self.ns += part(1_000_000)?,
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => self.ns += part(1_000)?,
            _ => return None,
        }
        Some(())
    }

    fn finished(self) -> Option<IntervalMonthDayNano> {
        let Self { months, days, ns } = self;
        Some(IntervalMonthDayNano::new(
            i32::try_from(months).ok()?,
            i32::try_from(days).ok()?,
            i64::try_from(ns).ok()?,
        ))
    }
}

/// None for what is no interval, or is out of range.
pub(super) fn from_text(text: &str) -> Option<IntervalMonthDayNano> {
    if let Some(designated) = text.strip_prefix(['P', 'p']) {
        return iso(designated);
    }
    let spaced = spaced(text.strip_prefix('@').unwrap_or(text));
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    let ago = words.last().is_some_and(|last| last.eq_ignore_ascii_case("ago"));
    if ago {
        words.pop();
    }
    if words.is_empty() {
        return None;
    }
    let mut sum = Sum::default();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word.contains(':') {
            sum.ns += clock(word)?;
            continue;
        }
        let (whole, micro) = number(word)?;
        let is_unit = |next: &&str| next.starts_with(|c: char| c.is_ascii_alphabetic());
        let unit = words.next_if(is_unit).unwrap_or("");
        sum.add(unit, whole, micro)?;
    }
    if ago {
        sum = Sum { months: -sum.months, days: -sum.days, ns: -sum.ns };
    }
    sum.finished()
}

/// The text with a space between a number and its unit.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.chars() {
        if before.is_ascii_digit() && c.is_ascii_alphabetic() {
            out.push(' ');
        }
        out.push(c);
        before = c;
    }
    out
}

/// Whole units, and millionths of one.
fn number(text: &str) -> Option<(i128, i128)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let micro: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some((sign * whole, sign * micro.parse::<i128>().ok()?))
}

/// Nanoseconds of `[-]HH:MM[:SS[.ffffff]]`.
fn clock(text: &str) -> Option<i128> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = rest.split(':');
    let (hours, minutes) = (number(parts.next()?)?.0, number(parts.next()?)?.0);
    let (seconds, micro) = parts.next().map_or(Some((0, 0)), number)?;
    if parts.next().is_some() || !(0..60).contains(&minutes) || !(0..=60).contains(&seconds) {
        return None;
    }
    let ns = hours * HOUR_NS + minutes * (HOUR_NS / 60) + seconds * 1_000_000_000 + micro * 1_000;
    Some(sign * ns)
}

fn iso(text: &str) -> Option<IntervalMonthDayNano> {
    let (mut sum, mut in_time, mut from, mut any) = (Sum::default(), false, 0, false);
    for (at, c) in text.char_indices() {
        if matches!(c, 'T' | 't') {
            in_time = true;
            from = at + 1;
        } else if c.is_ascii_alphabetic() {
            let (whole, micro) = number(text.get(from..at)?)?;
            let unit = match (c.to_ascii_uppercase(), in_time) {
                ('Y', false) => "year",
                ('M', false) => "month",
                ('W', false) => "week",
                ('D', false) => "day",
                ('H', true) => "hour",
                ('M', true) => "minute",
                ('S', true) => "second",
                _ => return None,
            };
            sum.add(unit, whole, micro)?;
            from = at + 1;
            any = true;
        }
    }
    (any && from == text.len()).then(|| sum.finished()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_postgres_reads_them() {
        let read = |text: &str| {
            let span = from_text(text).unwrap_or_else(|| panic!("{text}"));
            (span.months, span.days, span.nanoseconds / 1_000)
        };
        assert_eq!(read("1 year 2 mons -3 days 04:05:06.7"), (14, -3, 14_706_700_000));
        assert_eq!(read("1 day 0:00:00"), (0, 1, 0));
        assert_eq!(read("-00:01:00"), (0, 0, -60_000_000));
        assert_eq!(read("1.5 days"), (0, 1, 43_200_000_000));
        assert_eq!(read("2h 30min"), (0, 0, 9_000_000_000));
        assert_eq!(read("@ 3 weeks ago"), (0, -21, 0));
        assert_eq!(read("P1Y2M3DT4H5M6.5S"), (14, 3, 14_706_500_000));
        assert_eq!(read("PT-5M"), (0, 0, -300_000_000));
        assert_eq!(read("17"), (0, 0, 17_000_000));
        for bad in ["", "day", "1 fortnight", "1:2:3:4", "P", "P1", "PT1Y", "1 99:99:99", "é day"]
        {
            assert!(from_text(bad).is_none(), "{bad}");
        }
    }
}
