//! Patterns of Postgres in the words of the engine's regular expressions: `\m` and `\M` are the borders of a word. Those that
//! look around, or back at a group, are matched by trying one way after another, up to a number of steps.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use fancy_regex::{Regex, RegexBuilder, RuntimeError};

use super::{answer, argument};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Name of the function that matches a text with a pattern that looks around, and the last argument whether cases differ.
pub(crate) const LOOKS_AROUND: &str = "otus_looks_around";

/// Ways that are tried for one text: patterns may have more of them than there is time for.
const STEPS_MAX: usize = 100_000;

/// A pattern as the engine reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    /// Whether what it matches depends on what stands around, or on an earlier group.
    pub(crate) looks_around: bool,
}

/// The begin and the end of a word.
type Borders = [&'static str; 2];
const BORDERS: Borders = ["\\b{start}", "\\b{end}"];
/// The same among patterns that look around.
const BORDERS_AROUND: Borders = ["(?<!\\w)(?=\\w)", "(?<=\\w)(?!\\w)"];

impl Pattern {
    /// From a pattern as it is written for Postgres, in which `.` is any character.
    pub(crate) fn of(written: &str) -> Self {
        Self::with_dot(written, "(?s:.)")
    }

    /// The same, in which `.` ends with its line.
    pub(crate) fn of_lines(written: &str) -> Self {
        Self::with_dot(written, ".")
    }

    fn with_dot(written: &str, dot: &'static str) -> Self {
        let (text, looks_around) = spelled(written, BORDERS, dot);
        match looks_around {
            true => Self { text: spelled(written, BORDERS_AROUND, dot).0, looks_around },
            false => Self { text, looks_around },
        }
    }
}

fn spelled(written: &str, borders: Borders, dot: &'static str) -> (String, bool) {
    let (mut text, mut looks_around) = (String::with_capacity(written.len()), false);
    let mut rest = written;
    while let Some(c) = rest.chars().next() {
        let (taken, put) = match c {
            '\\' => escape(rest, borders, &mut looks_around),
            '[' => bracket(rest, borders),
            '.' => (1, dot),
            '(' => {
                let around = ["(?=", "(?!", "(?<=", "(?<!"];
                looks_around |= around.iter().any(|begin| rest.starts_with(begin));
                (1, "(")
            }
            c => (c.len_utf8(), rest.get(..c.len_utf8()).unwrap_or_default()),
        };
        text.push_str(put);
        rest = rest.get(taken..).unwrap_or_default();
    }
    (text, looks_around)
}

/// Bytes of an escape, and what it is.
fn escape<'a>(rest: &'a str, borders: Borders, looks_back: &mut bool) -> (usize, &'a str) {
    let length = 1 + rest.chars().nth(1).map_or(0, char::len_utf8);
    let put = match rest.chars().nth(1) {
        Some('m') => borders[0],
        Some('M') => borders[1],
        Some('y') => "\\b",
        Some('Y') => "\\B",
        Some('Z') => "\\z",
        Some(other) => {
            *looks_back |= matches!(other, '1'..='9');
            rest.get(..length).unwrap_or_default()
        }
        None => rest,
    };
    (length, put)
}

/// Bytes of a set of characters, which is as it is written; `[[:<:]]` and `[[:>:]]` are borders of words.
fn bracket(rest: &str, borders: Borders) -> (usize, &str) {
    for (written, put) in ["[[:<:]]", "[[:>:]]"].into_iter().zip(borders) {
        if rest.starts_with(written) {
            return (written.len(), put);
        }
    }
    let mut at = 1;
    let mut is_first = true;
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((place, c)) = chars.next() {
        at = place + c.len_utf8();
        match c {
            '^' if place == 1 => continue,
            ']' if !is_first => break,
            '\\' => at += chars.next().map_or(0, |(_, c)| c.len_utf8()),
            '[' if matches!(chars.peek(), Some((_, ':' | '.' | '='))) => {
                let kind = chars.next().map_or(':', |(_, kind)| kind);
                let end = rest.get(place + 2..).and_then(|tail| tail.find(&format!("{kind}]")));
                let Some(end) = end else { break };
                at = place + 2 + end + 2;
                while chars.next_if(|(next, _)| *next < at).is_some() {}
            }
            _ => {}
        }
        is_first = false;
    }
    (at, rest.get(..at).unwrap_or(rest))
}

/// The function.
pub(super) fn looks_around() -> ScalarUDF {
    let types = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
    ScalarUDF::from(LooksAround(Signature::exact(types, Volatility::Immutable)))
}

/// See [`LOOKS_AROUND`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LooksAround(Signature);

fn regex(pattern: &str, ignores_case: bool) -> SqlResult<Regex> {
    let pattern = if ignores_case { format!("(?i){pattern}") } else { pattern.to_owned() };
    RegexBuilder::new(&pattern).backtrack_limit(STEPS_MAX).build().map_err(|e| {
        SqlError::new("2201B", "invalid regular expression").with_detail(e.to_string())
    })
}

fn matches(regex: &Regex, text: &str) -> SqlResult<bool> {
    regex.is_match(text).map_err(|e| {
        let e = match e {
            fancy_regex::Error::RuntimeError(RuntimeError::BacktrackLimitExceeded) => {
                format!("a text has more than {STEPS_MAX} ways to match")
            }
            other => other.to_string(),
        };
        SqlError::new(sqlstate::TOO_COMPLEX, "regular expression failed").with_detail(e).with_hint(
            "patterns without lookahead, lookbehind and references to groups have no limit",
        )
    })
}

impl ScalarUDFImpl for LooksAround {
    fn name(&self) -> &'static str {
        LOOKS_AROUND
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let texts = cast(&argument(&args, 0)?, &DataType::Utf8View)?;
        let scalar = |index: usize| match args.args.get(index) {
            Some(ColumnarValue::Scalar(value)) => Some(value),
            _ => None,
        };
        let pattern = scalar(1).and_then(|value| value.try_as_str().flatten());
        let ignores_case = scalar(2).is_some_and(|value| *value == true.into());
        let Some(pattern) = pattern else {
            return Err(SqlError::internal("a pattern that looks around is not constant").into());
        };
        let regex = regex(pattern, ignores_case)?;
        let found = texts.as_string_view().iter();
        let found = found.map(|text| text.map(|text| matches(&regex, text)).transpose());
        answer(&args, Arc::new(found.collect::<SqlResult<BooleanArray>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_postgres() {
        for (written, text, looks_around) in [
            ("abc", "abc", false),
            (r"\mabc\M", r"\b{start}abc\b{end}", false),
            (r"\ya\Y\Z", r"\ba\B\z", false),
            (r"\\m\d", r"\\m\d", false),
            (r"[\m(?=]x", r"[\m(?=]x", false),
            (r"[]\m][^]a]", r"[]\m][^]a]", false),
            ("[[:alpha:]]+[[:<:]]é", r"[[:alpha:]]+\b{start}é", false),
            ("a(?=b)", "a(?=b)", true),
            ("(?:a)(?i:b)", "(?:a)(?i:b)", false),
            (r"(a)\1", r"(a)\1", true),
            (r"\ma(?=b)", r"(?<!\w)(?=\w)a(?=b)", true),
            ("[", "[", false),
            ("[[:x", "[[:x", false),
            ("\\", "\\", false),
        ] {
            let expected = Pattern { text: text.into(), looks_around };
            assert_eq!(Pattern::of(written), expected, "{written}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let found = |pattern: &str, text: &str| matches(&regex(pattern, false)?, text);
        assert!(found("a(?=b)", "ab").unwrap());
        assert!(!found("a(?!b)", "ab").unwrap());
        assert!(found(r"^(.+)\1$", "abab").unwrap());
        let e = found(r"^(a+)+(?=b)\1$", &"a".repeat(64)).unwrap_err();
        assert_eq!(e.sqlstate, sqlstate::TOO_COMPLEX);
        assert_eq!(found("(?=", "a").unwrap_err().sqlstate, "2201B");
        let deep = format!("{}(?=a){}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(found(&deep, "a").unwrap_err().sqlstate, "2201B");
    }
}
