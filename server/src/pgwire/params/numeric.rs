//! Numerics of up to 38 digits, each with its own scale.

use datafusion::common::ScalarValue;

use crate::pgwire::error::WireError;

/// Digits of the widest numeric.
const DIGITS_MAX: usize = 38;

pub(super) fn from_text(text: &str) -> Result<ScalarValue, WireError> {
    let bad = || WireError::value("22P02", "numeric", text);
    let bare = text.trim_start_matches(['+', '-']);
    if ["nan", "inf", "infinity"].iter().any(|special| bare.eq_ignore_ascii_case(special)) {
        return Err(special());
    }
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

pub(super) fn from_binary(bytes: &[u8]) -> Result<ScalarValue, WireError> {
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
        _ => return Err(special()),
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

fn special() -> WireError {
    WireError::error("22003", "numeric NaN and infinity are not supported")
        .with_hint("double precision has them")
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
