//! Small functions of Postgres over values of one row.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, ListArray, ListBuilder,
    StringArray, StringBuilder, TimestampMicrosecondArray, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit};
use chrono::{NaiveDate, NaiveTime};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use regex::{Regex, RegexBuilder};

use super::pattern::Pattern;
use super::{answer, argument, numeric};
use crate::error::{SqlError, sqlstate};

/// Name of the function that gives an empty array for null.
pub(crate) const OR_EMPTY: &str = "otus_or_empty";

pub(super) type Body = fn(&[ArrayRef], usize) -> DfResult<ArrayRef>;

/// An immutable function of these types.
pub(super) fn plain(
    name: &'static str,
    types: Vec<DataType>,
    gives: DataType,
    body: Body,
) -> ScalarUDF {
    variant(name, Signature::exact(types, Volatility::Immutable), gives, body)
}

/// A function that takes several forms of arguments.
pub(super) fn variant(
    name: &'static str,
    signature: Signature,
    gives: DataType,
    body: Body,
) -> ScalarUDF {
    ScalarUDF::from(Plain { name, signature, gives: Gives::Type(gives), body })
}

/// What a function gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Gives {
    Type(DataType),
    /// What its first argument is.
    First,
}

/// A function that is a few lines of Rust.
#[derive(Debug)]
struct Plain {
    name: &'static str,
    signature: Signature,
    gives: Gives,
    body: Body,
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Plain {}
impl std::hash::Hash for Plain {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Plain {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(match &self.gives {
            Gives::Type(data_type) => data_type.clone(),
            Gives::First => types.first().cloned().unwrap_or(DataType::Null),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let mut args = args;
        args.number_rows = rows;
        let arrays: Vec<ArrayRef> =
            (0..args.args.len()).map(|i| argument(&args, i)).collect::<DfResult<_>>()?;
        let array = (self.body)(&arrays, rows)?;
        answer(&args, array)
    }
}

fn times() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn texts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    use DataType as T;
    let make =
        |name, signature, gives, body| ScalarUDF::from(Plain { name, signature, gives, body });
    let exact = |types: Vec<DataType>| Signature::exact(types, Volatility::Immutable);
    let of = |data_type| Gives::Type(data_type);
    let whole = T::Int64;
    let date = vec![whole.clone(), whole.clone(), whole.clone()];
    let moment = [date.clone(), vec![whole.clone(), whole.clone(), T::Float64]].concat();
    let buckets = vec![T::Float64, T::Float64, T::Float64, T::Int64];
    let any = |n| Signature::any(n, Volatility::Immutable);
    vec![
        make(OR_EMPTY, any(1), Gives::First, or_empty),
        make("array_length", any(2), of(T::Int32), array_length),
        make("cardinality", any(1), of(T::Int32), cardinality),
        make("array_upper", any(2), of(T::Int32), array_length),
        make("array_lower", any(2), of(T::Int32), array_lower),
        make("array_dims", any(1), of(T::Utf8), array_dims),
        make("array_ndims", any(1), of(T::Int32), array_ndims),
        make("trim_array", any(2), Gives::First, trim_array),
        make("sign", exact(vec![T::Float64]), of(T::Float64), sign),
        make("make_timestamp", exact(moment), of(times()), make_timestamp),
        make("make_date", exact(date), of(T::Date32), make_date),
        make("num_nulls", Signature::variadic_any(Volatility::Immutable), of(T::Int32), nulls),
        make(
            "num_nonnulls",
            Signature::variadic_any(Volatility::Immutable),
            of(T::Int32),
            non_nulls,
        ),
        make("isfinite", any(1), of(T::Boolean), is_finite),
        make("otus_substring", exact(vec![T::Utf8, T::Utf8]), of(T::Utf8), substring),
        make("quote_literal", exact(vec![T::Utf8]), of(T::Utf8), quote_literal),
        make("quote_nullable", exact(vec![T::Utf8]), of(T::Utf8), quote_nullable),
        make("regexp_split_to_array", exact(vec![T::Utf8, T::Utf8]), of(texts()), split),
        make("regexp_split_to_table", exact(vec![T::Utf8, T::Utf8]), of(texts()), split),
        make(
            "width_bucket",
            Signature::one_of(
                vec![TypeSignature::Exact(buckets), TypeSignature::Any(2)],
                Volatility::Immutable,
            ),
            of(T::Int32),
            width_bucket,
        ),
        make("div", any(2), of(T::Decimal128(38, 0)), numeric::div),
        make("min_scale", any(1), of(T::Int32), numeric::min_scale),
        make("factorial", exact(vec![T::Int64]), of(T::Decimal128(38, 0)), numeric::factorial),
        make("scale", any(1), of(T::Int32), numeric::scale),
        make("trim_scale", any(1), Gives::First, numeric::trim_scale),
        make("sind", exact(vec![T::Float64]), of(T::Float64), numeric::sind),
        make("cosd", exact(vec![T::Float64]), of(T::Float64), numeric::cosd),
        make("tand", exact(vec![T::Float64]), of(T::Float64), numeric::tand),
        make(
            "regexp_matches",
            Signature::variadic(vec![T::Utf8], Volatility::Immutable),
            of(DataType::List(Arc::new(Field::new_list_field(texts(), true)))),
            matches,
        ),
    ]
}

fn list_of(array: &ArrayRef) -> DfResult<ListArray> {
    let no_list = || {
        let message = "an array is expected";
        SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
    };
    match array.data_type() {
        DataType::List(_) => Ok(array.as_list::<i32>().clone()),
        DataType::LargeList(item) => {
            Ok(cast(array, &DataType::List(Arc::clone(item)))?.as_list::<i32>().clone())
        }
        _ => Err(no_list().into()),
    }
}

fn or_empty(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(array) = args.first() else { return Ok(new_empty_array(&DataType::Null)) };
    if array.null_count() == 0 {
        return Ok(Arc::clone(array));
    }
    let lists = list_of(array)?;
    let (field, offsets, values, _) = lists.into_parts();
    debug_assert_eq!(offsets.len(), rows + 1, "a list for each row");
    // Lists that are null have no values here: the aggregate makes none.
    Ok(Arc::new(ListArray::try_new(field, offsets, values, None)?))
}

/// Elements in one dimension; null for none.
fn length(list: &ListArray, row: usize, dimension: i64) -> Option<i32> {
    if list.is_null(row) || dimension < 1 {
        return None;
    }
    let inner = list.value(row);
    if inner.is_empty() {
        return None;
    }
    match dimension {
        1 => i32::try_from(inner.len()).ok(),
        _ => match inner.data_type() {
            DataType::List(_) => length(inner.as_list::<i32>(), 0, dimension - 1),
            _ => None,
        },
    }
}

fn of_dimension(args: &[ArrayRef], rows: usize, give: fn(i32) -> i32) -> DfResult<ArrayRef> {
    let [array, dimension] = args else { return Ok(Arc::new(Int32Array::new_null(rows))) };
    if array.data_type().is_null() {
        return Ok(Arc::new(Int32Array::new_null(rows)));
    }
    let list = list_of(array)?;
    let dimensions = cast(dimension, &DataType::Int64)?;
    let dimensions = dimensions.as_primitive::<Int64Type>();
    let lengths = (0..rows).map(|row| {
        let dimension = dimensions.is_valid(row).then(|| dimensions.value(row))?;
        length(&list, row, dimension).map(give)
    });
    Ok(Arc::new(lengths.collect::<Int32Array>()))
}

fn array_length(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    of_dimension(args, rows, |length| length)
}

fn array_lower(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    of_dimension(args, rows, |_| 1)
}

fn count(list: &ListArray, row: usize) -> usize {
    let inner = list.value(row);
    match inner.data_type() {
        DataType::List(_) => {
            let inner = inner.as_list::<i32>();
            (0..inner.len()).map(|row| count(inner, row)).sum()
        }
        _ => inner.len(),
    }
}

fn cardinality(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(array) = args.first().filter(|array| !array.data_type().is_null()) else {
        return Ok(Arc::new(Int32Array::new_null(rows)));
    };
    let list = list_of(array)?;
    let counts = (0..rows).map(|row| {
        let known = list.is_valid(row).then(|| count(&list, row));
        known.map(|n| i32::try_from(n).unwrap_or(i32::MAX))
    });
    Ok(Arc::new(counts.collect::<Int32Array>()))
}

fn array_dims(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(array) = args.first().filter(|array| !array.data_type().is_null()) else {
        return Ok(Arc::new(StringArray::new_null(rows)));
    };
    let list = list_of(array)?;
    let dims = (0..rows).map(|row| {
        let lengths: Vec<String> = (1..)
            .map_while(|dimension| length(&list, row, dimension))
            .map(|length| format!("[1:{length}]"))
            .collect();
        (!lengths.is_empty()).then(|| lengths.concat())
    });
    Ok(Arc::new(dims.collect::<StringArray>()))
}

fn array_ndims(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(array) = args.first().filter(|array| !array.data_type().is_null()) else {
        return Ok(Arc::new(Int32Array::new_null(rows)));
    };
    let list = list_of(array)?;
    let dims = (0..rows).map(|row| {
        let count = (1..).map_while(|dimension| length(&list, row, dimension)).count();
        i32::try_from(count).ok().filter(|count| *count > 0)
    });
    Ok(Arc::new(dims.collect::<Int32Array>()))
}

/// An array without its last elements.
fn trim_array(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let [array, counts] = args else { return Ok(new_empty_array(&DataType::Null)) };
    if array.data_type().is_null() {
        return Ok(Arc::clone(array));
    }
    let (list, counts) = (list_of(array)?, cast(counts, &DataType::Int64)?);
    let counts = counts.as_primitive::<Int64Type>();
    let mut pieces: Vec<ArrayRef> = Vec::with_capacity(rows);
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for row in 0..rows {
        let is_known = list.is_valid(row) && counts.is_valid(row);
        let kept = match is_known {
            true => {
                let (all, without) = (list.value(row), counts.value(row));
                let without = usize::try_from(without).ok().filter(|n| *n <= all.len());
                let last = all.len();
                let wrong = || {
                    let message =
                        format!("number of elements to trim must be between 0 and {last}");
                    SqlError::new("2202E", message)
                };
                all.slice(0, last - without.ok_or_else(wrong)?)
            }
            false => list.values().slice(0, 0),
        };
        lengths.push(kept.len());
        valid.push(is_known);
        pieces.push(kept);
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    let (field, _, values, _) = list.clone().into_parts();
    let values = if pieces.is_empty() { values.slice(0, 0) } else { concat(&pieces)? };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(NullBuffer::from(valid)))?))
}

fn sign(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(array) = args.first() else { return Ok(Arc::new(Float64Array::new_null(rows))) };
    let of = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
    let signs = array.as_primitive::<Float64Type>().iter().map(|value| value.map(of));
    Ok(Arc::new(signs.collect::<Float64Array>()))
}

pub(super) fn whole(args: &[ArrayRef], index: usize, row: usize) -> Option<i64> {
    let array = args.get(index)?.as_primitive_opt::<Int64Type>()?;
    array.is_valid(row).then(|| array.value(row))
}

fn out_of_range(what: &str, shown: &str) -> datafusion::error::DataFusionError {
    let message = format!("{what} field value out of range: {shown}");
    SqlError::new(sqlstate::DATETIME_OVERFLOW, message).into()
}

pub(super) fn day(year: i64, month: i64, day: i64) -> DfResult<NaiveDate> {
    let date = || {
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        NaiveDate::from_ymd_opt(i32::try_from(year).ok().filter(|y| *y != 0)?, month, day)
    };
    date().ok_or_else(|| out_of_range("date", &format!("{year}-{month:02}-{day:02}")))
}

fn make_date(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let epoch = NaiveDate::default();
    let date = |row| -> DfResult<Option<i32>> {
        let part = |index| whole(args, index, row);
        let (Some(y), Some(m), Some(d)) = (part(0), part(1), part(2)) else { return Ok(None) };
        let days = day(y, m, d)?.signed_duration_since(epoch).num_days();
        Ok(i32::try_from(days).ok())
    };
    let dates: Vec<Option<i32>> = (0..rows).map(date).collect::<DfResult<_>>()?;
    Ok(Arc::new(arrow::array::Date32Array::from(dates)))
}

/// Microseconds since midnight.
#[expect(clippy::cast_possible_truncation, reason = "seconds are checked to be of one minute")]
pub(super) fn clock_us(hour: i64, minute: i64, second: f64) -> DfResult<i64> {
    let clock = || {
        let (hour, minute) = (u32::try_from(hour).ok()?, u32::try_from(minute).ok()?);
        NaiveTime::from_hms_opt(hour, minute, 0).filter(|_| (0.0..60.0).contains(&second))
    };
    let shown = || out_of_range("time", &format!("{hour:02}:{minute:02}:{second:02}"));
    clock().ok_or_else(shown)?;
    Ok((hour * 3_600 + minute * 60) * 1_000_000 + (second * 1e6).round() as i64)
}

fn make_timestamp(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let Some(seconds) = args.get(5).and_then(|a| a.as_primitive_opt::<Float64Type>()) else {
        return Ok(Arc::new(TimestampMicrosecondArray::new_null(rows)));
    };
    let moment = |row: usize| -> DfResult<Option<i64>> {
        let part = |index| whole(args, index, row);
        let (Some(y), Some(m), Some(d), Some(hour), Some(minute)) =
            (part(0), part(1), part(2), part(3), part(4))
        else {
            return Ok(None);
        };
        if seconds.is_null(row) {
            return Ok(None);
        }
        let midnight = day(y, m, d)?.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        Ok(Some(midnight + clock_us(hour, minute, seconds.value(row))?))
    };
    let moments: Vec<Option<i64>> = (0..rows).map(moment).collect::<DfResult<_>>()?;
    Ok(Arc::new(TimestampMicrosecondArray::from(moments)))
}

fn counted(args: &[ArrayRef], rows: usize, of_null: bool) -> ArrayRef {
    let counts = (0..rows).map(|row| {
        let found = args.iter().filter(|array| {
            let is_null = array.data_type().is_null() || array.is_null(row);
            is_null == of_null
        });
        Some(i32::try_from(found.count()).unwrap_or(i32::MAX))
    });
    Arc::new(counts.collect::<Int32Array>())
}

fn nulls(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    Ok(counted(args, rows, true))
}

fn non_nulls(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    Ok(counted(args, rows, false))
}

fn is_finite(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let known = |row: usize| args.first().filter(|array| array.is_valid(row)).map(|_| true);
    Ok(Arc::new((0..rows).map(known).collect::<BooleanArray>()))
}

/// The regular expression of a pattern, mostly the same in all rows.
#[derive(Default)]
pub(super) struct Known(Option<(String, String, Regex)>);

impl Known {
    pub(super) fn regex(&mut self, pattern: &str) -> DfResult<&Regex> {
        self.flagged(pattern, "")
    }

    /// With the letters that Postgres has for options.
    fn flagged(&mut self, pattern: &str, flags: &str) -> DfResult<&Regex> {
        let is_same = |of: &str, of_flags: &str| of == pattern && of_flags == flags;
        if self.0.as_ref().is_none_or(|(of, of_flags, _)| !is_same(of, of_flags)) {
            let read = match flags.contains(['n', 'm', 'p']) {
                true => Pattern::of_lines(pattern),
                false => Pattern::of(pattern),
            };
            let regex = RegexBuilder::new(&read.text)
                .case_insensitive(flags.contains('i'))
                .multi_line(flags.contains(['n', 'm', 'w']))
                .ignore_whitespace(flags.contains('x'))
                .build();
            let regex = regex.map_err(|e| {
                SqlError::new("2201B", "invalid regular expression").with_detail(e.to_string())
            })?;
            self.0 = Some((pattern.to_owned(), flags.to_owned(), regex));
        }
        match &self.0 {
            Some((_, _, regex)) => Ok(regex),
            None => Err(SqlError::internal("a pattern was lost").into()),
        }
    }
}

pub(super) fn text(args: &[ArrayRef], index: usize, row: usize) -> Option<&str> {
    let array = args.get(index)?.as_string_opt::<i32>()?;
    array.is_valid(row).then(|| array.value(row))
}

/// `substring(text FROM pattern)`: the first group if there is one, else all that matches.
fn substring(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut known = Known::default();
    let mut found = StringBuilder::new();
    for row in 0..rows {
        let (Some(of), Some(pattern)) = (text(args, 0, row), text(args, 1, row)) else {
            found.append_null();
            continue;
        };
        let groups = known.regex(pattern)?.captures(of);
        let part = groups.and_then(|groups| match groups.len() {
            1 => groups.get(0),
            _ => groups.get(1),
        });
        found.append_option(part.map(|part| part.as_str()));
    }
    Ok(Arc::new(found.finish()))
}

/// `regexp_matches(text, pattern [, flags])`, as a list of the groups of each match.
fn matches(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut known = Known::default();
    let mut lists = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..rows {
        let (Some(of), Some(pattern)) = (text(args, 0, row), text(args, 1, row)) else {
            lists.append_null();
            continue;
        };
        let flags = text(args, 2, row).unwrap_or_default();
        let most = if flags.contains('g') { usize::MAX } else { 1 };
        let regex = known.flagged(pattern, flags)?;
        for groups in regex.captures_iter(of).take(most) {
            let first = usize::from(groups.len() > 1);
            for group in groups.iter().skip(first) {
                lists.values().values().append_option(group.map(|group| group.as_str()));
            }
            lists.values().append(true);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

fn quote_literal(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let texts = (0..rows).map(|row| text(args, 0, row).map(quoted));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

fn quote_nullable(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let one = |row| Some(text(args, 0, row).map_or_else(|| "NULL".to_owned(), quoted));
    Ok(Arc::new((0..rows).map(one).collect::<StringArray>()))
}

/// The pieces of a text between the matches of a pattern. A match of nothing parts two characters.
fn split(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let mut known = Known::default();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        let (Some(of), Some(pattern)) = (text(args, 0, row), text(args, 1, row)) else {
            lists.append_null();
            continue;
        };
        let mut from = 0;
        for found in known.regex(pattern)?.find_iter(of) {
            let of_nothing = found.is_empty() && (found.start() == from || found.end() == of.len());
            if !of_nothing {
                lists.values().append_option(of.get(from..found.start()));
                from = found.end();
            }
        }
        lists.values().append_option(of.get(from..));
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a place among `count` buckets"
)]
fn width_bucket(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    if let [number, bounds] = args {
        return numeric::among(number, &list_of(bounds)?);
    }
    let number = |index: usize, row: usize| -> Option<f64> {
        let array = args.get(index)?.as_primitive_opt::<Float64Type>()?;
        array.is_valid(row).then(|| array.value(row))
    };
    let wrong = |message: &str| SqlError::new("2201G", message);
    let place = |row: usize| -> DfResult<Option<i32>> {
        let (Some(of), Some(low), Some(high), Some(count)) =
            (number(0, row), number(1, row), number(2, row), whole(args, 3, row))
        else {
            return Ok(None);
        };
        if count <= 0 || count >= i64::from(i32::MAX) {
            return Err(wrong("count must be greater than zero").into());
        }
        if low == high || !low.is_finite() || !high.is_finite() || of.is_nan() {
            return Err(wrong("lower bound cannot equal upper bound, and bounds are finite").into());
        }
        let share = (of - low) / (high - low);
        let place = match share {
            below if below < 0.0 => 0,
            above if above >= 1.0 => count + 1,
            within => (within * count as f64).floor() as i64 + 1,
        };
        Ok(i32::try_from(place).ok())
    };
    let places: Vec<Option<i32>> = (0..rows).map(place).collect::<DfResult<_>>()?;
    Ok(Arc::new(Int32Array::from(places)))
}
