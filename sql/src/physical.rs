//! What rules of our own over physical plans share, and the operators that they put in.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};

use crate::error::SqlError;

/// An operator of a plan.
pub(crate) type Node = Arc<dyn ExecutionPlan>;
/// A rule over physical plans.
pub(crate) type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;
/// What a rule makes of one operator; schemas stay.
type Change = fn(Node, &ConfigOptions) -> DfResult<Transformed<Node>>;

/// A rule that changes operators one by one, inputs first.
pub(crate) fn each(name: &'static str, change: Change) -> Rule {
    Arc::new(Each { name, change })
}

/// A rule of the planner's, left out for plans of which `wanted` is not true.
pub(crate) fn only_where(rule: Rule, wanted: fn(&Node) -> bool) -> Rule {
    Arc::new(OnlyWhere { rule, wanted })
}

/// The operator over other inputs.
pub(crate) fn over(node: Node, inputs: Vec<Node>) -> DfResult<Node> {
    let mode = ChildrenPropertiesMode::Recompute;
    node.replace_children(inputs, ReplaceChildrenOptions::new(mode))
}

/// The input of an operator that has one.
pub(crate) fn only(inputs: Vec<Node>) -> DfResult<Node> {
    let lost = || DataFusionError::from(SqlError::internal("a plan lost its input"));
    inputs.into_iter().next().ok_or_else(lost)
}

struct Each {
    name: &'static str,
    change: Change,
}

impl fmt::Debug for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PhysicalOptimizerRule for Each {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        plan.transform_up(|node| (self.change)(node, config)).data()
    }
}

#[derive(Debug)]
struct OnlyWhere {
    rule: Rule,
    wanted: fn(&Node) -> bool,
}

impl PhysicalOptimizerRule for OnlyWhere {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }

    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        if (self.wanted)(&plan) { self.rule.optimize(plan, config) } else { Ok(plan) }
    }

    fn optimize_with_context(
        &self,
        plan: Node,
        context: &dyn PhysicalOptimizerContext,
    ) -> DfResult<Node> {
        if (self.wanted)(&plan) { self.rule.optimize_with_context(plan, context) } else { Ok(plan) }
    }
}
