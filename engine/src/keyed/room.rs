//! Keeping keyed tables within their memory: decides which blocks go to disk and which files are worth
//! rewriting, does it beside the tables, and puts what came of it in place.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::compute::concat_batches;

use super::KeyedSet;
use super::block::{BLOCK_BYTES, BLOCK_ROWS, Block};
use super::rows::Rows;
use super::spill::Folder;
use crate::catalog::TableId;
use crate::error::{Error, Result};

/// Bytes that one round takes out of memory, about: old and new rows are held while it lasts.
const ROUND_BYTES: usize = 64 << 20;
/// Small files of a table from which on they are merged.
const SMALL_FILES: usize = 8;
/// Bytes of a block that are worth a file while there is still room.
const WORTH_BYTES: usize = 64 << 10;

/// Bytes from which on blocks go to disk: appends find room in the rest.
pub(crate) fn high(limit: usize) -> usize {
    limit - limit / 8
}

/// Bytes at which it is enough.
fn low(limit: usize) -> usize {
    high(limit) - limit / 16
}

/// A piece of work on the blocks of one table.
#[derive(Debug)]
pub(crate) struct Work {
    table: TableId,
    task: Task,
}

#[derive(Debug)]
enum Task {
    /// The rows of a block go to disk.
    Move { slot: u32, rows: Arc<Rows> },
    /// What is used of some blocks on disk goes to one new file.
    Rewrite { blocks: Vec<(u32, Arc<Block>)> },
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    work: Work,
    rows: Rows,
}

impl Work {
    /// Writes the file. Nothing refers to it yet.
    pub(crate) fn carry_out(self, folder: &Arc<Folder>) -> Result<Done> {
        let rows = match &self.task {
            Task::Move { rows, .. } => rows.spilled(folder)?,
            Task::Rewrite { blocks } => {
                let first = blocks.first();
                let (_, first) = first.ok_or_else(|| Error::internal("nothing to rewrite"))?;
                let shape = first.rows.shape();
                let kept = blocks.iter().map(|(_, b)| b.kept()).collect::<Result<Vec<_>>>()?;
                Rows::new(shape, &concat_batches(&shape.schema, &kept)?)?.spilled(folder)?
            }
        };
        Ok(Done { work: self, rows })
    }
}

impl KeyedSet {
    /// What is to be done next to stay within `limit` bytes, and to waste no disk; nothing if all is well.
    pub(crate) fn work(&self, limit: usize) -> Vec<Work> {
        let moves = self.moves(limit);
        if moves.is_empty() { self.rewrites() } else { moves }
    }

    /// The largest blocks in memory, which are the oldest too, until there is room.
    fn moves(&self, limit: usize) -> Vec<Work> {
        let bytes = self.bytes();
        if bytes <= high(limit) {
            return Vec::new();
        }
        let worth = if bytes > limit { 1 } else { WORTH_BYTES.min(limit / 64) };
        let mut found = Vec::new();
        for (id, table) in &self.tables {
            for (slot, block) in table.map().slots().filter(|(_, b)| !b.rows.is_on_disk()) {
                let gain = block.rows.movable_bytes();
                if gain >= worth {
                    found.push((gain, *id, slot, &block.rows));
                }
            }
        }
        found.sort_by_key(|(gain, id, slot, _)| (Reverse(*gain), *id, *slot));
        let wanted = (bytes - low(limit)).min(ROUND_BYTES);
        let mut gained = 0;
        let mut work = Vec::new();
        for (gain, table, slot, rows) in found {
            if gained >= wanted {
                break;
            }
            gained += gain;
            work.push(Work { table, task: Task::Move { slot, rows: Arc::clone(rows) } });
        }
        work
    }

    /// Of one table, blocks on disk that are half empty, or many small ones.
    fn rewrites(&self) -> Vec<Work> {
        for (id, table) in &self.tables {
            let on_disk = || table.map().slots().filter(|(_, b)| b.rows.is_on_disk());
            let size = |block: &Block| {
                let bytes =
                    block.rows.file().map_or(0, |f| usize::try_from(f.bytes()).unwrap_or(0));
                let (used, len) = (block.used.count(), block.len().max(1));
                (used, bytes / len * used)
            };
            let is_small = |block: &Block| {
                let (rows, bytes) = size(block);
                rows < BLOCK_ROWS / 4 && bytes < BLOCK_BYTES / 4
            };
            let small = on_disk().filter(|(_, block)| is_small(block)).count();
            let is_due =
                |block: &Block| block.is_sparse() || (small >= SMALL_FILES && is_small(block));
            let (mut rows, mut bytes, mut blocks) = (0, 0, Vec::new());
            for (slot, block) in on_disk().filter(|(_, block)| is_due(block)) {
                let more = size(block);
                let is_full = rows + more.0 > BLOCK_ROWS || bytes + more.1 > BLOCK_BYTES;
                // A smaller one may still fit: a single small file would be rewritten for nothing.
                if is_full && !blocks.is_empty() {
                    continue;
                }
                (rows, bytes) = (rows + more.0, bytes + more.1);
                blocks.push((slot, Arc::clone(block)));
            }
            if !blocks.is_empty() {
                return vec![Work { table: *id, task: Task::Rewrite { blocks } }];
            }
        }
        Vec::new()
    }

    /// Puts what was done in place, as far as the tables still are as they were.
    pub(crate) fn install(&mut self, done: Vec<Done>) -> Result<()> {
        for Done { work: Work { table, task }, rows } in done {
            let Some(table) = self.tables.get_mut(&table) else { continue };
            let map = Arc::make_mut(table).map_mut();
            match task {
                Task::Move { slot, rows: old } => map.move_out(slot, &old, &Arc::new(rows)),
                Task::Rewrite { blocks } => map.replace(&blocks, rows)?,
            }
        }
        Ok(())
    }
}
