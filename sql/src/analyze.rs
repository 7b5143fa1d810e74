//! How the rules of our own change the expressions of a plan.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::planning;

/// Changes every expression of a plan from the leaves up; `change` is told the columns it stands over.
/// Columns keep their names.
pub(crate) fn map_expressions(
    plan: LogicalPlan,
    change: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>,
) -> DfResult<LogicalPlan> {
    map_whole_expressions(plan, &|expr, schema| expr.transform_up(|e| change(e, schema)))
}

/// As [`map_expressions`], each expression as a whole.
pub(crate) fn map_whole_expressions(
    plan: LogicalPlan,
    change: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>,
) -> DfResult<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = &node {
            let source = scan.source.schema();
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source)?);
        }
        let names = NamePreserver::new(&node);
        let renamed = |expr: Expr| {
            let name = names.save(&expr);
            let changed = change(expr, &schema)?;
            Ok(changed.update_data(|e| name.restore(e)))
        };
        planning::look()?;
        let node = node.map_expressions(|expr| match expr {
            // The set has no name of its own; its members have.
            Expr::GroupingSet(_) => expr.map_children(renamed),
            expr => renamed(expr),
        })?;
        match node.transformed {
            true => node.map_data(LogicalPlan::recompute_schema),
            false => Ok(node),
        }
    })?;
    Ok(done.data)
}

/// Whether an operator puts two values in an order, or finds them equal.
pub(crate) fn compares(op: Operator) -> bool {
    use Operator as O;
    let ordered = matches!(op, O::Lt | O::LtEq | O::Gt | O::GtEq);
    ordered || matches!(op, O::Eq | O::NotEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}
