//! `timezone(zone, time)`, which `time AT TIME ZONE zone` stands for: an instant becomes the local time of the
//! zone, a local time the instant at which it is so in the zone. And `otus_instant(text, zone)`, by which texts
//! become instants in a session whose zone is not UTC.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{
    DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use chrono::{
    DateTime, Days, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc,
};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::datetime::{FixedOrNamed, Named, Written, date_and_time, zone_of};
use crate::error::{SqlError, SqlResult, sqlstate};

/// The function's name.
pub(crate) const TIMEZONE: &str = "timezone";

/// `timezone(zone, time)`.
pub(crate) fn timezone() -> ScalarUDF {
    ScalarUDF::from(TimeZoneOf::default())
}

/// `otus_instant(text, zone)`: the instant that a text names, in `zone` if the text has no offset of its own.
pub(crate) fn instant_of_text() -> ScalarUDF {
    ScalarUDF::from(InstantOfText::default())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZoneOf(Signature);

impl Default for TimeZoneOf {
    fn default() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

pub(super) fn local() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

pub(super) fn instant() -> DataType {
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
            T::Interval(_) => Ok(vec![T::Interval(IntervalUnit::MonthDayNano), time]),
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
                let zone = zone_at(&zone.to_array_of_size(1)?, 0)?;
                moved(&times, |_| Ok(zone))?
            }
            ColumnarValue::Array(zones) => moved(&times, |row| zone_at(zones, row))?,
        };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&moved, 0)?));
        }
        Ok(ColumnarValue::Array(moved))
    }
}

/// A zone by its name. Offsets are refused: Postgres reads their sign the other way round.
pub(crate) fn zone_named(name: &str) -> SqlResult<Tz> {
    let alike = || chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(name));
    Tz::from_str(name).ok().or_else(|| alike().copied()).ok_or_else(|| {
        SqlError::new(sqlstate::INVALID_PARAMETER, format!("time zone \"{name}\" not recognized"))
            .with_hint("give the name of a zone, such as 'Europe/Berlin'")
    })
}

/// The zone that `AT TIME ZONE` is given: a name, an abbreviation, an offset as in POSIX, or an interval.
fn zone_at(zones: &ArrayRef, row: usize) -> SqlResult<Option<FixedOrNamed>> {
    if zones.is_null(row) || zones.data_type().is_null() {
        return Ok(None);
    }
    if let Some(spans) = zones.as_primitive_opt::<IntervalMonthDayNanoType>() {
        let span = spans.value(row);
        let seconds = i32::try_from(span.nanoseconds / 1_000_000_000);
        return match (span.months, span.days, seconds) {
            (0, 0, Ok(seconds)) => Ok(Some(FixedOrNamed::Fixed(seconds))),
            _ => Err(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                "an interval that is a time zone must not include months or days",
            )),
        };
    }
    let names = cast(&zones.slice(row, 1), &DataType::Utf8View)
        .map_err(|e| SqlError::internal(e.to_string()))?;
    let Some(names) = names.as_string_view_opt() else { return Ok(None) };
    let name = names.value(0);
    match zone_named(name) {
        Ok(zone) => Ok(Some(FixedOrNamed::Named(zone))),
        Err(unknown) => zone_of(name).map(Some).ok_or(unknown),
    }
}

fn moved(
    times: &ArrayRef,
    zone: impl Fn(usize) -> SqlResult<Option<FixedOrNamed>>,
) -> DfResult<ArrayRef> {
    let from_instant = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let plain = cast(times, &local())?;
    let plain = plain.as_primitive::<TimestampMicrosecondType>();
    let cells = plain.iter().enumerate().map(|(row, us)| {
        let (Some(us), Some(zone)) = (us, zone(row)?) else { return Ok(None) };
        let out = || SqlError::new(sqlstate::INVALID_DATETIME, "timestamp out of range");
        let at = DateTime::<Utc>::from_timestamp_micros(us).ok_or_else(out)?.naive_utc();
        Ok(Some(match (from_instant, zone) {
            (true, FixedOrNamed::Named(zone)) => local_us(at, zone),
            (true, FixedOrNamed::Fixed(seconds)) => us + i64::from(seconds) * 1_000_000,
            (false, zone) => zoned_us(at, zone),
        }))
    });
    let array = cells.collect::<SqlResult<TimestampMicrosecondArray>>()?;
    Ok(if from_instant { Arc::new(array) } else { Arc::new(array.with_timezone("UTC")) })
}

/// The instant at which it is this time in a zone.
pub(crate) fn zoned_us(local: NaiveDateTime, zone: FixedOrNamed) -> i64 {
    match zone {
        FixedOrNamed::Named(zone) => instant_us(local, zone),
        FixedOrNamed::Fixed(seconds) => {
            local.and_utc().timestamp_micros() - i64::from(seconds) * 1_000_000
        }
    }
}

pub(super) fn local_us(utc: NaiveDateTime, zone: Tz) -> i64 {
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    (utc + offset).and_utc().timestamp_micros()
}

/// The offset at a local time. An hour that a clock shows twice is meant the second time; one that it leaves out goes
/// by the clock before.
fn offset_at(local: &NaiveDateTime, zone: Tz) -> FixedOffset {
    match zone.offset_from_local_datetime(local) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(_, offset) => offset.fix(),
        MappedLocalTime::None => {
            let before = local.checked_sub_days(Days::new(1)).unwrap_or(*local);
            zone.offset_from_utc_datetime(&before).fix()
        }
    }
}

pub(super) fn instant_us(local: NaiveDateTime, zone: Tz) -> i64 {
    let offset = offset_at(&local, zone);
    local.checked_sub_offset(offset).unwrap_or(local).and_utc().timestamp_micros()
}

/// The instant that a text names, microseconds since 1970 in UTC: `2026-10-25 02:30:00`, perhaps with an
/// offset or the name of a zone, else in `zone`. None if it is no time, or `zone` no name of a zone.
pub fn instant_from_text(text: &str, zone: &str) -> Option<i64> {
    instant_in(text, zone_named(zone).ok()?)
}

/// A text that ends with its minutes, `2026-03-01 12:00`, perhaps before an offset or zone, with the seconds that
/// arrow wants.
pub(crate) fn with_full_seconds(text: &str) -> Option<String> {
    let (minutes, rest) = text.split_at_checked("2026-03-01 12:00".len())?;
    let place = |c| match c {
        '0'..='9' => '0',
        'T' => ' ',
        other => other,
    };
    let is_minutes = minutes.chars().map(place).eq("0000-00-00 00:00".chars());
    (is_minutes && (rest.is_empty() || rest.starts_with(['Z', '+', '-', ' '])))
        .then(|| format!("{minutes}:00{rest}"))
}

fn instant_in(text: &str, zone: Tz) -> Option<i64> {
    let whole = with_full_seconds(text);
    let text = whole.as_deref().unwrap_or(text);
    if let Ok(found) = string_to_datetime(&Decided(zone), text) {
        return Some(found.timestamp_micros());
    }
    match date_and_time(text)? {
        Written::At(moment) => {
            let zone = moment.zone.unwrap_or(FixedOrNamed::Named(zone));
            Some(zoned_us(moment.local()?, zone))
        }
        Written::Named(Named::Epoch) => Some(0),
        Written::Named(_) => None,
    }
}

/// A zone in which every local time is one instant.
#[derive(Debug, Clone, Copy)]
struct Decided(Tz);

#[derive(Debug, Clone, Copy)]
struct DecidedOffset {
    zone: Tz,
    offset: FixedOffset,
}

impl Offset for DecidedOffset {
    fn fix(&self) -> FixedOffset {
        self.offset
    }
}

impl TimeZone for Decided {
    type Offset = DecidedOffset;

    fn from_offset(offset: &DecidedOffset) -> Self {
        Self(offset.zone)
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<DecidedOffset> {
        self.offset_from_local_datetime(&NaiveDateTime::from(*local))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<DecidedOffset> {
        let offset = offset_at(local, self.0);
        MappedLocalTime::Single(DecidedOffset { zone: self.0, offset })
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> DecidedOffset {
        self.offset_from_utc_datetime(&NaiveDateTime::from(*utc))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> DecidedOffset {
        let offset = self.0.offset_from_utc_datetime(utc).fix();
        DecidedOffset { zone: self.0, offset }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct InstantOfText(Signature);

impl Default for InstantOfText {
    fn default() -> Self {
        Self(Signature::any(2, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for InstantOfText {
    fn name(&self) -> &'static str {
        "otus_instant"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [texts, ColumnarValue::Scalar(zone)] = args.args.as_slice() else {
            return datafusion::common::internal_err!("otus_instant takes a text and a zone");
        };
        let zone = zone_named(zone.try_as_str().flatten().unwrap_or_default())?;
        let array = cast(&texts.to_array(1)?, &DataType::Utf8View)?;
        let instants = array.as_string_view().iter().map(|text| {
            let Some(text) = text else { return Ok(None) };
            instant_in(text, zone).map(Some).ok_or_else(|| {
                if let Some((time, name)) = text.trim().rsplit_once(' ')
                    && name.contains('/')
                    && instant_in(time, zone).is_some()
                {
                    let message = format!("time zone \"{name}\" not recognized");
                    return SqlError::new(sqlstate::INVALID_PARAMETER, message);
                }
                let message =
                    format!("invalid input syntax for type timestamp with time zone: \"{text}\"");
                SqlError::new(sqlstate::INVALID_DATETIME, message)
            })
        });
        let array = instants.collect::<SqlResult<TimestampMicrosecondArray>>()?;
        let array = array.with_timezone("UTC");
        match texts {
            ColumnarValue::Scalar(_) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(Arc::new(array))),
        }
    }
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
            let text = local.trim_end_matches('Z');
            let read = instant_from_text(text, "Europe/Berlin").unwrap();
            assert_eq!(read, at(utc).timestamp_micros(), "{text}");
            let named = format!("{text} Europe/Berlin");
            assert_eq!(instant_from_text(&named, "America/New_York"), Some(read), "{named}");
        }
        let both = ["2026-10-25 02:30:00+02", "2026-10-25 02:30:00+01"];
        let read = both.map(|text| instant_from_text(text, "Europe/Berlin").unwrap());
        assert_eq!(read[1] - read[0], 3_600_000_000);
        assert_eq!(instant_from_text("2026-13-01", "Europe/Berlin"), None);
        assert_eq!(instant_from_text("2026-03-01 noon", "Europe/Berlin"), None);
    }
}
