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
        Expr::BinaryExpr(binary) => Ok(match chain(binary, schema) {
            Ok(call) => Transformed::yes(Expr::ScalarFunction(call)),
            Err(binary) => Transformed::no(Expr::BinaryExpr(binary)),
        }),
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

/// The checked call in place of an operator that would give a wrong number where Postgres gives none. What
/// leans to the left, as `a + b - c` does, becomes one flat call: types and names of nested calls are made
/// anew at every level, which made a thousand terms take minutes.
fn chain(binary: BinaryExpr, schema: &DFSchema) -> Result<ScalarFunction, BinaryExpr> {
    let Some(of) = may_fail(&binary, schema) else {
        return Err(binary);
    };
    let BinaryExpr { left, op, right } = binary;
    let (operators, mut args) = match *left {
        Expr::ScalarFunction(call) => match Checked::parts(&call.func) {
            Some(checked) => (checked.then(op), call.args),
            None => (vec![op], vec![Expr::ScalarFunction(call)]),
        },
        other => (vec![op], vec![other]),
    };
    args.push(*right);
    Ok(ScalarFunction::new_udf(Checked::of(operators, of), args))
}

/// The type of both sides, if the planner's own operator on them may go wrong unseen.
fn may_fail(binary: &BinaryExpr, schema: &DFSchema) -> Option<DataType> {
    use Operator as O;
    if !matches!(binary.op, O::Plus | O::Minus | O::Multiply | O::Divide) {
        return None;
    }
    let (left, right) = (type_of(&binary.left, schema)?, type_of(&binary.right, schema)?);
    let fails = match binary.op {
        O::Divide => is_float(&left),
        _ => is_integer(&left),
    };
    (left == right && fails).then_some(left)
}

/// A checked call knows its type; any other expression derives it from its parts.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    if let Expr::ScalarFunction(call) = expr
        && let Some(checked) = Checked::parts(&call.func)
    {
        return Some(checked.data_type().clone());
    }
    expr.get_type(schema).ok()
}
