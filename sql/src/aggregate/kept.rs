//! States as values: what `<function>_state` gives and `<function>_merge` takes back.

use arrow::array::{ArrayRef, BooleanArray};
use otus_engine::state::{EmitTo, StateAccumulator};
use otus_engine::{Error, ErrorKind, Result};

use super::udaf::state_column;

/// Finishes with the state itself: one column as it is, more as a struct.
#[derive(Debug)]
pub(super) struct GivesState(pub(super) Box<dyn StateAccumulator>);

impl StateAccumulator for GivesState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.0.update(args, groups, filter, total_groups)
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.0.merge(states, groups, filter, total_groups)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit)
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        state_column(self.0.state(emit)?).map_err(|e| Error::internal(e.to_string()))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// Merges bytes that a user gave, which may be anything.
#[derive(Debug)]
pub(super) struct KeptStates {
    pub(super) inner: Box<dyn StateAccumulator>,
    /// The function whose states they should be.
    pub(super) name: &'static str,
}

impl StateAccumulator for KeptStates {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.inner.update(args, groups, filter, total_groups)
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let name = self.name;
        self.inner.merge(states, groups, filter, total_groups).map_err(|e| match e.kind() {
            ErrorKind::Corrupt => {
                Error::invalid(format!("the argument of {name}_merge() is no state of {name}()"))
            }
            _ => e,
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.inner.finish(emit)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}
