//! From a JSON token to a typed value, or the reason why not.
//!
//! Coercions, all of them: a number given as text is accepted for numeric types and for times with a declared
//! epoch unit; a number or boolean given for a text column keeps its JSON text. Numerics round half away from
//! zero to their scale, as Postgres does. A time without offset is UTC; `timestamp` drops the offset after
//! moving to UTC. `bytea` is base64 (either alphabet, padding optional) or `\x` and hex digits.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use otus_engine::catalog::EpochUnit;
use otus_engine::types::ColumnType;

use super::json::compact;
use super::json::scan::{Cursor, Kind, Token, is_number, unescape};
use super::number::{Decimal, fits_precision, parse_plain_integer};
use super::reason::Reason;
use super::time::{parse_date, parse_epoch, parse_moment};
use otus_engine::time::DAY_US;

/// Characters of an offending value that a reason shows.
const EXCERPT_CHARS: usize = 40;

/// A typed value, ready to append to a column of its type. Made of whole words throughout: values are moved a
/// lot, and a narrow field before a wide copy costs more than the conversion.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u64)]
pub(crate) enum Value {
    Null,
    /// The column's default.
    Default,
    True,
    False,
    /// All integers, dates in days, times in microseconds.
    Int(i64),
    Double(f64),
    /// High and low word of the unscaled value.
    Decimal(i64, u64),
    /// A range of the record.
    Text(usize, usize),
    /// A range of [`Scratch::text`].
    Made(usize, usize),
    /// A range of [`Scratch::bytes`].
    Bytes(usize, usize),
    /// A range of [`Scratch::items`].
    List(usize, usize),
}

/// Room for what does not stand in the record as such; cleared per record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: Vec<Value>,
}

impl Value {
    /// A numeric by its unscaled value.
    #[expect(clippy::cast_possible_truncation, reason = "the value is cut into its two words")]
    pub(crate) fn decimal(unscaled: i128) -> Self {
        Self::Decimal((unscaled >> 64) as i64, unscaled.cast_unsigned() as u64)
    }
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.bytes.clear();
        self.items.clear();
    }
}

/// A value, or why it does not fit its column; the column's name is added by the caller.
type Fit = Result<Value, Reason>;

/// The type side of a conversion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) column_type: &'a ColumnType,
    pub(crate) epoch: Option<EpochUnit>,
}

/// Converts `token` of `text`. A [`Value::Text`] points into `text`.
#[inline]
pub(crate) fn convert(target: Target<'_>, text: &str, token: Token, out: &mut Scratch) -> Fit {
    let span = text.get(token.start..token.end).unwrap_or_default();
    match (target.column_type, token.kind) {
        (_, Kind::Null | Kind::Missing) => Ok(Value::Null),
        (ColumnType::Text, Kind::Text) => Ok(Value::Text(token.start, token.end)),
        (ColumnType::Boolean, Kind::True) => Ok(Value::True),
        (ColumnType::Boolean, Kind::False) => Ok(Value::False),
        (ColumnType::Jsonb, _) => jsonb(text, token, out),
        (ColumnType::Array(item), Kind::Array) => {
            list(Target { column_type: item, epoch: target.epoch }, text, token, out)
        }
        (_, Kind::Array | Kind::Object) => Err(mismatch(target, token.kind, span)),
        (ColumnType::Text, Kind::Number | Kind::True | Kind::False) => {
            Ok(Value::Text(token.start, token.end))
        }
        (_, Kind::EscapedText) => {
            let start = out.text.len();
            unescape(span, &mut out.text);
            if matches!(target.column_type, ColumnType::Text) {
                let end = out.text.len();
                let new = out.text.get(start..).unwrap_or_default();
                return no_nul(new).map(|()| Value::Made(start, end));
            }
            let plain = out.text.split_off(start);
            from_text(target, &plain, Origin::Copied, out)
        }
        (_, Kind::Text) => from_text(target, span, Origin::Record(token.start), out),
        (_, Kind::Number) => {
            from_number(target, span).unwrap_or_else(|| Err(mismatch(target, token.kind, span)))
        }
        _ => Err(mismatch(target, token.kind, span)),
    }
}

/// Converts bytes from outside the record's value: its key or a header.
pub(crate) fn convert_bytes(target: Target<'_>, bytes: &[u8], out: &mut Scratch) -> Fit {
    if matches!(target.column_type, ColumnType::Bytea) {
        let start = out.bytes.len();
        out.bytes.extend_from_slice(bytes);
        return Ok(Value::Bytes(start, out.bytes.len()));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|e| Reason::at_byte("not UTF-8", e.valid_up_to()))?;
    match target.column_type {
        ColumnType::Text => {
            no_nul(text)?;
            Ok(copy(text, out))
        }
        ColumnType::Boolean => match text {
            "true" => Ok(Value::True),
            "false" => Ok(Value::False),
            _ => Err(mismatch(target, Kind::Text, text)),
        },
        ColumnType::Jsonb | ColumnType::Array(_) => {
            let mut cursor = Cursor::new(text);
            cursor.skip_space();
            let token = cursor.value(0)?;
            cursor.finish()?;
            let value = convert(target, text, token, out)?;
            relocate(value, text, out)
        }
        _ => from_text(target, text, Origin::Copied, out),
    }
}

/// Moves texts that point into a text other than the record to the scratch.
fn relocate(value: Value, text: &str, out: &mut Scratch) -> Fit {
    match value {
        Value::Text(start, end) => Ok(copy(text.get(start..end).unwrap_or_default(), out)),
        Value::List(start, end) => {
            for at in start..end {
                if let Some(Value::Text(from, to)) = out.items.get(at).copied() {
                    let moved = copy(text.get(from..to).unwrap_or_default(), out);
                    if let Some(item) = out.items.get_mut(at) {
                        *item = moved;
                    }
                }
            }
            Ok(value)
        }
        other => Ok(other),
    }
}

/// Where an unescaped text stands.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Record(usize),
    Copied,
}

fn from_text(target: Target<'_>, text: &str, origin: Origin, out: &mut Scratch) -> Fit {
    let misfit = || mismatch(target, Kind::Text, text);
    match target.column_type {
        ColumnType::Text => Ok(copy(text, out)),
        ColumnType::Uuid => uuid(text, origin, out).ok_or_else(misfit),
        ColumnType::Date => match parse_date(text) {
            Some(days) => Ok(Value::Int(i64::from(days))),
            None => epoch_text(target, text).unwrap_or_else(|| Err(misfit())),
        },
        ColumnType::Timestamp | ColumnType::Timestamptz => match parse_moment(text) {
            Some(moment) => Ok(Value::Int(moment.utc_us)),
            None => epoch_text(target, text).unwrap_or_else(|| Err(misfit())),
        },
        ColumnType::Bytea => bytea(text, out).ok_or_else(misfit),
        ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double
        | ColumnType::Numeric { .. }
            if is_number(text) =>
        {
            from_number(target, text).unwrap_or_else(|| Err(misfit()))
        }
        _ => Err(misfit()),
    }
}

fn epoch_text(target: Target<'_>, text: &str) -> Option<Fit> {
    (target.epoch.is_some() && is_number(text)).then(|| from_number(target, text)).flatten()
}

/// None: a number is no value of this type.
#[inline]
fn from_number(target: Target<'_>, text: &str) -> Option<Fit> {
    let out_of_range = || number_reason("value out of range for", target, text);
    Some(match target.column_type {
        ColumnType::BigInt => integer(text, i64::MIN, i64::MAX, target),
        ColumnType::Integer => integer(text, i32::MIN.into(), i32::MAX.into(), target),
        ColumnType::SmallInt => integer(text, i16::MIN.into(), i16::MAX.into(), target),
        ColumnType::Double => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Double(value)),
            _ => Err(out_of_range()),
        },
        ColumnType::Real => match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(Value::Double(f64::from(value))),
            _ => Err(out_of_range()),
        },
        ColumnType::Numeric { precision, scale } => Decimal::parse(text)
            .and_then(|d| d.unscaled(*scale))
            .filter(|value| fits_precision(*value, *precision))
            .map(Value::decimal)
            .ok_or_else(out_of_range),
        ColumnType::Date | ColumnType::Timestamp | ColumnType::Timestamptz => {
            let Some(unit) = target.epoch else {
                return Some(Err(Reason::new(format!(
                    "{} expected, got a number but no epoch unit is declared",
                    target.column_type
                ))
                .with(excerpt(text))));
            };
            let Some(us) = parse_epoch(text, unit) else { return Some(Err(out_of_range())) };
            match target.column_type {
                ColumnType::Date => date_of(us).ok_or_else(out_of_range),
                _ => Ok(Value::Int(us)),
            }
        }
        _ => return None,
    })
}

fn date_of(us: i64) -> Option<Value> {
    i32::try_from(us.div_euclid(DAY_US)).ok().map(|days| Value::Int(days.into()))
}

#[inline]
fn integer(text: &str, min: i64, max: i64, target: Target<'_>) -> Fit {
    let wide = match parse_plain_integer(text) {
        Some(value) => Ok(value),
        None => match Decimal::parse(text) {
            Some(decimal) => match decimal.integer() {
                Some(value) => i64::try_from(value).map_err(|_| "value out of range for"),
                None if decimal.floor().is_some() => Err("a whole number expected for"),
                None => Err("value out of range for"),
            },
            None => Err("value out of range for"),
        },
    };
    match wide {
        Ok(value) if (min..=max).contains(&value) => Ok(Value::Int(value)),
        Ok(_) => Err(number_reason("value out of range for", target, text)),
        Err(what) => Err(number_reason(what, target, text)),
    }
}

fn number_reason(what: &str, target: Target<'_>, text: &str) -> Reason {
    Reason::new(format!("{what} {}", target.column_type)).with(excerpt(text))
}

fn uuid(text: &str, origin: Origin, out: &mut Scratch) -> Option<Value> {
    let parsed = uuid::Uuid::try_parse(text).ok()?;
    let mut buffer = uuid::Uuid::encode_buffer();
    let canonical: &str = parsed.hyphenated().encode_lower(&mut buffer);
    match origin {
        Origin::Record(start) if canonical == text => Some(Value::Text(start, start + text.len())),
        _ => Some(copy(canonical, out)),
    }
}

fn bytea(text: &str, out: &mut Scratch) -> Option<Value> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let start = out.bytes.len();
    if let Some(hex) = text.strip_prefix("\\x") {
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        for [high, low] in pairs {
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            out.bytes.push(u8::try_from(high * 16 + low).ok()?);
        }
    } else {
        let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
        if engine.decode_vec(text, &mut out.bytes).is_err() {
            out.bytes.truncate(start);
            return None;
        }
    }
    Some(Value::Bytes(start, out.bytes.len()))
}

fn jsonb(text: &str, token: Token, out: &mut Scratch) -> Fit {
    let start = out.text.len();
    compact::value(text, token, &mut out.text).map_err(compact::refusal)?;
    Ok(Value::Made(start, out.text.len()))
}

fn list(target: Target<'_>, text: &str, token: Token, out: &mut Scratch) -> Fit {
    // Items are gathered apart: converting one may use the scratch, but never its list of items.
    let mut items = Vec::new();
    let mut cursor = Cursor::starting(text, token.start + 1);
    let mut first = true;
    while cursor.next_item(&mut first)? {
        let item = cursor.value(1)?;
        items.push(convert(target, text, item, out)?);
    }
    let start = out.items.len();
    out.items.append(&mut items);
    Ok(Value::List(start, out.items.len()))
}

fn copy(text: &str, out: &mut Scratch) -> Value {
    let start = out.text.len();
    out.text.push_str(text);
    Value::Made(start, out.text.len())
}

fn no_nul(text: &str) -> Result<(), Reason> {
    match text.find('\0') {
        Some(_) => Err(Reason::new("text cannot hold the character U+0000")),
        None => Ok(()),
    }
}

fn mismatch(target: Target<'_>, kind: Kind, text: &str) -> Reason {
    let (got, detail) = match kind {
        Kind::Text | Kind::EscapedText => ("a string", Some(format!("\"{}\"", excerpt(text)))),
        Kind::Array => ("an array", None),
        Kind::Object => ("an object", None),
        Kind::Number => ("a number", Some(excerpt(text))),
        _ => ("a boolean", Some(excerpt(text))),
    };
    Reason { cause: format!("{} expected, got {got}", target.column_type), detail }
}

/// The beginning of `text`, fit for a message: bounded, without control characters.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(EXCERPT_CHARS)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(EXCERPT_CHARS).is_some() {
        short.push('…');
    }
    short
}
