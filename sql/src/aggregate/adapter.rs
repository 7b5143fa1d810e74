//! The two shapes in which DataFusion drives an aggregate, over the one shape of the engine.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use otus_engine::expr::AggregateFunction;
use otus_engine::state::StateAccumulator;
use parking_lot::Mutex;

use super::udaf::into;
use crate::error::{SqlError, sqlstate};

fn failed(e: otus_engine::Error) -> datafusion::error::DataFusionError {
    into(SqlError::from(e))
}

/// Finished values as values of the function's type.
pub(super) fn result(values: &ArrayRef, output: &DataType) -> DfResult<ArrayRef> {
    if values.data_type() == output {
        return Ok(Arc::clone(values));
    }
    let checked = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(values, output, &checked).map_err(|_| {
        let message = format!("{} out of range", crate::error::pg_type(output));
        into(SqlError::new(sqlstate::OUT_OF_RANGE, message))
    })
}

/// Many groups.
pub(super) struct Groups {
    inner: Box<dyn StateAccumulator>,
    used: usize,
    merges: bool,
    function: AggregateFunction,
    types: Vec<DataType>,
    /// Type of the result, where it is not that of the state.
    output: Option<DataType>,
}

impl Groups {
    /// Drives `inner` with the first `used` arguments; `merges` = the arguments are states.
    pub(super) fn new(
        inner: Box<dyn StateAccumulator>,
        used: usize,
        merges: bool,
        function: AggregateFunction,
        types: Vec<DataType>,
    ) -> Self {
        Self { inner, used, merges, function, types, output: None }
    }

    /// The same with results of another type.
    pub(super) fn giving(self, output: DataType) -> Self {
        Self { output: Some(output), ..self }
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Groups({:?})", self.function)
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let values = values.get(..self.used.min(values.len())).unwrap_or(values);
        if self.merges {
            self.inner.merge(values, groups, filter, total).map_err(failed)
        } else {
            self.inner.update(values, groups, filter, total).map_err(failed)
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let values = self.inner.finish(emit_to).map_err(failed)?;
        match &self.output {
            Some(output) => result(&values, output),
            None => Ok(values),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        self.inner.state(emit_to).map_err(failed)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.inner.merge(values, groups, None, total).map_err(failed)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |v| v.len());
        let inner = self.function.accumulator(&self.types).map_err(failed)?;
        let mut each = Self::new(inner, self.used, self.merges, self.function, self.types.clone());
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// One group.
#[derive(Debug)]
pub(super) struct Single {
    /// Never contended: the lock only makes the state shareable, which the planner asks for.
    inner: Mutex<Box<dyn StateAccumulator>>,
    used: usize,
    merges: bool,
    zeros: Vec<usize>,
    /// Empty arguments, by which the one group comes to be.
    nothing: Vec<ArrayRef>,
    touched: bool,
    /// Type of the result, where it is not that of the state.
    output: Option<DataType>,
}

impl Single {
    /// See [`Groups::new`]. `types` are the types of the arguments.
    pub(super) fn new(
        inner: Box<dyn StateAccumulator>,
        used: usize,
        merges: bool,
        types: &[DataType],
    ) -> Self {
        let nothing = types.iter().take(used).map(arrow::array::new_empty_array).collect();
        let inner = Mutex::new(inner);
        Self { inner, used, merges, zeros: Vec::new(), nothing, touched: false, output: None }
    }

    /// The same with a result of another type.
    pub(super) fn giving(self, output: DataType) -> Self {
        Self { output: Some(output), ..self }
    }

    fn add(&mut self, values: &[ArrayRef], merge: bool) -> DfResult<()> {
        self.touched = true;
        let rows = values.first().map_or(0, |v| v.len());
        if self.zeros.len() < rows {
            self.zeros.resize(rows, 0);
        }
        let zeros = self.zeros.get(..rows).unwrap_or_default();
        let result = match merge {
            true => self.inner.get_mut().merge(values, zeros, None, 1),
            false => self.inner.get_mut().update(values, zeros, None, 1),
        };
        result.map_err(failed)
    }

    /// Makes the one group exist even if no row ever came.
    fn touch(&mut self) -> DfResult<()> {
        if self.touched {
            return Ok(());
        }
        let nothing = self.nothing.clone();
        self.add(&nothing, self.merges)
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let values = values.get(..self.used.min(values.len())).unwrap_or(values);
        self.add(values, self.merges)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.add(states, true)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.touch()?;
        let mut array = self.inner.get_mut().finish(EmitTo::All).map_err(failed)?;
        if let Some(output) = &self.output {
            array = result(&array, output)?;
        }
        ScalarValue::try_from_array(&array, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.touch()?;
        let arrays = self.inner.get_mut().state(EmitTo::All).map_err(failed)?;
        arrays.iter().map(|a| ScalarValue::try_from_array(a, 0)).collect()
    }

    fn size(&self) -> usize {
        self.inner.lock().size() + self.zeros.capacity() * size_of::<usize>()
    }
}
