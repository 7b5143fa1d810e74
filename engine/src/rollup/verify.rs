//! Comparing a rollup with the raw rows it stands for, for audits.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, make_comparator};
use arrow::compute::SortOptions;
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
/// granularity. Exact but for floats (1e-9 relative), and quantiles and frequent values, of which only
/// nullness is compared: the sketch of one is random, that of the other depends on the split of the rows.
/// Reports the first hundred differences.
pub fn compare(raw: Aggregation<'_>, rollup: Aggregation<'_>) -> Result<Vec<Difference>> {
    let plan = raw.plan();
    let keys = 1 + plan.dimensions.len();
    let functions: Vec<AggregateFunction> = plan.calls.iter().map(|c| c.call.function).collect();
    let (raw, rollup) = (raw.finish_values()?, rollup.finish_values()?);
    let columns = comparators(&raw, &rollup)?;
    let (rows, other_rows) = (raw.num_rows(), rollup.num_rows());
    let mut differences = Vec::new();
    let (mut a, mut b) = (0, 0);
    while differences.len() < DIFFERENCES_MAX && (a < rows || b < other_rows) {
        // A side that is at its end is greater.
        let order = match (a < rows, b < other_rows) {
            (true, true) => compare_keys(&columns[..keys], a, b),
            (true, false) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Less => differences.push(missing(&raw, a, keys, true)?),
            Ordering::Greater => differences.push(missing(&rollup, b, keys, false)?),
            Ordering::Equal => {
                for (index, function) in functions.iter().enumerate() {
                    let column = keys + index;
                    let (x, y) = (raw.column(column), rollup.column(column));
                    if !same_value(*function, &columns[column], (x, a), (y, b)) {
                        differences.push(Difference {
                            key: key_text(&raw, a, keys)?,
                            what: raw.schema().field(column).name().clone(),
                            raw: Some(value_text(x, a)?),
                            rollup: Some(value_text(y, b)?),
                        });
                    }
                }
            }
        }
        a += usize::from(order.is_le());
        b += usize::from(order.is_ge());
    }
    Ok(differences)
}

/// One comparator per column of two batches of the same schema.
fn comparators(left: &RecordBatch, right: &RecordBatch) -> Result<Vec<DynComparator>> {
    let ascending = SortOptions { descending: false, nulls_first: true };
    let columns = left.columns().iter().zip(right.columns());
    columns.map(|(x, y)| Ok(make_comparator(x, y, ascending)?)).collect()
}

fn compare_keys(keys: &[DynComparator], a: usize, b: usize) -> Ordering {
    keys.iter().map(|compare| compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn same_value(
    function: AggregateFunction,
    compare: &DynComparator,
    (x, a): (&ArrayRef, usize),
    (y, b): (&ArrayRef, usize),
) -> bool {
    if x.is_null(a) || y.is_null(b) {
        return x.is_null(a) && y.is_null(b);
    }
    use AggregateFunction::{ApproxQuantile, TopK};
    if matches!(function, ApproxQuantile { .. } | TopK { .. }) {
        return true;
    }
    if *x.data_type() == DataType::Float64 {
        let x = x.as_primitive::<Float64Type>().value(a);
        let y = y.as_primitive::<Float64Type>().value(b);
        let close = (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs());
        return close || x == y || (x.is_nan() && y.is_nan());
    }
    compare(a, b).is_eq()
}

fn missing(batch: &RecordBatch, row: usize, keys: usize, in_raw: bool) -> Result<Difference> {
    let present = Some("present".to_string());
    let (raw, rollup) = if in_raw { (present, None) } else { (None, present) };
    Ok(Difference { key: key_text(batch, row, keys)?, what: "key".into(), raw, rollup })
}

fn key_text(batch: &RecordBatch, row: usize, keys: usize) -> Result<String> {
    let mut parts = Vec::with_capacity(keys);
    for index in 0..keys {
        parts.push(value_text(batch.column(index), row)?);
    }
    Ok(parts.join(", "))
}

fn value_text(column: &ArrayRef, row: usize) -> Result<String> {
    match column.is_null(row) {
        true => Ok("null".to_string()),
        false => Ok(array_value_to_string(column, row)?),
    }
}
