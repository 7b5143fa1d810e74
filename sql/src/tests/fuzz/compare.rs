//! Whether two answers are the same: columns with their names, types and nullability, rows as a multiset and
//! in order where the order is determined; exact but for floats, which may differ by rounding.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::table::Nature;

/// Relative difference that floats may have.
const TOLERANCE: f64 = 1e-9;

/// Difference that quantiles may have. Their sketch drops values by chance once it has seen 200, so that
/// even the same rows give two answers, each within 1.3% of the right rank; the values lie evenly in a range
/// of 11,000.
const QUANTILE_TOLERANCE: f64 = 600.0;

/// A statement's answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) schema: SchemaRef,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A value, with what is needed to compare it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Float(f64),
    Text(String),
}

impl Answer {
    pub(super) fn new(schema: SchemaRef, batches: &[RecordBatch]) -> Self {
        let rows = batches.iter().flat_map(cells).collect();
        Self { schema, rows }
    }
}

fn cells(batch: &RecordBatch) -> Vec<Vec<Cell>> {
    let options = FormatOptions::default();
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
        let floats = matches!(column.data_type(), DataType::Float32 | DataType::Float64)
            .then(|| cast(column, &DataType::Float64).unwrap());
        let nulls = column.logical_nulls();
        for (i, row) in rows.iter_mut().enumerate() {
            row.push(match &floats {
                _ if nulls.as_ref().is_some_and(|n| n.is_null(i)) => Cell::Null,
                Some(floats) => Cell::Float(floats.as_primitive::<Float64Type>().value(i)),
                None => Cell::Text(formatter.value(i).to_string()),
            });
        }
    }
    rows
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Cell {
    fn order(&self, other: &Self) -> Ordering {
        let rank = |c: &Self| match c {
            Self::Null => 0,
            Self::Float(_) => 1,
            Self::Text(_) => 2,
        };
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)),
        }
    }

    fn same(&self, other: &Self, nature: Nature) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => {
                let close = (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
                let near =
                    (a - b).abs() <= QUANTILE_TOLERANCE || a.is_infinite() || b.is_infinite();
                // -0 and 0 are the same number, as any NaN is any other.
                a == b
                    || (a.is_nan() && b.is_nan())
                    || (nature != Nature::Exact && close)
                    || (nature == Nature::Quantile && near)
                    || nature == Nature::Repeated
            }
            // Averages and deviations are numerics, made of doubles at times.
            (Self::Text(a), Self::Text(b)) if nature != Nature::Exact && a != b => {
                match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(a), Ok(b)) => Self::Float(a).same(&Self::Float(b), nature),
                    _ => false,
                }
            }
            (a, b) => a == b,
        }
    }
}

/// What differs, or none.
pub(super) fn difference(
    left: &Answer,
    right: &Answer,
    natures: &[Nature],
    ordered: bool,
) -> Option<String> {
    if let Some(text) = schemas(left, right) {
        return Some(text);
    }
    if left.rows.len() != right.rows.len() {
        return Some(format!(
            "{} rows against {}\n{}",
            left.rows.len(),
            right.rows.len(),
            both(left, right)
        ));
    }
    let exact: Vec<usize> = (0..left.schema.fields().len())
        .filter(|i| natures.get(*i).copied() == Some(Nature::Exact))
        .collect();
    if ordered {
        for (i, (a, b)) in left.rows.iter().zip(&right.rows).enumerate() {
            if exact.iter().any(|c| !a[*c].same(&b[*c], Nature::Exact)) {
                return Some(format!("row {i} differs in order or value\n{}", both(left, right)));
            }
        }
    }
    let nature = |c: usize| natures.get(c).copied().unwrap_or(Nature::Exact);
    let mut free: Vec<&Vec<Cell>> = sorted(right, &exact);
    for row in sorted(left, &exact) {
        let matches = |other: &&Vec<Cell>| {
            row.iter().zip(other.iter()).enumerate().all(|(c, (a, b))| a.same(b, nature(c)))
        };
        match free.iter().position(matches) {
            Some(i) => drop(free.remove(i)),
            None => {
                return Some(format!("no equal of {}\n{}", line(row), both(left, right)));
            }
        }
    }
    None
}

fn schemas(left: &Answer, right: &Answer) -> Option<String> {
    let describe = |answer: &Answer| -> Vec<String> {
        let fields = answer.schema.fields().iter();
        fields
            .map(|f| {
                let null = if f.is_nullable() { "" } else { " not null" };
                format!("{:?} {}{null} {:?}", f.name(), f.data_type(), f.metadata())
            })
            .collect()
    };
    let (a, b) = (describe(left), describe(right));
    for answer in [left, right] {
        for (i, field) in answer.schema.fields().iter().enumerate() {
            if !field.is_nullable() && answer.rows.iter().any(|r| r[i] == Cell::Null) {
                return Some(format!("column {:?} is not null, but has nulls", field.name()));
            }
        }
    }
    (a != b).then(|| format!("columns\n  {}\nagainst\n  {}", a.join("\n  "), b.join("\n  ")))
}

fn sorted<'a>(answer: &'a Answer, exact: &[usize]) -> Vec<&'a Vec<Cell>> {
    let mut rows: Vec<&Vec<Cell>> = answer.rows.iter().collect();
    rows.sort_by(|a, b| {
        let by = |list: &mut dyn Iterator<Item = usize>| {
            list.map(|i| a[i].order(&b[i])).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        by(&mut exact.iter().copied()).then_with(|| by(&mut (0..a.len())))
    });
    rows
}

fn line(row: &[Cell]) -> String {
    row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

/// Rows that only one side has, as text.
fn both(left: &Answer, right: &Answer) -> String {
    let lines = |a: &Answer| a.rows.iter().map(|r| line(r)).collect::<Vec<_>>();
    let (a, b) = (lines(left), lines(right));
    let only = |these: &[String], those: &[String]| {
        let mut those = those.to_vec();
        let mut out = Vec::new();
        for row in these {
            match those.iter().position(|r| r == row) {
                Some(i) => drop(those.remove(i)),
                None => out.push(format!("  {row}")),
            }
        }
        let n = out.len();
        out.truncate(12);
        format!("{n} rows:\n{}", out.join("\n"))
    };
    format!("with rollups only, {}\nwithout only, {}", only(&a, &b), only(&b, &a))
}
