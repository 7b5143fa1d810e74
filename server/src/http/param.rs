//! JSON values as parameters of a statement. Numbers keep every digit.

use axum::http::StatusCode;
use datafusion::scalar::ScalarValue;
use serde_json::value::RawValue;

use super::error::HttpError;

/// Digits that a numeric holds.
const DIGITS_MAX: usize = 38;
/// Significant digits that a double always keeps.
const DOUBLE_DIGITS: usize = 15;

/// A JSON value as a parameter.
pub(super) fn scalar(value: &RawValue) -> Result<ScalarValue, HttpError> {
    let text = value.get();
    let wrong = |what: String| Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", what));
    if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return match number(text) {
            Some(number) => Ok(number),
            None => wrong(format!("parameter {text} has more digits than a number can have here")),
        };
    }
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Null) => Ok(ScalarValue::Null),
        Ok(serde_json::Value::Bool(b)) => Ok(ScalarValue::Boolean(Some(b))),
        Ok(serde_json::Value::String(s)) => Ok(ScalarValue::Utf8(Some(s))),
        Ok(other) => wrong(format!("parameter {other} is not a scalar")),
        Err(e) => wrong(format!("a parameter cannot be read: {e}")),
    }
}

/// A bigint if it is one; a double where that keeps all digits; else a numeric.
fn number(text: &str) -> Option<ScalarValue> {
    if let Ok(n) = text.parse::<i64>() {
        return Some(ScalarValue::Int64(Some(n)));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let is_plain = !text.contains(['e', 'E']);
    let significant = digits.trim_start_matches(['-', '0']).len();
    if is_plain && (fraction.is_empty() || significant > DOUBLE_DIGITS) {
        let length = digits.trim_start_matches('-').len();
        let precision = u8::try_from(length).ok().filter(|p| usize::from(*p) <= DIGITS_MAX)?;
        let scale = i8::try_from(fraction.len()).ok()?;
        return Some(ScalarValue::Decimal128(Some(digits.parse().ok()?), precision, scale));
    }
    text.parse().ok().filter(|x: &f64| x.is_finite()).map(|x| ScalarValue::Float64(Some(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let check = |text: &str, expected: Option<ScalarValue>| {
            let raw = RawValue::from_string(text.to_string()).unwrap();
            assert_eq!(scalar(&raw).ok(), expected, "{text}");
        };
        check("-7", Some(ScalarValue::Int64(Some(-7))));
        check("0.25", Some(ScalarValue::Float64(Some(0.25))));
        check("1e3", Some(ScalarValue::Float64(Some(1000.0))));
        let big = 12_345_678_901_234_567_891_i128;
        check("12345678901234567891", Some(ScalarValue::Decimal128(Some(big), 20, 0)));
        check("-12345678901234567.891", Some(ScalarValue::Decimal128(Some(-big), 20, 3)));
        check(&"9".repeat(39), None);
        check("[1]", None);
        check("\"12\"", Some(ScalarValue::Utf8(Some("12".into()))));
        check("null", Some(ScalarValue::Null));
    }
}
