//! `sum(x)`: exact for integers and decimals (128 bits, never wraps), double precision for floats.
//! Null for a group without a non-null value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::{EmitTo, StateAccumulator, column, downcast, for_each, selection};
use crate::error::{Error, Result};

/// Greatest magnitude that numeric(38, s) can show.
const DECIMAL_MAX: i128 = 10_i128.pow(DECIMAL128_MAX_PRECISION as u32) - 1;

/// The accumulator for a sum of type `output`.
pub(super) fn accumulator(output: &DataType) -> Result<Box<dyn StateAccumulator>> {
    match output {
        DataType::Decimal128(_, scale) => {
            Ok(Box::new(ExactSum { scale: *scale, ..Default::default() }))
        }
        DataType::Float64 => Ok(Box::new(FloatSum::default())),
        other => Err(Error::internal(format!("no sum of type {other}"))),
    }
}

/// Sums of integers and decimals, unscaled.
#[derive(Debug, Default)]
struct ExactSum {
    scale: i8,
    sums: Vec<i128>,
    /// What 64 bits hold of each sum, besides: adding to them takes half the time. Empty until it is needed.
    small: Vec<i64>,
    seen: Vec<bool>,
    /// Groups that are not seen yet: there is nothing to note any more if there are none.
    unseen: usize,
}

impl ExactSum {
    fn add(
        &mut self,
        array: &dyn Array,
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let selected = selection(array.nulls(), filter);
        let selected = selected.as_ref();
        match array.data_type() {
            DataType::Int8 => self.add_small::<Int8Type>(array, groups, selected),
            DataType::Int16 => self.add_small::<Int16Type>(array, groups, selected),
            DataType::Int32 => self.add_small::<Int32Type>(array, groups, selected),
            DataType::Int64 => self.add_small::<Int64Type>(array, groups, selected),
            DataType::UInt8 => self.add_small::<UInt8Type>(array, groups, selected),
            DataType::UInt16 => self.add_small::<UInt16Type>(array, groups, selected),
            DataType::UInt32 => self.add_small::<UInt32Type>(array, groups, selected),
            DataType::UInt64 => self.add_wide::<UInt64Type>(array, groups, selected),
            DataType::Decimal128(_, scale) if *scale == self.scale => {
                self.add_wide::<Decimal128Type>(array, groups, selected)
            }
            other => Err(Error::internal(format!("sum() got a column of type {other}"))),
        }
    }

    fn add_small<T>(
        &mut self,
        array: &dyn Array,
        groups: &[usize],
        selected: Option<&BooleanBuffer>,
    ) -> Result<()>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let values = downcast::<PrimitiveArray<T>>(array)?.values();
        self.small.resize(self.sums.len(), 0);
        let mut overflow = false;
        for_each(groups, selected, |row, group| {
            let value: i64 = values[row].into();
            let small = &mut self.small[group];
            match small.checked_add(value) {
                Some(sum) => *small = sum,
                None => {
                    let before = std::mem::replace(small, value);
                    let (sum, wrapped) = self.sums[group].overflowing_add(before.into());
                    overflow |= wrapped;
                    self.sums[group] = sum;
                }
            }
        });
        self.note(groups, selected);
        if overflow { Err(out_of_range(self.scale)) } else { Ok(()) }
    }

    fn note(&mut self, groups: &[usize], selected: Option<&BooleanBuffer>) {
        if self.unseen > 0 {
            for_each(groups, selected, |_, group| {
                let before = std::mem::replace(&mut self.seen[group], true);
                self.unseen -= usize::from(!before);
            });
        }
    }

    fn add_wide<T>(
        &mut self,
        array: &dyn Array,
        groups: &[usize],
        selected: Option<&BooleanBuffer>,
    ) -> Result<()>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i128>,
    {
        let values = downcast::<PrimitiveArray<T>>(array)?.values();
        let mut overflow = false;
        for_each(groups, selected, |row, group| {
            let (sum, wrapped) = self.sums[group].overflowing_add(values[row].into());
            overflow |= wrapped;
            self.sums[group] = sum;
        });
        self.note(groups, selected);
        if overflow { Err(out_of_range(self.scale)) } else { Ok(()) }
    }

    fn resize(&mut self, total_groups: usize) {
        self.unseen += total_groups.saturating_sub(self.seen.len());
        self.sums.resize(total_groups, 0);
        self.seen.resize(total_groups, false);
    }
}

impl StateAccumulator for ExactSum {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        self.add(column(args, 0)?.as_ref(), groups, filter)
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        for (sum, small) in self.sums.iter_mut().zip(std::mem::take(&mut self.small)) {
            *sum = sum.checked_add(small.into()).ok_or_else(|| out_of_range(self.scale))?;
        }
        let sums = emit.take_needed(&mut self.sums);
        if sums.iter().any(|s| s.unsigned_abs() > DECIMAL_MAX.unsigned_abs()) {
            return Err(out_of_range(self.scale));
        }
        let nulls = seen_nulls(&emit.take_needed(&mut self.seen));
        self.unseen = self.seen.iter().filter(|seen| !**seen).count();
        let array = Decimal128Array::new(sums.into(), nulls)
            .with_precision_and_scale(DECIMAL128_MAX_PRECISION, self.scale)?;
        Ok(Arc::new(array))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>()
            + self.small.capacity() * size_of::<i64>()
            + self.seen.capacity()
    }
}

fn out_of_range(scale: i8) -> Error {
    Error::invalid(format!("sum() is out of range of numeric(38,{scale})"))
}

/// Sums of floats.
#[derive(Debug, Default)]
struct FloatSum {
    sums: Vec<f64>,
    seen: Vec<bool>,
}

impl StateAccumulator for FloatSum {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_groups, 0.0);
        self.seen.resize(total_groups, false);
        let array = cast(column(args, 0)?, &DataType::Float64)?;
        let values = downcast::<PrimitiveArray<Float64Type>>(array.as_ref())?.values();
        let selected = selection(array.nulls(), filter);
        for_each(groups, selected.as_ref(), |row, group| {
            self.sums[group] += values[row];
            self.seen[group] = true;
        });
        Ok(())
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sums = emit.take_needed(&mut self.sums);
        let nulls = seen_nulls(&emit.take_needed(&mut self.seen));
        Ok(Arc::new(Float64Array::new(sums.into(), nulls)))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<f64>() + self.seen.capacity()
    }
}

fn seen_nulls(seen: &[bool]) -> Option<NullBuffer> {
    seen.contains(&false).then(|| NullBuffer::from(seen))
}
