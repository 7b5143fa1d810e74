//! Variance and standard deviation from (n, mean, m2), the sum of squared distances from the mean.
//! Merging follows Chan, Golub and LeVeque, which keeps the digits that a sum of squares loses.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::{EmitTo, StateAccumulator, column, downcast, for_each, selection};
use crate::error::Result;
use crate::expr::AggregateFunction;

/// Moments per group; the function decides how they finish.
#[derive(Debug)]
pub(super) struct MomentsState {
    function: AggregateFunction,
    moments: Vec<Moments>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: i64,
    mean: f64,
    m2: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.n += 1;
        let delta = value - self.mean;
        self.mean += delta / count_f64(self.n);
        self.m2 += delta * (value - self.mean);
    }

    fn merge(&mut self, other: Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = other;
            return;
        }
        let n = self.n.saturating_add(other.n);
        let delta = other.mean - self.mean;
        let share = count_f64(other.n) / count_f64(n);
        self.m2 += other.m2 + delta * delta * count_f64(self.n) * share;
        self.mean += delta * share;
        self.n = n;
    }

    fn finish(self, function: AggregateFunction) -> Option<f64> {
        let sample = matches!(function, AggregateFunction::VarSamp | AggregateFunction::StddevSamp);
        let divisor = if sample { self.n - 1 } else { self.n };
        if divisor <= 0 {
            return None;
        }
        let variance = self.m2 / count_f64(divisor);
        let root = matches!(function, AggregateFunction::StddevPop | AggregateFunction::StddevSamp);
        Some(if root { variance.sqrt() } else { variance })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 loses nothing that shows")]
fn count_f64(n: i64) -> f64 {
    n as f64
}

impl MomentsState {
    pub(super) fn new(function: AggregateFunction) -> Self {
        Self { function, moments: Vec::new() }
    }
}

impl StateAccumulator for MomentsState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.moments.resize(total_groups, Moments::default());
        let array = cast(column(args, 0)?, &DataType::Float64)?;
        let values = downcast::<Float64Array>(array.as_ref())?.values();
        let selected = selection(array.nulls(), filter);
        for_each(groups, selected.as_ref(), |row, group| self.moments[group].add(values[row]));
        Ok(())
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.moments.resize(total_groups, Moments::default());
        let n = downcast::<Int64Array>(column(states, 0)?)?;
        let mean = downcast::<Float64Array>(column(states, 1)?)?.values();
        let m2 = downcast::<Float64Array>(column(states, 2)?)?.values();
        let selected = selection(n.nulls(), filter);
        let n = n.values();
        for_each(groups, selected.as_ref(), |row, group| {
            self.moments[group].merge(Moments { n: n[row], mean: mean[row], m2: m2[row] });
        });
        Ok(())
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let moments = emit.take_needed(&mut self.moments);
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(moments.iter().map(|m| m.n))),
            Arc::new(Float64Array::from_iter_values(moments.iter().map(|m| m.mean))),
            Arc::new(Float64Array::from_iter_values(moments.iter().map(|m| m.m2))),
        ])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let moments = emit.take_needed(&mut self.moments);
        Ok(Arc::new(moments.iter().map(|m| m.finish(self.function)).collect::<Float64Array>()))
    }

    fn size(&self) -> usize {
        self.moments.capacity() * size_of::<Moments>()
    }
}
