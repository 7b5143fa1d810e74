//! Kept plans that are kept physical, too: those of constants, and those of one table, of which a range of times is
//! asked for, with nothing above that in which there are parameters. Per execution the rows of those times are
//! gathered, the values are put into the condition, and the steps are copied, without what they counted.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::default_table_source::DefaultTableSource;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as Named, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, TableType};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::split_conjunction as split_physical;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, create_physical_expr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
};
use datafusion::scalar::ScalarValue;
use futures::stream;
use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

use crate::kept::Detached;
use crate::outcome::Parameter;
use crate::provider::{Span, has_times};
use crate::session::parameter_number;
use crate::state::States;

/// A plan with a place for the rows that it is about.
#[derive(Debug)]
pub(crate) struct Quick {
    /// What it reads; none if nothing.
    leaf: Option<Leaf>,
    plan: Arc<dyn ExecutionPlan>,
    batch_rows: usize,
}

/// The condition of one execution, and least and greatest time that it lets through.
pub(crate) struct Asks {
    condition: Arc<dyn PhysicalExpr>,
    times: (i64, i64),
}

impl Quick {
    /// That of a kept plan; none if it is of another kind.
    pub(crate) async fn of(
        plan: &LogicalPlan,
        types: &[FieldRef],
        states: &States,
    ) -> DfResult<Option<Self>> {
        let (mut leaf, mut fit) = (None, true);
        let upper = plan.clone().transform_down(|node| {
            use LogicalPlan as P;
            match &node {
                P::Filter(_) => {
                    if let Some((found, scan)) = Leaf::of(&node, types, states)? {
                        leaf = Some(found);
                        return Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump));
                    }
                }
                P::Projection(_)
                | P::Aggregate(_)
                | P::Sort(_)
                | P::Limit(_)
                | P::SubqueryAlias(_)
                | P::EmptyRelation(_)
                | P::Distinct(_) => {}
                _ => fit = false,
            }
            node.apply_expressions(|expr| {
                fit &= !expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_))))?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            let on = if fit { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop };
            Ok(Transformed::new(node, false, on))
        });
        let upper = upper.data()?;
        if !fit {
            return Ok(None);
        }
        let state = states.single.as_ref();
        let planner = Arc::clone(state.query_planner());
        let plan = planner.create_physical_plan(&upper, state).await?;
        let batch_rows = state.config().batch_size();
        Ok(is_copied(&plan, leaf.is_some()).then_some(Self { leaf, plan, batch_rows }))
    }

    /// What it reads; none if nothing.
    pub(crate) fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }

    /// The rows to gather.
    pub(crate) fn span(&self, leaf: &Leaf, snapshot: &Arc<Snapshot>, asks: &Asks) -> Span {
        Span {
            snapshot: Arc::clone(snapshot),
            table: Arc::clone(&leaf.table),
            schema: Arc::clone(&leaf.schema),
            times: asks.times,
            batch_rows: self.batch_rows,
        }
    }

    /// The plan over rows, for which so many bytes were read; without any if it reads none.
    pub(crate) fn over(
        &self,
        rows: Option<(Asks, Vec<RecordBatch>, usize)>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut given = rows.map(|(asks, batches, bytes_read)| {
            let metrics = ExecutionPlanMetricsSet::new();
            if bytes_read > 0 {
                MetricBuilder::new(&metrics).counter("bytes_scanned", 0).add(bytes_read);
            }
            (asks.condition, batches, metrics)
        });
        copied(&self.plan, &mut given)
    }
}

/// What is below everything else: the rows of a table under a condition.
#[derive(Debug)]
pub(crate) struct Leaf {
    table: Arc<CompiledTable>,
    /// The columns that are read.
    schema: SchemaRef,
    /// Which of them has the event times.
    time: usize,
    /// The condition; behind its columns come the parameters.
    condition: Arc<dyn PhysicalExpr>,
}

impl Leaf {
    /// What an execution asks for; none if that has no bounds.
    pub(crate) fn asks(&self, params: &[Parameter]) -> DfResult<Option<Asks>> {
        let columns = self.schema.fields().len();
        let filled = Arc::clone(&self.condition).transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            let parameter = column.index().checked_sub(columns).and_then(|at| params.get(at));
            Ok(match parameter {
                Some(parameter) => Transformed::yes(value_of(parameter)),
                None => Transformed::no(expr),
            })
        });
        let condition = filled.data()?;
        let times = self.times(&condition);
        let is_bounded = times.0 > i64::MIN && times.1 < i64::MAX;
        Ok(is_bounded.then_some(Asks { condition, times }))
    }

    /// Least and greatest time that a condition lets through.
    fn times(&self, condition: &Arc<dyn PhysicalExpr>) -> (i64, i64) {
        let mut times = (i64::MIN, i64::MAX);
        for part in split_physical(condition) {
            let Some(part) = part.downcast_ref::<BinaryExpr>() else { continue };
            let column = part.left().downcast_ref::<Column>();
            let value = part.right().downcast_ref::<Literal>().map(Literal::value);
            let (Some(column), Some(ScalarValue::TimestampMicrosecond(Some(us), _))) =
                (column, value)
            else {
                continue;
            };
            if column.index() != self.time {
                continue;
            }
            match part.op() {
                Operator::Gt | Operator::GtEq => times.0 = times.0.max(*us),
                Operator::Lt | Operator::LtEq => times.1 = times.1.min(*us),
                Operator::Eq => times = (times.0.max(*us), times.1.min(*us)),
                _ => {}
            }
        }
        times
    }

    /// That of a filter right over a table, and what takes its place in the plan.
    fn of(
        node: &LogicalPlan,
        types: &[FieldRef],
        states: &States,
    ) -> DfResult<Option<(Self, LogicalPlan)>> {
        let LogicalPlan::Filter(filter) = node else { return Ok(None) };
        let LogicalPlan::TableScan(scan) = filter.input.as_ref() else { return Ok(None) };
        let Some(Detached { table, .. }) = scan.source.downcast_ref::<Detached>() else {
            return Ok(None);
        };
        let schema: SchemaRef = Arc::new(scan.projected_schema.as_arrow().clone());
        let time = schema.index_of(&table.def.time).ok();
        let time = time.filter(|time| has_times(schema.field(*time).data_type()));
        // Rows under filters, and those of a limit, are read as ever.
        let (Some(time), None, None) = (time, &table.restriction, scan.fetch) else {
            return Ok(None);
        };
        let parts = split_conjunction(&filter.predicate).into_iter();
        let mut parts: Vec<Expr> = parts.cloned().collect();
        for expr in &scan.filters {
            if !parts.contains(expr) {
                parts.push(expr.clone());
            }
        }
        let Some(condition) = conjunction(parts) else { return Ok(None) };
        let Some(condition) = with_columns(condition)? else { return Ok(None) };
        let parameters = types.iter().enumerate().map(|(at, field)| {
            let field = Field::new(parameter_name(at), field.data_type().clone(), false)
                .with_metadata(field.metadata().clone());
            (None, Arc::new(field))
        });
        let parameters = parameters.collect::<Vec<_>>();
        let parameters = DFSchema::new_with_metadata(parameters, Default::default())?;
        let wide = scan.projected_schema.join(&parameters)?;
        let condition = create_physical_expr(
            &condition,
            &wide,
            states.usual.execution_props(),
            &PhysicalPlanningContext::default(),
        )?;
        let mut place = scan.clone();
        place.source = Arc::new(DefaultTableSource::new(Arc::new(Place(Arc::clone(&schema)))));
        (place.projection, place.filters) = (None, Vec::new());
        let leaf = Self { table: Arc::clone(table), schema, time, condition };
        Ok(Some((leaf, LogicalPlan::TableScan(place))))
    }
}

fn value_of(parameter: &Parameter) -> Arc<dyn PhysicalExpr> {
    match parameter.literal() {
        Expr::Literal(value, metadata) => Arc::new(Literal::new_with_metadata(value, metadata)),
        _ => Arc::new(Literal::new(ScalarValue::Null)),
    }
}

type Given = (Arc<dyn PhysicalExpr>, Vec<RecordBatch>, ExecutionPlanMetricsSet);

/// The plan with rows in their place.
fn copied(
    plan: &Arc<dyn ExecutionPlan>,
    given: &mut Option<Given>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    if let Some(place) = plan.downcast_ref::<RowsExec>() {
        let Some((condition, batches, metrics)) = given.take() else {
            return Err(crate::error::SqlError::internal("rows have two places").into());
        };
        let properties = Arc::clone(&place.properties);
        return Ok(Arc::new(RowsExec { properties, condition: Some(condition), batches, metrics }));
    }
    let children = plan.children().into_iter().map(|child| copied(child, given));
    let children = children.collect::<DfResult<Vec<_>>>()?;
    let keep = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    let is_sort = plan.downcast_ref::<SortExec>().is_some();
    let plan = Arc::clone(plan).replace_children(children, keep)?;
    // A copy of a sort shares the bound of its greatest rows with the others otherwise.
    if is_sort { plan.reset_state() } else { Ok(plan) }
}

/// Whether there is one place for rows, or for one row of nothing, below steps of which a copy is known to share nothing
/// that changes.
fn is_copied(plan: &Arc<dyn ExecutionPlan>, reads: bool) -> bool {
    const STEPS: [&str; 9] = [
        "AggregateExec",
        "ProjectionExec",
        "SortExec",
        "SortExec(TopK)",
        "GlobalLimitExec",
        "LocalLimitExec",
        "FilterExec",
        "CoalescePartitionsExec",
        "CooperativeExec",
    ];
    match plan.children().as_slice() {
        [] if reads => plan.downcast_ref::<RowsExec>().is_some(),
        [] => plan.downcast_ref::<PlaceholderRowExec>().is_some(),
        [child] => STEPS.contains(&plan.name()) && is_copied(child, reads),
        _ => false,
    }
}

fn parameter_name(at: usize) -> String {
    format!("\0parameter {at}")
}

/// A condition with columns in the place of its parameters; none if functions are called with them, whose types may
/// hang on values.
fn with_columns(condition: Expr) -> DfResult<Option<Expr>> {
    let is_open = |e: &Expr| e.exists(|e| Ok(matches!(e, Expr::Placeholder(_))));
    let calls = condition.exists(|e| match e {
        Expr::ScalarFunction(_) => is_open(e),
        Expr::Column(column) => Ok(column.name.starts_with('\0')),
        _ => Ok(false),
    })?;
    if calls {
        return Ok(None);
    }
    let open = condition.transform_up(|e| match e {
        Expr::Placeholder(p) => {
            let name = parameter_name(parameter_number(&p.id)?);
            Ok(Transformed::yes(Expr::Column(Named::new_unqualified(name))))
        }
        e => Ok(Transformed::no(e)),
    });
    open.data().map(Some)
}

/// A table that stands for the rows of an execution.
#[derive(Debug)]
struct Place(SchemaRef);

#[async_trait]
impl TableProvider for Place {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&self.0)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = properties.with_scheduling_type(SchedulingType::Cooperative);
        Ok(Arc::new(RowsExec {
            properties: Arc::new(properties),
            condition: None,
            batches: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }
}

/// Gives rows that were gathered, those for which a condition holds.
#[derive(Debug)]
struct RowsExec {
    properties: Arc<PlanProperties>,
    condition: Option<Arc<dyn PhysicalExpr>>,
    batches: Vec<RecordBatch>,
    metrics: ExecutionPlanMetricsSet,
}

impl DisplayAs for RowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowsExec: batches={}", self.batches.len())
    }
}

impl ExecutionPlan for RowsExec {
    fn name(&self) -> &'static str {
        "RowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let condition = self.condition.clone();
        let rows = self.batches.clone().into_iter();
        let rows = rows.filter_map(move |batch| match &condition {
            Some(condition) => let_through(condition, batch).transpose(),
            None => Some(Ok(batch)),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows of a batch for which a condition holds; none if there are none.
fn let_through(
    condition: &Arc<dyn PhysicalExpr>,
    batch: RecordBatch,
) -> DfResult<Option<RecordBatch>> {
    let holds = condition.evaluate(&batch)?.into_array(batch.num_rows())?;
    let batch = filter_record_batch(&batch, holds.as_boolean())?;
    Ok((batch.num_rows() > 0).then_some(batch))
}
