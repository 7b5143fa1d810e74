//! `avg` from the exact sum and the count, and the division that finishes it: numeric for exact numbers. The division
//! in double precision finishes averages and quotients in measures: dividing by zero gives null there.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use otus_engine::expr::AggregateFunction;
use otus_engine::state::StateAccumulator;
use parking_lot::Mutex;

use super::spans::{Gives, Kept, Mean, SPAN, is_span, kept_state, mean_state};
use super::sum::{DistinctSum, ExactSum, distinct_state, exact, total};
use super::udaf::{into, no_such_function};
use crate::error::SqlError;
use crate::function::{divided, exact_quotient};

/// Name of the scalar function that finishes an average from sum and count.
pub(crate) const AVERAGE: &str = "otus_average";
/// Name of the scalar function for quotients of measures.
pub(crate) const DIVIDE: &str = "otus_divide";

/// The scalar function that finishes an average.
pub(crate) fn average() -> ScalarUDF {
    ScalarUDF::from(Quotient::new(AVERAGE))
}

/// The scalar function for quotients of measures.
pub(crate) fn divide() -> ScalarUDF {
    ScalarUDF::from(Quotient::new(DIVIDE))
}

/// `a / b` in double precision, null where b is zero.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    name: &'static str,
    signature: Signature,
}

impl Quotient {
    fn new(name: &'static str) -> Self {
        let double = vec![DataType::Float64, DataType::Float64];
        Self { name, signature: Signature::exact(double, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Float64)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [a, b] = arrays.as_slice() else {
            return Err(into(SqlError::internal("a quotient has two arguments")));
        };
        Ok(ColumnarValue::Array(quotient(a, b)?))
    }
}

fn quotient(a: &ArrayRef, b: &ArrayRef) -> DfResult<ArrayRef> {
    let (a, b) = (cast(a, &DataType::Float64)?, cast(b, &DataType::Float64)?);
    let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>());
    let of = |(a, b): (Option<f64>, Option<f64>)| match (a, b) {
        (Some(a), Some(b)) if b != 0.0 => Some(a / b),
        _ => None,
    };
    Ok(Arc::new(a.iter().zip(b.iter()).map(of).collect::<Float64Array>()))
}

/// The aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Average {
    signature: Signature,
    aliases: Vec<String>,
    plain: Arc<AggregateUDF>,
}

impl Default for Average {
    fn default() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["mean".into()],
            plain: avg_udaf(),
        }
    }
}

fn ours(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// The type of the average of exact numbers.
fn exact_type(data_type: &DataType) -> Option<DataType> {
    exact(data_type).map(|_| mean(data_type).0)
}

/// The type of the average of exact numbers, and the function that has it of their sum and count.
pub(crate) fn mean(data_type: &DataType) -> (DataType, ScalarUDF) {
    let scale = exact(data_type).and_then(|scale| u8::try_from(scale).ok()).unwrap_or(0);
    exact_quotient(scale)
}

/// Sums over counts: exact for exact numbers, double precision for others.
fn means(sum: &ArrayRef, count: &ArrayRef) -> DfResult<ArrayRef> {
    match sum.data_type() {
        DataType::Decimal128(_, scale) => divided(sum, count, u8::try_from(*scale).unwrap_or(0)),
        _ => quotient(sum, count),
    }
}

fn argument(args: &AccumulatorArgs) -> DataType {
    args.expr_fields.first().map_or(DataType::Null, |f| f.data_type().clone())
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &'static str {
        "avg"
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match types {
            [DataType::Float16 | DataType::Float32] => Ok(vec![DataType::Float64]),
            [t] if ours(t) => Ok(vec![t.clone()]),
            [t] if is_span(t) => Ok(vec![t.clone()]),
            [DataType::Null] => Ok(vec![DataType::Int64]),
            _ => Err(no_such_function("avg", types)),
        }
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types.first() {
            Some(t) if ours(t) => Ok(exact_type(t).unwrap_or(DataType::Float64)),
            Some(t) if is_span(t) => Ok(SPAN),
            _ => self.plain.return_type(types),
        }
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let data_type = argument(&args);
        if let Some(scale) = exact(&data_type).filter(|_| args.is_distinct) {
            return Ok(Box::new(OneDistinct(DistinctSum::new(scale))));
        }
        if is_span(&data_type) {
            return Ok(match args.is_distinct {
                true => Box::new(Kept::new(Gives::DistinctMean)),
                false => Box::new(Mean::default()),
            });
        }
        if !ours(&data_type) || args.is_distinct {
            return self.plain.accumulator(args);
        }
        if let Some(scale) = exact(&data_type) {
            return Ok(Box::new(OneExact(ExactSum::new(scale))));
        }
        Ok(Box::new(One { groups: Mutex::new(Many::new(data_type)?), zeros: Vec::new() }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let data_type = argument(&args);
        if is_span(&data_type) {
            return Ok(Box::new(Mean::default()));
        }
        if !ours(&data_type) {
            return self.plain.create_sliding_accumulator(args);
        }
        if let Some(scale) = exact(&data_type) {
            return Ok(Box::new(OneExact(ExactSum::new(scale))));
        }
        Ok(Box::new(Sliding::default()))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let input = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        if args.is_distinct && exact(&input).is_some() {
            return distinct_state(&args);
        }
        if is_span(&input) {
            return Ok(if args.is_distinct {
                kept_state(args.name)
            } else {
                mean_state(args.name)
            });
        }
        if !ours(&input) || args.is_distinct {
            return self.plain.state_fields(args);
        }
        let sum =
            AggregateFunction::Sum.output_type(&[input]).map_err(|e| into(SqlError::from(e)))?;
        Ok(vec![
            Arc::new(Field::new(format!("{}[sum]", args.name), sum, true)),
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, true)),
        ])
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct && !is_span(&argument(&args))
    }
    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let data_type = argument(&args);
        if !ours(&data_type) {
            return self.plain.create_groups_accumulator(args);
        }
        Ok(Box::new(Many::new(data_type)?))
    }
}

/// Sums and counts of many groups.
struct Many {
    data_type: DataType,
    sum: Box<dyn StateAccumulator>,
    count: Box<dyn StateAccumulator>,
}

impl Many {
    fn new(data_type: DataType) -> DfResult<Self> {
        let start = |f: AggregateFunction| {
            f.accumulator(std::slice::from_ref(&data_type)).map_err(|e| into(SqlError::from(e)))
        };
        let (sum, count) = (start(AggregateFunction::Sum)?, start(AggregateFunction::Count)?);
        Ok(Self { data_type, sum, count })
    }
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let done = self.sum.update(values, groups, filter, total);
        done.and_then(|()| self.count.update(values, groups, filter, total))
            .map_err(|e| into(SqlError::from(e)))
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let failed = |e| into(SqlError::from(e));
        let sum = self.sum.finish(emit_to).map_err(failed)?;
        let count = self.count.finish(emit_to).map_err(failed)?;
        means(&sum, &count)
    }
    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let failed = |e| into(SqlError::from(e));
        let mut state = self.sum.state(emit_to).map_err(failed)?;
        state.extend(self.count.state(emit_to).map_err(failed)?);
        Ok(state)
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        let [sum, count] = values else {
            return Err(into(SqlError::internal("an average has two states")));
        };
        let done = self.sum.merge(std::slice::from_ref(sum), groups, None, total);
        done.and_then(|()| self.count.merge(std::slice::from_ref(count), groups, None, total))
            .map_err(|e| into(SqlError::from(e)))
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |v| v.len());
        let mut each = Self::new(self.data_type.clone())?;
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }
    fn size(&self) -> usize {
        self.sum.size() + self.count.size()
    }
}

/// The same for one group.
struct One {
    groups: Mutex<Many>,
    zeros: Vec<usize>,
}

impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Average({})", self.groups.lock().data_type)
    }
}

impl One {
    fn zeros(&mut self, rows: usize) -> Vec<usize> {
        let mut zeros = std::mem::take(&mut self.zeros);
        zeros.resize(rows, 0);
        zeros
    }

    fn touch(&mut self) -> DfResult<()> {
        let groups = self.groups.get_mut();
        let nothing = arrow::array::new_empty_array(&groups.data_type);
        groups.update_batch(&[nothing], &[], None, 1)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let zeros = self.zeros(values.first().map_or(0, |v| v.len()));
        let result = self.groups.get_mut().update_batch(values, &zeros, None, 1);
        self.zeros = zeros;
        result
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let zeros = self.zeros(states.first().map_or(0, |v| v.len()));
        let result = self.groups.get_mut().merge_batch(states, &zeros, 1);
        self.zeros = zeros;
        result
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.touch()?;
        ScalarValue::try_from_array(&self.groups.get_mut().evaluate(EmitTo::All)?, 0)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.touch()?;
        let arrays = self.groups.get_mut().state(EmitTo::All)?;
        arrays.iter().map(|a| ScalarValue::try_from_array(a, 0)).collect()
    }
    fn size(&self) -> usize {
        self.groups.lock().size() + self.zeros.capacity() * size_of::<usize>()
    }
}

/// The same for one group of integers or decimals, with the loop of `sum`.
#[derive(Debug)]
struct OneExact(ExactSum);

impl Accumulator for OneExact {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values.first().map_or(Ok(()), |v| self.0.change(v, 1))
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values.first().map_or(Ok(()), |v| self.0.change(v, -1))
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let [sums, counts] = states else {
            return Err(into(SqlError::internal("an average has two states")));
        };
        let (count, _) = total(counts)?;
        let before = self.0.count;
        self.0.change(sums, 1)?;
        self.0.count = before.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(())
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let sum = self.0.value()?.to_array()?;
        let count = ScalarValue::Int64(Some(self.0.count)).to_array()?;
        ScalarValue::try_from_array(&means(&sum, &count)?, 0)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.0.value()?, ScalarValue::Int64(Some(self.0.count))])
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The average of the distinct values of one group.
#[derive(Debug)]
struct OneDistinct(DistinctSum);

impl Accumulator for OneDistinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.0.update_batch(values)
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.0.merge_batch(states)
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let count = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        let count = ScalarValue::Int64(Some(count)).to_array()?;
        ScalarValue::try_from_array(&means(&self.0.evaluate()?.to_array()?, &count)?, 0)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.0.state()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
}

/// The average of a moving frame.
#[derive(Debug, Default)]
struct Sliding {
    sum: f64,
    count: u64,
}

impl Sliding {
    fn of(values: &[ArrayRef]) -> DfResult<(f64, u64)> {
        let Some(array) = values.first() else { return Ok((0.0, 0)) };
        let array = cast(array, &DataType::Float64)?;
        let floats = array.as_primitive::<Float64Type>();
        let count = u64::try_from(array.len() - array.null_count()).unwrap_or(0);
        Ok((floats.iter().flatten().sum(), count))
    }
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (sum, count) = Self::of(values)?;
        self.sum += sum;
        self.count += count;
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (sum, count) = Self::of(values)?;
        self.sum -= sum;
        self.count -= count;
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn merge_batch(&mut self, _states: &[ArrayRef]) -> DfResult<()> {
        Err(into(SqlError::internal("an average over a frame is never merged")))
    }
    #[expect(clippy::cast_precision_loss, reason = "an average is a double")]
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Float64((self.count > 0).then(|| self.sum / self.count as f64)))
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Err(into(SqlError::internal("an average over a frame has no state")))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}
