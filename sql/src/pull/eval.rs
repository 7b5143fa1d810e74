//! Runs a pattern over a value. Literals are tested before anything binds, bindings of a map that does not
//! match are dropped, and conflicts are found after the whole tree is done: an answer never depends on the
//! order of keys. What goes wrong becomes a [`Problem`] and costs only its own entry.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::pattern::{
    Comparison, Condition, Entry, KeyOption, MapPattern, Pattern, Predicate, RowsPattern, Target,
};
use super::problem::{Path, Problem};
use super::value::{Map, Value};

/// Where endpoints come from.
pub trait Host {
    /// Whether a value is an endpoint, which only a call gives a value.
    fn is_callable(&self, value: &Value) -> bool;
    /// Calls the endpoint that stands at `path`; `call` counts the calls of a `:batch`.
    fn call(
        &self,
        endpoint: &Value,
        arguments: &[Value],
        path: &[Value],
        call: usize,
    ) -> Result<Value, CallError>;
    /// Whether a value passes a literal.
    fn matches(&self, value: &Value, literal: &Value) -> bool {
        value == literal
    }
}

/// Why a call gave nothing. The reason holds no data.
#[derive(Debug, Clone)]
pub struct CallError {
    /// Code of the problem.
    pub code: &'static str,
    /// What went wrong.
    pub reason: String,
}

/// A host without endpoints: a plain document.
#[derive(Debug, Clone, Copy, Default)]
pub struct Document;

impl Host for Document {
    fn is_callable(&self, _: &Value) -> bool {
        false
    }
    fn call(&self, _: &Value, _: &[Value], _: &[Value], _: usize) -> Result<Value, CallError> {
        Err(CallError { code: "not-callable", reason: "a document has no endpoints".into() })
    }
}

/// What a pattern gives.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The tree; `None` if a literal at the root did not match.
    pub tree: Option<Value>,
    /// Variables, without `?`.
    pub vars: Vec<(Arc<str>, Value)>,
    /// What went wrong.
    pub problems: Vec<Problem>,
}

/// Runs `pattern` over `data`.
pub fn evaluate(pattern: &Pattern, data: &Value, host: &dyn Host) -> Answer {
    let mut run = Run { host, path: Vec::new(), problems: Vec::new() };
    let mut bindings = Vec::new();
    let got = run.pattern(pattern, data, false, &mut bindings);
    let empty = || Value::Map(Map::new());
    let tree = match got {
        Got::Value(value) => Some(value),
        Got::Missing if matches!(pattern, Pattern::Rows(_)) => Some(Value::Nil),
        Got::Missing | Got::Gone => Some(empty()),
        Got::NoMatch => return Answer { problems: run.problems, ..Answer::default() },
    };
    let mut answer = Answer { tree, vars: Vec::new(), problems: run.problems };
    settle(&mut answer, bindings);
    answer
}

struct Binding {
    name: Arc<str>,
    path: Path,
    value: Value,
}

/// Turns bindings into variables. A variable with two values is a conflict on every path that gave one. What
/// stands at the path of a problem goes, from the tree and from every variable that holds it.
fn settle(answer: &mut Answer, mut bindings: Vec<Binding>) {
    let mut paths: Vec<Path> = answer.problems.iter().map(|p| p.path.clone()).collect();
    bindings.retain(|b| !paths.iter().any(|path| b.path.starts_with(path)));
    let mut vars: Vec<(Arc<str>, usize, bool)> = Vec::new();
    for (i, binding) in bindings.iter().enumerate() {
        match vars.iter_mut().find(|(name, _, _)| *name == binding.name) {
            Some((_, first, conflict)) => {
                *conflict |= bindings.get(*first).is_some_and(|b| b.value != binding.value);
            }
            None => vars.push((Arc::clone(&binding.name), i, false)),
        }
    }
    let in_conflict = |name: &str| vars.iter().any(|(n, _, conflict)| &**n == name && *conflict);
    for binding in bindings.iter().filter(|b| in_conflict(&b.name)) {
        if !paths.contains(&binding.path) {
            let reason = format!("variable ?{} has two different values", binding.name);
            answer.problems.push(Problem::new("binding-conflict", reason, &binding.path));
            paths.push(binding.path.clone());
        }
    }
    for path in &paths {
        if answer.tree.as_mut().is_some_and(|tree| prune(tree, path)) {
            answer.tree = Some(Value::Map(Map::new()));
        }
    }
    for (name, first, conflict) in vars {
        let Some(first) = bindings.get_mut(first) else { continue };
        let lost = paths.iter().any(|path| first.path.starts_with(path));
        if conflict || lost {
            continue;
        }
        let mut value = std::mem::replace(&mut first.value, Value::Nil);
        for below in paths.iter().filter_map(|path| path.strip_prefix(first.path.as_slice())) {
            prune(&mut value, below);
        }
        answer.vars.push((name, value));
    }
}

/// Removes the entry at `path`, looking through rows, and what is left with nothing by that. True if the
/// value itself is to go.
fn prune(value: &mut Value, path: &[Value]) -> bool {
    let Some((key, below)) = path.split_first() else { return true };
    match value {
        Value::Map(map) => {
            map.retain_mut(|k, v| k != key || !prune(v, below));
            map.is_empty()
        }
        Value::Vector(rows) => {
            rows.retain_mut(|row| !prune(row, path));
            rows.is_empty()
        }
        _ => false,
    }
}

enum Got {
    Value(Value),
    /// Nil or absent.
    Missing,
    /// Removed by an error.
    Gone,
    /// A literal did not match.
    NoMatch,
}

struct Run<'a> {
    host: &'a dyn Host,
    path: Path,
    problems: Vec<Problem>,
}

impl Run<'_> {
    /// Every row of a list may fail in the same way; the path names the list, so one entry says it.
    fn fail(&mut self, code: &'static str, reason: impl Into<String>) {
        let problem = Problem::new(code, reason, &self.path);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn pattern(
        &mut self,
        pattern: &Pattern,
        data: &Value,
        dense: bool,
        bindings: &mut Vec<Binding>,
    ) -> Got {
        match pattern {
            Pattern::Map(map) => self.map(map, data, dense, bindings),
            Pattern::Rows(rows) => self.rows(rows, data, bindings),
        }
    }

    fn map(
        &mut self,
        pattern: &MapPattern,
        data: &Value,
        dense: bool,
        bindings: &mut Vec<Binding>,
    ) -> Got {
        let nothing = Map::new();
        let map = match data {
            Value::Map(map) => map,
            Value::Nil => &nothing,
            other => {
                self.fail("type-mismatch", format!("expected a map, found {}", other.kind_name()));
                return Got::Gone;
            }
        };
        for entry in &pattern.entries {
            let Target::Equal(literal) = &entry.target else { continue };
            self.path.push(entry.name().clone());
            let value = self.value(entry, map);
            self.path.pop();
            if !value.is_some_and(|value| self.host.matches(&value, literal)) {
                return Got::NoMatch;
            }
        }
        let mut found = Map::with_capacity(pattern.entries.len());
        let mut damaged = false;
        for entry in &pattern.entries {
            self.path.push(entry.name().clone());
            damaged |= !self.entry(entry, map, dense, &mut found, bindings);
            self.path.pop();
        }
        match found.is_empty() {
            true if damaged => Got::Gone,
            true if data.is_nil() => Got::Missing,
            _ => Got::Value(Value::Map(found)),
        }
    }

    /// Adds one entry to the answer; false if an error removed it.
    fn entry(
        &mut self,
        entry: &Entry,
        map: &Map,
        dense: bool,
        found: &mut Map,
        bindings: &mut Vec<Binding>,
    ) -> bool {
        if matches!(entry.target, Target::Equal(_)) {
            return true;
        }
        let Some(value) = self.value(entry, map) else { return false };
        if !entry.is_call() && self.host.is_callable(&value) {
            self.fail("not-called", "an endpoint gives its value only when called with :with");
            return false;
        }
        let got = match &entry.target {
            Target::Into(pattern) => self.pattern(pattern, &value, dense, bindings),
            Target::Bind(name) => {
                self.bind(name, value.clone().into_owned(), bindings);
                Got::Value(value.into_owned())
            }
            Target::Keep | Target::Equal(_) => Got::Value(value.into_owned()),
        };
        let value = match got {
            Got::Value(value) => value,
            Got::Missing | Got::NoMatch => Value::Nil,
            Got::Gone => return false,
        };
        if dense || !value.is_nil() {
            found.insert(entry.name().clone(), value);
        }
        true
    }

    fn bind(&self, name: &Arc<str>, value: Value, bindings: &mut Vec<Binding>) {
        bindings.push(Binding { name: Arc::clone(name), path: self.path.clone(), value });
    }

    /// The value of an entry after its options; `None` after an error.
    fn value<'v>(&mut self, entry: &Entry, map: &'v Map) -> Option<Cow<'v, Value>> {
        let mut value = match map.get(&entry.key) {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(Value::Nil),
        };
        for option in &entry.options {
            match option {
                KeyOption::With(arguments) => value = Cow::Owned(self.call(&value, arguments, 0)?),
                KeyOption::Batch(calls) => {
                    let results: Option<Vec<Value>> = calls
                        .iter()
                        .enumerate()
                        .map(|(i, arguments)| self.call(&value, arguments, i))
                        .collect();
                    value = Cow::Owned(Value::Vector(results?));
                }
                KeyOption::Seq(offset, count) => {
                    let items: &[Value] = match &*value {
                        Value::Nil => &[],
                        Value::List(items) | Value::Vector(items) => items,
                        other => {
                            let reason =
                                format!(":seq pages a sequence, not {}", other.kind_name());
                            self.fail("type-mismatch", reason);
                            return None;
                        }
                    };
                    let page = items.iter().skip(*offset).take(count.unwrap_or(usize::MAX));
                    value = Cow::Owned(Value::Vector(page.cloned().collect()));
                }
                KeyOption::NotFound(other) if value.is_nil() => value = Cow::Owned(other.clone()),
                KeyOption::When(condition) if !holds(condition, &value) => {
                    value = Cow::Owned(Value::Nil);
                }
                KeyOption::NotFound(_)
                | KeyOption::When(_)
                | KeyOption::As(_)
                | KeyOption::Watch(_) => {}
            }
        }
        Some(value)
    }

    fn call(&mut self, endpoint: &Value, arguments: &[Value], call: usize) -> Option<Value> {
        if !self.host.is_callable(endpoint) {
            self.fail("not-callable", format!("{} cannot be called", endpoint.kind_name()));
            return None;
        }
        match self.host.call(endpoint, arguments, &self.path, call) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(error.code, error.reason);
                None
            }
        }
    }

    fn rows(&mut self, pattern: &RowsPattern, data: &Value, bindings: &mut Vec<Binding>) -> Got {
        let mut rows: Option<Vec<(Value, Vec<Binding>)>> = None;
        let mut damaged = false;
        match data {
            Value::List(items) | Value::Vector(items) => {
                let mut found = Vec::with_capacity(items.len());
                for item in items {
                    let mut own = Vec::new();
                    match self.pattern(&pattern.element, item, true, &mut own) {
                        Got::Value(value) => found.push((value, own)),
                        Got::Missing => found.push((Value::Nil, own)),
                        Got::Gone => damaged = true,
                        Got::NoMatch => {}
                    }
                }
                rows = Some(found);
            }
            Value::Nil => {}
            other => {
                let reason = format!("expected a list or vector, found {}", other.kind_name());
                self.fail("type-mismatch", reason);
                return Got::Gone;
            }
        }
        if damaged && rows.as_ref().is_some_and(Vec::is_empty) {
            return Got::Gone;
        }
        let value = self.finish_rows(pattern, rows, bindings);
        if let Some(name) = &pattern.name {
            self.bind(name, value.clone(), bindings);
        }
        if value.is_nil() { Got::Missing } else { Got::Value(value) }
    }

    /// Applies the options of a rows pattern; only rows that stay may bind.
    fn finish_rows(
        &self,
        pattern: &RowsPattern,
        mut rows: Option<Vec<(Value, Vec<Binding>)>>,
        bindings: &mut Vec<Binding>,
    ) -> Value {
        let mut replaced = None;
        for option in &pattern.options {
            match option {
                KeyOption::Seq(offset, count) => {
                    let all = rows.take().unwrap_or_default().into_iter().skip(*offset);
                    rows = Some(all.take(count.unwrap_or(usize::MAX)).collect());
                }
                KeyOption::NotFound(other) if rows.is_none() => replaced = Some(other.clone()),
                KeyOption::When(condition) => {
                    let shown = rows.as_ref().map_or(Value::Nil, |rows| {
                        Value::Vector(rows.iter().map(|(row, _)| row.clone()).collect())
                    });
                    if !holds(condition, &shown) {
                        rows = None;
                    }
                }
                _ => {}
            }
        }
        match (rows, replaced) {
            (Some(rows), _) => {
                let mut values = Vec::with_capacity(rows.len());
                for (row, own) in rows {
                    values.push(row);
                    bindings.extend(own);
                }
                Value::Vector(values)
            }
            (None, Some(other)) => other,
            (None, None) => Value::Nil,
        }
    }
}

/// Whether a condition of `:when` holds; a value of another kind fails it.
fn holds(condition: &Condition, value: &Value) -> bool {
    match condition {
        Condition::Compare(comparison, other) => compare(*comparison, value, other),
        Condition::Is(predicate) => is(*predicate, value),
    }
}

fn compare(comparison: Comparison, value: &Value, other: &Value) -> bool {
    let order = value.compare_numbers(other).or_else(|| match (value, other) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Inst { micros: a, .. }, Value::Inst { micros: b, .. }) => Some(a.cmp(b)),
        _ => None,
    });
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal) || value == other,
        Comparison::NotEqual => order != Some(Ordering::Equal) && value != other,
        Comparison::Greater => order.is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        Comparison::Less => order.is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
    }
}

fn is(predicate: Predicate, value: &Value) -> bool {
    let against_zero = || value.compare_numbers(&Value::Int(0));
    let odd = match value {
        Value::Int(n) => Some(n % 2 != 0),
        Value::BigInt(text) => text.bytes().last().map(|digit| digit % 2 != 0),
        _ => None,
    };
    match predicate {
        Predicate::Nil => value.is_nil(),
        Predicate::Some => !value.is_nil(),
        Predicate::True => *value == Value::Bool(true),
        Predicate::False => *value == Value::Bool(false),
        Predicate::Zero => against_zero() == Some(Ordering::Equal),
        Predicate::Pos => against_zero() == Some(Ordering::Greater),
        Predicate::Neg => against_zero() == Some(Ordering::Less),
        Predicate::Even => odd == Some(false),
        Predicate::Odd => odd == Some(true),
        Predicate::String => matches!(value, Value::String(_)),
        Predicate::Number => against_zero().is_some() || matches!(value, Value::Float(_)),
        Predicate::Boolean => matches!(value, Value::Bool(_)),
        Predicate::Empty => match value {
            Value::Nil => true,
            Value::String(text) => text.is_empty(),
            Value::List(items) | Value::Vector(items) | Value::Set(items) => items.is_empty(),
            Value::Map(map) => map.is_empty(),
            _ => false,
        },
    }
}
