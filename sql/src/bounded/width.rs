//! How many rows a batch of a statement may have, so that wide values do not multiply: what a batch holds
//! is guessed from the plan's calls and constants.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::call::Bounded;
use super::growth::Growth;

/// Bytes aimed at for one batch.
const BATCH_BYTES: u64 = 4 << 20;
/// Bytes of a column's value, and of a value that a call makes of a count unknown here.
const COLUMN_BYTES: u64 = 16;
const UNKNOWN_BYTES: u64 = 64 << 10;

/// Rows of a batch: `usual` unless the plan builds wide values.
pub(crate) fn batch_rows(plan: &LogicalPlan, usual: usize) -> DfResult<usize> {
    let mut widest = 0_u64;
    plan.apply_with_subqueries(|node| {
        let mut row = 0_u64;
        node.apply_expressions(|expr| {
            row = row.saturating_add(width(expr));
            Ok(TreeNodeRecursion::Continue)
        })?;
        widest = widest.max(row);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let rows = usize::try_from(BATCH_BYTES / widest.max(1)).unwrap_or(usize::MAX);
    Ok(rows.clamp(1, usual.max(1)))
}

fn width(expr: &Expr) -> u64 {
    match expr {
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(text) => text.map_or(0, |t| u64::try_from(t.len()).unwrap_or(u64::MAX)),
            None => u64::try_from(value.size()).unwrap_or(u64::MAX) / 4,
        },
        Expr::ScalarFunction(call) => {
            let widths = || call.args.iter().map(width).fold(0, u64::saturating_add);
            match call.func.inner().downcast_ref::<Bounded>() {
                Some(bounded) => grown(bounded.growth(), &call.args),
                None => widths(),
            }
        }
        Expr::Column(_) => COLUMN_BYTES,
        other => {
            let mut inside = 0_u64;
            let walked = other.apply_children(|child| {
                inside = inside.saturating_add(width(child));
                Ok(TreeNodeRecursion::Continue)
            });
            walked.map_or(inside, |_| inside)
        }
    }
}

fn grown(growth: Growth, args: &[Expr]) -> u64 {
    let of = |i: usize| args.get(i).map_or(0, width);
    match growth {
        Growth::Repeat | Growth::RepeatElement => match count(args.get(1)) {
            Some(n) => of(0).saturating_mul(n),
            None => UNKNOWN_BYTES,
        },
        Growth::Pad => count(args.get(1)).unwrap_or(UNKNOWN_BYTES),
        Growth::Resize => count(args.get(1)).map_or(UNKNOWN_BYTES, |n| n.saturating_mul(8)),
        Growth::Series => UNKNOWN_BYTES,
        Growth::Replace | Growth::ReplacePattern => of(0).saturating_add(of(2)),
        Growth::Sum | Growth::JoinElements => (0..args.len()).map(of).fold(0, u64::saturating_add),
        Growth::Joined => {
            let all = (1..args.len()).map(of).fold(0, u64::saturating_add);
            let between = u64::try_from(args.len().saturating_sub(2)).unwrap_or(u64::MAX);
            all.saturating_add(of(0).saturating_mul(between))
        }
        Growth::Coded(times) => {
            (0..args.len()).map(of).fold(0, u64::saturating_add).saturating_mul(times)
        }
        Growth::Product | Growth::Search => COLUMN_BYTES,
    }
}

/// A count that stands in the statement.
fn count(expr: Option<&Expr>) -> Option<u64> {
    match expr {
        Some(Expr::Literal(ScalarValue::Int64(Some(n)), _)) => Some(u64::try_from(*n).unwrap_or(0)),
        Some(Expr::Literal(ScalarValue::Int32(Some(n)), _)) => Some(u64::try_from(*n).unwrap_or(0)),
        Some(Expr::Cast(cast)) => count(Some(&cast.expr)),
        _ => None,
    }
}
