//! Hot rows: consumed, queryable, not yet committed. Immutable and shared by pointer.
//!
//! Invariant I4: the hot ranges of a partition are contiguous and start at its committed position.

mod chunk;
mod partition;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::TableId;
use crate::compiled::CompiledTable;
use crate::error::{Error, Result};
use crate::limits;
use crate::log::manifest::{Manifest, PositionState};
use crate::position::TopicPartition;

pub(crate) use chunk::compact_views;
pub use chunk::{Chunk, Piece};

/// The hot rows of one table: sealed chunks, then at most one open chunk.
#[derive(Debug, Clone, Default)]
pub struct HotTable {
    chunks: Vec<Arc<Chunk>>,
    open: bool,
    next_id: u64,
    ends: BTreeMap<TopicPartition, i64>,
}

impl HotTable {
    /// Chunks, oldest first.
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }
    /// The chunk to which the next append goes, if there is one: the last.
    pub fn open(&self) -> Option<&Arc<Chunk>> {
        self.chunks.last().filter(|_| self.open)
    }
    /// Chunks that no append changes any more.
    pub fn sealed_chunks(&self) -> &[Arc<Chunk>] {
        let open = usize::from(self.open);
        self.chunks.get(..self.chunks.len().saturating_sub(open)).unwrap_or_default()
    }
    /// One past the last hot offset, per partition that has hot ranges.
    pub fn ends(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.ends
    }
    /// First hot offset of a partition.
    fn start(&self, tp: &TopicPartition) -> Option<i64> {
        let pieces = self.chunks.iter().flat_map(|c| c.pieces());
        pieces.filter(|p| p.range.tp == *tp).map(|p| p.range.from).min()
    }
    /// Rows in memory.
    pub fn rows(&self) -> usize {
        self.chunks.iter().map(|c| c.rows()).sum()
    }
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes()).sum()
    }
    /// When the oldest hot row came, microseconds.
    pub fn oldest_us(&self) -> Option<i64> {
        self.chunks.first().map(|c| c.born_us())
    }

    /// With one more append; also the chunk that this append sealed, if it did.
    pub(crate) fn with(
        &self,
        table: &CompiledTable,
        batch: arrow::array::RecordBatch,
        piece: Piece,
        committed: Option<i64>,
        now_us: i64,
    ) -> Result<(Self, Option<Arc<Chunk>>)> {
        let expected = self.ends.get(&piece.range.tp).copied().or(committed);
        if expected != Some(piece.range.from) {
            return Err(Error::busy(format!(
                "append to table {:?} covers {} from offset {}, but the table stands at {}",
                table.def.qualified_name(),
                piece.range.tp,
                piece.range.from,
                expected.map_or_else(|| "no position".to_string(), |o| o.to_string()),
            )));
        }
        let mut next = self.clone();
        next.ends.insert(piece.range.tp.clone(), piece.range.to);
        if !next.open {
            let schema = Arc::clone(&table.stored);
            next.chunks.push(Arc::new(Chunk::new(next.next_id, schema, now_us)));
            next.next_id += 1;
            next.open = true;
        }
        let Some(last) = next.chunks.last_mut() else {
            return Err(Error::internal("open chunk is missing"));
        };
        *last = Arc::new(last.with(table, batch, piece)?);
        let sealed = (last.rows() >= limits::CHUNK_ROWS).then(|| Arc::clone(last));
        next.open = sealed.is_none();
        Ok((next, sealed))
    }

    /// With the open chunk sealed, so that later appends go elsewhere.
    pub(crate) fn sealed(&self) -> Self {
        Self { open: false, ..self.clone() }
    }

    /// Without the chunks whose offsets lie wholly below the committed positions.
    fn without_committed(&self, positions: &BTreeMap<TopicPartition, PositionState>) -> Self {
        let durable = |chunk: &Chunk| {
            let below = |p: &Piece| {
                positions.get(&p.range.tp).is_some_and(|known| p.range.to <= known.offset)
            };
            chunk.pieces().iter().all(below)
        };
        let mut next = self.clone();
        let open = next.chunks.last().filter(|_| self.open).map(|c| c.id());
        next.chunks.retain(|c| !durable(c));
        next.open = next.chunks.last().is_some_and(|c| Some(c.id()) == open);
        next.recount();
        next
    }

    /// Without everything of the lost partitions.
    pub(crate) fn without_partitions(
        &self,
        table: &CompiledTable,
        lost: &dyn Fn(&TopicPartition) -> bool,
    ) -> Result<Self> {
        let mut next = Self { chunks: Vec::new(), open: false, ..self.clone() };
        for chunk in &self.chunks {
            if !chunk.pieces().iter().any(|p| lost(&p.range.tp)) {
                next.chunks.push(Arc::clone(chunk));
                continue;
            }
            let kept = chunk.without(table, next.next_id, lost)?;
            next.next_id += 1;
            if !kept.pieces().is_empty() {
                next.chunks.push(Arc::new(kept));
            }
        }
        next.recount();
        Ok(next)
    }

    fn recount(&mut self) {
        self.ends.clear();
        for piece in self.chunks.iter().flat_map(|c| c.pieces()) {
            let end = self.ends.entry(piece.range.tp.clone()).or_insert(piece.range.to);
            *end = (*end).max(piece.range.to);
        }
    }
}

/// All hot rows of a dataset.
#[derive(Debug, Clone, Default)]
pub struct HotSet {
    tables: BTreeMap<TableId, Arc<HotTable>>,
}

impl HotSet {
    /// Hot rows of a table, if it has any.
    pub fn table(&self, id: TableId) -> Option<&Arc<HotTable>> {
        self.tables.get(&id)
    }
    /// Tables with hot rows.
    pub fn tables(&self) -> impl Iterator<Item = (&TableId, &Arc<HotTable>)> {
        self.tables.iter()
    }
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.tables.values().map(|t| t.bytes()).sum()
    }
    /// Rows in memory.
    pub fn rows(&self) -> usize {
        self.tables.values().map(|t| t.rows()).sum()
    }
    /// Without what `manifest` holds as durable.
    pub(crate) fn without_committed(&self, manifest: &Manifest) -> Self {
        let mut next = Self::default();
        for (id, hot) in &self.tables {
            let Some(table) = manifest.tables.get(id) else { continue };
            let changed = hot.ends.iter().any(|(tp, _)| {
                table.positions.get(tp).is_none_or(|p| hot.start(tp).is_some_and(|s| s < p.offset))
            });
            let kept = if changed {
                Arc::new(hot.without_committed(&table.positions))
            } else {
                Arc::clone(hot)
            };
            next.tables.insert(*id, kept);
        }
        next
    }

    pub(crate) fn set(&mut self, id: TableId, table: HotTable) {
        if table.chunks.is_empty() && table.ends.is_empty() {
            // The counter of chunk ids must outlive the rows: ids of a running flush may not come again.
            if table.next_id == 0 {
                self.tables.remove(&id);
                return;
            }
        }
        self.tables.insert(id, Arc::new(table));
    }
}
