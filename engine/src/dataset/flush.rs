//! Flushing: hot rows, their rollup states, rejected records and positions become durable in one commit
//! (invariants I1 and I2), and leave memory in the same move of the pointer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;

use super::{Dataset, rejected_schema};
use crate::catalog::TableId;
use crate::compiled::CompiledTable;
use crate::error::{Error, ErrorKind, Result};
use crate::hot::{Chunk, HotSet, HotTable};
use crate::log::op::{FieldSeen, FileEntry, Op, Target};
use crate::order::sort_batches;
use crate::position::{OffsetRange, TopicPartition};
use crate::segment::{SegmentOptions, latest_only, write_segment};
use crate::snapshot::Version;

/// How often the flusher looks at the age of hot rows.
const FLUSH_TICK: Duration = Duration::from_millis(500);
/// Longest wait after failed flushes.
const FLUSH_RETRY_MAX: Duration = Duration::from_secs(10);

/// Sealed hot rows of one table, on their way to disk.
struct Cut {
    table: Arc<CompiledTable>,
    chunks: Vec<Arc<Chunk>>,
}

/// What a cut says of one partition.
#[derive(Debug)]
struct Advance {
    op: Op,
    range: OffsetRange,
}

impl Dataset {
    /// Writes hot rows whenever a limit is reached, until `stop` is true. Failures are kept as back-pressure
    /// and tried again.
    pub async fn run_flusher(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut wait = FLUSH_TICK;
        while !*stop.borrow() {
            let ailing = self.trouble().is_some();
            tokio::select! {
                () = self.flush_wanted.notified(), if !ailing => {}
                () = tokio::time::sleep(wait) => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            // After a failure whatever its rows' age: only a flush that succeeds shows that the trouble is over.
            let result = match (ailing, self.flush_due()) {
                (true, _) => self.flush().await,
                (false, true) => self.flush_tables(|version, id| self.is_due(version, id)).await,
                (false, false) => Ok(None),
            };
            wait = match result {
                Ok(_) => FLUSH_TICK,
                Err(error) => {
                    tracing::warn!(%error, "flush failed, will be tried again");
                    (wait * 2).min(FLUSH_RETRY_MAX)
                }
            };
        }
    }

    /// Flushes if a limit is reached and no flush is under way.
    pub async fn maybe_flush(&self) -> Result<()> {
        if self.flush_due() && self.flushing.try_lock().is_ok() {
            self.flush_tables(|version, id| self.is_due(version, id)).await?;
        }
        Ok(())
    }

    /// Writes everything hot. The number of the commit, or none if nothing was hot.
    pub async fn flush(&self) -> Result<Option<u64>> {
        self.flush_tables(|_, _| true).await
    }

    /// Whether a limit is reached.
    pub(crate) fn flush_due(&self) -> bool {
        let version = self.version.load();
        version.hot.bytes() >= self.options.flush.all_bytes
            || version.hot.tables().any(|(id, _)| self.is_due(&version, *id))
    }

    fn is_due(&self, version: &Version, id: TableId) -> bool {
        let limits = &self.options.flush;
        let Some(hot) = version.hot.table(id) else { return false };
        let Some(oldest) = hot.oldest_us() else { return false };
        let age = self.options.clock.now_us().saturating_sub(oldest);
        let patience =
            if hot.rows() < limits.small_rows { limits.age_small_us } else { limits.age_us };
        hot.bytes() >= limits.table_bytes
            || version.hot.bytes() >= limits.all_bytes
            || age >= patience
    }

    async fn flush_tables(
        &self,
        wanted: impl Fn(&Version, TableId) -> bool,
    ) -> Result<Option<u64>> {
        let _flushing = self.flushing.lock().await;
        let result = self.flush_locked(wanted).await;
        if let Err(error) = &result {
            self.counters.flush_failures.fetch_add(1, Ordering::Relaxed);
            *self.trouble.lock() = Some(format!("hot rows cannot be written: {error}"));
        } else {
            *self.trouble.lock() = None;
        }
        result
    }

    async fn flush_locked(
        &self,
        wanted: impl Fn(&Version, TableId) -> bool,
    ) -> Result<Option<u64>> {
        // What an earlier flush left in doubt may be in the log: its rows must not be written again.
        self.settle().await?;
        loop {
            let cuts = self.cut(&wanted);
            if cuts.is_empty() {
                return Ok(None);
            }
            match self.write_and_commit(&cuts).await {
                Ok(number) => return Ok(Some(number)),
                // A partition was lost: the flush is void, and is built again from what is still ours.
                Err(error) if error.kind() == ErrorKind::Busy && self.drop_lost().await? => {
                    tracing::warn!(%error, "a flush lost a partition and is built again without it");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Seals the open chunks of the wanted tables and takes all their chunks.
    fn cut(&self, wanted: &impl Fn(&Version, TableId) -> bool) -> Vec<Cut> {
        let _guard = self.swap.lock();
        let old = self.version.load_full();
        let mut hot = HotSet::clone(&old.hot);
        let mut cuts = Vec::new();
        for (id, rows) in old.hot.tables() {
            let Some(table) = old.catalog.table_by_id(*id) else { continue };
            if rows.chunks().is_empty() || !wanted(&old, *id) {
                continue;
            }
            cuts.push(Cut { table: Arc::clone(table), chunks: rows.chunks().to_vec() });
            hot.set(*id, HotTable::sealed(rows));
        }
        if !cuts.is_empty() {
            self.replace(Version { hot: Arc::new(hot), ..Version::clone(&old) });
        }
        cuts
    }

    async fn write_and_commit(&self, cuts: &[Cut]) -> Result<u64> {
        let now_us = self.options.clock.now_us();
        let mut ops = Vec::new();
        let mut bytes = 0;
        let mut rows = 0;
        for cut in cuts {
            let advances = advances(cut);
            let ranges: Vec<_> = advances.iter().map(|a| a.range.clone()).collect();
            for file in self.write_table(cut, &ranges, now_us).await? {
                bytes += file.bytes;
                rows += if matches!(file.target, Target::Raw(_)) { file.rows } else { 0 };
                self.own_file(&cut.table, &file);
                ops.push(Op::AddFile { file });
            }
            ops.extend(advances.into_iter().map(|a| a.op));
            ops.extend(fields(cut));
        }
        if let Some(file) = self.write_rejected(cuts, now_us).await? {
            ops.push(Op::AddFile { file });
        }
        crate::failpoint::hit("flush.files_written");
        let number = self.commit(ops).await?;
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.rows_flushed.fetch_add(rows, Ordering::Relaxed);
        self.counters.bytes_flushed.fetch_add(bytes, Ordering::Relaxed);
        tracing::debug!(number, rows, bytes, "flushed");
        Ok(number)
    }

    /// One raw file and one file per rollup with states of it at its finest granularity, written side by side.
    async fn write_table(
        &self,
        cut: &Cut,
        ranges: &[OffsetRange],
        now_us: i64,
    ) -> Result<Vec<FileEntry>> {
        if cut.chunks.iter().all(|c| c.rows() == 0) {
            return Ok(Vec::new());
        }
        let mut jobs = tokio::task::JoinSet::new();
        for rollup in std::iter::once(None).chain((0..cut.table.rollups.len()).map(Some)) {
            let storage = self.storage.clone();
            let (table, chunks) = (Arc::clone(&cut.table), cut.chunks.clone());
            let ranges = ranges.to_vec();
            jobs.spawn(async move {
                match rollup {
                    None => write_raw(&storage, &table, &chunks, ranges, now_us).await.map(Some),
                    Some(i) => write_states(&storage, &table, i, &chunks, ranges, now_us).await,
                }
            });
        }
        let mut files = Vec::new();
        while let Some(done) = jobs.join_next().await {
            files.extend(done.map_err(|e| Error::internal("a flush task ended").with_source(e))??);
        }
        Ok(files)
    }

    async fn write_rejected(&self, cuts: &[Cut], now_us: i64) -> Result<Option<FileEntry>> {
        let pieces = || cuts.iter().flat_map(|c| &c.chunks).flat_map(|c| c.pieces());
        let batches: Vec<RecordBatch> =
            pieces().map(|p| &p.rejected).filter(|b| b.num_rows() > 0).cloned().collect();
        if batches.is_empty() {
            return Ok(None);
        }
        let with_rejected = pieces().filter(|p| p.rejected.num_rows() > 0);
        let ranges = with_rejected.map(|p| p.range.clone()).collect();
        let schema = rejected_schema();
        let options = SegmentOptions {
            level: 0,
            sorted_by: Vec::new(),
            bloom: Vec::new(),
            time_column: "ingested_at".into(),
        };
        let dir = "rejected";
        let written =
            write_segment(&self.storage, dir, now_us / 1000, &schema, &batches, &options).await?;
        Ok(Some(written.into_entry(Target::Rejected, 1, ranges, now_us)))
    }

    /// Removes hot rows of partitions whose claim is no longer ours; whether there were any.
    async fn drop_lost(&self) -> Result<bool> {
        self.refresh().await?;
        let version = self.version.load_full();
        let claims = &version.manifest.claims;
        let mut lost: Vec<TopicPartition> = Vec::new();
        for (_, rows) in version.hot.tables() {
            for piece in rows.chunks().iter().flat_map(|c| c.pieces()) {
                let current = claims.get(&piece.range.tp);
                let ours = current
                    .is_some_and(|c| c.epoch == piece.epoch && c.member == self.options.member);
                if !ours && !lost.contains(&piece.range.tp) {
                    lost.push(piece.range.tp.clone());
                }
            }
        }
        self.drop_hot_rows(&|_, tp| lost.contains(tp))?;
        Ok(!lost.is_empty())
    }
}

async fn write_raw(
    storage: &crate::store::Storage,
    table: &CompiledTable,
    chunks: &[Arc<Chunk>],
    ranges: Vec<OffsetRange>,
    now_us: i64,
) -> Result<FileEntry> {
    let batches: Vec<_> = chunks.iter().flat_map(|c| c.batches()).cloned().collect();
    let options = table.raw_options(0);
    let keys: Vec<&str> = options.sorted_by.iter().map(String::as_str).collect();
    let sorted = sort_batches(&table.stored, &batches, &keys)?;
    let sorted = if table.shape.is_some() { latest_only(table, sorted)? } else { sorted };
    let dir = table.raw_dir();
    let written =
        write_segment(storage, &dir, now_us / 1000, &table.stored, &[sorted], &options).await?;
    Ok(written.into_entry(Target::Raw(table.id), table.schema_id, ranges, now_us))
}

/// None if the rollup's filter is true for no row: what it covers is told by offsets, not by files.
async fn write_states(
    storage: &crate::store::Storage,
    table: &CompiledTable,
    index: usize,
    chunks: &[Arc<Chunk>],
    ranges: Vec<OffsetRange>,
    now_us: i64,
) -> Result<Option<FileEntry>> {
    let rollup = &table.rollups[index];
    let rows = chunks.iter().filter(|c| c.rows() > 0);
    let parts = rows.map(|c| c.states(rollup)).collect::<Result<Vec<_>>>()?;
    let granularity = rollup.def.finest();
    let merged = rollup.plan.merge(granularity, &parts)?;
    if merged.num_rows() == 0 {
        return Ok(None);
    }
    let options = rollup.options(0);
    let (dir, schema) = (rollup.dir(table.id), rollup.plan.schema());
    let written = write_segment(storage, &dir, now_us / 1000, schema, &[merged], &options).await?;
    let target = Target::Rollup { id: rollup.id, granularity };
    Ok(Some(written.into_entry(target, 1, ranges, now_us)))
}

/// Position moves of a cut: pieces of one partition follow one another, so they fold into one move.
fn advances(cut: &Cut) -> Vec<Advance> {
    let mut moves: Vec<Advance> = Vec::new();
    for piece in cut.chunks.iter().flat_map(|c| c.pieces()) {
        let last =
            moves.iter_mut().find(|m| m.range.tp == piece.range.tp && m.epoch() == piece.epoch);
        match last {
            Some(Advance { op: Op::Advance { to, counts, identity, .. }, range }) => {
                *to = piece.range.to;
                range.to = piece.range.to;
                counts.add(&piece.counts);
                *identity = piece.identity.clone();
            }
            _ => moves.push(Advance {
                range: piece.range.clone(),
                op: Op::Advance {
                    table: cut.table.id,
                    tp: piece.range.tp.clone(),
                    epoch: piece.epoch,
                    from: piece.range.from,
                    to: piece.range.to,
                    counts: piece.counts,
                    identity: piece.identity.clone(),
                },
            }),
        }
    }
    moves
}

impl Advance {
    fn epoch(&self) -> u64 {
        match &self.op {
            Op::Advance { epoch, .. } => *epoch,
            _ => 0,
        }
    }
}

fn fields(cut: &Cut) -> Option<Op> {
    let mut seen: Vec<FieldSeen> = Vec::new();
    let pieces = cut.chunks.iter().flat_map(|c| c.pieces());
    FieldSeen::add_all(&mut seen, pieces.flat_map(|p| &p.fields));
    (!seen.is_empty()).then_some(Op::Fields { table: cut.table.id, fields: seen })
}
