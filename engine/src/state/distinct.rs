//! `approx_distinct(x)`: an Apache HLL sketch (lg k = 12, 8 bits a register, 1.6% standard error), readable
//! by the other DataSketches libraries. Small groups stay lists of hashes. The finish is always the
//! composite estimate, since the plain one depends on the order of merging.
//!
//! Values hash as in the other libraries: integers of any width as 64 bits, text as its UTF-8 bytes, floats
//! as canonical doubles; decimals as their 128-bit unscaled value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Int64Array, PrimitiveArray, StringViewArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{Coupon, HllSketch, HllType};

use super::hll::{LG_K, Merged, failed};
use super::{
    EmitTo, StateAccumulator, column, downcast, for_each_image, heap_bytes, images, selection,
    try_for_each,
};
use crate::error::Result;

/// Whether values of this type can be counted.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Null | DataType::Interval(_))
}

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
    fn add_all(
        &mut self,
        groups: &[usize],
        selected: Option<&BooleanBuffer>,
        coupon: impl Fn(usize) -> Coupon,
    ) -> Result<()> {
        try_for_each(groups, selected, |row, group| self.slots[group].add(coupon(row)))
    }

    fn resize(&mut self, total_groups: usize) {
        self.slots.resize_with(total_groups, Slot::default);
    }
}

/// The type under which equal values hash equally.
fn hashed_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::BinaryView => DataType::BinaryView,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal128(p, s) => DataType::Decimal128(*p, *s),
        _ => DataType::Int64,
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
        let array = column(args, 0)?;
        // Dates are 32-bit days: the kernels reach 64 bits by way of 32.
        let array = match array.data_type() {
            DataType::Date32 => cast(array, &DataType::Int32)?,
            _ => Arc::clone(array),
        };
        let wanted = hashed_type(array.data_type());
        let array = if *array.data_type() == wanted { array } else { cast(&array, &wanted)? };
        let selected = selection(array.nulls(), filter);
        let selected = selected.as_ref();
        match &wanted {
            DataType::Utf8View => {
                let text: &StringViewArray = downcast(array.as_ref())?;
                let hash = |row| Coupon::from_value(raw_bytes::from_str(text.value(row)));
                self.add_all(groups, selected, hash)
            }
            DataType::BinaryView => {
                let bytes: &BinaryViewArray = downcast(array.as_ref())?;
                let hash = |row| Coupon::from_value(raw_bytes::from_slice(bytes.value(row)));
                self.add_all(groups, selected, hash)
            }
            DataType::Float64 => {
                let values = downcast::<PrimitiveArray<Float64Type>>(array.as_ref())?.values();
                let hash = |row: usize| Coupon::from_value(canonical_float::from_f64(values[row]));
                self.add_all(groups, selected, hash)
            }
            DataType::Decimal128(_, _) => {
                let values = downcast::<PrimitiveArray<Decimal128Type>>(array.as_ref())?.values();
                let hash = |row: usize| Coupon::from_value(values[row]);
                self.add_all(groups, selected, hash)
            }
            _ => {
                let values = downcast::<PrimitiveArray<Int64Type>>(array.as_ref())?.values();
                self.add_all(groups, selected, |row: usize| Coupon::from_value(values[row]))
            }
        }
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
