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

/// The name under which the answer holds an entry: its key, or what `:as` says.
fn entry_name(key: &Value) -> &Value {
    let Some((plain, options)) = key.as_sequence().and_then(<[Value]>::split_first) else {
        return key;
    };
    let renamed = options.chunks(2).find_map(|pair| match pair {
        [Value::Keyword(name), other] if name.as_ref() == "as" => Some(other),
        _ => None,
    });
    renamed.unwrap_or(plain)
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

    /// A key with its options; arguments of a call have places of their own.
    fn key(&mut self, key: &Value, path: &Path) -> Value {
        let Some((plain, options)) = key.as_sequence().and_then(<[Value]>::split_first) else {
            return self.replace(key, path);
        };
        let mut items = vec![self.replace(plain, path)];
        for pair in options.chunks(2) {
            match pair {
                [Value::Keyword(name), argument] if matches!(name.as_ref(), "with" | "batch") => {
                    let levels = if name.as_ref() == "with" { 1 } else { 2 };
                    items.extend(pair.first().map(|option| self.replace(option, path)));
                    items.push(self.arguments(argument, &join(path, name.as_ref()), levels));
                }
                other => items.extend(other.iter().map(|item| self.replace(item, path))),
            }
        }
        match key {
            Value::List(_) => Value::List(items),
            _ => Value::Vector(items),
        }
    }

    /// Vectors whose items have numbers, one in another as often as `levels` says.
    fn arguments(&mut self, value: &Value, path: &Path, levels: usize) -> Value {
        match value {
            Value::Vector(items) if levels > 0 => {
                self.nodes = self.nodes.saturating_add(1);
                let item = |(n, item)| self.arguments(item, &join(path, n), levels - 1);
                Value::Vector(items.iter().enumerate().map(item).collect())
            }
            _ => self.replace(value, path),
        }
    }

    fn map(&mut self, map: &Map, path: &Path) -> Value {
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map.iter() {
            let here = join(path, entry_name(key));
            entries.push((self.key(key, &here), self.replace(value, &here)));
        }
        Map::from_entries(entries).map(Value::Map).unwrap_or_else(|_| {
            let reason = "parameters make two keys of a map equal";
            self.problems.push(Problem::bad_pattern(reason, path));
            Value::Nil
        })
    }
}
