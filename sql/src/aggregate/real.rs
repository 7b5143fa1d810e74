//! `sum` of reals: added up in double precision, a real in the end.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

use super::udaf::into;
use crate::error::{SqlError, sqlstate};

/// The state of a sum of reals; that of distinct ones is a list of them.
pub(super) fn state(name: &str, is_distinct: bool) -> Vec<FieldRef> {
    let name = format!("{name}[sum]");
    let field = match is_distinct {
        true => Field::new_list(name, Field::new_list_field(DataType::Float64, true), false),
        false => Field::new(name, DataType::Float64, true),
    };
    vec![Arc::new(field)]
}

/// The sum of one group.
#[derive(Debug, Default)]
pub(super) struct Reals {
    sum: f64,
    /// Values that are not null.
    count: i64,
    /// The bits of the values, where equal ones count once.
    distinct: Option<HashSet<u64>>,
}

impl Reals {
    pub(super) fn new(is_distinct: bool) -> Self {
        Self { distinct: is_distinct.then(HashSet::new), ..Self::default() }
    }

    fn change(&mut self, values: &[ArrayRef], sign: f64) -> DfResult<()> {
        let Some(array) = values.first() else { return Ok(()) };
        let array = cast(array, &DataType::Float64)?;
        for value in array.as_primitive::<Float64Type>().iter().flatten() {
            match &mut self.distinct {
                // Both zeros are one.
                Some(known) => _ = known.insert((value + 0.0).to_bits()),
                None => {
                    self.sum += sign * value;
                    self.count += if sign < 0.0 { -1 } else { 1 };
                }
            }
        }
        Ok(())
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.distinct.iter().flatten().copied().map(f64::from_bits)
    }
}

impl Accumulator for Reals {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.change(values, 1.0)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.change(values, -1.0)
    }
    fn supports_retract_batch(&self) -> bool {
        self.distinct.is_none()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        if self.distinct.is_none() {
            return self.change(states, 1.0);
        }
        let Some(lists) = states.first() else { return Ok(()) };
        lists.as_list::<i32>().iter().flatten().try_for_each(|list| self.change(&[list], 1.0))
    }
    #[expect(clippy::cast_possible_truncation, reason = "a sum of reals is a real")]
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let (sum, is_empty) = match &self.distinct {
            Some(known) => (self.values().sum(), known.is_empty()),
            None => (self.sum, self.count == 0),
        };
        if is_empty {
            return Ok(ScalarValue::Float32(None));
        }
        let real = sum as f32;
        if real.is_infinite() && sum.is_finite() {
            let message = "value out of range: overflow";
            return Err(into(SqlError::new(sqlstate::OUT_OF_RANGE, message)));
        }
        Ok(ScalarValue::Float32(Some(real)))
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        if self.distinct.is_none() {
            return Ok(vec![ScalarValue::Float64((self.count > 0).then_some(self.sum))]);
        }
        let values = Float64Array::from_iter_values(self.values());
        let list = SingleRowListArrayBuilder::new(Arc::new(values)).build_list_array();
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }
    fn size(&self) -> usize {
        let distinct = self.distinct.as_ref().map_or(0, HashSet::capacity);
        size_of_val(self) + distinct * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float32Array;

    #[test]
    fn sums_are_reals() {
        let reals: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(0.1), None, Some(0.2), Some(0.2)]));
        let sum = |is_distinct, times| {
            let mut sum = Reals::new(is_distinct);
            for _ in 0..times {
                sum.update_batch(std::slice::from_ref(&reals)).unwrap();
            }
            let state = sum.state().unwrap().remove(0).to_array().unwrap();
            let mut merged = Reals::new(is_distinct);
            merged.merge_batch(&[state]).unwrap();
            assert_eq!(merged.evaluate().unwrap(), sum.evaluate().unwrap());
            sum.evaluate().unwrap()
        };
        assert_eq!(sum(false, 1), ScalarValue::Float32(Some(0.5)));
        assert_eq!(sum(true, 2), ScalarValue::Float32(Some(0.3)));
        assert_eq!(sum(false, 0), ScalarValue::Float32(None));
        assert_eq!(sum(true, 0), ScalarValue::Float32(None));
        let great: ArrayRef = Arc::new(Float32Array::from(vec![f32::MAX; 2]));
        let mut over = Reals::new(false);
        over.update_batch(&[great]).unwrap();
        assert_eq!(SqlError::from(over.evaluate().unwrap_err()).sqlstate, sqlstate::OUT_OF_RANGE);
    }
}
