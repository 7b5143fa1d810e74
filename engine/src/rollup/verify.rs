//! Comparing a rollup with the raw rows it stands for, for audits.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;

use super::Aggregation;
use crate::error::Result;
use crate::expr::AggregateFunction;

/// Relative difference up to which floats count as equal.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Differences reported at most.
const DIFFERENCES_MAX: usize = 100;

/// One place where a rollup and raw rows disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Bucket and dimensions, as text.
    pub key: String,
    /// What differs: a call's key, or `key` if the whole row is on one side only.
    pub what: String,
    /// Value from raw rows; none if the key is missing there.
    pub raw: Option<String>,
    /// Value from the rollup; none if the key is missing there.
    pub rollup: Option<String>,
}

/// Compares an aggregation fed with raw rows with one fed with partial states of the same plan and
/// granularity. Exact but for floats (1e-9 relative) and quantiles, of which only nullness is compared,
/// since their sketch is random. Reports the first hundred differences.
pub fn compare(raw: Aggregation<'_>, rollup: Aggregation<'_>) -> Result<Vec<Difference>> {
    let plan = raw.plan();
    let keys = 1 + plan.dimensions.len();
    let functions: Vec<AggregateFunction> = plan.calls.iter().map(|c| c.call.function).collect();
    let (raw, rollup) = (raw.finish_values()?, rollup.finish_values()?);
    let mut differences = Vec::new();
    let (mut a, mut b) = (0, 0);
    while differences.len() < DIFFERENCES_MAX && (a < raw.num_rows() || b < rollup.num_rows()) {
        let order = compare_keys(&raw, a, &rollup, b, keys)?;
        if order.is_lt() {
            differences.push(missing(&raw, a, keys, true)?);
            a += 1;
        } else if order.is_gt() {
            differences.push(missing(&rollup, b, keys, false)?);
            b += 1;
        } else {
            for (index, function) in functions.iter().enumerate() {
                let column = keys + index;
                let (x, y) = (raw.column(column), rollup.column(column));
                if !same_value(*function, x, a, y, b)? {
                    differences.push(Difference {
                        key: key_text(&raw, a, keys)?,
                        what: raw.schema().field(column).name().clone(),
                        raw: Some(array_value_to_string(x, a)?),
                        rollup: Some(array_value_to_string(y, b)?),
                    });
                }
            }
            a += 1;
            b += 1;
        }
    }
    Ok(differences)
}

/// How the keys of two rows compare; a side that is at its end is greater.
fn compare_keys(
    left: &RecordBatch,
    a: usize,
    right: &RecordBatch,
    b: usize,
    keys: usize,
) -> Result<std::cmp::Ordering> {
    use arrow::array::make_comparator;
    use std::cmp::Ordering;
    if a >= left.num_rows() {
        return Ok(Ordering::Greater);
    }
    if b >= right.num_rows() {
        return Ok(Ordering::Less);
    }
    for index in 0..keys {
        let comparator = make_comparator(
            &left.column(index).slice(a, 1),
            &right.column(index).slice(b, 1),
            arrow::compute::SortOptions { descending: false, nulls_first: true },
        )?;
        let order = comparator(0, 0);
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

fn same_value(
    function: AggregateFunction,
    x: &ArrayRef,
    a: usize,
    y: &ArrayRef,
    b: usize,
) -> Result<bool> {
    if x.is_null(a) || y.is_null(b) {
        return Ok(x.is_null(a) && y.is_null(b));
    }
    if matches!(function, AggregateFunction::ApproxQuantile { .. }) {
        return Ok(true);
    }
    if *x.data_type() == DataType::Float64 {
        let (x, y) =
            (x.as_primitive::<Float64Type>().value(a), y.as_primitive::<Float64Type>().value(b));
        let close = (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs());
        return Ok(close || x == y || (x.is_nan() && y.is_nan()));
    }
    Ok(x.slice(a, 1).to_data() == y.slice(b, 1).to_data())
}

fn missing(batch: &RecordBatch, row: usize, keys: usize, in_raw: bool) -> Result<Difference> {
    let present = Some("present".to_string());
    let (raw, rollup) = if in_raw { (present, None) } else { (None, present) };
    Ok(Difference { key: key_text(batch, row, keys)?, what: "key".into(), raw, rollup })
}

fn key_text(batch: &RecordBatch, row: usize, keys: usize) -> Result<String> {
    let mut parts = Vec::with_capacity(keys);
    for index in 0..keys {
        let column = batch.column(index);
        parts.push(match column.is_null(row) {
            true => "null".to_string(),
            false => array_value_to_string(column, row)?,
        });
    }
    Ok(parts.join(", "))
}
