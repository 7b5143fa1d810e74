//! Patterns of dates and times, field by field as Postgres prints them in English.

use std::fmt::Write as _;
use std::str::FromStr;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::{OffsetName, Tz};

use super::pattern::{Piece, ordinal, pieces};
use crate::error::{SqlError, SqlResult, sqlstate};
use otus_engine::time::Granularity;

/// A field of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Century,
    /// Year with this many of its last digits, 4 = whole; of the ISO week or not.
    Year {
        digits: usize,
        iso: bool,
    },
    YearWithComma,
    Quarter,
    Month,
    MonthName,
    MonthShort,
    MonthRoman,
    Week,
    IsoWeek,
    WeekOfMonth,
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayName,
    DayShort,
    /// 1 = Sunday.
    WeekDay,
    /// 1 = Monday.
    IsoWeekDay,
    Julian,
    Hour12,
    Hour24,
    Minute,
    Second,
    SecondsOfDay,
    /// Digits of the second's fraction, 1 to 6.
    Fraction(usize),
    /// Before or after noon, with dots or without.
    HalfDay {
        dots: bool,
    },
    /// Before or after the first year, with dots or without.
    Era {
        dots: bool,
    },
    ZoneName,
    ZoneOffset,
    ZoneHours,
    ZoneMinutes,
}

/// How letters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    Upper,
    Capital,
    Lower,
}

/// Fields by their upper-case names; of names that begin alike the longer comes first.
const NAMES: &[(&str, Field)] = &[
    ("A.D.", Field::Era { dots: true }),
    ("A.M.", Field::HalfDay { dots: true }),
    ("AD", Field::Era { dots: false }),
    ("AM", Field::HalfDay { dots: false }),
    ("B.C.", Field::Era { dots: true }),
    ("BC", Field::Era { dots: false }),
    ("CC", Field::Century),
    ("DAY", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayShort),
    ("D", Field::WeekDay),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoWeekDay),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::Year { digits: 4, iso: true }),
    ("IYY", Field::Year { digits: 3, iso: true }),
    ("IY", Field::Year { digits: 2, iso: true }),
    ("I", Field::Year { digits: 1, iso: true }),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthShort),
    ("MS", Field::Fraction(3)),
    ("OF", Field::ZoneOffset),
    ("P.M.", Field::HalfDay { dots: true }),
    ("PM", Field::HalfDay { dots: false }),
    ("Q", Field::Quarter),
    ("RM", Field::MonthRoman),
    ("SSSSS", Field::SecondsOfDay),
    ("SSSS", Field::SecondsOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("TZ", Field::ZoneName),
    ("US", Field::Fraction(6)),
    ("WW", Field::Week),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year { digits: 4, iso: false }),
    ("YYY", Field::Year { digits: 3, iso: false }),
    ("YY", Field::Year { digits: 2, iso: false }),
    ("Y", Field::Year { digits: 1, iso: false }),
];

/// Names that may also begin with a capital and go on in lower case.
const CAPITALS: [&str; 4] = ["Month", "Mon", "Day", "Dy"];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
pub(super) const ROMAN: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
/// Width of the longest name of a month or day.
const NAME_WIDTH: usize = 9;
/// Days from the beginning of the Julian count to the day before the common era.
pub(super) const JULIAN_CE: i64 = 1_721_425;

/// A keyword of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) field: Field,
    letters: Letters,
    /// No padding.
    pub(super) fill: bool,
    /// Names without padding, numbers as they are.
    translated: bool,
    /// An ordinal's ending, and whether it is in upper case.
    pub(super) ending: Option<bool>,
}

impl Key {
    /// Whether the field begins with a digit.
    pub(super) fn is_digits(&self) -> bool {
        !matches!(
            self.field,
            Field::MonthName
                | Field::MonthShort
                | Field::MonthRoman
                | Field::DayName
                | Field::DayShort
                | Field::HalfDay { .. }
                | Field::Era { .. }
                | Field::ZoneName
                | Field::ZoneOffset
                | Field::ZoneHours
        )
    }
}

/// The name of a field in patterns.
pub(super) fn field_name(field: Field) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == field).map_or("", |(name, _)| name)
}

/// A pattern of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pattern: Vec<Piece<Option<Key>>>,
}

/// Where a moment is told.
#[derive(Debug)]
pub(super) enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    /// A zone by the name in an Arrow type.
    pub(super) fn new(name: &str) -> SqlResult<Self> {
        if let Ok(zone) = Tz::from_str(name) {
            return Ok(Self::Named(zone));
        }
        FixedOffset::from_str(name).map(Self::Fixed).map_err(|_| {
            SqlError::new(
                sqlstate::INVALID_PARAMETER,
                format!("time zone \"{name}\" not recognized"),
            )
        })
    }

    /// Local time, offset in seconds, and the zone's short name at an instant.
    fn local(&self, utc: DateTime<Utc>) -> (NaiveDateTime, i32, String) {
        match self {
            Self::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&utc.naive_utc());
                let fixed = offset.fix();
                let name = match offset.abbreviation() {
                    Some(name) => name.to_string(),
                    None => offset_text(fixed.local_minus_utc(), false),
                };
                (utc.with_timezone(&fixed).naive_local(), fixed.local_minus_utc(), name)
            }
            Self::Fixed(fixed) => {
                let seconds = fixed.local_minus_utc();
                (utc.with_timezone(fixed).naive_local(), seconds, offset_text(seconds, false))
            }
        }
    }
}

/// `+02`, `+05:30`.
fn offset_text(seconds: i32, fill: bool) -> String {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    let width = if fill { 0 } else { 2 };
    let mut text = format!("{sign}{:0width$}", minutes / 60);
    if minutes % 60 != 0 {
        // Writing to a String cannot fail.
        let _written = write!(text, ":{:02}", minutes % 60);
    }
    text
}

fn keyword(text: &str) -> Option<(Field, Letters, usize)> {
    for (name, field) in NAMES {
        let Some(found) = text.get(..name.len()) else { continue };
        let letters = match found {
            f if f == *name => Letters::Upper,
            f if f == name.to_lowercase() => Letters::Lower,
            f if CAPITALS.contains(&f) && f.eq_ignore_ascii_case(name) => Letters::Capital,
            _ => continue,
        };
        return Some((*field, letters, name.len()));
    }
    None
}

fn starts_with(text: &str, prefixes: [&str; 2]) -> bool {
    prefixes.iter().any(|p| text.starts_with(p))
}

/// A keyword with what stands before and behind it.
fn key(text: &str) -> Option<(Option<Key>, usize)> {
    let (fill, translated) = (starts_with(text, ["FM", "fm"]), starts_with(text, ["TM", "tm"]));
    let before = if fill || translated { 2 } else { 0 };
    let rest = text.get(before..).unwrap_or_default();
    if starts_with(rest, ["FX", "fx"]) {
        return Some((None, before + 2));
    }
    let Some((field, letters, length)) = keyword(rest) else {
        // A prefix before plain text changes nothing.
        return (before > 0).then_some((None, before));
    };
    let mut end = before + length;
    let behind = text.get(end..).unwrap_or_default();
    let mut ending = None;
    if starts_with(behind, ["TH", "th"]) {
        ending = Some(behind.starts_with("TH"));
        end += 2;
    } else if behind.starts_with("SP") {
        // Numbers in words: Postgres takes it and does nothing.
        end += 2;
    }
    Some((Some(Key { field, letters, fill, translated, ending }), end))
}

impl Format {
    /// Reads a pattern. Every letter that is no field stands for itself, as in Postgres.
    pub(super) fn new(pattern: &str) -> SqlResult<Self> {
        Ok(Self { pattern: pieces(pattern, &mut |text| Ok(key(text)))? })
    }

    /// Its pieces.
    pub(super) fn pieces(&self) -> &[Piece<Option<Key>>] {
        &self.pattern
    }

    /// The longest unit within which no field changes; `None` for less than a minute. A week that begins with
    /// the year lies in no unit longer than a day, nor does what tells of the zone.
    pub(super) fn unit(&self) -> Option<Granularity> {
        let mut unit = Granularity::Year;
        for piece in &self.pattern {
            let Piece::Key(Some(key)) = piece else { continue };
            let needed = match key.field {
                Field::Century | Field::Year { iso: false, .. } | Field::YearWithComma => {
                    Granularity::Year
                }
                Field::Era { .. } => Granularity::Year,
                Field::Quarter => Granularity::Quarter,
                Field::Month | Field::MonthName | Field::MonthShort | Field::MonthRoman => {
                    Granularity::Month
                }
                Field::Year { iso: true, .. } | Field::IsoWeek => Granularity::Week,
                Field::Week
                | Field::WeekOfMonth
                | Field::DayOfYear
                | Field::IsoDayOfYear
                | Field::Day
                | Field::DayName
                | Field::DayShort
                | Field::WeekDay
                | Field::IsoWeekDay
                | Field::Julian => Granularity::Day,
                Field::Hour12 | Field::Hour24 | Field::HalfDay { .. } => Granularity::Hour,
                Field::Minute => Granularity::Minute,
                Field::Second
                | Field::SecondsOfDay
                | Field::Fraction(_)
                | Field::ZoneName
                | Field::ZoneOffset
                | Field::ZoneHours
                | Field::ZoneMinutes => return None,
            };
            unit = match (unit.divides(needed), needed.divides(unit)) {
                (true, _) => unit,
                (false, true) => needed,
                // Weeks and months: both are made of days.
                (false, false) => Granularity::Day,
            };
        }
        Some(unit)
    }

    /// The text of an instant in a zone, or of a time without one; microseconds.
    pub(super) fn text(&self, us: i64, zone: Option<&Zone>) -> SqlResult<String> {
        let utc = DateTime::<Utc>::from_timestamp_micros(us)
            .ok_or_else(|| SqlError::new(sqlstate::INVALID_DATETIME, "timestamp out of range"))?;
        let (local, offset, name) = match zone {
            Some(zone) => zone.local(utc),
            None => (utc.naive_utc(), 0, String::new()),
        };
        let moment = Moment { local, offset, name: &name };
        let mut out = String::new();
        for piece in &self.pattern {
            match piece {
                Piece::Text(c) => out.push(*c),
                Piece::Key(Some(key)) => moment.write(key, &mut out),
                Piece::Key(None) => {}
            }
        }
        Ok(out)
    }
}

struct Moment<'a> {
    local: NaiveDateTime,
    offset: i32,
    name: &'a str,
}

/// What a field shows.
enum Shown {
    /// A number and the width it is padded to with zeros.
    Number(i64, usize),
    /// A number that is never padded otherwise.
    Digits(String),
    /// A word in upper and lower case, and the width it is padded to with blanks.
    Word(&'static str, usize),
    Text(String),
}

impl Moment<'_> {
    fn write(&self, key: &Key, out: &mut String) {
        let cased = |word: &str| match key.letters {
            Letters::Upper => word.to_uppercase(),
            Letters::Lower => word.to_lowercase(),
            Letters::Capital => word.to_string(),
        };
        let begin = out.len();
        match self.shown(key) {
            Shown::Number(number, width) => {
                let width = if key.fill { 0 } else { width };
                // A sign takes a place of its own.
                let width = if number < 0 && width > 0 { width + 1 } else { width };
                out.push_str(&format!("{number:0width$}"));
            }
            Shown::Digits(digits) => out.push_str(&digits),
            Shown::Word(word, width) => {
                // Names that could be of another language are not padded.
                let translated = key.translated && key.field != Field::MonthRoman;
                let width = if key.fill || translated { 0 } else { width };
                out.push_str(&format!("{:width$}", cased(word)));
                return;
            }
            Shown::Text(text) => {
                out.push_str(&text);
                return;
            }
        }
        if let Some(upper) = key.ending {
            let ending = ordinal(out.get(begin..).unwrap_or_default());
            let ending = if upper { ending.to_uppercase() } else { ending.to_string() };
            out.push_str(&ending);
        }
    }

    fn shown(&self, key: &Key) -> Shown {
        let at = self.local;
        let number = |n: u32, width: usize| Shown::Number(i64::from(n), width);
        match key.field {
            Field::Year { .. } | Field::YearWithComma | Field::Century | Field::Era { .. } => {
                self.year(key)
            }
            Field::Quarter => number(at.month0() / 3 + 1, 1),
            Field::Month => number(at.month(), 2),
            Field::MonthName => Shown::Word(name(&MONTHS, at.month0()), NAME_WIDTH),
            Field::MonthShort => Shown::Word(short(name(&MONTHS, at.month0())), 0),
            Field::MonthRoman => Shown::Word(name(&ROMAN, at.month0()), 4),
            Field::Week => number(at.ordinal0() / 7 + 1, 2),
            Field::IsoWeek => number(at.iso_week().week(), 2),
            Field::WeekOfMonth => number(at.day0() / 7 + 1, 1),
            Field::DayOfYear => number(at.ordinal(), 3),
            Field::IsoDayOfYear => {
                let day = at.weekday().number_from_monday();
                number((at.iso_week().week() - 1) * 7 + day, 3)
            }
            Field::Day => number(at.day(), 2),
            Field::DayName => {
                Shown::Word(name(&DAYS, at.weekday().num_days_from_monday()), NAME_WIDTH)
            }
            Field::DayShort => {
                Shown::Word(short(name(&DAYS, at.weekday().num_days_from_monday())), 0)
            }
            Field::WeekDay => number(at.weekday().number_from_sunday(), 1),
            Field::IsoWeekDay => number(at.weekday().number_from_monday(), 1),
            Field::Julian => Shown::Number(i64::from(at.num_days_from_ce()) + JULIAN_CE, 1),
            _ => self.clock(key),
        }
    }

    fn clock(&self, key: &Key) -> Shown {
        let at = self.local;
        let number = |n: u32, width: usize| Shown::Number(i64::from(n), width);
        match key.field {
            Field::Hour12 => number(at.hour12().1, 2),
            Field::Hour24 => number(at.hour(), 2),
            Field::Minute => number(at.minute(), 2),
            Field::Second => number(at.second(), 2),
            Field::SecondsOfDay => number(at.num_seconds_from_midnight(), 1),
            Field::Fraction(digits) => {
                let mut fraction = format!("{:06}", at.nanosecond() / 1_000 % 1_000_000);
                fraction.truncate(digits);
                Shown::Digits(fraction)
            }
            Field::HalfDay { dots } => Shown::Word(
                match (at.hour() >= 12, dots) {
                    (false, false) => "AM",
                    (false, true) => "A.M.",
                    (true, false) => "PM",
                    (true, true) => "P.M.",
                },
                0,
            ),
            Field::ZoneName => Shown::Text(match key.letters {
                Letters::Lower => self.name.to_lowercase(),
                _ => self.name.to_string(),
            }),
            Field::ZoneOffset => Shown::Text(offset_text(self.offset, key.fill)),
            Field::ZoneHours => {
                let sign = if self.offset < 0 { '-' } else { '+' };
                Shown::Text(format!("{sign}{:02}", self.offset.abs() / 3_600))
            }
            Field::ZoneMinutes => Shown::Text(format!("{:02}", self.offset.abs() % 3_600 / 60)),
            _ => Shown::Text(String::new()),
        }
    }

    fn year(&self, key: &Key) -> Shown {
        let year = match key.field {
            Field::Year { iso: true, .. } => self.local.iso_week().year(),
            _ => self.local.year(),
        };
        // There is no year 0: it is 1 before the first.
        let shown = i64::from(if year <= 0 { 1 - year } else { year });
        match key.field {
            Field::Century => {
                let year = i64::from(year);
                Shown::Number(if year > 0 { (year - 1) / 100 + 1 } else { year / 100 - 1 }, 2)
            }
            Field::YearWithComma => {
                Shown::Digits(format!("{},{:03}", shown / 1_000, shown % 1_000))
            }
            Field::Year { digits: 4, .. } => Shown::Number(shown, 4),
            Field::Year { digits, .. } => {
                let modulus = [1, 10, 100, 1_000].get(digits).copied().unwrap_or(10_000);
                Shown::Number(shown % modulus, digits)
            }
            Field::Era { dots } => Shown::Word(
                match (year > 0, dots) {
                    (true, false) => "AD",
                    (true, true) => "A.D.",
                    (false, false) => "BC",
                    (false, true) => "B.C.",
                },
                0,
            ),
            _ => Shown::Text(String::new()),
        }
    }
}

fn name(names: &[&'static str], index: u32) -> &'static str {
    usize::try_from(index).ok().and_then(|i| names.get(i)).copied().unwrap_or_default()
}

pub(super) fn short(name: &'static str) -> &'static str {
    name.get(..3).unwrap_or(name)
}
