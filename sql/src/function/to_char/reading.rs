//! Times read from texts by the patterns of `to_char`, as Postgres reads them: `to_timestamp(text, pattern)` and
//! `to_date(text, pattern)`. Separators stand for any separators or none, blanks are passed over, what follows the
//! last field is not looked at, and what a text does not reach has its least value.

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, Weekday};

use super::pattern::Piece;
use super::time::{Field, Format, JULIAN_CE, Key, MONTHS, ROMAN, field_name, short};
use crate::error::{SqlError, SqlResult, sqlstate};

/// A time that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// What clocks show.
    pub(super) local: NaiveDateTime,
    /// Seconds east of Greenwich, if the text says.
    pub(super) offset_s: Option<i64>,
}

/// Fields as they are read.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i64>,
    /// Whether the year has its last digits only.
    short_year: bool,
    iso_year: Option<i64>,
    before_era: bool,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    week_of_month: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    iso_day_of_year: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    twelve: bool,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    seconds_of_day: Option<i64>,
    micros: i64,
    offset_hours: Option<(bool, i64)>,
    offset_minutes: i64,
}

struct Reader<'a> {
    function: &'static str,
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn skip_char(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn invalid(&self, field: Field) -> SqlError {
        let value: String = self.rest.chars().take(12).collect();
        SqlError::new(
            sqlstate::INVALID_DATETIME,
            format!("invalid value \"{value}\" for \"{}\"", field_name(field)),
        )
        .with_hint(format!("{}() was given \"{}\"", self.function, self.whole))
    }

    /// A whole number of at most `width` digits, or of any number where nothing of digits follows; and how many
    /// there were.
    fn digits(&mut self, field: Field, width: usize, bounded: bool) -> SqlResult<(i64, usize)> {
        let all = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let count = if bounded { all.min(width) } else { all };
        let value = self.rest.get(..count).and_then(|digits| digits.parse::<i64>().ok());
        let value = value.filter(|value| *value <= i64::from(i32::MAX));
        let value = value.ok_or_else(|| self.invalid(field))?;
        self.take(count);
        Ok((value, count))
    }

    /// The index of the word that stands here, whatever its letters.
    fn word<'w>(&mut self, field: Field, words: impl Iterator<Item = &'w str>) -> SqlResult<i64> {
        let here = self.rest;
        let is_here =
            |word: &str| here.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
        let found = words.enumerate().filter(|(_, word)| is_here(word));
        let (place, word) =
            found.max_by_key(|(_, word)| word.len()).ok_or_else(|| self.invalid(field))?;
        self.take(word.len());
        i64::try_from(place).map_err(|_| self.invalid(field))
    }

    fn letters(&mut self, field: Field) -> SqlResult<()> {
        let count = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        if count == 0 {
            return Err(self.invalid(field));
        }
        self.take(count);
        Ok(())
    }

    /// Passes over what a character of a pattern stands for.
    fn separator(&mut self, text: char) {
        if text.is_alphanumeric() {
            self.skip_char();
            return;
        }
        self.skip_blanks();
        let is_separator = |c: char| !c.is_alphanumeric() && !matches!(c, '+');
        if !text.is_whitespace() && self.rest.starts_with(is_separator) {
            self.skip_char();
        }
    }
}

/// The fraction of a second that digits tell, in microseconds.
fn micros(value: i64, digits: usize) -> i64 {
    let power = |n: usize| 10_i64.pow(u32::try_from(n.min(12)).unwrap_or(12));
    match digits <= 6 {
        true => value * power(6 - digits),
        false => value / power(digits - 6),
    }
}

/// A year of which the last digits are told: the one nearest to 2020.
fn nearest(year: i64, digits: usize) -> i64 {
    match (digits, year) {
        (0..=2, 0..70) => year + 2000,
        (0..=2, _) => year + 1900,
        (3, 0..520) => year + 2000,
        (3, _) => year + 1000,
        _ => year,
    }
}

impl Fields {
    fn read(&mut self, key: &Key, reader: &mut Reader<'_>, bounded: bool) -> SqlResult<()> {
        let field = key.field;
        let mut number = |width: usize| reader.digits(field, width, bounded).map(|(n, _)| n);
        match field {
            Field::Year { digits, iso } => {
                let (year, told) = reader.digits(field, digits, bounded)?;
                let year = if digits < 4 && told < 4 { nearest(year, told) } else { year };
                self.short_year = digits < 4;
                let place = if iso { &mut self.iso_year } else { &mut self.year };
                *place = Some(year);
            }
            Field::YearWithComma => {
                let (thousands, _) = reader.digits(field, 3, true)?;
                if !reader.rest.starts_with(',') {
                    return Err(reader.invalid(field));
                }
                reader.skip_char();
                let (rest, _) = reader.digits(field, 3, true)?;
                self.year = Some(thousands * 1_000 + rest);
            }
            Field::Century => self.century = Some(number(2)?),
            Field::Quarter => drop(number(1)?),
            Field::Month => self.month = Some(number(2)?),
            Field::MonthName | Field::MonthShort => {
                let full = MONTHS.iter().copied();
                let place = reader.word(field, full.chain(MONTHS.iter().map(|m| short(m))))?;
                self.month = Some(place % 12 + 1);
            }
            Field::MonthRoman => {
                self.month = Some(reader.word(field, ROMAN.iter().copied())? + 1);
            }
            Field::Week => self.week = Some(number(2)?),
            Field::IsoWeek => self.iso_week = Some(number(2)?),
            Field::WeekOfMonth => self.week_of_month = Some(number(1)?),
            Field::DayOfYear => self.day_of_year = Some(number(3)?),
            Field::IsoDayOfYear => self.iso_day_of_year = Some(number(3)?),
            Field::Day => self.day = Some(number(2)?),
            Field::DayName | Field::DayShort => reader.letters(field)?,
            Field::WeekDay => drop(number(1)?),
            Field::IsoWeekDay => self.iso_day = Some(number(1)?),
            Field::Julian => self.julian = Some(number(7)?),
            _ => self.read_clock(key, reader, bounded)?,
        }
        Ok(())
    }

    fn read_clock(&mut self, key: &Key, reader: &mut Reader<'_>, bounded: bool) -> SqlResult<()> {
        let field = key.field;
        let mut number = |width: usize| reader.digits(field, width, bounded).map(|(n, _)| n);
        match field {
            Field::Hour24 => self.hour = number(2)?,
            Field::Hour12 => (self.hour, self.twelve) = (number(2)?, true),
            Field::Minute => self.minute = number(2)?,
            Field::Second => self.second = number(2)?,
            Field::SecondsOfDay => self.seconds_of_day = Some(number(5)?),
            Field::Fraction(width) => {
                let (value, digits) = reader.digits(field, width, bounded)?;
                self.micros = micros(value, digits);
            }
            Field::HalfDay { .. } => {
                let words = ["a.m.", "p.m.", "am", "pm"];
                self.afternoon = Some(reader.word(field, words.into_iter())? % 2 == 1);
                self.twelve = true;
            }
            Field::Era { .. } => {
                let words = ["a.d.", "b.c.", "ad", "bc"];
                self.before_era = reader.word(field, words.into_iter())? % 2 == 1;
            }
            Field::ZoneHours | Field::ZoneOffset => {
                let west = reader.rest.starts_with('-');
                if reader.rest.starts_with(['-', '+']) {
                    reader.skip_char();
                }
                self.offset_hours = Some((west, reader.digits(field, 2, true)?.0));
                if field == Field::ZoneOffset && reader.rest.starts_with(':') {
                    reader.skip_char();
                    self.offset_minutes = reader.digits(field, 2, true)?.0;
                }
            }
            Field::ZoneMinutes => self.offset_minutes = number(2)?,
            _ => {
                return Err(SqlError::unsupported(format!(
                    "the pattern \"{}\" is for to_char() only",
                    field_name(field)
                )));
            }
        }
        Ok(())
    }

    fn full_year(&self) -> i64 {
        let year = match (self.year, self.century) {
            (Some(year), Some(century)) if self.short_year => (century - 1) * 100 + year % 100,
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            // Nothing said is the year before the first.
            (None, None) => 0,
        };
        if self.before_era { 1 - year } else { year }
    }

    fn date(&self) -> Option<NaiveDate> {
        let small = |n: i64| u32::try_from(n).ok();
        if let Some(julian) = self.julian {
            return NaiveDate::from_num_days_from_ce_opt(i32::try_from(julian - JULIAN_CE).ok()?);
        }
        if self.iso_week.is_some() || self.iso_day_of_year.is_some() {
            let year = i32::try_from(self.iso_year.unwrap_or_else(|| self.full_year())).ok()?;
            let first = NaiveDate::from_isoywd_opt(year, 1, Weekday::Mon)?;
            if let Some(day) = self.iso_day_of_year {
                return first.checked_add_signed(Duration::try_days(day - 1)?);
            }
            let (week, day) = (self.iso_week?, self.iso_day.unwrap_or(1));
            let fits = (1..=53).contains(&week) && (1..=7).contains(&day);
            return first.checked_add_signed(Duration::try_days(
                fits.then_some((week - 1) * 7 + day - 1)?,
            )?);
        }
        let year = i32::try_from(self.iso_year.unwrap_or_else(|| self.full_year())).ok()?;
        let nth = match (self.day_of_year, self.week) {
            (Some(day), _) => Some(day),
            (None, Some(week)) => Some((week - 1) * 7 + 1),
            (None, None) => None,
        };
        if let Some(day) = nth.filter(|_| self.month.is_none() && self.day.is_none()) {
            return NaiveDate::from_yo_opt(year, small(day)?);
        }
        let day = match (self.day, self.week_of_month) {
            (None, Some(week)) => (week - 1) * 7 + 1,
            (day, _) => day.unwrap_or(1),
        };
        NaiveDate::from_ymd_opt(year, small(self.month.unwrap_or(1))?, small(day)?)
    }

    fn seconds(&self) -> SqlResult<Option<i64>> {
        let mut hour = self.hour;
        if self.twelve && (self.afternoon.is_some() || hour != 0) {
            if !(1..=12).contains(&hour) {
                return Err(SqlError::new(
                    sqlstate::INVALID_DATETIME,
                    format!("hour \"{hour}\" is invalid for the 12-hour clock"),
                )
                .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = match self.afternoon {
                Some(true) if hour < 12 => hour + 12,
                Some(false) if hour == 12 => 0,
                _ => hour,
            };
        }
        if let Some(seconds) = self.seconds_of_day {
            return Ok((0..86_400).contains(&seconds).then_some(seconds));
        }
        let fits = hour < 24 && self.minute < 60 && self.second < 60;
        Ok(fits.then_some(hour * 3_600 + self.minute * 60 + self.second))
    }
}

/// Reads a text by a pattern, for a function of this name.
pub(super) fn read(format: &Format, text: &str, function: &'static str) -> SqlResult<Reading> {
    let mut reader = Reader { function, whole: text, rest: text };
    let mut fields = Fields::default();
    let pieces = format.pieces();
    for (place, piece) in pieces.iter().enumerate() {
        if reader.rest.is_empty() {
            break;
        }
        match piece {
            Piece::Text(c) => reader.separator(*c),
            Piece::Key(None) => {}
            Piece::Key(Some(key)) => {
                reader.skip_blanks();
                if reader.rest.is_empty() {
                    break;
                }
                let next = pieces.get(place + 1);
                let bounded =
                    !key.fill && matches!(next, Some(Piece::Key(Some(next))) if next.is_digits());
                fields.read(key, &mut reader, bounded)?;
                if key.ending.is_some() {
                    reader.take(2);
                }
            }
        }
    }
    let out_of_range = || {
        SqlError::new(
            sqlstate::DATETIME_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        )
    };
    let date = fields.date().filter(|date| (-4_712..=9_999).contains(&date.year()));
    let seconds = fields.seconds()?.ok_or_else(out_of_range)?;
    let time = Duration::seconds(seconds) + Duration::microseconds(fields.micros);
    let midnight = date.and_then(|d| d.and_hms_opt(0, 0, 0)).ok_or_else(out_of_range)?;
    let local = midnight.checked_add_signed(time).ok_or_else(out_of_range)?;
    let offset_s = fields.offset_hours.map(|(west, hours)| {
        let seconds = hours * 3_600 + fields.offset_minutes * 60;
        if west { -seconds } else { seconds }
    });
    if offset_s.is_some_and(|seconds| seconds.abs() >= 16 * 3_600) {
        return Err(out_of_range());
    }
    Ok(Reading { local, offset_s })
}
