//! What a session whose zone is not UTC does with instants: `otus_shown(time, zone)` is the text of one, as
//! Postgres writes it, and `otus_shift(time, interval, zone)` moves one by the calendar of the zone.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Days, Months, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::time_zone::{instant, instant_us, local, local_us, zone_named};
use super::{answer, argument};
use crate::error::{SqlError, SqlResult, sqlstate};

/// `otus_shown(time, zone)`: `2026-11-22 06:13:01.628+00`; a time without zone has no offset. Other values are written as
/// in [`super::shown`].
pub(crate) fn shown() -> ScalarUDF {
    ScalarUDF::from(Shown(Signature::any(2, Volatility::Immutable)))
}

/// `otus_shift(time, interval, zone)`: months and days by the zone's calendar, the rest by the clock.
pub(crate) fn shift() -> ScalarUDF {
    ScalarUDF::from(Shift(Signature::any(3, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shown(Signature);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift(Signature);

fn zone_of(args: &ScalarFunctionArgs) -> DfResult<Tz> {
    let Some(ColumnarValue::Scalar(zone)) = args.args.last() else {
        return datafusion::common::internal_err!("a zone is expected");
    };
    Ok(zone_named(zone.try_as_str().flatten().unwrap_or_default())?)
}

fn out_of_range() -> SqlError {
    SqlError::new(sqlstate::DATETIME_OVERFLOW, "timestamp out of range")
}

fn utc(us: i64) -> SqlResult<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp_micros(us).map(|t| t.naive_utc()).ok_or_else(out_of_range)
}

impl ScalarUDFImpl for Shown {
    fn name(&self) -> &'static str {
        "otus_shown"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let zone = zone_of(&args)?;
        let times = argument(&args, 0)?;
        answer(&args, Arc::new(texts(&times, zone)?))
    }
}

/// The texts of values, instants in a zone.
fn texts(values: &ArrayRef, zone: Tz) -> DfResult<StringViewArray> {
    if let DataType::Struct(_) = values.data_type() {
        let record = values.as_struct();
        let fields = record.columns().iter().map(|field| texts(field, zone));
        return Ok(super::shown::records(record, &fields.collect::<DfResult<Vec<_>>>()?));
    }
    let is_instant = matches!(values.data_type(), DataType::Timestamp(_, Some(_)));
    if !matches!(values.data_type(), DataType::Timestamp(..)) {
        return super::shown::texts(values);
    }
    let plain = cast(values, &local())?;
    let texts = plain.as_primitive::<TimestampMicrosecondType>().iter().map(|us| {
        us.map(|us| if is_instant { instant_text(us, zone) } else { local_text(us) }).transpose()
    });
    Ok(texts.collect::<SqlResult<StringViewArray>>()?)
}

/// A time as JSON has it, `2026-11-22T06:13:01.628+00:00`; an instant if a zone is given.
pub(super) fn time_text(us: i64, zone: Option<&str>) -> SqlResult<String> {
    let Some(zone) = zone else { return Ok(local_text(us)?.replacen(' ', "T", 1)) };
    let zone = if zone == "+00:00" { Tz::UTC } else { zone_named(zone)? };
    let mut text = instant_text(us, zone)?.replacen(' ', "T", 1);
    let has_minutes = text.len().checked_sub(3).and_then(|at| text.as_bytes().get(at));
    if has_minutes != Some(&b':') {
        text.push_str(":00");
    }
    Ok(text)
}

fn local_text(us: i64) -> SqlResult<String> {
    let at = utc(us)?;
    let mut text = at.format("%Y-%m-%d %H:%M:%S").to_string();
    let fraction = at.nanosecond() / 1_000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    Ok(text)
}

fn instant_text(us: i64, zone: Tz) -> SqlResult<String> {
    let local = local_us(utc(us)?, zone);
    let mut text = local_text(local)?;
    let seconds = (local - us) / 1_000_000;
    let (hours, rest) = (seconds.abs() / 3_600, seconds.abs() % 3_600);
    let sign = if seconds < 0 { '-' } else { '+' };
    let _written = write!(text, "{sign}{hours:02}");
    for part in
        [rest / 60, rest % 60].iter().take(if rest % 60 > 0 { 2 } else { usize::from(rest > 0) })
    {
        let _written = write!(text, ":{part:02}");
    }
    Ok(text)
}

impl ScalarUDFImpl for Shift {
    fn name(&self) -> &'static str {
        "otus_shift"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let zone = zone_of(&args)?;
        let times = cast(&argument(&args, 0)?, &local())?;
        let spans = cast(&argument(&args, 1)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
        let pairs = times.as_primitive::<TimestampMicrosecondType>().iter().zip(spans.iter());
        let moved = pairs
            .map(|(us, span)| us.zip(span).map(|(us, span)| shifted(us, span, zone)).transpose());
        let moved = moved.collect::<SqlResult<TimestampMicrosecondArray>>()?;
        answer(&args, Arc::new(moved.with_timezone("UTC")))
    }
}

pub(super) fn shifted(us: i64, span: IntervalMonthDayNano, zone: Tz) -> SqlResult<i64> {
    let mut us = us;
    if span.months != 0 || span.days != 0 {
        let local = utc(local_us(utc(us)?, zone))?;
        let months = Months::new(span.months.unsigned_abs());
        let days = Days::new(u64::from(span.days.unsigned_abs()));
        let local = match span.months < 0 {
            true => local.checked_sub_months(months),
            false => local.checked_add_months(months),
        };
        let local = local.and_then(|local| match span.days < 0 {
            true => local.checked_sub_days(days),
            false => local.checked_add_days(days),
        });
        us = instant_us(local.ok_or_else(out_of_range)?, zone);
    }
    us.checked_add(span.nanoseconds / 1_000).ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn texts_of_instants() {
        for (at, zone, text) in [
            ("2026-11-22T06:13:01.628Z", Tz::UTC, "2026-11-22 06:13:01.628+00"),
            ("2026-11-22T06:13:01Z", Tz::Asia__Kolkata, "2026-11-22 11:43:01+05:30"),
            (
                "2026-11-22T06:13:01.000001Z",
                Tz::Pacific__Marquesas,
                "2026-11-21 20:43:01.000001-09:30",
            ),
            ("1880-01-01T00:00:00Z", Tz::Europe__Berlin, "1880-01-01 00:53:28+00:53:28"),
        ] {
            assert_eq!(instant_text(us(at), zone).unwrap(), text);
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let berlin = |at: &str, months, days, nanoseconds| {
            let span = IntervalMonthDayNano { months, days, nanoseconds };
            let moved = shifted(us(at), span, Tz::Europe__Berlin).unwrap();
            instant_text(moved, Tz::Europe__Berlin).unwrap()
        };
        let hour = 3_600_000_000_000;
        assert_eq!(berlin("2026-03-28T11:00:00Z", 0, 1, 0), "2026-03-29 12:00:00+02");
        assert_eq!(berlin("2026-03-28T11:00:00Z", 0, 0, 24 * hour), "2026-03-29 13:00:00+02");
        assert_eq!(berlin("2026-10-25T10:00:00Z", 0, -1, 0), "2026-10-24 11:00:00+02");
        assert_eq!(berlin("2026-01-31T11:00:00Z", 1, 0, hour), "2026-02-28 13:00:00+01");
        assert_eq!(berlin("2026-03-31T10:00:00Z", -1, 0, 0), "2026-02-28 12:00:00+01");
    }
}
