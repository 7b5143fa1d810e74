//! Rows of keyed tables on disk: one file a block, written once, read in pieces, and gone when no version
//! refers to it any more. A file is open only while it is read. Nothing here outlives the process: what a
//! killed one leaves is removed by the next that opens the folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::store::lock::{FolderLock, LOCK_FILE};

/// Bytes, about, of the rows that one lookup reads.
const CHUNK_BYTES: usize = 64 << 10;
/// Rows of a chunk at most.
const CHUNK_ROWS_MAX: usize = 1024;
/// Bytes, about, of the rows that a scan holds at a time.
const PIECE_BYTES: usize = 4 << 20;
/// Names of folders begin so.
const PREFIX: &str = "otus-keyed-";

/// A folder of this process, made when the first file is.
#[derive(Debug)]
pub(crate) struct Folder {
    parent: PathBuf,
    /// Bytes of the disk that are left free.
    reserve: u64,
    next: AtomicU64,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    path: PathBuf,
    /// Tells other processes that the folder is in use.
    _lock: FolderLock,
}

impl Folder {
    /// Below `parent`, which keeps `reserve` bytes of its disk free.
    pub(crate) fn new(parent: PathBuf, reserve: u64) -> Self {
        Self { parent, reserve, next: AtomicU64::new(0), made: Mutex::default() }
    }

    /// Removes what dead processes have left.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.parent) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with(PREFIX) || !path.join(LOCK_FILE).exists() {
                continue;
            }
            let Ok(_lock) = FolderLock::take(&path, "a process that clears up") else { continue };
            remove(&path);
        }
    }

    /// Writes rows to a file of their own.
    pub(super) fn write(self: &Arc<Self>, batch: &RecordBatch) -> Result<SpillFile> {
        let path = self.path()?;
        let schema = Arc::new(plain_schema(&batch.schema()));
        let row_bytes = (batch.get_array_memory_size() / batch.num_rows().max(1)).max(1);
        let chunk_rows = (CHUNK_BYTES / row_bytes).clamp(1, CHUNK_ROWS_MAX);
        // Removes its file when it is dropped, so also when writing fails.
        let mut file =
            Stored { folder: Arc::clone(self), path, schema, chunk_rows, row_bytes, bytes: 0 };
        file.bytes = file.write(batch)?;
        Ok(SpillFile(Arc::new(file)))
    }

    fn path(&self) -> Result<PathBuf> {
        let cannot = |e: io::Error| failed("a folder for rows of keyed tables cannot be made", e);
        let mut made = self.made.lock();
        let folder = match &mut *made {
            Some(made) => &made.path,
            none => &none.insert(Made::below(&self.parent).map_err(cannot)?).path,
        };
        let free = fs4::available_space(folder).map_err(cannot)?;
        if free < self.reserve {
            return Err(Error::full(format!(
                "the disk is full: {free} bytes are free, {} are kept in reserve",
                self.reserve
            )));
        }
        Ok(folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }
}

impl Made {
    fn below(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let mut number = 0_u64;
        loop {
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            number += 1;
            match builder.create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                done => done?,
            }
            match FolderLock::take(&path, &format!("process {}", std::process::id())) {
                Ok(lock) if path.join(LOCK_FILE).exists() => return Ok(Self { path, _lock: lock }),
                // Another process takes it for one that was left behind.
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Busy => {}
                Err(e) => return Err(io::Error::other(e)),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(made) = self.made.lock().take() {
            remove(&made.path);
        }
    }
}

fn remove(folder: &Path) {
    if let Err(e) = std::fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), error = %e, "rows of keyed tables are left on disk");
    }
}

/// One file; clones share it.
#[derive(Debug, Clone)]
pub(super) struct SpillFile(Arc<Stored>);

#[derive(Debug)]
struct Stored {
    folder: Arc<Folder>,
    path: PathBuf,
    schema: SchemaRef,
    chunk_rows: usize,
    row_bytes: usize,
    bytes: u64,
}

impl SpillFile {
    /// Size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.0.schema.index_of(column).is_ok()
    }

    /// Rows that a scan reads at a time: some whole chunks.
    pub(super) fn piece_rows(&self) -> usize {
        let chunk_bytes = self.0.chunk_rows.saturating_mul(self.0.row_bytes).max(1);
        self.0.chunk_rows * (PIECE_BYTES / chunk_bytes).max(1)
    }

    /// `len` rows from a row on, of these columns; null where the file does not have one.
    pub(super) fn read(&self, fields: &[&Field], from: usize, len: usize) -> Result<Vec<ArrayRef>> {
        let parts = self.0.chunks(fields, from, len)?;
        let column = |field: &&Field| -> Result<ArrayRef> {
            let found: Vec<&ArrayRef> =
                parts.iter().filter_map(|part| part.column_by_name(field.name())).collect();
            let arrays: Vec<&dyn arrow::array::Array> = found.iter().map(|a| a.as_ref()).collect();
            match arrays.as_slice() {
                [] => Ok(new_null_array(field.data_type(), len)),
                [_] => Ok(cast(found[0], field.data_type())?),
                several => Ok(cast(&concat(several)?, field.data_type())?),
            }
        };
        fields.iter().map(column).collect()
    }
}

impl Stored {
    fn write(&self, batch: &RecordBatch) -> Result<u64> {
        let cannot = |e: ArrowError| failed("rows of a keyed table cannot be put on disk", e);
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let file = open.map_err(|e| cannot(e.into()))?;
        let mut writer = FileWriter::try_new_buffered(file, &self.schema).map_err(cannot)?;
        for from in (0..batch.num_rows()).step_by(self.chunk_rows) {
            let rows = batch.slice(from, self.chunk_rows.min(batch.num_rows() - from));
            writer.write(&self.plain(&rows)?).map_err(cannot)?;
        }
        writer.finish().map_err(cannot)?;
        let file = writer.into_inner().map_err(cannot)?;
        Ok(file.get_ref().metadata().map_err(|e| cannot(e.into()))?.len())
    }

    /// The rows without what they share with others.
    fn plain(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let all = identity(0, rows.num_rows())?;
        let column = |(column, field): (&ArrayRef, &Arc<Field>)| -> Result<ArrayRef> {
            let own = match column.data_type() {
                // A cast takes all items, also those of other rows.
                DataType::List(_) => &take(column, &all, None)?,
                _ => column,
            };
            Ok(cast(own, field.data_type())?)
        };
        let columns = rows.columns().iter().zip(self.schema.fields()).map(column);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_>>()?)?)
    }

    /// The rows chunk by chunk, of those columns that the file has.
    fn chunks(&self, fields: &[&Field], from: usize, len: usize) -> Result<Vec<RecordBatch>> {
        let known = fields.iter().filter_map(|field| self.schema.index_of(field.name()).ok());
        let known: Vec<usize> = known.collect();
        if known.is_empty() || len == 0 {
            return Ok(Vec::new());
        }
        let cannot = |e: ArrowError| failed("rows of a keyed table cannot be read from disk", e);
        let file = File::open(&self.path).map_err(|e| cannot(e.into()))?;
        let mut reader = FileReader::try_new(file, Some(known)).map_err(cannot)?;
        let first = from / self.chunk_rows;
        reader.set_index(first).map_err(cannot)?;
        let mut parts = Vec::new();
        let mut at = first * self.chunk_rows;
        while at < from + len {
            let short = || Error::corrupt("a file with rows of a keyed table is too short");
            let chunk = reader.next().ok_or_else(short)?.map_err(cannot)?;
            let start = from.saturating_sub(at);
            let end = (from + len - at).min(chunk.num_rows());
            if start >= end {
                return Err(short());
            }
            // A few rows must not keep a whole chunk in memory.
            parts.push(match end - start == chunk.num_rows() {
                true => chunk,
                false => take_record_batch(&chunk, &identity(start, end)?)?,
            });
            at += self.chunk_rows;
        }
        Ok(parts)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // One that could not be made is not there.
        if let Err(e) = std::fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            let (file, folder) = (self.path.display(), self.folder.parent.display());
            tracing::warn!(%file, %folder, error = %e, "rows of a keyed table are left on disk");
        }
    }
}

fn identity(from: usize, to: usize) -> Result<UInt32Array> {
    let index = |n: usize| u32::try_from(n).map_err(|_| Error::internal("a block is too large"));
    Ok(UInt32Array::from_iter_values(index(from)?..index(to)?))
}

/// Views as plain text and bytes: those are cut to the rows that are written.
fn plain_schema(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| plain_field(field)).collect::<Vec<_>>())
}

fn plain_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(Arc::new(plain_field(item))),
        other => other.clone(),
    };
    Field::clone(field).with_data_type(data_type)
}

/// The error of a file: space, the disk's own failure, or damage.
fn failed(what: &str, e: impl Into<ArrowError>) -> Error {
    let e = e.into();
    let kind = match &e {
        e if crate::store::is_full(e) => ErrorKind::Full,
        ArrowError::IoError(..) => ErrorKind::Unavailable,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, what).with_source(e)
}
