//! `count(*)` and `count(x)`: a bigint.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};

use super::{EmitTo, StateAccumulator, column, downcast, for_each, selection};
use crate::error::{Error, Result};

/// Rows, or non-null values if there is an argument, per group.
#[derive(Debug, Default)]
pub(super) struct CountState {
    counts: Vec<i64>,
}

impl StateAccumulator for CountState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_groups, 0);
        let nulls = args.first().and_then(|a| a.logical_nulls());
        let selected = selection(nulls.as_ref(), filter);
        for_each(groups, selected.as_ref(), |_, group| self.counts[group] += 1);
        Ok(())
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_groups, 0);
        let counts: &Int64Array = downcast(column(states, 0)?)?;
        let selected = selection(counts.nulls(), filter);
        let values = counts.values();
        let mut overflow = false;
        for_each(groups, selected.as_ref(), |row, group| {
            let (sum, wrapped) = self.counts[group].overflowing_add(values[row]);
            overflow |= wrapped;
            self.counts[group] = sum;
        });
        if overflow {
            return Err(Error::invalid("count() is out of range of bigint"));
        }
        Ok(())
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(emit.take_needed(&mut self.counts))))
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
