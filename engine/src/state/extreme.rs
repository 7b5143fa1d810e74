//! `min(x)` and `max(x)`.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::DataType;

use super::values::{Kind, build, canonical, typed};
use super::{EmitTo, StateAccumulator, column, for_each, heap_bytes, selection};
use crate::error::Result;

/// The least or greatest value per group.
#[derive(Debug)]
pub(super) struct ExtremeState<K: Kind> {
    data_type: DataType,
    /// How a value must compare with the kept one to replace it.
    wins: Ordering,
    values: Vec<Option<K::Owned>>,
}

impl<K: Kind> ExtremeState<K> {
    pub(super) fn new(data_type: DataType, least: bool) -> Self {
        let wins = if least { Ordering::Less } else { Ordering::Greater };
        Self { data_type, wins, values: Vec::new() }
    }
}

impl<K: Kind> StateAccumulator for ExtremeState<K> {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.values.resize(total_groups, None);
        let array = canonical::<K>(column(args, 0)?)?;
        let selected = selection(array.nulls(), filter);
        let array = typed::<K>(&array)?;
        for_each(groups, selected.as_ref(), |row, group| {
            let item = K::item(array, row);
            match &mut self.values[group] {
                Some(kept) if K::compare(item, kept) != self.wins => {}
                slot => *slot = Some(K::own(item)),
            }
        });
        Ok(())
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        build::<K>(emit.take_needed(&mut self.values), &self.data_type)
    }

    fn size(&self) -> usize {
        let heap = heap_bytes(&self.values, |v| v.as_ref().map_or(0, K::heap_bytes));
        self.values.capacity() * size_of::<Option<K::Owned>>() + heap
    }
}
