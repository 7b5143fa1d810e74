//! Which files can hold rows that a predicate lets through, by the bounds in the log.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::common::pruning::PruningStatistics;
use datafusion::error::Result as DfResult;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use otus_engine::log::op::FileEntry;

use super::bounds;

/// Says for each of some containers what is known of a column.
pub(super) trait Bounds {
    fn len(&self) -> usize;
    fn rows(&self, i: usize) -> u64;
    /// Least or greatest value of a column.
    fn bound(&self, i: usize, column: &str, greatest: bool) -> Option<ScalarValue>;
    fn nulls(&self, i: usize, column: &str) -> Option<u64>;
}

/// Whether each container may hold rows for which `predicate` is true.
pub(super) fn keep(
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
    bounds: &dyn Bounds,
) -> DfResult<Vec<bool>> {
    let Some(predicate) = predicate else { return Ok(vec![true; bounds.len()]) };
    if bounds.len() == 0 {
        return Ok(Vec::new());
    }
    // A predicate that cannot prune keeps everything.
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let Ok(pruning) = builder.try_build(Arc::clone(predicate)) else {
        return Ok(vec![true; bounds.len()]);
    };
    if pruning.always_true() {
        return Ok(vec![true; bounds.len()]);
    }
    // Nor does one that fails on bounds: it may be asked of no row.
    Ok(pruning.prune(&Facts { schema, bounds }).unwrap_or_else(|_| vec![true; bounds.len()]))
}

struct Facts<'a> {
    schema: &'a SchemaRef,
    bounds: &'a dyn Bounds,
}

impl Facts<'_> {
    fn values(&self, column: &Column, greatest: bool) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let null = ScalarValue::try_from(field.data_type()).ok()?;
        let values = (0..self.bounds.len())
            .map(|i| self.bounds.bound(i, &column.name, greatest).unwrap_or_else(|| null.clone()));
        match self.bounds.len() {
            0 => Some(new_null_array(field.data_type(), 0)),
            _ => ScalarValue::iter_to_array(values).ok(),
        }
    }
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, false)
    }
    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, true)
    }
    fn num_containers(&self) -> usize {
        self.bounds.len()
    }
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = (0..self.bounds.len()).map(|i| self.bounds.nulls(i, &column.name));
        Some(Arc::new(nulls.collect::<UInt64Array>()))
    }
    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = (0..self.bounds.len()).map(|i| Some(self.bounds.rows(i)));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }
    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Files of a table. `shift` moves the bounds of one column: those of a bucket that is truncated.
pub(super) struct Files<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) files: &'a [Arc<FileEntry>],
    pub(super) shift: Option<(&'a str, &'a dyn Fn(i64) -> i64)>,
}

impl Bounds for Files<'_> {
    fn len(&self) -> usize {
        self.files.len()
    }
    fn rows(&self, i: usize) -> u64 {
        self.files.get(i).map_or(0, |f| f.rows)
    }
    fn bound(&self, i: usize, column: &str, greatest: bool) -> Option<ScalarValue> {
        let file = self.files.get(i)?;
        let field = self.schema.field_with_name(column).ok()?;
        let stats = file.columns.iter().find(|c| c.name == column)?;
        let bound = if greatest { &stats.max } else { &stats.min };
        let value = bounds::scalar(bound.as_ref()?, field.data_type())?;
        match (self.shift, value) {
            (Some((name, shift)), ScalarValue::TimestampMicrosecond(Some(v), zone))
                if name == column =>
            {
                Some(ScalarValue::TimestampMicrosecond(Some(shift(v)), zone))
            }
            (_, value) => Some(value),
        }
    }
    fn nulls(&self, i: usize, column: &str) -> Option<u64> {
        let file = self.files.get(i)?;
        file.columns.iter().find(|c| c.name == column).map(|stats| stats.nulls)
    }
}

/// Things of which only a range of one time column is known: hot chunks.
pub(super) struct Ranges<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) column: &'a str,
    pub(super) ranges: &'a [Option<(i64, i64)>],
}

impl Bounds for Ranges<'_> {
    fn len(&self) -> usize {
        self.ranges.len()
    }
    fn rows(&self, _: usize) -> u64 {
        1
    }
    fn bound(&self, i: usize, column: &str, greatest: bool) -> Option<ScalarValue> {
        if column != self.column {
            return None;
        }
        let (min, max) = self.ranges.get(i).copied().flatten()?;
        let field = self.schema.field_with_name(column).ok()?;
        let value = otus_engine::log::op::StatValue::Int(if greatest { max } else { min });
        bounds::scalar(&value, field.data_type())
    }
    fn nulls(&self, _: usize, _: &str) -> Option<u64> {
        None
    }
}
