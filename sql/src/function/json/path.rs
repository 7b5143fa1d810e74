//! Paths of SQL/JSON in lax mode: `$.a[*] ? (@.b > 1)`, as `jsonb_path_query` and its like take them. Arithmetic, variables,
//! times and strict mode are not there.

mod read;

use std::cmp::Ordering;

use regex::Regex;

use super::value::Json;
use crate::error::{SqlError, SqlResult, sqlstate};

/// A path, or a condition in place of one.
#[derive(Debug)]
enum Query {
    Path(Operand),
    Condition(Condition),
}

#[derive(Debug)]
enum Operand {
    Literal(Json<'static>),
    Path {
        /// Whether it begins with `@`.
        from_current: bool,
        steps: Vec<Step>,
    },
}

#[derive(Debug)]
enum Step {
    Key(String),
    AnyKey,
    /// `.**`
    Descend,
    /// `[*]`
    Elements,
    /// `[1, 3 to last]`
    At(Vec<(Index, Index)>),
    Filter(Condition),
    Method(Method),
}

/// An index, from the start or from the last element.
#[derive(Debug, Clone, Copy)]
enum Index {
    First(i64),
    Last(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Size,
    Type,
}

#[derive(Debug)]
enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    IsUnknown(Box<Condition>),
    Exists(Operand),
    Compare(Operand, &'static str, Operand),
    StartsWith(Operand, String),
    Like(Operand, Regex),
}

/// What a path finds in a jsonb.
pub(super) fn found<'a>(json: &'a str, path: &str) -> SqlResult<Vec<Json<'a>>> {
    let query = read::query(path)?;
    let root = Json::parse(json)?;
    Ok(match query {
        Query::Path(operand) => values(&operand, &root, &root),
        Query::Condition(condition) => {
            vec![holds(&condition, &root, &root).map_or(Json::Null, Json::Bool)]
        }
    })
}

/// What a condition says of a jsonb; none = unknown.
pub(super) fn matched(json: &str, path: &str) -> SqlResult<Option<bool>> {
    match found(json, path)?.as_slice() {
        [Json::Bool(value)] => Ok(Some(*value)),
        [Json::Null] => Ok(None),
        _ => {
            let message = "single boolean result is expected";
            Err(SqlError::new(sqlstate::INVALID_PARAMETER, message))
        }
    }
}

fn values<'a>(operand: &Operand, root: &Json<'a>, current: &Json<'a>) -> Vec<Json<'a>> {
    match operand {
        Operand::Literal(value) => vec![value.clone()],
        Operand::Path { from_current, steps } => {
            let start = if *from_current { current } else { root };
            steps.iter().fold(vec![start.clone()], |found, step| {
                found.into_iter().flat_map(|value| after(step, value, root)).collect()
            })
        }
    }
}

/// The elements of an array; another value by itself.
fn unwrapped(value: Json<'_>) -> Vec<Json<'_>> {
    match value {
        Json::Array(items) => items,
        other => vec![other],
    }
}

fn after<'a>(step: &Step, value: Json<'a>, root: &Json<'a>) -> Vec<Json<'a>> {
    let members = |value| match value {
        Json::Object(members) => members,
        _ => Vec::new(),
    };
    match step {
        Step::Key(key) => {
            let inner = unwrapped(value).into_iter().flat_map(members);
            inner.filter(|(name, _)| name == key).map(|(_, value)| value).collect()
        }
        Step::AnyKey => {
            unwrapped(value).into_iter().flat_map(members).map(|(_, value)| value).collect()
        }
        Step::Descend => descended(value),
        Step::Elements => unwrapped(value),
        Step::At(ranges) => {
            let items = unwrapped(value);
            let place = |index: Index| match index {
                Index::First(n) => n,
                Index::Last(n) => i64::try_from(items.len()).unwrap_or(i64::MAX) - 1 - n,
            };
            let places = ranges.iter().flat_map(|(from, to)| {
                let last = place(*to).min(place(Index::Last(0)));
                place(*from).max(0)..=last
            });
            places.filter_map(|at| items.get(usize::try_from(at).ok()?).cloned()).collect()
        }
        Step::Filter(condition) => {
            let items = unwrapped(value).into_iter();
            items.filter(|item| holds(condition, root, item) == Some(true)).collect()
        }
        Step::Method(Method::Size) => {
            let size = if let Json::Array(items) = &value { items.len() } else { 1 };
            vec![Json::Number(size.to_string().into())]
        }
        Step::Method(Method::Type) => {
            let name = match value {
                Json::Null => "null",
                Json::Bool(_) => "boolean",
                Json::Number(_) => "number",
                Json::String(_) => "string",
                Json::Array(_) => "array",
                Json::Object(_) => "object",
            };
            vec![Json::String(name.into())]
        }
    }
}

/// A value and all that is in it.
fn descended(value: Json<'_>) -> Vec<Json<'_>> {
    let inner: Vec<Json<'_>> = match &value {
        Json::Array(items) => items.iter().cloned().flat_map(descended).collect(),
        Json::Object(members) => {
            members.iter().flat_map(|(_, value)| descended(value.clone())).collect()
        }
        _ => Vec::new(),
    };
    std::iter::once(value).chain(inner).collect()
}

/// Whether a condition holds; none = unknown.
fn holds(condition: &Condition, root: &Json<'_>, current: &Json<'_>) -> Option<bool> {
    let scalars = |operand: &Operand| {
        values(operand, root, current).into_iter().flat_map(unwrapped).collect::<Vec<_>>()
    };
    match condition {
        Condition::And(a, b) => match (holds(a, root, current), holds(b, root, current)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (a, b) => Some(a? && b?),
        },
        Condition::Or(a, b) => match (holds(a, root, current), holds(b, root, current)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (a, b) => Some(a? || b?),
        },
        Condition::Not(inner) => holds(inner, root, current).map(|value| !value),
        Condition::IsUnknown(inner) => Some(holds(inner, root, current).is_none()),
        Condition::Exists(operand) => Some(!values(operand, root, current).is_empty()),
        Condition::Compare(a, op, b) => {
            let (left, right) = (scalars(a), scalars(b));
            let pairs = left.iter().flat_map(|a| right.iter().map(move |b| compared(a, op, b)));
            any(pairs)
        }
        Condition::StartsWith(operand, start) => any(scalars(operand).iter().map(|v| match v {
            Json::String(text) => Some(text.starts_with(start.as_str())),
            _ => None,
        })),
        Condition::Like(operand, regex) => any(scalars(operand).iter().map(|v| match v {
            Json::String(text) => Some(regex.is_match(text)),
            _ => None,
        })),
    }
}

/// In lax mode, what is found before anything unknown counts.
fn any(mut tests: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    tests.find(|test| *test != Some(false)).unwrap_or(Some(false))
}

fn compared(a: &Json<'_>, op: &str, b: &Json<'_>) -> Option<bool> {
    let order = match (a, b) {
        (Json::Null, Json::Null) => Ordering::Equal,
        // Null is unequal to all else, and in no order with it.
        (Json::Null, _) | (_, Json::Null) => return Some(op == "!="),
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::String(a), Json::String(b)) => a.cmp(b),
        (Json::Number(_), Json::Number(_)) => a.sort_key().cmp(&b.sort_key()),
        _ => return None,
    };
    Some(match op {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::value::Style;
    use super::*;

    fn all(json: &str, path: &str) -> String {
        let found = found(json, path).unwrap();
        found.iter().map(|json| json.text(Style::Jsonb)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_are_lax() {
        let doc = r#"{"a":[1,2,3],"b":[{"c":"x1"},{"c":"y"}],"n":null,"k k":{"d":{"c":0}}}"#;
        for (path, expected) in [
            ("$.a[*] ? (@ > 1)", "2 3"),
            ("$.a ? (@ >= 2 && @ != 3)", "2"),
            ("$.a[0, 2]", "1 3"),
            ("$.a[1 to last]", "2 3"),
            ("lax $.a[last - 1]", "2"),
            ("$.b.c", "\"x1\" \"y\""),
            ("$.b[*] ? (@.c starts with \"x\").c", "\"x1\""),
            ("$.b[*].c ? (@ like_regex \"^Y$\" flag \"i\")", "\"y\""),
            ("$.b ? (exists(@.c ? (@ == \"y\")))", "{\"c\": \"y\"}"),
            ("$.\"k k\".d.*", "0"),
            ("$.**.d", "{\"c\": 0}"),
            ("$.a.size()", "3"),
            ("$.n.type()", "\"null\""),
            ("$.none", ""),
            ("$.a[7]", ""),
            ("$.a[*] > 2", "true"),
            ("$.a[*] ? ((@ > \"x\") is unknown)", "1 2 3"),
            ("$ ? (!(@.n == null) || $.a[0] == 1).n", "null"),
        ] {
            assert_eq!(all(doc, path), expected, "{path}");
        }
        assert_eq!(matched(doc, "$.n > 1").unwrap(), Some(false));
        for wrong in ["", "a", "$.", "$[", "$ ? (@", "$.a ? (1)", "$ $"] {
            assert!(found(doc, wrong).is_err(), "{wrong}");
        }
    }
}
