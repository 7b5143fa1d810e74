//! `approx_quantile(x, p)`: an Apache KLL sketch of doubles (k = 200, rank error about 1.3%). `NaN` values
//! are ignored. Its compaction is random, so two ways of merging differ within the rank error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datasketches::common::SearchCriteria;
use datasketches::kll::{KllFloat, KllSketch};

use super::{
    EmitTo, StateAccumulator, column, downcast, for_each_image, heap_bytes, images, selection,
    try_for_each,
};
use crate::error::{Error, Result};

/// Accuracy of the sketch.
const K: u16 = 200;

type Sketch = KllSketch<KllFloat<f64>>;

/// A sketch per group.
#[derive(Debug)]
pub(super) struct QuantileState {
    p: f64,
    slots: Vec<Option<Box<Sketch>>>,
}

impl QuantileState {
    pub(super) fn new(p: f64) -> Self {
        Self { p, slots: Vec::new() }
    }
}

fn failed(e: datasketches::error::Error) -> Error {
    Error::corrupt("a quantile sketch cannot be read").with_source(e)
}

fn add(slot: &mut Option<Box<Sketch>>, value: KllFloat<f64>) -> Result<()> {
    if slot.is_none() {
        *slot = Some(Box::new(Sketch::new(K).map_err(failed)?));
    }
    if let Some(sketch) = slot {
        sketch.update(value);
    }
    Ok(())
}

impl StateAccumulator for QuantileState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize(total_groups, None);
        let array = cast(column(args, 0)?, &DataType::Float64)?;
        let values = downcast::<Float64Array>(array.as_ref())?.values();
        let selected = selection(array.nulls(), filter);
        try_for_each(groups, selected.as_ref(), |row, group| {
            match KllFloat::<f64>::new(values[row]) {
                Ok(value) => add(&mut self.slots[group], value),
                Err(_) => Ok(()),
            }
        })
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize(total_groups, None);
        for_each_image(states, groups, filter, |group, image| {
            let other = Sketch::deserialize(image).map_err(failed)?;
            match &mut self.slots[group] {
                Some(sketch) => sketch.merge(&other).map_err(failed),
                slot => {
                    *slot = Some(Box::new(other));
                    Ok(())
                }
            }
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let slots = emit.take_needed(&mut self.slots);
        Ok(vec![images(&slots, |slot| slot.as_ref().map(|sketch| sketch.serialize()))])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let slots = emit.take_needed(&mut self.slots);
        let mut values = Vec::with_capacity(slots.len());
        for slot in &slots {
            values.push(match slot {
                Some(sketch) => sketch
                    .quantile(self.p, SearchCriteria::Inclusive)
                    .map_err(failed)?
                    .map(KllFloat::into_inner),
                None => None,
            });
        }
        Ok(Arc::new(Float64Array::from(values)))
    }

    fn size(&self) -> usize {
        let heap = heap_bytes(&self.slots, |slot| {
            slot.as_ref().map_or(0, |s| size_of::<Sketch>() + s.num_retained() * size_of::<f64>())
        });
        self.slots.capacity() * size_of::<Option<Box<Sketch>>>() + heap
    }
}
