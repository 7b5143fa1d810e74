//! How a plan over few rows is made physical: in one partition, by the rules that its answer hangs on. The others
//! share work out, or read less of what is little.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

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

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

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
            "EnsureRequirements" => Arc::new(WhereRequired(rule)) as Rule,
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

/// A rule that sees to orders and distributions, left out where the plan requires none.
#[derive(Debug)]
struct WhereRequired(Rule);

/// Rows of one partition are distributed as anybody may wish.
fn requires(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() != 1
        || plan.required_input_ordering().iter().any(Option::is_some)
        || plan.children().into_iter().any(requires)
}

impl PhysicalOptimizerRule for WhereRequired {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if requires(&plan) { self.0.optimize(plan, config) } else { Ok(plan) }
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if requires(&plan) { self.0.optimize_with_context(plan, context) } else { Ok(plan) }
    }
}
