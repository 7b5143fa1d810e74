//! Parameters by name, for statements that a page or a script keeps: `$from`, `$tz`, and `$filters`, which stands for a
//! condition. Values become parameters of the statement, and never part of its text.

use std::collections::BTreeMap;

use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::Value as Json;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::statement::Tokens;

/// The parameter that stands for a condition.
pub const FILTERS: &str = "filters";
/// Nesting of a condition.
const DEPTH_MAX: usize = 20;
/// Values of a condition.
const VALUES_MAX: usize = 10_000;

/// A statement whose parameters have numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Its text.
    pub sql: String,
    /// Values of `$1`, `$2` …
    pub params: Vec<ScalarValue>,
}

/// Puts numbers in place of names. `filters` is a condition as in pull patterns, a map or a tree; without one every row
/// passes. Values that the statement does not name are of no account: a page gives the same ones to all.
pub fn bind(
    sql: &str,
    values: &BTreeMap<String, ScalarValue>,
    filters: Option<&Json>,
) -> SqlResult<Bound> {
    let tokens = Tokens::of(sql)?;
    let mut bound = Bound { sql: String::with_capacity(sql.len()), params: Vec::new() };
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let lines: Vec<usize> = sql
        .split('\n')
        .scan(0, |before, line| {
            let begins = *before;
            *before += line.chars().count() + 1;
            Some(begins)
        })
        .collect();
    // Place of a token, the first character being 1.
    let place_of = |line: u64, column: u64| {
        let line = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        let begins = line.and_then(|line| lines.get(line)).copied().unwrap_or(0);
        begins + usize::try_from(column).unwrap_or(1)
    };
    let mut chars = sql.chars();
    let mut taken = 0;
    for token in tokens.all() {
        let Token::Placeholder(written) = &token.token else { continue };
        let name = written.trim_start_matches('$');
        let place = place_of(token.span.start.line, token.span.start.column);
        let before = place.saturating_sub(1).saturating_sub(taken);
        bound.sql.extend(chars.by_ref().take(before));
        taken += before + written.chars().count();
        let _skipped = chars.by_ref().take(written.chars().count()).count();
        if name == FILTERS {
            let mut condition = Condition { params: &mut bound.params, values: 0 };
            let text = match filters {
                Some(filters) => condition.any_form(filters, 1).map_err(|e| e.at(place))?,
                None => "true".to_owned(),
            };
            bound.sql.push_str(&format!("({text})"));
            continue;
        }
        let Some(value) = values.get(name) else {
            let message = format!("there is no parameter {written}");
            let names: Vec<_> = values.keys().map(|name| format!("${name}")).collect();
            let e = SqlError::new(sqlstate::UNDEFINED_PARAMETER, message).at(place);
            return Err(match names.as_slice() {
                [] => e.with_hint("params gives values by name: {\"from\": …}"),
                names => e.with_hint(format!("there is {}", names.join(", "))),
            });
        };
        let (params, key) = (&mut bound.params, values.get_key_value(name).map_or("", |(k, _)| k));
        let number = *numbers.entry(key).or_insert_with(|| {
            params.push(value.clone());
            params.len()
        });
        bound.sql.push_str(&format!("${number}"));
    }
    bound.sql.extend(chars);
    Ok(bound)
}

/// A condition as text, its values as parameters. Nil is a value here: what is not equal to "eu" includes nil.
struct Condition<'a> {
    params: &'a mut Vec<ScalarValue>,
    values: usize,
}

fn wrong(message: impl Into<String>) -> SqlError {
    let hint = "for example {\"country\": [\"SG\", \"MY\"]} or [\"and\", [\">\", \"level\", 3], [\"null?\", \"game\"]]";
    SqlError::new(sqlstate::INVALID_PARAMETER, format!("filters: {}", message.into()))
        .with_hint(hint)
}

/// A column's name as it is.
fn column(name: &str) -> SqlResult<String> {
    match name.contains('\0') {
        true => Err(wrong("a name holds no null character")),
        false => Ok(format!("\"{}\"", name.replace('"', "\"\""))),
    }
}

impl Condition<'_> {
    fn any_form(&mut self, form: &Json, depth: usize) -> SqlResult<String> {
        match form {
            Json::Object(entries) => {
                let mut parts = Vec::with_capacity(entries.len());
                for (name, value) in entries {
                    let column = column(name)?;
                    parts.push(match value {
                        Json::Null => format!("{column} IS NULL"),
                        Json::Array(values) => self.one_of(&column, values)?,
                        value => format!("{column} = {}", self.value(value)?),
                    });
                }
                Ok(joined(&parts, " AND ", "true"))
            }
            Json::Array(parts) => self.tree(parts, depth),
            other => Err(wrong(format!("a condition is a map or a list, not {other}"))),
        }
    }

    fn tree(&mut self, parts: &[Json], depth: usize) -> SqlResult<String> {
        if depth > DEPTH_MAX {
            return Err(wrong(format!("nested deeper than {DEPTH_MAX}")));
        }
        let (Some(operator), rest) =
            (parts.first().and_then(Json::as_str), parts.get(1..).unwrap_or_default())
        else {
            return Err(wrong("a list begins with an operator"));
        };
        match (operator, rest) {
            ("and" | "or", rest) => {
                let each = rest.iter().map(|part| self.any_form(part, depth + 1));
                let each = each.collect::<SqlResult<Vec<_>>>()?;
                Ok(match operator {
                    "and" => joined(&each, " AND ", "true"),
                    _ => joined(&each, " OR ", "false"),
                })
            }
            ("not", [inner]) => Ok(format!("({}) IS NOT TRUE", self.any_form(inner, depth + 1)?)),
            (operator, [Json::String(name), arguments @ ..]) => {
                self.leaf(operator, &column(name)?, arguments)
            }
            _ => Err(wrong(format!("{operator:?} lacks its arguments"))),
        }
    }

    fn leaf(&mut self, operator: &str, column: &str, arguments: &[Json]) -> SqlResult<String> {
        Ok(match (operator, arguments) {
            ("null?", []) | ("=", [Json::Null]) => format!("{column} IS NULL"),
            ("not=", [Json::Null]) => format!("{column} IS NOT NULL"),
            ("in", [Json::Array(values)]) => self.one_of(column, values)?,
            ("between", [low, high]) => {
                format!("{column} BETWEEN {} AND {}", self.value(low)?, self.value(high)?)
            }
            ("like", [pattern @ Json::String(_)]) => {
                format!("{column} LIKE {}", self.value(pattern)?)
            }
            ("not=", [value]) => format!("{column} IS DISTINCT FROM {}", self.value(value)?),
            ("=" | ">" | ">=" | "<" | "<=", [value]) => {
                format!("{column} {operator} {}", self.value(value)?)
            }
            _ => return Err(wrong(format!("there is no operator {operator:?} like this"))),
        })
    }

    fn one_of(&mut self, column: &str, values: &[Json]) -> SqlResult<String> {
        let known = values.iter().filter(|value| !value.is_null());
        let known = known.map(|value| self.value(value)).collect::<SqlResult<Vec<_>>>()?;
        let listed = match known.as_slice() {
            [] => None,
            known => Some(format!("{column} IN ({})", known.join(", "))),
        };
        let null = values.iter().any(Json::is_null).then(|| format!("{column} IS NULL"));
        let parts: Vec<_> = listed.into_iter().chain(null).collect();
        Ok(joined(&parts, " OR ", "false"))
    }

    fn value(&mut self, value: &Json) -> SqlResult<String> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(wrong(format!("more than {VALUES_MAX} values")));
        }
        self.params.push(match value {
            Json::String(text) => ScalarValue::Utf8(Some(text.clone())),
            Json::Bool(b) => ScalarValue::Boolean(Some(*b)),
            Json::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => ScalarValue::Int64(Some(n)),
                (None, Some(x)) => ScalarValue::Float64(Some(x)),
                (None, None) => return Err(wrong(format!("{n} is no number here"))),
            },
            other => return Err(wrong(format!("{other} is no plain value"))),
        });
        Ok(format!("${}", self.params.len()))
    }
}

/// Parts in brackets, or what stands for none of them.
fn joined(parts: &[String], by: &str, none: &str) -> String {
    match parts {
        [] => none.to_owned(),
        [one] => one.clone(),
        many => many.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ScalarValue {
        ScalarValue::Utf8(Some(text.to_owned()))
    }

    fn bound(sql: &str, filters: &str) -> SqlResult<(String, Vec<String>)> {
        let values = [("from", text("2026-01-01")), ("tz", text("Asia/Singapore"))];
        let values = values.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let filters = (!filters.is_empty()).then(|| serde_json::from_str(filters).unwrap());
        let Bound { sql, params } = bind(sql, &values, filters.as_ref())?;
        Ok((sql, params.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn names_become_numbers_wherever_they_stand() {
        let (sql, params) =
            bound("SELECT '$from', \"ä$tz\", $from, $tz -- $to\n, $from::date", "").unwrap();
        assert_eq!(sql, "SELECT '$from', \"ä$tz\", $1, $2 -- $to\n, $1::date");
        assert_eq!(params, ["2026-01-01", "Asia/Singapore"]);
        let e = bound("SELECT 1,\n $until", "").unwrap_err();
        assert_eq!((e.sqlstate, e.message.as_str()), ("42P02", "there is no parameter $until"));
        assert_eq!(e.hint.as_deref(), Some("there is $from, $tz"));
    }

    #[test]
    fn filters_are_conditions_with_values_of_their_own() {
        let check = |filters: &str, condition: &str, expected: &[&str]| {
            let (sql, params) = bound("SELECT 1 WHERE $filters AND $tz = ''", filters).unwrap();
            let number = expected.len() + 1;
            assert_eq!(sql, format!("SELECT 1 WHERE ({condition}) AND ${number} = ''"));
            assert_eq!(params[..expected.len()], *expected);
        };
        check("", "true", &[]);
        check("{}", "true", &[]);
        check(r#"{"a\"b": "x"}"#, r#""a""b" = $1"#, &["x"]);
        let two = r#"{"game": ["x", null, "y"], "level": 3}"#;
        check(
            two,
            r#"(("game" IN ($1, $2)) OR ("game" IS NULL)) AND ("level" = $3)"#,
            &["x", "y", "3"],
        );
        check(
            r#"["and", {"a": null}, ["or", ["<", "b", 1.5], ["not", ["like", "c", "x%"]]]]"#,
            r#"("a" IS NULL) AND (("b" < $1) OR (("c" LIKE $2) IS NOT TRUE))"#,
            &["1.5", "x%"],
        );
        check(r#"["not=", "a", "eu"]"#, r#""a" IS DISTINCT FROM $1"#, &["eu"]);
        check(r#"["in", "a", []]"#, "false", &[]);
        check(r#"["between", "a", 1, 2]"#, r#""a" BETWEEN $1 AND $2"#, &["1", "2"]);
        for bad in
            ["1", r#"["near", "a", 1]"#, r#"["="]"#, r#"{"a": {"b": 1}}"#, r#"["=", "a\u0000", 1]"#]
        {
            let e = bound("SELECT $filters", bad).unwrap_err();
            assert_eq!(e.sqlstate, "22023", "{bad}: {}", e.message);
        }
        let deep = format!("{}{}{}", r#"["not","#.repeat(30), r#"{"a":1}"#, "]".repeat(30));
        assert!(bound("SELECT $filters", &deep).is_err());
    }
}
