//! Blocks: some thousand rows of a keyed table, with two bits a row: whether the index names it (`used`) and
//! whether queries see it (`live`). Rows are shared between versions, bits are copied.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;

use super::bits::Bits;
use super::rows::Rows;
use crate::error::Result;

/// Rows from which a block is left alone.
pub(super) const BLOCK_ROWS: usize = 16 * 1024;
/// Bytes from which a block is left alone, so that one is quickly read from disk and merged.
pub(super) const BLOCK_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) rows: Arc<Rows>,
    pub(super) used: Bits,
    pub(super) live: Bits,
}

impl Block {
    /// Rows that nobody uses yet.
    pub(super) fn new(rows: Arc<Rows>) -> Self {
        let len = rows.len();
        Self { rows, used: Bits::new(len), live: Bits::new(len) }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.len() / 4
    }

    /// Whether it is merged with others of its kind while it is in memory.
    pub(super) fn is_small(&self) -> bool {
        self.len() < BLOCK_ROWS && self.rows.bytes() < BLOCK_BYTES && !self.rows.is_on_disk()
    }

    /// Whether less than half of its rows are of any use.
    pub(super) fn is_sparse(&self) -> bool {
        self.used.count() * 2 < self.len()
    }

    /// The live ones of `len` rows from a row on, of these columns.
    pub(super) fn read(&self, columns: &[usize], from: usize, len: usize) -> Result<RecordBatch> {
        let batch = self.rows.read(columns, from, len)?;
        if self.live.count() == self.len() {
            return Ok(batch);
        }
        Ok(filter_record_batch(&batch, &self.live.mask(from, len))?)
    }

    /// The used rows, whole.
    pub(super) fn kept(&self) -> Result<RecordBatch> {
        let batch = self.rows.read(&self.rows.all_columns(), 0, self.len())?;
        if self.used.count() == self.len() {
            return Ok(batch);
        }
        Ok(filter_record_batch(&batch, &self.used.mask(0, self.len()))?)
    }
}
