//! The scan of a table of which a user may see a part. To the planner it is one leaf without statistics: no
//! condition, limit or value of the statement goes below it, and nothing that is counted there comes out.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, stream};
use otus_engine::compiled::CompiledTable;

use crate::access::{Guard, Sieve};
use crate::error::SqlError;

/// What says which rows of a table may be seen; none = all.
pub(super) fn guard_of(table: &CompiledTable) -> DfResult<Option<&Guard>> {
    let Some(guard) = table.guard() else { return Ok(None) };
    match (guard.as_ref() as &dyn Any).downcast_ref::<Guard>() {
        Some(guard) => Ok(Some(guard)),
        None => Err(SqlError::internal("a row filter of an unknown kind").into()),
    }
}

/// What a scan with a guard does with conditions of a statement: it looks with the plain ones for files that it need
/// not read, and leaves it to the planner to ask them of rows.
pub(super) fn pushdown(guard: &Guard, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
    let of = |filter: &&Expr| match is_plain(guard, filter) {
        true => TableProviderFilterPushDown::Inexact,
        false => TableProviderFilterPushDown::Unsupported,
    };
    filters.iter().map(of).collect()
}

/// The same of a table that may have a guard: without one, conditions help to read less.
pub(super) fn pushdown_of(
    table: &CompiledTable,
    filters: &[&Expr],
) -> DfResult<Vec<TableProviderFilterPushDown>> {
    Ok(match guard_of(table)? {
        Some(guard) => pushdown(guard, filters),
        None => vec![TableProviderFilterPushDown::Inexact; filters.len()],
    })
}

/// Whether a condition compares columns with values and does nothing else: it fails on no row.
fn is_plain(guard: &Guard, filter: &Expr) -> bool {
    let column = |e: &Expr| matches!(e, Expr::Column(c) if !guard.is_masked(&c.name));
    // A value is put in the place of an open parameter before anything is read.
    let value = |e: &Expr| matches!(e, Expr::Literal(..) | Expr::Placeholder(_));
    match filter {
        Expr::BinaryExpr(b) => match b.op {
            Operator::And | Operator::Or => is_plain(guard, &b.left) && is_plain(guard, &b.right),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq => {
                (column(&b.left) && value(&b.right)) || (value(&b.left) && column(&b.right))
            }
            _ => false,
        },
        Expr::InList(list) => column(&list.expr) && list.list.iter().all(value),
        Expr::Between(b) => column(&b.expr) && value(&b.low) && value(&b.high),
        Expr::IsNull(e) | Expr::IsNotNull(e) => column(e),
        _ => false,
    }
}

/// The columns that a scan gives.
pub(super) fn output(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> DfResult<SchemaRef> {
    Ok(match projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(schema),
    })
}

/// Indexes into `schema` of what must be read so that the columns of `output` can be given.
pub(super) fn inputs(
    guard: Option<&Guard>,
    schema: &Schema,
    output: &Schema,
) -> DfResult<Vec<usize>> {
    let wanted: Vec<&str> = output.fields().iter().map(|f| f.name().as_str()).collect();
    let needed = match guard {
        Some(guard) => guard.needed(&wanted),
        None => wanted.into_iter().map(str::to_owned).collect(),
    };
    Ok(needed.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?)
}

/// The rows of `input` that may be seen, with the columns of `output`.
pub(super) fn guarded(
    guard: &Guard,
    input: Arc<dyn ExecutionPlan>,
    output: SchemaRef,
    table: &CompiledTable,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let sieve = guard.over(&input.schema(), &output)?;
    let properties = PlanProperties::new(
        EquivalenceProperties::new(output),
        Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    Ok(Arc::new(GuardedExec {
        input,
        sieve: Arc::new(sieve),
        table: table.def.qualified_name(),
        properties: Arc::new(properties),
        metrics: ExecutionPlanMetricsSet::new(),
    }))
}

/// Reads rows and gives those that may be seen.
#[derive(Debug)]
pub(crate) struct GuardedExec {
    input: Arc<dyn ExecutionPlan>,
    sieve: Arc<Sieve>,
    table: String,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GuardedExec {
    /// What is read, for whoever accounts for work and shows it to nobody.
    pub(crate) fn hidden(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for GuardedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedExec: rows of {} that the role may see", self.table)
    }
}

impl ExecutionPlan for GuardedExec {
    fn name(&self) -> &'static str {
        "GuardedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::all_unsupported(result))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = context.session_config().batch_size().max(1);
        let work = Work {
            input: Some(self.input.execute(partition, context)?),
            sieve: Arc::clone(&self.sieve),
            ready: BatchCoalescer::new(self.schema(), rows),
        };
        let given = MetricBuilder::new(&self.metrics).output_rows(partition);
        let rows = stream::try_unfold(work, move |mut work| {
            let given = given.clone();
            async move {
                let batch = work.next().await?;
                given.add(batch.as_ref().map_or(0, RecordBatch::num_rows));
                Ok::<_, DataFusionError>(batch.map(|batch| (batch, work)))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

struct Work {
    /// None once it has ended.
    input: Option<SendableRecordBatchStream>,
    sieve: Arc<Sieve>,
    /// Few rows of each batch may be left.
    ready: BatchCoalescer,
}

impl Work {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.next_completed_batch() {
                return Ok(Some(batch));
            }
            let Some(input) = &mut self.input else { return Ok(None) };
            match input.next().await.transpose()? {
                Some(batch) => {
                    let seen = self.sieve.seen(&batch)?;
                    if seen.num_columns() == 0 && seen.num_rows() > 0 {
                        return Ok(Some(seen));
                    }
                    self.ready.push_batch(seen)?;
                }
                None => {
                    self.input = None;
                    self.ready.finish_buffered_batch()?;
                }
            }
        }
    }
}
