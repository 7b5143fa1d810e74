//! The map of one keyed table: blocks of rows and an index over their keys. Every change makes a new version
//! that shares what it did not touch.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::Int64Type;

use super::block::Block;
use super::found::{KeyedRow, LiveBlock};
use super::index::{Index, Place};
use super::key::Key;
use super::rows::Rows;
use super::{ABSENT, Shape};
use crate::catalog::EXPECTED_COLUMN;
use crate::error::{Error, Result};
use crate::position::TopicPartition;

/// Half-empty blocks that one change rewrites, so that no change takes long.
const REWRITES_MAX: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct KeyedMap {
    shape: Arc<Shape>,
    index: Index,
    blocks: Vec<Option<Arc<Block>>>,
    /// Small blocks, oldest first.
    small: Vec<u32>,
    rows: usize,
}

impl KeyedMap {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape: Arc::new(shape),
            index: Index::new(),
            blocks: Vec::new(),
            small: Vec::new(),
            rows: 0,
        }
    }

    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
    pub(super) fn tombstones(&self) -> usize {
        // What is used but not live is a deletion, or an older row in another partition.
        self.index.len() - self.rows
    }
    pub(super) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().flatten();
        blocks.map(|b| b.bytes()).sum::<usize>() + self.index.bytes()
    }
    pub(super) fn spilled_bytes(&self) -> u64 {
        let files = self.blocks.iter().flatten().filter_map(|b| b.rows.file());
        files.map(|file| file.bytes()).sum()
    }

    pub(super) fn get(&self, key: &Key) -> Option<KeyedRow> {
        self.index.find(key.hash64()).find_map(|place| {
            let block = self.block(place.block)?;
            let row = place.row as usize;
            (block.rows.key.holds(row, key) && block.live.get(row))
                .then(|| KeyedRow::new(place.block as usize, &block.rows, row))
        })
    }

    pub(super) fn latest_in(&self, key: &Key, tp: &TopicPartition) -> Option<(i64, bool)> {
        self.index.find(key.hash64()).find_map(|place| {
            let rows = &self.block(place.block)?.rows;
            let row = place.row as usize;
            // A table of one topic keeps no topic with its rows.
            let is_topic = rows.topic(row).is_empty() || rows.topic(row) == &*tp.topic;
            (rows.key.holds(row, key) && rows.partition(row) == tp.partition && is_topic)
                .then(|| (rows.offset(row), rows.is_deleted(row)))
        })
    }

    pub(super) fn blocks(&self) -> Vec<LiveBlock> {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter_map(|(slot, block)| Some((slot, block.as_ref()?)))
            .filter(|(_, block)| block.live.count() > 0)
            .map(|(slot, block)| LiveBlock::new(slot, block))
            .collect()
    }

    /// All blocks with their numbers.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, &Arc<Block>)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.filter_map(|(slot, block)| Some((u32::try_from(slot).ok()?, block.as_ref()?)))
    }

    fn block(&self, slot: u32) -> Option<&Arc<Block>> {
        self.blocks.get(slot as usize)?.as_ref()
    }

    /// Applies rows of the append schema. Gives the rows that count, under the stored schema, and places and
    /// keys of conditional writes that came too late.
    pub(super) fn append(&mut self, batch: RecordBatch) -> Result<(RecordBatch, Vec<(i64, Key)>)> {
        let conditions = batch
            .column_by_name(EXPECTED_COLUMN)
            .and_then(|c| c.as_primitive_opt::<Int64Type>())
            .cloned()
            .ok_or_else(|| Error::internal("an append to a keyed table lacks its conditions"))?;
        let stored = RecordBatch::try_new(
            Arc::clone(&self.shape.schema),
            batch.columns().iter().take(batch.num_columns() - 1).cloned().collect(),
        )?;
        if conditions.null_count() == conditions.len() {
            self.apply(Rows::new(&self.shape, &stored)?)?;
            return Ok((stored, Vec::new()));
        }
        let slot = self.add(Rows::new(&self.shape, &stored)?)?;
        let mut voided = Vec::new();
        let mut keep = Vec::with_capacity(stored.num_rows());
        for row in 0..stored.num_rows() {
            let expected = conditions.is_valid(row).then(|| conditions.value(row));
            let counts = self.take(slot, row, expected)?;
            if !counts && let Some(block) = self.block(slot) {
                voided.push((block.rows.offset(row), block.rows.key.get(row)));
            }
            keep.push(counts);
        }
        self.tidy(slot)?;
        Ok((filter_record_batch(&stored, &BooleanArray::from(keep))?, voided))
    }

    /// Applies rows of the map's shape.
    pub(super) fn apply(&mut self, rows: Rows) -> Result<()> {
        let len = rows.len();
        if len == 0 {
            return Ok(());
        }
        let slot = self.add(rows)?;
        for row in 0..len {
            self.take(slot, row, None)?;
        }
        self.tidy(slot)
    }

    /// A place for a new block of rows, none of which counts yet.
    fn add(&mut self, rows: Rows) -> Result<u32> {
        let block = Some(Arc::new(Block::new(Arc::new(rows))));
        let slot = match self.blocks.iter().position(Option::is_none) {
            Some(free) => {
                self.blocks[free] = block;
                free
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        u32::try_from(slot).map_err(|_| Error::full("a keyed table has too many blocks"))
    }

    /// Lets a row of a block count, unless it is older than what is there or its condition does not hold.
    /// False only for the latter.
    fn take(&mut self, slot: u32, row: usize, expected: Option<i64>) -> Result<bool> {
        let lost = || Error::internal("a block of a keyed table is missing");
        let rows = Arc::clone(&self.block(slot).ok_or_else(lost)?.rows);
        let hash = rows.hash(row);
        let at = u32::try_from(row).map_err(|_| Error::internal("a block is too large"))?;
        let place = Place { block: slot, row: at };
        let (mut same, mut others) = (None, Vec::new());
        for found in self.index.find(hash) {
            let known = self.block(found.block).ok_or_else(lost)?;
            let other = found.row as usize;
            if !known.rows.key.same(other, &rows.key, row) {
                continue;
            }
            let is_same = known.rows.partition(other) == rows.partition(row)
                && known.rows.topic(other) == rows.topic(row);
            if is_same { same = Some(found) } else { others.push(found) }
        }
        if let Some(known) = same {
            let block = self.block(known.block).ok_or_else(lost)?;
            let before = known.row as usize;
            let offset = block.rows.offset(before);
            if offset == rows.offset(row) {
                return Ok(true);
            }
            let holds = match expected {
                None => true,
                Some(ABSENT) => block.rows.is_deleted(before),
                Some(expected) => offset <= expected,
            };
            if !holds {
                return Ok(false);
            }
            if offset > rows.offset(row) {
                return Ok(true);
            }
            self.index.replace(hash, known, place);
            self.release(known);
        } else {
            let blocks = &self.blocks;
            let hash_of = |place: Place| {
                let block = blocks.get(place.block as usize).and_then(Option::as_ref);
                block.map_or(0, |b| b.rows.hash(place.row as usize))
            };
            self.index.insert(hash, place, &hash_of);
        }
        self.bits(slot)?.used.set(row, true);
        self.choose(place, &rows, &others)?;
        Ok(true)
    }

    /// Of the rows of a key in several partitions one holds.
    fn choose(&mut self, place: Place, rows: &Rows, others: &[Place]) -> Result<()> {
        let row = place.row as usize;
        let mut greatest = true;
        for other in others {
            let Some(block) = self.block(other.block) else { continue };
            greatest &= block.rows.rank(other.row as usize) < rows.rank(row);
        }
        if !greatest {
            // The one that held before may have been this partition's: another follows.
            return self.elect(others);
        }
        for other in others {
            self.set_live(*other, false)?;
        }
        self.set_live(place, !rows.is_deleted(row))
    }

    fn elect(&mut self, places: &[Place]) -> Result<()> {
        let mut best: Option<(Place, Arc<Block>)> = None;
        for place in places {
            let Some(block) = self.block(place.block).cloned() else { continue };
            let better = best.as_ref().is_none_or(|(known, of)| {
                of.rows.rank(known.row as usize) < block.rows.rank(place.row as usize)
            });
            if better {
                best = Some((*place, block));
            }
        }
        match best {
            Some((place, block)) => {
                let is_live = !block.rows.is_deleted(place.row as usize);
                drop(block);
                self.set_live(place, is_live)
            }
            None => Ok(()),
        }
    }

    fn bits(&mut self, slot: u32) -> Result<&mut Block> {
        let block = self.blocks.get_mut(slot as usize).and_then(Option::as_mut);
        block.map(Arc::make_mut).ok_or_else(|| Error::internal("a block of a keyed table is gone"))
    }

    fn set_live(&mut self, place: Place, value: bool) -> Result<()> {
        let is_live = self.block(place.block).is_some_and(|b| b.live.get(place.row as usize));
        if is_live == value {
            return Ok(());
        }
        self.bits(place.block)?.live.set(place.row as usize, value);
        self.rows = if value { self.rows + 1 } else { self.rows - 1 };
        Ok(())
    }

    /// The index no longer names this row.
    fn release(&mut self, place: Place) {
        let Ok(block) = self.bits(place.block) else { return };
        let was_live = block.live.set(place.row as usize, false);
        block.used.set(place.row as usize, false);
        self.rows -= usize::from(was_live);
    }

    /// Merges small blocks, the newest first, and rewrites those that are half empty.
    fn tidy(&mut self, newest: u32) -> Result<()> {
        if self.block(newest).is_some_and(|b| b.is_small()) {
            self.small.push(newest);
        }
        for slot in 0..self.blocks.len() {
            if self.blocks[slot].as_ref().is_some_and(|b| b.used.count() == 0) {
                self.blocks[slot] = None;
            }
        }
        // Before a new block takes one of the free slots.
        let blocks = &self.blocks;
        self.small.retain(|slot| blocks.get(*slot as usize).is_some_and(Option::is_some));
        let mut sparse = Vec::new();
        for (slot, block) in self.blocks.iter().enumerate() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            // Those on disk are rewritten elsewhere: not in the moment in which the pointer moves.
            if block.as_ref().is_some_and(|b| b.is_sparse() && !b.rows.is_on_disk()) {
                sparse.push(slot);
            }
        }
        for slot in sparse.into_iter().take(REWRITES_MAX) {
            self.merge(&[slot])?;
        }
        while let [.., before, last] = self.small.as_slice() {
            let (before, last) = (*before, *last);
            let size = |slot| self.block(slot).map_or(0, |b| b.used.count());
            if size(before) > 2 * size(last) {
                break;
            }
            self.small.truncate(self.small.len() - 2);
            self.merge(&[before, last])?;
        }
        Ok(())
    }

    /// Moves the used rows of some blocks into one new block.
    fn merge(&mut self, slots: &[u32]) -> Result<()> {
        let old: Vec<(u32, Arc<Block>)> =
            slots.iter().filter_map(|slot| Some((*slot, Arc::clone(self.block(*slot)?)))).collect();
        let kept = old.iter().map(|(_, block)| block.kept()).collect::<Result<Vec<_>>>()?;
        let merged = concat_batches(&self.shape.schema, &kept)?;
        let rows = Rows::new(&self.shape, &crate::hot::compact_views(&merged)?)?;
        self.replace(&old, rows)
    }

    /// Puts rows in the place of blocks of which they are the used ones. Blocks that have changed since are
    /// left as they are, but for the bits.
    pub(super) fn replace(&mut self, old: &[(u32, Arc<Block>)], rows: Rows) -> Result<()> {
        if rows.shape() != &self.shape {
            return Ok(());
        }
        let slot = self.add(rows)?;
        let mut to = 0_u32;
        for (from, block) in old {
            let now = self.block(*from).filter(|now| Arc::ptr_eq(&now.rows, &block.rows)).cloned();
            for row in block.used.rows() {
                // A row that is used no more has left its bits unset in the new block.
                if let Some(now) = now.as_ref().filter(|now| now.used.get(row)) {
                    let at =
                        u32::try_from(row).map_err(|_| Error::internal("a block is too large"))?;
                    let (before, after) =
                        (Place { block: *from, row: at }, Place { block: slot, row: to });
                    self.index.replace(block.rows.hash(row), before, after);
                    let is_live = now.live.get(row);
                    let bits = self.bits(slot)?;
                    bits.used.set(to as usize, true);
                    bits.live.set(to as usize, is_live);
                }
                to += 1;
            }
            if now.is_some() {
                self.blocks[*from as usize] = None;
                self.small.retain(|known| known != from);
            }
        }
        match self.block(slot) {
            Some(block) if block.used.count() == 0 => self.blocks[slot as usize] = None,
            Some(block) if block.is_small() => self.small.push(slot),
            _ => {}
        }
        Ok(())
    }

    /// Puts the same rows, now in a file, in the place of those in memory, if they are still there.
    pub(super) fn move_out(&mut self, slot: u32, old: &Arc<Rows>, new: &Arc<Rows>) {
        let block = self.blocks.get_mut(slot as usize).and_then(Option::as_mut);
        if let Some(block) = block.filter(|block| Arc::ptr_eq(&block.rows, old)) {
            Arc::make_mut(block).rows = Arc::clone(new);
            self.small.retain(|known| *known != slot);
        }
    }

    /// Forgets deletions with an older timestamp, unless a row of the key is still there in another partition.
    pub(super) fn purge(&mut self, before_us: i64) -> Result<usize> {
        let mut due = Vec::new();
        for (slot, block) in self.blocks.iter().enumerate() {
            let Some(block) = block.as_ref().filter(|b| b.live.count() < b.used.count()) else {
                continue;
            };
            for row in block.used.rows().filter(|row| !block.live.get(*row)) {
                if block.rows.is_deleted(row) && block.rows.timestamp(row) < before_us {
                    due.push((slot, row));
                }
            }
        }
        let mut gone = 0;
        for (slot, row) in due {
            let Some(block) = self.blocks.get(slot).and_then(Option::as_ref) else { continue };
            let hash = block.rows.hash(row);
            let others = self.index.find(hash).filter(|place| {
                let other = self.block(place.block);
                other.is_some_and(|b| b.rows.key.same(place.row as usize, &block.rows.key, row))
            });
            if others.count() != 1 {
                continue;
            }
            let to_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = Place { block: to_u32(slot), row: to_u32(row) };
            self.index.remove(hash, place);
            self.release(place);
            gone += 1;
        }
        Ok(gone)
    }

    /// Brings the rows under a changed definition: missing columns are null, changed types are cast.
    pub(super) fn reshape(&mut self, shape: &Shape) -> Result<()> {
        if *self.shape == *shape {
            return Ok(());
        }
        let shape = Arc::new(shape.clone());
        for block in self.blocks.iter_mut().flatten() {
            let rows = Arc::new(block.rows.reshaped(&shape)?);
            let (used, live) = (block.used.clone(), block.live.clone());
            *block = Arc::new(Block { rows, used, live });
        }
        self.shape = shape;
        Ok(())
    }
}
