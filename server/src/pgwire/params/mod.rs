//! Parameters of a statement: from a client's bytes, in text or binary, to typed scalars.

mod array;
mod binary;
mod interval;
mod numeric;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use tokio_postgres::types::{Kind, Type};

use super::encode::Zone;
use super::error::WireError;
use super::frame::Format;
use super::types::{parameter_type, type_name};

/// Reads one parameter of type `pg`. A value keeps its own precision: the planner coerces, not the wire.
pub(super) fn decode(
    pg: &Type,
    format: Format,
    bytes: Option<&[u8]>,
    zone: &Zone,
) -> Result<ScalarValue, WireError> {
    let Some(bytes) = bytes else {
        return null(pg);
    };
    match format {
        Format::Text => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                WireError::error("22021", "invalid byte sequence for encoding \"UTF8\"")
            })?;
            from_text(pg, text, zone)
        }
        Format::Binary => binary::from_binary(pg, bytes, zone),
    }
}

fn null(pg: &Type) -> Result<ScalarValue, WireError> {
    let data_type = parameter_type(pg).unwrap_or(DataType::Utf8View);
    ScalarValue::try_from(&data_type).map_err(|e| WireError::error("0A000", e.to_string()))
}

fn from_text(pg: &Type, text: &str, zone: &Zone) -> Result<ScalarValue, WireError> {
    let trimmed = text.trim();
    let bad = || WireError::value("22P02", &type_name(pg), text);
    Ok(match *pg {
        Type::BOOL => ScalarValue::Boolean(Some(boolean(trimmed).ok_or_else(bad)?)),
        Type::INT2 => ScalarValue::Int16(Some(integer(pg, trimmed)?)),
        Type::INT4 => ScalarValue::Int32(Some(integer(pg, trimmed)?)),
        Type::INT8 => ScalarValue::Int64(Some(integer(pg, trimmed)?)),
        Type::OID => ScalarValue::Int64(Some(i64::from(integer::<u32>(pg, trimmed)?))),
        Type::FLOAT4 => ScalarValue::Float32(Some(trimmed.parse().map_err(|_| bad())?)),
        Type::FLOAT8 => ScalarValue::Float64(Some(trimmed.parse().map_err(|_| bad())?)),
        Type::NUMERIC => numeric::from_text(trimmed)?,
        Type::UUID => {
            let uuid = uuid::Uuid::parse_str(trimmed).map_err(|_| bad())?;
            ScalarValue::Utf8View(Some(uuid.to_string()))
        }
        Type::BYTEA => ScalarValue::BinaryView(Some(bytea_from_text(text).ok_or_else(bad)?)),
        Type::INTERVAL => ScalarValue::IntervalMonthDayNano(Some(
            interval::from_text(trimmed)
                .ok_or_else(|| WireError::value("22007", "interval", text))?,
        )),
        Type::JSON | Type::JSONB => ScalarValue::Utf8View(Some(json(text)?)),
        Type::DATE | Type::TIME | Type::TIMESTAMP => {
            let to = parameter_type(pg).unwrap_or(DataType::Null);
            parsed(trimmed, &to, pg)?
        }
        Type::TIMESTAMPTZ => instant_from_text(trimmed, zone)?,
        _ => match pg.kind() {
            Kind::Array(item) => {
                let items: Vec<_> = array::items(text).ok_or_else(bad)?;
                let items = items.into_iter().map(|value| match value {
                    Some(value) => from_text(item, &value, zone),
                    None => null(item),
                });
                array::list(item, items.collect::<Result<_, _>>()?)?
            }
            _ => ScalarValue::Utf8View(Some(text.to_owned())),
        },
    })
}

/// A checked JSON text without white space between its tokens, as columns of type `jsonb` hold it.
fn json(text: &str) -> Result<String, WireError> {
    let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
    if let Err(e) = parsed {
        let mut error = WireError::value("22P02", "json", text);
        error.detail = Some(e.to_string().into());
        return Err(error);
    }
    let (mut out, mut in_text, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if in_text {
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_text = c == '"';
        }
        out.push(c);
    }
    Ok(out)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn integer<T: std::str::FromStr>(pg: &Type, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|_| {
        if text.parse::<i128>().is_ok() {
            let message = format!("value \"{text}\" is out of range for type {}", type_name(pg));
            WireError::error("22003", message)
        } else {
            WireError::value("22P02", &type_name(pg), text)
        }
    })
}

/// Arrow's own reading of a text.
fn parsed(text: &str, to: &DataType, pg: &Type) -> Result<ScalarValue, WireError> {
    ScalarValue::try_from_string(text.to_owned(), to)
        .ok()
        .filter(|value| !value.is_null())
        .ok_or_else(|| match is_date_shaped(text) {
            true => {
                WireError::error("22008", format!("date/time field value out of range: \"{text}\""))
            }
            false => WireError::value("22007", &type_name(pg), text),
        })
}

/// Whether a text begins like `2026-13-01`: its numbers are what is wrong.
fn is_date_shaped(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, max: usize| {
        part.is_some_and(|p| (1..=max).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let rest =
        |part: Option<&str>| part.is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()));
    digits(parts.next(), 4) && digits(parts.next(), 2) && rest(parts.next())
}

/// An instant; without an offset in the text, one of the session's zone.
fn instant_from_text(text: &str, zone: &Zone) -> Result<ScalarValue, WireError> {
    // The planner's own reading knows no instant for an hour that a clock shows twice.
    let known = |text: &str| otus_sql::instant_from_text(text, zone.name());
    if let Some(us) = known(text).or_else(|| known(&with_full_offset(text))) {
        return Ok(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
    }
    let local = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.name().into()));
    let value = parsed(text, &local, &Type::TIMESTAMPTZ)
        .or_else(|_| parsed(&with_full_offset(text), &local, &Type::TIMESTAMPTZ))
        .map_err(|_| WireError::value("22007", "timestamp with time zone", text))?;
    match value {
        ScalarValue::TimestampMicrosecond(us, _) => {
            Ok(ScalarValue::TimestampMicrosecond(us, Some("UTC".into())))
        }
        _ => Err(WireError::value("22007", "timestamp with time zone", text)),
    }
}

/// `…+02` as Postgres shows offsets; Arrow wants the minutes too.
fn with_full_offset(text: &str) -> String {
    let short = text.len() >= 3
        && text.as_bytes()[text.len() - 3..].split_first().is_some_and(|(sign, hours)| {
            matches!(sign, b'+' | b'-') && hours.iter().all(u8::is_ascii_digit)
        });
    if short { format!("{text}:00") } else { text.to_owned() }
}

/// `\x00ff`, or the older form with backslash and three octal digits.
fn bytea_from_text(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Option<Vec<u8>> = hex
            .chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect();
        let digits = digits.filter(|d| d.len() % 2 == 0)?;
        return Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                bytes.push(b'\\');
                tail
            }
            (b'\\', [a, b, c, tail @ ..]) => {
                let octal = [a, b, c].iter().try_fold(0_u16, |acc, digit| {
                    (b'0'..=b'7').contains(digit).then(|| acc * 8 + u16::from(**digit - b'0'))
                });
                bytes.push(u8::try_from(octal?).ok()?);
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
