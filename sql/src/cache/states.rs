//! Rows of small files of states, kept decoded. A file never changes, and a dashboard reads the same ones with
//! every question: opening one costs more than all of its rows. Bounded in bytes; what was not asked for
//! longest goes first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use futures::stream::{self, StreamExt};
use otus_engine::log::op::FileEntry;
use otus_engine::segment::read_segment;
use otus_engine::snapshot::Snapshot;
use otus_engine::store::Storage;
use parking_lot::Mutex;

/// Bytes of a file from which on it is read as any other: pruning inside it pays.
const FILE_BYTES: u64 = 256 << 10;
/// What the files that one scan misses may have of all bytes, decoded perhaps four times as many.
const MISSED_SHARE: u64 = 16;
/// Files that are read at a time.
const READS: usize = 8;

/// The files that a process keeps, by path.
#[derive(Debug)]
pub(crate) struct StatesCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<String, Kept>,
    bytes: usize,
    /// Counts questions, for the order in which files were last asked for.
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    rows: RecordBatch,
    bytes: usize,
    turn: u64,
}

impl StatesCache {
    /// A cache of so many bytes; 0 = nothing is kept.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// That of a session, if it has one.
    pub(crate) fn of(session: &dyn Session) -> Option<Arc<Self>> {
        session.config().get_extension::<Self>()
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    /// Rows of the small ones among `files` under `schema`, of which those not at hand are read now, and the
    /// files that are left to be read by the scan.
    pub(crate) async fn take(
        &self,
        snapshot: &Snapshot,
        schema: &SchemaRef,
        files: Vec<Arc<FileEntry>>,
    ) -> (Vec<Arc<FileEntry>>, Vec<RecordBatch>) {
        let (mut rows, mut rest, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut inner = self.inner.lock();
            inner.turn += 1;
            for file in files {
                if file.bytes > FILE_BYTES {
                    rest.push(file);
                    continue;
                }
                match inner.get(&file.path, schema) {
                    Some(kept) => rows.push(kept),
                    None => missed.push(file),
                }
            }
        }
        let wanted: u64 = missed.iter().map(|file| file.bytes).sum();
        if wanted > self.bytes_max as u64 / MISSED_SHARE {
            rest.append(&mut missed);
        }
        let mut reads = stream::iter(missed)
            .map(|file| async { (read(snapshot.storage(), schema, &file).await, file) })
            .buffered(READS);
        while let Some((read, file)) = reads.next().await {
            match read {
                Some(read) => {
                    self.keep(&file.path, &read);
                    rows.push(read);
                }
                // The scan of the file says what is wrong with it.
                None => rest.push(file),
            }
        }
        (rest, rows)
    }

    fn keep(&self, path: &str, rows: &RecordBatch) {
        let bytes = rows.get_array_memory_size() + path.len() + size_of::<Kept>();
        let mut inner = self.inner.lock();
        if let Some(old) = inner.files.remove(path) {
            inner.bytes -= old.bytes;
        }
        if inner.bytes + bytes > self.bytes_max {
            inner.make_room(self.bytes_max - self.bytes_max / 8);
        }
        // What the same question asked for stays: it would take the place of each other every time.
        if inner.bytes + bytes <= self.bytes_max {
            let kept = Kept { rows: rows.clone(), bytes, turn: inner.turn };
            inner.files.insert(path.to_owned(), kept);
            inner.bytes += bytes;
        }
    }
}

impl Inner {
    fn get(&mut self, path: &str, schema: &SchemaRef) -> Option<RecordBatch> {
        let turn = self.turn;
        let kept = self.files.get_mut(path)?;
        // A measure may have been added since.
        if kept.rows.schema_ref() != schema {
            return None;
        }
        kept.turn = turn;
        Some(kept.rows.clone())
    }

    /// Forgets what earlier questions asked for, the longest ago first, until no more than `bytes` are left.
    fn make_room(&mut self, bytes: usize) {
        let earlier = self.files.values().filter(|kept| kept.turn < self.turn);
        let mut turns: Vec<(u64, usize)> = earlier.map(|kept| (kept.turn, kept.bytes)).collect();
        turns.sort_unstable();
        let (mut left, mut before) = (self.bytes, 0);
        for (turn, size) in turns {
            if left <= bytes {
                break;
            }
            (left, before) = (left - size, turn + 1);
        }
        self.files.retain(|_, kept| kept.turn >= before);
        self.bytes = self.files.values().map(|kept| kept.bytes).sum();
    }
}

/// All rows of a file; none if it cannot be read.
async fn read(storage: &Storage, schema: &SchemaRef, file: &FileEntry) -> Option<RecordBatch> {
    let batches = read_segment(storage, file, schema, None).await.ok()?;
    let rows = concat_batches(schema, &batches).ok()?;
    (rows.num_rows() as u64 == file.rows).then_some(rows)
}
