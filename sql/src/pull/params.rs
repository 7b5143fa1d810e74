//! Parameters: `$name` anywhere in a pattern, keys and arguments included, is replaced from `:params` before
//! the pattern is decoded.

use std::collections::BTreeMap;

use super::problem::{Path, Problem, join};
use super::value::{Map, Value};

/// Values in a pattern after its parameters are in place.
pub const PATTERN_NODES_MAX: usize = 200_000;

/// The name of a parameter, without `$`, if a symbol's or key's text is one.
pub fn parameter_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    (begins && chars.all(|c| c.is_alphanumeric() || "_-./".contains(c))).then_some(name)
}

/// The form with every parameter replaced.
pub fn substitute(form: &Value, params: &Map) -> Result<Value, Vec<Problem>> {
    let sizes = params
        .iter()
        .filter_map(|(key, value)| Some((key.as_name()?, (value, value.node_count()))))
        .collect();
    let mut substitution = Substitution { params: sizes, nodes: 0, problems: Vec::new() };
    let form = substitution.replace(form, &Vec::new());
    if substitution.nodes > PATTERN_NODES_MAX {
        let reason = format!("pattern holds more than {PATTERN_NODES_MAX} values");
        return Err(vec![Problem::new("too-large", reason, &[])]);
    }
    if substitution.problems.is_empty() { Ok(form) } else { Err(substitution.problems) }
}

struct Substitution<'a> {
    params: BTreeMap<&'a str, (&'a Value, usize)>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl Substitution<'_> {
    fn replace(&mut self, form: &Value, path: &Path) -> Value {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > PATTERN_NODES_MAX {
            return Value::Nil;
        }
        match form {
            Value::Symbol(text) => match parameter_name(text) {
                Some(name) => self.parameter(name, path),
                None => form.clone(),
            },
            Value::List(items) => Value::List(self.items(items, path)),
            Value::Vector(items) => Value::Vector(self.items(items, path)),
            Value::Set(items) => {
                let items = self.items(items, path);
                Value::set(items).unwrap_or_else(|| {
                    let reason = "parameters make two elements of a set equal";
                    self.problems.push(Problem::bad_pattern(reason, path));
                    Value::Nil
                })
            }
            Value::Map(map) => self.map(map, path),
            _ => form.clone(),
        }
    }

    fn parameter(&mut self, name: &str, path: &Path) -> Value {
        match self.params.get(name) {
            Some((value, size)) => {
                self.nodes = self.nodes.saturating_add(*size);
                if self.nodes > PATTERN_NODES_MAX { Value::Nil } else { (*value).clone() }
            }
            None => {
                let reason = format!("parameter ${name} is not in :params");
                self.problems.push(Problem::new("missing-parameter", reason, path));
                Value::Nil
            }
        }
    }

    fn items(&mut self, items: &[Value], path: &Path) -> Vec<Value> {
        items.iter().map(|item| self.replace(item, path)).collect()
    }

    fn map(&mut self, map: &Map, path: &Path) -> Value {
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map.iter() {
            let plain = key.as_sequence().and_then(<[Value]>::first).unwrap_or(key);
            let here = join(path, plain);
            entries.push((self.replace(key, &here), self.replace(value, &here)));
        }
        Map::from_entries(entries).map(Value::Map).unwrap_or_else(|_| {
            let reason = "parameters make two keys of a map equal";
            self.problems.push(Problem::bad_pattern(reason, path));
            Value::Nil
        })
    }
}
