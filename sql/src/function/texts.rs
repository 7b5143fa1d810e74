//! Functions of Postgres over texts and bytes that the planner lacks, or has with other letters: `upper` and `lower` change
//! one letter into one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, ListBuilder, StringArray,
    StringBuilder, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result as DfResult;
use datafusion::functions::string;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use unicode_normalization::UnicodeNormalization as _;

use super::plain::{Known, plain, text, variant, whole};
use super::{answer, argument};
use crate::error::{SqlError, sqlstate};

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    use DataType as T;
    let texts = T::List(Arc::new(Field::new_list_field(T::Utf8, true)));
    let substr = [
        vec![T::Utf8, T::Utf8],
        vec![T::Utf8, T::Utf8, T::Int64],
        vec![T::Utf8, T::Utf8, T::Int64, T::Int64],
        vec![T::Utf8, T::Utf8, T::Int64, T::Int64, T::Utf8],
        vec![T::Utf8, T::Utf8, T::Int64, T::Int64, T::Utf8, T::Int64],
    ];
    let substr = substr.map(TypeSignature::Exact).to_vec();
    let split = [vec![T::Utf8, T::Utf8], vec![T::Utf8, T::Utf8, T::Utf8]];
    let split = split.map(TypeSignature::Exact).to_vec();
    let form = [vec![T::Utf8], vec![T::Utf8, T::Utf8]].map(TypeSignature::Exact).to_vec();
    let one_of = |forms| Signature::one_of(forms, Volatility::Immutable);
    vec![
        ScalarUDF::from(Cased { plain: string::upper(), change: upper }),
        ScalarUDF::from(Cased { plain: string::lower(), change: lower }),
        plain("convert_from", vec![T::Binary, T::Utf8], T::Utf8, convert_from),
        plain("convert_to", vec![T::Utf8, T::Utf8], T::Binary, convert_to),
        plain("get_byte", vec![T::Binary, T::Int64], T::Int32, get_byte),
        plain("unistr", vec![T::Utf8], T::Utf8, unistr),
        plain("parse_ident", vec![T::Utf8], texts.clone(), parse_ident),
        variant("normalize", one_of(form.clone()), T::Utf8, normalize),
        variant("otus_is_normalized", one_of(form.clone()), T::Boolean, is_normalized),
        variant("to_ascii", one_of(form), T::Utf8, to_ascii),
        variant("regexp_substr", one_of(substr), T::Utf8, regexp_substr),
        variant("string_to_table", one_of(split), texts, string_to_table),
    ]
}

/// The planner's own `upper` or `lower`, letter by letter: those that would become several stay as they are, as in
/// Postgres.
#[derive(Debug)]
struct Cased {
    plain: Arc<ScalarUDF>,
    change: fn(&str) -> String,
}

impl PartialEq for Cased {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain
    }
}
impl Eq for Cased {}
impl std::hash::Hash for Cased {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.plain.hash(state);
    }
}

impl ScalarUDFImpl for Cased {
    fn name(&self) -> &str {
        self.plain.name()
    }
    fn signature(&self) -> &Signature {
        self.plain.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.plain.return_type(types)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let to = args.return_type().clone();
        let texts = cast(&argument(&args, 0)?, &DataType::Utf8View)?;
        let texts = texts.as_string_view().iter();
        let changed: StringViewArray = texts.map(|text| text.map(self.change)).collect();
        let changed: ArrayRef = Arc::new(changed);
        answer(&args, cast(&changed, &to)?)
    }
}

fn upper(text: &str) -> String {
    text.chars().map(|c| alone(c, c.to_uppercase())).collect()
}

fn lower(text: &str) -> String {
    text.chars().map(|c| alone(c, c.to_lowercase())).collect()
}

fn alone(letter: char, mut changed: impl Iterator<Item = char>) -> char {
    match (changed.next(), changed.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

fn bytes(args: &[ArrayRef], index: usize, row: usize) -> Option<&[u8]> {
    let array = args.get(index)?.as_binary_opt::<i32>()?;
    array.is_valid(row).then(|| array.value(row))
}

/// Encodings are UTF-8, and what is part of it.
fn encoding(name: &str) -> DfResult<&'static str> {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    match plain.as_str() {
        "UTF8" | "UNICODE" => Ok("UTF8"),
        "SQLASCII" => Ok("SQL_ASCII"),
        "LATIN1" | "ISO88591" => Ok("LATIN1"),
        _ => {
            let message = format!("the encoding \"{name}\" is not supported");
            Err(SqlError::unsupported(message).with_hint("UTF8 and LATIN1 are").into())
        }
    }
}

fn convert_from(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| -> DfResult<Option<String>> {
        let (Some(bytes), Some(name)) = (bytes(args, 0, row), text(args, 1, row)) else {
            return Ok(None);
        };
        if encoding(name)? == "LATIN1" {
            return Ok(Some(bytes.iter().copied().map(char::from).collect()));
        }
        let wrong = || SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\"");
        Ok(Some(std::str::from_utf8(bytes).map_err(|_| wrong())?.to_owned()))
    };
    let texts: Vec<Option<String>> = (0..rows).map(one).collect::<DfResult<_>>()?;
    Ok(Arc::new(StringArray::from(texts)))
}

fn convert_to(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| -> DfResult<Option<Vec<u8>>> {
        let (Some(of), Some(name)) = (text(args, 0, row), text(args, 1, row)) else {
            return Ok(None);
        };
        if encoding(name)? != "LATIN1" {
            return Ok(Some(of.as_bytes().to_vec()));
        }
        let wrong = || {
            let message = "a character has no equivalent in encoding \"LATIN1\"";
            SqlError::new("22P05", message)
        };
        let bytes = of.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| wrong()));
        Ok(Some(bytes.collect::<Result<_, _>>()?))
    };
    let found: Vec<Option<Vec<u8>>> = (0..rows).map(one).collect::<DfResult<_>>()?;
    Ok(Arc::new(found.iter().map(|bytes| bytes.as_deref()).collect::<BinaryArray>()))
}

fn get_byte(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| -> DfResult<Option<i32>> {
        let (Some(bytes), Some(place)) = (bytes(args, 0, row), whole(args, 1, row)) else {
            return Ok(None);
        };
        let byte = usize::try_from(place).ok().and_then(|place| bytes.get(place));
        let out = || {
            let last = i64::try_from(bytes.len()).unwrap_or(i64::MAX) - 1;
            let message = format!("index {place} out of valid range, 0..{last}");
            SqlError::new("2202E", message)
        };
        Ok(Some(i32::from(*byte.ok_or_else(out)?)))
    };
    let found: Vec<Option<i32>> = (0..rows).map(one).collect::<DfResult<_>>()?;
    Ok(Arc::new(Int32Array::from(found)))
}

/// `\0041`, `\+000041`, `\u0041`, `\U00000041` and `\\`.
fn unistr(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| -> DfResult<Option<String>> {
        let wrong = || SqlError::new("42601", "invalid Unicode escape");
        let Some(of) = text(args, 0, row) else { return Ok(None) };
        Ok(Some(unescaped(of).ok_or_else(wrong)?))
    };
    let texts: Vec<Option<String>> = (0..rows).map(one).collect::<DfResult<_>>()?;
    Ok(Arc::new(StringArray::from(texts)))
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at)?);
        rest = rest.get(at + 1..)?;
        let (before, digits) = match rest.chars().next()? {
            '\\' => {
                out.push('\\');
                rest = rest.get(1..)?;
                continue;
            }
            '+' => (1, 6),
            'u' => (1, 4),
            'U' => (1, 8),
            _ => (0, 4),
        };
        let code = u32::from_str_radix(rest.get(before..before + digits)?, 16).ok()?;
        out.push(char::from_u32(code)?);
        rest = rest.get(before + digits..)?;
    }
    out.push_str(rest);
    Some(out)
}

type Form = fn(&str) -> String;

fn form(name: &str) -> DfResult<Form> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "NFC" => |text| text.nfc().collect(),
        "NFD" => |text| text.nfd().collect(),
        "NFKC" => |text| text.nfkc().collect(),
        "NFKD" => |text| text.nfkd().collect(),
        _ => {
            let message = format!("invalid normalization form: {name}");
            return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).into());
        }
    })
}

/// Each text, if it is known, and the same in a normal form of Unicode.
fn normalized<T>(
    args: &[ArrayRef],
    rows: usize,
    give: impl Fn(&str, String) -> T,
) -> DfResult<Vec<Option<T>>> {
    let one = |row| -> DfResult<Option<T>> {
        let Some(of) = text(args, 0, row) else { return Ok(None) };
        let name = match args.get(1) {
            Some(_) => text(args, 1, row),
            None => Some("NFC"),
        };
        Ok(name.map(form).transpose()?.map(|form| give(of, form(of))))
    };
    (0..rows).map(one).collect()
}

/// `normalize(text [, form])`.
fn normalize(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    Ok(Arc::new(StringArray::from(normalized(args, rows, |_, normal| normal)?)))
}

/// `text IS [form] NORMALIZED`.
fn is_normalized(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    Ok(Arc::new(BooleanArray::from(normalized(args, rows, |of, normal| of == normal)?)))
}

/// `to_ascii(text, encoding)`: the bytes of the text are read in that encoding, as in Postgres, and letters lose their accents.
fn to_ascii(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| -> DfResult<Option<String>> {
        let Some(of) = text(args, 0, row) else { return Ok(None) };
        let encoding_name = match args.get(1) {
            Some(_) => text(args, 1, row),
            None => Some("UTF8"),
        };
        let Some(name) = encoding_name else { return Ok(None) };
        let name = encoding(name)?;
        if name != "LATIN1" {
            let message = format!("encoding conversion from {name} to ASCII not supported");
            return Err(SqlError::unsupported(message).into());
        }
        let plain = |byte: u8| {
            let bare = char::from(byte).nfd().next();
            bare.filter(char::is_ascii).unwrap_or(' ')
        };
        Ok(Some(of.bytes().map(plain).collect()))
    };
    let texts: Vec<Option<String>> = (0..rows).map(one).collect::<DfResult<_>>()?;
    Ok(Arc::new(StringArray::from(texts)))
}

/// The parts of a qualified name, those without quotes in lower case.
fn parse_ident(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        let Some(of) = text(args, 0, row) else {
            lists.append_null();
            continue;
        };
        let wrong = || {
            let message = format!("string is not a valid identifier: \"{of}\"");
            SqlError::new(sqlstate::INVALID_PARAMETER, message)
        };
        for part in identifiers(of).ok_or_else(wrong)? {
            lists.values().append_value(part);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn identifiers(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let part = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').filter(|end| *end > 0)?;
                let part = quoted.get(..end)?.to_owned();
                rest = quoted.get(end + 1..)?;
                part
            }
            None => {
                let belongs = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
                let end = rest.find(|c: char| !belongs(c)).unwrap_or(rest.len());
                let part = rest.get(..end)?;
                if part.is_empty() || part.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                    return None;
                }
                rest = rest.get(end..)?;
                part.to_lowercase()
            }
        };
        parts.push(part);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(parts);
        }
        rest = rest.strip_prefix('.')?.trim_start();
    }
}

/// `regexp_substr(text, pattern [, start [, n [, flags [, group]]]])`.
fn regexp_substr(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut known = Known::default();
    let mut found = StringBuilder::new();
    let null = |row| args.iter().any(|array| array.is_null(row));
    for row in 0..rows {
        let (false, Some(of), Some(pattern)) = (null(row), text(args, 0, row), text(args, 1, row))
        else {
            found.append_null();
            continue;
        };
        let count = |index: usize, least: i64, or: i64| -> DfResult<usize> {
            let given = whole(args, index, row).unwrap_or(or);
            usize::try_from(given).ok().filter(|_| given >= least).ok_or_else(|| {
                let message = format!("invalid value for an argument of regexp_substr: {given}");
                SqlError::new(sqlstate::INVALID_PARAMETER, message).into()
            })
        };
        let (start, nth, group) = (count(2, 1, 1)?, count(3, 1, 1)?, count(5, 0, 0)?);
        let flags = text(args, 4, row).unwrap_or_default();
        let pattern = match flags.contains('i') {
            true => format!("(?i){pattern}"),
            false => pattern.to_owned(),
        };
        let from = of.char_indices().nth(start - 1).map_or(of.len(), |(at, _)| at);
        let regex = known.regex(&pattern)?;
        let groups = regex.captures_iter(of.get(from..).unwrap_or_default()).nth(nth - 1);
        let part = groups.as_ref().and_then(|groups| groups.get(group));
        found.append_option(part.map(|part| part.as_str()));
    }
    Ok(Arc::new(found.finish()))
}

/// The pieces between separators: without one, the letters. A piece that is the third argument is null.
fn string_to_table(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        let Some(of) = text(args, 0, row) else {
            lists.append_null();
            continue;
        };
        let null = text(args, 2, row);
        let pieces: Vec<String> = match text(args, 1, row) {
            None => of.chars().map(String::from).collect(),
            Some(_) if of.is_empty() => Vec::new(),
            Some("") => vec![of.to_owned()],
            Some(separator) => of.split(separator).map(str::to_owned).collect(),
        };
        for piece in pieces {
            let is_null = null == Some(piece.as_str());
            lists.values().append_option((!is_null).then_some(piece));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_single() {
        assert_eq!(upper("straße"), "STRAßE");
        assert_eq!(upper(""), "");
        assert_eq!(lower("ÜBER İ"), "über İ");
    }

    #[test]
    fn escapes_and_identifiers() {
        assert_eq!(unescaped(r"\0041b\\\u00e4\+01F600").as_deref(), Some("Ab\\ä😀"));
        assert_eq!(unescaped(r"\00"), None);
        assert_eq!(identifiers("A.\"b C\""), Some(vec!["a".into(), "b C".into()]));
        for wrong in ["", "a.", "1a", "a b", "\"\""] {
            assert_eq!(identifiers(wrong), None, "{wrong}");
        }
    }
}
