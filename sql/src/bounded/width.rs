//! How many rows a batch of a statement may have, so that wide values do not multiply: what a batch holds
//! is guessed from the plan's calls and constants.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlan};

use super::call::Bounded;
use super::growth::Growth;
use crate::windows;

/// Bytes aimed at for one batch.
const BATCH_BYTES: u64 = 4 << 20;
/// Rows of a batch where its values may be of any length.
pub(crate) const FEW_ROWS: usize = 64;
/// Bytes of a column's value, and of a value that a call makes of a count unknown here.
const COLUMN_BYTES: u64 = 16;
const UNKNOWN_BYTES: u64 = 64 << 10;

/// Aggregates whose values are as long as all that they gather.
const GATHERING: [&str; 2] = ["array_agg", "string_agg"];

/// Rows of a batch: `usual` unless the plan builds wide values.
pub(crate) fn batch_rows(plan: &LogicalPlan, usual: usize) -> DfResult<usize> {
    let mut widest = if repeats_gathered(plan)? { UNKNOWN_BYTES } else { 0 };
    plan.apply_with_subqueries(|node| {
        let mut row = sets(node);
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

/// Whether gathered values may come out for many rows each.
fn repeats_gathered(plan: &LogicalPlan) -> DfResult<bool> {
    let gathers = |node: &LogicalPlan| {
        let found = |expr: &Expr| matches!(expr, Expr::AggregateFunction(call) if GATHERING.contains(&call.func.name()));
        holds(node, &found)
    };
    // Most plans gather nothing.
    if !any(plan, &gathers)? {
        return any(plan, &|node| holds(node, &is_gathering_window));
    }
    any(plan, &|node| {
        let repeats = matches!(node, LogicalPlan::Join(_) | LogicalPlan::Unnest(_));
        let below = || node.inputs().into_iter().map(|input| any(input, &gathers)).collect();
        let below: DfResult<Vec<bool>> = if repeats { below() } else { Ok(Vec::new()) };
        let asks = |expr: &Expr| matches!(expr, Expr::ScalarSubquery(_));
        Ok(below?.contains(&true) || holds(node, &asks)? || holds(node, &is_long_window)?)
    })
}

/// Whether an expression gathers what a window sees.
fn is_gathering_window(expr: &Expr) -> bool {
    matches!(expr, Expr::WindowFunction(window) if GATHERING.contains(&window.fun.name()))
}

/// Whether an expression is a window function whose values may be long.
fn is_long_window(expr: &Expr) -> bool {
    matches!(expr, Expr::WindowFunction(window) if windows::is_counted(&window.fun))
}

fn any(plan: &LogicalPlan, is: &dyn Fn(&LogicalPlan) -> DfResult<bool>) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found = is(node)?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn holds(node: &LogicalPlan, is: &dyn Fn(&Expr) -> bool) -> DfResult<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found = found || expr.exists(|e| Ok(is(e)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Bytes that a row takes in all grouping sets together.
fn sets(node: &LogicalPlan) -> u64 {
    let LogicalPlan::Aggregate(aggregate) = node else { return 0 };
    let Some(Expr::GroupingSet(set)) = aggregate.group_expr.first() else { return 0 };
    let columns = u64::try_from(set.distinct_expr().len()).unwrap_or(u64::MAX);
    let sets = match set {
        GroupingSet::Cube(of) => 1 << of.len().min(40),
        GroupingSet::Rollup(of) => u64::try_from(of.len() + 1).unwrap_or(u64::MAX),
        GroupingSet::GroupingSets(sets) => u64::try_from(sets.len()).unwrap_or(u64::MAX),
    };
    sets.saturating_mul(columns).saturating_mul(COLUMN_BYTES)
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
        Growth::Series | Growth::Split | Growth::SplitPattern => UNKNOWN_BYTES,
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
