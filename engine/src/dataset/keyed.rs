//! Keyed tables of a dataset: their maps follow appends and commits in the same move of the pointer; a
//! rebuild is another table, out of sight until it is level.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::{Append, Dataset, FlushLimits};
use crate::catalog::{Rebuild, TableDef, TableId, TableKind};
use crate::compiled::{Catalog, CompiledTable};
use crate::error::{Error, Result};
use crate::keyed::{self, Done, Folder, KeyedSet, KeyedTable, LoadedRows, Shape, Work};
use crate::log::manifest::Manifest;
use crate::log::op::{FileEntry, Op, RemoveReason};
use crate::position::TopicPartition;
use crate::segment::stream_segment;
use crate::snapshot::Version;
use crate::store::durable::TMP_FOLDER;
use crate::store::{Access, Storage};

/// Rounds of making room after which somebody else may have a turn.
const ROUNDS_MAX: usize = 1_000;

/// Rows of committed files that a map does not hold yet.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    rows: Vec<(TableId, LoadedRows)>,
    /// Tables that are read anew: a column came back of which their maps do not have the values.
    anew: BTreeSet<TableId>,
}

/// What keeps keyed tables within their memory.
#[derive(Debug)]
pub(super) struct Room {
    folder: Arc<Folder>,
    /// One at a time makes room; why it could not be made, if so.
    trouble: Mutex<Option<String>>,
    making: Mutex<()>,
}

impl Room {
    pub(super) fn new(storage: &Storage, limits: &FlushLimits) -> Self {
        let beside = || storage.local_dir().map(|dir| dir.join(TMP_FOLDER));
        let parent = limits.keyed_folder.clone().or_else(beside);
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        let folder = Arc::new(Folder::new(parent, limits.disk_reserve_bytes));
        Self { folder, trouble: Mutex::default(), making: Mutex::default() }
    }

    /// Does some work, or as much of it as goes well.
    fn carry_out(&self, work: Vec<Work>) -> (Vec<Done>, bool) {
        let mut done = Vec::with_capacity(work.len());
        for work in work {
            match work.carry_out(&self.folder) {
                Ok(one) => done.push(one),
                Err(error) => {
                    self.failed(&error);
                    return (done, false);
                }
            }
        }
        *self.trouble.lock() = None;
        (done, true)
    }

    fn failed(&self, error: &Error) {
        let before = self.trouble.lock().replace(error.to_string());
        if before.is_none() {
            tracing::warn!(%error, "rows of keyed tables cannot be moved to disk");
        }
    }
}

impl Dataset {
    /// Applies an append to the map of its table. Conditional writes that came too late leave the append and
    /// are counted as filtered. `bytes` is what keyed tables held before the move that this append is part of:
    /// what arrives with it may go beyond the limit, or the same records would be refused together for ever.
    pub(super) fn append_keyed(
        &self,
        keyed: &mut KeyedSet,
        bytes: usize,
        table: &CompiledTable,
        append: &mut Append,
    ) -> Result<()> {
        let limit = self.options.flush.keyed_bytes;
        let Some(map) = keyed.tables.get_mut(&table.id) else {
            let name = table.def.qualified_name();
            return Err(Error::internal(format!("keyed table {name:?} is not in memory")));
        };
        if bytes > limit && append.batch.num_rows() > 0 {
            let name = table.def.qualified_name();
            let trouble = self.room.trouble.lock().clone();
            let why =
                trouble.unwrap_or_else(|| "rows are on disk, but keys have to be in memory".into());
            return Err(Error::full(format!(
                "keyed table {name:?} takes no more records: keyed tables hold {bytes} bytes of memory, {limit} \
                 are allowed; {why}"
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

    /// Brings keyed tables back within their memory, as far as that can be done: rows go to disk. Also
    /// rewrites files of which little is used. Reads and writes files on the caller's thread.
    pub(crate) fn make_room(&self) {
        let limit = self.options.flush.keyed_bytes;
        if self.version.load().keyed.work(limit).is_empty() {
            return;
        }
        let _making = self.room.making.lock();
        for _ in 0..ROUNDS_MAX {
            let work = self.version.load().keyed.work(limit);
            if work.is_empty() {
                return;
            }
            let (done, all) = self.room.carry_out(work);
            let installed = {
                let _guard = self.swap.lock();
                let old = self.version.load_full();
                let mut keyed = KeyedSet::clone(&old.keyed);
                let installed = keyed.install(done);
                if installed.is_ok() {
                    self.replace(Version { keyed: Arc::new(keyed), ..Version::clone(&old) });
                }
                installed
            };
            if let Err(error) = &installed {
                self.room.failed(error);
            }
            if !all || installed.is_err() {
                return;
            }
        }
    }

    /// As [`make_room`](Self::make_room), for tables that nobody sees yet.
    fn make_room_in(&self, keyed: &mut KeyedSet) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let work = keyed.work(self.options.flush.keyed_bytes);
            if work.is_empty() {
                return Ok(());
            }
            let (done, all) = self.room.carry_out(work);
            keyed.install(done)?;
            if !all {
                // Loading goes on: it is better to need too much memory than not to start.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the committed files of keyed tables whose rows no map holds.
    pub(super) async fn load_keyed(&self, manifest: &Manifest) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let version = self.version.load_full();
        let mut bytes = None;
        for state in manifest.tables.values().filter(|t| t.attached) {
            let Some(def) = state.def.keyed() else { continue };
            let known = version.keyed.get(state.id);
            let is_known = |file: &FileEntry| {
                known.is_some_and(|table| table.files().contains(&file.path))
                    || self.own_files.lock().contains(&file.path)
            };
            let shape = Arc::new(Shape::new(&state.def, def)?);
            let anew = known.is_some_and(|known| {
                let before = &known.map().shape().schema;
                shape.schema.fields().iter().any(|field| before.index_of(field.name()).is_err())
            }) && version.hot.table(state.id).is_none_or(|hot| hot.rows() == 0);
            if anew {
                loaded.anew.insert(state.id);
            }
            for file in state.files.iter().filter(|file| anew || !is_known(file)) {
                let mut batches = stream_segment(&self.storage, file, &shape.schema, None).await?;
                while let Some(batch) = batches.try_next().await? {
                    let bytes = bytes.get_or_insert_with(|| version.keyed.bytes());
                    let rows = self.fitting(LoadedRows::new(&shape, &batch)?, *bytes);
                    *bytes += rows.bytes();
                    loaded.rows.push((state.id, rows));
                }
            }
        }
        Ok(loaded)
    }

    /// Rows that are read, on disk if memory has no room for them.
    fn fitting(&self, rows: LoadedRows, bytes: usize) -> LoadedRows {
        if bytes + rows.bytes() <= keyed::high(self.options.flush.keyed_bytes) {
            return rows;
        }
        match rows.spilled(&self.room.folder) {
            Ok(spilled) => spilled,
            Err(error) => {
                self.room.failed(&error);
                rows
            }
        }
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
            let known = old.get(table.id).filter(|_| !loaded.anew.contains(&table.id)).cloned();
            let mut map = known.unwrap_or_else(|| Arc::new(KeyedTable::new(shape.clone())));
            if **map.map().shape() != *shape {
                Arc::make_mut(&mut map).reshape(shape)?;
            }
            next.tables.insert(table.id, map);
        }
        for (id, rows) in loaded.rows {
            if let Some(map) = next.tables.get_mut(&id) {
                Arc::make_mut(map).take(rows)?;
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
        self.room.folder.sweep();
        let version = self.version.load_full();
        let (manifest, none) = (&version.manifest, Loaded::default());
        let mut keyed = self.follow_keyed(&version.keyed, manifest, &version.catalog, none)?;
        for state in manifest.tables.values() {
            if keyed.get(state.id).is_none() {
                continue;
            }
            let schema = state.def.stored_schema();
            let mut files = state.files.clone();
            // The rows of the large old files give way to younger ones one by one.
            files.sort_by_key(|file| std::cmp::Reverse(file.level));
            for file in &files {
                let mut batches = stream_segment(&self.storage, file, &schema, None).await?;
                while let Some(batch) = batches.try_next().await? {
                    if let Some(map) = keyed.tables.get_mut(&state.id) {
                        Arc::make_mut(map).load(&batch)?;
                    }
                    self.make_room_in(&mut keyed)?;
                }
            }
        }
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
