//! What is wrong with a request or went wrong in it: a code, a reason that never holds data, and the path of
//! the entry.

use super::value::{Map, Value};

/// A path from the root of the answer: keys, or the names that `:as` gives.
pub type Path = Vec<Value>;

/// One error of a pull answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A keyword that programs can act on.
    pub code: &'static str,
    /// What is wrong, for people.
    pub reason: String,
    /// Where.
    pub path: Path,
}

impl Problem {
    /// A problem of `code` at `path`.
    pub fn new(code: &'static str, reason: impl Into<String>, path: &[Value]) -> Self {
        Self { code, reason: reason.into(), path: path.to_vec() }
    }
    /// A pattern that does not decode.
    pub fn bad_pattern(reason: impl Into<String>, path: &[Value]) -> Self {
        Self::new("bad-pattern", reason, path)
    }
    /// An argument of the wrong shape.
    pub fn bad_argument(reason: impl Into<String>, path: &[Value]) -> Self {
        Self::new("bad-argument", reason, path)
    }
    /// The entry of `:errors`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert(Value::keyword("code"), Value::keyword(self.code));
        map.insert(Value::keyword("reason"), Value::text(&self.reason));
        map.insert(Value::keyword("path"), Value::Vector(self.path.clone()));
        Value::Map(map)
    }
}

/// `path` with one more key.
pub fn join(path: &[Value], key: impl Into<PathKey>) -> Path {
    let mut longer = path.to_vec();
    longer.push(key.into().0);
    longer
}

/// A key of a path: a value, a keyword's text or an index.
#[derive(Debug)]
pub struct PathKey(Value);

impl From<&Value> for PathKey {
    fn from(value: &Value) -> Self {
        Self(value.clone())
    }
}
impl From<&str> for PathKey {
    fn from(name: &str) -> Self {
        Self(Value::keyword(name))
    }
}
impl From<usize> for PathKey {
    fn from(index: usize) -> Self {
        Self(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)))
    }
}
