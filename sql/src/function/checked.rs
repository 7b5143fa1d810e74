//! Functions of the planner that answer where Postgres has no value to answer: `ln(0)` is an infinity there, and an error
//! in Postgres.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::{SqlError, sqlstate};

/// What is asked of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asks {
    /// Each argument is above zero.
    Logarithm,
    /// The value of finite numbers is finite, and not zero where it is too small only.
    Range,
    /// The argument is a character's number.
    Character,
}

/// The functions, and what is asked of their calls.
const FUNCTIONS: [(&str, Asks); 6] = [
    ("ln", Asks::Logarithm),
    ("log", Asks::Logarithm),
    ("log10", Asks::Logarithm),
    ("exp", Asks::Range),
    ("power", Asks::Range),
    ("chr", Asks::Character),
];

/// Puts what asks in the place of the functions.
pub(super) fn register(state: &mut SessionState) -> DfResult<()> {
    for (name, asks) in FUNCTIONS {
        let inner = state.udf(name)?;
        let aliases = inner.aliases().to_vec();
        state.register_udf(Arc::new(ScalarUDF::from(Checked { inner, aliases, asks })))?;
    }
    Ok(())
}

/// A function that is asked.
#[derive(Debug)]
struct Checked {
    inner: Arc<ScalarUDF>,
    aliases: Vec<String>,
    asks: Asks,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.asks == other.asks
    }
}
impl Eq for Checked {}
impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Original(args))
    }
    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }
    fn evaluate_bounds(&self, inputs: &[&Interval]) -> DfResult<Interval> {
        self.inner.evaluate_bounds(inputs)
    }
    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        let aliases = self.aliases.clone();
        Some(ScalarUDF::from(Self { inner, aliases, asks: self.asks }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let given = args.args.clone();
        match self.asks {
            Asks::Logarithm => given.iter().try_for_each(above_zero)?,
            Asks::Character => given.iter().try_for_each(character)?,
            Asks::Range => {}
        }
        let found = self.inner.invoke_with_args(args)?;
        if self.asks == Asks::Range {
            in_range(&given, &found)?;
        }
        Ok(found)
    }
}

fn doubles(value: &ColumnarValue) -> DfResult<Option<ArrayRef>> {
    if !value.data_type().is_numeric() {
        return Ok(None);
    }
    Ok(Some(cast(&value.to_array(1)?, &DataType::Float64)?))
}

fn above_zero(value: &ColumnarValue) -> DfResult<()> {
    let Some(array) = doubles(value)? else { return Ok(()) };
    let mut values = array.as_primitive::<Float64Type>().iter().flatten();
    let what = match values.find(|value| *value <= 0.0) {
        None => return Ok(()),
        Some(value) if value < 0.0 => "a negative number",
        Some(_) => "zero",
    };
    let message = format!("cannot take logarithm of {what}");
    Err(SqlError::new(sqlstate::INVALID_LOGARITHM, message).into())
}

fn character(value: &ColumnarValue) -> DfResult<()> {
    let array = cast(&value.to_array(1)?, &DataType::Int64)?;
    for number in array.as_primitive::<Int64Type>().iter().flatten() {
        let message = match number {
            0 => "null character not permitted".to_string(),
            negative if negative < 0 => "character number must be positive".to_string(),
            other if u32::try_from(other).ok().and_then(char::from_u32).is_none() => {
                format!("requested character not valid for encoding: {other}")
            }
            _ => continue,
        };
        return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message).into());
    }
    Ok(())
}

fn in_range(given: &[ColumnarValue], found: &ColumnarValue) -> DfResult<()> {
    if !found.data_type().is_floating() {
        return Ok(());
    }
    let Some(values) = doubles(found)? else { return Ok(()) };
    let values = values.as_primitive::<Float64Type>();
    let suspect = |value: f64| value == 0.0 || value.is_infinite();
    if !values.iter().flatten().any(suspect) {
        return Ok(());
    }
    let mut arguments = Vec::with_capacity(given.len());
    for value in given {
        let Some(array) = doubles(value)? else { return Ok(()) };
        arguments.push(array);
    }
    for (row, value) in values.iter().enumerate() {
        let Some(value) = value.filter(|value| suspect(*value)) else { continue };
        let of = arguments.iter().map(|array| {
            let array = array.as_primitive::<Float64Type>();
            array.value(if array.len() == 1 { 0 } else { row })
        });
        let of: Vec<f64> = of.collect();
        let is_zero_power = of.len() > 1 && of.first() == Some(&0.0);
        if !of.iter().all(|value| value.is_finite()) || is_zero_power {
            continue;
        }
        let what = if value == 0.0 { "underflow" } else { "overflow" };
        let message = format!("value out of range: {what}");
        return Err(SqlError::new(sqlstate::OUT_OF_RANGE, message).into());
    }
    Ok(())
}
