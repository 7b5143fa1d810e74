//! `date_trunc(unit, ts, zone)` and the units that the planner's own `date_trunc` lacks. With two arguments
//! and any other unit it is the planner's own.

use std::sync::Arc;

use arrow::array::{AsArray, IntervalMonthDayNanoArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::functions::datetime;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use otus_engine::time::Granularity;

use super::bucket::stepped;
use super::time_bucket::{constant, micros};
use super::{answer, argument, zone_named};
use crate::calendar::{Period, Step};
use crate::error::{SqlError, sqlstate};

const DATE_TRUNC: &str = "date_trunc";

/// The scalar function.
pub(super) fn date_trunc() -> ScalarUDF {
    let plain = datetime::date_trunc();
    let aliases = plain.aliases().to_vec();
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(DateTrunc { plain, aliases, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    plain: Arc<ScalarUDF>,
    aliases: Vec<String>,
    signature: Signature,
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

/// Whether these are the arguments of the form with a zone.
fn zoned(types: &[DataType]) -> Option<bool> {
    match types {
        [_, _] => Some(false),
        [unit, time, zone] if is_text(unit) && is_text(zone) => {
            let date =
                matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
            (date || is_text(time)).then_some(true)
        }
        _ => None,
    }
}

/// The granularity that a unit of `date_trunc` names, if it has one.
pub(crate) fn unit_granularity(unit: &str) -> Option<Granularity> {
    let name = unit.to_ascii_lowercase();
    let name = name.strip_suffix('s').unwrap_or(&name);
    let known = name.parse().ok()?;
    (!matches!(known, Granularity::FiveMinute | Granularity::FifteenMinute)).then_some(known)
}

/// Units coarser than a year, which the planner's own function does not know.
fn coarse(unit: &str, zone: Tz) -> Option<Step> {
    let (years, first) = match unit.to_ascii_lowercase().as_str() {
        "decade" | "decades" => (10, 2000),
        // The 21st century began with 2001.
        "century" | "centuries" => (100, 2001),
        "millennium" | "millennia" | "millenniums" => (1_000, 2001),
        _ => return None,
    };
    let origin = NaiveDate::from_ymd_opt(first, 1, 1)?.and_hms_opt(0, 0, 0)?;
    Some(Step::from_local(Period::Months(12 * years), zone, origin))
}

/// Units finer than a second.
fn fine(unit: &str, zone: Tz) -> Option<Step> {
    let period = match unit.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" => Period::Time(1),
        "millisecond" | "milliseconds" => Period::Time(1_000),
        _ => return None,
    };
    Some(Step::new(period, zone, None))
}

/// A span without what is shorter than a unit.
fn cut(span: IntervalMonthDayNano, unit: &str) -> DfResult<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = span;
    let of_months = |unit: i32| (months - months % unit, 0, 0);
    let of_time = |unit: i64| (months, days, nanoseconds - nanoseconds % unit);
    let (months, days, nanoseconds) = match unit.to_ascii_lowercase().trim_end_matches('s') {
        "microsecond" => of_time(1_000),
        "millisecond" => of_time(1_000_000),
        "second" => of_time(1_000_000_000),
        "minute" => of_time(60_000_000_000),
        "hour" => of_time(3_600_000_000_000),
        "day" => (months, days, 0),
        "month" => (months, 0, 0),
        "quarter" => of_months(3),
        "year" => of_months(12),
        "decade" => of_months(120),
        "century" | "centurie" => of_months(1_200),
        "millennium" | "millennia" => of_months(12_000),
        _ => {
            let message = format!("unit \"{unit}\" not recognized for type interval");
            return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).into());
        }
    };
    Ok(IntervalMonthDayNano::new(months, days, nanoseconds))
}

fn step(unit: &str, zone: Tz) -> DfResult<Step> {
    let known = unit_granularity(unit).map(Period::of).map(|period| Step::new(period, zone, None));
    known.or_else(|| fine(unit, zone)).or_else(|| coarse(unit, zone)).ok_or_else(|| {
        DataFusionError::from(SqlError::new(
            sqlstate::INVALID_PARAMETER,
            format!("unit \"{unit}\" not recognized for type timestamp with time zone"),
        ))
    })
}

/// The zone of a time, UTC if it has none.
fn zone_of(data_type: &DataType) -> DfResult<Tz> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if zone.as_ref() != "+00:00" => Ok(zone_named(zone)?),
        _ => Ok(Tz::UTC),
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

fn truncated(time: &ColumnarValue, step: &Step, rows: usize) -> DfResult<ColumnarValue> {
    let scalar = matches!(time, ColumnarValue::Scalar(_));
    let starts = stepped(&time.to_array(if scalar { 1 } else { rows })?, step)?;
    if scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&starts, 0)?));
    }
    Ok(ColumnarValue::Array(starts))
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &'static str {
        DATE_TRUNC
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match zoned(types) {
            Some(true) => Ok(vec![DataType::Utf8, micros(true), DataType::Utf8]),
            Some(false) if matches!(types, [unit, DataType::Interval(_)] if is_text(unit)) => {
                Ok(vec![DataType::Utf8, DataType::Interval(IntervalUnit::MonthDayNano)])
            }
            // A date is the instant at which it begins.
            Some(false) if matches!(types, [_, DataType::Date32]) => {
                Ok(vec![types.first().cloned().unwrap_or(DataType::Utf8), micros(true)])
            }
            Some(false) => {
                let field = |t: &DataType| Arc::new(Field::new("", t.clone(), true));
                let fields: Vec<_> = types.iter().map(field).collect();
                let fields = fields_with_udf(&fields, self.plain.as_ref())
                    .map_err(|_| crate::aggregate::no_such_function(DATE_TRUNC, types))?;
                Ok(fields.iter().map(|f| f.data_type().clone()).collect())
            }
            None => Err(crate::aggregate::no_such_function(DATE_TRUNC, types)),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.get(1).cloned().ok_or_else(|| crate::aggregate::no_such_function(DATE_TRUNC, types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        if let [_, span] = args.arg_fields
            && matches!(span.data_type(), DataType::Interval(_))
        {
            return Ok(Arc::new(Field::new(DATE_TRUNC, span.data_type().clone(), true)));
        }
        if args.arg_fields.len() != 3 {
            return self.plain.return_field_from_args(args);
        }
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(DATE_TRUNC, micros(true), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match args.args.as_slice() {
            [unit, time, zone] => {
                let unit = constant(unit, DATE_TRUNC, "unit")?;
                let zone = constant(zone, DATE_TRUNC, "time zone")?;
                let (Some(unit), Some(zone)) = (text(&unit), text(&zone)) else {
                    let null = ScalarValue::TimestampMicrosecond(None, Some("UTC".into()));
                    return Ok(ColumnarValue::Scalar(null));
                };
                truncated(time, &step(unit, zone_named(zone)?)?, args.number_rows)
            }
            [ColumnarValue::Scalar(unit), time]
                if matches!(time.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) =>
            {
                let zone = zone_of(&time.data_type());
                let step = |(unit, zone)| coarse(unit, zone).or_else(|| fine(unit, zone));
                match text(unit).zip(zone.ok()).and_then(step) {
                    Some(step) => truncated(time, &step, args.number_rows),
                    None => self.plain.invoke_with_args(args),
                }
            }
            [unit, spans] if matches!(spans.data_type(), DataType::Interval(_)) => {
                let unit = constant(unit, DATE_TRUNC, "unit")?;
                let spans = argument(&args, 1)?;
                let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
                let cut = spans.iter().map(|span| match (span, text(&unit)) {
                    (Some(span), Some(unit)) => cut(span, unit).map(Some),
                    _ => Ok(None),
                });
                let cut: IntervalMonthDayNanoArray = cut.collect::<DfResult<Vec<_>>>()?.into();
                answer(&args, Arc::new(cut))
            }
            _ => self.plain.invoke_with_args(args),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        match inputs {
            [_, _] => self.plain.output_ordering(inputs),
            _ => Ok(SortProperties::Unordered),
        }
    }
}
