//! The rows of a keyed table: a lookup where the query names keys, else all live rows block by block. Both read
//! memory only.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source::DataSource;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, PhysicalExpr};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::keyed::{Key, KeyedTable, LiveBlock};
use otus_engine::snapshot::Snapshot;

use crate::cache::Seen;
use crate::error::SqlError;

/// Keys that one lookup takes; with more, all rows are read.
const LOOKUP_KEYS: usize = 10_000;

/// A keyed table at one snapshot.
pub(crate) struct KeyedRows {
    table: Arc<CompiledTable>,
    rows: Arc<KeyedTable>,
    /// Number of the snapshot that it is of.
    sequence: u64,
}

impl KeyedRows {
    pub(crate) fn new(snapshot: &Snapshot, table: &Arc<CompiledTable>) -> DfResult<Self> {
        let Some(rows) = snapshot.keyed(table.id) else {
            let name = table.def.qualified_name();
            let e = SqlError::internal(format!("keyed table {name:?} is not in memory"));
            return Err(DataFusionError::from(e));
        };
        let (table, rows) = (Arc::clone(table), Arc::clone(rows));
        Ok(Self { table, rows, sequence: snapshot.sequence() })
    }

    /// The keys that every wanted row has one of, if the filters name them.
    fn keys(&self, filters: &[Expr]) -> Option<Vec<Key>> {
        let index = self.table.key_index()?;
        let field = self.table.schema.field(index);
        let mut keys = filters.iter().find_map(|f| keys_of(f, field.name(), field.data_type()))?;
        let mut seen = std::collections::HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        (keys.len() <= LOOKUP_KEYS).then_some(keys)
    }
}

/// Keys of which one must hold for a row to pass the filter.
fn keys_of(filter: &Expr, name: &str, data_type: &DataType) -> Option<Vec<Key>> {
    let is_key = |e: &Expr| matches!(e, Expr::Column(c) if c.name == name);
    match filter {
        Expr::BinaryExpr(b) if b.op == Operator::Eq && is_key(&b.left) => key(&b.right, data_type),
        Expr::BinaryExpr(b) if b.op == Operator::Eq && is_key(&b.right) => key(&b.left, data_type),
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            let mut keys = keys_of(&b.left, name, data_type)?;
            keys.extend(keys_of(&b.right, name, data_type)?);
            Some(keys)
        }
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            keys_of(&b.left, name, data_type).or_else(|| keys_of(&b.right, name, data_type))
        }
        Expr::InList(list) if !list.negated && is_key(&list.expr) => {
            let keys = list.list.iter().map(|e| key(e, data_type)).collect::<Option<Vec<_>>>()?;
            Some(keys.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// The key of a literal; no key if it is null, which equals nothing.
fn key(literal: &Expr, data_type: &DataType) -> Option<Vec<Key>> {
    let Expr::Literal(value, _) = literal else { return None };
    if value.is_null() {
        return Some(Vec::new());
    }
    let key = match (data_type, value) {
        (DataType::Int64, value) => match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(Some(value)) => Key::Int(value),
            _ => return None,
        },
        (_, value) => Key::Text(value.try_as_str()??.to_string()),
    };
    Some(vec![key])
}

impl fmt::Debug for KeyedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedRows({})", self.table.def.qualified_name())
    }
}

#[async_trait]
impl TableProvider for KeyedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if let Some(seen) = Seen::of(session) {
            seen.moment(self.table.id, self.sequence);
        }
        let full = &self.table.schema;
        // The stored schema begins with the one that queries see.
        let columns = projection.cloned().unwrap_or_else(|| (0..full.fields().len()).collect());
        let schema = Arc::new(full.project(&columns)?);
        let table = self.table.def.qualified_name();
        let name = self.table.def.keyed().map(|k| k.key.clone()).unwrap_or_default();
        let (what, parts) = match self.keys(filters) {
            Some(keys) => {
                let found = keys.iter().filter_map(|key| self.rows.get(key));
                let found = found.map(|row| row.batch().project(&columns));
                let found = found.collect::<Result<Vec<RecordBatch>, _>>()?;
                let rows = arrow::compute::concat_batches(&schema, &found)?;
                let what = format!("keyed lookup: {table}, {name} in {} keys", keys.len());
                (what, vec![Part::Found(rows)])
            }
            None => {
                let parts = spread(self.rows.blocks(), session.config().target_partitions());
                (format!("keyed rows: {table}"), parts)
            }
        };
        let source = KeyedSource {
            what,
            parts,
            columns,
            schema,
            batch_rows: session.config().batch_size(),
            limit,
        };
        Ok(DataSourceExec::from_data_source(source))
    }
}

/// Blocks shared out so that partitions have about the same number of rows.
fn spread(blocks: Vec<LiveBlock>, partitions: usize) -> Vec<Part> {
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

/// What one partition of a source gives.
#[derive(Debug, Clone)]
enum Part {
    Found(RecordBatch),
    Blocks(Vec<LiveBlock>),
}

/// Rows in memory, read when they are asked for.
#[derive(Debug, Clone)]
struct KeyedSource {
    what: String,
    parts: Vec<Part>,
    columns: Vec<usize>,
    schema: SchemaRef,
    batch_rows: usize,
    limit: Option<usize>,
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
}

impl DataSource for KeyedSource {
    fn open(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let (schema, columns) = (Arc::clone(&self.schema), self.columns.clone());
        let step = self.batch_rows.max(1);
        let blocks = match self.parts.get(partition) {
            Some(Part::Blocks(blocks)) => blocks.clone(),
            Some(Part::Found(batch)) => {
                let rows = futures::stream::iter([Ok(batch.clone())]);
                return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
            }
            None => Vec::new(),
        };
        let mut left = self.limit.unwrap_or(usize::MAX);
        let batches = blocks.into_iter().flat_map(move |block| {
            let read = if left == 0 { None } else { Some(block.read(Some(&columns))) };
            let pieces: Vec<DfResult<RecordBatch>> = match read {
                None => Vec::new(),
                Some(Err(e)) => vec![Err(DataFusionError::External(Box::new(e)))],
                Some(Ok(batch)) => {
                    let batch = batch.slice(0, batch.num_rows().min(left));
                    left -= batch.num_rows();
                    let starts = (0..batch.num_rows()).step_by(step);
                    let piece = |from| Ok(batch.slice(from, step.min(batch.num_rows() - from)));
                    starts.map(piece).collect()
                }
            };
            pieces
        });
        let stream = futures::stream::iter(batches);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, rows={}", self.what, self.rows())
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
            known.num_rows = Precision::Exact(self.rows());
        }
        Ok(Arc::new(known))
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

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
