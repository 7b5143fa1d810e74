//! Dates and times in their usual spellings: `2026-03-01 10:20`, `Mar 1, 2026`, `20260301T102030`, `3/1/2026 4 PM`,
//! with an offset, an abbreviation or the name of a zone behind.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

use super::zone::{FixedOrNamed, named, offset};

const SECOND_US: i64 = 1_000_000;
/// The Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// What a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    At(Moment),
    Named(Named),
}

/// Moments that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Epoch,
    Now,
    Today,
    Tomorrow,
    Yesterday,
}

/// A day, a time of day, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) day: Option<NaiveDate>,
    /// Microseconds since midnight, 24:00 included.
    pub(crate) clock: Option<i64>,
    pub(crate) zone: Option<FixedOrNamed>,
}

impl Moment {
    /// The local time, midnight if none is said.
    pub(crate) fn local(&self) -> Option<NaiveDateTime> {
        let clock = TimeDelta::microseconds(self.clock.unwrap_or(0));
        self.day?.and_time(NaiveTime::MIN).checked_add_signed(clock)
    }
}

#[derive(Default)]
struct Found {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    whole: Option<NaiveDate>,
    clock: Option<i64>,
    noon: Option<bool>,
    zone: Option<FixedOrNamed>,
    before_christ: bool,
    name: Option<Named>,
}

/// Reads a date, a time, or both; none for what is neither.
pub(crate) fn date_and_time(text: &str) -> Option<Written> {
    let mut found = Found::default();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first == ',' {
            rest = rest.get(first.len_utf8()..)?;
            continue;
        }
        let taken = match first {
            '0'..='9' => found.digits(rest)?,
            '+' | '-' => found.offset(rest)?,
            c if c.is_ascii_alphabetic() => found.word(rest)?,
            _ => return None,
        };
        rest = rest.get(taken..)?;
    }
    found.finish()
}

fn length(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !belongs(c)).unwrap_or(text.len())
}

/// Where a date ends whose parts are put together by one sign: digits, or the letters of a month, then digits.
fn date_end(text: &str, first: usize) -> usize {
    let separator = text.get(first..).and_then(|rest| rest.chars().next());
    let mut end = first;
    for _ in 0..2 {
        let Some(rest) = text.get(end..).filter(|rest| rest.chars().next() == separator) else {
            break;
        };
        let part = rest.get(1..).unwrap_or_default();
        let digits = length(part, |c| c.is_ascii_digit());
        let letters = length(part, |c| c.is_ascii_alphabetic());
        let taken = digits.max(letters);
        if taken == 0 {
            break;
        }
        end += 1 + taken;
    }
    end
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

impl Found {
    /// A time, a date with its parts together, or one number of a date.
    fn digits(&mut self, text: &str) -> Option<usize> {
        let count = length(text, |c| c.is_ascii_digit());
        let after = text.get(count..)?.chars().next();
        match after {
            Some(':') => {
                let end = length(text, |c| c.is_ascii_digit() || matches!(c, ':' | '.'));
                once(&mut self.clock, clock(text.get(..end)?)?)?;
                Some(end)
            }
            Some('-' | '/' | '.') if !self.has_day() => {
                let end = date_end(text, count);
                self.parted(text.get(..end)?)?;
                Some(end)
            }
            _ => {
                let end = match after {
                    Some('.') => count + 1 + length(text.get(count + 1..)?, |c| c.is_ascii_digit()),
                    _ => count,
                };
                self.number(text.get(..end)?, count)?;
                Some(end)
            }
        }
    }

    fn has_day(&self) -> bool {
        self.whole.is_some() || (self.year.is_some() && self.month.is_some() && self.day.is_some())
    }

    /// `20260301`, `102030`, and numbers beside the name of a month.
    fn number(&mut self, text: &str, count: usize) -> Option<()> {
        if self.has_day() {
            let digits = text.get(..count)?;
            let part = |from: usize| digits.get(from..from + 2);
            let spelled = match count {
                6 => format!("{}:{}:{}", part(0)?, part(2)?, text.get(4..)?),
                4 => format!("{}:{}", part(0)?, part(2)?),
                // Hours, with AM or PM to follow.
                1 | 2 => format!("{digits}:00"),
                _ => return None,
            };
            return once(&mut self.clock, clock(&spelled)?);
        }
        if text.len() != count {
            return None;
        }
        match count {
            8 => once(&mut self.whole, packed(text.parse().ok()?, text.get(..4)?.parse().ok()?)?),
            6 if self.month.is_none() => {
                let year = full_year(text.get(..2)?)?;
                once(&mut self.whole, packed(text.parse().ok()?, year)?)
            }
            3.. => once(&mut self.year, full_year(text)?),
            _ if self.month.is_some() && self.day.is_none() => {
                once(&mut self.day, text.parse().ok()?)
            }
            _ if self.month.is_some() => once(&mut self.year, full_year(text)?),
            // `8 Jan 1999`: what comes before the month is its day.
            _ => once(&mut self.day, text.parse().ok()?),
        }
    }

    /// `2026-03-01`, `3/1/2026`, `08-Jan-1999`, `1999.008`.
    fn parted(&mut self, text: &str) -> Option<()> {
        let separator = text.chars().find(|c| matches!(c, '-' | '/' | '.'))?;
        let parts: Vec<&str> = text.split(separator).collect();
        let is_year = |part: &&str| part.len() > 2 && part.bytes().all(|b| b.is_ascii_digit());
        let number = |part: &str| part.parse::<u32>().ok();
        let (year, month, day) = match parts.as_slice() {
            [year, of_year] if is_year(year) && of_year.len() == 3 => {
                let day = NaiveDate::from_yo_opt(full_year(year)?, number(of_year)?)?;
                return once(&mut self.whole, day);
            }
            [year, month, day] if is_year(year) => match month_named(month) {
                Some(month) => (full_year(year)?, month, number(day)?),
                None => (full_year(year)?, number(month)?, number(day)?),
            },
            [day, month, year] if month_named(month).is_some() => {
                (full_year(year)?, month_named(month)?, number(day)?)
            }
            [month, day, year] => (full_year(year)?, number(month)?, number(day)?),
            _ => return None,
        };
        once(&mut self.year, year)?;
        once(&mut self.month, month)?;
        once(&mut self.day, day)
    }

    fn offset(&mut self, text: &str) -> Option<usize> {
        let end = 1 + length(text.get(1..)?, |c| c.is_ascii_digit() || c == ':');
        let seconds = offset(text.get(..end)?)?;
        self.clock.or_else(|| self.has_day().then_some(0))?;
        match self.zone {
            // `UTC+2` counts westwards.
            Some(FixedOrNamed::Fixed(0)) => self.zone = Some(FixedOrNamed::Fixed(-seconds)),
            Some(_) => return None,
            None => self.zone = Some(FixedOrNamed::Fixed(seconds)),
        }
        Some(end)
    }

    fn word(&mut self, text: &str) -> Option<usize> {
        let letters = length(text, |c| c.is_ascii_alphabetic());
        let word = text.get(..letters)?.to_ascii_lowercase();
        let after = text.get(letters..)?;
        // `Jan-08-1999`.
        if let Some(month) = month_named(&word)
            && !after.starts_with(['/', '_'])
        {
            let apart = usize::from(after.starts_with(['-', '.']));
            once(&mut self.month, month)?;
            let next = after.get(apart..)?;
            let day = length(next, |c| c.is_ascii_digit());
            if apart == 1 && (1..=2).contains(&day) && next.get(day..)?.starts_with('-') {
                once(&mut self.day, next.get(..day)?.parse().ok()?)?;
                return Some(letters + apart + day + 1);
            }
            return Some(letters + apart);
        }
        match word.as_str() {
            "t" if after.starts_with(|c: char| c.is_ascii_digit()) => return Some(1),
            "j" if after.starts_with(|c: char| c.is_ascii_digit()) => {
                let digits = length(after, |c| c.is_ascii_digit());
                let days = after.get(..digits)?.parse::<i64>().ok()? - JULIAN_EPOCH;
                let day = NaiveDate::default().checked_add_signed(TimeDelta::try_days(days)?)?;
                once(&mut self.whole, day)?;
                return Some(1 + digits);
            }
            "am" => once(&mut self.noon, false)?,
            "pm" => once(&mut self.noon, true)?,
            "bc" => self.before_christ = true,
            "ad" => {}
            "at" | "on" => {}
            "allballs" => {
                once(&mut self.clock, 0)?;
                once(&mut self.zone, FixedOrNamed::Fixed(0))?;
            }
            "epoch" => once(&mut self.name, Named::Epoch)?,
            "now" => once(&mut self.name, Named::Now)?,
            "today" => once(&mut self.name, Named::Today)?,
            "tomorrow" => once(&mut self.name, Named::Tomorrow)?,
            "yesterday" => once(&mut self.name, Named::Yesterday)?,
            _ if is_weekday(&word) && !after.starts_with(['/', '_']) => {}
            _ => {
                let whole = length(text, |c| {
                    c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+')
                });
                let long = text.get(..whole).and_then(named);
                let (end, zone) = match long {
                    Some(zone) => (whole, zone),
                    None => (letters, named(&word)?),
                };
                once(&mut self.zone, zone)?;
                return Some(end);
            }
        }
        Some(letters)
    }

    fn finish(self) -> Option<Written> {
        let clock = self.clock_of_day()?;
        if let Some(name) = self.name {
            let is_alone = self.whole.is_none()
                && self.year.is_none()
                && self.month.is_none()
                && self.day.is_none()
                && clock.is_none();
            return is_alone.then_some(Written::Named(name));
        }
        let day = match (self.whole, self.year, self.month, self.day) {
            (Some(whole), None, None, None) => Some(whole),
            (None, Some(year), Some(month), Some(day)) => {
                let year = if self.before_christ { 1_i32.checked_sub(year)? } else { year };
                let first = NaiveDate::from_ymd_opt(-4713, 11, 24)?;
                Some(NaiveDate::from_ymd_opt(year, month, day).filter(|day| *day >= first)?)
            }
            (None, None, None, None) => None,
            _ => return None,
        };
        if day.is_none() && clock.is_none()
            || clock.is_none() && self.zone.is_some() && day.is_none()
        {
            return None;
        }
        Some(Written::At(Moment { day, clock, zone: self.zone }))
    }

    /// None inside if no time is said.
    #[expect(clippy::option_option, reason = "a time that is wrong, none, or one")]
    fn clock_of_day(&self) -> Option<Option<i64>> {
        let Some(clock) = self.clock else { return self.noon.is_none().then_some(None) };
        let hour = 3_600 * SECOND_US;
        let clock = match self.noon {
            None => clock,
            Some(_) if clock >= 13 * hour => return None,
            Some(true) if clock < 12 * hour => clock + 12 * hour,
            Some(false) if clock >= 12 * hour => clock - 12 * hour,
            Some(_) => clock,
        };
        Some(Some(clock))
    }
}

fn is_weekday(word: &str) -> bool {
    word.len() >= 3 && WEEKDAYS.iter().any(|day| day.get(..3) == Some(word) || *day == word)
        || matches!(word, "tues" | "wednes" | "weds" | "thur" | "thurs")
}

fn month_named(word: &str) -> Option<u32> {
    let word = word.to_ascii_lowercase();
    let is_it = |month: &str| month == word || month.get(..3) == Some(word.as_str());
    let found = MONTHS.iter().position(|month| is_it(month));
    let found = found.or_else(|| (word == "sept").then_some(8))?;
    u32::try_from(found + 1).ok()
}

/// A year of two digits is one near 2000.
fn full_year(text: &str) -> Option<i32> {
    let year: i32 = text.parse().ok()?;
    Some(match text.len() {
        1 | 2 if year < 70 => year + 2_000,
        1 | 2 => year + 1_900,
        _ => year,
    })
    .filter(|year| *year > 0)
}

fn packed(digits: u32, year: i32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, digits / 100 % 100, digits % 100)
}

/// Microseconds of `10:20`, `1:2:3`, `10:20:30.5`; none if there is no such time.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours: i64 = whole(parts.next()?)?;
    let minutes: i64 = whole(parts.next()?)?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let seconds: i64 = whole(seconds)?;
    let fraction = match fraction {
        "" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let kept: i64 = format!("{digits:0<7}").get(..7)?.parse().ok()?;
            (kept + 5) / 10
        }
        _ => return None,
    };
    let fits = hours < 24 && minutes < 60 && seconds <= 60;
    let is_end = hours == 24 && minutes == 0 && seconds == 0 && fraction == 0;
    (fits || is_end).then_some((hours * 3_600 + minutes * 60 + seconds) * SECOND_US + fraction)
}

fn whole(text: &str) -> Option<i64> {
    let is_short = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_short.then(|| text.parse().ok())?
}

impl std::fmt::Display for Moment {
    /// As the planner reads a time without a zone, or one whose zone is told by an offset.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.local() {
            Some(local) => write!(f, "{}", local.format("%Y-%m-%d %H:%M:%S%.6f")),
            None => {
                let clock = self.clock.unwrap_or(0);
                let seconds = clock / SECOND_US;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                write!(f, "{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, clock % SECOND_US)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        match date_and_time(text)? {
            Written::At(moment) => {
                let zone = match moment.zone {
                    None => String::new(),
                    Some(FixedOrNamed::Fixed(seconds)) => format!(" {seconds}"),
                    Some(FixedOrNamed::Named(zone)) => format!(" {zone}"),
                };
                let text = moment.to_string();
                Some(text.trim_end_matches('0').trim_end_matches('.').to_owned() + &zone)
            }
            Written::Named(name) => Some(format!("{name:?}")),
        }
    }

    #[test]
    fn spellings_of_dates_and_times() {
        for (text, expected) in [
            ("2026-03-01", "2026-03-01 00:00:00"),
            ("2026-3-1", "2026-03-01 00:00:00"),
            ("20260301", "2026-03-01 00:00:00"),
            ("260301", "2026-03-01 00:00:00"),
            ("20260301T102030", "2026-03-01 10:20:30"),
            ("20260301 102030.5", "2026-03-01 10:20:30.5"),
            ("2026-03-01T10:20:30Z", "2026-03-01 10:20:30 0"),
            ("2026-03-01 10:20", "2026-03-01 10:20:00"),
            ("2026-03-01 1:2:3", "2026-03-01 01:02:03"),
            ("2026-03-01 24:00:00", "2026-03-02 00:00:00"),
            ("2026-03-01 10:20:30.1234567", "2026-03-01 10:20:30.123457"),
            ("March 1, 2026", "2026-03-01 00:00:00"),
            ("1 Mar 2026", "2026-03-01 00:00:00"),
            ("Jan 8 1999", "1999-01-08 00:00:00"),
            ("08-Jan-1999", "1999-01-08 00:00:00"),
            ("Jan-08-1999", "1999-01-08 00:00:00"),
            ("1999-Jan-08", "1999-01-08 00:00:00"),
            ("1/8/1999", "1999-01-08 00:00:00"),
            ("1999.008", "1999-01-08 00:00:00"),
            ("J2451187", "1999-01-08 00:00:00"),
            ("Thu Nov 26 2026 08:00", "2026-11-26 08:00:00"),
            ("1999-01-08 04:05:06 PM", "1999-01-08 16:05:06"),
            ("1999-01-08 12:05 am", "1999-01-08 00:05:00"),
            ("1999-01-08 4 pm", "1999-01-08 16:00:00"),
            ("2026-11-20Z", "2026-11-20 00:00:00 0"),
            ("2026-11-20 10:00:00+02", "2026-11-20 10:00:00 7200"),
            ("2026-11-20 10:00:00 -0830", "2026-11-20 10:00:00 -30600"),
            ("2026-11-20 10:00 Europe/Berlin", "2026-11-20 10:00:00 Europe/Berlin"),
            ("2026-11-20 10:00 EST", "2026-11-20 10:00:00 -18000"),
            ("2026-11-20 10:00 UTC", "2026-11-20 10:00:00 0"),
            ("10:20", "10:20:00"),
            ("10:20:30.5", "10:20:30.5"),
            ("epoch", "Epoch"),
            ("now", "Now"),
            ("Today", "Today"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "noon",
            "2026-13-01",
            "2026-02-30",
            "2026-03-01 25:00",
            "2026-03-01 24:01",
            "2026-03-01 13:00 PM",
            "2026-03-01 2026-03-02",
            "10:20 10:30",
            "5",
            "Mars/Base",
            "2026-03-01 10:00 +99",
        ] {
            assert_eq!(date_and_time(text), None, "{text}");
        }
    }
}
