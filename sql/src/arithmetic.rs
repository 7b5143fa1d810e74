//! Arithmetic as in Postgres: an integer that does not fit its type, and a float divided by zero, are errors
//! and not another number; a cast to an integer rounds and does not cut.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use crate::analyze::map_expressions;
use crate::function::{Checked, whole};

/// Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &'static str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &rewrite)
    }
}

/// A lone expression with its arithmetic checked; its types are coerced already.
pub(crate) fn checked(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    Ok(expr.transform_up(|e| rewrite(e, schema))?.data)
}

fn is_integer(t: &DataType) -> bool {
    matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

fn is_float(t: &DataType) -> bool {
    matches!(t, DataType::Float32 | DataType::Float64)
}

fn rewrite(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) => {
            let Some(function) = Checked::of(binary.op).filter(|_| may_fail(&binary, schema))
            else {
                return Ok(Transformed::no(Expr::BinaryExpr(binary)));
            };
            let args = vec![*binary.left, *binary.right];
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
                std::sync::Arc::new(function),
                args,
            ))))
        }
        Expr::Cast(Cast { expr, field }) => {
            let cuts = is_integer(field.data_type())
                && expr.get_type(schema).is_ok_and(|from| {
                    is_float(&from) || matches!(from, DataType::Decimal128(_, scale) if scale > 0)
                });
            if !cuts {
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            }
            let expr = Box::new(whole().call(vec![*expr]));
            Ok(Transformed::yes(Expr::Cast(Cast { expr, field })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether the planner's own operator would give a wrong number where Postgres gives none.
fn may_fail(binary: &BinaryExpr, schema: &DFSchema) -> bool {
    let (Ok(left), Ok(right)) = (binary.left.get_type(schema), binary.right.get_type(schema))
    else {
        return false;
    };
    left == right
        && match binary.op {
            Operator::Divide => is_float(&left),
            _ => is_integer(&left),
        }
}
