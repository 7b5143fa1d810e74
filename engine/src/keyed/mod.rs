//! Keyed tables in memory: the latest row of each key, as columns, with an index from key to row.
//!
//! ```text
//!  append ─► block (columns, used and live bits) ◄── index: key ─► place of its row
//!               │ small or half empty: merged           (shards shared between versions)
//!               └► memory is scarce: other columns than keys, places and times go to a file
//! ```
//!
//! A [`KeyedTable`] is immutable and cheap to derive the next from: it is part of the one Version, so a
//! statement sees keyed and event tables of one moment (I3). It is a function of the set of records applied,
//! whatever their order (I13): of a key, each partition keeps its record with the greatest offset, and of those
//! the one with the greatest timestamp holds, then by place. Deletions stay as rows that no query sees until
//! the log itself may have forgotten them.

mod bits;
mod block;
mod found;
mod index;
mod key;
mod map;
mod room;
mod rows;
mod spill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::catalog::{KeyedDef, TableDef, TableId};
use crate::error::{Error, Result};
use crate::position::TopicPartition;

pub use found::{KeyedRow, LiveBlock, LivePiece};
pub use key::Key;
pub(crate) use map::KeyedMap;
pub(crate) use room::{Done, Work, high};
use rows::Rows;
pub(crate) use spill::Folder;

/// Condition of a write: the key has no row. Any other number is the offset of the record, in the same
/// partition, after which the key must not have been written; -1 if not at all.
pub const ABSENT: i64 = i64::MIN;

/// Writes without effect that are remembered per table, for those who wait for their outcome.
const VOIDED_MAX: usize = 4096;

/// A conditional write that came too late: its record is in the log, but does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// Where its record stands.
    pub tp: TopicPartition,
    /// Where its record stands.
    pub offset: i64,
    /// The key that it would have written.
    pub key: Key,
}

/// What the map has to know of a table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Stored schema.
    pub(crate) schema: SchemaRef,
    /// Index of the key column.
    pub(crate) key: usize,
}

impl Shape {
    pub(crate) fn new(def: &TableDef, keyed: &KeyedDef) -> Result<Self> {
        let schema = def.stored_schema();
        let key = schema.index_of(&keyed.key).map_err(|_| {
            Error::invalid(format!(
                "table {:?} has no column {:?}, named as its key",
                def.qualified_name(),
                keyed.key
            ))
        })?;
        Ok(Self { schema, key })
    }
}

/// The rows of one keyed table at one moment, committed or not.
#[derive(Debug, Clone)]
pub struct KeyedTable {
    map: KeyedMap,
    /// Committed files whose rows are in the map.
    files: Arc<BTreeSet<String>>,
    voided: Arc<VecDeque<Voided>>,
}

impl KeyedTable {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { map: KeyedMap::new(shape), files: Arc::default(), voided: Arc::default() }
    }

    /// The row of a key, if it has one.
    pub fn get(&self, key: &Key) -> Option<KeyedRow> {
        self.map.get(key)
    }

    /// Live rows, block by block, in no particular order; the same for ever of one snapshot.
    pub fn blocks(&self) -> Vec<LiveBlock> {
        self.map.blocks()
    }

    /// Number of live rows.
    pub fn rows(&self) -> usize {
        self.map.rows()
    }

    /// Number of deletions that are kept.
    pub fn tombstones(&self) -> usize {
        self.map.tombstones()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// Bytes on disk of rows that memory had no room for.
    pub fn spilled_bytes(&self) -> u64 {
        self.map.spilled_bytes()
    }

    /// Whether the record at this place was a conditional write that came too late, as far as remembered.
    pub fn is_voided(&self, tp: &TopicPartition, offset: i64) -> bool {
        self.voided.iter().any(|known| known.tp == *tp && known.offset == offset)
    }

    /// The latest writes that came too late, oldest first.
    pub fn voided(&self) -> impl Iterator<Item = &Voided> {
        self.voided.iter()
    }

    /// Offset of the record that counts for a key in a partition, and whether it is a deletion.
    pub fn latest_in(&self, key: &Key, tp: &TopicPartition) -> Option<(i64, bool)> {
        self.map.latest_in(key, tp)
    }

    pub(crate) fn map(&self) -> &KeyedMap {
        &self.map
    }

    fn map_mut(&mut self) -> &mut KeyedMap {
        &mut self.map
    }

    pub(crate) fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    /// With what was read of a partition. Gives the rows that count: conditional writes that came too late
    /// are left out.
    pub(crate) fn append(
        &mut self,
        tp: &TopicPartition,
        batch: RecordBatch,
    ) -> Result<RecordBatch> {
        let (kept, voided) = self.map.append(batch)?;
        if !voided.is_empty() {
            let known = Arc::make_mut(&mut self.voided);
            let entry = |(offset, key)| Voided { tp: tp.clone(), offset, key };
            known.extend(voided.into_iter().map(entry));
            let excess = known.len().saturating_sub(VOIDED_MAX);
            known.drain(..excess);
        }
        Ok(kept)
    }

    /// With rows of a committed file.
    pub(crate) fn load(&mut self, batch: &RecordBatch) -> Result<()> {
        self.map.apply(Rows::new(self.map.shape(), batch)?)
    }

    /// With rows that were read before they were due.
    pub(crate) fn take(&mut self, loaded: LoadedRows) -> Result<()> {
        if loaded.0.shape() == self.map.shape() {
            return self.map.apply(loaded.0);
        }
        self.map.apply(loaded.0.reshaped(self.map.shape())?)
    }

    pub(crate) fn set_files(&mut self, files: BTreeSet<String>) {
        if *self.files != files {
            self.files = Arc::new(files);
        }
    }

    pub(crate) fn reshape(&mut self, shape: &Shape) -> Result<()> {
        self.map.reshape(shape)
    }

    /// Forgets deletions older than this, microseconds; how many.
    pub(crate) fn purge(&mut self, before_us: i64) -> Result<usize> {
        self.map.purge(before_us)
    }
}

/// Rows of a committed file that are in no table yet, in memory or on disk.
#[derive(Debug)]
pub(crate) struct LoadedRows(Rows);

impl LoadedRows {
    pub(crate) fn new(shape: &Arc<Shape>, batch: &RecordBatch) -> Result<Self> {
        Ok(Self(Rows::new(shape, batch)?))
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The same rows on disk.
    pub(crate) fn spilled(&self, folder: &Arc<Folder>) -> Result<Self> {
        Ok(Self(self.0.spilled(folder)?))
    }
}

/// All keyed tables of a dataset.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyedSet {
    pub(crate) tables: BTreeMap<TableId, Arc<KeyedTable>>,
}

impl KeyedSet {
    pub(crate) fn get(&self, id: TableId) -> Option<&Arc<KeyedTable>> {
        self.tables.get(&id)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.tables.values().map(|table| table.bytes()).sum()
    }
}
