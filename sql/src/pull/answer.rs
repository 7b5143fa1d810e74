//! Answers in their two spellings, and the bodies of refusals.

use super::eval::Answer;
use super::problem::Problem;
use super::value::{Map, Value};
use super::{edn, json};

/// A spelling of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/edn`
    Edn,
    /// `application/json`
    Json,
}

impl Encoding {
    /// The content type of a body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Edn => "application/edn",
            Self::Json => "application/json",
        }
    }
    /// A value in this spelling.
    pub fn write(self, value: &Value) -> String {
        match self {
            Self::Edn => edn::write(value),
            Self::Json => json::write(value),
        }
    }
}

/// Which parts of an answer are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parts {
    /// Tree and variables.
    #[default]
    All,
    /// The tree alone.
    Data,
    /// The variables alone.
    Vars,
}

/// The text of an answer.
pub fn write_answer(
    answer: Answer,
    meta: Option<Value>,
    parts: Parts,
    encoding: Encoding,
) -> String {
    let mut out = Map::new();
    let tree = answer.tree.unwrap_or(Value::Nil);
    let problems = problems_value(&answer.problems);
    match encoding {
        Encoding::Edn => {
            if parts != Parts::Vars {
                out.insert(Value::symbol("&?"), tree);
            }
            if parts != Parts::Data {
                for (name, value) in answer.vars {
                    out.insert(Value::symbol(format!("?{name}")), value);
                }
            }
        }
        Encoding::Json => {
            if parts != Parts::Vars {
                out.insert(Value::keyword("data"), tree);
            }
            if parts != Parts::Data {
                let mut vars = Map::new();
                for (name, value) in answer.vars {
                    vars.insert(Value::text(name), value);
                }
                out.insert(Value::keyword("vars"), Value::Map(vars));
            }
        }
    }
    if !answer.problems.is_empty() {
        out.insert(Value::keyword("errors"), problems);
    }
    if let Some(meta) = meta {
        out.insert(Value::keyword("meta"), meta);
    }
    encoding.write(&Value::Map(out))
}

/// The text of a refusal.
pub fn write_refusal(problems: &[Problem], encoding: Encoding) -> String {
    let mut out = Map::new();
    out.insert(Value::keyword("errors"), problems_value(problems));
    encoding.write(&Value::Map(out))
}

fn problems_value(problems: &[Problem]) -> Value {
    Value::Vector(problems.iter().map(Problem::to_value).collect())
}
