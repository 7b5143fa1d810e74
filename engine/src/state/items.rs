//! `top_k(x, k)`: the values that come most often, by an Apache frequent-items sketch of texts. A count is at
//! most 0.2% of all rows too great and never too small; up to 1,536 different values it is exact.
//!
//! What a value's text is does not depend on where it came from, so states merge. Which rare values are kept
//! depends on how the rows were split, within that error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringViewArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};

use super::{
    EmitTo, StateAccumulator, column, downcast, for_each_image, heap_bytes, images, selection,
    try_for_each,
};
use crate::error::{Error, Result};

/// Slots of the sketch's table, of which three quarters are used.
const SLOTS: usize = 2_048;

/// Most values that may be asked for: far fewer than are kept.
pub const TOP_K_MAX: u32 = 1_000;

type Sketch = FrequentItemsSketch<String>;

/// Whether values of this type can be counted: those with a text.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    !data_type.is_nested()
        && !matches!(
            data_type,
            DataType::Null
                | DataType::Interval(_)
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::FixedSizeBinary(_)
                | DataType::BinaryView
        )
}

/// A sketch per group.
#[derive(Debug)]
pub(super) struct ItemsState {
    k: usize,
    slots: Vec<Option<Box<Sketch>>>,
}

impl ItemsState {
    pub(super) fn new(k: u32) -> Self {
        Self { k: usize::try_from(k).unwrap_or(usize::MAX), slots: Vec::new() }
    }

    fn sketch(&mut self, group: usize) -> Result<&mut Sketch> {
        let slot = &mut self.slots[group];
        match slot {
            Some(sketch) => Ok(sketch),
            None => Ok(slot.insert(Box::new(Sketch::new(SLOTS).map_err(failed)?))),
        }
    }
}

fn failed(e: datasketches::error::Error) -> Error {
    Error::corrupt("a sketch of frequent values cannot be read").with_source(e)
}

/// The `k` greatest counts as a JSON array, greatest first; among equals by value.
fn top(sketch: &Sketch, k: usize) -> String {
    let mut rows = sketch.frequent_items(ErrorType::NoFalseNegatives);
    rows.sort_by(|a, b| b.estimate().cmp(&a.estimate()).then_with(|| a.item().cmp(b.item())));
    let list: Vec<String> = rows
        .iter()
        .take(k)
        .map(|row| {
            let value = serde_json::Value::from(row.item().as_str());
            format!("{{\"value\":{value},\"count\":{}}}", row.estimate())
        })
        .collect();
    format!("[{}]", list.join(","))
}

impl StateAccumulator for ItemsState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize_with(total_groups, || None);
        let texts = cast(column(args, 0)?, &DataType::Utf8View)?;
        let selected = selection(texts.nulls(), filter);
        let texts: &StringViewArray = downcast(texts.as_ref())?;
        try_for_each(groups, selected.as_ref(), |row, group| {
            self.sketch(group)?.update_ref(texts.value(row));
            Ok(())
        })
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize_with(total_groups, || None);
        for_each_image(states, groups, filter, |group, image| {
            let other = Sketch::deserialize(image).map_err(failed)?;
            let sketch = self.sketch(group)?;
            if sketch.total_weight().checked_add(other.total_weight()).is_none() {
                return Err(Error::corrupt("counts of frequent values exceed 64 bits"));
            }
            sketch.merge(&other);
            Ok(())
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let slots = emit.take_needed(&mut self.slots);
        Ok(vec![images(&slots, |slot| slot.as_ref().map(|sketch| sketch.serialize()))])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let slots = emit.take_needed(&mut self.slots);
        let mut lists = StringViewBuilder::with_capacity(slots.len());
        for slot in &slots {
            lists.append_option(slot.as_ref().map(|sketch| top(sketch, self.k)));
        }
        Ok(Arc::new(lists.finish()))
    }

    fn size(&self) -> usize {
        let heap = heap_bytes(&self.slots, |slot| {
            slot.as_ref().map_or(0, |s| size_of::<Sketch>() + s.estimated_size())
        });
        self.slots.capacity() * size_of::<Option<Box<Sketch>>>() + heap
    }
}
