//! Columns of one name, as both sides of a join have them. Where the planner brings conditions down through a plan it finds
//! columns by their names, so that one on the right side's column could be asked of the left side's. While it does so,
//! something stands above such columns through which no condition goes; so it does above aggregates that give a row where
//! there are none, through which conditions on no column would go.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};

use crate::physical::{Node, Rule, only};

/// Begins the names of the planner's rules that bring conditions down.
const RULES: &str = "FilterPushdown";

/// Keeps conditions from going by names that two columns have.
pub(crate) fn by_names_that_differ(rules: &mut [Rule]) {
    for rule in rules.iter_mut().filter(|rule| rule.name().starts_with(RULES)) {
        *rule = Arc::new(Apart(Arc::clone(rule)));
    }
}

#[derive(Debug)]
struct Apart(Rule);

impl Apart {
    fn around(plan: Node, change: impl FnOnce(Node) -> DfResult<Node>) -> DfResult<Node> {
        if !plan.exists(|node| Ok(stops(node)))? {
            return change(plan);
        }
        let plan = plan.transform_up(|node| {
            Ok(match stops(&node) {
                true => Transformed::yes(Arc::new(Barrier { input: node }) as Node),
                false => Transformed::no(node),
            })
        });
        let removed = change(plan.data()?)?.transform_up(|node| {
            Ok(match node.downcast_ref::<Barrier>() {
                Some(barrier) => Transformed::yes(Arc::clone(&barrier.input)),
                None => Transformed::no(node),
            })
        });
        removed.data()
    }
}

fn stops(node: &Node) -> bool {
    let whole = node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
        aggregate.group_expr().is_true_no_grouping() || aggregate.group_expr().groups().len() > 1
    });
    whole || has_one_name_twice(node)
}

fn has_one_name_twice(node: &Node) -> bool {
    let mut names = HashSet::new();
    node.schema().fields().iter().any(|field| !names.insert(field.name().clone()))
}

impl PhysicalOptimizerRule for Apart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        Self::around(plan, |plan| self.0.optimize(plan, config))
    }

    fn optimize_with_context(
        &self,
        plan: Node,
        context: &dyn PhysicalOptimizerContext,
    ) -> DfResult<Node> {
        Self::around(plan, |plan| self.0.optimize_with_context(plan, context))
    }
}

/// The same rows; conditions stay above.
#[derive(Debug)]
struct Barrier {
    input: Node,
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("BarrierExec")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "BarrierExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Node> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        Ok(Arc::new(Self { input: only(children)? }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
