//! Text out of parts and parts out of text: `string_to_array`, and `format(pattern, …)`: text with values put in, as they
//! are (`%s`), as names (`%I`) or as literals (`%L`).

use datafusion::error::Result as DfResult;

use super::{Def, at, lax};
use crate::bounded::VALUE_BYTES_MAX;
use crate::catalog::{Catalogue, Value, quoted_name};
use crate::error::{SqlError, sqlstate};
use crate::planning;

/// Most values of one call.
const MOST: usize = 100;
/// Bytes of an array's element beside its text.
const PART_BYTES: usize = 16;

pub(super) const ALL: &[Def] =
    &[lax("format", (1, MOST), "text", format), lax("string_to_array", (2, 3), "_text", parted)];

/// `string_to_array(text, delimiter [, null])`: without a delimiter the letters, with an empty one the text.
fn parted(_: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(text) = at(given, 0).text() else { return Ok(Value::Null) };
    let null = at(given, 2).text();
    let count = match at(given, 1).text() {
        None => text.len(),
        Some("") => 1,
        Some(delimiter) => text.matches(delimiter).count().saturating_add(1),
    };
    let bytes = count.saturating_mul(PART_BYTES).saturating_add(text.len());
    bounded(bytes)?;
    planning::take(size(bytes))?;
    let parts: Vec<String> = match at(given, 1).text() {
        _ if text.is_empty() => Vec::new(),
        None => text.chars().map(String::from).collect(),
        Some("") => vec![text.to_owned()],
        Some(delimiter) => text.split(delimiter).map(str::to_owned).collect(),
    };
    let parts = parts.into_iter();
    Ok(Value::List(
        parts.map(|p| if Some(p.as_str()) == null { Value::Null } else { p.into() }).collect(),
    ))
}

fn format(_: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let Some(pattern) = at(given, 0).text() else { return Ok(Value::Null) };
    let (mut made, mut next) = (String::new(), 1_usize);
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            made.push(letter);
            continue;
        }
        if letters.peek() == Some(&'%') {
            made.extend(letters.next());
            continue;
        }
        let (mut number, mut width, mut left) = (String::new(), None, false);
        while let Some(sign) =
            letters.peek().copied().filter(|c| c.is_ascii_digit() || "-$".contains(*c))
        {
            letters.next();
            match sign {
                '$' => next = std::mem::take(&mut number).parse().unwrap_or(0),
                '-' => left = true,
                digit => number.push(digit),
            }
        }
        if let Ok(wide) = number.parse::<usize>() {
            width = Some(wide);
        }
        let Some(value) = given.get(next).filter(|_| next > 0) else {
            return Err(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                "too few arguments for format()",
            )
            .into());
        };
        next += 1;
        let text = shown(letters.next(), value)?;
        let missing = width.unwrap_or(0).saturating_sub(text.chars().count());
        bounded(made.len().saturating_add(text.len()).saturating_add(missing))?;
        let before = if left { 0 } else { missing };
        made.extend(std::iter::repeat_n(' ', before));
        made.push_str(&text);
        made.extend(std::iter::repeat_n(' ', missing - before));
    }
    planning::take(size(made.len()))?;
    Ok(made.into())
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Refuses a value of more bytes than any may have.
fn bounded(bytes: usize) -> DfResult<()> {
    if size(bytes) <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the value would have {} MiB; the limit is {} MiB",
        size(bytes).div_ceil(1 << 20),
        VALUE_BYTES_MAX >> 20
    );
    Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message).with_hint("build shorter values").into())
}

fn shown(kind: Option<char>, value: &Value) -> DfResult<String> {
    let text = value.shown();
    match (kind, text) {
        (Some('s'), text) => Ok(text.unwrap_or_default()),
        (Some('L'), None) => Ok("NULL".to_owned()),
        (Some('L'), Some(text)) => Ok(format!("'{}'", text.replace('\'', "''"))),
        (Some('I'), Some(text)) => Ok(quoted_name(&text)),
        (Some('I'), None) => {
            let message = "null values cannot be formatted as an SQL identifier";
            Err(SqlError::new("22004", message).into())
        }
        (Some(other), _) => {
            let message = format!("unrecognized format() type specifier \"{other}\"");
            Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).into())
        }
        (None, _) => {
            let message = "unterminated format() type specifier";
            Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).into())
        }
    }
}
