//! Patterns over a document, without a server: `otus pull --data FILE PATTERN`.

use otus_engine::{Error, Result};

use super::answer::{Encoding, Parts, write_answer};
use super::eval::{Document, evaluate};
use super::params::substitute;
use super::pattern::{Pattern, decode, refuse_watch};
use super::problem::Problem;
use super::text::{ReadError, ReadLimits};
use super::value::{Map, Value};
use super::{edn, json, spelling};

/// Runs a pattern over a document and writes the answer in the pattern's spelling. A text is taken as JSON if
/// it is well-formed JSON, as EDN otherwise, unless `document_encoding` says which it is.
pub fn pull_data(
    document: &str,
    document_encoding: Option<Encoding>,
    pattern: &str,
) -> Result<String> {
    let data = match document_encoding {
        Some(encoding) => read(document, encoding, ReadLimits::DOCUMENT),
        None => guess(document, ReadLimits::DOCUMENT).map(|(value, _)| value),
    };
    let data = data.map_err(|e| Error::invalid(format!("document: {e}")))?;
    let (form, encoding) =
        guess(pattern, ReadLimits::REQUEST).map_err(|e| Error::invalid(format!("pattern: {e}")))?;
    let pattern = decode_form(&form, encoding, &Map::new()).map_err(refused)?;
    let watched = refuse_watch(&pattern);
    if !watched.is_empty() {
        return Err(refused(watched));
    }
    let answer = evaluate(&pattern, &data, &Document);
    Ok(write_answer(answer, None, Parts::All, encoding))
}

/// The pattern of a form in either spelling, its parameters in place.
pub(super) fn decode_form(
    form: &Value,
    encoding: Encoding,
    params: &Map,
) -> std::result::Result<Pattern, Vec<Problem>> {
    match encoding {
        Encoding::Edn => decode(&substitute(form, params)?),
        Encoding::Json => decode(&substitute(&spelling::pattern_form(form)?, params)?),
    }
}

/// Reads a text in a known spelling.
pub(super) fn read(
    text: &str,
    encoding: Encoding,
    limits: ReadLimits,
) -> std::result::Result<Value, ReadError> {
    match encoding {
        Encoding::Edn => edn::read(text, limits),
        Encoding::Json => json::read(text, limits),
    }
}

fn guess(text: &str, limits: ReadLimits) -> std::result::Result<(Value, Encoding), ReadError> {
    let as_json = match json::read(text, limits) {
        Ok(value) => return Ok((value, Encoding::Json)),
        Err(error) => error,
    };
    edn::read(text, limits)
        .map(|value| (value, Encoding::Edn))
        .map_err(|as_edn| if begins_as_json(text) { as_json } else { as_edn })
}

/// Whether a text that neither reader takes was meant as JSON: what sets the spellings apart is the colon
/// after an object's first key.
fn begins_as_json(text: &str) -> bool {
    let inner = text.trim_start_matches(|c: char| c == '[' || c.is_whitespace());
    let Some(entries) = inner.strip_prefix('{') else {
        return !inner.starts_with([':', '#', '(', ';', '?']);
    };
    let Some(key) = entries.trim_start().strip_prefix('"') else {
        return entries.trim_start().is_empty();
    };
    let after = key.split_once('"').map_or("", |(_, after)| after.trim_start());
    after.is_empty() || after.starts_with(':') && !after.starts_with("::")
}

fn refused(problems: Vec<Problem>) -> Error {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| {
            format!("{} at {}: {}", p.code, edn::write(&Value::Vector(p.path.clone())), p.reason)
        })
        .collect();
    Error::invalid(format!("pattern is refused: {}", lines.join("; ")))
}
