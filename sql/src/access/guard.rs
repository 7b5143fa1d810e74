//! Which rows of a table a user may see, and which of their values: asked of each batch before anything else is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{filter_record_batch, nullif, or, prep_null_mask_filter};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_plan::PhysicalExpr;
use otus_engine::restriction::RowGuard;

use super::filter::Condition;
use crate::error::SqlError;

/// What begins the name of a column that has the values of another unmasked: no name of a table does.
pub(super) const UNMASKED: char = '\0';

/// The column of the whole table that has the values of one that a guard gives.
fn source(name: &str) -> &str {
    name.strip_prefix(UNMASKED).unwrap_or(name)
}

/// Conditions of several grants: a row passes if one of them is true of it. A condition that fails on a row is not.
#[derive(Debug, Clone)]
pub(super) struct AnyOf {
    conditions: Vec<Condition>,
    /// The same as one expression, to look for files that need not be read.
    whole: Arc<dyn PhysicalExpr>,
    /// Names of the columns that they read.
    columns: Vec<String>,
}

impl AnyOf {
    /// Of these; none if one of them is none, which is always true.
    pub(super) fn of<'a>(conditions: impl Iterator<Item = &'a Option<Condition>>) -> Option<Self> {
        let conditions = conditions.cloned().collect::<Option<Vec<_>>>()?;
        let exprs = conditions.iter().map(|condition| Arc::clone(&condition.expr));
        let whole = exprs.reduce(|a, b| Arc::new(BinaryExpr::new(a, Operator::Or, b)))?;
        let columns = columns_of(&whole);
        Some(Self { conditions, whole, columns })
    }

    fn bound(&self, input: &Schema) -> DfResult<Vec<Arc<dyn PhysicalExpr>>> {
        let exprs = self.conditions.iter().map(|condition| Arc::clone(&condition.expr));
        exprs.map(|expr| reassign_expr_columns(expr, input)).collect()
    }
}

/// Which rows and values of one table one user may see.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The table, for messages.
    pub(super) table: String,
    /// The columns that may be seen.
    pub(super) schema: SchemaRef,
    /// Passes the rows that may be seen; none = all.
    pub(super) rows: Option<AnyOf>,
    /// By column: passes the rows in which its value may be seen, among those that may.
    pub(super) values: Vec<(String, AnyOf)>,
    /// Names of those columns.
    pub(super) masked: Vec<String>,
}

impl Guard {
    /// What is asked of rows, over the columns of the whole table; none = nothing.
    pub(crate) fn condition(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.rows.as_ref().map(|rows| &rows.whole)
    }

    /// Whether a column has a value in all rows that may be seen, where the table has one.
    pub(crate) fn is_masked(&self, column: &str) -> bool {
        self.masked.iter().any(|name| name == column)
    }

    /// The names of the columns that must be read so that those of `wanted` can be given.
    pub(crate) fn needed(&self, wanted: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = wanted.iter().map(|name| source(name).to_owned()).collect();
        let masks = self.values.iter().filter(|(name, _)| wanted.contains(&name.as_str()));
        let asked = self.rows.iter().chain(masks.map(|(_, values)| values));
        for name in asked.flat_map(|condition| &condition.columns) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The guard over rows of `input`, of which those columns are given that `output` has.
    pub(crate) fn over(&self, input: &Schema, output: &SchemaRef) -> DfResult<Sieve> {
        let columns = output.fields().iter().map(|field| {
            let mask = self.values.iter().find(|(name, _)| name == field.name());
            let mask = mask.map(|(_, values)| values.bound(input)).transpose()?;
            Ok((input.index_of(source(field.name()))?, mask))
        });
        Ok(Sieve {
            table: self.table.clone(),
            rows: self.rows.as_ref().map(|rows| rows.bound(input)).transpose()?,
            columns: columns.collect::<DfResult<_>>()?,
            schema: Arc::clone(output),
            told: AtomicBool::new(false),
        })
    }
}

impl RowGuard for Guard {
    fn columns(&self) -> &[String] {
        self.rows.as_ref().map_or(&[], |rows| &rows.columns)
    }

    fn masked(&self) -> &[String] {
        &self.masked
    }

    fn seen(&self, rows: &RecordBatch) -> otus_engine::Result<RecordBatch> {
        let seen = self.over(rows.schema_ref(), &self.schema).and_then(|sieve| sieve.seen(rows));
        seen.map_err(|e| otus_engine::Error::invalid(SqlError::from(e).message))
    }
}

/// A guard over rows of one schema.
pub(crate) struct Sieve {
    table: String,
    rows: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// Index in the rows that come, and what the value is asked before it is given.
    columns: Vec<(usize, Option<Vec<Arc<dyn PhysicalExpr>>>)>,
    schema: SchemaRef,
    /// Whether the log has been told that a filter fails.
    told: AtomicBool,
}

impl fmt::Debug for Sieve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sieve({})", self.table)
    }
}

impl Sieve {
    /// What may be seen of `rows`.
    pub(crate) fn seen(&self, rows: &RecordBatch) -> DfResult<RecordBatch> {
        let kept;
        let rows = match &self.rows {
            Some(condition) => {
                kept = filter_record_batch(rows, &self.asked(condition, rows)?)?;
                &kept
            }
            None => rows,
        };
        let columns = self.columns.iter().map(|(index, mask)| {
            let column = rows.column(*index);
            match mask {
                None => Ok(Arc::clone(column)),
                Some(mask) => {
                    let hidden = arrow::compute::not(&self.asked(mask, rows)?)?;
                    Ok(nullif(column, &hidden)?)
                }
            }
        });
        let columns = columns.collect::<DfResult<Vec<ArrayRef>>>()?;
        let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &count)?)
    }

    /// Of which rows one of these is true.
    fn asked(
        &self,
        conditions: &[Arc<dyn PhysicalExpr>],
        rows: &RecordBatch,
    ) -> DfResult<BooleanArray> {
        let mut passed: Option<BooleanArray> = None;
        for condition in conditions {
            let found = passes(condition, rows, &|e| {
                // What the planner says may hold values of rows that nobody may see.
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(table = self.table, error = %e, "a row filter fails on rows: they are hidden");
                }
            })?;
            passed = Some(match passed {
                Some(passed) => or(&passed, &found)?,
                None => found,
            });
        }
        Ok(passed.unwrap_or_else(|| BooleanArray::from(vec![false; rows.num_rows()])))
    }
}

/// Of which rows a condition is true; null is not, nor is a failure. That depends on the row alone: if it showed
/// whether any failed, a statement could ask by its own conditions what hidden rows hold, as these say which files
/// are read.
pub(super) fn passes(
    condition: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    failed: &dyn Fn(DataFusionError),
) -> DfResult<BooleanArray> {
    let mut passed = BooleanBufferBuilder::new(rows.num_rows());
    let mut open = vec![(0, rows.num_rows())];
    while let Some((from, count)) = open.pop() {
        let part = rows.slice(from, count);
        match condition.evaluate(&part).and_then(|value| value.into_array(count)) {
            Ok(value) => {
                let Some(value) = value.as_boolean_opt() else {
                    return Err(SqlError::internal("a row filter is no condition").into());
                };
                match value.null_count() {
                    0 => passed.append_buffer(value.values()),
                    _ => passed.append_buffer(prep_null_mask_filter(value).values()),
                }
            }
            Err(e) if count > 1 => {
                failed(e);
                let half = count / 2;
                open.extend([(from + half, count - half), (from, half)]);
            }
            Err(e) => {
                failed(e);
                passed.append_n(count, false);
            }
        }
    }
    Ok(BooleanArray::new(passed.finish(), None))
}

/// Names of the columns that an expression reads.
fn columns_of(expr: &Arc<dyn PhysicalExpr>) -> Vec<String> {
    let mut names = Vec::new();
    let _visited = expr.apply(|e| {
        if let Some(column) = e.downcast_ref::<Column>()
            && !names.iter().any(|name| name == column.name())
        {
            names.push(column.name().to_owned());
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    names
}
