//! Patterns over intervals: their years, months, days and clock, none of which becomes another.

use super::pattern::{Piece, ordinal};
use super::time::{Field, Format, Key};
use crate::datetime::Span;
use crate::error::{SqlError, SqlResult, sqlstate};

const SECOND: i64 = 1_000_000;

/// The text of an interval.
pub(super) fn text(format: &Format, span: Span) -> SqlResult<String> {
    let mut out = String::new();
    for piece in format.pieces() {
        match piece {
            Piece::Text(c) => out.push(*c),
            Piece::Key(Some(key)) => write(key, span, &mut out)?,
            Piece::Key(None) => {}
        }
    }
    Ok(out)
}

fn write(key: &Key, span: Span, out: &mut String) -> SqlResult<()> {
    let (years, months) = (i64::from(span.months / 12), i64::from(span.months % 12));
    let days = i64::from(span.days);
    let seconds = span.micros / SECOND;
    let hours = seconds / 3_600;
    let of_year = (years * 12 + months) * 30 + days;
    let (number, width) = match key.field {
        Field::Century => (years / 100, 2),
        Field::Year { digits: 4, iso: false } => (years, 4),
        Field::Year { digits, iso: false } => {
            let modulus = [1, 10, 100, 1_000].get(digits).copied().unwrap_or(10_000);
            (years % modulus, digits)
        }
        Field::Quarter if months != 0 => ((months - 1) / 3 + 1, 1),
        Field::Quarter => return Ok(()),
        Field::Month => (months, 2),
        Field::Day => (days, 2),
        Field::DayOfYear => (of_year, 3),
        Field::Week => ((of_year - 1) / 7 + 1, 2),
        Field::WeekOfMonth => ((days - 1) / 7 + 1, 1),
        Field::Hour24 => (hours, 2),
        Field::Hour12 => (if hours % 12 == 0 { 12 } else { hours % 12 }, 2),
        Field::Minute => (seconds / 60 % 60, 2),
        Field::Second => (seconds % 60, 2),
        Field::SecondsOfDay => (seconds, 1),
        Field::Fraction(digits) => {
            let mut fraction = format!("{:06}", (span.micros % SECOND).abs());
            fraction.truncate(digits);
            out.push_str(&fraction);
            return Ok(());
        }
        _ => {
            let message = "invalid format specification for an interval value";
            return Err(SqlError::new(sqlstate::INVALID_DATETIME, message)
                .with_hint("intervals are not tied to specific calendar dates"));
        }
    };
    let width = match (key.fill, number < 0) {
        (true, _) => 0,
        (false, true) => width + 1,
        (false, false) => width,
    };
    let begin = out.len();
    out.push_str(&format!("{number:0width$}"));
    if let Some(upper) = key.ending {
        let ending = ordinal(out.get(begin..).unwrap_or_default());
        out.push_str(&if upper { ending.to_uppercase() } else { ending.to_string() });
    }
    Ok(())
}
