//! `otus_part(unit, x)`: seconds with their fraction, and the length of a span in seconds. The planner's own
//! `date_part` cuts both. And the length by which spans are compared.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, DurationMicrosecondType, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::Datelike;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{answer, argument};

/// Microseconds of a second and of a minute.
const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
/// Seconds of a day, of a month of 30 days, of a year of 365.25 days: as Postgres counts spans.
const DAY_S: i64 = 86_400;
const MONTH_S: i64 = 30 * DAY_S;
const YEAR_S: i64 = 31_557_600;
/// The Julian day of 1970-01-01.
const JULIAN_EPOCH: f64 = 2_440_588.0;

/// The exact call in place of `date_part(unit, x)`, if the planner's own is not.
pub(crate) fn exact_part(args: &[Expr], of: &DataType) -> Option<Expr> {
    let [Expr::Literal(unit, metadata), x] = args else { return None };
    let is_span = matches!(of, DataType::Interval(_) | DataType::Duration(_));
    let has_clock = is_span || matches!(of, DataType::Timestamp(..) | DataType::Time64(_));
    let unit = unit.try_as_str()??.to_ascii_lowercase();
    let is_time = matches!(of, DataType::Time64(_) | DataType::Time32(_));
    let has_day = !is_span && !is_time;
    let unit = match unit.as_str() {
        "second" | "seconds" if has_clock => "second",
        "millisecond" | "milliseconds" if has_clock => "millisecond",
        "epoch" if is_span => "epoch",
        "decade" | "decades" if !is_time => "decade",
        "century" | "centuries" if !is_time => "century",
        "millennium" | "millennia" if !is_time => "millennium",
        "julian" if has_day => "julian",
        "timezone" if is_instant(of) => "timezone",
        "timezone_hour" if is_instant(of) => "timezone_hour",
        "timezone_minute" if is_instant(of) => "timezone_minute",
        _ => return None,
    };
    let unit = Expr::Literal(ScalarValue::from(unit), metadata.clone());
    Some(ScalarUDF::from(Part::default()).call(vec![unit, x.clone()]))
}

fn is_instant(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, Some(_)))
}

/// `otus_length(interval)`: its nanoseconds, a day counted as 24 hours and a month as 30 days: what spans are
/// compared by.
pub(crate) fn length() -> ScalarUDF {
    ScalarUDF::from(Length(Signature::any(1, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length(Signature);

impl ScalarUDFImpl for Length {
    fn name(&self) -> &'static str {
        "otus_length"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let spans = cast(&argument(&args, 0)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let of = |span: IntervalMonthDayNano| {
            let days = i128::from(span.months) * 30 + i128::from(span.days);
            days * i128::from(DAY_S) * 1_000_000_000 + i128::from(span.nanoseconds)
        };
        let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
        let lengths: Decimal128Array = spans.iter().map(|span| span.map(of)).collect();
        let lengths: ArrayRef = Arc::new(lengths.with_data_type(self.return_type(&[])?));
        answer(&args, lengths)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Part(Signature);

impl Default for Part {
    fn default() -> Self {
        Self(Signature::any(2, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &'static str {
        "otus_part"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(ColumnarValue::Scalar(unit)) = args.args.first() else {
            return datafusion::common::internal_err!("otus_part takes a unit");
        };
        let unit = unit.try_as_str().flatten().unwrap_or_default();
        let values = argument(&args, 1)?;
        let found = match unit {
            "second" | "epoch" => parts(&values, unit == "epoch")?,
            "millisecond" => parts(&values, false)?.unary(|seconds| seconds * 1e3),
            _ => coarse_parts(&values, unit)?,
        };
        answer(&args, Arc::new(found))
    }
}

/// Units that are longer than a year, days counted through, and offsets of zones.
fn coarse_parts(values: &ArrayRef, unit: &str) -> DfResult<Float64Array> {
    if matches!(values.data_type(), DataType::Interval(_)) {
        let spans = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let months = match unit {
            "decade" => 120,
            "century" => 1_200,
            _ => 12_000,
        };
        let of = |span: IntervalMonthDayNano| f64::from(span.months / months);
        return Ok(spans
            .as_primitive::<IntervalMonthDayNanoType>()
            .iter()
            .map(|span| span.map(of))
            .collect());
    }
    let utc = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
    // With its zone a time is cast to what its clocks show.
    let local = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let pairs = utc.as_primitive::<TimestampMicrosecondType>().iter();
    let pairs = pairs.zip(local.as_primitive::<TimestampMicrosecondType>());
    Ok(pairs.map(|(utc, local)| coarse_part(utc?, local?, unit)).collect())
}

#[expect(clippy::cast_precision_loss, reason = "times have fewer digits than floats")]
fn coarse_part(utc: i64, local: i64, unit: &str) -> Option<f64> {
    let offset = (local - utc) / SECOND_US;
    let year = i64::from(chrono::DateTime::from_timestamp_micros(local)?.year());
    // There is no year 0.
    let of_years = |n: i64| if year > 0 { (year + n - 1) / n } else { -((n - year) / n) };
    Some(match unit {
        "decade" => year.div_euclid(10) as f64,
        "century" => of_years(100) as f64,
        "millennium" => of_years(1_000) as f64,
        "julian" => local as f64 / (DAY_S * SECOND_US) as f64 + JULIAN_EPOCH,
        "timezone_hour" => (offset / 3_600) as f64,
        "timezone_minute" => (offset % 3_600 / 60) as f64,
        _ => offset as f64,
    })
}

#[expect(clippy::cast_precision_loss, reason = "times have fewer digits than floats")]
fn parts(values: &ArrayRef, is_epoch: bool) -> DfResult<Float64Array> {
    let seconds = |us: i64| us as f64 / SECOND_US as f64;
    let of_span = |us: i64| seconds(if is_epoch { us } else { us % MINUTE_US });
    Ok(match values.data_type() {
        DataType::Interval(_) => {
            let spans = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
            let length = |span: IntervalMonthDayNano| {
                let months = i64::from(span.months);
                let days =
                    months / 12 * YEAR_S + months % 12 * MONTH_S + i64::from(span.days) * DAY_S;
                let base = if is_epoch { days as f64 } else { 0.0 };
                base + of_span(span.nanoseconds / 1_000)
            };
            spans.iter().map(|span| span.map(length)).collect()
        }
        DataType::Duration(_) => {
            let spans = cast(values, &DataType::Duration(TimeUnit::Microsecond))?;
            spans
                .as_primitive::<DurationMicrosecondType>()
                .iter()
                .map(|us| us.map(of_span))
                .collect()
        }
        DataType::Time64(_) => {
            let times = cast(values, &DataType::Time64(TimeUnit::Microsecond))?;
            let of = |us: i64| seconds(us.rem_euclid(MINUTE_US));
            times.as_primitive::<Time64MicrosecondType>().iter().map(|us| us.map(of)).collect()
        }
        _ => {
            let times = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let of = |us: i64| seconds(us.rem_euclid(MINUTE_US));
            times.as_primitive::<TimestampMicrosecondType>().iter().map(|us| us.map(of)).collect()
        }
    })
}
