//! A snapshot: committed files, hot rows and catalogue of one moment. Taking one is one pointer load;
//! holding one keeps its rows readable (invariant I3: a snapshot never changes).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::{RollupId, TableId};
use crate::compiled::{Catalog, CompiledTable};
use crate::error::{Error, Result};
use crate::hot::{Chunk, HotSet};
use crate::keyed::{KeyedSet, KeyedTable};
use crate::limits;
use crate::log::manifest::{Manifest, PositionState};
use crate::log::op::{FieldSeen, FileEntry, Target};
use crate::position::{ReadCounts, TopicPartition};
use crate::reading::{PartitionReport, Reading};
use crate::store::Storage;
use crate::time::Granularity;

/// What the one pointer of a dataset points to.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) sequence: u64,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) hot: Arc<HotSet>,
    pub(crate) keyed: Arc<KeyedSet>,
    pub(crate) catalog: Arc<Catalog>,
}

/// A pinned version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    version: Arc<Version>,
    storage: Storage,
    pinned_at_us: i64,
    age_max_us: i64,
    reading: Option<Arc<dyn Reading>>,
}

impl Snapshot {
    /// Pinned at `pinned_at_us`, in a dataset that keeps unreferenced files for `grace_us`.
    pub(crate) fn new(
        version: Arc<Version>,
        storage: Storage,
        pinned_at_us: i64,
        grace_us: i64,
        reading: Option<Arc<dyn Reading>>,
    ) -> Self {
        let age_max_us = limits::PIN_AGE_MAX_US.min(grace_us / 2);
        Self { version, storage, pinned_at_us, age_max_us, reading }
    }

    /// Grows with every publication of rows and every commit of this process.
    pub fn sequence(&self) -> u64 {
        self.version.sequence
    }
    /// The committed part.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.version.manifest
    }
    /// The served tables.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.version.catalog
    }
    /// The same moment with another catalogue: that of somebody who may not see all.
    pub fn seen_with(&self, catalog: Arc<Catalog>) -> Self {
        let version = Arc::new(Version { catalog, ..self.version.as_ref().clone() });
        Self { version, ..self.clone() }
    }
    /// The catalogue of whoever may see all.
    pub fn whole_catalog(&self) -> &Arc<Catalog> {
        self.catalog().whole().unwrap_or(self.catalog())
    }
    /// Whether all of a table may be seen: its rows, its columns, and with them what is known of its files.
    pub fn sees_whole(&self, id: TableId) -> bool {
        self.catalog().whole().is_none() || self.table_by_id(id).is_some_and(|t| t.is_whole())
    }
    /// When it was taken, microseconds.
    pub fn pinned_at_us(&self) -> i64 {
        self.pinned_at_us
    }
    /// The store of its files.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
    /// How the partitions read by this process fare now; not part of the pinned moment.
    pub fn reading(&self) -> Vec<PartitionReport> {
        self.reading.as_ref().map(|reading| reading.reports()).unwrap_or_default()
    }

    /// Refuses a pin older than [`limits::PIN_AGE_MAX_US`], or than half of the grace of unreferenced files
    /// if that is less: its files may be gone.
    pub fn check_age(&self, now_us: i64) -> Result<()> {
        if now_us.saturating_sub(self.pinned_at_us) > self.age_max_us {
            let seconds = self.age_max_us / 1_000_000;
            return Err(Error::invalid("snapshot too old").with_hint(format!(
                "a cursor or transaction may read one snapshot for {seconds} s; run the query again"
            )));
        }
        Ok(())
    }

    /// The served tables, by id.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<CompiledTable>> {
        self.version.catalog.tables()
    }
    /// All tables that are read, by id: the served ones and those being rebuilt out of sight.
    pub fn read_tables(&self) -> impl Iterator<Item = &Arc<CompiledTable>> {
        self.version.catalog.read_tables()
    }
    /// The served table of this name.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<CompiledTable>> {
        self.version.catalog.table(schema, name)
    }
    /// The served table of this id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<CompiledTable>> {
        self.version.catalog.table_by_id(id)
    }
    /// Live raw files of a table.
    pub fn raw_files(&self, id: TableId) -> &[Arc<FileEntry>] {
        self.version.manifest.tables.get(&id).map_or(&[], |t| &t.files)
    }
    /// Rows with an event time before this are not part of the raw table, microseconds.
    pub fn horizon_us(&self, id: TableId) -> Option<i64> {
        self.version.manifest.tables.get(&id).and_then(|t| t.horizon_us)
    }
    /// Hot chunks of a table.
    pub fn hot(&self, id: TableId) -> &[Arc<Chunk>] {
        self.version.hot.table(id).map_or(&[], |t| t.chunks())
    }
    /// The hot chunk of a table that still grows; its rollup states are not kept.
    pub fn hot_open(&self, id: TableId) -> Option<&Arc<Chunk>> {
        self.version.hot.table(id).and_then(|t| t.open())
    }
    /// The other hot chunks of a table.
    pub fn hot_sealed(&self, id: TableId) -> &[Arc<Chunk>] {
        self.version.hot.table(id).map_or(&[], |t| t.sealed_chunks())
    }
    /// The rows of a keyed table, committed or not; none in a dataset that was opened for reading only.
    pub fn keyed(&self, id: TableId) -> Option<&Arc<KeyedTable>> {
        self.version.keyed.get(id)
    }
    /// All hot rows.
    pub fn hot_set(&self) -> &Arc<HotSet> {
        &self.version.hot
    }

    /// Files that together hold the committed states of a rollup at `granularity`: those of that
    /// granularity, and level-0 files, whose finer buckets the reader truncates.
    pub fn rollup_files(&self, id: RollupId, granularity: Granularity) -> Vec<Arc<FileEntry>> {
        let Some(rollup) = self.version.manifest.rollups.get(&id) else {
            return Vec::new();
        };
        let counts = |file: &FileEntry| {
            file.level == 0
                || matches!(file.target, Target::Rollup { granularity: g, .. } if g == granularity)
        };
        rollup.files.iter().filter(|f| counts(f)).cloned().collect()
    }

    /// Buckets before this are not part of that granularity, microseconds.
    pub fn rollup_horizon_us(&self, id: RollupId, granularity: Granularity) -> Option<i64> {
        self.version.manifest.rollups.get(&id)?.horizon_us.get(&granularity).copied()
    }

    /// Partial states of all hot rows that the rollup covers, at its finest granularity.
    pub fn hot_states(&self, id: RollupId) -> Result<Vec<RecordBatch>> {
        let Some(state) = self.version.manifest.rollups.get(&id) else {
            return Ok(Vec::new());
        };
        let Some(table) = self.table_by_id(state.table) else {
            return Ok(Vec::new());
        };
        let Some(rollup) = table.rollup(id) else {
            return Ok(Vec::new());
        };
        self.hot(table.id).iter().filter(|c| c.rows() > 0).map(|c| c.states(rollup)).collect()
    }

    /// Files of rejected records.
    pub fn rejected_files(&self) -> &[Arc<FileEntry>] {
        &self.version.manifest.rejected
    }

    /// Rejected records that are not yet committed.
    pub fn hot_rejected(&self) -> Vec<RecordBatch> {
        let tables = self.version.hot.tables();
        tables
            .flat_map(|(_, hot)| hot.chunks())
            .flat_map(|chunk| chunk.pieces())
            .filter(|piece| piece.rejected.num_rows() > 0)
            .map(|piece| piece.rejected.clone())
            .collect()
    }

    /// Per partition of a table: how the records ended that were read so far, hot ones included.
    pub fn counts(&self, id: TableId) -> BTreeMap<TopicPartition, ReadCounts> {
        let Some(table) = self.version.manifest.tables.get(&id) else {
            return BTreeMap::new();
        };
        let of = |(tp, position): (&TopicPartition, &PositionState)| (tp.clone(), position.counts);
        let mut counts: BTreeMap<_, _> = table.positions.iter().map(of).collect();
        for piece in self.hot(id).iter().flat_map(|chunk| chunk.pieces()) {
            counts.entry(piece.range.tp.clone()).or_default().add(&piece.counts);
        }
        counts
    }

    /// Undeclared fields of a table that were seen so far, in hot rows too.
    pub fn fields(&self, id: TableId) -> Vec<FieldSeen> {
        let Some(table) = self.version.manifest.tables.get(&id) else {
            return Vec::new();
        };
        let mut fields = table.fields.clone();
        let pieces = self.hot(id).iter().flat_map(|chunk| chunk.pieces());
        FieldSeen::add_all(&mut fields, pieces.flat_map(|piece| &piece.fields));
        fields
    }

    /// Per partition of a table: committed position and end of what is visible (hot rows included).
    pub fn positions(&self, id: TableId) -> BTreeMap<TopicPartition, (i64, i64)> {
        let Some(table) = self.version.manifest.tables.get(&id) else {
            return BTreeMap::new();
        };
        let hot = self.version.hot.table(id);
        let end = |tp: &TopicPartition, committed: i64| {
            hot.and_then(|h| h.ends().get(tp).copied()).unwrap_or(committed)
        };
        table
            .positions
            .iter()
            .map(|(tp, position)| (tp.clone(), (position.offset, end(tp, position.offset))))
            .collect()
    }
}
