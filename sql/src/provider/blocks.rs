//! The rows of a raw table within some times, as batches at hand: blocks of files that are kept decoded, of which
//! those that are not are read now, and the hot rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimestampMicrosecondType};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::Result as DfResult;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector,
};
use datafusion::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::TryStreamExt;
use otus_engine::compiled::CompiledTable;
use otus_engine::log::op::FileEntry;
use otus_engine::snapshot::Snapshot;

use super::indexed::{Indexed, IndexedReaders};
use crate::cache::{BLOCK_ROWS, Block, Column, RowsCache, Shape};

/// Most rows of blocks that are read for one statement.
const ROWS_MAX: usize = 8 * BLOCK_ROWS;
/// Bytes of a value, on average, from which on its column is wide: of a block most would be decoded for nothing.
const WIDE_BYTES: i64 = 128;

/// Which rows are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) table: Arc<CompiledTable>,
    /// Columns to give.
    pub(crate) schema: SchemaRef,
    /// Least and greatest event time.
    pub(crate) times: (i64, i64),
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
}

/// What there is of it.
#[derive(Debug)]
pub(crate) enum Found {
    /// All rows of these times, and some more.
    Rows(Vec<RecordBatch>),
    /// Some blocks have to be read.
    Missing,
    /// Too many to be gathered.
    Many,
}

impl Span {
    fn overlaps(&self, (min, max): (i64, i64)) -> bool {
        min <= self.times.1 && max >= self.times.0
    }

    fn files(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        let files = self.snapshot.raw_files(self.table.id).iter();
        files.filter(|f| f.rows > 0 && f.time.is_none_or(|time| self.overlaps(time)))
    }

    fn wanted<'a>(&self, blocks: &'a [Block]) -> impl Iterator<Item = (usize, &'a Block)> {
        blocks.iter().enumerate().filter(|(_, block)| self.overlaps(block.time))
    }

    /// The rows, if none has to be read.
    pub(crate) fn at_hand(&self, cache: &RowsCache) -> DfResult<Found> {
        let (mut batches, mut rows) = (Vec::new(), 0);
        for file in self.files() {
            let Some(shape) = cache.shape(&file.path) else { return Ok(Found::Missing) };
            if !shape.is_narrow(self.schema.fields()) {
                return Ok(Found::Many);
            }
            for (number, block) in self.wanted(&shape.blocks) {
                rows += block.rows;
                if rows > ROWS_MAX {
                    return Ok(Found::Many);
                }
                let columns = cache.columns(&file.path, number, self.schema.fields());
                let Some(columns) = columns.into_iter().collect::<Option<Vec<_>>>() else {
                    return Ok(Found::Missing);
                };
                self.push(&columns, block.rows, &mut batches)?;
            }
        }
        self.with_hot(batches, rows)
    }

    /// The rows, of which those that are not kept are read and kept now, and how many bytes that were.
    pub(crate) async fn read(
        &self,
        cache: &RowsCache,
        runtime: &RuntimeEnv,
    ) -> DfResult<(Found, usize)> {
        cache.follow(&self.snapshot);
        let metrics = ExecutionPlanMetricsSet::new();
        let (mut batches, mut rows) = (Vec::new(), 0);
        for file in self.files() {
            let mut reader = None;
            let shape = match cache.shape(&file.path) {
                Some(shape) => shape,
                None => {
                    let opened = self.open(file, runtime, &metrics).await?;
                    let metadata = opened.metadata.metadata();
                    let blocks = blocks_of(metadata, &self.table.def.time);
                    let shape = Arc::new(Shape { blocks, wide: wide(metadata) });
                    cache.keep_shape(&file.path, &shape);
                    reader = Some(opened);
                    shape
                }
            };
            if !shape.is_narrow(self.schema.fields()) {
                return Ok((Found::Many, bytes_of(&metrics)));
            }
            for (number, block) in self.wanted(&shape.blocks) {
                rows += block.rows;
                if rows > ROWS_MAX {
                    return Ok((Found::Many, bytes_of(&metrics)));
                }
                let fields = self.schema.fields();
                let kept = cache.columns(&file.path, number, fields);
                let missing = fields.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
                let missing: Vec<&FieldRef> = missing.map(|(field, _)| field).collect();
                let mut new = Vec::new();
                if !missing.is_empty() {
                    let opened = match reader.take() {
                        Some(opened) => opened,
                        None => self.open(file, runtime, &metrics).await?,
                    };
                    for (field, values) in missing.iter().zip(opened.read(block, &missing).await?) {
                        let is_time = *field.name() == self.table.def.time;
                        let column = Column { rises: is_time && rises(&values), values };
                        cache.keep(&file.path, number, field.name(), &column);
                        new.push(column);
                    }
                }
                let mut new = new.into_iter();
                let columns = kept.into_iter().map(|kept| kept.or_else(|| new.next()));
                let columns: Vec<Column> = columns.flatten().collect();
                self.push(&columns, block.rows, &mut batches)?;
            }
        }
        self.with_hot(batches, rows).map(|found| (found, bytes_of(&metrics)))
    }

    async fn open(
        &self,
        file: &FileEntry,
        runtime: &RuntimeEnv,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Opened> {
        let part = PartitionedFile::new(file.path.clone(), file.bytes);
        let footer = usize::try_from(file.footer_bytes).ok().filter(|bytes| *bytes > 0);
        let store = Arc::clone(self.snapshot.storage().store());
        let known = runtime.cache_manager.get_file_metadata_cache();
        let factory = IndexedReaders(CachedParquetFileReaderFactory::new(store, known));
        let mut reader = factory.open(0, part, footer, metrics)?;
        let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new());
        let metadata = metadata.await?;
        Ok(Opened { reader, metadata })
    }

    /// Adds the rows of a block, without those of other times at its ends.
    fn push(
        &self,
        columns: &[Column],
        rows: usize,
        batches: &mut Vec<RecordBatch>,
    ) -> DfResult<()> {
        let (mut from, mut to) = (0, rows);
        if let Some(times) = columns.iter().find(|column| column.rises) {
            let times = times.values.as_primitive::<TimestampMicrosecondType>().values();
            from = times.partition_point(|time| *time < self.times.0);
            to = times.partition_point(|time| *time <= self.times.1).max(from);
        }
        while from < to {
            let count = (to - from).min(self.batch_rows.max(1));
            let values = columns.iter().map(|column| column.values.slice(from, count)).collect();
            batches.push(self.batch(values, count)?);
            from += count;
        }
        Ok(())
    }

    fn batch(&self, values: Vec<ArrayRef>, rows: usize) -> DfResult<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), values, &options)?)
    }

    fn with_hot(&self, mut batches: Vec<RecordBatch>, mut rows: usize) -> DfResult<Found> {
        for chunk in self.snapshot.hot(self.table.id) {
            if !chunk.time_range().is_some_and(|time| self.overlaps(time)) {
                continue;
            }
            for (batch, time) in chunk.batches().iter().zip(chunk.batch_times()) {
                if !time.is_some_and(|time| self.overlaps(time)) {
                    continue;
                }
                rows += batch.num_rows();
                if rows > ROWS_MAX {
                    return Ok(Found::Many);
                }
                let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
                    Some(values) => adapted(values, field),
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                };
                let values = self.schema.fields().iter().map(column);
                let values = values.collect::<DfResult<Vec<_>>>()?;
                batches.push(self.batch(values, batch.num_rows())?);
            }
        }
        Ok(Found::Rows(batches))
    }
}

fn adapted(values: &ArrayRef, field: &FieldRef) -> DfResult<ArrayRef> {
    match values.data_type() == field.data_type() {
        true => Ok(Arc::clone(values)),
        false => Ok(cast(values, field.data_type())?),
    }
}

fn bytes_of(metrics: &ExecutionPlanMetricsSet) -> usize {
    metrics.clone_inner().sum_by_name("bytes_scanned").map_or(0, |value| value.as_usize())
}

fn rises(values: &ArrayRef) -> bool {
    let times = values.as_primitive_opt::<TimestampMicrosecondType>();
    times.is_some_and(|times| times.null_count() == 0 && times.values().is_sorted())
}

/// A file whose footer is known.
struct Opened {
    reader: Indexed,
    metadata: ArrowReaderMetadata,
}

impl Opened {
    /// Columns of a block, as their table has them.
    async fn read(self, block: &Block, fields: &[&FieldRef]) -> DfResult<Vec<ArrayRef>> {
        let there = fields.iter().filter_map(|f| self.metadata.schema().index_of(f.name()).ok());
        let there: Vec<usize> = there.collect();
        let null = |field: &FieldRef| new_null_array(field.data_type(), block.rows);
        if there.is_empty() {
            return Ok(fields.iter().map(|field| null(field)).collect());
        }
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), there);
        let rows = vec![RowSelector::skip(block.first), RowSelector::select(block.rows)];
        let builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader, self.metadata);
        let builder = builder
            .with_projection(mask)
            .with_row_groups(vec![block.group])
            .with_row_selection(RowSelection::from(rows))
            .with_batch_size(block.rows.max(1));
        let stream = builder.build()?;
        let schema = Arc::clone(stream.schema());
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        let batch = concat_batches(&schema, &batches)?;
        if batch.num_rows() != block.rows {
            return Err(crate::error::SqlError::internal("a block has not its rows").into());
        }
        let column = |field: &&FieldRef| match batch.column_by_name(field.name()) {
            Some(values) => adapted(values, field),
            None => Ok(null(field)),
        };
        fields.iter().map(column).collect()
    }
}

/// Where the blocks of a file lie, with the bounds of their times as its index of pages has them.
fn blocks_of(metadata: &ParquetMetaData, time: &str) -> Vec<Block> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let column = leaves.iter().position(|leaf| leaf.path().string() == time);
    let mut blocks = Vec::new();
    for (group, of_group) in metadata.row_groups().iter().enumerate() {
        let rows = usize::try_from(of_group.num_rows()).unwrap_or(0);
        let whole = match column.and_then(|c| of_group.columns().get(c)?.statistics()) {
            Some(Statistics::Int64(bounds)) => {
                bounds.min_opt().copied().zip(bounds.max_opt().copied())
            }
            _ => None,
        };
        let whole = whole.unwrap_or((i64::MIN, i64::MAX));
        let pages = column.and_then(|column| pages(metadata, group, column, rows));
        let pages = pages.unwrap_or_else(|| vec![(0, rows, whole)]);
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let end = (first + BLOCK_ROWS).min(rows);
            let within = pages.iter().filter(|(from, to, _)| *from < end && *to > first);
            let time = within.map(|(.., time)| *time).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            let time = time.unwrap_or(whole);
            blocks.push(Block { group, first, rows: end - first, time });
        }
    }
    blocks
}

/// Columns whose values are long.
fn wide(metadata: &ParquetMetaData) -> Vec<String> {
    let rows = metadata.file_metadata().num_rows();
    let mut bytes = BTreeMap::<&str, i64>::new();
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        if let Some(root) = column.column_path().parts().first() {
            let sum = bytes.entry(root.as_str()).or_default();
            *sum = sum.saturating_add(column.uncompressed_size());
        }
    }
    let wide = bytes.into_iter().filter(|(_, bytes)| *bytes > rows.saturating_mul(WIDE_BYTES));
    wide.map(|(name, _)| name.to_owned()).collect()
}

/// First row, end and bounds of each page of a column; none where they are not known of all.
fn pages(
    metadata: &ParquetMetaData,
    group: usize,
    column: usize,
    rows: usize,
) -> Option<Vec<(usize, usize, (i64, i64))>> {
    let ColumnIndexMetaData::INT64(bounds) = metadata.column_index()?.get(group)?.get(column)?
    else {
        return None;
    };
    let places = metadata.offset_index()?.get(group)?.get(column)?.page_locations();
    let first = |page: usize| places.get(page).map(|p| usize::try_from(p.first_row_index));
    let page = |number: usize| {
        let from = first(number)?.ok()?;
        let to = first(number + 1).map_or(Some(rows), Result::ok)?;
        Some((from, to, (*bounds.min_value(number)?, *bounds.max_value(number)?)))
    };
    (0..places.len()).map(page).collect()
}

/// Whether the event times of a table can be looked for here.
pub(crate) fn has_times(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _))
}
