//! Writing one segment. Small ones go out in one request, large ones in parts while they grow.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use tokio::io::AsyncWriteExt;

use super::properties::writer_properties;
use super::stats::StatsTracker;
use super::{SegmentOptions, WrittenFile, failed, new_path};
use crate::error::{Error, Result};
use crate::log::op::StatValue;
use crate::store::Storage;

/// Bytes up to which a segment goes out in one request.
const SINGLE_PUT_BYTES: usize = 8 << 20;
/// Least bytes of the tail that hold length and magic.
const MAGIC_BYTES: u64 = 8;

/// Writes `batches`, all of `schema`, as one segment in `dir`; durable on return.
pub async fn write_segment(
    storage: &Storage,
    dir: &str,
    now_ms: i64,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    options: &SegmentOptions,
) -> Result<WrittenFile> {
    let mut writer = SegmentWriter::create(storage, dir, now_ms, schema, options)?;
    for batch in batches {
        writer.write(batch).await?;
    }
    writer.finish().await
}

/// A segment being written. Dropped before [`SegmentWriter::finish`], it leaves at most an unfinished
/// upload, never a file.
pub struct SegmentWriter {
    path: Path,
    schema: SchemaRef,
    options: SegmentOptions,
    writer: AsyncArrowWriter<Upload>,
    stats: StatsTracker,
    rows: u64,
}

impl SegmentWriter {
    /// Starts a segment in `dir` named by the time `now_ms`.
    pub fn create(
        storage: &Storage,
        dir: &str,
        now_ms: i64,
        schema: &SchemaRef,
        options: &SegmentOptions,
    ) -> Result<Self> {
        let path = new_path(dir, now_ms)?;
        let properties = writer_properties(schema, options)?;
        let buffer =
            BufWriter::with_capacity(Arc::clone(storage.store()), path.clone(), SINGLE_PUT_BYTES);
        let writer = AsyncArrowWriter::try_new_with_options(
            Upload(buffer),
            Arc::clone(schema),
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true),
        )
        .map_err(|e| failed(&path, e))?;
        let stats = StatsTracker::new(schema, options);
        let (schema, options) = (Arc::clone(schema), options.clone());
        Ok(Self { path, schema, options, writer, stats, rows: 0 })
    }

    /// Adds rows, in the order that the options promise.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.stats.see(batch);
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).await.map_err(|e| failed(&self.path, e))
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes out or encoded so far, about.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Completes the file; durable on return.
    pub async fn finish(mut self) -> Result<WrittenFile> {
        let metadata = self.writer.finish().await.map_err(|e| failed(&self.path, e))?;
        let bytes = self.writer.bytes_written() as u64;
        let columns = self.stats.finish(&self.schema, &metadata);
        let time = columns.iter().find(|c| c.name == self.options.time_column);
        let time = time.and_then(|c| match (&c.min, &c.max) {
            (Some(StatValue::Int(min)), Some(StatValue::Int(max))) => Some((*min, *max)),
            _ => None,
        });
        let footer_bytes = u32::try_from(bytes - tail_start(&metadata, bytes)).map_err(|_| {
            Error::internal(format!("segment {:?} has a footer of over 4 GiB", self.path.as_ref()))
        })?;
        Ok(WrittenFile {
            path: self.path.to_string(),
            bytes,
            footer_bytes,
            rows: self.rows,
            level: self.options.level,
            sorted_by: self.options.sorted_by,
            time,
            columns,
        })
    }
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("path", &self.path)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// Where the data ends and what a reader needs first begins: page indexes, then the footer.
fn tail_start(metadata: &ParquetMetaData, bytes: u64) -> u64 {
    let columns = || metadata.row_groups().iter().flat_map(|g| g.columns());
    let indexes = columns()
        .flat_map(|c| [c.column_index_offset(), c.offset_index_offset()])
        .flatten()
        .min()
        .and_then(|offset| u64::try_from(offset).ok());
    let data_end = || {
        let ends = columns().map(|c| {
            let (start, length) = c.byte_range();
            start + length
        });
        ends.max().unwrap_or(4)
    };
    indexes.unwrap_or_else(data_end).min(bytes.saturating_sub(MAGIC_BYTES))
}

/// The store as the Parquet writer's sink.
#[derive(Debug)]
struct Upload(BufWriter);

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async { self.0.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async {
            self.0.shutdown().await.map_err(|e| {
                // The buffer wraps the store's own error.
                match e.downcast::<object_store::Error>() {
                    Ok(store) => ParquetError::External(Box::new(store)),
                    Err(io) => ParquetError::External(Box::new(io)),
                }
            })
        })
    }
}
