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

/// An operator on two values of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checked {
    operator: Operator,
    signature: Signature,
}

impl Checked {
    /// The function for an operator, if there is one that may fail unseen.
    pub(crate) fn of(operator: Operator) -> Option<ScalarUDF> {
        use Operator as O;
        let signature = Signature::any(2, Volatility::Immutable);
        let known = matches!(operator, O::Plus | O::Minus | O::Multiply | O::Divide);
        known.then(|| ScalarUDF::from(Self { operator, signature }))
    }

    fn shown(&self, args: &[Expr], name: impl Fn(&Expr) -> String) -> String {
        let sides: Vec<_> = args.iter().map(name).collect();
        sides.join(&format!(" {} ", self.operator))
    }
}

/// All of them, to be known by name.
pub(super) fn all() -> Vec<ScalarUDF> {
    use Operator as O;
    let checked = [O::Plus, O::Minus, O::Multiply, O::Divide].into_iter().filter_map(Checked::of);
    checked.chain([whole()]).collect()
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &'static str {
        match self.operator {
            Operator::Plus => "otus_add",
            Operator::Minus => "otus_subtract",
            Operator::Multiply => "otus_multiply",
            _ => "otus_divide_by",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    // Named and shown as the operator, so that grouped expressions and plans read as they were written.
    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(self.shown(args, ToString::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(self.shown(args, |arg| arg.schema_name().to_string()))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let no_function = || crate::aggregate::no_such_function(self.name(), types);
        types.first().cloned().ok_or_else(no_function)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return datafusion::common::internal_err!("{} takes two arguments", self.name());
        };
        if self.operator == Operator::Divide {
            refuse_zero(left, right, args.number_rows)?;
        }
        let kernel = |l: &dyn Datum, r: &dyn Datum| match self.operator {
            Operator::Plus => numeric::add(l, r),
            Operator::Minus => numeric::sub(l, r),
            Operator::Multiply => numeric::mul(l, r),
            _ => numeric::div(l, r),
        };
        apply(left, right, kernel).map_err(|e| match &e {
            DataFusionError::ArrowError(inner, _)
                if matches!(inner.as_ref(), ArrowError::ArithmeticOverflow(_)) =>
            {
                let name = crate::error::pg_type(&left.data_type());
                SqlError::new(sqlstate::OUT_OF_RANGE, format!("{name} out of range")).into()
            }
            _ => e,
        })
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
