//! Buckets of time: `otus_floor(granularity, ts)` over UTC instants, as rollups have them, and
//! `otus_bucket(granularity, ts, zone)` over the calendar of a time zone.

use std::cell::Cell;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use otus_engine::time::Granularity;

use super::zone_named;
use crate::calendar::Step;
use crate::error::{SqlError, sqlstate};

/// `otus_floor(granularity, ts)`: start of the UTC bucket, of the type of `ts`.
pub(crate) fn floor() -> ScalarUDF {
    ScalarUDF::from(Bucket::new("otus_floor", false))
}

/// `otus_bucket(granularity, ts, zone)`: start of the bucket by the calendar of `zone`, as an instant.
pub(crate) fn bucket() -> ScalarUDF {
    ScalarUDF::from(Bucket::new("otus_bucket", true))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bucket {
    name: &'static str,
    zoned: bool,
    signature: Signature,
}

impl Bucket {
    fn new(name: &'static str, zoned: bool) -> Self {
        Self { name, zoned, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Bucket {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let wrong = || crate::aggregate::no_such_function(self.name, types);
        if types.len() != if self.zoned { 3 } else { 2 } {
            return Err(wrong());
        }
        let time = match types.get(1) {
            Some(DataType::Timestamp(_, zone)) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            Some(DataType::Date32) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Some(DataType::Utf8 | DataType::Utf8View | DataType::Null) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            _ => return Err(wrong()),
        };
        let mut coerced = vec![DataType::Utf8, time];
        if self.zoned {
            coerced.push(DataType::Utf8);
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.get(1).cloned().ok_or_else(|| crate::aggregate::no_such_function(self.name, types))
    }

    /// A bucket is null only where the time is.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.get(1).is_none_or(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [granularity, time, rest @ ..] = args.args.as_slice() else {
            return Err(DataFusionError::from(SqlError::internal("a bucket lacks its arguments")));
        };
        let granularity = constant(granularity, self.name, "granularity")?;
        let granularity = Granularity::from_str(&granularity)
            .map_err(|e| DataFusionError::from(SqlError::from(e)))?;
        let zone = match rest.first() {
            None => None,
            Some(zone) => {
                let name = constant(zone, self.name, "time zone")?;
                Some(zone_named(&name)?)
            }
        };
        let scalar = matches!(time, ColumnarValue::Scalar(_));
        let time = time.to_array(if scalar { 1 } else { args.number_rows })?;
        let floored = truncate(&time, granularity, zone)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&floored, 0)?));
        }
        Ok(ColumnarValue::Array(floored))
    }
}

fn constant(value: &ColumnarValue, function: &str, what: &str) -> DfResult<String> {
    if let ColumnarValue::Scalar(value) = value
        && let Some(Some(text)) = value.try_as_str()
    {
        return Ok(text.to_string());
    }
    Err(DataFusionError::from(SqlError::new(
        sqlstate::INVALID_PARAMETER,
        format!("the {what} of {function}() must be a constant"),
    )))
}

fn truncate(time: &ArrayRef, granularity: Granularity, zone: Option<Tz>) -> DfResult<ArrayRef> {
    match zone.filter(|z| *z != Tz::UTC) {
        None => match granularity {
            // The compiler multiplies by these instead of dividing.
            Granularity::Second => multiples::<1>(time),
            Granularity::Minute => multiples::<60>(time),
            Granularity::FiveMinute => multiples::<300>(time),
            Granularity::FifteenMinute => multiples::<900>(time),
            Granularity::Hour => multiples::<3_600>(time),
            Granularity::Day => multiples::<86_400>(time),
            Granularity::Week | Granularity::Month | Granularity::Quarter | Granularity::Year => {
                floored(time, |us| granularity.floor_us(us))
            }
        },
        Some(zone) => stepped(time, &Step::of(granularity, zone)),
    }
}

/// The start of the bucket that holds each time, of the type of `time`.
pub(super) fn stepped(time: &ArrayRef, step: &Step) -> DfResult<ArrayRef> {
    // Neighbours mostly share a bucket.
    let last: Cell<Option<(i64, i64)>> = Cell::new(None);
    floored(time, |us| match last.get() {
        Some((from, to)) if (from..to).contains(&us) => from,
        _ => {
            let (from, to) = step.bucket(us);
            last.set(Some((from, to)));
            from
        }
    })
}

/// Buckets of so many seconds.
fn multiples<const SECONDS: i64>(time: &ArrayRef) -> DfResult<ArrayRef> {
    floored(time, |us| us.div_euclid(SECONDS * 1_000_000) * (SECONDS * 1_000_000))
}

fn floored(time: &ArrayRef, floor: impl Fn(i64) -> i64) -> DfResult<ArrayRef> {
    // The instants stay: arrow's cast from no zone to one would look each of them up.
    let zone = match time.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(time, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
    let values = micros.as_primitive::<TimestampMicrosecondType>();
    let floored: TimestampMicrosecondArray = values.unary(floor);
    let floored: ArrayRef = Arc::new(floored.with_timezone_opt(zone));
    match time.data_type() {
        DataType::Date32 => Ok(cast(&floored, &DataType::Date32)?),
        _ => Ok(floored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn buckets_follow_the_calendar_of_the_zone() {
        let check = |g: Granularity, zone: &str, time: &str, expected: &str| {
            let (from, to) = Step::of(g, zone.parse().unwrap()).bucket(at(time));
            assert_eq!(from, at(expected), "{g} in {zone} of {time}");
            assert!(from <= at(time) && at(time) < to);
        };
        use Granularity as G;
        check(G::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z");
        check(G::Day, "Europe/Berlin", "2026-03-30T12:00:00Z", "2026-03-29T22:00:00Z");
        check(G::Day, "Europe/Berlin", "2026-10-25T22:59:00Z", "2026-10-24T22:00:00Z");
        check(G::Hour, "Asia/Kolkata", "2026-01-01T10:10:00Z", "2026-01-01T09:30:00Z");
        check(G::Week, "America/New_York", "2026-01-05T02:00:00Z", "2025-12-29T05:00:00Z");
        check(G::Month, "Asia/Tokyo", "2026-01-31T16:00:00Z", "2026-01-31T15:00:00Z");
        check(G::Quarter, "Europe/Berlin", "2026-06-30T21:59:59Z", "2026-03-31T22:00:00Z");
        check(G::Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z");
        check(G::Hour, "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z");
    }
}
