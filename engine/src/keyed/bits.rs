//! Two bits a row of a block: whether the index names it, whether queries see it.

use arrow::array::BooleanArray;
use arrow::buffer::{BooleanBuffer, Buffer};

/// One bit a row.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    words: Vec<u64>,
    rows: usize,
    set: usize,
}

impl Bits {
    pub(super) fn new(rows: usize) -> Self {
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

    /// The bits of `len` rows from a row on.
    pub(super) fn mask(&self, from: usize, len: usize) -> BooleanArray {
        let buffer = Buffer::from_vec(self.words.clone());
        BooleanArray::new(BooleanBuffer::new(buffer, 0, self.rows).slice(from, len), None)
    }

    /// Rows whose bit is set.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.rows).filter(|row| self.get(*row))
    }
}
