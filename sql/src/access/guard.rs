//! Which rows of a table a user may see, and which of their values: asked of each batch before anything else is.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, nullif, prep_null_mask_filter};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_plan::PhysicalExpr;
use otus_engine::restriction::RowGuard;

use super::filter::Condition;
use crate::error::{SqlError, sqlstate};

/// What begins the name of a column that has the values of another unmasked: no name of a table does.
pub(super) const UNMASKED: char = '\0';

/// The column of the whole table that has the values of one that a guard gives.
fn source(name: &str) -> &str {
    name.strip_prefix(UNMASKED).unwrap_or(name)
}

/// Which rows and values of one table one user may see.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The table, for messages.
    pub(super) table: String,
    /// The columns that may be seen.
    pub(super) schema: SchemaRef,
    /// Passes the rows that may be seen; none = all.
    pub(super) rows: Option<Condition>,
    /// By column: passes the rows in which its value may be seen, among those that may.
    pub(super) values: Vec<(String, Condition)>,
    /// Names of those columns.
    pub(super) masked: Vec<String>,
}

impl Guard {
    /// What is asked of rows, over the columns of the whole table; none = nothing.
    pub(crate) fn condition(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.rows.as_ref().map(|rows| &rows.expr)
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
        let bind =
            |condition: &Condition| reassign_expr_columns(Arc::clone(&condition.expr), input);
        let columns = output.fields().iter().map(|field| {
            let mask = self.values.iter().find(|(name, _)| name == field.name());
            let mask = mask.map(|(_, condition)| bind(condition)).transpose()?;
            Ok((input.index_of(source(field.name()))?, mask))
        });
        Ok(Sieve {
            table: self.table.clone(),
            rows: self.rows.as_ref().map(bind).transpose()?,
            columns: columns.collect::<DfResult<_>>()?,
            schema: Arc::clone(output),
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
    rows: Option<Arc<dyn PhysicalExpr>>,
    /// Index in the rows that come, and what the value is asked before it is given.
    columns: Vec<(usize, Option<Arc<dyn PhysicalExpr>>)>,
    schema: SchemaRef,
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

    /// Of which rows a condition is true; null is not.
    fn asked(
        &self,
        condition: &Arc<dyn PhysicalExpr>,
        rows: &RecordBatch,
    ) -> DfResult<BooleanArray> {
        let value = condition.evaluate(rows).and_then(|v| v.into_array(rows.num_rows()));
        // What the planner says may hold values of rows that nobody may see.
        let value = value.map_err(|e| {
            tracing::warn!(table = self.table, error = %e, "the row filter of a role failed");
            let message = format!("the row filter of table \"{}\" failed", self.table);
            DataFusionError::from(
                SqlError::new(sqlstate::NOT_ALLOWED, message)
                    .with_hint("the server's log says why; the filter is part of a role"),
            )
        })?;
        let Some(passes) = value.as_boolean_opt() else {
            return Err(SqlError::internal("a row filter is no condition").into());
        };
        Ok(match passes.null_count() {
            0 => passes.clone(),
            _ => prep_null_mask_filter(passes),
        })
    }
}

/// Names of the columns that an expression reads.
pub(super) fn columns_of(expr: &Arc<dyn PhysicalExpr>) -> Vec<String> {
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
