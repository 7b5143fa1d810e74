//! What a server offers, as a shape that patterns are checked against before anything runs: maps are closed,
//! maps and rows must be opened, endpoints must be called, and arguments fit.

use super::pattern::{Entry, KeyOption, MapPattern, Pattern, RowsPattern, Target};
use super::problem::{Path, Problem, join};
use super::value::Value;

/// The kind of a plain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Any,
    /// A boolean.
    Bool,
    /// An integer.
    Int,
    /// Any number.
    Number,
    /// A number, or its text where JSON has no such number.
    NumberOrText,
    /// A string.
    String,
    /// A keyword; in JSON a string.
    Keyword,
    /// An instant, or text that is one.
    Instant,
}

impl Kind {
    /// Whether a value is of this kind; nil is of every kind.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            _ if value.is_nil() => true,
            Self::Any => true,
            Self::Bool => matches!(value, Value::Bool(_)),
            Self::Int => matches!(value, Value::Int(_) | Value::BigInt(_)),
            Self::Number => value.as_float().is_some(),
            Self::NumberOrText => {
                value.as_float().is_some()
                    || value.as_name().is_some_and(|text| text.parse::<f64>().is_ok())
            }
            Self::String => matches!(value, Value::String(_) | Value::Uuid(_)),
            Self::Keyword => matches!(value, Value::Keyword(_) | Value::String(_)),
            Self::Instant => matches!(value, Value::Inst { .. } | Value::String(_) | Value::Int(_)),
        }
    }
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::Bool => "a boolean",
            Self::Int => "an integer",
            Self::Number | Self::NumberOrText => "a number",
            Self::String => "a string",
            Self::Keyword => "a keyword",
            Self::Instant => "an instant",
        }
    }
}

/// What stands at a place of the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A plain value.
    Leaf(Kind),
    /// A sequence of plain values, taken as a whole.
    List(Kind),
    /// A map with these keys and no other.
    Map(Vec<(Value, Shape)>),
    /// Rows of one shape.
    Rows(Box<Shape>),
    /// Something that can be opened, but may be taken as a whole too.
    Whole(Box<Shape>),
    /// Something that is called.
    Endpoint {
        /// Its arguments.
        arguments: Vec<ArgumentShape>,
        /// What it gives.
        returns: Box<Shape>,
    },
    /// A part of the language that this server does not offer yet.
    Later(&'static str),
}

/// An argument of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentShape {
    /// A plain value.
    Plain(Kind),
    /// A map with these keys: name, kind, required.
    Map(Vec<(&'static str, Kind, bool)>),
    /// A map that the endpoint checks by itself.
    Query,
}

/// All that is wrong with a pattern for a shape.
pub fn validate(pattern: &Pattern, shape: &Shape) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new() };
    check.pattern(pattern, shape, &Vec::new());
    check.problems
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn fail(&mut self, code: &'static str, path: &[Value], reason: impl Into<String>) {
        self.problems.push(Problem::new(code, reason, path));
    }

    fn pattern(&mut self, pattern: &Pattern, shape: &Shape, path: &Path) {
        match (pattern, shape) {
            (Pattern::Map(map), Shape::Map(keys)) => self.map(map, keys, path),
            (Pattern::Rows(rows), Shape::Rows(row)) => self.rows(rows, row, path),
            (_, Shape::Whole(inner)) => self.pattern(pattern, inner, path),
            // A document: what it holds is known only when it is read.
            (_, Shape::Leaf(Kind::Any)) => {}
            (Pattern::Map(_), Shape::Rows(_)) => {
                self.fail("type-mismatch", path, "rows are opened with a vector: [{…}]");
            }
            (Pattern::Rows(_), Shape::Map(_)) => {
                self.fail("type-mismatch", path, "a map is opened with a map: {…}");
            }
            (_, Shape::Later(what)) => self.fail("not-supported", path, *what),
            _ => self.fail("type-mismatch", path, "a plain value cannot be opened; take it with ?"),
        }
    }

    fn map(&mut self, pattern: &MapPattern, keys: &[(Value, Shape)], path: &Path) {
        for entry in &pattern.entries {
            let here = join(path, entry.name());
            let Some((_, shape)) = keys.iter().find(|(key, _)| *key == entry.key) else {
                let known: Vec<&str> = keys.iter().filter_map(|(key, _)| key.as_name()).collect();
                let reason = match known.len() {
                    0 => "there is no key here".to_string(),
                    1..=40 => format!("unknown key; there is {}", known.join(", ")),
                    count => format!("unknown key; {count} others are known"),
                };
                self.fail("unknown-key", &here, reason);
                continue;
            };
            self.entry(entry, shape, &here);
        }
    }

    fn rows(&mut self, pattern: &RowsPattern, row: &Shape, path: &Path) {
        self.pattern(&pattern.element, row, path);
    }

    fn entry(&mut self, entry: &Entry, shape: &Shape, path: &Path) {
        let called;
        let shape = match shape {
            Shape::Endpoint { arguments, returns } => {
                match entry.options.iter().find(|o| calls(o)) {
                    Some(KeyOption::Batch(all)) => {
                        for (i, given) in all.iter().enumerate() {
                            let at = join(&join(path, "batch"), i);
                            self.arguments(given, arguments, &at);
                        }
                        called = match &**returns {
                            Shape::Leaf(kind) => Shape::List(*kind),
                            other => Shape::Rows(Box::new(other.clone())),
                        };
                        &called
                    }
                    Some(KeyOption::With(given)) => {
                        self.arguments(given, arguments, &join(path, "with"));
                        returns
                    }
                    _ => {
                        let reason = "an endpoint gives its value only when called with :with";
                        return self.fail("not-called", path, reason);
                    }
                }
            }
            Shape::Later(what) => return self.fail("not-supported", path, *what),
            plain => {
                if entry.is_call() {
                    return self.fail("not-callable", path, "this is no endpoint");
                }
                plain
            }
        };
        self.options(entry, shape, path);
        self.target(&entry.target, shape, path);
    }

    fn target(&mut self, target: &Target, shape: &Shape, path: &Path) {
        match (target, shape) {
            (Target::Into(pattern), _) => self.pattern(pattern, shape, path),
            (_, Shape::Map(_)) => {
                self.fail("not-opened", path, "a map must be opened: say which keys");
            }
            (_, Shape::Rows(_)) => {
                self.fail("not-opened", path, "rows must be opened: say which columns");
            }
            (Target::Equal(literal), Shape::Leaf(kind)) if !kind.admits(literal) => {
                let found = literal.kind_name();
                let reason = format!("a filter here is {}, not {found}", kind.name());
                self.fail("type-mismatch", path, reason);
            }
            (Target::Equal(_), Shape::List(_) | Shape::Whole(_)) => {
                self.fail("type-mismatch", path, "a list cannot be filtered by a value");
            }
            _ => {}
        }
    }

    fn options(&mut self, entry: &Entry, shape: &Shape, path: &Path) {
        for option in &entry.options {
            match (option, shape) {
                (KeyOption::Seq(..), Shape::Leaf(_) | Shape::Map(_)) => {
                    self.fail("type-mismatch", path, ":seq pages a sequence");
                }
                (KeyOption::NotFound(value), Shape::Leaf(kind)) if !kind.admits(value) => {
                    let reason = format!(":not-found must be {} here", kind.name());
                    self.fail("type-mismatch", path, reason);
                }
                _ => {}
            }
        }
    }

    fn arguments(&mut self, given: &[Value], shapes: &[ArgumentShape], path: &Path) {
        if given.len() != shapes.len() {
            let reason = format!("takes {} argument(s), given {}", shapes.len(), given.len());
            return self.problems.push(Problem::bad_argument(reason, path));
        }
        for (i, (value, shape)) in given.iter().zip(shapes).enumerate() {
            let at = join(path, i);
            match (shape, value) {
                (ArgumentShape::Plain(kind), value) if !kind.admits(value) => {
                    let reason = format!("must be {}, not {}", kind.name(), value.kind_name());
                    self.problems.push(Problem::bad_argument(reason, &at));
                }
                (ArgumentShape::Plain(_), _) | (ArgumentShape::Query, Value::Map(_)) => {}
                (ArgumentShape::Map(keys), Value::Map(map)) => {
                    self.argument_map(map.iter(), keys, &at);
                }
                (_, other) => {
                    let reason = format!("must be a map, not {}", other.kind_name());
                    self.problems.push(Problem::bad_argument(reason, &at));
                }
            }
        }
    }

    fn argument_map<'v>(
        &mut self,
        given: impl Iterator<Item = &'v (Value, Value)> + Clone,
        keys: &[(&'static str, Kind, bool)],
        path: &Path,
    ) {
        for (key, value) in given.clone() {
            let known = keys.iter().find(|(name, _, _)| *key == Value::keyword(name));
            let reason = match known {
                None => "unknown key of an argument".to_string(),
                Some((_, kind, _)) if !kind.admits(value) => format!("must be {}", kind.name()),
                Some(_) => continue,
            };
            self.problems.push(Problem::bad_argument(reason, &join(path, key)));
        }
        for (name, _, _) in keys.iter().filter(|(_, _, required)| *required) {
            if !given.clone().any(|(key, _)| *key == Value::keyword(name)) {
                let reason = format!(":{name} is required");
                self.problems.push(Problem::bad_argument(reason, path));
            }
        }
    }
}

fn calls(option: &KeyOption) -> bool {
    matches!(option, KeyOption::With(_) | KeyOption::Batch(_))
}
