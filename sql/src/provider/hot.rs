//! Hot rows as a source that also tells the bounds of their event time, so that `max(ts)` is known without
//! reading a row. Everything else is the in-memory source's.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source::DataSource;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning};
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr};
use datafusion::scalar::ScalarValue;

/// Bounds of one output column.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// Index among the columns of the source's output.
    pub(super) column: usize,
    /// Least value.
    pub(super) min: ScalarValue,
    /// Greatest value.
    pub(super) max: ScalarValue,
}

/// Batches in memory whose bounds in one column are known.
#[derive(Debug, Clone)]
pub(super) struct HotSource {
    inner: Arc<dyn DataSource>,
    bound: Bound,
}

impl HotSource {
    /// `bound` must hold for all rows of `inner`, exactly.
    pub(super) fn new(inner: MemorySourceConfig, bound: Bound) -> Self {
        Self { inner: Arc::new(inner), bound }
    }

    fn around(&self, inner: Arc<dyn DataSource>, column: usize) -> Arc<dyn DataSource> {
        Arc::new(Self { inner, bound: Bound { column, ..self.bound.clone() } })
    }
}

impl DataSource for HotSource {
    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        self.inner.open(partition, context)
    }

    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", hot rows")?;
        self.inner.fmt_as(t, f)
    }

    fn repartitioned(
        &self,
        target: usize,
        file_min_size: usize,
        ordering: Option<LexOrdering>,
    ) -> DfResult<Option<Arc<dyn DataSource>>> {
        let inner = self.inner.repartitioned(target, file_min_size, ordering)?;
        Ok(inner.map(|inner| self.around(inner, self.bound.column)))
    }

    fn output_partitioning(&self) -> Partitioning {
        self.inner.output_partitioning()
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        self.inner.eq_properties()
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        let known = self.inner.partition_statistics(partition)?;
        if partition.is_some() {
            return Ok(known);
        }
        let mut known = Arc::unwrap_or_clone(known);
        if let Some(column) = known.column_statistics.get_mut(self.bound.column) {
            column.min_value = Precision::Exact(self.bound.min.clone());
            column.max_value = Precision::Exact(self.bound.max.clone());
        }
        Ok(Arc::new(known))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        self.inner.with_fetch(limit)
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> DfResult<Option<Arc<dyn DataSource>>> {
        let Some(inner) = self.inner.try_swapping_with_projection(projection)? else {
            return Ok(None);
        };
        let kept = projection.as_ref().iter().position(|p| {
            p.expr.downcast_ref::<Column>().is_some_and(|c| c.index() == self.bound.column)
        });
        Ok(Some(kept.map_or(Arc::clone(&inner), |column| self.around(inner, column))))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}
