//! Grouping sets hide their input's properties: a key that is constant, ordered or hashed below them is null
//! in some of the sets. The planner carries those properties over all the same, so that a group would come
//! out in pieces, once for each stretch of rows or partition; here they end above the aggregate. So do those of a union
//! whose inputs have constants or columns that are alike: it orders each input by fewer keys then, and refuses what they
//! make together. And so do those of windows below a sort that keeps the first rows: the planner would let the first of
//! several windows have that order, and the others see the rows that it kept. An outer join hides those of a side whose
//! columns it may fill with nulls.

use std::fmt;
use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PhysicalExpr, PlanProperties, SendableRecordBatchStream,
};

use crate::physical::{Node, Rule, each, only, over};

/// Puts [`Ungrouped`] above each aggregate with several grouping sets. To run before any rule that looks at
/// properties.
pub(crate) fn rule() -> Rule {
    each("grouping_sets", |node, _| {
        let several = node
            .downcast_ref::<AggregateExec>()
            .is_some_and(|aggregate| aggregate.group_expr().groups().len() > 1);
        if several || unites_alike(&node) || fills_constants(&node) {
            return Ok(Transformed::yes(Arc::new(Ungrouped::new(node))));
        }
        let first = node.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_some());
        match first.map(SortExec::input).filter(|input| shows_windows(input)) {
            Some(input) => {
                let input: Node = Arc::new(Ungrouped::new(Arc::clone(input)));
                over(node, vec![input]).map(Transformed::yes)
            }
            None => Ok(Transformed::no(node)),
        }
    })
}

fn unites_alike(node: &Node) -> bool {
    let alike = |input: &&Node| !input.equivalence_properties().eq_group().is_empty();
    node.is::<UnionExec>() && node.children().iter().any(alike)
}

/// Whether a join may give nulls for columns that are constant, or alike, in its input.
fn fills_constants(node: &Node) -> bool {
    let join_type =
        match (node.downcast_ref::<HashJoinExec>(), node.downcast_ref::<NestedLoopJoinExec>()) {
            (Some(join), _) => *join.join_type(),
            (_, Some(join)) => *join.join_type(),
            _ => return false,
        };
    let (left, right) = match join_type {
        JoinType::Left => (false, true),
        JoinType::Right => (true, false),
        JoinType::Full => (true, true),
        _ => return false,
    };
    let filled = node.children().into_iter().zip([left, right]).filter(|(_, filled)| *filled);
    filled.into_iter().any(|(input, _)| !input.equivalence_properties().eq_group().is_empty())
}

fn shows_windows(node: &Node) -> bool {
    if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return true;
    }
    let passes = node.is::<ProjectionExec>() || node.is::<FilterExec>();
    passes && node.children().into_iter().any(shows_windows)
}

/// The same rows, of which nothing is known.
#[derive(Debug)]
struct Ungrouped {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Ungrouped {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Ungrouped {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for Ungrouped {
    fn name(&self) -> &'static str {
        match self.input.name() {
            "UnionExec" => "UnitedExec",
            "AggregateExec" => "GroupingSetsExec",
            join if join.contains("Join") => "OuterJoinExec",
            _ => "WindowsExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        Ok(Arc::new(Self::new(only(children)?)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
