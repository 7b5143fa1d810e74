//! Functions that give a numeric of numerics and double precision of other numbers, as Postgres has them. The planner's own
//! compute in double precision: roots and logarithms of numerics have as many digits as that.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::{answer, argument};
use crate::error::{SqlError, sqlstate};

/// Digits of a numeric.
const DIGITS: u8 = 38;
/// Digits after the point of what double precision computes.
const SCALE: i8 = 16;

/// What a function does that the planner's own does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Does {
    /// The planner's own, its result as a numeric.
    Double,
    /// The same; a negative number has none.
    Root,
    /// The same; of a base and a number, both of which are numerics.
    Logarithm,
    /// The planner's own of bigints, an integer of integers.
    Integer,
    /// Minus one, zero or one.
    Sign,
    /// The next whole number.
    Ceil,
    /// The whole number before.
    Floor,
    /// Doubles to the nearest even number. The planner's own rounds numerics.
    Round,
}

/// The functions.
const FUNCTIONS: [(&str, Does); 10] = [
    ("ceil", Does::Ceil),
    ("floor", Does::Floor),
    ("gcd", Does::Integer),
    ("lcm", Does::Integer),
    ("ln", Does::Double),
    ("log", Does::Logarithm),
    ("log10", Does::Double),
    ("round", Does::Round),
    ("sign", Does::Sign),
    ("sqrt", Does::Root),
];

/// Puts them in the place of the planner's own.
pub(super) fn register(state: &mut SessionState) -> DfResult<()> {
    for (name, does) in FUNCTIONS {
        let inner = state.udf(name)?;
        let aliases = inner.aliases().to_vec();
        let signature = Signature::user_defined(Volatility::Immutable);
        state.register_udf(Arc::new(ScalarUDF::from(Exact { inner, aliases, signature, does })))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Exact {
    inner: Arc<ScalarUDF>,
    aliases: Vec<String>,
    signature: Signature,
    does: Does,
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.does == other.does
    }
}
impl Eq for Exact {}
impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

impl Exact {
    /// The type of the result, if the planner's own function has another.
    fn own(&self, types: &[DataType]) -> Option<DataType> {
        let is_numeric = |t: &DataType| matches!(t, DataType::Decimal128(..));
        let is_integer = |t: &DataType| matches!(t, DataType::Int16 | DataType::Int32);
        let is_exact = |t: &DataType| is_numeric(t) || t.is_integer();
        match (self.does, types) {
            (Does::Double | Does::Logarithm, [DataType::Decimal128(..)]) => {
                Some(DataType::Decimal128(DIGITS, SCALE))
            }
            (Does::Logarithm, [base, of]) if is_exact(base) && is_exact(of) => {
                Some(DataType::Decimal128(DIGITS, SCALE))
            }
            // A root has half the digits of its number.
            (Does::Root, [DataType::Decimal128(_, scale)]) => {
                Some(DataType::Decimal128(DIGITS, SCALE + (*scale).max(0) / 2))
            }
            (Does::Root, [DataType::Float64]) | (Does::Round, [DataType::Float64]) => {
                Some(DataType::Float64)
            }
            (Does::Integer, [a, b]) if is_integer(a) && is_integer(b) => Some(DataType::Int32),
            (Does::Sign, [DataType::Decimal128(..)]) => Some(DataType::Decimal128(1, 0)),
            // 9.9 becomes 10.
            (Does::Ceil | Does::Floor, [DataType::Decimal128(digits, scale)]) => {
                let whole = digits.saturating_sub(u8::try_from(*scale).unwrap_or(0));
                Some(DataType::Decimal128(whole.saturating_add(1).min(DIGITS), 0))
            }
            _ => None,
        }
    }

    /// The planner's own function, of values of one type.
    fn plain(&self, args: &ScalarFunctionArgs, of: DataType) -> DfResult<ArrayRef> {
        let value = |i| Ok(ColumnarValue::Array(cast(&argument(args, i)?, &of)?));
        let values = (0..args.args.len()).map(value).collect::<DfResult<_>>()?;
        let field = Arc::new(Field::new("", of.clone(), true));
        let plain = ScalarFunctionArgs {
            args: values,
            arg_fields: vec![Arc::clone(&field); args.args.len()],
            number_rows: args.number_rows,
            return_field: field,
            config_options: Arc::clone(&args.config_options),
        };
        self.inner.invoke_with_args(plain)?.into_array(args.number_rows)
    }
}

fn types_of(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl ScalarUDFImpl for Exact {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match self.own(types) {
            Some(own) => Ok(own),
            None => self.inner.return_type(types),
        }
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        match self.own(&types_of(args.arg_fields)) {
            Some(own) => {
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.name(), own, nullable)))
            }
            None => self.inner.return_field_from_args(args),
        }
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        if let (Does::Root | Does::Round, [of]) = (self.does, types)
            && (of.is_integer() || of.is_floating())
        {
            return Ok(vec![DataType::Float64]);
        }
        if self.own(types).is_some() {
            return Ok(types.to_vec());
        }
        let field = |of: &DataType| Arc::new(Field::new("", of.clone(), true));
        let fields: Vec<FieldRef> = types.iter().map(field).collect();
        Ok(types_of(&fields_with_udf(&fields, self.inner.as_ref())?))
    }
    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }
    fn evaluate_bounds(&self, inputs: &[&Interval]) -> DfResult<Interval> {
        let types: Vec<DataType> = inputs.iter().map(|input| input.data_type()).collect();
        match self.own(&types) {
            Some(own) => Interval::make_unbounded(&own),
            None => self.inner.evaluate_bounds(inputs),
        }
    }
    fn preimage(
        &self,
        args: &[Expr],
        value: &Expr,
        context: &SimplifyContext,
    ) -> DfResult<PreimageResult> {
        match value {
            Expr::Literal(ScalarValue::Float64(_), _) if self.does == Does::Floor => {
                self.inner.preimage(args, value, context)
            }
            _ => Ok(PreimageResult::None),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let types = types_of(&args.arg_fields);
        let Some(own) = self.own(&types) else { return self.inner.invoke_with_args(args) };
        let mut args = args;
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            args.number_rows = 1;
        }
        let array = match self.does {
            Does::Sign => signs(&argument(&args, 0)?)?,
            Does::Ceil => whole(&argument(&args, 0)?, &own, true),
            Does::Floor => whole(&argument(&args, 0)?, &own, false),
            Does::Round => even(&argument(&args, 0)?),
            Does::Root => {
                not_negative(&argument(&args, 0)?)?;
                numeric(&self.plain(&args, DataType::Float64)?, &own)?
            }
            Does::Double | Does::Logarithm => {
                numeric(&self.plain(&args, DataType::Float64)?, &own)?
            }
            Does::Integer => integers(&self.plain(&args, DataType::Int64)?)?,
        };
        answer(&args, array)
    }
}

fn signs(array: &ArrayRef) -> DfResult<ArrayRef> {
    let numbers = array.as_primitive::<Decimal128Type>();
    let signs: Decimal128Array = numbers.unary(i128::signum);
    Ok(Arc::new(signs.with_precision_and_scale(1, 0)?))
}

/// Numbers without their fractions, up or down.
fn whole(array: &ArrayRef, own: &DataType, is_up: bool) -> ArrayRef {
    let numbers = array.as_primitive::<Decimal128Type>();
    let unit = 10_i128.pow(u32::try_from(numbers.scale()).unwrap_or(0));
    let whole = |value: i128| {
        let has_fraction = value.rem_euclid(unit) != 0;
        value.div_euclid(unit) + i128::from(is_up && has_fraction)
    };
    let numbers: Decimal128Array = numbers.unary(whole);
    Arc::new(numbers.with_data_type(own.clone()))
}

fn integers(array: &ArrayRef) -> DfResult<ArrayRef> {
    let integers = cast(array, &DataType::Int32)?;
    if integers.null_count() > array.null_count() {
        return Err(SqlError::new(sqlstate::OUT_OF_RANGE, "integer out of range").into());
    }
    Ok(integers)
}

fn even(array: &ArrayRef) -> ArrayRef {
    let numbers: Float64Array = array.as_primitive::<Float64Type>().unary(f64::round_ties_even);
    Arc::new(numbers)
}

fn not_negative(array: &ArrayRef) -> DfResult<()> {
    let doubles = cast(array, &DataType::Float64)?;
    if doubles.as_primitive::<Float64Type>().iter().flatten().any(|value| value < 0.0) {
        let message = "cannot take square root of a negative number";
        return Err(SqlError::new("2201F", message).into());
    }
    Ok(())
}

/// Doubles as numbers of a type: numerics have the digits with which the doubles are written.
fn numeric(doubles: &ArrayRef, of: &DataType) -> DfResult<ArrayRef> {
    if doubles.data_type() == of {
        return Ok(Arc::clone(doubles));
    }
    let written = doubles.as_primitive::<Float64Type>().iter();
    let written = written.map(|value| value.map(|value| value.to_string()));
    let texts: ArrayRef = Arc::new(written.collect::<StringArray>());
    let numbers = cast(&texts, of)?;
    if numbers.null_count() > doubles.null_count() {
        return Err(SqlError::new(sqlstate::OUT_OF_RANGE, "numeric field overflow").into());
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_next_to_fractions() {
        let numbers = Decimal128Array::from(vec![Some(99), Some(-99), Some(90), None]);
        let numbers: ArrayRef = Arc::new(numbers.with_precision_and_scale(2, 1).unwrap());
        let own = DataType::Decimal128(2, 0);
        let of = |is_up| {
            let whole = whole(&numbers, &own, is_up);
            assert_eq!(whole.data_type(), &own);
            whole.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(of(true), [Some(10), Some(-9), Some(9), None]);
        assert_eq!(of(false), [Some(9), Some(-10), Some(9), None]);
    }

    #[test]
    fn doubles_as_they_are_written() {
        let of = |value: f64| {
            let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(value), None]));
            let numbers = numeric(&doubles, &DataType::Decimal128(38, 16));
            numbers.map(|n| n.as_primitive::<Decimal128Type>().value_as_string(0))
        };
        assert_eq!(of(std::f64::consts::SQRT_2).unwrap(), "1.4142135623730951");
        assert_eq!(of(-2.5e-10).unwrap(), "-0.0000000002500000");
        assert_eq!(of(14_142_135_623.730_951).unwrap(), "14142135623.7309510000000000");
        assert_eq!(SqlError::from(of(1e30).unwrap_err()).sqlstate, sqlstate::OUT_OF_RANGE);
    }
}
