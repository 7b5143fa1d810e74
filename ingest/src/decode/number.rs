//! Exact decimal numbers from JSON number text: integers and numerics never pass through a float.

/// `digits * 10^exponent`, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// Reads text that is a JSON number. None if it has more significant digits than an `i128` holds, or an
    /// exponent beyond any use.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, body) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match body.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (body, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        let mut digits: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = i128::from(byte.checked_sub(b'0').filter(|d| *d <= 9)?);
            digits = digits.checked_mul(10)?.checked_add(digit)?;
        }
        if digits == 0 {
            return Some(Self { digits: 0, exponent: 0 });
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        Some(Self { digits: if negative { -digits } else { digits }, exponent })
    }

    /// Times `10^by`.
    pub(crate) fn shifted(self, by: i32) -> Option<Self> {
        Some(Self { digits: self.digits, exponent: self.exponent.checked_add(by)? })
    }

    /// The value as an integer, if it is one and fits.
    pub(crate) fn integer(self) -> Option<i128> {
        if self.exponent >= 0 {
            return self.scaled_up();
        }
        let divisor = power(self.exponent.unsigned_abs())?;
        (self.digits % divisor == 0).then_some(self.digits / divisor)
    }

    /// The greatest integer not above the value.
    pub(crate) fn floor(self) -> Option<i128> {
        if self.exponent >= 0 {
            return self.scaled_up();
        }
        match power(self.exponent.unsigned_abs()) {
            Some(divisor) => Some(self.digits.div_euclid(divisor)),
            None => Some(if self.digits < 0 { -1 } else { 0 }),
        }
    }

    /// The value in units of `10^-scale`, half rounded away from zero as Postgres does. None on overflow.
    pub(crate) fn unscaled(self, scale: u8) -> Option<i128> {
        let shifted = self.shifted(i32::from(scale))?;
        if shifted.exponent >= 0 {
            return shifted.scaled_up();
        }
        let Some(divisor) = power(shifted.exponent.unsigned_abs()) else { return Some(0) };
        let whole = shifted.digits / divisor;
        let rest = (shifted.digits % divisor).unsigned_abs();
        let half_up = rest >= divisor.unsigned_abs().div_ceil(2);
        whole.checked_add(if half_up { shifted.digits.signum() } else { 0 })
    }

    fn scaled_up(self) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        self.digits.checked_mul(power(self.exponent.unsigned_abs())?)
    }
}

/// Whether `value` has at most `precision` digits.
pub(crate) fn fits_precision(value: i128, precision: u8) -> bool {
    power(u32::from(precision)).is_none_or(|bound| value.unsigned_abs() < bound.unsigned_abs())
}

/// Plain digits with an optional minus, the usual integer. None for anything else or on overflow.
#[inline]
pub(crate) fn parse_plain_integer(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

fn parse_exponent(text: &str) -> Option<i32> {
    let value: i32 = text.strip_prefix('+').unwrap_or(text).parse().ok()?;
    (-100_000..=100_000).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact() {
        for (text, expected) in [
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("-9223372036854775808", Some(-9_223_372_036_854_775_808)),
            ("1.0", Some(1)),
            ("1.5e1", Some(15)),
            ("1e3", Some(1000)),
            ("-0", Some(0)),
            ("0e999", Some(0)),
            ("1.5", None),
            ("1e999", None),
            ("1e-1", None),
        ] {
            assert_eq!(Decimal::parse(text).and_then(Decimal::integer), expected, "{text}");
        }
        assert_eq!(parse_plain_integer("-17"), Some(-17));
        assert_eq!(parse_plain_integer("1.0"), None);
    }

    #[test]
    fn numerics_round_half_away_from_zero() {
        for (text, scale, expected) in [
            ("12.34", 2, Some(1234)),
            ("12.345", 2, Some(1235)),
            ("-12.345", 2, Some(-1235)),
            ("12.3449999999999999999999", 2, Some(1234)),
            ("1e-400", 2, Some(0)),
            ("5e-1", 0, Some(1)),
            ("1e38", 2, None),
            ("0.1", 38, Some(10_i128.pow(37))),
        ] {
            assert_eq!(Decimal::parse(text).and_then(|d| d.unscaled(scale)), expected, "{text}");
        }
        assert!(fits_precision(999, 3) && !fits_precision(-1000, 3));
    }
}
