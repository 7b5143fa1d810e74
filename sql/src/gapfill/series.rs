//! One series, filled: rows by ascending bucket in, the same rows and one per gap out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, SchemaRef,
    TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result as DfResult;

use super::node::Fill;
use super::slots::{Slot, slots};

/// Fills the gaps of one series. `rows` has its rows, with nulls of the time last.
pub(super) fn fill(
    rows: &RecordBatch,
    schema: &SchemaRef,
    fills: &[Fill],
    starts: &[i64],
) -> DfResult<RecordBatch> {
    let time = fills.iter().position(|f| *f == Fill::Time).unwrap_or(0);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let times = cast(rows.column(time), &micros)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let known = times.len() - times.null_count();
    let places = times.values().get(..known).unwrap_or_default();
    let mut places_filled = slots(places, starts.iter().copied());
    places_filled.extend((known..times.len()).map(Slot::Row));
    let series = Series { slots: &places_filled, times: places };
    let columns = rows.columns().iter().zip(fills).map(|(column, fill)| match fill {
        Fill::Time => series.times(column.data_type(), times),
        Fill::Key => series.picked(column, |_| Some(0)),
        Fill::Null => series.picked(column, |_| None),
        Fill::Locf { over_null: false } => series.picked(column, |slot| slot),
        Fill::Locf { over_null: true } => series.carried(column),
        Fill::Interpolate => series.interpolated(column),
    });
    let columns = columns.collect::<DfResult<Vec<_>>>()?;
    let count = RecordBatchOptions::new().with_row_count(Some(places_filled.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &count)?)
}

struct Series<'a> {
    slots: &'a [Slot<i64>],
    /// Times of the rows, as far as they are not null.
    times: &'a [i64],
}

fn index(row: usize) -> Option<u32> {
    u32::try_from(row).ok()
}

impl Series<'_> {
    fn times(&self, data_type: &DataType, rows: &TimestampMicrosecondArray) -> DfResult<ArrayRef> {
        let times: TimestampMicrosecondArray = self
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Row(row) => rows.is_valid(*row).then(|| rows.value(*row)),
                Slot::Gap { at, .. } => Some(*at),
            })
            .collect();
        Ok(cast(&times, data_type)?)
    }

    /// Rows keep their value; a gap has that of the row that `of_gap` makes of the row before.
    fn picked(
        &self,
        column: &ArrayRef,
        of_gap: impl Fn(Option<usize>) -> Option<usize>,
    ) -> DfResult<ArrayRef> {
        let rows = column.len();
        let indices: UInt32Array = self
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Row(row) => index(*row),
                Slot::Gap { previous, .. } => {
                    of_gap(*previous).filter(|row| *row < rows).and_then(index)
                }
            })
            .collect();
        Ok(take(column, &indices, None)?)
    }

    /// Everything that is null has the last value that is not.
    fn carried(&self, column: &ArrayRef) -> DfResult<ArrayRef> {
        let mut last = None;
        let indices: UInt32Array = self
            .slots
            .iter()
            .map(|slot| {
                if let Slot::Row(row) = slot
                    && column.is_valid(*row)
                {
                    last = index(*row);
                }
                last
            })
            .collect();
        Ok(take(column, &indices, None)?)
    }

    fn interpolated(&self, column: &ArrayRef) -> DfResult<ArrayRef> {
        Ok(match column.data_type() {
            DataType::Int16 => Arc::new(self.line::<Int16Type>(column, |line| {
                line.integer(i128::from).and_then(|v| i16::try_from(v).ok())
            })),
            DataType::Int32 => Arc::new(self.line::<Int32Type>(column, |line| {
                line.integer(i128::from).and_then(|v| i32::try_from(v).ok())
            })),
            DataType::Int64 => Arc::new(self.line::<Int64Type>(column, |line| {
                line.integer(i128::from).and_then(|v| i64::try_from(v).ok())
            })),
            DataType::Float32 => Arc::new(self.line::<Float32Type>(column, |line| {
                #[expect(clippy::cast_possible_truncation, reason = "between two such values")]
                Some(line.float(f64::from) as f32)
            })),
            DataType::Float64 => {
                Arc::new(self.line::<Float64Type>(column, |line| Some(line.float(|v| v))))
            }
            DataType::Decimal128(precision, scale) => {
                let values = self.line::<Decimal128Type>(column, |line| line.integer(|v| v));
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
            _ => return self.picked(column, |_| None),
        })
    }

    /// Rows keep their value; a gap has what `on_line` makes of the nearest values before and after.
    fn line<T: ArrowPrimitiveType>(
        &self,
        column: &ArrayRef,
        on_line: impl Fn(Line<T::Native>) -> Option<T::Native>,
    ) -> PrimitiveArray<T> {
        let values = column.as_primitive::<T>();
        let known = |row: &usize| *row < self.times.len() && values.is_valid(*row);
        let point = |row: usize| Some((*self.times.get(row)?, values.value(row)));
        // The nearest known value at or after each row.
        let mut following = vec![None; self.times.len() + 1];
        for row in (0..self.times.len()).rev() {
            let after = following.get(row + 1).copied().flatten();
            if let Some(slot) = following.get_mut(row) {
                *slot = Some(row).filter(known).or(after);
            }
        }
        let mut before = None;
        self.slots
            .iter()
            .map(|slot| match slot {
                Slot::Row(row) => {
                    before = Some(*row).filter(known).or(before);
                    values.is_valid(*row).then(|| values.value(*row))
                }
                Slot::Gap { at, next, .. } => {
                    let after = next.and_then(|row| following.get(row).copied().flatten())?;
                    on_line(Line { at: *at, from: point(before?)?, to: point(after)? })
                }
            })
            .collect()
    }
}

/// A time between two values.
struct Line<T> {
    at: i64,
    from: (i64, T),
    to: (i64, T),
}

impl<T: Copy> Line<T> {
    #[expect(clippy::cast_precision_loss, reason = "a share of a span of time")]
    fn float(&self, value: impl Fn(T) -> f64) -> f64 {
        let (a, b) = (value(self.from.1), value(self.to.1));
        let share = (self.at - self.from.0) as f64 / (self.to.0 - self.from.0) as f64;
        a + (b - a) * share
    }

    /// Rounded to the nearest.
    fn integer(&self, value: impl Fn(T) -> i128) -> Option<i128> {
        let (a, b) = (value(self.from.1), value(self.to.1));
        let span = i128::from(self.to.0) - i128::from(self.from.0);
        let past = i128::from(self.at) - i128::from(self.from.0);
        let doubled = b.checked_sub(a)?.checked_mul(past)?.checked_mul(2)?;
        let rounded = doubled.checked_add(span)?.div_euclid(2 * span);
        a.checked_add(rounded)
    }
}
