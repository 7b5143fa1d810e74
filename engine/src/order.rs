//! Rows put in order and in groups: sorting, grouping and merging of batches. The one home of DataFusion
//! as a library in the engine; no SQL, no plans. Order is ascending with nulls first, everywhere.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::BoxStream;

pub use datafusion::logical_expr::EmitTo;

use crate::error::{Error, Result};

/// Batches that arrive one after the other.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// Rows of a merged batch.
const MERGE_BATCH_ROWS: usize = 16 * 1024;

const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Numbers the distinct keys it sees, from 0, in order of appearance. Nulls are equal.
pub(crate) struct Grouping {
    values: Box<dyn GroupValues>,
    numbers: Vec<usize>,
}

impl Grouping {
    /// Groups by the columns of `keys`.
    pub(crate) fn new(keys: SchemaRef) -> Result<Self> {
        let values = new_group_values(keys, &GroupOrdering::None).map_err(failed)?;
        Ok(Self { values, numbers: Vec::new() })
    }
    /// Numbers the groups of these rows.
    pub(crate) fn intern(&mut self, keys: &[ArrayRef]) -> Result<()> {
        self.numbers.clear();
        self.values.intern(keys, &mut self.numbers).map_err(failed)
    }
    /// The group of every row that was last interned.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.numbers
    }
    /// Groups so far.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
    /// Takes the keys of all groups, in order of their numbers.
    pub(crate) fn emit(&mut self) -> Result<Vec<ArrayRef>> {
        self.values.emit(EmitTo::All).map_err(failed)
    }
    /// Bytes held, about.
    pub(crate) fn size(&self) -> usize {
        self.values.size()
    }
}

impl fmt::Debug for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouping").field("groups", &self.values.len()).finish_non_exhaustive()
    }
}

/// One batch of all rows, sorted by the columns named `keys`; rows with equal keys keep their order.
pub fn sort_batches(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    keys: &[&str],
) -> Result<RecordBatch> {
    let all = concat_batches(schema, batches)?;
    let columns = keys
        .iter()
        .map(|key| {
            all.column_by_name(key)
                .cloned()
                .ok_or_else(|| Error::internal(format!("no column {key:?} to sort by")))
        })
        .collect::<Result<Vec<_>>>()?;
    match sort_indices(&columns)? {
        None => Ok(all),
        Some(indices) => Ok(take_record_batch(&all, &indices)?),
    }
}

/// Where each row of the sorted order stands now; none if the rows are in order already.
pub fn sort_indices(columns: &[ArrayRef]) -> Result<Option<UInt32Array>> {
    let rows = columns.first().map_or(0, |c| c.len());
    let count = u32::try_from(rows)
        .map_err(|_| Error::internal(format!("{rows} rows are too many to sort at once")))?;
    if let Some(keys) = integer_keys(columns)? {
        return Ok(sort_integers(&keys, count));
    }
    let fields = columns
        .iter()
        .map(|c| SortField::new_with_options(c.data_type().clone(), ASCENDING))
        .collect();
    let encoded = RowConverter::new(fields)?.convert_columns(columns)?;
    if (1..rows).all(|i| encoded.row(i - 1) <= encoded.row(i)) {
        return Ok(None);
    }
    let mut indices: Vec<u32> = (0..count).collect();
    indices.sort_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize)));
    Ok(Some(indices.into()))
}

/// The key columns as 64-bit integers, if all are integers or times without nulls.
fn integer_keys(columns: &[ArrayRef]) -> Result<Option<Vec<ArrayRef>>> {
    let fits = |c: &ArrayRef| {
        let known = matches!(
            c.data_type(),
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Timestamp(_, _)
        );
        known && c.null_count() == 0
    };
    if !columns.iter().all(fits) {
        return Ok(None);
    }
    let keys = columns.iter().map(|c| Ok(cast(c, &DataType::Int64)?)).collect::<Result<_>>()?;
    Ok(Some(keys))
}

fn sort_integers(keys: &[ArrayRef], count: u32) -> Option<UInt32Array> {
    use arrow::array::AsArray;
    let keys: Vec<&[i64]> =
        keys.iter().map(|k| k.as_primitive::<Int64Type>().values().as_ref()).collect();
    let (first, others) = keys.split_first()?;
    let later = |a: usize, b: usize| {
        others
            .iter()
            .map(|k| k[a].cmp(&k[b]))
            .find(|o| o.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    if (1..first.len()).all(|i| first[i - 1].cmp(&first[i]).then_with(|| later(i - 1, i)).is_le()) {
        return None;
    }
    let mut rows: Vec<(i64, u32)> = first.iter().copied().zip(0..count).collect();
    rows.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| later(a.1 as usize, b.1 as usize)).then(a.1.cmp(&b.1))
    });
    Some(rows.into_iter().map(|(_, row)| row).collect())
}

/// Merges streams that are each sorted by `keys` into one, holding a few batches of each at a time. Of
/// equal rows, those of the earlier stream come first; without keys the streams follow one another.
pub fn merge_sorted(
    schema: &SchemaRef,
    streams: Vec<BatchStream>,
    keys: &[&str],
) -> Result<BatchStream> {
    if streams.len() <= 1 || keys.is_empty() {
        return Ok(futures::stream::iter(streams).flatten().boxed());
    }
    let ordering = keys
        .iter()
        .map(|key| {
            let column = Column::new_with_schema(key, schema).map_err(failed)?;
            Ok(PhysicalSortExpr::new(Arc::new(column), ASCENDING))
        })
        .collect::<Result<Vec<_>>>()?;
    let ordering =
        LexOrdering::new(ordering).ok_or_else(|| Error::internal("no key to merge by"))?;
    let streams = streams
        .into_iter()
        .map(|stream| {
            let stream = stream.map(|b| b.map_err(|e| DataFusionError::External(Box::new(e))));
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream)) as _
        })
        .collect();
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let merged = StreamingMergeBuilder::new()
        .with_schema(Arc::clone(schema))
        .with_streams(streams)
        .with_expressions(&ordering)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(MERGE_BATCH_ROWS)
        .with_reservation(MemoryConsumer::new("segment merge").register(&pool))
        .with_round_robin_tie_breaker(false)
        .build()
        .map_err(failed)?;
    Ok(merged.map(|b| b.map_err(failed)).boxed())
}

/// The schema of some columns, for keys.
pub(crate) fn project(schema: &Schema, indices: &[usize]) -> Result<SchemaRef> {
    Ok(Arc::new(schema.project(indices)?))
}

fn failed(e: DataFusionError) -> Error {
    match e {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::internal("rows cannot be arranged").with_source(other),
        },
        other => Error::internal("rows cannot be arranged").with_source(other),
    }
}

#[cfg(test)]
mod tests;
