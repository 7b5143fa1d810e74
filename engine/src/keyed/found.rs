//! What a snapshot gives out: single rows found by their key, and all live rows block by block. Columns on disk
//! are read when they are asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::block::Block;
use super::rows::Rows;
use crate::error::Result;

/// One live row, found by its key.
#[derive(Debug, Clone)]
pub struct KeyedRow {
    slot: usize,
    rows: Arc<Rows>,
    row: usize,
}

impl KeyedRow {
    pub(super) fn new(slot: usize, rows: &Arc<Rows>, row: usize) -> Self {
        Self { slot, rows: Arc::clone(rows), row }
    }

    /// Number of its block, as [`LiveBlock::number`] in the same snapshot.
    pub fn block(&self) -> usize {
        self.slot
    }

    /// The row alone, of these columns of the stored schema. May read some dozen KiB from disk.
    pub fn batch(&self, columns: &[usize]) -> Result<RecordBatch> {
        self.rows.read(columns, self.row, 1)
    }
    /// Whether [`batch`](Self::batch) of these columns reads from disk.
    pub fn needs_disk(&self, columns: &[usize]) -> bool {
        self.rows.needs_disk(columns)
    }
    /// Partition of its record.
    pub fn partition(&self) -> i32 {
        self.rows.partition(self.row)
    }
    /// Offset of its record.
    pub fn offset(&self) -> i64 {
        self.rows.offset(self.row)
    }
    /// Topic of its record, in a table that reads several.
    pub fn topic(&self) -> &str {
        self.rows.topic(self.row)
    }
}

/// Live rows of one block, in an order that never changes.
#[derive(Debug, Clone)]
pub struct LiveBlock {
    slot: usize,
    block: Arc<Block>,
}

/// Some of the rows of a block, few enough to be held in memory while they are read.
#[derive(Debug, Clone)]
pub struct LivePiece {
    block: Arc<Block>,
    from: usize,
    len: usize,
}

impl LiveBlock {
    pub(super) fn new(slot: usize, block: &Arc<Block>) -> Self {
        Self { slot, block: Arc::clone(block) }
    }

    /// Number of the block in its snapshot; rises from block to block.
    pub fn number(&self) -> usize {
        self.slot
    }
    /// Number of live rows.
    pub fn rows(&self) -> usize {
        self.block.live.count()
    }
    /// Whether some of its columns are on disk.
    pub fn is_on_disk(&self) -> bool {
        self.block.rows.is_on_disk()
    }

    /// All live rows, of these columns of the stored schema; all columns without a list.
    pub fn read(&self, columns: Option<&[usize]>) -> Result<RecordBatch> {
        let all = self.block.rows.all_columns();
        self.block.read(columns.unwrap_or(&all), 0, self.block.len())
    }

    /// At most `count` of the live rows after the first `skip`, of these columns of the stored schema.
    pub fn slice(&self, columns: &[usize], skip: usize, count: usize) -> Result<RecordBatch> {
        let mut wanted = self.block.live.rows().skip(skip).take(count);
        let Some(first) = wanted.next() else { return self.block.read(columns, 0, 0) };
        let last = wanted.last().unwrap_or(first);
        self.block.read(columns, first, last + 1 - first)
    }

    /// The block in pieces that together have all its rows, in order.
    pub fn pieces(&self) -> impl Iterator<Item = LivePiece> + use<> {
        let (block, len) = (Arc::clone(&self.block), self.block.len());
        let step = block.rows.file().map_or(len, |file| file.piece_rows()).max(1);
        (0..len).step_by(step).map(move |from| LivePiece {
            block: Arc::clone(&block),
            from,
            len: step.min(len - from),
        })
    }
}

impl LivePiece {
    /// Whether reading these columns reads from disk.
    pub fn needs_disk(&self, columns: &[usize]) -> bool {
        self.block.rows.needs_disk(columns)
    }
    /// The live rows, of these columns of the stored schema.
    pub fn read(&self, columns: &[usize]) -> Result<RecordBatch> {
        self.block.read(columns, self.from, self.len)
    }
}
