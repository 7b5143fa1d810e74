//! JSON text to [`Value`] and back: the only place that knows JSON's spelling. Object keys are keywords;
//! integers beyond 2^53 and decimals are written as strings, so that no reader rounds them. Bounded like the
//! EDN reader; duplicate keys are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::edn;
use super::text::{Names, ReadError, ReadLimits, Source, instant_text, join_surrogates};
use super::value::{Map, Value};

/// Integers up to this size survive a reader that keeps numbers as floats.
const SAFE_INTEGER_MAX: u64 = 1 << 53;

/// Reads exactly one value.
pub fn read(text: &str, limits: ReadLimits) -> Result<Value, ReadError> {
    let mut reader = Reader { source: Source::new(text, limits)?, names: Names::default() };
    let value = reader.value(0)?;
    reader.skip_blank();
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
    fn peek(&self) -> Option<u8> {
        self.source.text.as_bytes().get(self.source.at).copied()
    }
    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.source.at += 1;
        }
    }
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.source.at += 1;
        }
        found
    }

    fn value(&mut self, depth: usize) -> Read<Value> {
        self.source.check_depth(depth)?;
        self.skip_blank();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => {
                let words = [("null", Value::Nil), ("true", true.into()), ("false", false.into())];
                for (word, value) in words {
                    if self.source.rest().starts_with(word) {
                        self.source.at += word.len();
                        return Ok(value);
                    }
                }
                Err(self.source.error("character that no JSON value begins with"))
            }
            None => Err(self.source.error("text ends where a value should stand")),
        }
    }

    fn array(&mut self, depth: usize) -> Read<Value> {
        self.source.at += 1;
        let mut items = Vec::new();
        self.skip_blank();
        if self.take(b']') {
            return Ok(Value::Vector(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blank();
            if self.take(b']') {
                items.shrink_to_fit();
                return Ok(Value::Vector(items));
            }
            if !self.take(b',') {
                return Err(self.source.error("expected , or ] in an array"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<Value> {
        let start = self.source.at;
        self.source.at += 1;
        let mut entries = Vec::new();
        self.skip_blank();
        if self.take(b'}') {
            return Ok(Value::Map(Map::new()));
        }
        loop {
            self.skip_blank();
            if self.peek() != Some(b'"') {
                return Err(self.source.error("expected a string as a key of an object"));
            }
            let key = self.string()?;
            let key = Value::Keyword(self.names.get(&key));
            self.skip_blank();
            if !self.take(b':') {
                return Err(self.source.error("expected : after a key"));
            }
            entries.push((key, self.value(depth + 1)?));
            self.skip_blank();
            if self.take(b'}') {
                break;
            }
            if !self.take(b',') {
                return Err(self.source.error("expected , or } in an object"));
            }
        }
        Map::from_entries(entries)
            .map(Value::Map)
            .map_err(|_| ReadError::at(self.source.text, start, "a key stands twice in an object"))
    }

    fn string(&mut self) -> Read<Arc<str>> {
        let start = self.source.at;
        self.source.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.source.rest();
            let Some(plain) = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20) else {
                return Err(ReadError::at(self.source.text, start, "a string has no end"));
            };
            out.push_str(rest.get(..plain).unwrap_or(""));
            self.source.at += plain;
            if self.take(b'"') {
                return Ok(Arc::from(out));
            }
            if !self.take(b'\\') {
                return Err(self.source.error("control character in a string"));
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Read<char> {
        let c = self.peek();
        self.source.at += usize::from(c.is_some());
        Ok(match c {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'u') => {
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
            _ => {
                self.source.at = self.source.at.saturating_sub(1);
                return Err(self.source.error("unknown escape in a string"));
            }
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

    fn number(&mut self) -> Read<Value> {
        let rest = self.source.rest();
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let tail = |n: usize| rest.get(n..).unwrap_or("");
        let mut end = usize::from(rest.starts_with('-'));
        let whole = digits(tail(end));
        let leading_zero = whole > 1 && tail(end).starts_with('0');
        end += whole;
        let mut well_formed = whole > 0 && !leading_zero;
        let mut is_float = false;
        if tail(end).starts_with('.') {
            let fraction = digits(tail(end + 1));
            well_formed &= fraction > 0;
            end += 1 + fraction;
            is_float = true;
        }
        if tail(end).starts_with(['e', 'E']) {
            let sign = usize::from(tail(end + 1).starts_with(['+', '-']));
            let power = digits(tail(end + 1 + sign));
            well_formed &= power > 0;
            end += 1 + sign + power;
            is_float = true;
        }
        let text = rest.get(..end).unwrap_or("");
        if !well_formed {
            return Err(self.source.error("malformed number"));
        }
        let value = if is_float {
            let parsed = text.parse::<f64>().ok().filter(|x| x.is_finite());
            Value::Float(parsed.ok_or_else(|| self.source.error("number out of range"))?)
        } else {
            edn::integer(text)
        };
        self.source.at += end;
        Ok(value)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

/// Writes a value as JSON. Keys that are no text are written in EDN; sets and lists become arrays.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) if n.unsigned_abs() <= SAFE_INTEGER_MAX => out.push_str(&n.to_string()),
        Value::Int(n) => push_string(out, &n.to_string()),
        Value::Float(x) if x.is_finite() => out.push_str(&format!("{x:?}")),
        Value::Float(x) if x.is_nan() => push_string(out, "NaN"),
        Value::Float(x) => push_string(out, if *x > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::BigInt(text)
        | Value::Decimal(text)
        | Value::String(text)
        | Value::Keyword(text)
        | Value::Symbol(text)
        | Value::Uuid(text) => push_string(out, text),
        Value::Char(c) => push_string(out, c.encode_utf8(&mut [0; 4])),
        Value::List(items) | Value::Vector(items) | Value::Set(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push(out, item);
            }
            out.push(']');
        }
        Value::Map(map) => push_map(out, map),
        Value::Inst { micros, offset } => push_string(out, &instant_text(*micros, *offset)),
    }
}

fn push_map(out: &mut String, map: &Map) {
    out.push('{');
    let mut written = BTreeSet::new();
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let mut name = key.as_name().map_or_else(|| edn::write(key), str::to_string);
        if written.contains(&name) {
            name = edn::write(key);
        }
        while written.contains(&name) {
            name.insert(0, '\'');
        }
        push_string(out, &name);
        written.insert(name);
        out.push(':');
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
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
