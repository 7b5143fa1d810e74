//! Reading a path.

use std::borrow::Cow;

use regex::RegexBuilder;

use super::{Condition, Index, Method, Operand, Query, Step};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::json::value::Json;

/// Most levels of brackets.
const DEPTH_MAX: usize = 50;

struct Reader<'a> {
    path: &'a str,
    rest: &'a str,
    depth: usize,
}

/// Reads a whole path.
pub(super) fn query(path: &str) -> SqlResult<Query> {
    let mut reader = Reader { path, rest: path, depth: 0 };
    if reader.word("strict") {
        let e = SqlError::unsupported("strict mode of jsonpath is not supported");
        return Err(e.with_hint("lax mode takes what is not there for nothing"));
    }
    reader.word("lax");
    let mut condition = Reader { path, rest: reader.rest, depth: 0 };
    let operand = reader.operand();
    if let Ok(operand) = operand
        && reader.rest.trim().is_empty()
    {
        return Ok(Query::Path(operand));
    }
    let read = condition.condition()?;
    if condition.rest.trim().is_empty() {
        Ok(Query::Condition(read))
    } else {
        Err(condition.wrong())
    }
}

impl Reader<'_> {
    fn wrong(&self) -> SqlError {
        let rest = self.rest.trim_start();
        let near = rest.chars().take(20).collect::<String>();
        let message = format!("syntax error at or near \"{near}\" of jsonpath input");
        SqlError::new(sqlstate::SYNTAX, message).with_detail(format!("in {}", self.path))
    }

    fn take(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(sign) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str) -> SqlResult<()> {
        if self.take(sign) { Ok(()) } else { Err(self.wrong()) }
    }

    fn word(&mut self, word: &str) -> bool {
        let before = self.rest;
        if self.take(word) && !self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return true;
        }
        self.rest = before;
        false
    }

    fn name(&mut self) -> SqlResult<String> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if name.is_empty() {
            return Err(self.wrong());
        }
        self.rest = after;
        Ok(name.to_owned())
    }

    fn string(&mut self) -> SqlResult<String> {
        let rest = self.rest.trim_start();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let is_end = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            is_end
        });
        let Some((end, _)) = end else { return Err(self.wrong()) };
        let (quoted, after) = rest.split_at(end + 1);
        let text = serde_json::from_str(quoted).map_err(|_| self.wrong())?;
        self.rest = after;
        Ok(text)
    }

    fn integer(&mut self) -> SqlResult<i64> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        self.rest = after;
        digits.parse().map_err(|_| self.wrong())
    }

    fn index(&mut self) -> SqlResult<Index> {
        if !self.word("last") {
            return Ok(Index::First(self.integer()?));
        }
        Ok(Index::Last(if self.take("-") { self.integer()? } else { 0 }))
    }

    fn starts(&self, sign: &str) -> bool {
        self.rest.trim_start().starts_with(sign)
    }

    fn operand(&mut self) -> SqlResult<Operand> {
        let from_current = match self.rest.trim_start().chars().next() {
            Some('$') => false,
            Some('@') => true,
            _ => return self.literal().map(Operand::Literal),
        };
        self.expect(if from_current { "@" } else { "$" })?;
        let mut steps = Vec::new();
        loop {
            if self.take(".**") {
                steps.push(Step::Descend);
            } else if self.take(".*") {
                steps.push(Step::AnyKey);
            } else if self.take(".") {
                steps.push(self.member()?);
            } else if self.take("[") {
                steps.push(self.elements()?);
            } else if self.starts("?") {
                self.expect("?")?;
                self.expect("(")?;
                let condition = self.condition()?;
                self.expect(")")?;
                steps.push(Step::Filter(condition));
            } else {
                return Ok(Operand::Path { from_current, steps });
            }
        }
    }

    fn member(&mut self) -> SqlResult<Step> {
        if self.starts("\"") {
            return Ok(Step::Key(self.string()?));
        }
        let name = self.name()?;
        if !self.take("(") {
            return Ok(Step::Key(name));
        }
        self.expect(")")?;
        match name.as_str() {
            "size" => Ok(Step::Method(Method::Size)),
            "type" => Ok(Step::Method(Method::Type)),
            _ => {
                Err(SqlError::unsupported(format!("method {name}() of jsonpath is not supported")))
            }
        }
    }

    fn elements(&mut self) -> SqlResult<Step> {
        if self.take("*") {
            self.expect("]")?;
            return Ok(Step::Elements);
        }
        let mut ranges = Vec::new();
        loop {
            let from = self.index()?;
            let to = if self.word("to") { self.index()? } else { from };
            ranges.push((from, to));
            if self.take("]") {
                return Ok(Step::At(ranges));
            }
            self.expect(",")?;
        }
    }

    fn literal(&mut self) -> SqlResult<Json<'static>> {
        if self.starts("\"") {
            return Ok(Json::String(Cow::Owned(self.string()?)));
        }
        let words =
            [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)];
        for (word, value) in words {
            if self.word(word) {
                return Ok(value);
            }
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'));
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        match Json::parse(number) {
            Ok(Json::Number(digits)) => {
                self.rest = after;
                Ok(Json::Number(Cow::Owned(digits.into_owned())))
            }
            _ => Err(self.wrong()),
        }
    }

    fn condition(&mut self) -> SqlResult<Condition> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SqlError::new(sqlstate::TOO_COMPLEX, "jsonpath is nested too deeply"));
        }
        let mut read = self.conjunction()?;
        while self.take("||") {
            read = Condition::Or(Box::new(read), Box::new(self.conjunction()?));
        }
        self.depth -= 1;
        Ok(read)
    }

    fn conjunction(&mut self) -> SqlResult<Condition> {
        let mut read = self.test()?;
        while self.take("&&") {
            read = Condition::And(Box::new(read), Box::new(self.test()?));
        }
        Ok(read)
    }

    fn test(&mut self) -> SqlResult<Condition> {
        if !self.starts("!=") && self.take("!") {
            return Ok(Condition::Not(Box::new(self.in_brackets()?)));
        }
        if self.starts("(") {
            let inner = self.in_brackets()?;
            if self.word("is") {
                return match self.word("unknown") {
                    true => Ok(Condition::IsUnknown(Box::new(inner))),
                    false => Err(self.wrong()),
                };
            }
            return Ok(inner);
        }
        if self.word("exists") {
            self.expect("(")?;
            let operand = self.operand()?;
            self.expect(")")?;
            return Ok(Condition::Exists(operand));
        }
        let operand = self.operand()?;
        if self.word("starts") {
            return match self.word("with") {
                true => Ok(Condition::StartsWith(operand, self.string()?)),
                false => Err(self.wrong()),
            };
        }
        if self.word("like_regex") {
            let pattern = self.string()?;
            let flags = if self.word("flag") { self.string()? } else { String::new() };
            let regex = RegexBuilder::new(&pattern)
                .case_insensitive(flags.contains('i'))
                .multi_line(flags.contains('m'))
                .dot_matches_new_line(flags.contains('s'))
                .build();
            let regex = regex.map_err(|_| {
                SqlError::new(sqlstate::INVALID_REGEX, "invalid regular expression in jsonpath")
            })?;
            return Ok(Condition::Like(operand, regex));
        }
        let signs = [
            ("==", "=="),
            ("!=", "!="),
            ("<>", "!="),
            ("<=", "<="),
            (">=", ">="),
            ("<", "<"),
            (">", ">"),
        ];
        let Some((_, op)) = signs.into_iter().find(|(sign, _)| self.take(sign)) else {
            return Err(self.wrong());
        };
        Ok(Condition::Compare(operand, op, self.operand()?))
    }

    fn in_brackets(&mut self) -> SqlResult<Condition> {
        self.expect("(")?;
        let inner = self.condition()?;
        self.expect(")")?;
        Ok(inner)
    }
}
