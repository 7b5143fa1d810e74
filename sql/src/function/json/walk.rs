//! Reading JSON text where it lies: parts are slices of the text, and what is not asked for is skipped, not
//! built. Of keys that repeat the last one counts, as in jsonb.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value};

use crate::error::{SqlError, SqlResult, sqlstate};

/// What the text of a value begins with tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    pub(super) fn of(json: &str) -> Self {
        match json.trim_start().bytes().next() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    /// The name that `jsonb_typeof` gives.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }
}

fn wrong(json: &str, e: &serde_json::Error) -> SqlError {
    let shown: String = json.chars().take(60).collect();
    SqlError::new(sqlstate::INVALID_TEXT, "invalid input syntax for type json")
        .with_detail(format!("{e} in {shown}"))
}

/// A visitor of objects and arrays that keeps what it wants.
trait Keep<'a> {
    fn member(&mut self, key: &str) -> bool;
    fn element(&mut self, index: usize) -> bool;
    fn found(&mut self, value: &'a str);
    fn key(&mut self, _key: &str) {}
}

struct Walk<'k, K>(&'k mut K);

struct Key<'k, K>(&'k mut K);

impl<'a, K: Keep<'a>> DeserializeSeed<'a> for Key<'_, K> {
    type Value = bool;
    fn deserialize<D: serde::Deserializer<'a>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'a, K: Keep<'a>> Visitor<'a> for Key<'_, K> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        self.0.key(key);
        Ok(self.0.member(key))
    }
}

impl<'a, K: Keep<'a>> Visitor<'a> for Walk<'_, K> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Key(&mut *self.0))? {
            if wanted {
                self.0.found(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            if self.0.element(index) {
                match seq.next_element::<&RawValue>()? {
                    Some(value) => self.0.found(value.get()),
                    None => return Ok(()),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// Walks over the members or elements of a container; a scalar has none.
fn walk<'a, K: Keep<'a>>(json: &'a str, keep: &mut K) -> SqlResult<Kind> {
    let kind = Kind::of(json);
    let failed = |e: serde_json::Error| wrong(json, &e);
    let mut reader = Deserializer::from_str(json);
    match kind {
        Kind::Object | Kind::Array => reader.deserialize_any(Walk(keep)).map_err(failed)?,
        _ => reader.deserialize_ignored_any(IgnoredAny).map(|_| ()).map_err(failed)?,
    }
    reader.end().map_err(failed)?;
    Ok(kind)
}

struct Member<'k, 'a> {
    key: &'k str,
    value: Option<&'a str>,
}

impl<'a> Keep<'a> for Member<'_, 'a> {
    fn member(&mut self, key: &str) -> bool {
        key == self.key
    }
    fn element(&mut self, _: usize) -> bool {
        false
    }
    fn found(&mut self, value: &'a str) {
        self.value = Some(value);
    }
}

/// The member of an object under a key.
pub(super) fn member<'a>(json: &'a str, key: &str) -> SqlResult<Option<&'a str>> {
    let mut keep = Member { key, value: None };
    walk(json, &mut keep)?;
    Ok(keep.value)
}

struct Element<'a> {
    index: Option<usize>,
    value: Option<&'a str>,
    length: usize,
}

impl<'a> Keep<'a> for Element<'a> {
    fn member(&mut self, _: &str) -> bool {
        false
    }
    fn element(&mut self, index: usize) -> bool {
        self.length = index;
        Some(index) == self.index
    }
    fn found(&mut self, value: &'a str) {
        self.value = Some(value);
    }
}

/// The number of elements of an array; `None` if it is something else.
pub(super) fn length(json: &str) -> SqlResult<Option<usize>> {
    let mut keep = Element { index: None, value: None, length: 0 };
    let kind = walk(json, &mut keep)?;
    Ok((kind == Kind::Array).then_some(keep.length))
}

/// The element of an array at an index; negative ones count from its end.
pub(super) fn element(json: &str, index: i64) -> SqlResult<Option<&str>> {
    let index = match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length(json)?.and_then(|length| {
            length.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
        }),
    };
    let mut keep = Element { index, value: None, length: 0 };
    walk(json, &mut keep)?;
    Ok(keep.value)
}

#[derive(Default)]
struct All<'a> {
    keys: Vec<String>,
    elements: Vec<&'a str>,
}

impl<'a> Keep<'a> for All<'a> {
    fn member(&mut self, _: &str) -> bool {
        false
    }
    fn element(&mut self, _: usize) -> bool {
        true
    }
    fn found(&mut self, value: &'a str) {
        self.elements.push(value);
    }
    fn key(&mut self, key: &str) {
        if !self.keys.iter().any(|known| known == key) {
            self.keys.push(key.to_string());
        }
    }
}

/// The elements of an array; `None` if it is something else.
pub(super) fn elements(json: &str) -> SqlResult<Option<Vec<&str>>> {
    let mut keep = All::default();
    let kind = walk(json, &mut keep)?;
    Ok((kind == Kind::Array).then_some(keep.elements))
}

/// The keys of an object; `None` if it is something else.
pub(super) fn keys(json: &str) -> SqlResult<Option<Vec<String>>> {
    let mut keep = All::default();
    let kind = walk(json, &mut keep)?;
    Ok((kind == Kind::Object).then_some(keep.keys))
}

struct Values<'a>(Vec<&'a str>);

impl<'a> Keep<'a> for Values<'a> {
    fn member(&mut self, _: &str) -> bool {
        true
    }
    fn element(&mut self, _: usize) -> bool {
        false
    }
    fn found(&mut self, value: &'a str) {
        self.0.push(value);
    }
}

/// The values of an object's members; `None` if it is something else.
pub(super) fn values(json: &str) -> SqlResult<Option<Vec<&str>>> {
    let mut keep = Values(Vec::new());
    let kind = walk(json, &mut keep)?;
    Ok((kind == Kind::Object).then_some(keep.0))
}

/// The part at the end of a path of keys and, in arrays, indexes.
pub(super) fn at_path<'a>(json: &'a str, path: &[Cow<'_, str>]) -> SqlResult<Option<&'a str>> {
    let mut part = json;
    for step in path {
        let next = match Kind::of(part) {
            Kind::Object => member(part, step)?,
            Kind::Array => match step.parse() {
                Ok(index) => element(part, index)?,
                Err(_) => None,
            },
            _ => None,
        };
        match next {
            Some(next) => part = next,
            None => return Ok(None),
        }
    }
    Ok(Some(part))
}

/// The text of a value: of a string what it says, of null nothing, else its JSON.
pub(super) fn text(json: &str) -> SqlResult<Option<Cow<'_, str>>> {
    match Kind::of(json) {
        Kind::Null => Ok(None),
        Kind::String => {
            let inner = json.trim().strip_prefix('"').and_then(|s| s.strip_suffix('"'));
            match inner.filter(|inner| !inner.contains('\\')) {
                Some(plain) => Ok(Some(Cow::Borrowed(plain))),
                None => serde_json::from_str(json)
                    .map(|text: String| Some(Cow::Owned(text)))
                    .map_err(|e| wrong(json, &e)),
            }
        }
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}

/// What a value is, having read all of it.
pub(super) fn value_kind(json: &str) -> SqlResult<Kind> {
    walk(json, &mut All::default())
}

/// The whole value.
pub(super) fn value(json: &str) -> SqlResult<Value> {
    serde_json::from_str(json).map_err(|e| wrong(json, &e))
}

/// Whether `a` contains `b` as jsonb has it: members and elements of `b` are found in `a`, at any depth of
/// `b` but from the top of `a`.
pub(super) fn contains(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // An array contains a scalar that is its element, but only at the top.
        (Value::Array(list), scalar) if !scalar.is_array() && !scalar.is_object() => {
            list.iter().any(|element| equal(element, scalar))
        }
        _ => holds(a, b),
    }
}

fn holds(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            b.iter().all(|(key, b)| a.get(key).is_some_and(|a| holds(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            b.iter().all(|wanted| a.iter().any(|element| holds(element, wanted)))
        }
        _ => equal(a, b),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}
