//! The value at a share of the way between two numbers, as Postgres has it: the planner's `percentile_cont` knows only
//! millionths of the way. It gathers the values; what lies between them is told here.

use std::cmp::Ordering;
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use crate::error::SqlError;

/// What gathers the values of one group, told at a share.
pub(super) fn one(inner: Box<dyn Accumulator>, share: f64) -> Box<dyn Accumulator> {
    Box::new(One { inner, share })
}

/// As [`one`], of many groups.
pub(super) fn groups(inner: Box<dyn GroupsAccumulator>, share: f64) -> Box<dyn GroupsAccumulator> {
    Box::new(Groups { inner, share })
}

/// NaN is the greatest number, and all are alike.
fn compared(a: &f64, b: &f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer values than a double has numbers")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
fn at(values: &mut [f64], share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = share * last as f64;
    let (low, rest) = (place.floor() as usize, place.fract());
    let (_, found, above) = values.select_nth_unstable_by(low.min(last), compared);
    let found = *found;
    let next = above.iter().copied().min_by(compared).filter(|_| rest > 0.0);
    Some(next.map_or(found, |next| found + (next - found) * rest))
}

fn of_list(list: &ArrayRef, share: f64) -> DfResult<Option<f64>> {
    let values = cast(list, &DataType::Float64)?;
    let mut values: Vec<f64> = values.as_primitive::<Float64Type>().iter().flatten().collect();
    Ok(at(&mut values, share))
}

fn lists(states: &[ArrayRef]) -> DfResult<&ListArray> {
    let lists = states.first().and_then(|state| state.as_list_opt::<i32>());
    lists.ok_or_else(|| SqlError::internal("a percentile keeps a list").into())
}

struct One {
    inner: Box<dyn Accumulator>,
    share: f64,
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "One({})", self.share)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.update_batch(values)
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.inner.merge_batch(states)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.retract_batch(values)
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let near = self.inner.evaluate()?;
        if near.is_null() {
            return Ok(near);
        }
        let states = self.inner.state()?;
        let states: Vec<_> = states.iter().map(ScalarValue::to_array).collect::<Result<_, _>>()?;
        // A window asks again with more rows.
        self.inner.merge_batch(&states)?;
        let lists = lists(&states)?;
        let found = match lists.is_valid(0) {
            true => of_list(&lists.value(0), self.share)?,
            false => None,
        };
        ScalarValue::Float64(found).cast_to(&near.data_type())
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn size(&self) -> usize {
        // Sorted as doubles.
        self.inner.size().saturating_mul(2)
    }
}

struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    share: f64,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.inner.update_batch(values, groups, filter, total)
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.inner.merge_batch(values, groups, total)
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let states = self.inner.state(emit_to)?;
        let lists = lists(&states)?;
        let found = (0..lists.len()).map(|group| match lists.is_valid(group) {
            true => of_list(&lists.value(group), self.share),
            false => Ok(None),
        });
        let found: Float64Array = found.collect::<DfResult<_>>()?;
        Ok(cast(&found, &lists.value_type())?)
    }
    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }
    fn size(&self) -> usize {
        self.inner.size().saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_their_neighbours() {
        let mut values: Vec<f64> = (0..3000).map(f64::from).collect();
        assert_eq!(at(&mut values, 0.9), Some(2699.1));
        assert_eq!(at(&mut values, 1.0), Some(2999.0));
        assert_eq!(at(&mut [], 0.5), None);
        assert_eq!(at(&mut [f64::NAN, 1.0], 0.0), Some(1.0));
        assert!(at(&mut [f64::NAN, 1.0], 0.5).unwrap().is_nan());
        assert_eq!(at(&mut [f64::INFINITY, 1.0], 0.5), Some(f64::INFINITY));
    }
}
