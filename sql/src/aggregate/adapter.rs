//! The two shapes in which DataFusion drives an aggregate, over the one shape of the engine.

use std::fmt;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use otus_engine::expr::AggregateFunction;
use otus_engine::state::StateAccumulator;
use parking_lot::Mutex;

use super::udaf::{Mode, into, state_column};
use crate::error::SqlError;

fn failed(e: otus_engine::Error) -> datafusion::error::DataFusionError {
    into(SqlError::from(e))
}

/// Many groups.
pub(super) struct Groups {
    inner: Box<dyn StateAccumulator>,
    used: usize,
    mode: Mode,
    function: AggregateFunction,
    types: Vec<DataType>,
}

impl Groups {
    /// Drives `inner` with the first `used` arguments; `mode` says what the arguments and the result are.
    pub(super) fn new(
        inner: Box<dyn StateAccumulator>,
        used: usize,
        mode: Mode,
        function: AggregateFunction,
        types: Vec<DataType>,
    ) -> Self {
        Self { inner, used, mode, function, types }
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
        if self.mode == Mode::Merge {
            self.inner.merge(values, groups, filter, total).map_err(failed)
        } else {
            self.inner.update(values, groups, filter, total).map_err(failed)
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        match self.mode {
            Mode::State => state_column(self.inner.state(emit_to).map_err(failed)?),
            _ => self.inner.finish(emit_to).map_err(failed),
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
        let mut each = Self::new(inner, self.used, self.mode, self.function, self.types.clone());
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
    mode: Mode,
    zeros: Vec<usize>,
    /// Empty arguments, by which the one group comes to be.
    nothing: Vec<ArrayRef>,
    touched: bool,
}

impl Single {
    /// See [`Groups::new`]. `types` are the types of the arguments.
    pub(super) fn new(
        inner: Box<dyn StateAccumulator>,
        used: usize,
        mode: Mode,
        types: &[DataType],
    ) -> Self {
        let nothing = types.iter().take(used).map(arrow::array::new_empty_array).collect();
        let inner = Mutex::new(inner);
        Self { inner, used, mode, zeros: Vec::new(), nothing, touched: false }
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
        self.add(&nothing, self.mode == Mode::Merge)
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let values = values.get(..self.used.min(values.len())).unwrap_or(values);
        self.add(values, self.mode == Mode::Merge)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.add(states, true)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.touch()?;
        let inner = self.inner.get_mut();
        let array = match self.mode {
            Mode::State => state_column(inner.state(EmitTo::All).map_err(failed)?)?,
            _ => inner.finish(EmitTo::All).map_err(failed)?,
        };
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
