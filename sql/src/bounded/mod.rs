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
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use crate::analyze::map_expressions;
use crate::error::SqlError;
use crate::planning::{self, Taken};
use call::Bounded;
use growth::Growth;
pub(crate) use width::{FEW_ROWS, batch_rows};

/// Most bytes of one value that a function builds.
pub(crate) const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Most bytes that one call builds for the rows of one batch, where queries have memory for it.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// What bounds the calls of one statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    over: Arc<AtomicBool>,
    batch_bytes: u64,
    /// What its planning has taken: held as long as any plan with these bounds.
    taken: Arc<Taken>,
}

impl Bounds {
    /// For a statement whose end `over` tells, in an engine with this memory for queries, bytes.
    pub(crate) fn new(over: Arc<AtomicBool>, memory_bytes: usize) -> Self {
        let share = u64::try_from(memory_bytes / 4).unwrap_or(u64::MAX);
        Self { over, batch_bytes: share.clamp(1 << 20, BATCH_BYTES_MAX), taken: Arc::default() }
    }

    /// The same; what planning builds counts.
    pub(crate) fn counting(self, taken: Taken) -> Self {
        Self { taken: Arc::new(taken), ..self }
    }

    /// Counts what a call builds of constants: when they are folded, and where that has not been done, too.
    fn take(&self, bytes: u64) -> DfResult<()> {
        self.taken.take(bytes)
    }

    /// What planning has taken.
    pub(crate) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    /// What says that the statement is over.
    pub(crate) fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
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
                Transformed::yes(self.joined(*left, *right))
            }
            other => Transformed::no(other),
        }
    }

    /// `left || right`, in the call that `left` is if it is one.
    fn joined(&self, left: Expr, right: Expr) -> Expr {
        match left {
            Expr::ScalarFunction(mut call) if is_joined(&call) => {
                call.args.push(right);
                Expr::ScalarFunction(call)
            }
            left => {
                let func = Arc::new(join::function());
                let func = Arc::new(Bounded::around(func, Growth::Sum, self.clone()).into());
                Expr::ScalarFunction(ScalarFunction { func, args: vec![left, right] })
            }
        }
    }
}

/// Whether a call is bounded by a statement of its own.
pub(crate) fn is_bounded(function: &ScalarUDF) -> bool {
    function.inner().is::<Bounded>()
}

fn is_joined(call: &ScalarFunction) -> bool {
    call.func.name() == "||" && call.func.inner().is::<Bounded>()
}

/// Whether both sides are text of the same kind.
fn joins_text(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    // All parts of what is joined already are of one kind.
    let left = match left {
        Expr::ScalarFunction(call) if is_joined(call) => call.args.first().unwrap_or(left),
        other => other,
    };
    let (Ok(left), Ok(right)) = (left.get_type(schema), right.get_type(schema)) else {
        return false;
    };
    left == right && matches!(left, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Bounds the calls of a plan. Runs after types are coerced.
#[derive(Debug, Clone)]
pub(crate) struct BoundCalls(pub(crate) Bounds);

impl AnalyzerRule for BoundCalls {
    fn name(&self) -> &'static str {
        "bound_calls"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &|expr, schema| {
            planning::look()?;
            Ok(self.0.one(expr, schema))
        })
    }
}

#[cfg(test)]
mod tests;
