//! The JSON spelling of a pattern, brought into the EDN form: `"?"`, `"?x"` and `"$p"` become symbols, the
//! option form (`$with`, `$get` …) a key with options. [`super::pattern`] knows one form only.

use std::sync::Arc;

use super::params::parameter_name;
use super::problem::{Path, Problem, join};
use super::text::is_symbol_text;
use super::value::{Map, Value};

const OPTIONS: [&str; 7] = ["$with", "$batch", "$seq", "$not-found", "$when", "$as", "$watch"];
const GET: &str = "$get";
const EQUAL: &str = "$eq";

/// The EDN form of a JSON pattern.
pub fn pattern_form(json: &Value) -> Result<Value, Vec<Problem>> {
    let mut speller = Speller { problems: Vec::new() };
    let form = speller.pattern(json, &Vec::new());
    if speller.problems.is_empty() { Ok(form) } else { Err(speller.problems) }
}

/// The one entry of a map.
fn single<'a>(map: &'a Map, name: &str) -> Option<&'a Value> {
    map.get_keyword(name).filter(|_| map.len() == 1)
}

fn is_option_form(value: &Value) -> bool {
    let options = |(key, _): &(Value, Value)| {
        key.as_name().is_some_and(|name| name == GET || OPTIONS.contains(&name))
    };
    value.as_map().is_some_and(|map| map.iter().any(options))
}

/// An argument: parameters become symbols, all other text stays text.
fn argument(json: &Value) -> Value {
    match json {
        Value::String(text) if parameter_name(text).is_some() => Value::Symbol(Arc::clone(text)),
        Value::Vector(items) => Value::Vector(items.iter().map(argument).collect()),
        Value::Map(map) => match single(map, EQUAL) {
            Some(literal) => literal.clone(),
            None => {
                let entries = map.iter().map(|(k, v)| (key(k), argument(v))).collect();
                // Keys stay as distinct as they were.
                Map::from_entries(entries).map_or(Value::Nil, Value::Map)
            }
        },
        _ => json.clone(),
    }
}

fn key(key: &Value) -> Value {
    match key {
        Value::Keyword(text) if parameter_name(text).is_some() => Value::Symbol(Arc::clone(text)),
        _ => key.clone(),
    }
}

struct Speller {
    problems: Vec<Problem>,
}

impl Speller {
    fn fail(&mut self, path: &[Value], reason: &str) -> Value {
        self.problems.push(Problem::bad_pattern(reason, path));
        Value::Nil
    }

    fn pattern(&mut self, json: &Value, path: &Path) -> Value {
        match json {
            Value::Map(_) if is_option_form(json) => {
                self.fail(path, "options such as $with stand below the key they belong to")
            }
            Value::Map(map) => self.map(map, path),
            Value::Vector(items) => self.rows(items, path),
            _ => json.clone(),
        }
    }

    fn map(&mut self, map: &Map, path: &Path) -> Value {
        let mut entries = Vec::with_capacity(map.len());
        for (name, value) in map.iter() {
            let key = key(name);
            let here = join(path, &key);
            match value {
                Value::Vector(items) if !items.is_empty() && items.iter().all(is_option_form) => {
                    for item in items {
                        entries.push(self.options(&key, item, &here));
                    }
                }
                _ if is_option_form(value) => entries.push(self.options(&key, value, &here)),
                _ => entries.push((key, self.target(value, &here))),
            }
        }
        Map::from_entries(entries).map(Value::Map).unwrap_or_else(|twice| {
            let plain = twice.as_sequence().and_then(<[Value]>::first).unwrap_or(&twice);
            let reason = "the answer would hold this key twice; rename one with $as";
            self.problems.push(Problem::new("duplicate-endpoint", reason, &join(path, plain)));
            Value::Nil
        })
    }

    fn options(&mut self, key: &Value, json: &Value, path: &Path) -> (Value, Value) {
        let mut form = vec![key.clone()];
        let mut target = None;
        for (name, value) in json.as_map().into_iter().flat_map(Map::iter) {
            match name.as_name() {
                Some(GET) => target = Some(self.target(value, path)),
                Some(name) if OPTIONS.contains(&name) => {
                    form.push(Value::keyword(name.trim_start_matches('$')));
                    form.push(argument(value));
                }
                _ => {
                    self.fail(path, "beside $ options stands a key that is none");
                }
            }
        }
        let target =
            target.unwrap_or_else(|| self.fail(path, "options need $get, the sub-pattern"));
        (Value::List(form), target)
    }

    fn target(&mut self, json: &Value, path: &Path) -> Value {
        match json {
            Value::String(text) => {
                let mark = text.starts_with('?') && is_symbol_text(text);
                if mark || parameter_name(text).is_some() {
                    Value::Symbol(Arc::clone(text))
                } else {
                    json.clone()
                }
            }
            Value::Map(map) => match single(map, EQUAL) {
                Some(Value::Map(_) | Value::Vector(_)) => {
                    self.fail(path, "$eq takes a plain value")
                }
                Some(literal) => literal.clone(),
                None => self.pattern(json, path),
            },
            _ => self.pattern(json, path),
        }
    }

    fn rows(&mut self, items: &[Value], path: &Path) -> Value {
        match items {
            [element] => Value::Vector(vec![self.target(element, path)]),
            [element, name] => {
                Value::Vector(vec![self.target(element, path), self.target(name, path)])
            }
            _ => self.fail(path, "a rows pattern is an array of one or two elements"),
        }
    }
}
