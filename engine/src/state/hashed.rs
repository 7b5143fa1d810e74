//! The bytes by which values count as equal in sketches, the same as in the other DataSketches libraries:
//! integers of any width as 64 bits, text as its UTF-8 bytes, floats as canonical doubles; decimals as their
//! 128-bit unscaled value.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, PrimitiveArray, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datasketches::hash::value::{canonical_float, raw_bytes};

use super::{downcast, selection, try_for_each};
use crate::error::Result;

/// Takes values by group.
pub(super) trait Sink {
    fn add(&mut self, group: usize, value: impl Hash) -> Result<()>;
}

/// Whether values of this type can be counted.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Null | DataType::Interval(_))
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

/// Gives every selected value that is not null to `sink`.
pub(super) fn hash_each(
    array: &ArrayRef,
    groups: &[usize],
    filter: Option<&BooleanArray>,
    sink: &mut impl Sink,
) -> Result<()> {
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
            try_for_each(groups, selected, |row, group| {
                sink.add(group, raw_bytes::from_str(text.value(row)))
            })
        }
        DataType::BinaryView => {
            let bytes: &BinaryViewArray = downcast(array.as_ref())?;
            try_for_each(groups, selected, |row, group| {
                sink.add(group, raw_bytes::from_slice(bytes.value(row)))
            })
        }
        DataType::Float64 => {
            let values = downcast::<PrimitiveArray<Float64Type>>(array.as_ref())?.values();
            try_for_each(groups, selected, |row, group| {
                sink.add(group, canonical_float::from_f64(values[row]))
            })
        }
        DataType::Decimal128(_, _) => {
            let values = downcast::<PrimitiveArray<Decimal128Type>>(array.as_ref())?.values();
            try_for_each(groups, selected, |row, group| sink.add(group, values[row]))
        }
        _ => {
            let values = downcast::<PrimitiveArray<Int64Type>>(array.as_ref())?.values();
            try_for_each(groups, selected, |row, group| sink.add(group, values[row]))
        }
    }
}
