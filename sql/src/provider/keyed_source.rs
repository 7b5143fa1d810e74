//! Where the rows of a keyed table come from while a statement runs: found rows, or blocks that are read when
//! they are asked for. What memory has no room for is read from disk, off the query threads.
//!
//! A join whose other side turns out to have few keys says which, before the first row is asked for: then
//! those are looked up, and the blocks are left alone.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::datasource::source::DataSource;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNullExpr, Literal,
};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr};
use datafusion::scalar::ScalarValue;
use otus_engine::keyed::{Key, KeyedRow, KeyedTable, LiveBlock, LivePiece};

use super::keyed::{LOOKUP_KEYS, key_of};

/// What one partition of a source gives.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// These rows.
    Found(RecordBatch),
    /// The live rows of these blocks.
    Blocks(Vec<LiveBlock>),
}

/// Rows of a keyed table, read when they are asked for.
#[derive(Debug, Clone)]
pub(super) struct KeyedSource {
    /// For `EXPLAIN`.
    pub(super) what: String,
    pub(super) rows: Arc<KeyedTable>,
    pub(super) parts: Vec<Part>,
    /// Columns of the stored schema.
    pub(super) columns: Vec<usize>,
    /// Index of the key column in the stored schema.
    pub(super) key: Option<usize>,
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
    pub(super) limit: Option<usize>,
    /// What joins and others above will want of the rows; they look again at every row.
    pub(super) wanted: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) metrics: ExecutionPlanMetricsSet,
}

/// The rows that were found, as one batch.
pub(super) async fn look_up(
    found: Vec<KeyedRow>,
    columns: &[usize],
    schema: &SchemaRef,
) -> DfResult<RecordBatch> {
    let needs_disk = found.iter().any(|row| row.needs_disk(columns));
    let (columns, schema) = (columns.to_vec(), Arc::clone(schema));
    let read = move || -> DfResult<RecordBatch> {
        let rows = found.iter().map(|row| row.batch(&columns));
        let rows = rows.collect::<otus_engine::Result<Vec<_>>>().map_err(external)?;
        Ok(concat_batches(&schema, &rows)?)
    };
    if needs_disk { aside(read).await } else { read() }
}

/// Blocks shared out so that partitions have about the same number of rows.
pub(super) fn spread(blocks: Vec<LiveBlock>, partitions: usize) -> Vec<Part> {
    let total: usize = blocks.iter().map(LiveBlock::rows).sum();
    let share = total.div_ceil(partitions.max(1)).max(1);
    let mut parts = vec![Vec::new()];
    let mut rows = 0;
    for block in blocks {
        if rows >= share {
            parts.push(Vec::new());
            rows = 0;
        }
        rows += block.rows();
        if let Some(part) = parts.last_mut() {
            part.push(block);
        }
    }
    parts.into_iter().map(Part::Blocks).collect()
}

fn external(e: otus_engine::Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// Runs what waits for a disk where no other query waits for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> DfResult<T> + Send + 'static,
) -> DfResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
}

impl KeyedSource {
    fn rows(&self) -> usize {
        let rows = self.parts.iter().map(|part| match part {
            Part::Found(batch) => batch.num_rows(),
            Part::Blocks(blocks) => blocks.iter().map(LiveBlock::rows).sum(),
        });
        let rows = rows.sum();
        self.limit.map_or(rows, |limit| rows.min(limit))
    }

    /// The keys of which all wanted rows have one, if that is known by now.
    fn wanted_keys(&self) -> DfResult<Option<Vec<Key>>> {
        let Some(column) = self.key_position() else { return Ok(None) };
        for wanted in &self.wanted {
            let now = snapshot_physical_expr(Arc::clone(wanted))?;
            if let Some(mut keys) = keys_in(&now, column, &self.schema) {
                let mut seen = HashSet::new();
                keys.retain(|key| seen.insert(key.clone()));
                return Ok(Some(keys).filter(|keys| keys.len() <= LOOKUP_KEYS));
            }
        }
        Ok(None)
    }

    /// Where the key stands among the columns.
    fn key_position(&self) -> Option<usize> {
        let key = self.key?;
        self.columns.iter().position(|column| *column == key)
    }
}

/// Keys of which one must hold for a row to pass.
fn keys_in(filter: &Arc<dyn PhysicalExpr>, column: usize, schema: &SchemaRef) -> Option<Vec<Key>> {
    let is_key = |e: &Arc<dyn PhysicalExpr>| {
        e.downcast_ref::<Column>().is_some_and(|found| found.index() == column)
    };
    let data_type = schema.field(column).data_type();
    let literal =
        |e: &Arc<dyn PhysicalExpr>| key_of(e.downcast_ref::<Literal>()?.value(), data_type);
    if let Some(list) = filter.downcast_ref::<InListExpr>() {
        if list.negated() || !is_key(list.expr()) {
            return None;
        }
        let keys = list.list().iter().map(literal).collect::<Option<Vec<_>>>()?;
        return Some(keys.into_iter().flatten().collect());
    }
    if let Some(binary) = filter.downcast_ref::<BinaryExpr>() {
        let sides = [binary.left(), binary.right()];
        return match binary.op() {
            Operator::Eq if is_key(sides[0]) => literal(sides[1]),
            Operator::Eq if is_key(sides[1]) => literal(sides[0]),
            Operator::And => sides.iter().find_map(|side| keys_in(side, column, schema)),
            Operator::Or => {
                let mut keys = keys_in(sides[0], column, schema)?;
                keys.extend(keys_in(sides[1], column, schema)?);
                Some(keys)
            }
            _ => None,
        };
    }
    if let Some(case) = filter.downcast_ref::<CaseExpr>() {
        let mut keys = Vec::new();
        for branch in case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr()) {
            keys.extend(keys_in(branch, column, schema)?);
        }
        // Without an else the rest is null, and does not pass.
        return Some(keys);
    }
    if let Some(is_null) = filter.downcast_ref::<IsNullExpr>() {
        // A key is never null.
        return is_key(is_null.arg()).then(Vec::new);
    }
    let value = filter.downcast_ref::<Literal>()?.value();
    matches!(value, ScalarValue::Boolean(Some(false) | None)).then(Vec::new)
}

/// Gives out one partition batch by batch.
struct Reader {
    source: KeyedSource,
    /// Blocks of this partition, until the first row is asked for.
    blocks: Vec<LiveBlock>,
    pieces: VecDeque<LivePiece>,
    /// Read, and not yet given out.
    ready: Option<RecordBatch>,
    /// Rows that are still wanted.
    left: usize,
    /// Rows that were given out.
    given: Count,
}

impl Reader {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        let step = self.source.batch_rows.max(1);
        self.start().await?;
        while self.left > 0 {
            if let Some(batch) = self.ready.take().filter(|batch| batch.num_rows() > 0) {
                let count = batch.num_rows().min(step).min(self.left);
                self.ready = Some(batch.slice(count, batch.num_rows() - count));
                self.left -= count;
                self.given.add(count);
                return Ok(Some(batch.slice(0, count)));
            }
            let Some(piece) = self.pieces.pop_front() else { return Ok(None) };
            let columns = self.source.columns.clone();
            let needs_disk = piece.needs_disk(&columns);
            let read = move || piece.read(&columns).map_err(external);
            self.ready = Some(if needs_disk { aside(read).await? } else { read()? });
        }
        Ok(None)
    }

    /// Decides how the rows of the blocks are come by, now that all who want some have said so.
    async fn start(&mut self) -> DfResult<()> {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.is_empty() {
            return Ok(());
        }
        match self.source.wanted_keys()? {
            Some(keys) => {
                // Each partition gives its own rows, whatever the others know.
                let own: HashSet<usize> = blocks.iter().map(LiveBlock::number).collect();
                let found = keys.iter().filter_map(|key| self.source.rows.get(key));
                let found = found.filter(|row| own.contains(&row.block())).collect();
                let (columns, schema) = (&self.source.columns, &self.source.schema);
                self.ready = Some(look_up(found, columns, schema).await?);
            }
            None => self.pieces = blocks.iter().flat_map(LiveBlock::pieces).collect(),
        }
        Ok(())
    }
}

impl DataSource for KeyedSource {
    fn open(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let mut reader = Reader {
            source: self.clone(),
            blocks: Vec::new(),
            pieces: VecDeque::new(),
            ready: None,
            left: self.limit.unwrap_or(usize::MAX),
            given: MetricBuilder::new(&self.metrics).output_rows(partition),
        };
        match self.parts.get(partition) {
            Some(Part::Blocks(blocks)) => reader.blocks.clone_from(blocks),
            Some(Part::Found(batch)) => reader.ready = Some(batch.clone()),
            None => {}
        }
        let rows = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|batch| (batch, reader)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, rows={}", self.what, self.rows())?;
        if let Some(key) = self.key_position().filter(|_| !self.wanted.is_empty()) {
            write!(f, ", looked up by {} if few are wanted", self.schema.field(key).name())?;
        }
        Ok(())
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.parts.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        let mut known = Statistics::new_unknown(&self.schema);
        if partition.is_none() {
            let rows = Precision::Exact(self.rows());
            // Fewer, if those that are wanted turn out to be few.
            known.num_rows = if self.wanted.is_empty() { rows } else { rows.to_inexact() };
        }
        Ok(Arc::new(known))
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn try_swapping_with_projection(
        &self,
        _projection: &ProjectionExprs,
    ) -> DfResult<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        // Whoever wants less still looks at every row.
        let answer = vec![PushedDown::No; filters.len()];
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(answer);
        let is_scan = self.parts.iter().all(|part| matches!(part, Part::Blocks(_)));
        let Some(key) = self.key_position().filter(|_| is_scan && self.limit.is_none()) else {
            return Ok(answer);
        };
        let names_key = |filter: &Arc<dyn PhysicalExpr>| {
            collect_columns(filter).iter().any(|column| column.index() == key)
        };
        let mut source = self.clone();
        source.wanted.extend(filters.into_iter().filter(names_key));
        if source.wanted.len() == self.wanted.len() {
            return Ok(answer);
        }
        Ok(answer.with_updated_node(Arc::new(source)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for wanted in &self.wanted {
            if f(wanted)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}
