//! The operator: reads rows sorted by series and bucket, and fills one series after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements,
    Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, stream};

use super::node::Fill;
use super::series;
use crate::error::SqlError;

/// Fills the gaps of each series.
#[derive(Debug)]
pub(super) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    fill: Arc<[Fill]>,
    starts: Arc<[i64]>,
    order: Option<LexOrdering>,
    properties: Arc<PlanProperties>,
}

impl GapFillExec {
    /// `fill` says by column what stands in a gap, `starts` which buckets there are.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        fill: Vec<Fill>,
        starts: Vec<i64>,
    ) -> DfResult<Self> {
        let sorted = |i: usize, nulls_first: bool| {
            let column = Column::new(schema.field(i).name(), i);
            let options = SortOptions { descending: false, nulls_first };
            PhysicalSortExpr::new(Arc::new(column), options)
        };
        let of = |wanted: Fill| {
            let all = fill.iter().enumerate();
            all.filter(move |(_, f)| **f == wanted).map(|(i, _)| i)
        };
        let keys = of(Fill::Key).map(|i| sorted(i, true));
        let order = LexOrdering::new(keys.chain(of(Fill::Time).map(|i| sorted(i, false))));
        let orders = order.clone().into_iter().map(|o| o.into_iter().collect::<Vec<_>>());
        let equivalence = EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orders);
        let properties = PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            fill: fill.into(),
            starts: starts.into(),
            order,
            properties: Arc::new(properties),
        })
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFillExec: buckets={}", self.starts.len())
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.order.clone().map(OrderingRequirements::from)]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| {
            DataFusionError::from(SqlError::internal("a gap fill lacks its input"))
        })?;
        Ok(Arc::new(Self {
            input,
            fill: Arc::clone(&self.fill),
            starts: Arc::clone(&self.starts),
            order: self.order.clone(),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.schema();
        let keys: Vec<usize> =
            (0..self.fill.len()).filter(|i| self.fill.get(*i) == Some(&Fill::Key)).collect();
        let fields = keys.iter().map(|i| SortField::new(schema.field(*i).data_type().clone()));
        let filler = Filler {
            converter: RowConverter::new(fields.collect())?,
            keys,
            fill: Arc::clone(&self.fill),
            starts: Arc::clone(&self.starts),
            batch_rows: context.session_config().batch_size().max(1),
            reservation: MemoryConsumer::new("GapFillExec").register(context.memory_pool()),
            input_schema: input.schema(),
            schema: Arc::clone(&schema),
            series: Vec::new(),
            key: None,
            ready: VecDeque::new(),
            over: false,
        };
        let rows = stream::try_unfold((filler, input), |(mut filler, mut input)| async move {
            loop {
                if let Some(batch) = filler.ready.pop_front() {
                    return Ok(Some((batch, (filler, input))));
                }
                if filler.over {
                    return Ok(None);
                }
                match input.next().await.transpose()? {
                    Some(batch) => filler.push(&batch)?,
                    None => filler.finish()?,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Collects the rows of one series, fills it, goes on to the next.
struct Filler {
    converter: RowConverter,
    keys: Vec<usize>,
    fill: Arc<[Fill]>,
    starts: Arc<[i64]>,
    batch_rows: usize,
    reservation: MemoryReservation,
    input_schema: SchemaRef,
    schema: SchemaRef,
    /// Rows of the series that is being read.
    series: Vec<RecordBatch>,
    key: Option<OwnedRow>,
    ready: VecDeque<RecordBatch>,
    over: bool,
}

impl Filler {
    fn push(&mut self, batch: &RecordBatch) -> DfResult<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.keys.is_empty() {
            return self.keep(batch.clone());
        }
        let keys: Vec<_> = self.keys.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let keys = self.converter.convert_columns(&keys)?;
        let mut from = 0;
        for row in 0..batch.num_rows() {
            if self.key.as_ref().is_some_and(|key| key.row() == keys.row(row)) {
                continue;
            }
            if row > from {
                self.keep(batch.slice(from, row - from))?;
            }
            if self.key.is_some() {
                self.fill()?;
            }
            from = row;
            self.key = Some(keys.row(row).owned());
        }
        self.keep(batch.slice(from, batch.num_rows() - from))
    }

    fn keep(&mut self, rows: RecordBatch) -> DfResult<()> {
        self.reservation.try_grow(rows.get_array_memory_size())?;
        self.series.push(rows);
        Ok(())
    }

    /// Without other keys there is one series, even if it has no row.
    fn finish(&mut self) -> DfResult<()> {
        self.over = true;
        if self.keys.is_empty() || self.key.is_some() {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> DfResult<()> {
        let rows = concat_batches(&self.input_schema, &self.series)?;
        self.series.clear();
        let filled = series::fill(&rows, &self.schema, &self.fill, &self.starts)?;
        self.reservation.try_resize(filled.get_array_memory_size())?;
        let mut from = 0;
        while from < filled.num_rows() {
            let length = self.batch_rows.min(filled.num_rows() - from);
            self.ready.push_back(filled.slice(from, length));
            from += length;
        }
        Ok(())
    }
}
