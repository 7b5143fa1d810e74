//! `to_number(text, pattern)`: the digits of a text, its point and its sign where the pattern has them.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::{answer, argument};

/// Digits of a numeric, and those after the point where the pattern is no constant.
const DIGITS: u8 = 38;
const SCALE: i8 = 10;

/// The function.
pub(in crate::function) fn to_number() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    ScalarUDF::from(ToNumber(signature))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToNumber(Signature);

impl ScalarUDFImpl for ToNumber {
    fn name(&self) -> &'static str {
        "to_number"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Decimal128(DIGITS, SCALE))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let pattern = args.scalar_arguments.get(1).copied().flatten();
        let scale = match pattern.and_then(|pattern| pattern.try_as_str()).flatten() {
            Some(pattern) => Pattern::of(pattern).scale(),
            None => SCALE,
        };
        Ok(Arc::new(Field::new(self.name(), DataType::Decimal128(DIGITS, scale), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let to = args.return_type().clone();
        let DataType::Decimal128(_, scale) = to else {
            return datafusion::common::internal_err!("to_number gives numerics");
        };
        let texts = cast(&argument(&args, 0)?, &DataType::Utf8)?;
        let patterns = cast(&argument(&args, 1)?, &DataType::Utf8)?;
        let (texts, patterns) = (texts.as_string::<i32>(), patterns.as_string::<i32>());
        let rows = texts.len().min(patterns.len());
        let numbers = (0..rows).map(|row| {
            let is_null = texts.is_null(row) || patterns.is_null(row);
            if is_null || patterns.value(row).is_empty() {
                return Ok(None);
            }
            Pattern::of(patterns.value(row)).number(texts.value(row), scale).map(Some)
        });
        let numbers: Decimal128Array = numbers.collect::<SqlResult<Vec<_>>>()?.into();
        answer(&args, Arc::new(numbers.with_data_type(to)))
    }
}

/// How many digits a pattern takes.
#[derive(Debug, Default)]
struct Pattern {
    before: usize,
    after: usize,
    point: bool,
    angles: bool,
    /// Places by which a number is divided.
    shifted: usize,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        let upper = text.to_ascii_uppercase();
        let mut is_shifted = false;
        found.angles = upper.contains("PR");
        for c in upper.chars() {
            match c {
                '9' | '0' if found.point => found.after += 1,
                '9' | '0' => {
                    found.before += 1;
                    found.shifted += usize::from(is_shifted);
                }
                '.' | 'D' => found.point = true,
                'V' => is_shifted = true,
                _ => {}
            }
        }
        found
    }

    fn scale(&self) -> i8 {
        i8::try_from(self.after + self.shifted).unwrap_or(SCALE).min(30)
    }

    fn number(&self, text: &str, scale: i8) -> SqlResult<i128> {
        let (mut before, mut after) = (String::new(), String::new());
        let (mut negative, mut in_fraction) = (false, false);
        for c in text.chars() {
            match c {
                '0'..='9' if in_fraction && after.len() < self.after => after.push(c),
                '0'..='9' if !in_fraction && before.len() < self.before => before.push(c),
                '.' if self.point => in_fraction = true,
                '.' => break,
                '-' => negative = true,
                '<' if self.angles => negative = true,
                _ => {}
            }
        }
        let wrong = || {
            let message = format!("invalid input syntax for type numeric: \"{text}\"");
            SqlError::new(sqlstate::INVALID_TEXT, message)
        };
        let out = || SqlError::new(sqlstate::OUT_OF_RANGE, "numeric field overflow");
        if before.is_empty() && after.is_empty() {
            return Err(wrong());
        }
        let places = after.len() + self.shifted;
        let missing = usize::try_from(scale).ok().and_then(|scale| scale.checked_sub(places));
        let digits = format!("{before}{after}{}", "0".repeat(missing.unwrap_or(0)));
        let value: i128 = digits.parse().map_err(|_| out())?;
        Ok(if negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_by_the_pattern() {
        for (text, pattern, scale, number) in [
            ("12,454.8-", "99G999D9S", 1, -124_548),
            ("1,234.56", "9,999.99", 2, 123_456),
            ("-12", "S99", 0, -12),
            ("<7>", "9PR", 0, -7),
            ("$ 5.5", "L9.99", 2, 550),
            ("1234", "99V99", 2, 1_234),
        ] {
            let read = Pattern::of(pattern);
            assert_eq!(read.scale(), scale, "{pattern}");
            assert_eq!(read.number(text, scale).unwrap(), number, "{text}");
        }
        assert_eq!(Pattern::of("99").number("ab", 0).unwrap_err().sqlstate, "22P02");
    }
}
