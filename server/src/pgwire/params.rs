//! Parameters of a statement: from a client's bytes, in text or binary, to typed scalars.

use std::sync::Arc;

use arrow::array::{Array, new_empty_array};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, TimeUnit};
use datafusion::common::ScalarValue;
use tokio_postgres::types::{Kind, Type};

use super::encode::{Zone, date_from_binary, timestamp_from_binary};
use super::error::WireError;
use super::frame::Format;
use super::types::parameter_type;

/// Digits of the widest numeric.
const DIGITS_MAX: usize = 38;

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
        Format::Binary => from_binary(pg, bytes, zone),
    }
}

fn null(pg: &Type) -> Result<ScalarValue, WireError> {
    let data_type = parameter_type(pg).unwrap_or(DataType::Utf8View);
    ScalarValue::try_from(&data_type).map_err(|e| WireError::error("0A000", e.to_string()))
}

fn from_text(pg: &Type, text: &str, zone: &Zone) -> Result<ScalarValue, WireError> {
    let trimmed = text.trim();
    let bad = || WireError::value("22P02", pg.name(), text);
    Ok(match *pg {
        Type::BOOL => ScalarValue::Boolean(Some(boolean(trimmed).ok_or_else(bad)?)),
        Type::INT2 => ScalarValue::Int16(Some(integer(pg, trimmed)?)),
        Type::INT4 => ScalarValue::Int32(Some(integer(pg, trimmed)?)),
        Type::INT8 => ScalarValue::Int64(Some(integer(pg, trimmed)?)),
        Type::OID => ScalarValue::Int64(Some(i64::from(integer::<u32>(pg, trimmed)?))),
        Type::FLOAT4 => ScalarValue::Float32(Some(trimmed.parse().map_err(|_| bad())?)),
        Type::FLOAT8 => ScalarValue::Float64(Some(trimmed.parse().map_err(|_| bad())?)),
        Type::NUMERIC => numeric_from_text(trimmed)?,
        Type::UUID => {
            let uuid = uuid::Uuid::parse_str(trimmed).map_err(|_| bad())?;
            ScalarValue::Utf8View(Some(uuid.to_string()))
        }
        Type::BYTEA => ScalarValue::BinaryView(Some(bytea_from_text(text).ok_or_else(bad)?)),
        Type::DATE | Type::TIME | Type::TIMESTAMP | Type::INTERVAL => {
            let to = parameter_type(pg).unwrap_or(DataType::Null);
            parsed(trimmed, &to, pg)?
        }
        Type::TIMESTAMPTZ => instant_from_text(trimmed, zone)?,
        _ => match pg.kind() {
            Kind::Array(item) => {
                let items: Vec<_> = array_items(text).ok_or_else(bad)?;
                let items = items.into_iter().map(|value| match value {
                    Some(value) => from_text(item, &value, zone),
                    None => null(item),
                });
                list(item, items.collect::<Result<_, _>>()?)?
            }
            _ => ScalarValue::Utf8View(Some(text.to_owned())),
        },
    })
}

fn from_binary(pg: &Type, bytes: &[u8], zone: &Zone) -> Result<ScalarValue, WireError> {
    let text = || {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| WireError::error("22021", "invalid byte sequence for encoding \"UTF8\""))
    };
    Ok(match *pg {
        Type::BOOL => ScalarValue::Boolean(Some(fixed::<1>(bytes)? != [0])),
        Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(bytes)?))),
        Type::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(bytes)?))),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::OID => ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(fixed(bytes)?)))),
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(bytes)?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(bytes)?))),
        Type::NUMERIC => numeric_from_binary(bytes)?,
        Type::UUID => {
            let uuid = uuid::Uuid::from_bytes(fixed(bytes)?);
            ScalarValue::Utf8View(Some(uuid.to_string()))
        }
        Type::JSONB => match text()?.strip_prefix('\u{1}') {
            Some(json) => ScalarValue::Utf8View(Some(json.to_owned())),
            None => return Err(WireError::error("22P03", "unsupported jsonb version number")),
        },
        Type::BYTEA => ScalarValue::BinaryView(Some(bytes.to_vec())),
        Type::DATE => {
            ScalarValue::Date32(Some(date_from_binary(i32::from_be_bytes(fixed(bytes)?))?))
        }
        Type::TIME => ScalarValue::Time64Microsecond(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let us = timestamp_from_binary(i64::from_be_bytes(fixed(bytes)?))?;
            let zone = (*pg == Type::TIMESTAMPTZ).then(|| "UTC".into());
            ScalarValue::TimestampMicrosecond(Some(us), zone)
        }
        Type::INTERVAL => interval_from_binary(fixed(bytes)?)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            ScalarValue::Utf8View(Some(text()?))
        }
        _ => match pg.kind() {
            Kind::Array(item) => array_from_binary(item, bytes, zone)?,
            _ => {
                let message = format!("parameters of type {} are not supported", pg.name());
                return Err(WireError::error("0A000", message)
                    .with_hint("send the parameter as text, or cast it in the statement"));
            }
        },
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes
        .try_into()
        .map_err(|_| WireError::error("22P03", "incorrect binary data format in bind parameter"))
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
            let message = format!("value {text:?} is out of range for type {}", pg.name());
            WireError::error("22003", message)
        } else {
            WireError::value("22P02", pg.name(), text)
        }
    })
}

/// Arrow's own reading of a text.
fn parsed(text: &str, to: &DataType, pg: &Type) -> Result<ScalarValue, WireError> {
    ScalarValue::try_from_string(text.to_owned(), to)
        .ok()
        .filter(|value| !value.is_null())
        .ok_or_else(|| WireError::value("22007", pg.name(), text))
}

/// An instant; without an offset in the text, one of the session's zone.
fn instant_from_text(text: &str, zone: &Zone) -> Result<ScalarValue, WireError> {
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

fn numeric_from_text(text: &str) -> Result<ScalarValue, WireError> {
    let bad = || WireError::value("22P02", "numeric", text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let places = i32::try_from(fraction.len()).map_err(|_| bad())?;
    let scale = places.checked_sub(exponent).ok_or_else(bad)?;
    if scale < 0 {
        let zeros = usize::try_from(scale.unsigned_abs()).map_err(|_| bad())?;
        digits.push_str(&"0".repeat(zeros.min(DIGITS_MAX + 1)));
    }
    numeric(negative, &digits, scale.max(0))
}

fn numeric_from_binary(bytes: &[u8]) -> Result<ScalarValue, WireError> {
    let bad = || WireError::error("22P03", "incorrect binary data format in bind parameter");
    let words: Vec<u16> = bytes.chunks_exact(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect();
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else {
        return Err(bad());
    };
    let weight = i32::from(weight.cast_signed());
    if usize::from(*count) != groups.len()
        || !bytes.len().is_multiple_of(2)
        || groups.iter().any(|g| *g > 9_999)
    {
        return Err(bad());
    }
    let negative = match *sign {
        0 => false,
        0x4000 => true,
        _ => return Err(WireError::error("22003", "numeric NaN and infinity are not supported")),
    };
    if weight.unsigned_abs() > 64 {
        return Err(WireError::error("22003", "numeric value has too many digits"));
    }
    // Digits from 10^(4·weight+3) down to the scale, then cut there.
    let scale = i32::from(scale.cast_signed()).max(0);
    let mut digits = String::new();
    for group in groups {
        digits.push_str(&format!("{group:04}"));
    }
    let places = i32::try_from(groups.len()).map_err(|_| bad())? * 4 - (weight + 1) * 4;
    if places <= scale {
        digits.push_str(&"0".repeat(usize::try_from(scale - places).map_err(|_| bad())?.min(400)));
    } else {
        let keep = digits.len().saturating_sub(usize::try_from(places - scale).map_err(|_| bad())?);
        digits.truncate(keep);
    }
    numeric(negative, if digits.is_empty() { "0" } else { &digits }, scale)
}

fn numeric(negative: bool, digits: &str, scale: i32) -> Result<ScalarValue, WireError> {
    let too_long = || WireError::error("22003", "numeric value has more than 38 digits");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let scale = i8::try_from(scale).ok().filter(|s| usize::from(s.unsigned_abs()) <= DIGITS_MAX);
    let scale = scale.ok_or_else(too_long)?;
    if digits.len() > DIGITS_MAX {
        return Err(too_long());
    }
    let value: i128 = digits.parse().map_err(|_| too_long())?;
    Ok(ScalarValue::Decimal128(Some(if negative { -value } else { value }), 38, scale))
}

fn interval_from_binary(bytes: [u8; 16]) -> Result<ScalarValue, WireError> {
    let (us, rest) = bytes.split_at(8);
    let (days, months) = rest.split_at(4);
    let nanoseconds = i64::from_be_bytes(fixed(us)?)
        .checked_mul(1_000)
        .ok_or_else(|| WireError::error("22008", "interval out of range"))?;
    let days = i32::from_be_bytes(fixed(days)?);
    let months = i32::from_be_bytes(fixed(months)?);
    let value = IntervalMonthDayNano::new(months, days, nanoseconds);
    Ok(ScalarValue::IntervalMonthDayNano(Some(value)))
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

/// Elements of `{a,"b c",NULL}`; none for anything else, arrays of arrays included.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut chars = inner.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'"').is_some();
        let mut item = String::new();
        let more = loop {
            match chars.next() {
                Some('\\') => item.push(chars.next()?),
                Some('"') if quoted => {
                    while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                    match chars.next() {
                        Some(',') => break true,
                        None => break false,
                        Some(_) => return None,
                    }
                }
                None if quoted => return None,
                Some(',') if !quoted => break true,
                None => break false,
                Some('{' | '}' | '"') if !quoted => return None,
                Some(c) => item.push(c),
            }
        };
        let item = if quoted { item } else { item.trim_end().to_owned() };
        items.push((quoted || !item.eq_ignore_ascii_case("null")).then_some(item));
        if !more {
            return Some(items);
        }
    }
}

fn array_from_binary(item: &Type, bytes: &[u8], zone: &Zone) -> Result<ScalarValue, WireError> {
    let bad = || WireError::error("22P03", "incorrect binary data format in bind parameter");
    let mut rest = bytes;
    let mut word = || -> Result<i32, WireError> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        rest = tail;
        Ok(i32::from_be_bytes(*head))
    };
    let dimensions = word()?;
    word()?;
    let sent = Type::from_oid(word()?.cast_unsigned());
    let item = sent.as_ref().unwrap_or(item);
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = usize::try_from(word()?).map_err(|_| bad())?;
            word()?;
            count
        }
        _ => return Err(WireError::error("0A000", "arrays of arrays are not supported")),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let length = i32::from_be_bytes(*head);
        rest = tail;
        items.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, tail) = rest.split_at_checked(length).ok_or_else(bad)?;
                rest = tail;
                from_binary(item, value, zone)?
            }
            Err(_) => null(item)?,
        });
    }
    list(item, items)
}

fn list(item: &Type, items: Vec<ScalarValue>) -> Result<ScalarValue, WireError> {
    let data_type = items
        .first()
        .map(ScalarValue::data_type)
        .or_else(|| parameter_type(item))
        .unwrap_or(DataType::Utf8View);
    // Numerics come each with their own scale; one array has one.
    let data_type = match data_type {
        DataType::Decimal128(..) => widest(&items),
        other => other,
    };
    let failed = |e: datafusion::error::DataFusionError| WireError::error("22P02", e.to_string());
    let items: Vec<ScalarValue> = items
        .into_iter()
        .map(|value| value.cast_to(&data_type).map_err(failed))
        .collect::<Result<_, _>>()?;
    let values = if items.is_empty() {
        new_empty_array(&data_type)
    } else {
        ScalarValue::iter_to_array(items).map_err(failed)?
    };
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
    let field = Arc::new(Field::new("item", data_type, true));
    let array = arrow::array::ListArray::try_new(field, offsets, values, None)?;
    Ok(ScalarValue::List(Arc::new(array)))
}

fn widest(items: &[ScalarValue]) -> DataType {
    let scale = items.iter().filter_map(|value| match value {
        ScalarValue::Decimal128(Some(_), _, scale) => Some(*scale),
        _ => None,
    });
    DataType::Decimal128(38, scale.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pg: &Type, text: &str) -> Result<ScalarValue, WireError> {
        decode(pg, Format::Text, Some(text.as_bytes()), &Zone::new("Europe/Berlin"))
    }

    fn binary(pg: &Type, bytes: &[u8]) -> Result<ScalarValue, WireError> {
        decode(pg, Format::Binary, Some(bytes), &Zone::new("UTC"))
    }

    fn numeric(value: i128, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(Some(value), 38, scale)
    }

    #[test]
    fn texts() {
        assert_eq!(text(&Type::BOOL, "yes").unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(text(&Type::INT4, " -7 ").unwrap(), ScalarValue::Int32(Some(-7)));
        assert_eq!(text(&Type::INT2, "40000").unwrap_err().sqlstate, "22003");
        assert_eq!(text(&Type::INT8, "x").unwrap_err().sqlstate, "22P02");
        assert_eq!(text(&Type::NUMERIC, "-1.50").unwrap(), numeric(-150, 2));
        assert_eq!(text(&Type::NUMERIC, "1.5e3").unwrap(), numeric(1_500, 0));
        assert_eq!(text(&Type::NUMERIC, "15e-3").unwrap(), numeric(15, 3));
        assert_eq!(text(&Type::NUMERIC, &"9".repeat(39)).unwrap_err().sqlstate, "22003");
        assert_eq!(text(&Type::NUMERIC, "1e999").unwrap_err().sqlstate, "22003");
        assert_eq!(text(&Type::NUMERIC, "").unwrap_err().sqlstate, "22P02");
        assert_eq!(
            text(&Type::BYTEA, "\\x00Ff").unwrap(),
            ScalarValue::BinaryView(Some(vec![0, 255]))
        );
        assert_eq!(
            text(&Type::BYTEA, "a\\\\b\\001").unwrap(),
            ScalarValue::BinaryView(Some(b"a\\b\x01".to_vec()))
        );
        assert_eq!(text(&Type::BYTEA, "\\9").unwrap_err().sqlstate, "22P02");
        assert_eq!(text(&Type::DATE, "2015-09-12").unwrap(), ScalarValue::Date32(Some(16_690)));
        assert_eq!(text(&Type::DATE, "tomorrow").unwrap_err().sqlstate, "22007");
    }

    #[test]
    fn instants() {
        let utc = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
        for (shown, us) in [
            ("2015-09-12 13:47:58.771Z", 1_442_065_678_771_000),
            ("2015-09-12 15:47:58.771", 1_442_065_678_771_000),
            ("2015-09-12 15:47:58.771+02", 1_442_065_678_771_000),
            ("2015-09-12", 1_442_008_800_000_000),
        ] {
            assert_eq!(text(&Type::TIMESTAMPTZ, shown).unwrap(), utc(us), "{shown}");
        }
        assert_eq!(text(&Type::TIMESTAMPTZ, "never").unwrap_err().sqlstate, "22007");
        assert_eq!(
            text(&Type::TIMESTAMP, "1970-01-01 00:00:01").unwrap(),
            ScalarValue::TimestampMicrosecond(Some(1_000_000), None)
        );
        assert_eq!(binary(&Type::TIMESTAMPTZ, &[0; 8]).unwrap(), utc(946_684_800_000_000));
    }

    #[test]
    fn binaries() {
        assert_eq!(binary(&Type::INT4, &[0, 0, 1, 0]).unwrap(), ScalarValue::Int32(Some(256)));
        assert_eq!(binary(&Type::INT4, &[0]).unwrap_err().sqlstate, "22P03");
        let sent = [0, 2, 0, 0, 0x40, 0, 0, 2, 0, 123, 0x11, 0x94];
        assert_eq!(binary(&Type::NUMERIC, &sent).unwrap(), numeric(-12_345, 2));
        assert_eq!(binary(&Type::NUMERIC, &[0, 0, 0, 0, 0, 0, 0, 2]).unwrap(), numeric(0, 2));
        let small = [0, 1, 0xff, 0xfe, 0, 0, 0, 5, 0x13, 0x88];
        assert_eq!(binary(&Type::NUMERIC, &small).unwrap(), numeric(5, 5));
        let large = [0, 1, 0, 1, 0, 0, 0, 0, 0, 1];
        assert_eq!(binary(&Type::NUMERIC, &large).unwrap(), numeric(10_000, 0));
        let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
        assert_eq!(binary(&Type::NUMERIC, &nan).unwrap_err().sqlstate, "22003");
        for end in 0..sent.len() {
            assert!(binary(&Type::NUMERIC, &sent[..end]).is_err());
        }
        assert_eq!(
            binary(&Type::JSONB, b"\x01{}").unwrap(),
            ScalarValue::Utf8View(Some("{}".into()))
        );
    }

    #[test]
    fn arrays() {
        let items = |value: ScalarValue| match value {
            ScalarValue::List(list) => {
                let items = list.value(0);
                (0..items.len())
                    .map(|i| ScalarValue::try_from_array(&items, i).unwrap().to_string())
                    .collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(items(text(&Type::INT4_ARRAY, "{1,NULL,3}").unwrap()), ["1", "NULL", "3"]);
        assert_eq!(
            items(text(&Type::TEXT_ARRAY, r#"{a,"b, \"c\"", d }"#).unwrap()),
            ["a", "b, \"c\"", "d"]
        );
        assert!(items(text(&Type::TEXT_ARRAY, "{}").unwrap()).is_empty());
        for bad in ["", "{", "{a", "{\"a}", "{{1}}", "{\"a\"b}"] {
            assert!(text(&Type::TEXT_ARRAY, bad).is_err(), "{bad}");
        }
        let sent =
            b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff";
        assert_eq!(items(binary(&Type::INT4_ARRAY, sent).unwrap()), ["1", "NULL"]);
        for end in 0..sent.len() {
            assert!(binary(&Type::INT4_ARRAY, &sent[..end]).is_err());
        }
        assert_eq!(items(text(&Type::NUMERIC_ARRAY, "{1.5,2}").unwrap()), ["1.5", "2.0"]);
    }

    #[test]
    fn nulls_are_typed() {
        let value = decode(&Type::INT8, Format::Binary, None, &Zone::new("UTC")).unwrap();
        assert_eq!(value, ScalarValue::Int64(None));
    }
}
