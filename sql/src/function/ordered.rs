//! Percentiles and the mode of the ordered values of a list: what `percentile_disc`, `percentile_cont` and `mode` are
//! spelled with.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, ListArray, ListBuilder, UInt64Array,
    make_comparator,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{answer, argument};
use crate::error::{SqlError, sqlstate};

/// `mode() WITHIN GROUP`.
pub(crate) const MODE: &str = "otus_mode";
/// `percentile_disc(…) WITHIN GROUP`.
pub(crate) const PERCENTILE_DISC: &str = "otus_percentile_disc";
/// `percentile_cont(array) WITHIN GROUP`.
pub(crate) const PERCENTILE_CONT: &str = "otus_percentile_cont";

/// The values of a list from the least to the greatest.
pub(crate) const SORTED: &str = "otus_sorted";
/// The same from the greatest to the least.
pub(crate) const SORTED_DOWN: &str = "otus_sorted_down";

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let of = |name, args| {
        let signature = Signature::any(args, Volatility::Immutable);
        ScalarUDF::from(Ordered { name, signature })
    };
    let sorted = [of(SORTED, 1), of(SORTED_DOWN, 1)];
    let mut all = vec![of(MODE, 1), of(PERCENTILE_DISC, 2), of(PERCENTILE_CONT, 2)];
    all.extend(sorted);
    all
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    name: &'static str,
    signature: Signature,
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

impl ScalarUDFImpl for Ordered {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        if let (SORTED | SORTED_DOWN, [list @ DataType::List(_)]) = (self.name, types) {
            return Ok(list.clone());
        }
        let item = match types.last() {
            Some(DataType::List(item)) => item.data_type().clone(),
            _ => return Err(crate::aggregate::no_such_function(self.name, types)),
        };
        let item = match (self.name == PERCENTILE_CONT, item.is_numeric()) {
            (true, true) => DataType::Float64,
            (true, false) => {
                return Err(crate::aggregate::no_such_function("percentile_cont", types));
            }
            (false, _) => item,
        };
        Ok(match types.first() {
            Some(DataType::List(_)) if types.len() > 1 => list_of(item),
            _ => item,
        })
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            args.number_rows = 1;
        }
        let last = argument(&args, args.args.len().saturating_sub(1))?;
        let values = last.as_list::<i32>();
        let found = match self.name {
            MODE => modes(values)?,
            SORTED | SORTED_DOWN => sorted(values, self.name == SORTED_DOWN)?,
            PERCENTILE_DISC => discrete(&argument(&args, 0)?, values)?,
            _ => continuous(&argument(&args, 0)?, values)?,
        };
        answer(&args, found)
    }
}

/// Where the values of a row begin, and how many there are; none for none.
fn range(values: &ListArray, row: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(*values.value_offsets().get(row)?).ok()?;
    let length = usize::try_from(values.value_length(row)).ok()?;
    (values.is_valid(row) && length > 0).then_some((start, length))
}

fn sorted(values: &ListArray, descending: bool) -> DfResult<ArrayRef> {
    let DataType::List(field) = values.data_type() else {
        return Err(SqlError::internal("a list is none").into());
    };
    let items = values.values();
    let order = SortOptions { descending, nulls_first: descending };
    let compare = make_comparator(items.as_ref(), items.as_ref(), order)?;
    let mut places: Vec<usize> = Vec::with_capacity(items.len());
    let mut lengths = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        let (start, length) = range(values, row).unwrap_or_default();
        let from = places.len();
        places.extend(start..start + length);
        if let Some(own) = places.get_mut(from..) {
            own.sort_unstable_by(|a, b| compare(*a, *b));
        }
        lengths.push(length);
    }
    let places = places.into_iter().map(|at| u64::try_from(at).unwrap_or(u64::MAX));
    let items = take(items, &places.collect::<UInt64Array>(), None)?;
    let (field, offsets) = (Arc::clone(field), OffsetBuffer::from_lengths(lengths));
    Ok(Arc::new(ListArray::try_new(field, offsets, items, values.nulls().cloned())?))
}

/// The most frequent value of each row, the first one of several.
fn modes(values: &ListArray) -> DfResult<ArrayRef> {
    let items = values.values();
    let compare = make_comparator(items.as_ref(), items.as_ref(), SortOptions::default())?;
    let places = (0..values.len()).map(|row| {
        let (start, length) = range(values, row)?;
        let (mut best, mut most, mut from) = (start, 0, start);
        for at in start..start + length {
            if compare(from, at).is_ne() {
                from = at;
            }
            if at + 1 - from > most {
                (best, most) = (from, at + 1 - from);
            }
        }
        u64::try_from(best).ok()
    });
    Ok(take(items, &places.collect::<UInt64Array>(), None)?)
}

fn checked(share: f64) -> DfResult<f64> {
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    let message = format!("percentile value {share} is not between 0 and 1");
    Err(SqlError::new(sqlstate::OUT_OF_RANGE, message).into())
}

/// The place of the first value that so large a share of them does not exceed.
#[expect(clippy::cast_precision_loss, reason = "lists have fewer values than a double has numbers")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
fn place(share: f64, length: usize) -> usize {
    ((share * length as f64).ceil() as usize).clamp(1, length) - 1
}

fn discrete(shares: &ArrayRef, values: &ListArray) -> DfResult<ArrayRef> {
    let at = |range: Option<(usize, usize)>, share: Option<f64>| -> DfResult<Option<u64>> {
        let (Some((start, length)), Some(share)) = (range, share) else { return Ok(None) };
        Ok(u64::try_from(start + place(checked(share)?, length)).ok())
    };
    if !matches!(shares.data_type(), DataType::List(_)) {
        let shares = cast(shares, &DataType::Float64)?;
        let shares = shares.as_primitive::<Float64Type>();
        let places = shares.iter().enumerate().map(|(row, share)| at(range(values, row), share));
        let places: UInt64Array = places.collect::<DfResult<Vec<_>>>()?.into();
        return Ok(take(values.values(), &places, None)?);
    }
    let shares = cast(shares, &list_of(DataType::Float64))?;
    let (mut places, mut lengths, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for (row, shares) in shares.as_list::<i32>().iter().enumerate() {
        let found = range(values, row);
        let asked = shares.filter(|_| found.is_some());
        known.push(asked.is_some());
        lengths.push(asked.as_ref().map_or(0, |shares| shares.len()));
        for share in asked.iter().flat_map(|shares| shares.as_primitive::<Float64Type>()) {
            places.push(at(found, share)?);
        }
    }
    let items = take(values.values(), &UInt64Array::from(places), None)?;
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(field, offsets, items, Some(NullBuffer::from(known)))?))
}

/// The value at a share of the way from the first to the last, between its neighbours.
#[expect(clippy::cast_precision_loss, reason = "lists have fewer values than a double has numbers")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
fn between(values: &Float64Array, (start, length): (usize, usize), share: f64) -> f64 {
    let at = share * (length - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let (first, second) = (values.value(start + low), values.value(start + high));
    if low == high { first } else { first + (second - first) * (at - low as f64) }
}

fn continuous(shares: &ArrayRef, values: &ListArray) -> DfResult<ArrayRef> {
    let items = cast(values.values(), &DataType::Float64)?;
    let items = items.as_primitive::<Float64Type>();
    let shares = cast(shares, &list_of(DataType::Float64))?;
    let mut built = ListBuilder::new(Float64Builder::new());
    for (row, shares) in shares.as_list::<i32>().iter().enumerate() {
        let (Some(range), Some(shares)) = (range(values, row), shares) else {
            built.append_null();
            continue;
        };
        for share in shares.as_primitive::<Float64Type>() {
            let share = share.map(checked).transpose()?;
            built.values().append_option(share.map(|share| between(items, range, share)));
        }
        built.append(true);
    }
    Ok(Arc::new(built.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use arrow::datatypes::Int32Type;

    fn lists() -> ListArray {
        let rows = [Some(vec![Some(1), Some(2), Some(2), Some(3)]), None, Some(vec![Some(7)])];
        ListArray::from_iter_primitive::<Int32Type, _, _>(rows)
    }

    #[test]
    fn the_first_of_the_most_frequent() {
        let found = modes(&lists()).unwrap();
        assert_eq!(*found, Int32Array::from(vec![Some(2), None, Some(7)]));
        let tie = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([9, 9, 4, 4].map(Some))]);
        assert_eq!(*modes(&tie).unwrap(), Int32Array::from(vec![9]));
    }

    #[test]
    fn shares_of_values() {
        let at = |share: f64| {
            let shares: ArrayRef = Arc::new(Float64Array::from(vec![share; 3]));
            discrete(&shares, &lists())
        };
        assert_eq!(*at(0.0).unwrap(), Int32Array::from(vec![Some(1), None, Some(7)]));
        assert_eq!(*at(0.5).unwrap(), Int32Array::from(vec![Some(2), None, Some(7)]));
        assert_eq!(*at(1.0).unwrap(), Int32Array::from(vec![Some(3), None, Some(7)]));
        assert_eq!(SqlError::from(at(1.5).unwrap_err()).sqlstate, sqlstate::OUT_OF_RANGE);
        let values = Float64Array::from(vec![1.0, 2.0, 4.0]);
        assert!((between(&values, (0, 3), 0.75) - 3.0).abs() < 1e-12);
    }
}
