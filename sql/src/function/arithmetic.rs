//! Arithmetic that fails where Postgres fails. DataFusion's own operators wrap integers around and give
//! infinity for a float divided by zero; [`crate::arithmetic`] puts these functions in their place.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum};
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use crate::error::{SqlError, sqlstate};

/// Operators on values of one type, done from the left: `a * b - c` is one call of three arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checked {
    operators: Vec<Operator>,
    of: DataType,
    signature: Signature,
}

impl Checked {
    /// The function of these operators, one fewer than its arguments, on values of type `of`.
    pub(crate) fn of(operators: Vec<Operator>, of: DataType) -> Arc<ScalarUDF> {
        let signature = Signature::any(operators.len() + 1, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { operators, of, signature }))
    }

    /// What is known of a function if it is one of these.
    pub(crate) fn parts(function: &ScalarUDF) -> Option<&Self> {
        let inner: &dyn std::any::Any = function.inner().as_ref();
        inner.downcast_ref()
    }

    /// Its operators and one more after them.
    pub(crate) fn then(&self, operator: Operator) -> Vec<Operator> {
        self.operators.iter().copied().chain([operator]).collect()
    }

    /// Of the arguments and the result.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.of
    }

    fn shown(&self, args: &[Expr], name: impl Fn(&Expr) -> String) -> String {
        let mut args = args.iter();
        let mut shown = args.next().map(&name).unwrap_or_default();
        for (operator, arg) in self.operators.iter().zip(args) {
            shown.push_str(&format!(" {operator} {}", name(arg)));
        }
        shown
    }

    fn apply(
        &self,
        operator: Operator,
        left: &ColumnarValue,
        right: &ColumnarValue,
        rows: usize,
    ) -> DfResult<ColumnarValue> {
        if operator == Operator::Divide {
            refuse_zero(left, right, rows)?;
        }
        let kernel = |l: &dyn Datum, r: &dyn Datum| match operator {
            Operator::Plus => numeric::add(l, r),
            Operator::Minus => numeric::sub(l, r),
            Operator::Multiply => numeric::mul(l, r),
            _ => numeric::div(l, r),
        };
        apply(left, right, kernel).map_err(|e| match &e {
            DataFusionError::ArrowError(inner, _)
                if matches!(inner.as_ref(), ArrowError::ArithmeticOverflow(_)) =>
            {
                let name = crate::error::pg_type(&self.of);
                SqlError::new(sqlstate::OUT_OF_RANGE, format!("{name} out of range")).into()
            }
            _ => e,
        })
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &'static str {
        "otus_arithmetic"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    // Named and shown as the operators, so that grouped expressions and plans read as they were written.
    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(self.shown(args, ToString::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(self.shown(args, |arg| arg.schema_name().to_string()))
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.of.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.of.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let mut values = args.args.into_iter();
        let Some(mut value) = values.next() else {
            return datafusion::common::internal_err!("{} without arguments", self.name());
        };
        for (operator, right) in self.operators.iter().zip(values) {
            value = self.apply(*operator, &value, &right, rows)?;
        }
        Ok(value)
    }
}

/// Floats divide by zero without a word.
fn refuse_zero(left: &ColumnarValue, right: &ColumnarValue, rows: usize) -> DfResult<()> {
    let zero = |divisor: &ArrayRef| match divisor.data_type() {
        DataType::Float64 => divisor.as_primitive::<Float64Type>().values().contains(&0.0),
        DataType::Float32 => divisor.as_primitive::<Float32Type>().values().contains(&0.0),
        _ => false,
    };
    let one = matches!(right, ColumnarValue::Scalar(_));
    if !zero(&right.to_array(if one { 1 } else { rows })?) {
        return Ok(());
    }
    // A null or NaN over zero is what it was; slots of nulls may hold anything.
    let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
    let (left, right) = (cast(&left, &DataType::Float64)?, cast(&right, &DataType::Float64)?);
    let pairs = left.as_primitive::<Float64Type>().iter().zip(right.as_primitive::<Float64Type>());
    let divides = |(l, r): (Option<f64>, Option<f64>)| {
        l.is_some_and(|l| !l.is_nan()) && r.is_some_and(|r| r == 0.0)
    };
    if pairs.into_iter().any(divides) {
        return Err(SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero").into());
    }
    Ok(())
}

/// `otus_whole(x)`: `x` rounded to a whole number of its own type, as a cast to an integer rounds it: floats
/// to the even neighbour, decimals away from zero.
pub(crate) fn whole() -> ScalarUDF {
    ScalarUDF::from(Whole(Signature::any(1, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole(Signature);

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &'static str {
        "otus_whole"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let no_function = || crate::aggregate::no_such_function("otus_whole", types);
        types.first().cloned().ok_or_else(no_function)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return datafusion::common::internal_err!("otus_whole takes one argument");
        };
        let one = matches!(value, ColumnarValue::Scalar(_));
        let array = value.to_array(if one { 1 } else { args.number_rows })?;
        let rounded: ArrayRef = match array.data_type() {
            DataType::Float64 => {
                let floats = array.as_primitive::<Float64Type>();
                Arc::new(floats.unary::<_, Float64Type>(f64::round_ties_even))
            }
            DataType::Float32 => {
                let floats = array.as_primitive::<Float32Type>();
                Arc::new(floats.unary::<_, Float32Type>(f32::round_ties_even))
            }
            DataType::Decimal128(precision, scale) if *scale > 0 => {
                let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
                let decimals = array.as_primitive::<Decimal128Type>();
                let rounded = decimals.unary::<_, Decimal128Type>(|v| half_away(v, unit));
                Arc::new(rounded.with_precision_and_scale(*precision, *scale)?)
            }
            _ => array,
        };
        if one {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&rounded, 0)?));
        }
        Ok(ColumnarValue::Array(rounded))
    }
}

/// The nearest multiple of `unit`; halves go away from zero.
fn half_away(value: i128, unit: i128) -> i128 {
    let rest = value % unit;
    let whole = value - rest;
    match rest.unsigned_abs() * 2 >= unit.unsigned_abs() {
        true => whole.saturating_add(unit * value.signum()),
        false => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::half_away;

    #[test]
    fn halves_go_away_from_zero() {
        for (value, rounded) in [(249, 200), (250, 300), (-249, -200), (-250, -300), (0, 0)] {
            assert_eq!(half_away(value, 100), rounded, "{value}");
        }
    }
}
