//! `sum`: bigint for integers of up to 32 bits, numeric for bigints and decimals; states are numeric, so that it
//! never wraps; real for reals; doubles and intervals are DataFusion's.
//! Without groups it has a loop of its own, as that is the hottest one of all.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
};
use otus_engine::expr::AggregateFunction;

use super::adapter::{Groups, result};
use super::real::{self, Reals};
use super::udaf::{into, no_such_function};
use crate::error::{SqlError, sqlstate};

const DIGITS: u8 = 38;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    signature: Signature,
    plain: Arc<AggregateUDF>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), plain: sum_udaf() }
    }
}

/// Scale of an exact sum; none if the sum is not exact.
pub(super) fn exact(data_type: &DataType) -> Option<i8> {
    match data_type {
        t if t.is_integer() => Some(0),
        DataType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    }
}

/// The type of an exact sum.
fn output(of: Option<&DataType>, scale: i8) -> DataType {
    use DataType as T;
    match of {
        Some(T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16) => T::Int64,
        _ => T::Decimal128(DIGITS, scale),
    }
}

fn argument<'a>(args: &'a AccumulatorArgs) -> &'a DataType {
    args.expr_fields.first().map_or(&DataType::Null, |f| f.data_type())
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match types {
            [t] if exact(t).is_some() => Ok(vec![t.clone()]),
            [DataType::Float32] => Ok(vec![DataType::Float32]),
            [DataType::Float16 | DataType::Float64] => Ok(vec![DataType::Float64]),
            [DataType::Null] => Ok(vec![DataType::Int64]),
            [t @ (DataType::Interval(_) | DataType::Duration(_) | DataType::Decimal256(..))] => {
                Ok(vec![t.clone()])
            }
            _ => Err(no_such_function("sum", types)),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types.first().and_then(exact) {
            Some(scale) => Ok(output(types.first(), scale)),
            None if types == [DataType::Float32] => Ok(DataType::Float32),
            None => self.plain.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        match exact(argument(&args)) {
            None if *argument(&args) == DataType::Float32 => {
                Ok(Box::new(Reals::new(args.is_distinct)))
            }
            None => self.plain.accumulator(args),
            Some(scale) => {
                let output = output(Some(argument(&args)), scale);
                match args.is_distinct {
                    true => Ok(Box::new(Typed { inner: DistinctSum::new(scale), output })),
                    false => Ok(Box::new(Typed { inner: ExactSum::new(scale), output })),
                }
            }
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let Some(scale) = args.input_fields.first().and_then(|f| exact(f.data_type())) else {
            let of = args.input_fields.first().map(|f| f.data_type());
            return match of {
                Some(DataType::Float32) => Ok(real::state(args.name, args.is_distinct)),
                _ => self.plain.state_fields(args),
            };
        };
        if args.is_distinct {
            return distinct_state(&args);
        }
        let sum = DataType::Decimal128(DIGITS, scale);
        Ok(vec![Arc::new(Field::new(format!("{}[sum]", args.name), sum, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let data_type = argument(&args).clone();
        let output = match exact(&data_type) {
            Some(scale) => output(Some(&data_type), scale),
            None if data_type == DataType::Float32 => DataType::Float32,
            None => return self.plain.create_groups_accumulator(args),
        };
        let types = vec![data_type];
        let inner =
            AggregateFunction::Sum.accumulator(&types).map_err(|e| into(SqlError::from(e)))?;
        let groups = Groups::new(inner, 1, false, AggregateFunction::Sum, types);
        Ok(Box::new(groups.giving(output)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        match exact(argument(&args)) {
            Some(_) => self.accumulator(args),
            None if *argument(&args) == DataType::Float32 => self.accumulator(args),
            None => self.plain.create_sliding_accumulator(args),
        }
    }
}

/// A sum whose result has the type of the function.
#[derive(Debug)]
struct Typed<A> {
    inner: A,
    output: DataType,
}

impl<A: Accumulator> Accumulator for Typed<A> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.update_batch(values)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.retract_batch(values)
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.inner.merge_batch(states)
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let value = self.inner.evaluate()?;
        if value.data_type() == self.output {
            return Ok(value);
        }
        ScalarValue::try_from_array(&result(&value.to_array()?, &self.output)?, 0)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn size(&self) -> usize {
        self.inner.size() + size_of::<DataType>()
    }
}

/// The exact sum of one group.
#[derive(Debug)]
pub(super) struct ExactSum {
    pub(super) scale: i8,
    sum: i128,
    /// Values that are not null.
    pub(super) count: i64,
}

impl ExactSum {
    pub(super) fn new(scale: i8) -> Self {
        Self { scale, sum: 0, count: 0 }
    }

    /// Adds the values of a column, or takes them away.
    pub(super) fn change(&mut self, array: &ArrayRef, sign: i128) -> DfResult<()> {
        let (sum, count) = total(array)?;
        let changed = sum.checked_mul(sign).and_then(|s| self.sum.checked_add(s));
        self.sum = changed.ok_or_else(|| out_of_range(self.scale))?;
        self.count += if sign < 0 { -count } else { count };
        Ok(())
    }

    /// The sum; null without a value.
    pub(super) fn value(&self) -> DfResult<ScalarValue> {
        if self.count == 0 {
            return Ok(ScalarValue::Decimal128(None, DIGITS, self.scale));
        }
        if self.sum.unsigned_abs() >= 10_u128.pow(u32::from(DIGITS)) {
            return Err(out_of_range(self.scale));
        }
        Ok(ScalarValue::Decimal128(Some(self.sum), DIGITS, self.scale))
    }
}

fn out_of_range(scale: i8) -> datafusion::error::DataFusionError {
    into(SqlError::new(
        sqlstate::OUT_OF_RANGE,
        format!("sum() is out of range of numeric({DIGITS},{scale})"),
    ))
}

impl Accumulator for ExactSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values.first().map_or(Ok(()), |v| self.change(v, 1))
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values.first().map_or(Ok(()), |v| self.change(v, -1))
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.value()
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.value()?])
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Sum and number of the non-null values.
pub(super) fn total(array: &ArrayRef) -> DfResult<(i128, i64)> {
    let count = i64::try_from(array.len() - array.null_count()).unwrap_or(i64::MAX);
    let sum = match array.data_type() {
        DataType::Int8 => narrow::<Int8Type>(array),
        DataType::Int16 => narrow::<Int16Type>(array),
        DataType::Int32 => narrow::<Int32Type>(array),
        DataType::UInt8 => narrow::<UInt8Type>(array),
        DataType::UInt16 => narrow::<UInt16Type>(array),
        DataType::UInt32 => narrow::<UInt32Type>(array),
        DataType::Int64 => wide(array.as_primitive::<Int64Type>()),
        DataType::UInt64 => each::<UInt64Type>(array),
        DataType::Decimal128(..) => {
            let mut sum = 0_i128;
            for value in array.as_primitive::<Decimal128Type>().iter().flatten() {
                sum = sum.checked_add(value).ok_or_else(|| out_of_range(0))?;
            }
            sum
        }
        other => return Err(no_such_function("sum", std::slice::from_ref(other))),
    };
    Ok((sum, count))
}

fn each<T: ArrowPrimitiveType>(array: &ArrayRef) -> i128
where
    T::Native: Into<i128>,
{
    array.as_primitive::<T>().iter().flatten().map(Into::into).sum()
}

/// Up to 32 bits: a batch cannot overflow 64.
fn narrow<T: ArrowPrimitiveType>(array: &ArrayRef) -> i128
where
    T::Native: Into<i64>,
{
    let array = array.as_primitive::<T>();
    let sum: i64 = match array.nulls().filter(|n| n.null_count() > 0) {
        None => array.values().iter().map(|v| (*v).into()).sum(),
        Some(nulls) => {
            let pairs = array.values().iter().zip(nulls.iter());
            pairs.map(|(v, valid)| if valid { (*v).into() } else { 0_i64 }).sum()
        }
    };
    i128::from(sum)
}

/// 64 bits. Most batches hold values of which so many cannot overflow; else upper and lower halves are summed
/// apart. All of it is vector code.
fn wide(array: &PrimitiveArray<Int64Type>) -> i128 {
    match array.nulls().filter(|n| n.null_count() > 0) {
        None => array.values().chunks(NEAR_VALUES).map(chunk).sum(),
        Some(nulls) => {
            let pairs = array.values().iter().zip(nulls.iter());
            halves(pairs.map(|(v, valid)| if valid { *v } else { 0 }))
        }
    }
}

/// Values within `±NEAR`, so many of them, sum up within 62 bits.
const NEAR: i64 = 1 << 50;
const NEAR_VALUES: usize = 1 << 12;

fn chunk(values: &[i64]) -> i128 {
    // Above the lower 51 bits, the second one stays clear only if all values are near.
    let (sum, above) = values.iter().fold((0_i64, 0_u64), |(sum, above), v| {
        (sum.wrapping_add(*v), above | v.wrapping_add(NEAR).cast_unsigned())
    });
    if above < NEAR.cast_unsigned() * 2 { sum.into() } else { halves(values.iter().copied()) }
}

fn halves(values: impl Iterator<Item = i64>) -> i128 {
    let (high, low) = values.fold((0_i64, 0_u64), |(high, low), v| {
        (high.wrapping_add(v >> 32), low.wrapping_add(v.cast_unsigned() & 0xffff_ffff))
    });
    (i128::from(high) << 32) + i128::from(low)
}

/// The state of [`DistinctSum`]: a list of the values.
pub(super) fn distinct_state(args: &StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
    let Some(scale) = args.input_fields.first().and_then(|f| exact(f.data_type())) else {
        return Err(into(SqlError::internal("distinct values of a type that is not exact")));
    };
    let values = Field::new_list_field(DataType::Decimal128(DIGITS, scale), true);
    Ok(vec![Arc::new(Field::new_list(format!("{}[sum]", args.name), values, false))])
}

/// The exact sum of the distinct values of one group.
#[derive(Debug)]
pub(super) struct DistinctSum {
    scale: i8,
    values: HashSet<i128>,
}

impl DistinctSum {
    pub(super) fn new(scale: i8) -> Self {
        Self { scale, values: HashSet::new() }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    fn insert(&mut self, array: &ArrayRef) -> DfResult<()> {
        let decimal = DataType::Decimal128(DIGITS, self.scale);
        let array = arrow::compute::cast(array, &decimal)?;
        self.values.extend(array.as_primitive::<Decimal128Type>().iter().flatten());
        Ok(())
    }
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values.first().map_or(Ok(()), |v| self.insert(v))
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let Some(lists) = states.first() else { return Ok(()) };
        for list in lists.as_list::<i32>().iter().flatten() {
            self.insert(&list)?;
        }
        Ok(())
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        if self.values.is_empty() {
            return Ok(ScalarValue::Decimal128(None, DIGITS, self.scale));
        }
        let sum = self.values.iter().try_fold(0_i128, |sum, v| sum.checked_add(*v));
        let in_range = sum.filter(|s| s.unsigned_abs() < 10_u128.pow(u32::from(DIGITS)));
        let sum = in_range.ok_or_else(|| out_of_range(self.scale))?;
        Ok(ScalarValue::Decimal128(Some(sum), DIGITS, self.scale))
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let values = Decimal128Array::from_iter_values(self.values.iter().copied())
            .with_precision_and_scale(DIGITS, self.scale)?;
        let list = SingleRowListArrayBuilder::new(Arc::new(values)).build_list_array();
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<i128>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    #[test]
    fn sums_of_bigints_never_wrap() {
        let check = |values: Vec<Option<i64>>| {
            let expected: i128 = values.iter().flatten().map(|v| i128::from(*v)).sum();
            let count = i64::try_from(values.iter().flatten().count()).unwrap();
            let array: ArrayRef = Arc::new(Int64Array::from(values));
            assert_eq!(total(&array).unwrap(), (expected, count));
        };
        check(vec![Some(i64::MAX); 5_000]);
        check(vec![Some(i64::MIN); 5_000]);
        check(vec![Some(-1), None, Some(i64::MIN), Some(i64::MAX), Some(7)]);
        for edge in [NEAR - 1, NEAR, -NEAR, -NEAR - 1, i64::MAX - NEAR, i64::MIN + NEAR, -1] {
            check(vec![Some(edge); 3 * NEAR_VALUES + 5]);
            check(vec![Some(1), Some(edge), Some(-1)]);
        }
        check(vec![None]);
    }
}
