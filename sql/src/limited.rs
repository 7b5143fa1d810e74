//! `SELECT k FROM t GROUP BY k ORDER BY k LIMIT 3`: the planner lets the aggregate keep three groups. It looks for the
//! sorted column by its name, and goes through windows, which see all groups: where it could take another column's
//! aggregate, or one that something between sees, it is not asked.

use std::sync::Arc;

use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::physical::{Rule, only_where};

/// The planner's rule.
const RULE: &str = "LimitAggregation";
/// The one that answers whole aggregates from statistics: past an aggregate with a FILTER it finds the one below.
const STATISTICS: &str = "aggregate_statistics";

/// Keeps the rules from plans that they would change for the worse.
pub(crate) fn where_nothing_is_between(rules: &mut [Rule]) {
    for rule in rules.iter_mut() {
        match rule.name() {
            RULE => *rule = only_where(Arc::clone(rule), |plan| !is_misled(plan)),
            STATISTICS => *rule = only_where(Arc::clone(rule), |plan| !filters_above(plan, false)),
            _ => {}
        }
    }
}

/// Whether an aggregate stands somewhere below one with a FILTER.
fn filters_above(plan: &Arc<dyn ExecutionPlan>, below: bool) -> bool {
    let aggregate = plan.downcast_ref::<AggregateExec>();
    // The two parts of one aggregate have the same filters.
    let filters = aggregate.is_some_and(|a| a.filter_expr().iter().any(Option::is_some));
    if below && aggregate.is_some() && !filters {
        return true;
    }
    plan.children().into_iter().any(|child| filters_above(child, below || filters))
}

/// Whether anywhere a limited sort stands over an aggregate that must not have its limit.
fn is_misled(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let here = plan.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_some());
    here.is_some_and(|sort| meets(sort.input(), column_of(&sort.expr().first().expr)))
        || plan.children().into_iter().any(is_misled)
}

fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Whether a sort by a column of the plan's meets an aggregate that does not make just that column; none = by what is no
/// column any more, or past an operator that sees all rows.
fn meets(plan: &Arc<dyn ExecutionPlan>, column: Option<usize>) -> bool {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let Some(column) = column else { return true };
        return match aggregate.mode() {
            AggregateMode::Final | AggregateMode::FinalPartitioned => {
                meets(aggregate.input(), Some(column))
            }
            // The rule would go on to what this one reads.
            _ => meets(aggregate.input(), None),
        };
    }
    let column = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        column.and_then(|at| projection.expr().get(at)).and_then(|made| column_of(&made.expr))
    } else if passes_rows(plan) {
        column
    } else {
        match plan.cardinality_effect() {
            CardinalityEffect::Equal | CardinalityEffect::GreaterEqual => None,
            CardinalityEffect::Unknown | CardinalityEffect::LowerEqual => return false,
        }
    };
    plan.children().into_iter().any(|child| meets(child, column))
}

fn passes_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none())
}
