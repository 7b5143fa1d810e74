//! Keyed tables of a dataset: their maps follow appends and commits in the same move of the pointer; a
//! rebuild is another table, out of sight until it is level.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::{Append, Dataset};
use crate::catalog::{Rebuild, TableDef, TableId, TableKind};
use crate::compiled::{Catalog, CompiledTable};
use crate::error::{Error, Result};
use crate::keyed::{KeyedSet, KeyedTable};
use crate::log::manifest::Manifest;
use crate::log::op::{FileEntry, Op, RemoveReason};
use crate::position::TopicPartition;
use crate::segment::read_segment;
use crate::snapshot::Version;
use crate::store::Access;

/// Rows of committed files that a map does not hold yet.
#[derive(Debug, Default)]
pub(super) struct Loaded(Vec<(TableId, Vec<RecordBatch>)>);

impl Dataset {
    /// Applies an append to the map of its table. Conditional writes that came too late leave the append and
    /// are counted as filtered.
    pub(super) fn append_keyed(
        &self,
        keyed: &mut KeyedSet,
        table: &CompiledTable,
        append: &mut Append,
    ) -> Result<()> {
        let bytes = keyed.bytes();
        let limit = self.options.flush.keyed_bytes;
        let Some(map) = keyed.tables.get_mut(&table.id) else {
            let name = table.def.qualified_name();
            return Err(Error::internal(format!("keyed table {name:?} is not in memory")));
        };
        if bytes > limit && append.batch.num_rows() > 0 {
            let name = table.def.qualified_name();
            return Err(Error::full(format!(
                "keyed table {name:?} takes no more records: keyed tables hold {bytes} bytes of memory, {limit} \
                 are allowed"
            ))
            .with_hint("raise keyed_memory in [limits], or remove what is not needed from the topic"));
        }
        let rows = append.batch.num_rows();
        let empty = RecordBatch::new_empty(Arc::clone(&table.appended));
        let batch = std::mem::replace(&mut append.batch, empty);
        append.batch = Arc::make_mut(map).append(&append.tp, batch)?;
        let voided = (rows - append.batch.num_rows()) as u64;
        append.counts.kept -= voided;
        append.counts.filtered += voided;
        Ok(())
    }

    /// Notes that the rows of a file about to be committed are in the maps of this process.
    pub(crate) fn own_file(&self, table: &CompiledTable, file: &FileEntry) {
        if table.shape.is_some() {
            self.own_files.lock().insert(file.path.clone());
        }
    }

    /// Reads the committed files of keyed tables whose rows no map holds.
    pub(super) async fn load_keyed(&self, manifest: &Manifest) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let version = self.version.load_full();
        for state in manifest.tables.values().filter(|t| t.attached && t.def.keyed().is_some()) {
            let known = version.keyed.get(state.id);
            let is_known = |file: &FileEntry| {
                known.is_some_and(|table| table.files().contains(&file.path))
                    || self.own_files.lock().contains(&file.path)
            };
            let schema = state.def.stored_schema();
            for file in state.files.iter().filter(|file| !is_known(file)) {
                let batches = read_segment(&self.storage, file, &schema, None).await?;
                loaded.0.push((state.id, batches));
            }
        }
        Ok(loaded)
    }

    /// The maps under a newer manifest.
    pub(super) fn follow_keyed(
        &self,
        old: &KeyedSet,
        manifest: &Manifest,
        catalog: &Catalog,
        loaded: Loaded,
    ) -> Result<KeyedSet> {
        let mut next = KeyedSet::default();
        if self.storage.access() == Access::ReadOnly {
            return Ok(next);
        }
        for table in catalog.read_tables() {
            let Some(shape) = &table.shape else { continue };
            let known = old.get(table.id).cloned();
            let mut map = known.unwrap_or_else(|| Arc::new(KeyedTable::new(shape.clone())));
            if map.map().shape() != shape {
                Arc::make_mut(&mut map).reshape(shape)?;
            }
            next.tables.insert(table.id, map);
        }
        for (id, batches) in loaded.0 {
            if let Some(map) = next.tables.get_mut(&id) {
                Arc::make_mut(map).load(batches)?;
            }
        }
        let mut own = self.own_files.lock();
        for (id, map) in &mut next.tables {
            let Some(state) = manifest.tables.get(id) else { continue };
            let files: BTreeSet<String> = state.files.iter().map(|f| f.path.clone()).collect();
            own.retain(|path| !files.contains(path));
            if *map.files() != files {
                Arc::make_mut(map).set_files(files);
            }
        }
        Ok(next)
    }

    /// Fills the maps when the dataset is opened.
    pub(super) async fn open_keyed(&self) -> Result<()> {
        if self.storage.access() == Access::ReadOnly {
            return Ok(());
        }
        let version = self.version.load_full();
        let loaded = self.load_keyed(&version.manifest).await?;
        let catalog = &version.catalog;
        let keyed = self.follow_keyed(&version.keyed, &version.manifest, catalog, loaded)?;
        let _guard = self.swap.lock();
        self.replace(Version { keyed: Arc::new(keyed), ..Version::clone(&version) });
        Ok(())
    }

    /// Forgets old deletions in all maps.
    pub(crate) fn purge_keyed(&self) -> Result<()> {
        let before_us = self.options.clock.now_us() - self.options.flush.keyed_delete_us;
        let _guard = self.swap.lock();
        let old = self.version.load_full();
        let mut keyed = KeyedSet::clone(&old.keyed);
        let mut gone = 0;
        for table in keyed.tables.values_mut().filter(|t| t.tombstones() > 0) {
            gone += Arc::make_mut(table).purge(before_us)?;
        }
        if gone > 0 {
            self.replace(Version { keyed: Arc::new(keyed), ..Version::clone(&old) });
        }
        Ok(())
    }

    /// Bytes of memory of all keyed tables, about.
    pub fn keyed_bytes(&self) -> usize {
        self.version.load().keyed.bytes()
    }

    /// Begins to build a keyed table anew from the head of its topics, out of sight. Gives the id of the table
    /// that will take its place; one that is being built already is that one.
    pub async fn start_rebuild(&self, table: TableId, reason: &str) -> Result<TableId> {
        let snapshot = self.snapshot();
        let underway = snapshot
            .read_tables()
            .find(|t| t.def.rebuild().is_some_and(|r| t.id == table || r.table == table));
        if let Some(found) = underway {
            return Ok(found.id);
        }
        let Some(state) = snapshot.manifest().tables.get(&table) else {
            return Err(Error::not_found(format!("table {table:?} is not served")));
        };
        let mut def = TableDef::clone(&state.def);
        let TableKind::Keyed(keyed) = &mut def.kind else {
            let name = def.qualified_name();
            return Err(Error::invalid(format!("table {name:?} is not keyed")));
        };
        let started_us = self.options.clock.now_us();
        keyed.rebuild = Some(Rebuild { table, started_us, reason: reason.to_string() });
        def.name = format!("{}$rebuild", def.name);
        def.start = crate::catalog::Start::Earliest;
        let id = TableId(snapshot.manifest().last_table_id + 1);
        tracing::info!(table = state.def.qualified_name(), reason, "a keyed table is rebuilt");
        let put = Op::PutTable { table: id, schema_id: state.schema_id, def: Box::new(def) };
        self.commit(vec![put]).await?;
        Ok(id)
    }

    /// Puts a rebuilt table in the place of the old one if it is level by what is committed; whether it did.
    pub async fn finish_rebuild(&self, id: TableId) -> Result<bool> {
        // A running flush may hold rows of the table that is about to go.
        let _flushing = self.flushing.lock().await;
        let manifest = Arc::clone(self.snapshot().manifest());
        let Some(built) = manifest.tables.get(&id) else { return Ok(false) };
        let Some(rebuild) = built.def.rebuild().filter(|_| is_level(&manifest, id)) else {
            return Ok(false);
        };
        let mut ops = Vec::new();
        let mut def = TableDef::clone(&built.def);
        if let Some(old) = manifest.tables.get(&rebuild.table) {
            let remove = |file: &Arc<FileEntry>| Op::RemoveFile {
                path: file.path.clone(),
                target: file.target,
                reason: RemoveReason::Drop,
            };
            ops.extend(old.files.iter().map(remove));
            ops.push(Op::DropTable { table: old.id });
            def = TableDef::clone(&old.def);
        }
        tracing::info!(table = def.qualified_name(), "a rebuilt table takes its place");
        ops.push(Op::PutTable { table: id, schema_id: built.schema_id, def: Box::new(def) });
        self.commit(ops).await?;
        Ok(true)
    }
}

/// Whether a rebuilt table stands nowhere behind the old one, and has everything written before it began.
pub(crate) fn is_level(manifest: &Manifest, id: TableId) -> bool {
    let Some(built) = manifest.tables.get(&id) else { return false };
    let Some(rebuild) = built.def.rebuild() else { return false };
    let old = manifest.tables.get(&rebuild.table);
    // A topic that was made again may have fewer partitions.
    let is_other = |tp: &TopicPartition, topic_id: &str| {
        let mut known = built.positions.iter().filter(|(known, _)| known.topic == tp.topic);
        known.any(|(_, position)| position.identity.topic_id != topic_id)
    };
    let covers = old.is_none_or(|old| {
        old.positions.iter().all(|(tp, position)| {
            built.positions.contains_key(tp) || is_other(tp, &position.identity.topic_id)
        })
    });
    let fresh = built
        .positions
        .values()
        .all(|p| p.identity.as_of_us.is_some_and(|as_of| as_of >= rebuild.started_us));
    covers && fresh && !built.positions.is_empty()
}
