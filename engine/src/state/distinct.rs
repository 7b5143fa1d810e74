//! `approx_distinct(x)`: an Apache HLL sketch (lg k = 12, 8 bits a register, 1.6% standard error), readable
//! by the other DataSketches libraries. Small groups stay lists of hashes. The finish is always the
//! composite estimate, since the plain one depends on the order of merging.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use datasketches::hll::{Coupon, HllSketch, HllType};

use super::hashed::{Sink, hash_each};
use super::hll::{LG_K, Merged, failed};
use super::{EmitTo, StateAccumulator, column, for_each_image, heap_bytes, images};
use crate::error::Result;

/// A sketch per group.
#[derive(Debug, Default)]
pub(super) struct DistinctState {
    slots: Vec<Slot>,
}

/// A group's sketch: nothing yet, fed with values, or a union of images.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Sketch(HllSketch),
    Merged(Merged),
}

impl Slot {
    fn add(&mut self, coupon: Coupon) -> Result<()> {
        if let Self::Sketch(sketch) = self {
            sketch.update_with_coupon(coupon);
            return Ok(());
        }
        let mut sketch = match self {
            Self::Merged(merged) => merged.sketch()?,
            _ => HllSketch::new(LG_K, HllType::Hll8).map_err(failed)?,
        };
        sketch.update_with_coupon(coupon);
        *self = Self::Sketch(sketch);
        Ok(())
    }

    fn merge(&mut self, image: &[u8]) -> Result<()> {
        match self {
            Self::Empty => *self = Self::Merged(Merged::read(image)?),
            Self::Merged(merged) => merged.absorb(image)?,
            Self::Sketch(sketch) => {
                let mut merged = Merged::read(&sketch.serialize())?;
                merged.absorb(image)?;
                *self = Self::Merged(merged);
            }
        }
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "an estimate is about the number of values seen"
    )]
    fn estimate(&self) -> Result<i64> {
        let estimate = match self {
            Self::Empty => 0.0,
            Self::Sketch(sketch) => sketch.composite_estimate(),
            Self::Merged(merged) => merged.sketch()?.composite_estimate(),
        };
        Ok(estimate.round() as i64)
    }

    fn image(&self) -> Option<Vec<u8>> {
        match self {
            Self::Empty => None,
            Self::Sketch(sketch) => Some(sketch.serialize()),
            Self::Merged(merged) => Some(merged.image()),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Sketch(sketch) => sketch.estimated_size(),
            Self::Merged(merged) => merged.heap_bytes(),
        }
    }
}

impl DistinctState {
    fn resize(&mut self, total_groups: usize) {
        self.slots.resize_with(total_groups, Slot::default);
    }
}

impl Sink for DistinctState {
    fn add(&mut self, group: usize, value: impl Hash) -> Result<()> {
        self.slots[group].add(Coupon::from_value(value))
    }
}

impl StateAccumulator for DistinctState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        hash_each(column(args, 0)?, groups, filter, self)
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        for_each_image(states, groups, filter, |group, image| self.slots[group].merge(image))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![images(&emit.take_needed(&mut self.slots), Slot::image)])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let slots = emit.take_needed(&mut self.slots);
        let estimates = slots.iter().map(Slot::estimate).collect::<Result<Vec<i64>>>()?;
        Ok(Arc::new(Int64Array::from(estimates)))
    }

    fn size(&self) -> usize {
        let heap = heap_bytes(&self.slots, Slot::heap_bytes);
        self.slots.capacity() * size_of::<Slot>() + heap
    }
}
