//! `approx_set(x)`: an Apache theta sketch of distinct values (k = 4096, 1.6% standard error), readable by the
//! other DataSketches libraries. Sets can be united, intersected and subtracted.
//!
//! An image holds at most k hashes, the least ones, in order. That makes it the same to the bit whichever
//! way the values were split and merged. Values hash as in [`super::distinct`].

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewBuilder, BooleanArray};
use datasketches::theta::{
    CompactThetaSketch, ThetaANotB, ThetaIntersection, ThetaSketch, ThetaSketchBuilder, ThetaUnion,
    ThetaUnionBuilder,
};

use super::hashed::{Sink, hash_each};
use super::{EmitTo, StateAccumulator, column, for_each_image, heap_bytes};
use crate::error::{Error, Result};

/// log2 of the number of hashes kept.
const LG_K: u8 = 12;

/// How two sets become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetOperation {
    /// Values of either.
    Union,
    /// Values of both.
    Intersect,
    /// Values of the first that are not in the second.
    Minus,
}

/// The set of `operation` over two images of sets. An error of kind `Corrupt` if one is no set.
pub fn combine_sets(operation: SetOperation, a: &[u8], b: &[u8]) -> Result<Vec<u8>> {
    let (a, b) = (read(a)?, read(b)?);
    let set = match operation {
        SetOperation::Union => {
            let mut union = union()?;
            union.update(&a).map_err(failed)?;
            union.update(&b).map_err(failed)?;
            union.to_sketch(true)
        }
        SetOperation::Intersect => {
            let mut both = ThetaIntersection::default();
            both.update(&a).map_err(failed)?;
            both.update(&b).map_err(failed)?;
            both.to_sketch(true).ok_or_else(|| Error::internal("an intersection has no result"))?
        }
        SetOperation::Minus => ThetaANotB::default().compute(&a, &b, true).map_err(failed)?,
    };
    Ok(set.serialize())
}

/// About how many values the set of an image holds. An error of kind `Corrupt` if it is no set.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an estimate is about the number of values seen"
)]
pub fn count_set(image: &[u8]) -> Result<i64> {
    Ok(read(image)?.estimate().round() as i64)
}

/// The image of the set without values.
pub fn empty_set() -> Result<Vec<u8>> {
    Ok(union()?.to_sketch(true).serialize())
}

fn failed(e: datasketches::error::Error) -> Error {
    Error::corrupt("a set sketch cannot be read").with_source(e)
}

fn read(image: &[u8]) -> Result<CompactThetaSketch> {
    CompactThetaSketch::deserialize(image).map_err(failed)
}

fn union() -> Result<ThetaUnion> {
    ThetaUnionBuilder::default().lg_k(LG_K).build().map_err(failed)
}

/// A set per group.
#[derive(Debug, Default)]
pub(super) struct ThetaState {
    slots: Vec<Slot>,
}

/// What a group has: values that were added, and sets that were merged.
#[derive(Debug, Default)]
struct Slot {
    added: Option<Box<ThetaSketch>>,
    merged: Merged,
}

#[derive(Debug, Default)]
enum Merged {
    #[default]
    None,
    /// Mostly there is but one.
    One(Box<CompactThetaSketch>),
    Many(Box<ThetaUnion>),
}

impl Slot {
    fn add(&mut self, value: impl Hash) -> Result<()> {
        if self.added.is_none() {
            let sketch = ThetaSketchBuilder::default().lg_k(LG_K).build().map_err(failed)?;
            self.added = Some(Box::new(sketch));
        }
        if let Some(sketch) = &mut self.added {
            sketch.update(value);
        }
        Ok(())
    }

    fn merge(&mut self, set: CompactThetaSketch) -> Result<()> {
        self.merged = match std::mem::take(&mut self.merged) {
            Merged::None => Merged::One(Box::new(set)),
            Merged::One(first) => {
                let mut both = union()?;
                both.update(first.as_ref()).map_err(failed)?;
                both.update(&set).map_err(failed)?;
                Merged::Many(Box::new(both))
            }
            Merged::Many(mut all) => {
                all.update(&set).map_err(failed)?;
                Merged::Many(all)
            }
        };
        Ok(())
    }

    fn image(self) -> Result<Option<Vec<u8>>> {
        let set = match (self.added, self.merged) {
            (None, Merged::None) => return Ok(None),
            (Some(mut sketch), Merged::None) => {
                sketch.trim();
                sketch.compact(true)
            }
            (None, Merged::One(set)) if set.is_ordered() && set.num_retained() <= 1 << LG_K => *set,
            (added, Merged::One(set)) => {
                let mut all = union()?;
                all.update(set.as_ref()).map_err(failed)?;
                united(all, added.as_deref())?
            }
            (added, Merged::Many(all)) => united(*all, added.as_deref())?,
        };
        Ok(Some(set.serialize()))
    }

    fn heap_bytes(&self) -> usize {
        let added = self.added.as_ref().map_or(0, |s| s.estimated_size());
        added
            + match &self.merged {
                Merged::None => 0,
                Merged::One(set) => set.estimated_size(),
                Merged::Many(all) => all.estimated_size(),
            }
    }
}

fn united(mut all: ThetaUnion, added: Option<&ThetaSketch>) -> Result<CompactThetaSketch> {
    if let Some(sketch) = added {
        all.update(sketch).map_err(failed)?;
    }
    Ok(all.to_sketch(true))
}

impl Sink for ThetaState {
    fn add(&mut self, group: usize, value: impl Hash) -> Result<()> {
        self.slots[group].add(value)
    }
}

impl StateAccumulator for ThetaState {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize_with(total_groups, Slot::default);
        hash_each(column(args, 0)?, groups, filter, self)
    }

    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.slots.resize_with(total_groups, Slot::default);
        for_each_image(states, groups, filter, |group, image| self.slots[group].merge(read(image)?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let slots = emit.take_needed(&mut self.slots);
        let mut images = BinaryViewBuilder::with_capacity(slots.len());
        for slot in slots {
            images.append_option(slot.image()?);
        }
        Ok(vec![Arc::new(images.finish())])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let empty = empty_set()?;
        let slots = emit.take_needed(&mut self.slots);
        let mut images = BinaryViewBuilder::with_capacity(slots.len());
        for slot in slots {
            images.append_value(slot.image()?.as_ref().unwrap_or(&empty));
        }
        Ok(Arc::new(images.finish()))
    }

    fn size(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + heap_bytes(&self.slots, Slot::heap_bytes)
    }
}
