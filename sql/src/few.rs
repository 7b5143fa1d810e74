//! How a plan over few rows is made physical: in one partition, by the rules that its answer hangs on. The others
//! share work out, or read less of what is little.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::physical::{Rule, only_where};

/// Rules that make plans over many rows faster, and change nothing else.
const OF_MANY_ROWS: [&str; 10] = [
    "FilterPushdown",
    "FilterPushdown(Post)",
    "LimitedDistinctAggregation",
    "WindowTopN",
    "ProjectionPushdown",
    "LimitAggregation",
    "LimitPushPastWindows",
    "HashJoinBuffering",
    "TopKRepartition",
    "PushdownSort",
];

/// Says, in the configuration of a state, that its scans are told themselves what of their files to read: no rule
/// does.
#[derive(Debug)]
pub(crate) struct ReadsFew;

/// The same state for plans over few rows.
pub(crate) fn of_few_rows(state: SessionState) -> SessionState {
    let rules = state.physical_optimizers().iter();
    let rules = rules.filter(|rule| !OF_MANY_ROWS.contains(&rule.name())).map(|rule| {
        let rule = Arc::clone(rule);
        match rule.name() {
            "EnsureRequirements" => only_where(rule, requires),
            _ => rule,
        }
    });
    let rules: Vec<Rule> = rules.collect();
    let builder = SessionStateBuilder::new_from_existing(state);
    let mut state = builder.with_physical_optimizer_rules(rules).build();
    let config = state.config_mut();
    config.options_mut().execution.target_partitions = 1;
    config.set_extension(Arc::new(ReadsFew));
    state
}

/// Rows of one partition are distributed as anybody may wish.
fn requires(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() != 1
        || plan.required_input_ordering().iter().any(Option::is_some)
        || plan.children().into_iter().any(requires)
}
