//! Kinds of values that min, max, first and last can hold, each with its total order: integers, decimals,
//! floats (`NaN` greatest, `-0` before `0`), booleans, dates, timestamps, text and bytes (byte-wise).

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, BinaryViewArray, BooleanArray, PrimitiveArray,
    StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

use super::extreme::ExtremeState;
use super::first_last::FirstLastState;
use super::{StateAccumulator, downcast};
use crate::error::{Error, Result};

/// One kind of value: how to read it from an array, compare it, keep it and write it back.
pub(super) trait Kind: Debug + Send + 'static {
    /// The array that holds it.
    type Array: Array + 'static;
    /// A value in an array.
    type Item<'a>: Copy;
    /// A kept value.
    type Owned: Debug + Send + Clone;

    fn item(array: &Self::Array, row: usize) -> Self::Item<'_>;
    fn compare(item: Self::Item<'_>, owned: &Self::Owned) -> Ordering;
    fn own(item: Self::Item<'_>) -> Self::Owned;
    fn build(values: Vec<Option<Self::Owned>>) -> Self::Array;
    /// Bytes of a kept value beyond its own size.
    fn heap_bytes(_owned: &Self::Owned) -> usize {
        0
    }
    /// The type that arrays are cast to before reading (text and bytes: views).
    fn canonical(declared: &DataType) -> DataType {
        declared.clone()
    }
}

/// Native numbers whose order is total once `NaN` is canonical.
pub(super) trait Native: ArrowNativeTypeOp {
    /// The value, or the one `NaN` that stands for all.
    fn canonical(self) -> Self {
        self
    }
}

impl Native for i8 {}
impl Native for i16 {}
impl Native for i32 {}
impl Native for i64 {}
impl Native for i128 {}
impl Native for f32 {
    fn canonical(self) -> Self {
        if self.is_nan() { Self::NAN } else { self }
    }
}
impl Native for f64 {
    fn canonical(self) -> Self {
        if self.is_nan() { Self::NAN } else { self }
    }
}

/// A number, date or timestamp.
#[derive(Debug)]
pub(super) struct Number<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Kind for Number<T>
where
    T: ArrowPrimitiveType + Debug,
    T::Native: Native,
{
    type Array = PrimitiveArray<T>;
    type Item<'a> = T::Native;
    type Owned = T::Native;

    #[inline]
    fn item(array: &Self::Array, row: usize) -> T::Native {
        array.values()[row].canonical()
    }
    #[inline]
    fn compare(item: T::Native, owned: &T::Native) -> Ordering {
        item.compare(*owned)
    }
    #[inline]
    fn own(item: T::Native) -> T::Native {
        item
    }
    fn build(values: Vec<Option<T::Native>>) -> Self::Array {
        values.into_iter().collect()
    }
}

/// A boolean; false before true.
#[derive(Debug)]
pub(super) struct Truth;

impl Kind for Truth {
    type Array = BooleanArray;
    type Item<'a> = bool;
    type Owned = bool;

    fn item(array: &BooleanArray, row: usize) -> bool {
        array.value(row)
    }
    fn compare(item: bool, owned: &bool) -> Ordering {
        item.cmp(owned)
    }
    fn own(item: bool) -> bool {
        item
    }
    fn build(values: Vec<Option<bool>>) -> BooleanArray {
        values.into_iter().collect()
    }
}

/// Text, in byte order.
#[derive(Debug)]
pub(super) struct Text;

impl Kind for Text {
    type Array = StringViewArray;
    type Item<'a> = &'a str;
    type Owned = Box<str>;

    #[inline]
    fn item(array: &StringViewArray, row: usize) -> &str {
        array.value(row)
    }
    #[inline]
    fn compare(item: &str, owned: &Box<str>) -> Ordering {
        item.as_bytes().cmp(owned.as_bytes())
    }
    fn own(item: &str) -> Box<str> {
        item.into()
    }
    fn build(values: Vec<Option<Box<str>>>) -> StringViewArray {
        values.into_iter().collect()
    }
    fn heap_bytes(owned: &Box<str>) -> usize {
        owned.len()
    }
    fn canonical(_: &DataType) -> DataType {
        DataType::Utf8View
    }
}

/// Bytes, in byte order.
#[derive(Debug)]
pub(super) struct Bytes;

impl Kind for Bytes {
    type Array = BinaryViewArray;
    type Item<'a> = &'a [u8];
    type Owned = Box<[u8]>;

    fn item(array: &BinaryViewArray, row: usize) -> &[u8] {
        array.value(row)
    }
    fn compare(item: &[u8], owned: &Box<[u8]>) -> Ordering {
        item.cmp(owned)
    }
    fn own(item: &[u8]) -> Box<[u8]> {
        item.into()
    }
    fn build(values: Vec<Option<Box<[u8]>>>) -> BinaryViewArray {
        values.into_iter().collect()
    }
    fn heap_bytes(owned: &Box<[u8]>) -> usize {
        owned.len()
    }
    fn canonical(_: &DataType) -> DataType {
        DataType::BinaryView
    }
}

/// The column in the type that `K` reads.
pub(super) fn canonical<K: Kind>(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = K::canonical(array.data_type());
    Ok(if *array.data_type() == wanted { Arc::clone(array) } else { cast(array, &wanted)? })
}

/// The array of `K` that [`canonical`] made.
pub(super) fn typed<K: Kind>(array: &ArrayRef) -> Result<&K::Array> {
    downcast::<K::Array>(array.as_ref())
}

/// Kept values as an array of the declared type.
pub(super) fn build<K: Kind>(
    values: Vec<Option<K::Owned>>,
    declared: &DataType,
) -> Result<ArrayRef> {
    let array: ArrayRef = Arc::new(K::build(values));
    if array.data_type() == declared {
        return Ok(array);
    }
    // Precision, scale and time zone are only labels: the same values under the declared type.
    if array.data_type().primitive_width().is_some() {
        let data = array.to_data().into_builder().data_type(declared.clone()).build()?;
        return Ok(arrow::array::make_array(data));
    }
    Ok(cast(&array, declared)?)
}

/// Whether values of this type can be held.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(_, _)
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

/// Expands to `$make` with `K` bound to the kind of `$data_type`.
macro_rules! with_kind {
    ($data_type:expr, $K:ident => $make:expr) => {
        match $data_type {
            DataType::Boolean => with_kind!(@ Truth, $K => $make),
            DataType::Int8 => with_kind!(@ Number<Int8Type>, $K => $make),
            DataType::Int16 => with_kind!(@ Number<Int16Type>, $K => $make),
            DataType::Int32 => with_kind!(@ Number<Int32Type>, $K => $make),
            DataType::Int64 => with_kind!(@ Number<Int64Type>, $K => $make),
            DataType::Float32 => with_kind!(@ Number<Float32Type>, $K => $make),
            DataType::Float64 => with_kind!(@ Number<Float64Type>, $K => $make),
            DataType::Decimal128(_, _) => with_kind!(@ Number<Decimal128Type>, $K => $make),
            DataType::Date32 => with_kind!(@ Number<Date32Type>, $K => $make),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                with_kind!(@ Number<TimestampMicrosecondType>, $K => $make)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                with_kind!(@ Text, $K => $make)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                with_kind!(@ Bytes, $K => $make)
            }
            other => Err(Error::internal(format!("no values of type {other} can be kept"))),
        }
    };
    (@ $kind:ty, $K:ident => $make:expr) => {{
        type $K = $kind;
        Ok(Box::new($make))
    }};
}

/// The accumulator of min (`least`) or max over values of this type.
pub(super) fn extreme(data_type: DataType, least: bool) -> Result<Box<dyn StateAccumulator>> {
    with_kind!(&data_type, K => ExtremeState::<K>::new(data_type.clone(), least))
}

/// The accumulator of first (`earliest`) or last over values of this type.
pub(super) fn first_last(
    data_type: DataType,
    time_type: DataType,
    earliest: bool,
) -> Result<Box<dyn StateAccumulator>> {
    with_kind!(&data_type, K => {
        FirstLastState::<K>::new(data_type.clone(), time_type.clone(), earliest)
    })
}
