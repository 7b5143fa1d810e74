//! `timezone(zone, time)`, which `time AT TIME ZONE zone` stands for: an instant becomes the local time of the
//! zone, a local time the instant at which it is so in the zone.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Days, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{SqlError, SqlResult, sqlstate};

/// The function's name.
pub(crate) const TIMEZONE: &str = "timezone";

/// The function.
pub(super) fn timezone() -> ScalarUDF {
    ScalarUDF::from(TimeZoneOf::default())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZoneOf(Signature);

impl Default for TimeZoneOf {
    fn default() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

fn local() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl ScalarUDFImpl for TimeZoneOf {
    fn name(&self) -> &'static str {
        TIMEZONE
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        use DataType as T;
        let wrong = || crate::aggregate::no_such_function(TIMEZONE, types);
        let [zone, time] = types else { return Err(wrong()) };
        let time = match time {
            T::Timestamp(_, None) => local(),
            // Dates and texts are instants first, read in the zone of the session.
            T::Timestamp(_, Some(_)) | T::Date32 | T::Utf8 | T::Utf8View | T::Null => instant(),
            _ => return Err(wrong()),
        };
        match zone {
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => Ok(vec![T::Utf8View, time]),
            T::Interval(_) => {
                Err(SqlError::unsupported("a time zone as an interval is not supported")
                    .with_hint("give the name of a zone, such as 'Europe/Berlin'")
                    .into())
            }
            _ => Err(wrong()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(match types.get(1) {
            Some(DataType::Timestamp(_, None)) => instant(),
            _ => local(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let [zone, time] = args.args.as_slice() else {
            return datafusion::common::internal_err!("timezone takes two arguments");
        };
        let times = time.to_array(rows)?;
        let moved = match zone {
            ColumnarValue::Scalar(zone) => {
                let zone = zone.try_as_str().flatten().map(zone_named).transpose()?;
                moved(&times, |_| Ok(zone))?
            }
            ColumnarValue::Array(zones) => {
                let zones = cast(zones, &DataType::Utf8View)?;
                let zones: &StringViewArray = zones.as_string_view();
                let named = |row| zones.is_valid(row).then(|| zone_named(zones.value(row)));
                moved(&times, |row| named(row).transpose())?
            }
        };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&moved, 0)?));
        }
        Ok(ColumnarValue::Array(moved))
    }
}

/// A zone by its name. Offsets are refused: Postgres reads their sign the other way round.
fn zone_named(name: &str) -> SqlResult<Tz> {
    let alike = || chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(name));
    Tz::from_str(name).ok().or_else(|| alike().copied()).ok_or_else(|| {
        SqlError::new(sqlstate::INVALID_PARAMETER, format!("time zone \"{name}\" not recognized"))
            .with_hint("give the name of a zone, such as 'Europe/Berlin'")
    })
}

fn moved(times: &ArrayRef, zone: impl Fn(usize) -> SqlResult<Option<Tz>>) -> DfResult<ArrayRef> {
    let from_instant = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let plain = cast(times, &local())?;
    let plain = plain.as_primitive::<TimestampMicrosecondType>();
    let cells = plain.iter().enumerate().map(|(row, us)| {
        let (Some(us), Some(zone)) = (us, zone(row)?) else { return Ok(None) };
        let out = || SqlError::new(sqlstate::INVALID_DATETIME, "timestamp out of range");
        let at = DateTime::<Utc>::from_timestamp_micros(us).ok_or_else(out)?.naive_utc();
        Ok(Some(if from_instant { local_us(at, zone) } else { instant_us(at, zone) }))
    });
    let array = cells.collect::<SqlResult<TimestampMicrosecondArray>>()?;
    Ok(if from_instant { Arc::new(array) } else { Arc::new(array.with_timezone("UTC")) })
}

fn local_us(utc: NaiveDateTime, zone: Tz) -> i64 {
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    (utc + offset).and_utc().timestamp_micros()
}

/// An hour that a clock shows twice is meant the second time; one that it leaves out goes by the clock before.
fn instant_us(local: NaiveDateTime, zone: Tz) -> i64 {
    let offset = match zone.offset_from_local_datetime(&local) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(_, offset) => offset.fix(),
        MappedLocalTime::None => zone.offset_from_utc_datetime(&(local - Days::new(1))).fix(),
    };
    (local - offset).and_utc().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_clocks_repeat_or_leave_out() {
        for (local, utc) in [
            ("2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z"),
            ("2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z"),
            ("2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-10-25T02:30:00Z", "2026-10-25T01:30:00Z"),
            ("2026-10-25T03:00:00Z", "2026-10-25T02:00:00Z"),
        ] {
            let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap();
            let found = instant_us(at(local).naive_utc(), Tz::Europe__Berlin);
            assert_eq!(found, at(utc).timestamp_micros(), "{local}");
        }
    }
}
