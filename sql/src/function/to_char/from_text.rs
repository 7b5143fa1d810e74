//! `to_timestamp(text, pattern)` and `to_date(text, pattern)`, under names of their own: those of the planner's
//! library read other patterns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use otus_engine::time::SECOND_US;

use super::reading::{Reading, read};
use super::time::Format;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::time_zone::{instant, instant_us, zone_named};

/// Names of the functions in SQL and in plans.
pub(crate) const FROM_TEXT: [(&str, &str); 2] =
    [("to_timestamp", "otus_to_timestamp"), ("to_date", "otus_to_date")];

/// Both functions: `(text, pattern [, zone])`, the zone for texts that name none.
pub(in crate::function) fn all() -> [ScalarUDF; 2] {
    [false, true].map(|date| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(FromText { date, signature })
    })
}

/// `to_timestamp(seconds)`: the planner's library counts nanoseconds, which end in the year 2262.
pub(in crate::function) fn of_seconds() -> ScalarUDF {
    ScalarUDF::from(OfSeconds(Signature::user_defined(Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSeconds(Signature);

impl ScalarUDFImpl for OfSeconds {
    fn name(&self) -> &'static str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match types {
            [seconds] if seconds.is_signed_integer() => Ok(vec![DataType::Int64]),
            [seconds] if seconds.is_numeric() || crate::function::is_text(seconds) => {
                Ok(vec![DataType::Float64])
            }
            _ => Err(crate::aggregate::no_such_function("to_timestamp", types)),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [seconds] = args.args.as_slice() else {
            return datafusion::common::internal_err!("to_timestamp takes one argument");
        };
        let constant = matches!(seconds, ColumnarValue::Scalar(_));
        let values = seconds.to_array(if constant { 1 } else { args.number_rows })?;
        let out = |value: &dyn std::fmt::Display| {
            SqlError::new(
                sqlstate::DATETIME_OVERFLOW,
                format!("timestamp out of range: \"{value}\" seconds"),
            )
        };
        let times: TimestampMicrosecondArray = match values.data_type() {
            DataType::Int64 => values
                .as_primitive::<Int64Type>()
                .iter()
                .map(|n| n.map(|n| whole(n).ok_or_else(|| out(&n))).transpose())
                .collect::<SqlResult<_>>()?,
            _ => values
                .as_primitive::<Float64Type>()
                .iter()
                .map(|n| n.map(|n| rounded(n).ok_or_else(|| out(&n))).transpose())
                .collect::<SqlResult<_>>()?,
        };
        let times = times.with_timezone("UTC");
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&times, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(times)))
    }
}

/// The years 4713 before to 9999 of the common era, as seconds.
const SECONDS: std::ops::RangeInclusive<i64> = -210_866_803_200..=253_402_300_799;

fn whole(seconds: i64) -> Option<i64> {
    SECONDS.contains(&seconds).then(|| seconds * SECOND_US)
}

fn rounded(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    (-210_866_803_200e6..=253_402_300_799_999_999.0).contains(&micros).then_some(micros as i64)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FromText {
    date: bool,
    signature: Signature,
}

impl FromText {
    fn names(&self) -> (&'static str, &'static str) {
        let [time, date] = FROM_TEXT;
        if self.date { date } else { time }
    }

    fn value(&self, reading: Reading, zone: Tz) -> i64 {
        match reading.offset_s {
            Some(offset) => reading.local.and_utc().timestamp_micros() - offset * SECOND_US,
            None => instant_us(reading.local, zone),
        }
    }

    fn days(reading: Reading) -> i32 {
        let days = reading.local.date().signed_duration_since(NaiveDate::default()).num_days();
        i32::try_from(days).unwrap_or_default()
    }

    fn read_all(
        &self,
        texts: &StringViewArray,
        format: impl Fn(usize) -> SqlResult<Option<Arc<Format>>>,
        zone: Tz,
    ) -> SqlResult<ArrayRef> {
        let (function, _) = self.names();
        let readings = (0..texts.len()).map(|row| match (texts.is_valid(row), format(row)?) {
            (true, Some(format)) => read(&format, texts.value(row), function).map(Some),
            _ => Ok(None),
        });
        if self.date {
            let days = readings.map(|r| r.map(|r| r.map(Self::days)));
            return Ok(Arc::new(days.collect::<SqlResult<Date32Array>>()?));
        }
        let values = readings.map(|r| r.map(|r| r.map(|r| self.value(r, zone))));
        let values = values.collect::<SqlResult<TimestampMicrosecondArray>>()?;
        Ok(Arc::new(values.with_timezone("UTC")))
    }
}

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &str {
        self.names().1
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let texts = types.iter().all(crate::function::is_text);
        match types.len() {
            2 | 3 if texts => Ok(vec![DataType::Utf8View; types.len()]),
            _ => Err(crate::aggregate::no_such_function(self.names().0, types)),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(if self.date { DataType::Date32 } else { instant() })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let [text, pattern, zone @ ..] = args.args.as_slice() else {
            return datafusion::common::internal_err!("a text is read by a pattern");
        };
        let zone = match zone {
            [ColumnarValue::Scalar(zone)] => match zone.try_as_str().flatten() {
                Some(name) => zone_named(name)?,
                None => Tz::UTC,
            },
            _ => Tz::UTC,
        };
        let texts = cast(&text.to_array(rows)?, &DataType::Utf8View)?;
        let texts = texts.as_string_view();
        let format = |pattern: &str| Format::new(pattern).map(|format| Some(Arc::new(format)));
        let times = match pattern {
            ColumnarValue::Scalar(pattern) => {
                let format = pattern.try_as_str().flatten().map_or(Ok(None), format)?;
                self.read_all(texts, |_| Ok(format.clone()), zone)?
            }
            ColumnarValue::Array(patterns) => {
                let patterns = cast(patterns, &DataType::Utf8View)?;
                let patterns = patterns.as_string_view();
                let own = |row| match patterns.is_valid(row) {
                    true => format(patterns.value(row)),
                    false => Ok(None),
                };
                self.read_all(texts, own, zone)?
            }
        };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&times, 0)?));
        }
        Ok(ColumnarValue::Array(times))
    }
}
