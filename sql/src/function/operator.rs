//! Operators that the planner does not have, or has with fewer digits than Postgres: the quotient of
//! numerics, a span times a number; and `pg_typeof`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, i256,
};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::functions_nested::expr_fn::{array_element, array_has_all, array_has_any};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, GetFieldAccess, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast as cast_to, when,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::error::{SqlError, pg_field_type, sqlstate};
use crate::statement::{Item, parsed_array};
use otus_engine::types::PG_TYPE_KEY;

/// Digits of a numeric.
const DIGITS: u8 = 38;
/// Fractional digits of a quotient, or as many as its dividend has.
const QUOTIENT_SCALE: u8 = 16;

/// Plans the operators above.
#[derive(Debug)]
pub(crate) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let expr = super::beside::read(expr, schema)?;
        let expr = super::number::typed(expr, schema);
        let expr = super::marked::beside_uuid(expr, schema)?;
        let expr = super::length::without_blanks(expr, schema);
        let expr = beside_list(expr, schema)?;
        let expr = beside_time(expr, schema);
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema))
        else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_span = |t: &DataType| matches!(t, DataType::Interval(_));
        let is_list = |t: &DataType| matches!(t, DataType::List(_) | DataType::LargeList(_));
        let planned = match &expr.op {
            BinaryOperator::PGOverlap if is_list(&left) && is_list(&right) => {
                array_has_any(expr.left, expr.right)
            }
            BinaryOperator::AtArrow if is_list(&left) && is_list(&right) => {
                has_all(expr.left, expr.right)?
            }
            BinaryOperator::ArrowAt if is_list(&left) && is_list(&right) => {
                has_all(expr.right, expr.left)?
            }
            BinaryOperator::Multiply if is_span(&left) && right.is_numeric() => {
                times(false).call(vec![expr.left, expr.right])
            }
            BinaryOperator::Multiply if is_span(&right) && left.is_numeric() => {
                times(false).call(vec![expr.right, expr.left])
            }
            BinaryOperator::Divide if is_span(&left) && right.is_numeric() => {
                times(true).call(vec![expr.left, expr.right])
            }
            BinaryOperator::Minus if left == DataType::Date32 && right == DataType::Date32 => {
                cast_to(expr.left - expr.right, DataType::Int32)
            }
            BinaryOperator::Plus if left == DataType::Date32 && is_span(&right) => {
                from_midnight(expr.left) + expr.right
            }
            BinaryOperator::Plus if is_span(&left) && right == DataType::Date32 => {
                from_midnight(expr.right) + expr.left
            }
            BinaryOperator::Minus if left == DataType::Date32 && is_span(&right) => {
                from_midnight(expr.left) - expr.right
            }
            BinaryOperator::Divide => match quotient_scale(&left, &right) {
                Some(scale) => quotient(scale).call(vec![expr.left, expr.right]),
                None => return Ok(PlannerResult::Original(expr)),
            },
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// Whether a list has all of another; the planner's function takes a null that is the same for all rows for an empty one.
fn has_all(list: Expr, of: Expr) -> DfResult<Expr> {
    match &of {
        Expr::Column(_) => Ok(array_has_all(list, of)),
        _ => when(of.clone().is_not_null(), array_has_all(list, of)).end(),
    }
}

/// Whether an operator asks what an array has of another.
fn contains(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::PGOverlap | BinaryOperator::AtArrow | BinaryOperator::ArrowAt)
}

/// A text beside an array is an array as it is written, `tags @> '{new}'`.
fn beside_list(mut expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<RawBinaryExpr> {
    use BinaryOperator as B;
    let takes = matches!(
        expr.op,
        B::Eq
            | B::NotEq
            | B::Lt
            | B::LtEq
            | B::Gt
            | B::GtEq
            | B::PGOverlap
            | B::AtArrow
            | B::ArrowAt
            | B::StringConcat
    );
    if !takes {
        return Ok(expr);
    }
    let list_type = |e: &Expr| e.get_type(schema).ok().filter(|t| matches!(t, DataType::List(_)));
    let typed = |operand: Expr, of: &DataType| match operand {
        // A parameter is what it stands beside.
        Expr::Placeholder(Placeholder { id, field: None }) if contains(&expr.op) => {
            let field = Some(Arc::new(Field::new("", of.clone(), true)));
            Expr::Placeholder(Placeholder { id, field })
        }
        other => other,
    };
    if let Some(of) = list_type(&expr.left) {
        expr.right = typed(expr.right, &of);
        expr.right = as_list(expr.right, &of)?;
    } else if let Some(of) = list_type(&expr.right) {
        expr.left = typed(expr.left, &of);
        expr.left = as_list(expr.left, &of)?;
    }
    Ok(expr)
}

/// A text from which a date or time is subtracted, or the other way round, is one too.
fn beside_time(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    if expr.op != BinaryOperator::Minus {
        return expr;
    }
    let time = |e: &Expr| {
        let is_time = |t: &DataType| matches!(t, DataType::Date32 | DataType::Timestamp(..));
        e.get_type(schema).ok().filter(is_time)
    };
    let is_written =
        |e: &Expr| matches!(e, Expr::Literal(v, _) if matches!(v.try_as_str(), Some(Some(_))));
    if let Some(of) = time(&expr.left)
        && is_written(&expr.right)
    {
        expr.right = cast_to(expr.right, of);
    } else if let Some(of) = time(&expr.right)
        && is_written(&expr.left)
    {
        expr.left = cast_to(expr.left, of);
    }
    expr
}

/// A text that is written out as the array that it spells; any other expression as it is.
pub(crate) fn as_list(expr: Expr, of: &DataType) -> DfResult<Expr> {
    let Expr::Literal(value, metadata) = &expr else { return Ok(expr) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(expr) };
    let items = parsed_array(text)?;
    let flat = items.iter().map(|item| match item {
        Item::Null => Some(None),
        Item::Text(text) => Some(Some(text.as_str())),
        Item::List(_) => None,
    });
    let Some(flat) = flat.collect::<Option<Vec<_>>>() else { return Ok(expr) };
    let texts = Arc::new(StringArray::from(flat));
    let list = SingleRowListArrayBuilder::new(texts).build_list_scalar();
    Ok(Expr::Literal(list.cast_to(of)?, metadata.clone()))
}

/// Plans `(array_agg(DISTINCT x))[n]`, to be asked before the planner's own, which forgets the `DISTINCT`; and reads texts
/// that are put to arrays.
#[derive(Debug)]
pub(crate) struct DistinctElements;

impl ExprPlanner for DistinctElements {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        // `array || '{3,4}'`: the planner would append the text as an element.
        let is_null = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Null, _));
        let is_list = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::List(_)));
        match expr.op {
            // Nothing put to an array is an array of nothing.
            BinaryOperator::StringConcat if is_null(&expr.left) && is_list(&expr.right) => {
                Ok(PlannerResult::Planned(expr.right))
            }
            BinaryOperator::StringConcat if is_list(&expr.left) && is_null(&expr.right) => {
                Ok(PlannerResult::Planned(expr.left))
            }
            BinaryOperator::StringConcat => Ok(PlannerResult::Original(beside_list(expr, schema)?)),
            _ => Ok(PlannerResult::Original(expr)),
        }
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        _: &DFSchema,
    ) -> DfResult<PlannerResult<RawFieldAccessExpr>> {
        let is_distinct = |e: &Expr| matches!(e, Expr::AggregateFunction(a) if a.params.distinct);
        match access {
            RawFieldAccessExpr { expr, field_access: GetFieldAccess::ListIndex { key } }
                if is_distinct(&expr) =>
            {
                Ok(PlannerResult::Planned(array_element(expr, *key)))
            }
            other => Ok(PlannerResult::Original(other)),
        }
    }
}

/// Digits after the point of an exact number.
fn exact_scale(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Decimal128(_, scale) => u8::try_from(*scale).ok(),
        t if t.is_integer() => Some(0),
        _ => None,
    }
}

/// Fractional digits of the quotient of exact numbers, one of which is a numeric.
fn quotient_scale(left: &DataType, right: &DataType) -> Option<u8> {
    let is_numeric = |t: &DataType| matches!(t, DataType::Decimal128(..));
    if !is_numeric(left) && !is_numeric(right) {
        return None;
    }
    Some(QUOTIENT_SCALE.max(exact_scale(left)?).max(exact_scale(right).map(|_| 0)?))
}

/// `date ± span`, as a local time.
fn from_midnight(date: Expr) -> Expr {
    cast_to(date, DataType::Timestamp(TimeUnit::Microsecond, None))
}

/// The type of the quotient of a numeric with so many digits after its point and an integer, and its function.
pub(crate) fn exact_quotient(scale: u8) -> (DataType, ScalarUDF) {
    let scale = QUOTIENT_SCALE.max(scale);
    (DataType::Decimal128(DIGITS, i8::try_from(scale).unwrap_or(0)), quotient(scale))
}

/// Numerics with so many digits after their point, each over an integer; null is over anything.
pub(crate) fn divided(above: &ArrayRef, below: &ArrayRef, scale: u8) -> DfResult<ArrayRef> {
    let scale = QUOTIENT_SCALE.max(scale);
    Quotient { scale, signature: Signature::any(2, Volatility::Immutable) }.of(above, below)
}

fn quotient(scale: u8) -> ScalarUDF {
    ScalarUDF::from(Quotient { scale, signature: Signature::any(2, Volatility::Immutable) })
}

/// Whether a function is the quotient of numerics.
pub(crate) fn is_quotient(function: &ScalarUDF) -> bool {
    function.inner().is::<Quotient>()
}

fn times(divides: bool) -> ScalarUDF {
    ScalarUDF::from(Times { divides, signature: Signature::any(2, Volatility::Immutable) })
}

/// `pg_typeof(any)`.
pub(super) fn type_of() -> ScalarUDF {
    ScalarUDF::from(TypeOf(Signature::any(1, Volatility::Stable)))
}

/// `a / b` of exact numbers, rounded at a fixed number of fractional digits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    scale: u8,
    signature: Signature,
}

impl Quotient {
    fn divided(&self, (a, a_scale): (i128, u8), (b, b_scale): (i128, u8)) -> DfResult<i128> {
        if b == 0 {
            return Err(SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero").into());
        }
        let too_large = || {
            SqlError::new(sqlstate::OUT_OF_RANGE, "numeric field overflow")
                .with_detail(format!("a quotient has {} digits after the point here", self.scale))
                .with_hint("cast one side to double precision, or to a numeric with fewer digits")
        };
        let power = |n: i32| u32::try_from(n).unwrap_or(0);
        let shift = i32::from(self.scale) - i32::from(a_scale) + i32::from(b_scale);
        let ten = i256::from(10_i64);
        let above = ten.checked_pow(power(shift)).and_then(|p| i256::from(a).checked_mul(p));
        let below = ten.checked_pow(power(-shift)).and_then(|p| i256::from(b).checked_mul(p));
        let (Some(above), Some(below)) = (above, below) else { return Err(too_large().into()) };
        let (zero, one) = (i256::ZERO, i256::ONE);
        let (whole, rest) = (above.wrapping_div(below), above.wrapping_rem(below));
        let (rest, half) = (rest.wrapping_abs(), below.wrapping_abs());
        let up = rest >= half.wrapping_sub(rest);
        let away = if (above < zero) == (below < zero) { one } else { zero.wrapping_sub(one) };
        let rounded = if up { whole.wrapping_add(away) } else { whole };
        let most = 10_i128.pow(u32::from(DIGITS));
        rounded.to_i128().filter(|q| q.abs() < most).ok_or_else(|| too_large().into())
    }

    fn of(&self, a: &ArrayRef, b: &ArrayRef) -> DfResult<ArrayRef> {
        let exact = |array: &ArrayRef| -> DfResult<(Decimal128Array, u8)> {
            let array = match array.data_type() {
                DataType::Decimal128(..) => Arc::clone(array),
                _ => cast(array, &DataType::Decimal128(20, 0))?,
            };
            let numbers = array.as_primitive::<Decimal128Type>().clone();
            let scale = u8::try_from(numbers.scale()).unwrap_or(0);
            Ok((numbers, scale))
        };
        let ((a, a_scale), (b, b_scale)) = (exact(a)?, exact(b)?);
        let quotients = a.iter().zip(b.iter()).map(|pair| match pair {
            (Some(a), Some(b)) => self.divided((a, a_scale), (b, b_scale)).map(Some),
            _ => Ok(None),
        });
        let quotients: Decimal128Array = quotients.collect::<DfResult<Vec<_>>>()?.into();
        Ok(Arc::new(quotients.with_data_type(self.return_type(&[])?)))
    }
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &'static str {
        "otus_quotient"
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let names: Vec<_> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(names.join(" / "))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Decimal128(DIGITS, i8::try_from(self.scale).unwrap_or(0)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let sides = ColumnarValue::values_to_arrays(&args.args)?;
        let [a, b] = sides.as_slice() else {
            return Err(SqlError::internal("a quotient has two sides").into());
        };
        let typed = self.of(a, b)?;
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&typed, 0)?));
        }
        Ok(ColumnarValue::Array(typed))
    }
}

/// A span times a number, or divided by it. Fractions of a month become days, of a day time, as in Postgres.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Times {
    divides: bool,
    signature: Signature,
}

const DAYS_OF_MONTH: f64 = 30.0;
const DAY_NS: f64 = 86_400e9;

/// A span times a number, or divided by it; none if that is out of range.
#[expect(clippy::cast_possible_truncation, reason = "checked against the bounds before")]
pub(crate) fn multiplied(
    span: IntervalMonthDayNano,
    by: f64,
    divides: bool,
) -> Option<IntervalMonthDayNano> {
    let scaled = |n: f64| if divides { n / by } else { n * by };
    // What a float leaves of a fraction that should be none.
    let microscopic = |n: f64| (n * 1e6).round() / 1e6;
    let months = scaled(span.months.into());
    let of_months = microscopic(months.fract() * DAYS_OF_MONTH);
    let days = scaled(span.days.into());
    let of_days = microscopic((days.fract() + of_months.fract()) * DAY_NS / 1e9) * 1e9;
    let days = days.trunc() + of_months.trunc();
    #[expect(clippy::cast_precision_loss, reason = "a product with a fraction is rounded anyway")]
    let time = scaled(span.nanoseconds as f64) + of_days;
    let fits = |n: f64| n.is_finite() && n.abs() <= f64::from(i32::MAX);
    if !fits(months) || !fits(days) || !time.is_finite() || time.abs() > 9.2e18 {
        return None;
    }
    let time = (time / 1_000.0).round() as i64 * 1_000;
    Some(IntervalMonthDayNano::new(months.trunc() as i32, days as i32, time))
}

impl ScalarUDFImpl for Times {
    fn name(&self) -> &'static str {
        "otus_times"
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let names: Vec<_> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(names.join(if self.divides { " / " } else { " * " }))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let sides = ColumnarValue::values_to_arrays(&args.args)?;
        let [spans, numbers] = sides.as_slice() else {
            return Err(SqlError::internal("a product has two sides").into());
        };
        let spans = cast(spans, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let numbers = cast(numbers, &DataType::Float64)?;
        let pairs = spans.as_primitive::<IntervalMonthDayNanoType>().iter();
        let pairs = pairs.zip(numbers.as_primitive::<Float64Type>().iter());
        let products = pairs.map(|pair| match pair {
            (Some(_), Some(0.0)) if self.divides => {
                Err(SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero").into())
            }
            (Some(span), Some(by)) => {
                multiplied(span, by, self.divides).map(Some).ok_or_else(|| {
                    SqlError::new(sqlstate::DATETIME_OVERFLOW, "interval out of range").into()
                })
            }
            _ => Ok(None),
        });
        let products: IntervalMonthDayNanoArray = products.collect::<DfResult<Vec<_>>>()?.into();
        super::answer(&args, Arc::new(products))
    }
}

/// The Postgres name of the argument's type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf(Signature);

fn type_name(field: &Field) -> String {
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) => match type_name(item) {
            // An array of arrays has the type of the innermost.
            array if array.ends_with("[]") => array,
            item => format!("{item}[]"),
        },
        DataType::Struct(_) => "record".into(),
        // Ranks and row numbers.
        DataType::UInt64 => "bigint".into(),
        _ => match pg_field_type(field).0.split('(').next() {
            Some("varchar") => "character varying".into(),
            Some("bpchar") => "character".into(),
            Some(name) => name.into(),
            None => "text".into(),
        },
    }
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &'static str {
        "pg_typeof"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let mark = [(PG_TYPE_KEY.to_owned(), "regtype".to_owned())];
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, false).with_metadata(mark.into())))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let name = args.arg_fields.first().map(|field| type_name(field));
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => {
                let names = std::iter::repeat_n(name.as_deref(), array.len());
                Ok(ColumnarValue::Array(Arc::new(names.collect::<StringArray>())))
            }
            _ => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_away_from_zero() {
        let check = |a: (i128, u8), b: (i128, u8), scale: u8, expected: i128| {
            let found = Quotient { scale, signature: Signature::any(2, Volatility::Immutable) };
            assert_eq!(found.divided(a, b).unwrap(), expected, "{a:?} / {b:?}");
        };
        check((55_814, 2), (3, 0), 16, 1_860_466_666_666_666_667);
        check((-1, 0), (8, 0), 2, -13);
        check((1, 0), (8, 0), 2, 13);
        check((1, 0), (25, 1), 2, 40);
        check((123_456, 4), (1, 0), 2, 1_235);
        let quotient = Quotient { scale: 16, signature: Signature::any(2, Volatility::Immutable) };
        let state = |a, b| SqlError::from(quotient.divided(a, b).unwrap_err()).sqlstate;
        assert_eq!(state((1, 0), (0, 0)), "22012");
        assert_eq!(state((10_i128.pow(30), 0), (1, 0)), "22003");
    }

    #[test]
    fn spans_carry_downwards_only() {
        let span = |months, days, ns| IntervalMonthDayNano::new(months, days, ns);
        assert_eq!(multiplied(span(0, 1, 0), 2.0, false), Some(span(0, 2, 0)));
        assert_eq!(multiplied(span(1, 1, 0), 0.5, false), Some(span(0, 15, 43_200_000_000_000)));
        assert_eq!(
            multiplied(span(0, 0, 3_600_000_000_000), -1.5, false),
            Some(span(0, 0, -5_400_000_000_000))
        );
        assert_eq!(multiplied(span(1, 0, 0), 3.0, true), Some(span(0, 10, 0)));
        assert_eq!(multiplied(span(i32::MAX, 0, 0), 2.0, false), None);
    }
}
