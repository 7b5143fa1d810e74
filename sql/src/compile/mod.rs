//! The expressions of declarations come to life: computed columns, filters and measures. Names resolve to
//! columns before keywords and functions; whatever could differ from one run to the next is refused.

mod measure;
mod scalar;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::scalar::ScalarValue;
use otus_engine::catalog::MeasureDef;
use otus_engine::expr::{CompiledExpr, CompiledMeasures, ExpressionCompiler};
use otus_engine::{Error, Result};

use crate::error::{SqlError, SqlResult};
use crate::state;
pub(crate) use measure::finish_expr;
pub(crate) use scalar::{condition, queried_part, queried_row, row_expr};

/// Compiles SQL expressions for `engine` and `ingest`.
pub struct SqlCompiler {
    state: SqlResult<SessionState>,
}

impl SqlCompiler {
    /// A compiler with the functions of SQL sessions.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: state::functions() })
    }

    fn state(&self) -> Result<&SessionState> {
        self.state.as_ref().map_err(|e| Error::internal(e.to_string()))
    }
}

impl fmt::Debug for SqlCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlCompiler")
    }
}

impl ExpressionCompiler for SqlCompiler {
    fn scalar(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        scalar::compile(self.state()?, schema, sql)
    }

    fn lenient(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        scalar::compile_lenient(self.state()?, schema, sql)
    }

    fn measures(
        &self,
        schema: &SchemaRef,
        time: &str,
        measures: &[MeasureDef],
    ) -> Result<CompiledMeasures> {
        measure::compile(self.state()?, schema, time, measures)
    }
}

/// The value of an expression without columns.
pub(crate) fn constant(state: &SessionState, expr: Expr) -> SqlResult<ScalarValue> {
    let schema = DFSchema::empty();
    let expr = scalar::simplified(state, expr, &schema).map_err(SqlError::from)?;
    let physical = state.create_physical_expr(expr, &schema).map_err(SqlError::from)?;
    let batch = arrow::record_batch::RecordBatch::try_new_with_options(
        Arc::new(arrow::datatypes::Schema::empty()),
        Vec::new(),
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|e| SqlError::internal(e.to_string()))?;
    match physical.evaluate(&batch).map_err(SqlError::from)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => {
            ScalarValue::try_from_array(&array, 0).map_err(SqlError::from)
        }
    }
}

/// An error in an expression of a declaration.
fn wrong(sql: &str, what: impl fmt::Display) -> Error {
    Error::invalid(format!("expression {sql:?}: {what}"))
}

fn wrong_sql(sql: &str, e: &SqlError) -> Error {
    let error = wrong(sql, e);
    match &e.hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

#[cfg(test)]
mod tests;
