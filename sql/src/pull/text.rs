//! What the EDN and the JSON reader share: bounds, positions in errors, and the text forms of instants,
//! uuids and names. No DataFusion here.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, Offset, TimeZone, Utc};

/// Bounds of a text that is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Length of the text, bytes.
    pub bytes: usize,
    /// Nesting of collections.
    pub depth: usize,
}

impl ReadLimits {
    /// For a request: 256 KiB hold any pattern a person or a page writes.
    pub const REQUEST: Self = Self { bytes: 256 << 10, depth: 64 };
    /// For a document on the caller's own disk.
    pub const DOCUMENT: Self = Self { bytes: 256 << 20, depth: 128 };
}

/// Names that stand in a text again and again, kept once: rows have the same keys.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// Different names kept at most; a document that has more is no table.
    const MOST: usize = 4_096;

    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        if self.0.len() < Self::MOST {
            self.0.insert(Arc::clone(&new));
        }
        new
    }
}

/// Why a text cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// What is wrong.
    pub reason: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl ReadError {
    /// An error at a byte offset of `text`.
    pub fn at(text: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = text.as_bytes().get(..offset.min(text.len())).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
        Self { reason: reason.into(), line, column: column.chars().count() + 1 }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.reason, self.line, self.column)
    }
}

impl std::error::Error for ReadError {}

/// A bounded text, and how far it was read.
#[derive(Debug)]
pub struct Source<'a> {
    /// The whole text.
    pub text: &'a str,
    /// Bytes read.
    pub at: usize,
    limits: ReadLimits,
}

impl<'a> Source<'a> {
    /// The text, unless it is too long.
    pub fn new(text: &'a str, limits: ReadLimits) -> Result<Self, ReadError> {
        let source = Self { text, at: 0, limits };
        match text.len() > limits.bytes {
            true => Err(source.error(format!("text is longer than {} bytes", limits.bytes))),
            false => Ok(source),
        }
    }

    /// An error here.
    pub fn error(&self, reason: impl Into<String>) -> ReadError {
        ReadError::at(self.text, self.at, reason)
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Refuses a collection that lies too deep.
    pub fn check_depth(&self, depth: usize) -> Result<(), ReadError> {
        match depth > self.limits.depth {
            true => Err(self.error(format!("nested deeper than {}", self.limits.depth))),
            false => Ok(()),
        }
    }
}

/// Whether a character may stand in a symbol or keyword.
pub fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || ".*+!-_?$%&=<>'#:/".contains(c)
}

/// Whether `:text` reads back as a keyword.
pub fn is_keyword_text(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with([':', '/'])
        && !text.ends_with([':', '/'])
        && text.chars().all(is_name_char)
}

/// Whether `text` reads back as a symbol.
pub fn is_symbol_text(text: &str) -> bool {
    let mut chars = text.chars();
    let second_is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let begins = match chars.next() {
        Some('+' | '-' | '.') => !second_is_digit(chars.next()),
        Some(c) => !c.is_numeric() && c != '#' && c != ':',
        None => false,
    };
    let reserved = matches!(text, "nil" | "true" | "false");
    text == "/" || (begins && !reserved && is_keyword_text(text))
}

/// An instant as RFC 3339 has it; a missing time is midnight, a missing offset UTC. Microseconds and offset
/// in seconds.
pub fn parse_instant(text: &str) -> Option<(i64, i32)> {
    if let Ok(t) = DateTime::parse_from_rfc3339(text) {
        return Some((t.timestamp_micros(), t.offset().local_minus_utc()));
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let midnight = date.and_hms_opt(0, 0, 0)?;
    Some((midnight.and_utc().timestamp_micros(), 0))
}

/// An instant in RFC 3339, with as many digits of a second as it has.
pub fn instant_text(micros: i64, offset: i32) -> String {
    let Some(utc) = Utc.timestamp_micros(micros).single() else {
        return micros.to_string();
    };
    let zone = FixedOffset::east_opt(offset).unwrap_or_else(|| Utc.fix());
    let local = utc.with_timezone(&zone);
    let suffix = if offset == 0 { "Z".to_string() } else { local.format("%:z").to_string() };
    let fraction = match micros.rem_euclid(1_000_000) {
        0 => "",
        n if n % 1_000 == 0 => "%.3f",
        _ => "%.6f",
    };
    format!("{}{suffix}", local.format(&format!("%Y-%m-%dT%H:%M:%S{fraction}")))
}

/// A uuid in canonical lower-case text.
pub fn parse_uuid(text: &str) -> Option<String> {
    let lengths = [8_usize, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    let whole = groups.len() == lengths.len()
        && groups.iter().zip(lengths).all(|(group, length)| {
            group.len() == length && group.bytes().all(|b| b.is_ascii_hexdigit())
        });
    whole.then(|| text.to_ascii_lowercase())
}

/// Joins the two halves of a character beyond the basic plane, as `\u` escapes write it.
pub fn join_surrogates(high: u32, low: u32) -> Option<char> {
    if !(0xD800..0xDC00).contains(&high) || !(0xDC00..0xE000).contains(&low) {
        return None;
    }
    char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
}
