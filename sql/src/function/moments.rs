//! Functions of Postgres that make times and intervals, and ask whether spans of time overlap.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, IntervalMonthDayNanoArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use otus_engine::clock::Clock;

use super::plain::{clock_us, day, plain, text, whole};
use super::time_zone::{instant, local};
use super::zoned::shifted;
use super::{answer, argument, zone_named, zoned_us};
use crate::datetime::{FixedOrNamed, zone_of};
use crate::error::{SqlError, SqlResult, sqlstate};

const SPAN: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    use DataType as T;
    let clock = vec![T::Int64, T::Int64, T::Float64];
    let span = [vec![T::Int64; 6], vec![T::Float64]].concat();
    vec![
        plain("make_time", clock, T::Time64(TimeUnit::Microsecond), make_time),
        plain("make_interval", span, SPAN, make_interval),
        ScalarUDF::from(MakeInstant::default()),
        ScalarUDF::from(Overlaps(Signature::user_defined(Volatility::Immutable))),
    ]
}

fn float(args: &[ArrayRef], index: usize, row: usize) -> Option<f64> {
    let array = args.get(index)?.as_primitive_opt::<Float64Type>()?;
    array.is_valid(row).then(|| array.value(row))
}

fn make_time(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let time = |row| -> DfResult<Option<i64>> {
        let (Some(hour), Some(minute), Some(second)) =
            (whole(args, 0, row), whole(args, 1, row), float(args, 2, row))
        else {
            return Ok(None);
        };
        clock_us(hour, minute, second).map(Some)
    };
    let times: Vec<Option<i64>> = (0..rows).map(time).collect::<DfResult<_>>()?;
    Ok(Arc::new(Time64MicrosecondArray::from(times)))
}

/// `make_interval(years, months, weeks, days, hours, mins, secs)`.
fn make_interval(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let out = || SqlError::new(sqlstate::DATETIME_OVERFLOW, "interval out of range");
    let span = |row| -> DfResult<Option<IntervalMonthDayNano>> {
        let parts: Option<Vec<i64>> = (0..6).map(|index| whole(args, index, row)).collect();
        let (Some(parts), Some(seconds)) = (parts, float(args, 6, row)) else { return Ok(None) };
        Ok(Some(span_of(&parts, seconds).ok_or_else(out)?))
    };
    let spans: Vec<Option<IntervalMonthDayNano>> = (0..rows).map(span).collect::<DfResult<_>>()?;
    Ok(Arc::new(IntervalMonthDayNanoArray::from(spans)))
}

#[expect(clippy::cast_possible_truncation, reason = "checked against the bounds before")]
fn span_of(parts: &[i64], seconds: f64) -> Option<IntervalMonthDayNano> {
    let [years, months, weeks, days, hours, minutes] = *parts else { return None };
    let months = years.checked_mul(12)?.checked_add(months)?;
    let days = weeks.checked_mul(7)?.checked_add(days)?;
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let micros = (seconds * 1e6).round();
    if !micros.is_finite() || micros.abs() > 9e18 {
        return None;
    }
    let micros = minutes.checked_mul(60_000_000)?.checked_add(micros as i64)?;
    Some(IntervalMonthDayNano::new(
        i32::try_from(months).ok()?,
        i32::try_from(days).ok()?,
        micros.checked_mul(1_000)?,
    ))
}

/// `make_timestamptz(year, month, day, hour, min, sec [, zone])`, in the session's zone if none is given.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MakeInstant(Signature);

impl Default for MakeInstant {
    fn default() -> Self {
        use DataType as T;
        let plain = [vec![T::Int64; 5], vec![T::Float64]].concat();
        let zoned = [plain.clone(), vec![T::Utf8]].concat();
        let forms = vec![TypeSignature::Exact(plain), TypeSignature::Exact(zoned)];
        Self(Signature::one_of(forms, Volatility::Stable))
    }
}

impl ScalarUDFImpl for MakeInstant {
    fn name(&self) -> &'static str {
        "make_timestamptz"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(instant())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays: Vec<ArrayRef> =
            (0..args.args.len()).map(|i| argument(&args, i)).collect::<DfResult<_>>()?;
        let session = match args.config_options.execution.time_zone.as_deref() {
            None | Some("" | "+00:00") => Tz::UTC,
            Some(name) => zone_named(name)?,
        };
        let has_zone = arrays.len() > 6;
        let at = |row: usize| -> DfResult<Option<i64>> {
            let part = |index| whole(&arrays, index, row);
            let (Some(y), Some(m), Some(d), Some(hour), Some(minute), Some(second)) =
                (part(0), part(1), part(2), part(3), part(4), float(&arrays, 5, row))
            else {
                return Ok(None);
            };
            let zone = match text(&arrays, 6, row) {
                Some(name) => given_zone(name)?,
                None if has_zone => return Ok(None),
                None => FixedOrNamed::Named(session),
            };
            let midnight = day(y, m, d)?.and_time(chrono::NaiveTime::MIN);
            let clock = chrono::TimeDelta::microseconds(clock_us(hour, minute, second)?);
            Ok(midnight.checked_add_signed(clock).map(|local| zoned_us(local, zone)))
        };
        let rows = arrays.first().map_or(args.number_rows, |array| array.len());
        let instants: Vec<Option<i64>> = (0..rows).map(at).collect::<DfResult<_>>()?;
        let instants = TimestampMicrosecondArray::from(instants).with_timezone("UTC");
        answer(&args, Arc::new(instants))
    }
}

fn given_zone(name: &str) -> SqlResult<FixedOrNamed> {
    match zone_named(name) {
        Ok(zone) => Ok(FixedOrNamed::Named(zone)),
        Err(unknown) => zone_of(name).ok_or(unknown),
    }
}

/// `overlaps(a, b, c, d)`, as `(a, b) OVERLAPS (c, d)` is written: each pair is a start and an end, or a start and a
/// length.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Overlaps(Signature);

impl ScalarUDFImpl for Overlaps {
    fn name(&self) -> &'static str {
        "overlaps"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        use DataType as T;
        let wrong = || crate::aggregate::no_such_function("overlaps", types);
        if types.len() != 4 {
            return Err(wrong());
        }
        let is_instant = types.iter().any(|t| matches!(t, T::Timestamp(_, Some(_))));
        let is_time = types.iter().any(|t| matches!(t, T::Time64(_) | T::Time32(_)));
        types
            .iter()
            .enumerate()
            .map(|(place, given)| match given {
                T::Interval(_) if place % 2 == 1 => Ok(SPAN),
                T::Time64(_) | T::Time32(_) => Ok(T::Time64(TimeUnit::Microsecond)),
                T::Utf8 | T::Utf8View | T::LargeUtf8 | T::Null if is_time => {
                    Ok(T::Time64(TimeUnit::Microsecond))
                }
                T::Timestamp(..)
                | T::Date32
                | T::Date64
                | T::Utf8
                | T::Utf8View
                | T::LargeUtf8
                | T::Null
                    if !is_time =>
                {
                    Ok(if is_instant { instant() } else { local() })
                }
                _ => Err(wrong()),
            })
            .collect()
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays: Vec<ArrayRef> =
            (0..args.args.len()).map(|i| argument(&args, i)).collect::<DfResult<_>>()?;
        let [a, b, c, d] = arrays.as_slice() else {
            return datafusion::common::internal_err!("overlaps takes four arguments");
        };
        let zone = match args.config_options.execution.time_zone.as_deref() {
            Some(name) if *a.data_type() == instant() => zone_named(name).unwrap_or(Tz::UTC),
            _ => Tz::UTC,
        };
        let (a, b) = bounds(a, b, zone)?;
        let (c, d) = bounds(c, d, zone)?;
        let spans = a.into_iter().zip(b).zip(c.into_iter().zip(d));
        let found: BooleanArray = spans.map(|((a, b), (c, d))| overlap((a, b), (c, d))).collect();
        answer(&args, Arc::new(found))
    }
}

type Bounds = (Vec<Option<i64>>, Vec<Option<i64>>);

/// Starts and ends in microseconds.
fn bounds(starts: &ArrayRef, ends: &ArrayRef, zone: Tz) -> DfResult<Bounds> {
    let micros = |array: &ArrayRef| -> DfResult<Vec<Option<i64>>> {
        let plain = match array.data_type() {
            DataType::Time64(_) => cast(array, &DataType::Int64)?,
            _ => cast(&cast(array, &local())?, &DataType::Int64)?,
        };
        Ok(plain.as_primitive::<arrow::datatypes::Int64Type>().iter().collect())
    };
    let starts = micros(starts)?;
    let Some(spans) = ends.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return Ok((starts, micros(ends)?));
    };
    let end = |(start, span): (&Option<i64>, Option<IntervalMonthDayNano>)| {
        start.zip(span).map(|(start, span)| shifted(start, span, zone)).transpose()
    };
    let ends = starts.iter().zip(spans.iter()).map(end).collect::<SqlResult<_>>()?;
    Ok((starts, ends))
}

/// Whether two spans share a moment; a start does, an end does not. Of a span with one known bound that bound counts.
fn overlap(first: (Option<i64>, Option<i64>), second: (Option<i64>, Option<i64>)) -> Option<bool> {
    let ordered = |(start, end): (Option<i64>, Option<i64>)| match (start, end) {
        (None, end) => end.map(|end| (end, None)),
        (Some(start), Some(end)) if start > end => Some((end, Some(start))),
        (Some(start), end) => Some((start, end)),
    };
    let ((a, a_end), (b, b_end)) = (ordered(first)?, ordered(second)?);
    let (earlier_end, later, later_end) = match a.cmp(&b) {
        std::cmp::Ordering::Equal => return a_end.and(b_end).map(|_| true),
        std::cmp::Ordering::Less => (a_end, b, b_end),
        std::cmp::Ordering::Greater => (b_end, a, a_end),
    };
    match earlier_end? {
        end if later < end => Some(true),
        _ => later_end.map(|_| false),
    }
}

/// `clock_timestamp()`: the time at which it is asked.
pub(super) fn clock_timestamp(clock: Arc<dyn Clock>) -> ScalarUDF {
    ScalarUDF::from(ClockTime { clock, signature: Signature::nullary(Volatility::Volatile) })
}

#[derive(Debug)]
struct ClockTime {
    clock: Arc<dyn Clock>,
    signature: Signature,
}

impl PartialEq for ClockTime {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}
impl Eq for ClockTime {}
impl Hash for ClockTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for ClockTime {
    fn name(&self) -> &'static str {
        "clock_timestamp"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(instant())
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let us = Some(self.clock.now_us());
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(us, Some("UTC".into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_overlap_as_in_postgres() {
        let check = |a: [Option<i64>; 4], expected: Option<bool>| {
            assert_eq!(overlap((a[0], a[1]), (a[2], a[3])), expected, "{a:?}");
            assert_eq!(overlap((a[2], a[3]), (a[0], a[1])), expected, "{a:?} turned");
        };
        check([Some(1), Some(5), Some(4), Some(9)], Some(true));
        check([Some(1), Some(4), Some(4), Some(9)], Some(false));
        check([Some(5), Some(1), Some(4), Some(9)], Some(true));
        check([Some(4), Some(4), Some(4), Some(4)], Some(true));
        check([Some(1), None, Some(4), Some(9)], None);
        check([Some(1), Some(5), Some(4), None], Some(true));
        check([None, None, Some(4), Some(9)], None);
    }

    #[test]
    fn intervals_of_parts() {
        let span = IntervalMonthDayNano::new(14, 24, 3_661_500_000_000);
        assert_eq!(span_of(&[1, 2, 3, 3, 1, 1], 1.5), Some(span));
        assert_eq!(span_of(&[i64::MAX, 0, 0, 0, 0, 0], 0.0), None);
        assert_eq!(span_of(&[0; 6], f64::NAN), None);
    }
}
