//! One run of a rollup's aggregation: rows or partial states are pushed in, states or finished values come
//! out. Memory is bounded by the number of distinct keys.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::{filter_record_batch, take_arrays};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};

use super::{Dimension, RollupPlan, column};
use crate::error::{Error, Result};
use crate::expr::CompiledExpr;
use crate::order::{EmitTo, Grouping, project, sort_indices};
use crate::state::StateAccumulator;
use crate::time::Granularity;

/// A running aggregation of one [`RollupPlan`] at one granularity.
#[derive(Debug)]
pub struct Aggregation<'a> {
    plan: &'a RollupPlan,
    granularity: Granularity,
    grouping: Grouping,
    accumulators: Vec<Box<dyn StateAccumulator>>,
}

impl<'a> Aggregation<'a> {
    pub(super) fn new(plan: &'a RollupPlan, granularity: Granularity) -> Result<Self> {
        let keys: Vec<usize> = (0..=plan.dimensions.len()).collect();
        let grouping = Grouping::new(project(&plan.schema, &keys)?)?;
        let accumulators = plan
            .calls
            .iter()
            .map(|c| c.call.function.accumulator(&c.arg_types))
            .collect::<Result<_>>()?;
        Ok(Self { plan, granularity, grouping, accumulators })
    }

    /// Adds raw rows, of the raw schema that the plan was made for; those that its filter is not true for are
    /// passed over.
    pub fn push_raw(&mut self, batch: &RecordBatch) -> Result<()> {
        match &self.plan.filter {
            Some(filter) if batch.num_rows() > 0 => {
                let keep = evaluate_filter(filter.as_ref(), batch)?;
                self.push_kept(&filter_record_batch(batch, &keep)?)
            }
            _ => self.push_kept(batch),
        }
    }

    fn push_kept(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut keys = vec![self.buckets(column(batch, self.plan.time)?)?];
        for dimension in &self.plan.dimensions {
            keys.push(match dimension {
                Dimension::Column(index) => {
                    column(batch, *index)?;
                    Arc::clone(batch.column(*index))
                }
                Dimension::Computed(expr) => expr.evaluate(batch)?,
            });
        }
        self.grouping.intern(&keys)?;
        let total = self.grouping.len();
        for (planned, accumulator) in self.plan.calls.iter().zip(&mut self.accumulators) {
            let args = planned
                .call
                .args
                .iter()
                .map(|arg| arg.evaluate(batch))
                .collect::<Result<Vec<_>>>()?;
            let filter = planned.call.filter.as_ref().map(|f| evaluate_filter(f.as_ref(), batch));
            let filter = filter.transpose()?;
            accumulator.update(&args, self.grouping.numbers(), filter.as_ref(), total)?;
        }
        Ok(())
    }

    /// Adds partial states, of the plan's schema and of a granularity that divides this one.
    pub fn push_states(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut keys = vec![self.buckets(column(batch, 0)?)?];
        for index in 1..=self.plan.dimensions.len() {
            column(batch, index)?;
            keys.push(Arc::clone(batch.column(index)));
        }
        self.grouping.intern(&keys)?;
        let total = self.grouping.len();
        for (planned, accumulator) in self.plan.calls.iter().zip(&mut self.accumulators) {
            let states = batch.columns().get(planned.states.clone()).ok_or_else(|| {
                Error::internal(format!("partial states lack call {:?}", planned.call.key))
            })?;
            accumulator.merge(states, self.grouping.numbers(), None, total)?;
        }
        Ok(())
    }

    pub(super) fn plan(&self) -> &'a RollupPlan {
        self.plan
    }

    /// Distinct keys so far.
    pub fn len(&self) -> usize {
        self.grouping.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        self.grouping.size() + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }

    /// Takes the partial states, sorted by bucket and dimensions.
    pub fn finish(mut self) -> Result<RecordBatch> {
        self.take_states()
    }

    /// Takes the partial states and starts anew.
    pub fn take_states(&mut self) -> Result<RecordBatch> {
        if self.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.plan.schema)));
        }
        let mut columns = self.grouping.emit()?;
        let keys = columns.len();
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.plan.schema), sorted(columns, keys)?)?)
    }

    /// Takes the finished values: bucket, dimensions and one column per call, named by the call's key.
    pub fn finish_values(mut self) -> Result<RecordBatch> {
        let mut fields: Vec<Field> =
            self.plan.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.truncate(1 + self.plan.dimensions.len());
        for planned in &self.plan.calls {
            let output = planned.call.function.output_type(&planned.arg_types)?;
            fields.push(Field::new(&planned.call.key, output, true));
        }
        let schema = Arc::new(Schema::new(fields));
        if self.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let mut columns = self.grouping.emit()?;
        let keys = columns.len();
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.finish(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(schema, sorted(columns, keys)?)?)
    }

    /// The starts of the buckets that hold these times.
    fn buckets(&self, times: &dyn Array) -> Result<ArrayRef> {
        let times = times
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| Error::internal(format!("event times of type {}", times.data_type())))?;
        if times.null_count() > 0 {
            return Err(Error::internal("a row without event time cannot be rolled up"));
        }
        // Neighbours mostly share a bucket: keep its bounds.
        let (mut start, mut end) = (0, 0);
        let mut starts = Vec::with_capacity(times.len());
        for time in times.values() {
            if *time < start || *time >= end {
                start = self.granularity.floor_us(*time);
                end = self.granularity.next_us(*time);
            }
            starts.push(start);
        }
        Ok(Arc::new(TimestampMicrosecondArray::from(starts).with_timezone("UTC")))
    }
}

fn evaluate_filter(filter: &dyn CompiledExpr, batch: &RecordBatch) -> Result<BooleanArray> {
    let array = filter.evaluate(batch)?;
    array.as_boolean_opt().cloned().ok_or_else(|| {
        Error::internal(format!("a filter gave values of type {}", array.data_type()))
    })
}

/// The columns with their rows sorted by the first `keys` of them.
fn sorted(columns: Vec<ArrayRef>, keys: usize) -> Result<Vec<ArrayRef>> {
    match sort_indices(&columns[..keys])? {
        None => Ok(columns),
        Some(indices) => Ok(take_arrays(&columns, &indices, None)?),
    }
}
