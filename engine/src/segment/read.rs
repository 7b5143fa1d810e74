//! Reading a segment back under the current schema: columns it lacks are null, narrower integers are
//! widened, text comes as views.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::{failed, select_fields};
use crate::error::{Error, Result};
use crate::log::op::FileEntry;
use crate::order::BatchStream;
use crate::store::Storage;

/// Rows of a batch that is read.
const READ_BATCH_ROWS: usize = 16 * 1024;
/// Bytes up to which a segment is fetched whole.
const SINGLE_GET_BYTES: u64 = 4 << 20;

/// All rows of a segment under `schema`. `columns` picks some, which come in the schema's order.
pub async fn read_segment(
    storage: &Storage,
    file: &FileEntry,
    schema: &SchemaRef,
    columns: Option<&[String]>,
) -> Result<Vec<RecordBatch>> {
    stream_segment(storage, file, schema, columns).await?.try_collect().await
}

/// As [`read_segment`], a few batches at a time.
pub async fn stream_segment(
    storage: &Storage,
    file: &FileEntry,
    schema: &SchemaRef,
    columns: Option<&[String]>,
) -> Result<BatchStream> {
    stream_some(storage, file, schema, columns, None).await
}

/// Row groups that may have integers of a column within bounds, both inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Within<'a> {
    pub(crate) column: &'a str,
    pub(crate) least: i64,
    pub(crate) greatest: i64,
}

impl Within<'_> {
    fn groups(&self, metadata: &ParquetMetaData) -> Vec<usize> {
        let overlaps = |group: &RowGroupMetaData| {
            let mut columns = group.columns().iter();
            let own = columns.find(|c| c.column_path().string() == self.column);
            let Some(Statistics::Int64(bounds)) = own.and_then(|c| c.statistics()) else {
                return true;
            };
            let (min, max) = (bounds.min_opt().copied(), bounds.max_opt().copied());
            min.is_none_or(|min| min <= self.greatest) && max.is_none_or(|max| max >= self.least)
        };
        let groups = metadata.row_groups().iter().enumerate();
        groups.filter(|(_, group)| overlaps(group)).map(|(index, _)| index).collect()
    }
}

/// As [`stream_segment`], without the row groups that have no row `within` the bounds.
pub(crate) async fn stream_some(
    storage: &Storage,
    file: &FileEntry,
    schema: &SchemaRef,
    columns: Option<&[String]>,
    within: Option<Within<'_>>,
) -> Result<BatchStream> {
    let path = Path::from(file.path.as_str());
    let target = select_fields(schema, columns)?;
    let store = Arc::clone(storage.store());
    let whole = match file.bytes <= SINGLE_GET_BYTES {
        true => Some(store.get(&path).await?.bytes().await?),
        false => None,
    };
    let mut source = Source {
        store,
        path: path.clone(),
        bytes: file.bytes,
        footer_bytes: file.footer_bytes as usize,
        whole,
    };
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::load_async(&mut source, options.clone())
        .await
        .map_err(|e| failed(&path, e))?;
    let viewed = Arc::new(with_views(found.schema()));
    let metadata =
        ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options.with_schema(viewed))
            .map_err(|e| failed(&path, e))?;
    let wanted: Vec<usize> =
        target.fields().iter().filter_map(|f| metadata.schema().index_of(f.name()).ok()).collect();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
    let groups = within.map(|within| within.groups(metadata.metadata()));
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, metadata)
        .with_projection(mask)
        .with_batch_size(READ_BATCH_ROWS);
    if let Some(groups) = groups {
        builder = builder.with_row_groups(groups);
    }
    let stream = builder.build().map_err(|e| failed(&path, e))?;
    let adapted = stream.map(move |batch| match batch {
        Ok(batch) => adapt(&batch, &target, &path),
        Err(e) => Err(failed(&path, e)),
    });
    Ok(adapted.boxed())
}

/// The file's schema with text and bytes as views.
fn with_views(schema: &Schema) -> Schema {
    let fields: Vec<FieldRef> = schema.fields().iter().map(view_field).collect();
    Schema::new(fields)
}

fn view_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item) => DataType::List(view_field(item)),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// The batch under the target schema.
fn adapt(batch: &RecordBatch, target: &SchemaRef, path: &Path) -> Result<RecordBatch> {
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        let Some(found) = batch.column_by_name(field.name()) else {
            return Ok(new_null_array(field.data_type(), batch.num_rows()));
        };
        if found.data_type() == field.data_type() {
            return Ok(Arc::clone(found));
        }
        Ok(cast(found, field.data_type())?)
    };
    let columns = target.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(target), columns, &options).map_err(|e| {
        Error::corrupt(format!("segment {:?} does not fit its table", path.as_ref())).with_source(e)
    })
}

/// One object as the Parquet reader's source, fetched whole or by ranges.
struct Source {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    footer_bytes: usize,
    whole: Option<Bytes>,
}

impl Source {
    fn cut(whole: &Bytes, range: &Range<u64>) -> ParquetResult<Bytes> {
        let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
        if start > end || end > whole.len() {
            return Err(ParquetError::EOF(format!("range {range:?} of {} bytes", whole.len())));
        }
        Ok(whole.slice(start..end))
    }
}

fn external(e: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        if let Some(whole) = &self.whole {
            return std::future::ready(Self::cut(whole, &range)).boxed();
        }
        self.store.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            if let Some(whole) = &self.whole {
                return ranges.iter().map(|range| Self::cut(whole, range)).collect();
            }
            self.store.get_ranges(&self.path, &ranges).await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            let hint = Some(self.footer_bytes);
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(hint)
                .load_and_finish(self, bytes)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}
