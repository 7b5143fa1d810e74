//! Conditions that name no column, as `8 NOT IN (SELECT …)` or `NULL = x` once it is known to be null. The planner brings
//! them below every aggregate, as if they were about its keys; but an aggregate without keys, and a grouping set without
//! any, gives a row where there are none. They stay above such ones.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The planner's rule.
const RULE: &str = "push_down_filter";

/// Keeps the rule from bringing such conditions too far.
pub(crate) fn above_whole_aggregates(rules: &mut [Arc<dyn OptimizerRule + Send + Sync>]) {
    for rule in rules.iter_mut().filter(|rule| rule.name() == RULE) {
        *rule = Arc::new(Kept(Arc::clone(rule)));
    }
}

#[derive(Debug)]
struct Kept(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for Kept {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return self.0.rewrite(plan, config) };
        if !gives_a_row_of_none(&filter.input) {
            return self.0.rewrite(LogicalPlan::Filter(filter), config);
        }
        let conditions = split_conjunction_owned(filter.predicate.clone()).into_iter();
        let (kept, others): (Vec<Expr>, Vec<Expr>) =
            conditions.partition(|condition| condition.column_refs().is_empty());
        let Some(kept) = conjunction(kept) else {
            return self.0.rewrite(LogicalPlan::Filter(filter), config);
        };
        let Some(others) = conjunction(others) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let below = LogicalPlan::Filter(Filter::try_new(others, filter.input)?);
        self.0
            .rewrite(below, config)?
            .map_data(|below| Ok(LogicalPlan::Filter(Filter::try_new(kept, Arc::new(below))?)))
    }
}

fn gives_a_row_of_none(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            matches!(aggregate.group_expr.as_slice(), [] | [Expr::GroupingSet(_)])
        }
        _ => false,
    }
}
