//! JSON as values, as jsonb has them: members in the order of their keys, by length and then bytes, of equal keys the
//! last one; numbers are numerics, which keep their digits. And the texts that Postgres makes of them.

use std::borrow::Cow;
use std::fmt::Write;

use crate::error::{SqlError, SqlResult, sqlstate};

/// Most levels of objects and arrays.
const DEPTH_MAX: usize = 500;
/// Most digits of a number that is written without its exponent.
const DIGITS_MAX: i64 = 131_072;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As jsonb writes it: without exponent.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `{"a": 1, "b": [2, 3]}`
    Jsonb,
    /// `{"a":1,"b":[2,3]}`
    Compact,
}

impl<'a> Json<'a> {
    /// What a text says, as jsonb has it.
    pub(super) fn parse(text: &'a str) -> SqlResult<Self> {
        let mut json = Self::as_written(text)?;
        json.normalize();
        Ok(json)
    }

    /// What a text says, members as they stand there.
    pub(super) fn as_written(text: &'a str) -> SqlResult<Self> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let value = reader.value()?;
        reader.space();
        if reader.at < text.len() { Err(reader.wrong()) } else { Ok(value) }
    }

    fn normalize(&mut self) {
        match self {
            Json::Array(items) => items.iter_mut().for_each(Json::normalize),
            Json::Object(members) => {
                members.iter_mut().for_each(|(_, value)| value.normalize());
                sort_members(members);
            }
            _ => {}
        }
    }

    pub(super) fn text(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(style, &mut out);
        out
    }

    pub(super) fn write(&self, style: Style, out: &mut String) {
        let (comma, colon) = match style {
            Style::Jsonb => (", ", ": "),
            Style::Compact => (",", ":"),
        };
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(digits) => out.push_str(digits),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    item.write(style, out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    write_string(key, out);
                    out.push_str(colon);
                    value.write(style, out);
                }
                out.push('}');
            }
        }
    }

    /// As `jsonb_pretty` writes it.
    pub(super) fn write_pretty(&self, level: usize, out: &mut String) {
        let line = |level: usize, out: &mut String| {
            out.push('\n');
            out.extend(std::iter::repeat_n("    ", level));
        };
        match self {
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    line(level + 1, out);
                    item.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    line(level + 1, out);
                    write_string(key, out);
                    out.push_str(": ");
                    value.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push('}');
            }
            scalar => scalar.write(Style::Jsonb, out),
        }
    }

    /// What `->>` gives: of a string what it says, of null nothing.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Json::Null => None,
            Json::String(text) => Some(text.into_owned()),
            other => Some(other.text(Style::Jsonb)),
        }
    }

    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// Bytes that are in order as jsonb is: Object > Array > Boolean > Number > String > Null, and what has more
    /// members or elements is greater. A scalar by itself stands where an array of it does, just before.
    pub(super) fn sort_key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        if self.is_scalar() {
            key.extend([4, 0, 0, 0, 1, 0]);
        }
        self.put_key(&mut key);
        key
    }

    fn put_key(&self, key: &mut Vec<u8>) {
        let count = |n: usize, key: &mut Vec<u8>| {
            key.extend(u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
        };
        match self {
            Json::Null => key.push(0),
            Json::String(text) => {
                key.push(1);
                put_text_key(text, key);
            }
            Json::Number(digits) => {
                key.push(2);
                put_number_key(digits, key);
            }
            Json::Bool(value) => key.extend([3, u8::from(*value)]),
            Json::Array(items) => {
                key.push(4);
                count(items.len(), key);
                key.push(1);
                items.iter().for_each(|item| item.put_key(key));
            }
            Json::Object(members) => {
                key.push(5);
                count(members.len(), key);
                for (name, value) in members {
                    put_text_key(name, key);
                    value.put_key(key);
                }
            }
        }
    }

    /// The same for all values that are equal: numbers without zeros at their end.
    pub(super) fn without_zeros(&mut self) {
        match self {
            Json::Number(digits) if digits.contains('.') => {
                let short = digits.trim_end_matches('0').trim_end_matches('.').to_owned();
                *digits = Cow::Owned(short);
            }
            Json::Array(items) => items.iter_mut().for_each(Json::without_zeros),
            Json::Object(members) => {
                members.iter_mut().for_each(|(_, value)| value.without_zeros());
            }
            _ => {}
        }
    }
}

/// Puts members in the order of jsonb; of equal keys the last one stays.
pub(super) fn sort_members(members: &mut Vec<(Cow<'_, str>, Json<'_>)>) {
    members.reverse();
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    members.dedup_by(|later, kept| later.0 == kept.0);
}

/// A text in quotes.
pub(super) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(text.get(from..at).unwrap_or_default());
        if escape.is_empty() {
            let _written = write!(out, "\\u{byte:04x}");
        }
        out.push_str(escape);
        from = at + 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.push('"');
}

fn put_text_key(text: &str, key: &mut Vec<u8>) {
    for byte in text.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 0]);
}

/// Sign, place of the first digit, digits; those of negative numbers turned around.
fn put_number_key(digits: &str, key: &mut Vec<u8>) {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let leading = all.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        key.push(1);
        return;
    }
    let place = i64::try_from(whole.len()).unwrap_or(0) - i64::try_from(leading).unwrap_or(0);
    let mut rest = Vec::with_capacity(significant.len() + 5);
    // Places are few: they fit, and begin in the middle of what is positive.
    rest.extend(u32::try_from(place + (1 << 30)).unwrap_or(0).to_be_bytes());
    rest.extend(significant.bytes());
    rest.push(0);
    if negative {
        rest.iter_mut().for_each(|byte| *byte = !*byte);
    }
    key.push(if negative { 0 } else { 2 });
    key.extend(rest);
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self) -> SqlError {
        let shown: String = self.text.chars().take(60).collect();
        SqlError::new(sqlstate::INVALID_TEXT, "invalid input syntax for type json")
            .with_detail(format!("byte {} is not expected there in {shown}", self.at + 1))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> SqlResult<Json<'a>> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self) -> SqlResult<Json<'a>> {
        self.space();
        match self.peek() {
            Some(b'{' | b'[') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    let message = format!("JSON has more than {DEPTH_MAX} levels");
                    return Err(SqlError::new(sqlstate::TOO_COMPLEX, message));
                }
                let value = if self.take(b'{') { self.object() } else { self.array() };
                self.depth -= 1;
                value
            }
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(self.number()?)),
            _ => Err(self.wrong()),
        }
    }

    fn array(&mut self) -> SqlResult<Json<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            if !self.take(b',') {
                return Err(self.wrong());
            }
        }
    }

    fn object(&mut self) -> SqlResult<Json<'a>> {
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong());
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.wrong());
            }
            members.push((key, self.value()?));
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.take(b',') {
                return Err(self.wrong());
            }
        }
    }

    fn string(&mut self) -> SqlResult<Cow<'a, str>> {
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at += 1;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                }
                None | Some(0..0x20) => return Err(self.wrong()),
                Some(_) => {}
            }
        }
        self.at += 1;
        let quoted = self.text.get(from..self.at).ok_or_else(|| self.wrong())?;
        if escaped {
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| self.wrong());
        }
        quoted.get(1..quoted.len() - 1).map(Cow::Borrowed).ok_or_else(|| self.wrong())
    }

    fn digits(&mut self) -> SqlResult<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { Err(self.wrong()) } else { Ok(()) }
    }

    fn number(&mut self) -> SqlResult<Cow<'a, str>> {
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'_')) {
            return Err(self.wrong());
        }
        plain_number(self.text.get(from..self.at).unwrap_or_default())
    }
}

/// A number without exponent, and without the sign of zero.
fn plain_number(text: &str) -> SqlResult<Cow<'_, str>> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let is_zero = |digits: &str| digits.bytes().all(|b| matches!(b, b'0' | b'.'));
    let Some((mantissa, exponent)) = digits.split_once(['e', 'E']) else {
        return Ok(Cow::Borrowed(if is_zero(digits) { digits } else { text }));
    };
    let exponent = exponent.parse::<i64>().ok().filter(|e| e.abs() < DIGITS_MAX);
    let overflow = || SqlError::new(sqlstate::OUT_OF_RANGE, "value overflows numeric format");
    let exponent = exponent.ok_or_else(overflow)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).unwrap_or(0) + exponent;
    let (before, after) = match usize::try_from(point) {
        Ok(point) if point <= all.len() => {
            let (before, after) = all.split_at(point);
            (before.to_owned(), after.to_owned())
        }
        Ok(point) => (format!("{all}{}", "0".repeat(point - all.len())), String::new()),
        Err(_) => {
            let zeros = usize::try_from(-point).unwrap_or(0);
            (String::new(), format!("{}{all}", "0".repeat(zeros)))
        }
    };
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    let sign = if is_zero(mantissa) { "" } else { sign };
    Ok(Cow::Owned(match after.as_str() {
        "" => format!("{sign}{before}"),
        after => format!("{sign}{before}.{after}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Json::parse(text).unwrap().text(Style::Jsonb)
    }

    #[test]
    fn texts_are_those_of_postgres() {
        for (written, shown) in [
            (r#" {"b":1, "a" : 2,"a":3} "#, r#"{"a": 3, "b": 1}"#),
            (
                r#"{"long key":1,"b":[1,{"z":2,"y":3}]}"#,
                r#"{"b": [1, {"y": 3, "z": 2}], "long key": 1}"#,
            ),
            (r#""\u00e9\n\u0001\/""#, "\"é\\n\\u0001/\""),
            (
                "[1.50, -0, -0.0, 1e2, 1.5E-3, 0.10e1, 12e-1, [], {}]",
                "[1.50, 0, 0.0, 100, 0.0015, 1.0, 1.2, [], {}]",
            ),
            ("null", "null"),
        ] {
            assert_eq!(normal(written), shown, "{written}");
        }
        for wrong in
            ["", "{", "[1,]", "01", "1.", "{\"a\"}", "tru", "1 2", "\"\n\"", "{a:1}", "-", "1e"]
        {
            assert!(Json::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn keys_are_in_the_order_of_jsonb() {
        // As PostgreSQL sorts them.
        let sorted = [
            "[]",
            "null",
            "\"\"",
            "\"a\"",
            "\"ab\"",
            "-100",
            "-2.5",
            "-2",
            "0",
            "0.01",
            "0.1",
            "1",
            "1.5",
            "2",
            "10",
            "false",
            "true",
            "[null]",
            "[1]",
            "[[]]",
            "[{}]",
            "[1, 2]",
            "{}",
            "{\"a\": 1}",
            "{\"a\": 2}",
            "{\"b\": 1}",
            "{\"a\": 1, \"b\": 2}",
        ];
        let keys: Vec<_> =
            sorted.iter().map(|text| Json::parse(text).unwrap().sort_key()).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        let same = |a, b| Json::parse(a).unwrap().sort_key() == Json::parse(b).unwrap().sort_key();
        assert!(
            same("1", "1.0")
                && same("100", "1e2")
                && same("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}")
        );
        assert!(!same("1", "[1]"));
    }
}
