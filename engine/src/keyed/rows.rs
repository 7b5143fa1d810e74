//! The rows of a block. What the map itself asks of them is always in memory: keys, places, times, deletions.
//! The other columns are in memory too, or in a file on disk.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringViewArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimestampMicrosecondType};

use super::Shape;
use super::key::KeyColumn;
use super::spill::{Folder, SpillFile};
use crate::catalog::{
    DELETED_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN, TOPIC_COLUMN,
};
use crate::error::{Error, Result};

/// Columns that the map needs of every row, besides the key.
const HEAD: [&str; 5] =
    [PARTITION_COLUMN, OFFSET_COLUMN, TIMESTAMP_COLUMN, DELETED_COLUMN, TOPIC_COLUMN];

/// See the module.
#[derive(Debug)]
pub(super) struct Rows {
    shape: Arc<Shape>,
    /// In the order of the stored schema; none is in the file.
    columns: Vec<Option<ArrayRef>>,
    file: Option<SpillFile>,
    len: usize,
    pub(super) key: KeyColumn,
    topics: Option<StringViewArray>,
    partitions: Int32Array,
    offsets: Int64Array,
    timestamps: TimestampMicrosecondArray,
    deleted: BooleanArray,
    bytes: usize,
}

impl Rows {
    /// Rows in memory, under the stored schema.
    pub(super) fn new(shape: &Arc<Shape>, batch: &RecordBatch) -> Result<Self> {
        let columns = batch.columns().iter().cloned().map(Some).collect();
        Self::of(shape, columns, None, batch.num_rows())
    }

    fn of(
        shape: &Arc<Shape>,
        columns: Vec<Option<ArrayRef>>,
        file: Option<SpillFile>,
        len: usize,
    ) -> Result<Self> {
        let missing = |name: &str| Error::internal(format!("keyed rows lack {name:?}"));
        let known = |name: &str| columns.get(shape.schema.index_of(name).ok()?)?.as_ref();
        let column = |name: &str| known(name).ok_or_else(|| missing(name));
        let key = columns.get(shape.key).and_then(Option::as_ref);
        let key = KeyColumn::of(key.ok_or_else(|| missing("their key"))?)?;
        let partitions = column(PARTITION_COLUMN)?.as_primitive_opt::<Int32Type>();
        let offsets = column(OFFSET_COLUMN)?.as_primitive_opt::<Int64Type>();
        let timestamps = column(TIMESTAMP_COLUMN)?.as_primitive_opt::<TimestampMicrosecondType>();
        let deleted = column(DELETED_COLUMN)?.as_boolean_opt();
        let topics = known(TOPIC_COLUMN).and_then(|c| c.as_string_view_opt());
        let bytes = columns.iter().flatten().map(|c| c.get_array_memory_size()).sum();
        Ok(Self {
            shape: Arc::clone(shape),
            key,
            topics: topics.cloned(),
            partitions: partitions.cloned().ok_or_else(|| missing(PARTITION_COLUMN))?,
            offsets: offsets.cloned().ok_or_else(|| missing(OFFSET_COLUMN))?,
            timestamps: timestamps.cloned().ok_or_else(|| missing(TIMESTAMP_COLUMN))?,
            deleted: deleted.cloned().ok_or_else(|| missing(DELETED_COLUMN))?,
            bytes,
            columns,
            file,
            len,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
    pub(super) fn all_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }
    pub(super) fn file(&self) -> Option<&SpillFile> {
        self.file.as_ref()
    }
    pub(super) fn is_on_disk(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn hash(&self, row: usize) -> u64 {
        self.key.hash(row)
    }
    pub(super) fn topic(&self, row: usize) -> &str {
        self.topics.as_ref().map_or("", |topics| topics.value(row))
    }
    pub(super) fn partition(&self, row: usize) -> i32 {
        self.partitions.value(row)
    }
    pub(super) fn offset(&self, row: usize) -> i64 {
        self.offsets.value(row)
    }
    pub(super) fn is_deleted(&self, row: usize) -> bool {
        self.deleted.value(row)
    }
    /// Microseconds; a record without a timestamp is older than all others.
    pub(super) fn timestamp(&self, row: usize) -> i64 {
        if self.timestamps.is_valid(row) { self.timestamps.value(row) } else { i64::MIN }
    }

    /// Across partitions the greater one holds: by timestamp, then by place.
    pub(super) fn rank(&self, row: usize) -> (i64, &str, i32, i64) {
        (self.timestamp(row), self.topic(row), self.partition(row), self.offset(row))
    }

    /// Whether reading these columns reads the file.
    pub(super) fn needs_disk(&self, columns: &[usize]) -> bool {
        columns.iter().any(|index| matches!(self.columns.get(*index), Some(None)))
    }

    /// `len` rows from a row on, of these columns of the stored schema.
    pub(super) fn read(&self, columns: &[usize], from: usize, len: usize) -> Result<RecordBatch> {
        let schema = Arc::new(self.shape.schema.project(columns)?);
        let is_away = |index: &&usize| matches!(self.columns.get(**index), Some(None));
        let away: Vec<&Field> =
            columns.iter().filter(is_away).map(|index| self.shape.schema.field(*index)).collect();
        let read = match &self.file {
            Some(file) if !away.is_empty() => file.read(&away, from, len)?,
            _ => Vec::new(),
        };
        let mut read = read.into_iter();
        let lost = || Error::internal("a column of a keyed table is neither in memory nor on disk");
        let column = |index: &usize| match self.columns.get(*index) {
            Some(Some(column)) => Ok(column.slice(from, len)),
            _ => read.next().ok_or_else(lost),
        };
        let arrays = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }

    /// Bytes of memory that a file would take over, about.
    pub(super) fn movable_bytes(&self) -> usize {
        self.movable().map(|(_, column)| column.get_array_memory_size()).sum()
    }

    fn movable(&self) -> impl Iterator<Item = (usize, &ArrayRef)> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(index, column)| Some((index, column.as_ref()?))).filter(
            |(index, _)| {
                *index != self.shape.key
                    && !HEAD.contains(&self.shape.schema.field(*index).name().as_str())
            },
        )
    }

    /// The same rows with all columns in a file that may be there.
    pub(super) fn spilled(&self, folder: &Arc<Folder>) -> Result<Self> {
        let away: Vec<usize> = self.movable().map(|(index, _)| index).collect();
        let file = folder.write(&self.read(&away, 0, self.len)?)?;
        let len = u32::try_from(self.len).map_err(|_| Error::internal("a block is too large"))?;
        // Copies, since these arrays may share large buffers with others.
        let all = UInt32Array::from_iter_values(0..len);
        let own = |(index, column): (usize, &Option<ArrayRef>)| -> Result<Option<ArrayRef>> {
            match column {
                Some(column) if !away.contains(&index) => {
                    Ok(Some(exact(&take(column, &all, None)?)))
                }
                _ => Ok(None),
            }
        };
        let columns = self.columns.iter().enumerate().map(own).collect::<Result<Vec<_>>>()?;
        Self::of(&self.shape, columns, Some(file), self.len)
    }

    /// The rows under a changed definition: missing columns are null, changed types are cast.
    pub(super) fn reshaped(&self, shape: &Arc<Shape>) -> Result<Self> {
        let column = |field: &Field| -> Result<Option<ArrayRef>> {
            let known = self.shape.schema.index_of(field.name()).ok();
            match (known.and_then(|index| self.columns.get(index)), &self.file) {
                (Some(Some(column)), _) => Ok(Some(cast(column, field.data_type())?)),
                (Some(None), _) => Ok(None),
                // The file gives nulls for what it does not have.
                (None, Some(file)) if !file.has(field.name()) => Ok(None),
                (None, _) => Ok(Some(new_null_array(field.data_type(), self.len))),
            }
        };
        let columns =
            shape.schema.fields().iter().map(|f| column(f)).collect::<Result<Vec<_>>>()?;
        Self::of(shape, columns, self.file.clone(), self.len)
    }
}

fn exact(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        _ => Arc::clone(column),
    }
}
