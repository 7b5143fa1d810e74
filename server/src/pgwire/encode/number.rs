//! Numbers as Postgres writes them: integers, shortest floats, and numeric in text and in base 10,000.

use std::io::Write as _;

use bytes::{BufMut, BytesMut};

use crate::pgwire::error::WireError;

/// Decimal text of an integer.
pub(super) fn put_int(value: i64, out: &mut BytesMut) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_digits(value.unsigned_abs(), 1, out);
}

/// Decimal text of an unsigned integer, with leading zeros up to `width`.
pub(super) fn put_digits(mut value: u64, width: usize, out: &mut BytesMut) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 || digits.len() - at < width {
        at -= 1;
        // A remainder of ten fits a byte.
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.put_slice(&digits[at..]);
}

/// How many digits floats are shown with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FloatDigits {
    /// The fewest that read back as the same float.
    #[default]
    Shortest,
    /// Of those that a type holds at least, so many less.
    Less(u8),
}

impl FloatDigits {
    /// As the setting `extra_float_digits` says.
    pub(super) fn extra(setting: &str) -> Self {
        match setting.parse::<i32>() {
            Ok(extra @ ..=0) => Self::Less(u8::try_from(extra.unsigned_abs()).unwrap_or(u8::MAX)),
            _ => Self::Shortest,
        }
    }

    fn of(self, held: usize) -> Option<usize> {
        match self {
            Self::Shortest => None,
            Self::Less(less) => Some(held.saturating_sub(usize::from(less)).max(1)),
        }
    }
}

/// Digits that a double holds at least.
const FLOAT8_DIGITS: usize = 15;
/// Digits that a float holds at least.
const FLOAT4_DIGITS: usize = 6;

/// Text of a double; if shortest, it reads back as the same. An exponent from 1e15 on, or from as many digits on as are
/// shown, and below 1e-4.
pub(super) fn put_float8(value: f64, digits: FloatDigits, out: &mut BytesMut) {
    match digits.of(FLOAT8_DIGITS) {
        None => put_float(&format_args!("{value:e}"), Special::of(value), FLOAT8_DIGITS, out),
        Some(n) => put_float(&format_args!("{value:.*e}", n - 1), Special::of(value), n, out),
    }
}

/// The same of a float; an exponent from 1e6 on.
pub(super) fn put_float4(value: f32, digits: FloatDigits, out: &mut BytesMut) {
    let special = Special::of(f64::from(value));
    match digits.of(FLOAT4_DIGITS) {
        None => put_float(&format_args!("{value:e}"), special, FLOAT4_DIGITS, out),
        Some(n) => put_float(&format_args!("{value:.*e}", n - 1), special, n, out),
    }
}

enum Special {
    Nan,
    Infinite(bool),
    Finite,
}

impl Special {
    fn of(value: f64) -> Self {
        if value.is_nan() {
            Self::Nan
        } else if value.is_infinite() {
            Self::Infinite(value > 0.0)
        } else {
            Self::Finite
        }
    }
}

fn put_float(
    exponential: &std::fmt::Arguments<'_>,
    special: Special,
    fixed_below: usize,
    out: &mut BytesMut,
) {
    match special {
        Special::Nan => return out.put_slice(b"NaN"),
        Special::Infinite(true) => return out.put_slice(b"Infinity"),
        Special::Infinite(false) => return out.put_slice(b"-Infinity"),
        Special::Finite => {}
    }
    // `-1.2345e-7`: sign, digits, exponent. 17 digits and a few signs fit.
    let mut text = [0_u8; 40];
    let mut rest = &mut text[..];
    let written = match rest.write_fmt(*exponential) {
        Ok(()) => 40 - rest.len(),
        Err(_) => 0,
    };
    let text = &text[..written];
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let split = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let exponent = text
        .get(split + 1..)
        .and_then(|e| std::str::from_utf8(e).ok())
        .and_then(|e| e.parse::<i32>().ok())
        .unwrap_or(0);
    let mut digits: Vec<u8> = text[..split].iter().copied().filter(|b| *b != b'.').collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if negative {
        out.put_u8(b'-');
    }
    if (-4..i32::try_from(fixed_below).unwrap_or(0)).contains(&exponent) {
        put_fixed(&digits, exponent, out);
    } else {
        put_point(&digits, 1, out);
        out.put_u8(b'e');
        out.put_u8(if exponent < 0 { b'-' } else { b'+' });
        put_digits(u64::from(exponent.unsigned_abs()), 2, out);
    }
}

fn put_fixed(digits: &[u8], exponent: i32, out: &mut BytesMut) {
    match usize::try_from(exponent) {
        Ok(exponent) => put_point(digits, exponent + 1, out),
        Err(_) => {
            out.put_slice(b"0.");
            for _ in exponent + 1..0 {
                out.put_u8(b'0');
            }
            out.put_slice(digits);
        }
    }
}

/// Digits with a point after the first `whole`, which are filled up with zeros.
fn put_point(digits: &[u8], whole: usize, out: &mut BytesMut) {
    if digits.len() > whole {
        out.put_slice(&digits[..whole]);
        out.put_u8(b'.');
        out.put_slice(&digits[whole..]);
    } else {
        out.put_slice(digits);
        out.put_bytes(b'0', whole - digits.len());
    }
}

/// A decimal taken apart: sign, digits, and how many of them stand behind the point.
#[derive(Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    digits: &'a [u8],
    scale: i32,
}

impl<'a> Decimal<'a> {
    /// From the text of the unscaled integer.
    pub(super) fn new(unscaled: &'a str, scale: i8) -> Self {
        let (negative, digits) = match unscaled.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, unscaled),
        };
        Self { negative, digits: digits.as_bytes(), scale: i32::from(scale) }
    }

    /// Digit at 10^`power`.
    fn digit(&self, power: i32) -> u8 {
        usize::try_from(power + self.scale)
            .ok()
            .and_then(|from_end| self.digits.len().checked_sub(from_end + 1))
            .map_or(0, |at| self.digits[at] - b'0')
    }

    /// Power of the first digit.
    fn first_power(&self) -> i32 {
        i32::try_from(self.digits.len()).unwrap_or(i32::MAX) - 1 - self.scale
    }

    /// Text with exactly `scale` digits behind the point.
    pub(super) fn put_text(&self, out: &mut BytesMut) {
        if self.negative {
            out.put_u8(b'-');
        }
        for power in (0..=self.first_power().max(0)).rev() {
            out.put_u8(b'0' + self.digit(power));
        }
        if self.scale > 0 {
            out.put_u8(b'.');
            for power in (-self.scale..0).rev() {
                out.put_u8(b'0' + self.digit(power));
            }
        }
    }

    /// Binary: count of base-10,000 digits, weight of the first, sign, scale, digits.
    pub(super) fn put_binary(&self, out: &mut BytesMut) -> Result<(), WireError> {
        let group = |weight: i32| {
            (0..4).rev().fold(0_i16, |acc, i| acc * 10 + i16::from(self.digit(weight * 4 + i)))
        };
        let last = -(self.scale.max(0) + 3).div_euclid(4);
        let mut groups: Vec<(i32, i16)> = (last..=self.first_power().max(0).div_euclid(4))
            .rev()
            .map(|weight| (weight, group(weight)))
            .skip_while(|(_, group)| *group == 0)
            .collect();
        while groups.last().is_some_and(|(_, group)| *group == 0) {
            groups.pop();
        }
        let too_long = |_| WireError::error("22003", "numeric value has too many digits");
        out.put_i16(i16::try_from(groups.len()).map_err(too_long)?);
        out.put_i16(i16::try_from(groups.first().map_or(0, |g| g.0)).map_err(too_long)?);
        out.put_u16(if self.negative && !groups.is_empty() { 0x4000 } else { 0 });
        out.put_i16(i16::try_from(self.scale.max(0)).map_err(too_long)?);
        for (_, group) in groups {
            out.put_i16(group);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn integers() {
        for n in [0, 7, -7, 10, i64::MAX, i64::MIN] {
            assert_eq!(text(|out| put_int(n, out)), n.to_string());
        }
        assert_eq!(text(|out| put_digits(7, 3, out)), "007");
    }

    /// The right sides are what PostgreSQL 15 answers.
    #[test]
    fn floats() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.234_5e-7, "1.2345e-07"),
            (1e300, "1e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|out| put_float8(value, FloatDigits::Shortest, out)), expected);
        }
        for (value, expected) in
            [(0.1_f32, "0.1"), (123_456.0, "123456"), (1e6, "1e+06"), (1.5e-5, "1.5e-05")]
        {
            assert_eq!(text(|out| put_float4(value, FloatDigits::Shortest, out)), expected);
        }
    }

    /// The right sides are what PostgreSQL 15 answers.
    #[test]
    fn floats_with_fewer_digits() {
        let shown =
            |setting, value| text(|out| put_float8(value, FloatDigits::extra(setting), out));
        for (setting, value, expected) in [
            ("0", 0.1 + 0.2, "0.3"),
            ("0", 1.0 / 3.0, "0.333333333333333"),
            ("0", 123_456_789_012_345.6, "123456789012346"),
            ("0", 999_999_999_999_999.9, "1e+15"),
            ("0", 1e300, "1e+300"),
            ("0", -0.0, "-0"),
            ("0", f64::NAN, "NaN"),
            ("0", f64::MAX, "1.79769313486232e+308"),
            ("-10", 123_456.7, "1.2346e+05"),
            ("-10", 0.000_012_345_67, "1.2346e-05"),
            ("-15", 2.0 / 3.0, "0.7"),
            ("-15", 19.0, "2e+01"),
            ("1", 0.1 + 0.2, "0.30000000000000004"),
            ("3", 0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(shown(setting, value), expected, "{setting} {value}");
        }
        let shown = |value| text(|out| put_float4(value, FloatDigits::extra("0"), out));
        assert_eq!(
            (shown(1.0 / 3.0), shown(1_234_567.0)),
            ("0.333333".into(), "1.23457e+06".into())
        );
    }

    #[test]
    fn numerics() {
        for (unscaled, scale, expected) in [
            ("0", 0, "0"),
            ("0", 2, "0.00"),
            ("5", 2, "0.05"),
            ("-12345", 2, "-123.45"),
            ("12", -3, "12000"),
            ("99999999999999999999999999999999999999", 0, "99999999999999999999999999999999999999"),
        ] {
            assert_eq!(text(|out| Decimal::new(unscaled, scale).put_text(out)), expected);
        }
    }

    /// The right sides are what PostgreSQL 15 sends for the same numbers.
    #[test]
    fn binary_numerics() {
        for (unscaled, scale, expected) in [
            ("0", 2, &[0, 0, 0, 0, 0, 0, 0, 2][..]),
            ("1", 0, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("-12345", 2, &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 123, 0x11, 0x94]),
            ("5", 5, &[0, 1, 0xff, 0xfe, 0, 0, 0, 5, 0x13, 0x88]),
            ("10000", 0, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 1]),
            ("12", -3, &[0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0x07, 0xd0]),
        ] {
            let mut out = BytesMut::new();
            Decimal::new(unscaled, scale).put_binary(&mut out).unwrap();
            assert_eq!(&out[..], expected, "{unscaled} {scale}");
        }
    }
}
