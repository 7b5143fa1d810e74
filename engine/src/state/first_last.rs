//! `first(x)` and `last(x)`: the non-null value at the earliest or latest event time; of values at the same
//! time the greater one, so that the answer does not depend on the order of rows.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, TimestampMicrosecondType};

use super::values::{Kind, Number, build, canonical, typed};
use super::{EmitTo, StateAccumulator, column, downcast, for_each, heap_bytes, selection};
use crate::error::Result;

/// A value with its event time, per group.
#[derive(Debug)]
pub(super) struct FirstLastState<K: Kind> {
    value_type: DataType,
    time_type: DataType,
    /// How a time must compare with the kept one to replace it.
    wins: Ordering,
    kept: Vec<Option<(i64, K::Owned)>>,
}

impl<K: Kind> FirstLastState<K> {
    pub(super) fn new(value_type: DataType, time_type: DataType, earliest: bool) -> Self {
        let wins = if earliest { Ordering::Less } else { Ordering::Greater };
        Self { value_type, time_type, wins, kept: Vec::new() }
    }
}

impl<K: Kind> StateAccumulator for FirstLastState<K> {
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.kept.resize(total_groups, None);
        let array = canonical::<K>(column(args, 0)?)?;
        let times =
            downcast::<PrimitiveArray<TimestampMicrosecondType>>(column(args, 1)?.as_ref())?;
        let nulls = NullBuffer::union(array.nulls(), times.nulls());
        let selected = selection(nulls.as_ref(), filter);
        let (array, times) = (typed::<K>(&array)?, times.values());
        for_each(groups, selected.as_ref(), |row, group| {
            let (time, item) = (times[row], K::item(array, row));
            let replace = match &self.kept[group] {
                None => true,
                Some((kept_time, kept)) => match time.cmp(kept_time) {
                    Ordering::Equal => K::compare(item, kept) == Ordering::Greater,
                    order => order == self.wins,
                },
            };
            if replace {
                self.kept[group] = Some((time, K::own(item)));
            }
        });
        Ok(())
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let kept = emit.take_needed(&mut self.kept);
        let times = kept.iter().map(|k| k.as_ref().map(|(time, _)| *time)).collect();
        let values = kept.into_iter().map(|k| k.map(|(_, value)| value)).collect();
        Ok(vec![
            build::<K>(values, &self.value_type)?,
            build::<Number<TimestampMicrosecondType>>(times, &self.time_type)?,
        ])
    }

    fn finish(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let states = self.state(emit)?;
        Ok(Arc::clone(column(&states, 0)?))
    }

    fn size(&self) -> usize {
        let heap = heap_bytes(&self.kept, |k| k.as_ref().map_or(0, |(_, v)| K::heap_bytes(v)));
        self.kept.capacity() * size_of::<Option<(i64, K::Owned)>>() + heap
    }
}
