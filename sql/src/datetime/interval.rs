//! Intervals: `1 year 2 mons 03:04:05.6`, `1-2 3 4:05:06`, `P1Y2M3DT4H5M6S`, `2 weeks ago`.

use arrow::datatypes::IntervalMonthDayNano;

/// Microseconds of a second, and what is counted in them.
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A field of an interval, the longest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

/// Months, days and microseconds, none of which becomes another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

#[derive(Clone, Copy)]
enum Unit {
    Months(i32),
    Days(i32),
    Micros(i64),
}

fn unit(name: &str) -> Option<Unit> {
    Some(match name {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" | "microsecond"
        | "microseconds" => Unit::Micros(1),
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" | "millisecond"
        | "milliseconds" => Unit::Micros(1_000),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(MINUTE),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(HOUR),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1_200),
        "mil" | "mils" | "millennia" | "millennium" => Unit::Months(12_000),
        _ => return None,
    })
}

/// A number as it is written, its sign and fraction apart.
#[derive(Debug, Clone, Copy)]
struct Number {
    negative: bool,
    whole: i64,
    fraction: f64,
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    Some(Number { negative, whole, fraction })
}

#[expect(clippy::cast_possible_truncation, reason = "a fraction of a unit is small")]
fn part(fraction: f64, of: i64) -> i64 {
    #[expect(clippy::cast_precision_loss, reason = "units have few digits")]
    let part = fraction * of as f64;
    part.round() as i64
}

impl Span {
    /// Adds so many units. Fractions of a month are days, those of a day are time.
    fn add(&mut self, number: Number, unit: Unit) -> Option<()> {
        let sign: i64 = if number.negative { -1 } else { 1 };
        let narrow = |n: i64| i32::try_from(n).ok();
        match unit {
            Unit::Months(months) => {
                let whole = number.whole.checked_mul(months.into())?;
                let of_fraction = if months > 1 { part(number.fraction, months.into()) } else { 0 };
                let months_added = narrow(sign * whole.checked_add(of_fraction)?)?;
                self.months = self.months.checked_add(months_added)?;
                if months == 1 {
                    self.add_days(number.fraction * 30.0, number.negative)?;
                }
            }
            Unit::Days(days) => {
                let whole = narrow(sign * number.whole.checked_mul(days.into())?)?;
                self.days = self.days.checked_add(whole)?;
                self.add_days(number.fraction * f64::from(days), number.negative)?;
            }
            Unit::Micros(micros) => {
                let whole = number.whole.checked_mul(micros)?;
                let all = whole.checked_add(part(number.fraction, micros))?;
                self.micros = self.micros.checked_add(sign * all)?;
            }
        }
        Some(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than a month")]
    fn add_days(&mut self, days: f64, negative: bool) -> Option<()> {
        let sign = if negative { -1 } else { 1 };
        self.days = self.days.checked_add(sign * days.trunc() as i32)?;
        self.micros = self.micros.checked_add(i64::from(sign) * part(days.fract(), DAY))?;
        Some(())
    }

    fn negated(self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }

    /// Without what is shorter than `last`.
    fn cut(mut self, last: Field) -> Self {
        match last {
            Field::Year => self.months -= self.months % 12,
            Field::Month | Field::Day | Field::Second => {}
            Field::Hour => self.micros -= self.micros % HOUR,
            Field::Minute => self.micros -= self.micros % MINUTE,
        }
        if last <= Field::Month {
            self.days = 0;
        }
        if last <= Field::Day {
            self.micros = 0;
        }
        self
    }

    /// In words that the planner reads.
    pub(crate) fn in_words(self) -> String {
        let Self { months, days, micros } = self;
        let sign = if micros < 0 { "-" } else { "" };
        let of_micros = micros.unsigned_abs();
        let (seconds, rest) = (of_micros / 1_000_000, of_micros % 1_000_000);
        format!("{months} months {days} days {sign}{seconds}.{rest:06} seconds")
    }

    /// As Postgres writes it.
    pub(crate) fn text(self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let (mut after_negative, mut any) = (false, false);
        let mut count = |n: i32, one: &str| {
            if n == 0 {
                return;
            }
            let plus = if after_negative && n > 0 { "+" } else { "" };
            let many = if n == 1 { "" } else { "s" };
            parts.push(format!("{plus}{n} {one}{many}"));
            after_negative = n < 0;
            any = true;
        };
        count(self.months / 12, "year");
        count(self.months % 12, "mon");
        count(self.days, "day");
        if self.micros != 0 || !any {
            let sign = match self.micros < 0 {
                true => "-",
                false if after_negative => "+",
                false => "",
            };
            parts.push(format!("{sign}{}", clock_text(self.micros.unsigned_abs())));
        }
        parts.join(" ")
    }
}

impl From<IntervalMonthDayNano> for Span {
    fn from(span: IntervalMonthDayNano) -> Self {
        Self { months: span.months, days: span.days, micros: span.nanoseconds / 1_000 }
    }
}

fn clock_text(micros: u64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if rest > 0 {
        text.push_str(format!(".{rest:06}").trim_end_matches('0'));
    }
    text
}

/// Reads an interval. A number without a unit counts in `range`'s last field, or seconds; what is shorter than that field
/// is left out.
pub(crate) fn interval(text: &str, range: Option<(Field, Field)>) -> Option<Span> {
    let text = signs_joined(&text.trim().to_ascii_lowercase());
    let span = match text.strip_prefix('p') {
        Some(rest) => iso(rest)?,
        None => in_words(&text, range)?,
    };
    Some(range.map_or(span, |(_, last)| span.cut(last)))
}

/// Signs that stand by themselves are those of the numbers behind them.
fn signs_joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut begins = true;
    let mut is_alone = false;
    for c in text.chars() {
        if is_alone && c.is_whitespace() {
            continue;
        }
        is_alone = (is_alone || begins) && matches!(c, '+' | '-');
        begins = c.is_whitespace();
        joined.push(c);
    }
    joined
}

enum Token<'a> {
    Number(&'a str),
    Word(&'a str),
}

fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(['@', ' ', ',']);
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first == ',' {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            continue;
        }
        let is_number = first.is_ascii_digit() || matches!(first, '+' | '-' | '.');
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| match is_number {
                true => !(c.is_ascii_digit() || matches!(c, '.' | ':' | '-')),
                false => !c.is_ascii_alphabetic(),
            })
            .map_or(rest.len(), |(at, _)| at);
        let (token, after) = rest.split_at_checked(end)?;
        if !is_number && !first.is_ascii_alphabetic() {
            return None;
        }
        tokens.push(if is_number { Token::Number(token) } else { Token::Word(token) });
        rest = after;
    }
    Some(tokens)
}

/// A bare number counts in the unit of what follows it.
fn in_words(text: &str, range: Option<(Field, Field)>) -> Option<Span> {
    let mut tokens = tokens(text)?;
    let mut is_ago = false;
    if matches!(tokens.last(), Some(Token::Word("ago"))) {
        tokens.pop();
        is_ago = true;
    }
    if tokens.is_empty() {
        return None;
    }
    let mut span = Span::default();
    let mut bare = Some(match range.map(|(_, last)| last) {
        Some(Field::Year) => Unit::Months(12),
        Some(Field::Month) => Unit::Months(1),
        Some(Field::Day) => Unit::Days(1),
        Some(Field::Hour) => Unit::Micros(HOUR),
        Some(Field::Minute) => Unit::Micros(MINUTE),
        Some(Field::Second) | None => Unit::Micros(SECOND),
    });
    // A unit needs its number.
    let mut is_open = false;
    for token in tokens.iter().rev() {
        match token {
            Token::Word(_) if is_open => return None,
            Token::Word(word) => bare = Some(unit(word)?),
            Token::Number(text) if text.contains(':') => {
                span.micros = span.micros.checked_add(clock(text, range)?)?;
                bare = Some(Unit::Days(1));
            }
            Token::Number(text) if text.get(1..).is_some_and(|t| t.contains('-')) => {
                let negative = text.starts_with('-');
                let (years, months) = text.trim_start_matches(['-', '+']).split_once('-')?;
                let (years, months) = (years.parse::<i32>().ok()?, months.parse::<i32>().ok()?);
                if !(0..12).contains(&months) {
                    return None;
                }
                let all = years.checked_mul(12)?.checked_add(months)?;
                span.months = span.months.checked_add(if negative { -all } else { all })?;
                bare = None;
            }
            Token::Number(text) => span.add(number(text)?, bare.take()?)?,
        }
        is_open = matches!(token, Token::Word(_));
    }
    if is_open {
        return None;
    }
    if is_ago { span.negated() } else { Some(span) }
}

/// `04:05:06.789`, `04:05`, with a sign; of `MINUTE TO SECOND` and with a fraction the last part is seconds.
fn clock(text: &str, range: Option<(Field, Field)>) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = digits.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [minutes, seconds]
            if seconds.contains('.') || range == Some((Field::Minute, Field::Second)) =>
        {
            ("0", *minutes, *seconds)
        }
        [hours, minutes] => (*hours, *minutes, "0"),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(hours) || !plain(minutes) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    let seconds = number(seconds)?;
    if minutes > 59 || seconds.negative || seconds.whole > 60 {
        return None;
    }
    let clock = hours.checked_mul(HOUR)?.checked_add(minutes * MINUTE + seconds.whole * SECOND)?;
    Some(sign * clock.checked_add(part(seconds.fraction, SECOND))?)
}

/// What follows the `P`: `1y2m3dt4h5m6s`, or `0001-02-03t04:05:06`.
fn iso(text: &str) -> Option<Span> {
    let (days, time) = text.split_once('t').map_or((text, None), |(d, t)| (d, Some(t)));
    if text.is_empty() || time == Some("") {
        return None;
    }
    let mut span = Span::default();
    match days.get(1..).is_some_and(|d| d.contains('-'))
        && days.ends_with(|c: char| c.is_ascii_digit())
    {
        true => {
            let parts: Vec<&str> = days.split('-').collect();
            let units = [Unit::Months(12), Unit::Months(1), Unit::Days(1)];
            if parts.len() > units.len() {
                return None;
            }
            for (part, unit) in parts.iter().zip(units) {
                span.add(number(part)?, unit)?;
            }
        }
        false => designated(days, &mut span, |c| match c {
            'y' => Some(Unit::Months(12)),
            'm' => Some(Unit::Months(1)),
            'w' => Some(Unit::Days(7)),
            'd' => Some(Unit::Days(1)),
            _ => None,
        })?,
    }
    match time {
        None => {}
        Some(time) if time.contains(':') => span.micros = clock(time, None)?,
        Some(time) => designated(time, &mut span, |c| match c {
            'h' => Some(Unit::Micros(HOUR)),
            'm' => Some(Unit::Micros(MINUTE)),
            's' => Some(Unit::Micros(SECOND)),
            _ => None,
        })?,
    }
    Some(span)
}

/// Numbers, each before a letter that tells its unit.
fn designated(text: &str, span: &mut Span, unit: impl Fn(char) -> Option<Unit>) -> Option<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let letter = rest.get(at..)?.chars().next()?;
        span.add(number(rest.get(..at)?)?, unit(letter)?)?;
        rest = rest.get(at + 1..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_intervals() {
        // What PostgreSQL answers.
        for (text, shown) in [
            ("1 year 2 mons 3 days 04:05:06.789", "1 year 2 mons 3 days 04:05:06.789"),
            ("90 minutes", "01:30:00"),
            ("1.5 hours", "01:30:00"),
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("P0001-02-03T04:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("PT36H", "36:00:00"),
            ("1-2", "1 year 2 mons"),
            ("3 4:05:06", "3 days 04:05:06"),
            ("-1 days +02:03", "-1 days +02:03:00"),
            ("2 weeks ago", "-14 days"),
            ("1 day -00:00:01", "1 day -00:00:01"),
            ("14 months", "1 year 2 mons"),
            ("0", "00:00:00"),
            ("15h 2m 12s", "15:02:12"),
            ("1.5 days", "1 day 12:00:00"),
            ("0.5 months", "15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("-1.5 weeks", "-10 days -12:00:00"),
            ("@ 1 minute", "00:01:00"),
            ("1 month -1 hour", "1 mon -01:00:00"),
            ("-1 month 1 hour", "-1 mons +01:00:00"),
            ("5", "00:00:05"),
            ("2 decades", "20 years"),
            ("500 ms", "00:00:00.5"),
            ("1 month - 1 day", "1 mon -1 days"),
            ("- 1 day + 2 hours", "-1 days +02:00:00"),
        ] {
            assert_eq!(interval(text, None).map(Span::text).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "day",
            "1 day -",
            "- - 1 day",
            "1 2",
            "1 fortnight",
            "P",
            "PT",
            "1:2:3:4",
            "1-13",
            "a:b",
            "99999999999 years",
        ] {
            assert_eq!(interval(text, None), None, "{text}");
        }
    }

    #[test]
    fn fields_that_are_named_apart() {
        for (text, first, last, shown) in [
            ("1", Field::Day, Field::Day, "1 day"),
            ("2", Field::Hour, Field::Hour, "02:00:00"),
            ("3:04", Field::Minute, Field::Second, "00:03:04"),
            ("1 day 2 hours 3 minutes", Field::Day, Field::Hour, "1 day 02:00:00"),
            ("14", Field::Year, Field::Month, "1 year 2 mons"),
            ("14 months", Field::Year, Field::Year, "1 year"),
        ] {
            let found = interval(text, Some((first, last))).map(Span::text);
            assert_eq!(found.as_deref(), Some(shown), "{text}");
        }
    }
}
