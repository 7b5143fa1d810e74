//! Blocks: some thousand rows of a keyed table as columns, with two bits a row: whether the index names it
//! (`used`) and whether queries see it (`live`). Columns are shared between versions, bits are copied.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};

use super::Shape;
use super::key::KeyColumn;
use crate::catalog::{
    DELETED_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN, TOPIC_COLUMN,
};
use crate::error::{Error, Result};

/// One bit a row.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    words: Vec<u64>,
    rows: usize,
    set: usize,
}

impl Bits {
    fn new(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows, set: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.set
    }

    pub(super) fn get(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Sets or clears a bit; whether it was another before.
    pub(super) fn set(&mut self, row: usize, value: bool) -> bool {
        let Some(word) = self.words.get_mut(row / 64) else { return false };
        let bit = 1_u64 << (row % 64);
        let was = *word & bit != 0;
        if was == value {
            return false;
        }
        *word ^= bit;
        self.set = if value { self.set + 1 } else { self.set - 1 };
        true
    }

    fn mask(&self) -> BooleanArray {
        let buffer = Buffer::from_vec(self.words.clone());
        BooleanArray::new(BooleanBuffer::new(buffer, 0, self.rows), None)
    }

    /// Rows whose bit is set.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.rows).filter(|row| self.get(*row))
    }
}

/// The columns of a block and what the map asks of them.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    pub(super) key: KeyColumn,
    pub(super) hashes: Vec<u64>,
    topics: Option<StringViewArray>,
    partitions: Int32Array,
    offsets: Int64Array,
    timestamps: TimestampMicrosecondArray,
    deleted: BooleanArray,
    pub(super) bytes: usize,
}

impl Rows {
    pub(super) fn new(shape: &Shape, batch: RecordBatch) -> Result<Self> {
        let missing = |name: &str| Error::internal(format!("a keyed batch lacks {name:?}"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let key = KeyColumn::of(&batch, shape.key)?;
        let hashes: Vec<u64> = (0..batch.num_rows()).map(|row| key.hash(row)).collect();
        let partitions = column(PARTITION_COLUMN)?.as_primitive_opt::<Int32Type>();
        let offsets = column(OFFSET_COLUMN)?.as_primitive_opt::<Int64Type>();
        let timestamps = column(TIMESTAMP_COLUMN)?.as_primitive_opt::<TimestampMicrosecondType>();
        let deleted = column(DELETED_COLUMN)?.as_boolean_opt();
        let topics = batch.column_by_name(TOPIC_COLUMN).and_then(|c| c.as_string_view_opt());
        let bytes = batch.get_array_memory_size() + hashes.len() * 8;
        Ok(Self {
            key,
            topics: topics.cloned(),
            partitions: partitions.cloned().ok_or_else(|| missing(PARTITION_COLUMN))?,
            offsets: offsets.cloned().ok_or_else(|| missing(OFFSET_COLUMN))?,
            timestamps: timestamps.cloned().ok_or_else(|| missing(TIMESTAMP_COLUMN))?,
            deleted: deleted.cloned().ok_or_else(|| missing(DELETED_COLUMN))?,
            hashes,
            bytes,
            batch,
        })
    }

    pub(super) fn hash(&self, row: usize) -> u64 {
        self.hashes.get(row).copied().unwrap_or_default()
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
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) rows: Arc<Rows>,
    pub(super) used: Bits,
    pub(super) live: Bits,
}

impl Block {
    /// Rows that nobody uses yet.
    pub(super) fn new(shape: &Shape, batch: RecordBatch) -> Result<Self> {
        let rows = batch.num_rows();
        Ok(Self {
            rows: Arc::new(Rows::new(shape, batch)?),
            used: Bits::new(rows),
            live: Bits::new(rows),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.batch.num_rows()
    }

    /// The live rows, of these columns, in order.
    pub(super) fn read(&self, columns: Option<&[usize]>) -> Result<RecordBatch> {
        let batch = match columns {
            Some(columns) => self.rows.batch.project(columns)?,
            None => self.rows.batch.clone(),
        };
        if self.live.count() == self.len() {
            return Ok(batch);
        }
        Ok(filter_record_batch(&batch, &self.live.mask())?)
    }

    /// The used rows.
    pub(super) fn kept(&self) -> Result<RecordBatch> {
        if self.used.count() == self.len() {
            return Ok(self.rows.batch.clone());
        }
        Ok(filter_record_batch(&self.rows.batch, &self.used.mask())?)
    }
}
