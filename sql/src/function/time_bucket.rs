//! `time_bucket(interval, ts [, zone [, origin]])`: start of the bucket of any length that holds a time. Where
//! the length is a granularity of rollups the call becomes `otus_floor` or `otus_bucket`, so that whoever
//! reads plans knows one form.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{Duration, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, cast, lit,
};
use otus_engine::time::{DAY_US, Granularity};

use super::bucket::{bucket, floor, stepped};
use super::zone_named;
use crate::calendar::{Period, Step, local_of};
use crate::error::{SqlError, sqlstate};

/// Name in SQL.
pub(crate) const TIME_BUCKET: &str = "time_bucket";

/// The scalar function.
pub(crate) fn time_bucket() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(TimeBucket { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeBucket {
    signature: Signature,
}

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Text, or a literal of any type.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Microseconds, with a zone or without.
pub(super) fn micros(zoned: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into()))
}

/// The type in which the time argument of a bucket function is taken: a named zone asks for instants.
pub(super) fn time_type(given: &DataType, zone: bool) -> Option<DataType> {
    match given {
        DataType::Timestamp(_, None) | DataType::Date64 => Some(micros(zone)),
        DataType::Date32 if zone => Some(micros(true)),
        DataType::Date32 => Some(DataType::Date32),
        DataType::Timestamp(_, Some(_)) => Some(micros(true)),
        text if is_text(text) => Some(micros(true)),
        _ => None,
    }
}

/// The types of `(interval, time, third, fourth)` as they are taken; `None` if they are no such arguments.
pub(crate) fn argument_types(types: &[DataType]) -> Option<Vec<DataType>> {
    let (width, time, rest) = match types {
        [width, time, rest @ ..] if rest.len() <= 2 => (width, time, rest),
        _ => return None,
    };
    if !is_text(width) && !matches!(width, DataType::Interval(_)) {
        return None;
    }
    let zoned = rest.first().is_some_and(is_text);
    let time = time_type(time, zoned)?;
    let mut taken = vec![INTERVAL, time.clone()];
    match rest {
        [] => {}
        [zone] if is_text(zone) => taken.push(DataType::Utf8),
        [DataType::Interval(_)] => taken.push(INTERVAL),
        [origin] if is_time(origin) => taken.push(time),
        [zone, origin] if is_text(zone) && (is_time(origin) || is_text(origin)) => {
            taken.extend([DataType::Utf8, time]);
        }
        _ => return None,
    }
    Some(taken)
}

/// A checked call: which buckets. `None` in place of it where an argument is null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Buckets {
    /// Their boundaries.
    pub(crate) step: Step,
    /// Set if they are those of a granularity, counted from nowhere else.
    granularity: Option<Granularity>,
    zone: Tz,
}

fn invalid(message: impl Into<String>) -> DataFusionError {
    DataFusionError::from(SqlError::new(sqlstate::INVALID_PARAMETER, message))
}

/// The length of a bucket.
fn period(width: IntervalMonthDayNano, function: &str) -> DfResult<Period> {
    let IntervalMonthDayNano { months, days, nanoseconds } = width;
    if months != 0 && (days != 0 || nanoseconds != 0) {
        return Err(invalid(format!(
            "the interval of {function}() cannot mix months with days or times"
        )));
    }
    if nanoseconds % 1_000 != 0 {
        return Err(invalid(format!(
            "the interval of {function}() cannot be finer than a microsecond"
        )));
    }
    let time = i64::from(days).checked_mul(DAY_US).and_then(|d| d.checked_add(nanoseconds / 1_000));
    let period = match time {
        Some(0) => u32::try_from(months).ok().filter(|m| *m > 0).map(Period::Months),
        Some(time) if time > 0 && time % DAY_US == 0 => {
            u32::try_from(time / DAY_US).ok().map(Period::Days)
        }
        Some(time) if time > 0 => Some(Period::Time(time)),
        _ => None,
    };
    period.ok_or_else(|| invalid(format!("the interval of {function}() must be positive")))
}

/// Where buckets are counted from if nobody says: Monday, 3 January 2000, or for months the first of it.
fn default_origin(period: Period) -> NaiveDateTime {
    let day = if matches!(period, Period::Months(_)) { 1 } else { 3 };
    NaiveDate::from_ymd_opt(2000, 1, day).and_then(|d| d.and_hms_opt(0, 0, 0)).unwrap_or_default()
}

/// Microseconds of a scalar time.
pub(super) fn scalar_micros(value: &ScalarValue, function: &str) -> DfResult<Option<i64>> {
    match value.cast_to(&micros(false))? {
        ScalarValue::TimestampMicrosecond(us, _) => Ok(us),
        _ => Err(invalid(format!("a time of {function}() cannot be read"))),
    }
}

/// Reads the constant arguments, all but the time: interval, and zone, origin or offset.
pub(crate) fn buckets(
    function: &str,
    width: &ScalarValue,
    rest: &[ScalarValue],
) -> DfResult<Option<Buckets>> {
    let ScalarValue::IntervalMonthDayNano(Some(width)) = width.cast_to(&INTERVAL)? else {
        return Ok(None);
    };
    let period = period(width, function)?;
    let mut zone = Tz::UTC;
    let mut origin = None;
    for argument in rest {
        match argument {
            null if null.is_null() => return Ok(None),
            ScalarValue::IntervalMonthDayNano(Some(offset)) => {
                let IntervalMonthDayNano { months, days, nanoseconds } = *offset;
                if months != 0 {
                    return Err(invalid(format!("the offset of {function}() cannot have months")));
                }
                let shift = Duration::days(days.into()) + Duration::nanoseconds(nanoseconds);
                origin = default_origin(period).checked_add_signed(shift);
            }
            time if is_time(&time.data_type()) => {
                origin = scalar_micros(time, function)?.map(|us| local_of(us, zone));
            }
            text => {
                let Some(Some(name)) = text.try_as_str() else {
                    return Err(invalid(format!("the time zone of {function}() must be text")));
                };
                zone = named(name, function)?;
            }
        }
    }
    let granularity = if origin.is_none() { period.granularity() } else { None };
    let origin = origin.unwrap_or_else(|| default_origin(period));
    Ok(Some(Buckets { step: Step::from_local(period, zone, origin), granularity, zone }))
}

fn named(name: &str, function: &str) -> DfResult<Tz> {
    zone_named(name).map_err(|e| match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => DataFusionError::from(
            SqlError::new(
                sqlstate::INVALID_PARAMETER,
                format!("time zone \"{name}\" not recognized"),
            )
            .with_hint(format!(
                "the third argument of {function}() is a zone; an origin is written timestamptz '{name}'"
            )),
        ),
        false => e.into(),
    })
}

impl Buckets {
    /// The call over `time` as one of a granularity, if it is one.
    fn lowered(&self, time: &Expr, time_type: &DataType) -> Option<Expr> {
        let name = lit(self.granularity?.name());
        let date = *time_type == DataType::Date32;
        let instant = if date { cast(time.clone(), micros(false)) } else { time.clone() };
        let call = match self.zone {
            Tz::UTC => floor().call(vec![name, instant]),
            zone => bucket().call(vec![name, instant, lit(zone.name())]),
        };
        Some(if date { cast(call, DataType::Date32) } else { call })
    }

    fn starts(&self, time: &ArrayRef) -> DfResult<ArrayRef> {
        stepped(time, &self.step)
    }
}

/// The value of a literal, also of one that is cast.
pub(crate) fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => literal(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}

/// A call of `time_bucket` as one of our bucket functions, if its interval is a granularity.
pub(crate) fn lowered(args: &[Expr], schema: &dyn ExprSchema) -> DfResult<Option<Expr>> {
    let [width, time, rest @ ..] = args else { return Ok(None) };
    let Some(width) = literal(width) else { return Ok(None) };
    let Some(rest) = rest.iter().map(literal).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let time_type = time.get_type(schema)?;
    if !matches!(time_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32) {
        return Ok(None);
    }
    let buckets = buckets(TIME_BUCKET, &width, &rest)?;
    Ok(buckets.and_then(|buckets| buckets.lowered(time, &time_type)))
}

/// The constant that an argument must be.
pub(crate) fn constant(value: &ColumnarValue, function: &str, what: &str) -> DfResult<ScalarValue> {
    match value {
        ColumnarValue::Scalar(value) => Ok(value.clone()),
        ColumnarValue::Array(_) => {
            Err(invalid(format!("the {what} of {function}() must be a constant")))
        }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &'static str {
        TIME_BUCKET
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        argument_types(types).ok_or_else(|| crate::aggregate::no_such_function(TIME_BUCKET, types))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.get(1).cloned().ok_or_else(|| crate::aggregate::no_such_function(TIME_BUCKET, types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(TIME_BUCKET, self.return_type(&types)?, nullable)))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        Ok(match lowered(&args, info.schema().as_ref())? {
            Some(call) => ExprSimplifyResult::Simplified(call),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [width, time, rest @ ..] = args.args.as_slice() else {
            return Err(DataFusionError::from(SqlError::internal("a bucket lacks its arguments")));
        };
        let width = constant(width, TIME_BUCKET, "interval")?;
        let rest = rest
            .iter()
            .map(|value| constant(value, TIME_BUCKET, "time zone, origin or offset"))
            .collect::<DfResult<Vec<_>>>()?;
        let scalar = matches!(time, ColumnarValue::Scalar(_));
        let Some(buckets) = buckets(TIME_BUCKET, &width, &rest)? else {
            let null = ScalarValue::try_from(&time.data_type())?;
            return Ok(ColumnarValue::Scalar(null));
        };
        let time = time.to_array(if scalar { 1 } else { args.number_rows })?;
        let starts = buckets.starts(&time)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&starts, 0)?));
        }
        Ok(ColumnarValue::Array(starts))
    }
}
