//! Appending: rows become visible, atomically over all tables of a call; and back-pressure.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;

use super::Dataset;
use crate::catalog::TableId;
use crate::compiled::CompiledTable;
use crate::error::{Error, Result};
use crate::hot::{Chunk, HotTable, Piece};
use crate::keyed::KeyedSet;
use crate::log::op::FieldSeen;
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::snapshot::Version;

/// What was read of one partition for one table.
#[derive(Debug, Clone)]
pub struct Append {
    /// The table.
    pub table: TableId,
    /// The partition.
    pub tp: TopicPartition,
    /// Claim epoch under which it was read.
    pub epoch: u64,
    /// Where the table stood.
    pub from: i64,
    /// Where it stands after this; ranges tile even where offsets have holes.
    pub to: i64,
    /// Rows with the table's schema; may be empty.
    pub batch: RecordBatch,
    /// How the records ended; `kept` is the number of rows.
    pub counts: ReadCounts,
    /// Rejected records ([`super::rejected_schema`]); may be empty.
    pub rejected: RecordBatch,
    /// Undeclared fields seen.
    pub fields: Vec<FieldSeen>,
    /// Identity of the log at `to`.
    pub identity: LogIdentity,
}

/// Whether reading may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressure {
    /// It may.
    Run,
    /// It must wait; the reason is for people.
    Pause {
        /// Why.
        reason: String,
    },
}

impl Append {
    fn check(&self, table: &CompiledTable) -> Result<()> {
        let name = table.def.qualified_name();
        if self.batch.schema_ref() != &table.appended {
            return Err(Error::internal(format!("append to table {name:?} has another schema")));
        }
        let kept = self.batch.num_rows() as u64;
        if kept != self.counts.kept
            || self.rejected.num_rows() as u64 != self.counts.rejected
            || self.to < self.from
        {
            return Err(Error::internal(format!(
                "append to table {name:?} counts {:?} over [{}, {}), but holds {kept} rows and {} rejected",
                self.counts,
                self.from,
                self.to,
                self.rejected.num_rows(),
            )));
        }
        Ok(())
    }
}

impl Dataset {
    /// Makes what was read visible, all of it in one step. Nothing is visible if one part is refused.
    pub fn append(&self, appends: Vec<Append>) -> Result<()> {
        if self.keyed_bytes() > self.options.flush.keyed_bytes {
            self.make_room();
        }
        let sealed = self.publish_appends(appends)?;
        // Outside the lock: states of a sealed chunk are computed once, here, so that no query waits.
        for (table, chunk) in sealed {
            for rollup in &table.rollups {
                chunk.states(rollup)?;
            }
        }
        self.make_room();
        if self.flush_due() {
            self.flush_wanted.notify_one();
        }
        Ok(())
    }

    fn publish_appends(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<(Arc<CompiledTable>, Arc<Chunk>)>> {
        let now_us = self.options.clock.now_us();
        let _guard = self.swap.lock();
        let old = self.version.load_full();
        let mut hot = (*old.hot).clone();
        let mut keyed = KeyedSet::clone(&old.keyed);
        let keyed_bytes = keyed.bytes();
        let mut sealed = Vec::new();
        let mut rows = 0;
        for mut append in appends {
            let Some(table) = old.catalog.table_by_id(append.table) else {
                return Err(Error::not_found(format!("table {:?} is not served", append.table)));
            };
            append.check(table)?;
            let committed = old
                .manifest
                .tables
                .get(&append.table)
                .and_then(|t| t.positions.get(&append.tp))
                .map(|p| p.offset);
            if table.shape.is_some() {
                self.append_keyed(&mut keyed, keyed_bytes, table, &mut append)?;
            }
            rows += append.counts.kept;
            let piece = Piece {
                range: OffsetRange { tp: append.tp, from: append.from, to: append.to },
                epoch: append.epoch,
                counts: append.counts,
                identity: append.identity,
                rejected: append.rejected,
                fields: append.fields,
            };
            let before = hot.table(append.table).map(|t| HotTable::clone(t)).unwrap_or_default();
            let (after, full) = before.with(table, append.batch, piece, committed, now_us)?;
            hot.set(append.table, after);
            sealed.extend(full.map(|chunk| (Arc::clone(table), chunk)));
        }
        self.counters.rows_appended.fetch_add(rows, Ordering::Relaxed);
        let next = Version { hot: Arc::new(hot), keyed: Arc::new(keyed), ..Version::clone(&old) };
        self.replace(next);
        Ok(sealed)
    }

    /// Why rows cannot be made durable now, if the last flush failed. They are tried again all the time.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Whether reading may go on: disk, a store that answers, memory, level-0 files. Causes come before what follows
    /// from them: rows wait in memory because the disk is full.
    pub fn pressure(&self) -> Pressure {
        let limits = &self.options.flush;
        let version = self.version.load();
        let pause = |reason: String| Pressure::Pause { reason };
        if let Some(free) = self.storage.free_bytes()
            && free < limits.disk_reserve_bytes
        {
            return pause(format!(
                "disk full: {free} bytes are free, {} are kept in reserve",
                limits.disk_reserve_bytes
            ));
        }
        let hot = version.hot.bytes();
        if hot > limits.all_bytes
            && let Some(trouble) = self.trouble.lock().as_ref()
        {
            return pause(trouble.clone());
        }
        if hot > limits.all_bytes.saturating_mul(2) {
            return pause(format!("{hot} bytes of hot rows wait to be written"));
        }
        for table in version.manifest.tables.values() {
            let fresh = table.files.iter().filter(|f| f.level == 0).count();
            if fresh >= limits.pause_files {
                let name = table.def.qualified_name();
                return pause(format!("{fresh} files of table {name:?} wait for compaction"));
            }
        }
        Pressure::Run
    }
}
