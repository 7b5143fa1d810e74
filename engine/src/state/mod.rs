//! Mergeable partial states of aggregates: the one home of aggregate semantics.
//!
//! Every function has a state that raw rows update and that merges in any order and any grouping to the
//! same finish, so that a rollup answers as raw rows do (I2). `sql` wraps the accumulators as its own
//! aggregate functions; [`crate::rollup`] drives them over batches.
//!
//! Nulls are ignored by all functions but `count(*)`; a null or false filter hides a row; `NaN` is the
//! greatest float; first and last ignore rows whose value is null.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewArray, BinaryViewBuilder, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, TimeUnit};

pub use crate::order::EmitTo;

use crate::error::{Error, Result};
use crate::expr::AggregateFunction;

mod count;
mod distinct;
mod extreme;
mod first_last;
mod hll;
mod moments;
mod quantile;
mod sum;
mod values;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

/// The states of one aggregate over many groups. Groups are numbered from 0; `total_groups` is one past
/// the greatest number handed out so far.
pub trait StateAccumulator: Debug + Send {
    /// Adds raw rows: row `i` belongs to group `groups[i]`. Rows where `filter` is null or false are left
    /// out.
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()>;
    /// Adds partial states, as [`StateAccumulator::state`] gives them. As it is, for states that are merged
    /// as rows are added.
    fn merge(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.update(states, groups, filter, total_groups)
    }
    /// Takes the partial states of the groups to emit, one array per state column. As it is, for a state that
    /// is the finished value.
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.finish(emit)?])
    }
    /// Takes the finished values of the groups to emit.
    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef>;
    /// Bytes held, about.
    fn size(&self) -> usize;
}

impl AggregateFunction {
    /// The state columns, named `<prefix>__<state>`.
    pub fn state_fields(&self, prefix: &str, arg_types: &[DataType]) -> Result<Vec<Field>> {
        let field = |state: &str, data_type: DataType, nullable: bool| {
            Field::new(format!("{prefix}__{state}"), data_type, nullable)
        };
        Ok(match self {
            Self::CountAll => vec![field("count", DataType::Int64, false)],
            Self::Count => vec![field("nn", DataType::Int64, false)],
            Self::Sum => vec![field("sum", self.output_type(arg_types)?, true)],
            Self::Min => vec![field("min", self.output_type(arg_types)?, true)],
            Self::Max => vec![field("max", self.output_type(arg_types)?, true)],
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp => {
                self.output_type(arg_types)?;
                vec![
                    field("n", DataType::Int64, false),
                    field("mean", DataType::Float64, false),
                    field("m2", DataType::Float64, false),
                ]
            }
            Self::First | Self::Last => vec![
                field("value", self.output_type(arg_types)?, true),
                field("time", self.argument(arg_types, 1)?.clone(), true),
            ],
            Self::ApproxDistinct => {
                self.output_type(arg_types)?;
                vec![field("hll", DataType::BinaryView, true)]
            }
            Self::ApproxQuantile { .. } => {
                self.output_type(arg_types)?;
                vec![field("kll", DataType::BinaryView, true)]
            }
        })
    }

    /// Type of the finished value; an error if the function does not take these arguments.
    pub fn output_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match self {
            Self::CountAll => Ok(DataType::Int64),
            Self::Count => self.argument(arg_types, 0).map(|_| DataType::Int64),
            Self::Sum => sum_type(self.argument(arg_types, 0)?),
            Self::Min | Self::Max => {
                let value = self.argument(arg_types, 0)?;
                self.require(values::is_supported(value), value).map(|()| value.clone())
            }
            Self::First | Self::Last => {
                let value = self.argument(arg_types, 0)?;
                self.require(values::is_supported(value), value)?;
                let time = self.argument(arg_types, 1)?;
                let known = matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _));
                self.require(known, time).map(|()| value.clone())
            }
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp => {
                let value = self.argument(arg_types, 0)?;
                self.require(value.is_numeric(), value).map(|()| DataType::Float64)
            }
            Self::ApproxDistinct => {
                let value = self.argument(arg_types, 0)?;
                self.require(distinct::is_supported(value), value).map(|()| DataType::Int64)
            }
            Self::ApproxQuantile { p } => {
                if !(0.0..=1.0).contains(p) {
                    return Err(Error::invalid(format!("quantile {p} is not between 0 and 1")));
                }
                let value = self.argument(arg_types, 0)?;
                self.require(value.is_numeric(), value).map(|()| DataType::Float64)
            }
        }
    }

    /// A fresh accumulator for arguments of these types.
    pub fn accumulator(&self, arg_types: &[DataType]) -> Result<Box<dyn StateAccumulator>> {
        let output = self.output_type(arg_types)?;
        match self {
            Self::CountAll | Self::Count => Ok(Box::new(count::CountState::default())),
            Self::Sum => sum::accumulator(&output),
            Self::Min => values::extreme(output, true),
            Self::Max => values::extreme(output, false),
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp => {
                Ok(Box::new(moments::MomentsState::new(*self)))
            }
            Self::First | Self::Last => {
                let time = self.argument(arg_types, 1)?.clone();
                values::first_last(output, time, matches!(self, Self::First))
            }
            Self::ApproxDistinct => Ok(Box::new(distinct::DistinctState::default())),
            Self::ApproxQuantile { p } => Ok(Box::new(quantile::QuantileState::new(*p))),
        }
    }

    /// Name in SQL, for messages.
    pub fn sql_name(&self) -> &'static str {
        match self {
            Self::CountAll | Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::VarPop => "var_pop",
            Self::VarSamp => "var_samp",
            Self::StddevPop => "stddev_pop",
            Self::StddevSamp => "stddev_samp",
            Self::First => "first",
            Self::Last => "last",
            Self::ApproxDistinct => "approx_distinct",
            Self::ApproxQuantile { .. } => "approx_quantile",
        }
    }

    fn argument<'a>(&self, arg_types: &'a [DataType], index: usize) -> Result<&'a DataType> {
        arg_types.get(index).ok_or_else(|| {
            Error::invalid(format!("{}() lacks argument {}", self.sql_name(), index + 1))
        })
    }

    fn require(&self, holds: bool, found: &DataType) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(Error::invalid(format!("{}() does not take values of type {found}", self.sql_name())))
    }
}

/// Integers add up to numeric(38,0) and decimals keep their scale, so that a sum never wraps.
fn sum_type(argument: &DataType) -> Result<DataType> {
    match argument {
        t if t.is_integer() => Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
        DataType::Decimal128(_, scale) => {
            Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
        }
        DataType::Float32 | DataType::Float64 => Ok(DataType::Float64),
        other => Err(Error::invalid(format!("sum() does not take values of type {other}"))),
    }
}

/// The argument or state column at `index`.
fn column(columns: &[ArrayRef], index: usize) -> Result<&ArrayRef> {
    columns
        .get(index)
        .ok_or_else(|| Error::internal(format!("an aggregate lacks its column {index}")))
}

/// The column as an array of type `A`.
fn downcast<A: 'static>(array: &dyn Array) -> Result<&A> {
    array.as_any().downcast_ref::<A>().ok_or_else(|| {
        Error::internal(format!("an aggregate got a column of type {}", array.data_type()))
    })
}

/// Rows that count: not null in the argument and true in the filter. `None` = all.
fn selection(nulls: Option<&NullBuffer>, filter: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let valid = nulls.filter(|n| n.null_count() > 0).map(NullBuffer::inner);
    let wanted = filter.map(|f| match f.nulls() {
        Some(nulls) => f.values() & nulls.inner(),
        None => f.values().clone(),
    });
    match (valid, wanted) {
        (None, None) => None,
        (Some(valid), None) => Some(valid.clone()),
        (None, Some(wanted)) => Some(wanted),
        (Some(valid), Some(wanted)) => Some(valid & &wanted),
    }
}

/// Calls `each(row, group)` for every selected row, in order.
#[inline]
fn for_each(
    groups: &[usize],
    selected: Option<&BooleanBuffer>,
    mut each: impl FnMut(usize, usize),
) {
    match selected {
        None => groups.iter().enumerate().for_each(|(row, group)| each(row, *group)),
        Some(rows) => rows.set_indices().for_each(|row| each(row, groups[row])),
    }
}

/// As [`for_each`], stopping at the first error.
#[inline]
fn try_for_each(
    groups: &[usize],
    selected: Option<&BooleanBuffer>,
    mut each: impl FnMut(usize, usize) -> Result<()>,
) -> Result<()> {
    match selected {
        None => groups.iter().enumerate().try_for_each(|(row, group)| each(row, *group)),
        Some(rows) => rows.set_indices().try_for_each(|row| each(row, groups[row])),
    }
}

/// Calls `each(group, image)` for every sketch among partial states.
fn for_each_image(
    states: &[ArrayRef],
    groups: &[usize],
    filter: Option<&BooleanArray>,
    mut each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let images = cast(column(states, 0)?, &DataType::BinaryView)?;
    let selected = selection(images.nulls(), filter);
    let images: &BinaryViewArray = downcast(images.as_ref())?;
    try_for_each(groups, selected.as_ref(), |row, group| each(group, images.value(row)))
}

/// Sketches as partial states; none where a group has seen nothing.
fn images<T>(slots: &[T], image: impl Fn(&T) -> Option<Vec<u8>>) -> ArrayRef {
    let mut images = BinaryViewBuilder::with_capacity(slots.len());
    for slot in slots {
        images.append_option(image(slot));
    }
    Arc::new(images.finish())
}

/// About the heap bytes behind many slots, from a bounded sample: this is asked for after every batch.
fn heap_bytes<T>(slots: &[T], bytes: impl Fn(&T) -> usize) -> usize {
    const SAMPLE: usize = 1024;
    let step = slots.len().div_ceil(SAMPLE).max(1);
    slots.iter().step_by(step).map(bytes).sum::<usize>() * step
}
