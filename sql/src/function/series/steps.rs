//! The values of a series one by one, as Postgres counts them: each is the one before plus the step.

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{DateTime, Days, LocalResult, Months, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use std::sync::Arc;

use crate::calendar::{local_of, offset_seconds};
use crate::error::{SqlError, sqlstate};
use crate::function::{is_text, zone_named};

use super::super::time_bucket::micros;

/// A series that is being counted.
#[derive(Debug, Clone)]
pub(super) struct Series {
    next: Option<i64>,
    stop: i64,
    step: Step,
    /// Whether `stop` itself belongs to it.
    closed: bool,
    data_type: DataType,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Integer(i64),
    Interval { months: i32, days: i32, micros: i64, zone: Tz },
}

/// Digits of a numeric.
const DIGITS: u8 = 38;
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

fn invalid(message: String) -> DataFusionError {
    DataFusionError::from(SqlError::new(sqlstate::INVALID_PARAMETER, message))
}

/// The types of the arguments as they are taken; `None` if they are none of a series.
pub(super) fn argument_types(types: &[DataType]) -> Option<Vec<DataType>> {
    let integer = |t: &DataType| t.is_integer() || t.is_null();
    if (1..=3).contains(&types.len()) && types.iter().all(integer) {
        let narrow = |t: &DataType| {
            matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Null)
        };
        let taken = if types.iter().all(narrow) { DataType::Int32 } else { DataType::Int64 };
        return Some(vec![taken; types.len()]);
    }
    if let Some(scale) = numeric_scale(types) {
        return Some(vec![DataType::Decimal128(DIGITS, scale); types.len()]);
    }
    let (start, stop, step, zone) = match types {
        [start, stop, step] => (start, stop, step, None),
        [start, stop, step, zone] => (start, stop, step, Some(zone)),
        _ => return None,
    };
    let time =
        |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    let known = [start, stop].into_iter().all(|t| time(t) || is_text(t));
    let interval = matches!(step, DataType::Interval(_)) || is_text(step);
    if !known || !interval || zone.is_some_and(|z| !is_text(z)) {
        return None;
    }
    // Without a zone only if both are, as far as their types are known. Dates are days of the session.
    let naive = |t: &DataType| matches!(t, DataType::Timestamp(_, None));
    let zoned = zone.is_some()
        || [start, stop].into_iter().any(|t| !naive(t) && !is_text(t))
        || [start, stop].into_iter().all(is_text);
    let mut taken = vec![micros(zoned), micros(zoned), INTERVAL];
    taken.extend(zone.map(|_| DataType::Utf8));
    Some(taken)
}

/// Digits after the point of a series of numerics and integers.
fn numeric_scale(types: &[DataType]) -> Option<i8> {
    let is_numeric = |t: &DataType| matches!(t, DataType::Decimal128(..));
    if !(2..=3).contains(&types.len()) || !types.iter().any(is_numeric) {
        return None;
    }
    types.iter().try_fold(0, |most, t| match t {
        DataType::Decimal128(_, scale) => Some(most.max(*scale)),
        t if t.is_integer() || t.is_null() => Some(most),
        _ => None,
    })
}

/// A series of numerics, by their digits.
fn of_numerics(args: &[ScalarValue], closed: bool) -> DfResult<Option<Series>> {
    let digits = |a: &ScalarValue| match a {
        ScalarValue::Decimal128(Some(v), ..) => i64::try_from(*v).ok(),
        _ => None,
    };
    let Some(numbers) = args.iter().map(digits).collect::<Option<Vec<i64>>>() else {
        let message = "a series of numerics has up to 18 digits";
        return Err(SqlError::new(sqlstate::OUT_OF_RANGE, message).into());
    };
    let data_type = args.first().map_or(DataType::Int64, ScalarValue::data_type);
    let unit = match &data_type {
        DataType::Decimal128(_, scale) => {
            u32::try_from(*scale).ok().and_then(|scale| 10_i64.checked_pow(scale))
        }
        _ => None,
    };
    let (start, stop, step) = match (numbers.as_slice(), unit) {
        ([start, stop], Some(unit)) => (*start, *stop, unit),
        ([start, stop, step], _) => (*start, *stop, *step),
        _ => return Err(invalid("a series has a start, an end and a step".into())),
    };
    if step == 0 {
        return Err(invalid("step size cannot equal zero".into()));
    }
    let step = Step::Integer(step);
    Ok(Some(Series { next: Some(start), stop, step, closed, data_type }))
}

impl Series {
    /// The series of arguments of the types that [`argument_types`] gives; `None` if one is null. `zone` is that
    /// of the session.
    pub(super) fn of(
        name: &str,
        args: &[ScalarValue],
        closed: bool,
        zone: Option<&str>,
    ) -> DfResult<Option<Self>> {
        if args.iter().any(ScalarValue::is_null) {
            return Ok(None);
        }
        if matches!(args.first(), Some(ScalarValue::Decimal128(..))) {
            return of_numerics(args, closed);
        }
        let zero = || invalid("step size cannot equal zero".to_string());
        let integer = |a: &ScalarValue| match a {
            ScalarValue::Int64(v) => *v,
            ScalarValue::Int32(v) => v.map(i64::from),
            _ => None,
        };
        let integers: Option<Vec<i64>> = args.iter().map(integer).collect();
        if let Some(integers) = integers {
            let (start, stop, step) = match integers.as_slice() {
                [stop] => (0, *stop, 1),
                [start, stop] => (*start, *stop, 1),
                [start, stop, step] => (*start, *stop, *step),
                _ => return Err(invalid(format!("{name}() takes up to three integers"))),
            };
            let step = if step == 0 { return Err(zero()) } else { Step::Integer(step) };
            let data_type = args.first().map_or(DataType::Int64, ScalarValue::data_type);
            return Ok(Some(Self { next: Some(start), stop, step, closed, data_type }));
        }
        let [
            ScalarValue::TimestampMicrosecond(Some(start), given),
            ScalarValue::TimestampMicrosecond(Some(stop), _),
            ScalarValue::IntervalMonthDayNano(Some(step)),
            rest @ ..,
        ] = args
        else {
            return Err(invalid(format!("{name}() takes integers, or times and an interval")));
        };
        let IntervalMonthDayNano { months, days, nanoseconds } = *step;
        if (months, days, nanoseconds) == (0, 0, 0) {
            return Err(zero());
        }
        let named = match rest.first().and_then(|z| z.try_as_str().flatten()) {
            Some(name) => Some(name),
            None if given.is_some() => zone.filter(|z| *z != "+00:00"),
            None => None,
        };
        let zone = named.map_or(Ok(Tz::UTC), zone_named)?;
        let step = Step::Interval { months, days, micros: nanoseconds / 1_000, zone };
        let data_type = micros(given.is_some());
        Ok(Some(Self { next: Some(*start), stop: *stop, step, closed, data_type }))
    }

    /// The type of the values.
    pub(super) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The values as an array of the series' type.
    pub(super) fn array(&self, values: Vec<i64>) -> ArrayRef {
        match &self.data_type {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.clone()))
            }
            DataType::Decimal128(..) => {
                let numbers: Decimal128Array =
                    values.into_iter().map(|value| Some(i128::from(value))).collect();
                Arc::new(numbers.with_data_type(self.data_type.clone()))
            }
            // Between integers of the type there are no others.
            DataType::Int32 => Arc::new(
                values.into_iter().map(|value| i32::try_from(value).ok()).collect::<Int32Array>(),
            ),
            _ => Arc::new(Int64Array::from(values)),
        }
    }

    fn rises(&self) -> bool {
        match self.step {
            Step::Integer(step) => step > 0,
            // A month counts as 30 days, as where Postgres orders intervals.
            Step::Interval { months, days, micros, .. } => {
                let days = i128::from(months) * 30 + i128::from(days);
                days * 86_400_000_000 + i128::from(micros) > 0
            }
        }
    }
}

impl Iterator for Series {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let value = self.next?;
        let (low, high) = if self.rises() { (value, self.stop) } else { (self.stop, value) };
        if low > high || (low == high && !self.closed) {
            self.next = None;
            return None;
        }
        let rises = self.rises();
        let after = match self.step {
            Step::Integer(step) => value.checked_add(step),
            Step::Interval { months, days, micros, zone } => {
                moved(value, months, days, zone).and_then(|at| at.checked_add(micros))
            }
        };
        // A step that leads nowhere ends the series.
        self.next = after.filter(|next| if rises { *next > value } else { *next < value });
        Some(value)
    }
}

/// The same local time, months and days away.
fn moved(at_us: i64, months: i32, days: i32, zone: Tz) -> Option<i64> {
    if months == 0 && days == 0 {
        return Some(at_us);
    }
    DateTime::from_timestamp_micros(at_us)?;
    let mut local = local_of(at_us, zone);
    let count = Months::new(months.unsigned_abs());
    local = match months {
        0 => local,
        1.. => local.checked_add_months(count)?,
        _ => local.checked_sub_months(count)?,
    };
    let count = Days::new(u64::from(days.unsigned_abs()));
    local =
        if days < 0 { local.checked_sub_days(count)? } else { local.checked_add_days(count)? };
    Some(instant(local, zone))
}

/// The instant of a local time as Postgres takes it: of two the later, in a gap by the offset before it.
fn instant(local: NaiveDateTime, zone: Tz) -> i64 {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => at.timestamp_micros(),
        LocalResult::None => {
            let naive = local.and_utc().timestamp_micros();
            naive - i64::from(offset_seconds(naive - 86_400_000_000, zone)) * 1_000_000
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(start: &str, stop: &str, step: (i32, i32, i64), zone: &str) -> Vec<String> {
        let at = |t: &str| {
            let us = DateTime::parse_from_rfc3339(t).unwrap().timestamp_micros();
            ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))
        };
        let (months, days, seconds) = step;
        let step = IntervalMonthDayNano::new(months, days, seconds * 1_000_000_000);
        let args = [at(start), at(stop), ScalarValue::IntervalMonthDayNano(Some(step))];
        let zone_of: Tz = zone.parse().unwrap();
        let series = Series::of("f", &args, true, Some(zone)).unwrap().unwrap();
        series.map(|us| zone_of.timestamp_micros(us).unwrap().to_rfc3339()).collect()
    }

    #[test]
    fn days_and_months_follow_the_zone() {
        // What PostgreSQL gives.
        assert_eq!(
            times(
                "2024-03-30T00:00:00+01:00",
                "2024-04-01T00:00:00+02:00",
                (0, 1, 0),
                "Europe/Berlin"
            ),
            ["2024-03-30T00:00:00+01:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"]
        );
        assert_eq!(
            times(
                "2024-03-30T02:30:00+01:00",
                "2024-04-01T12:00:00+02:00",
                (0, 1, 0),
                "Europe/Berlin"
            ),
            ["2024-03-30T02:30:00+01:00", "2024-03-31T03:30:00+02:00", "2024-04-01T03:30:00+02:00"]
        );
        assert_eq!(
            times("2024-01-31T00:00:00Z", "2024-04-30T00:00:00Z", (1, 0, 0), "UTC"),
            [
                "2024-01-31T00:00:00+00:00",
                "2024-02-29T00:00:00+00:00",
                "2024-03-29T00:00:00+00:00",
                "2024-04-29T00:00:00+00:00"
            ]
        );
        assert_eq!(
            times(
                "2024-10-27T00:00:00+02:00",
                "2024-10-27T03:00:00+01:00",
                (0, 0, 3600),
                "Europe/Berlin"
            ),
            [
                "2024-10-27T00:00:00+02:00",
                "2024-10-27T01:00:00+02:00",
                "2024-10-27T02:00:00+02:00",
                "2024-10-27T02:00:00+01:00",
                "2024-10-27T03:00:00+01:00"
            ]
        );
        assert_eq!(
            times("2024-01-03T00:00:00Z", "2024-01-01T00:00:00Z", (0, -1, 0), "UTC").len(),
            3
        );
        assert!(times("2024-01-03T00:00:00Z", "2024-01-01T00:00:00Z", (0, 1, 0), "UTC").is_empty());
        // 30 days and a month back: it rises by nothing and ends.
        assert_eq!(
            times("2024-04-01T00:00:00Z", "2025-01-01T00:00:00Z", (-1, 31, 0), "UTC").len(),
            1
        );
    }

    #[test]
    fn integers_stop_at_the_end_of_their_type() {
        let of = |args: &[i64], closed| {
            let args: Vec<_> = args.iter().map(|v| ScalarValue::Int64(Some(*v))).collect();
            Series::of("f", &args, closed, None).map(|s| s.unwrap().collect::<Vec<_>>())
        };
        assert_eq!(of(&[1, 3], true).unwrap(), [1, 2, 3]);
        assert_eq!(of(&[3], false).unwrap(), [0, 1, 2]);
        assert_eq!(of(&[5, 1, -2], true).unwrap(), [5, 3, 1]);
        assert_eq!(of(&[i64::MAX - 1, i64::MAX], true).unwrap(), [i64::MAX - 1, i64::MAX]);
        assert!(of(&[3, 1], true).unwrap().is_empty());
        assert!(of(&[1, 3, 0], true).is_err());
    }
}
