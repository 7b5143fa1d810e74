//! The seam through which SQL expressions of a declaration reach the engine. `sql` implements
//! [`ExpressionCompiler`]; `server` wires it in. The engine never sees SQL text come alive by itself.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::catalog::MeasureDef;
use crate::error::Result;

/// An immutable row expression, bound to one schema.
pub trait CompiledExpr: Debug + Send + Sync {
    /// Type of the result.
    fn data_type(&self) -> &DataType;
    /// Names of the columns it reads.
    fn columns(&self) -> &[String];
    /// One value per row of `batch`, whose schema is the one it was compiled against.
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef>;
}

/// The aggregate functions that have a mergeable state. `avg` is compiled to sum and count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregateFunction {
    /// `count(*)`
    CountAll,
    /// `count(x)`, non-null values
    Count,
    /// `sum(x)`; numeric(38,0) for integers, never wraps
    Sum,
    /// `min(x)`
    Min,
    /// `max(x)`
    Max,
    /// `var_pop(x)`
    VarPop,
    /// `var_samp(x)`
    VarSamp,
    /// `stddev_pop(x)`
    StddevPop,
    /// `stddev_samp(x)`
    StddevSamp,
    /// `first(x)`: value at the earliest event time; ties: greater value. Arguments: x, time.
    First,
    /// `last(x)`: value at the latest event time; ties: greater value. Arguments: x, time.
    Last,
    /// `approx_distinct(x)`: HLL, lg k = 12
    ApproxDistinct,
    /// `approx_quantile(x, p)`: KLL
    ApproxQuantile {
        /// The quantile, 0 to 1.
        p: f64,
    },
    /// `approx_set(x)`: theta sketch, lg k = 12
    ApproxSet,
    /// `top_k(x, k)`: frequent items
    TopK {
        /// How many values at most, 1 to [`crate::state::TOP_K_MAX`].
        k: u32,
    },
}

/// One aggregate over raw rows, with its arguments compiled.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Canonical text, equal for equal calls; the key under which states are shared.
    pub key: String,
    /// Name prefix of its state columns: `<prefix>__<state>`.
    pub prefix: String,
    /// The function.
    pub function: AggregateFunction,
    /// Arguments over the raw schema (empty for `count(*)`).
    pub args: Vec<Arc<dyn CompiledExpr>>,
    /// SQL text of the arguments, for the `sql` crate's own plans.
    pub args_sql: Vec<String>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn CompiledExpr>>,
    /// SQL text of the filter.
    pub filter_sql: Option<String>,
}

/// A measure as an expression over finished aggregate calls.
#[derive(Debug, Clone)]
pub struct CompiledMeasure {
    /// Name of the measure.
    pub name: String,
    /// Type of the finished value.
    pub data_type: DataType,
    /// SQL expression over columns `__call0`, `__call1` … (indexes into [`CompiledMeasures::calls`]).
    pub finish_sql: String,
    /// Calls that `finish_sql` names.
    pub calls: Vec<usize>,
    /// Whether the measure may be summed over groups (plain counts and sums).
    pub additive: bool,
    /// Whether the value is approximate.
    pub approximate: bool,
}

/// All measures of a table, sharing their aggregate calls.
#[derive(Debug, Clone, Default)]
pub struct CompiledMeasures {
    /// Distinct calls.
    pub calls: Vec<AggregateCall>,
    /// Measures in order of declaration.
    pub measures: Vec<CompiledMeasure>,
}

/// Compiles SQL expressions of declarations. Volatile functions, subqueries and window functions are
/// refused; names resolve to columns before keywords and functions.
pub trait ExpressionCompiler: Debug + Send + Sync {
    /// A row expression over `schema`. The error names the expression and what is wrong in it.
    fn scalar(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>>;
    /// The same over rows that are kept already, for a rollup's filter and dimensions: integers wrap, and where
    /// the expression fails on a row, that row has null. Without a meaning of its own, as [`Self::scalar`].
    fn lenient(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        self.scalar(schema, sql)
    }
    /// The measures of a table whose raw rows have `schema` and event time in column `time`.
    fn measures(
        &self,
        schema: &SchemaRef,
        time: &str,
        measures: &[MeasureDef],
    ) -> Result<CompiledMeasures>;
}
