//! Calls that can build far more than they are given (`repeat`, `lpad`, `||` …) or work far longer than
//! their arguments are long: each value and each batch has a bound, the work is done in slices that notice
//! the end of the statement, and it never holds a query thread.
//!
//! ```text
//!  analyzer rule: f(a, b) ─► Bounded(f)(a, b)     growth: what one row will cost, before it is built
//!                 a || b  ─► Bounded(join)(a, b)  width: how many rows a batch may have, from the plan
//! ```

mod call;
mod growth;
mod join;
mod width;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use crate::error::SqlError;
use call::Bounded;
use growth::Growth;
pub(crate) use width::batch_rows;

/// Most bytes of one value that a function builds.
pub(crate) const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Most bytes that one call builds for the rows of one batch, where queries have memory for it.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// What bounds the calls of one statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    over: Arc<AtomicBool>,
    batch_bytes: u64,
}

impl Bounds {
    /// For a statement whose end `over` tells, in an engine with this memory for queries, bytes.
    pub(crate) fn new(over: Arc<AtomicBool>, memory_bytes: usize) -> Self {
        let share = u64::try_from(memory_bytes / 4).unwrap_or(u64::MAX);
        Self { over, batch_bytes: share.clamp(1 << 20, BATCH_BYTES_MAX) }
    }

    fn check(&self) -> DfResult<()> {
        match self.over.load(Ordering::Relaxed) {
            true => Err(SqlError::canceled().into()),
            false => Ok(()),
        }
    }

    /// The expression with its calls bounded.
    pub(crate) fn around(&self, expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
        expr.transform_up(|e| Ok(self.one(e, schema)))
    }

    fn one(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let growth = Growth::of(func.name());
                let Some(growth) = growth.filter(|_| !func.inner().is::<Bounded>()) else {
                    return Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }));
                };
                let func = Arc::new(Bounded::around(func, growth, self.clone()).into());
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })
                if joins_text(&left, &right, schema) =>
            {
                let func = Arc::new(join::function());
                let func = Arc::new(Bounded::around(func, Growth::Sum, self.clone()).into());
                let args = vec![*left, *right];
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            other => Transformed::no(other),
        }
    }
}

/// Whether both sides are text of the same kind.
fn joins_text(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let (Ok(left), Ok(right)) = (left.get_type(schema), right.get_type(schema)) else {
        return false;
    };
    left == right && matches!(left, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Bounds the calls of a plan. Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct BoundCalls(pub(crate) Bounds);

impl AnalyzerRule for BoundCalls {
    fn name(&self) -> &'static str {
        "bound_calls"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let done = plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                let source = scan.source.schema();
                schema
                    .merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source)?);
            }
            let names = NamePreserver::new(&node);
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.0.around(expr, &schema)?.update_data(|e| name.restore(e)))
            })?;
            match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema),
                false => Ok(node),
            }
        })?;
        Ok(done.data)
    }
}

#[cfg(test)]
mod tests;
