//! EDN text to [`Value`] and back: the only place that knows EDN's spelling. The reader is bounded in bytes and
//! depth, refuses duplicate keys, and never panics; what the writer writes, the reader reads.

use std::fmt::Write as _;
use std::sync::Arc;

use super::text::{
    Names, ReadError, ReadLimits, Source, instant_text, is_keyword_text, is_name_char,
    is_symbol_text, join_surrogates, parse_instant, parse_uuid,
};
use super::value::{Map, Value};

/// Reads exactly one value.
pub fn read(text: &str, limits: ReadLimits) -> Result<Value, ReadError> {
    let mut reader = Reader { source: Source::new(text, limits)?, names: Names::default() };
    let Some(value) = reader.next_form(0)? else {
        return Err(reader.source.error("text ends where a value should stand"));
    };
    reader.skip_blank(0)?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.source.error("a second value follows the first")),
    }
}

struct Reader<'a> {
    source: Source<'a>,
    names: Names,
}

type Read<T> = Result<T, ReadError>;

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.source.rest().chars().next()
    }
    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.source.at += c.len_utf8();
        Some(c)
    }

    /// Skips white space, commas, comments and discarded forms.
    fn skip_blank(&mut self, depth: usize) -> Read<()> {
        loop {
            match self.peek() {
                Some(c) if c.is_whitespace() || c == ',' => {
                    self.bump();
                }
                Some(';') => {
                    let line = self.source.rest().find('\n').unwrap_or(self.source.rest().len());
                    self.source.at += line;
                }
                Some('#') if self.source.rest().starts_with("#_") => {
                    self.source.at += 2;
                    if self.next_form(depth + 1)?.is_none() {
                        return Err(self.source.error("nothing follows #_"));
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// The next value, or `None` at the end or before a closing bracket.
    fn next_form(&mut self, depth: usize) -> Read<Option<Value>> {
        self.source.check_depth(depth)?;
        self.skip_blank(depth)?;
        let Some(c) = self.peek() else { return Ok(None) };
        Ok(Some(match c {
            ')' | ']' | '}' => return Ok(None),
            '(' => Value::List(self.sequence(')', depth)?),
            '[' => Value::Vector(self.sequence(']', depth)?),
            '{' => self.map(depth)?,
            '"' => self.string()?,
            '\\' => self.character()?,
            '#' => self.dispatch(depth)?,
            _ => self.token()?,
        }))
    }

    fn sequence(&mut self, close: char, depth: usize) -> Read<Vec<Value>> {
        self.bump();
        let mut items = Vec::new();
        while let Some(item) = self.next_form(depth + 1)? {
            items.push(item);
        }
        match self.peek() {
            Some(c) if c == close => {
                self.bump();
                items.shrink_to_fit();
                Ok(items)
            }
            Some(c) => Err(self.source.error(format!("found {c:?} where {close:?} should stand"))),
            None => Err(self.source.error(format!("text ends before {close:?}"))),
        }
    }

    fn map(&mut self, depth: usize) -> Read<Value> {
        let start = self.source.at;
        let mut items = self.sequence('}', depth)?.into_iter();
        let mut entries = Vec::with_capacity(items.len() / 2);
        while let Some(key) = items.next() {
            let Some(value) = items.next() else {
                return Err(ReadError::at(self.source.text, start, "a map key has no value"));
            };
            entries.push((key, value));
        }
        Map::from_entries(entries).map(Value::Map).map_err(|key| {
            let reason = format!("{} stands twice as a key of a map", key.kind_name());
            ReadError::at(self.source.text, start, reason)
        })
    }

    fn dispatch(&mut self, depth: usize) -> Read<Value> {
        let start = self.source.at;
        self.bump();
        match self.peek() {
            Some('{') => Value::set(self.sequence('}', depth)?).ok_or_else(|| {
                ReadError::at(self.source.text, start, "an element of a set stands twice")
            }),
            Some('#') => {
                self.bump();
                match self.word() {
                    "NaN" => Ok(Value::Float(f64::NAN)),
                    "Inf" => Ok(Value::Float(f64::INFINITY)),
                    "-Inf" => Ok(Value::Float(f64::NEG_INFINITY)),
                    _ => Err(ReadError::at(self.source.text, start, "unknown ## value")),
                }
            }
            Some(c) if c.is_alphabetic() => self.tagged(start, depth),
            _ => Err(self.source.error("# must be followed by a set, a tag, _ or #")),
        }
    }

    fn tagged(&mut self, start: usize, depth: usize) -> Read<Value> {
        let tag = self.word();
        let Some(value) = self.next_form(depth + 1)? else {
            return Err(self.source.error(format!("nothing follows the tag #{tag}")));
        };
        let failed = |reason: &str| ReadError::at(self.source.text, start, reason);
        match (tag, &value) {
            ("inst", Value::String(text)) => {
                let (micros, offset) =
                    parse_instant(text).ok_or_else(|| failed("#inst needs an RFC 3339 time"))?;
                Ok(Value::Inst { micros, offset })
            }
            ("uuid", Value::String(text)) => {
                let uuid =
                    parse_uuid(text).ok_or_else(|| failed("#uuid needs 8-4-4-4-12 digits"))?;
                Ok(Value::Uuid(Arc::from(uuid)))
            }
            ("inst" | "uuid", _) => Err(failed("#inst and #uuid need a string")),
            _ => Err(failed("unknown tag: only #inst and #uuid are read")),
        }
    }

    fn string(&mut self) -> Read<Value> {
        let start = self.source.at;
        self.bump();
        let mut out = String::new();
        loop {
            let rest = self.source.rest();
            let Some(plain) = rest.find(['"', '\\']) else {
                return Err(ReadError::at(self.source.text, start, "a string has no end"));
            };
            out.push_str(rest.get(..plain).unwrap_or(""));
            self.source.at += plain;
            if self.bump() == Some('"') {
                return Ok(Value::String(Arc::from(out)));
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Read<char> {
        Ok(match self.bump() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(c @ ('"' | '\\')) => c,
            Some('u') => {
                let first = self.hex4()?;
                if let Some(c) = char::from_u32(first) {
                    return Ok(c);
                }
                let low = if self.source.rest().starts_with("\\u") {
                    self.source.at += 2;
                    self.hex4()?
                } else {
                    0
                };
                join_surrogates(first, low)
                    .ok_or_else(|| self.source.error("lone surrogate in a string"))?
            }
            _ => return Err(self.source.error("unknown escape in a string")),
        })
    }

    fn hex4(&mut self) -> Read<u32> {
        let digits = self.source.rest().get(..4).unwrap_or("");
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.source.error("\\u needs four hexadecimal digits"));
        }
        self.source.at += 4;
        u32::from_str_radix(digits, 16)
            .map_err(|_| self.source.error("\\u needs four hexadecimal digits"))
    }

    fn character(&mut self) -> Read<Value> {
        let start = self.source.at;
        self.bump();
        let Some(first) = self.bump().filter(|c| !c.is_whitespace()) else {
            return Err(ReadError::at(
                self.source.text,
                start,
                "\\ must be followed by a character",
            ));
        };
        let word_start = self.source.at - first.len_utf8();
        if is_name_char(first) {
            self.word();
        }
        let word = self.source.text.get(word_start..self.source.at).unwrap_or("");
        let mut chars = word.chars();
        chars.next();
        if chars.as_str().is_empty() {
            return Ok(Value::Char(first));
        }
        let named = match word {
            "newline" => Some('\n'),
            "return" => Some('\r'),
            "space" => Some(' '),
            "tab" => Some('\t'),
            "backspace" => Some('\u{8}'),
            "formfeed" => Some('\u{c}'),
            _ => word
                .strip_prefix('u')
                .filter(|hex| hex.len() == 4 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .and_then(char::from_u32),
        };
        named
            .map(Value::Char)
            .ok_or_else(|| ReadError::at(self.source.text, start, "unknown character name"))
    }

    /// Takes the characters up to the next delimiter.
    fn word(&mut self) -> &'a str {
        let rest = self.source.rest();
        let end = rest.find(|c: char| !is_name_char(c)).unwrap_or(rest.len());
        self.source.at += end;
        rest.get(..end).unwrap_or("")
    }

    fn token(&mut self) -> Read<Value> {
        let start = self.source.at;
        let word = self.word();
        let delimited = self.peek().is_none_or(|c| {
            c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '"')
        });
        if word.is_empty() || !delimited {
            return Err(self.source.error("character that no value begins with or holds"));
        }
        let mut chars = word.chars();
        let numeric = match chars.next() {
            Some('+' | '-') => chars.next().is_some_and(|c| c.is_ascii_digit()),
            first => first.is_some_and(|c| c.is_ascii_digit()),
        };
        let value = match word {
            "nil" => Some(Value::Nil),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ if numeric => number(word),
            _ => match word.strip_prefix(':') {
                Some(text) => is_keyword_text(text).then(|| Value::Keyword(self.names.get(text))),
                None => is_symbol_text(word).then(|| Value::symbol(word)),
            },
        };
        value.ok_or_else(|| {
            let what = if numeric { "number" } else { "name" };
            ReadError::at(self.source.text, start, format!("malformed {what}"))
        })
    }
}

/// A number in EDN's grammar: no leading zeros, no ratios, floats within range.
fn number(word: &str) -> Option<Value> {
    let unsigned = word.trim_start_matches(['+', '-']);
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let whole_ok = |s: &str| digits(s) && (s == "0" || !s.starts_with('0'));
    let plain = word.strip_prefix('+').unwrap_or(word);
    if whole_ok(unsigned.strip_suffix('N').unwrap_or(unsigned)) {
        return Some(integer(plain.strip_suffix('N').unwrap_or(plain)));
    }
    let (body, exact) = match unsigned.strip_suffix('M') {
        Some(body) => (body, true),
        None => (unsigned, false),
    };
    let (mantissa, power) = match body.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, Some(power)),
        None => (body, None),
    };
    let whole = match mantissa.split_once('.') {
        Some((whole, fraction)) if digits(fraction) => whole,
        Some(_) => return None,
        None => mantissa,
    };
    let power_ok = power.is_none_or(|p| digits(p.strip_prefix(['+', '-']).unwrap_or(p)));
    if !whole_ok(whole) || !power_ok {
        return None;
    }
    if exact {
        return Some(Value::Decimal(Arc::from(plain.strip_suffix('M').unwrap_or(plain))));
    }
    plain.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::Float)
}

/// An integer of any length; 64 bits where they do.
pub(super) fn integer(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(n) => Value::Int(n),
        Err(_) => Value::BigInt(Arc::from(text)),
    }
}

/// Writes a value so that [`read`] gives it back. A keyword that has no EDN spelling (a JSON key with a
/// space in it) becomes a string.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// Appends a value's text.
pub(super) fn push(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("nil"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => push_display(out, n),
        Value::BigInt(text) => push_parts(out, &[text, "N"]),
        Value::Decimal(text) => push_parts(out, &[text, "M"]),
        Value::Float(x) if x.is_nan() => out.push_str("##NaN"),
        Value::Float(x) if x.is_infinite() => {
            out.push_str(if *x > 0.0 { "##Inf" } else { "##-Inf" })
        }
        Value::Float(x) => push_parts(out, &[&format!("{x:?}")]),
        Value::String(text) => push_string(out, text),
        Value::Char(c) => push_char(out, *c),
        Value::Keyword(text) if is_keyword_text(text) => push_parts(out, &[":", text]),
        Value::Keyword(text) => push_string(out, text),
        Value::Symbol(text) if is_symbol_text(text) => out.push_str(text),
        Value::Symbol(text) => push_string(out, text),
        Value::List(items) => push_items(out, "(", items, ")"),
        Value::Vector(items) => push_items(out, "[", items, "]"),
        Value::Set(items) => push_items(out, "#{", items, "}"),
        Value::Map(map) => push_map(out, map),
        Value::Inst { micros, offset } => {
            push_parts(out, &["#inst \"", &instant_text(*micros, *offset), "\""]);
        }
        Value::Uuid(text) => push_parts(out, &["#uuid \"", text, "\""]),
    }
}

fn push_display(out: &mut String, n: &i64) {
    // Writing to a String cannot fail.
    write!(out, "{n}").ok();
}

fn push_parts(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
}

fn push_items(out: &mut String, open: &str, items: &[Value], close: &str) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        push(out, item);
    }
    out.push_str(close);
}

fn push_map(out: &mut String, map: &Map) {
    out.push('{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        push(out, key);
        out.push(' ');
        push(out, value);
    }
    out.push('}');
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => push_parts(out, &[&format!("\\u{:04x}", u32::from(c))]),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push_char(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\newline"),
        '\r' => out.push_str("\\return"),
        ' ' => out.push_str("\\space"),
        '\t' => out.push_str("\\tab"),
        c if c.is_control() || c.is_whitespace() => {
            push_parts(out, &[&format!("\\u{:04x}", u32::from(c))]);
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
}
