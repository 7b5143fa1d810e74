//! Answers that are given again: whole ones, to clients that say how old an answer may be
//! (`otus.cache_max_age`). Nobody else is given one, and nobody else's are kept.
//!
//! ```text
//!  key ─► young enough ──────────────────────────────► given again, nothing is planned
//!     └─► planned ─► tag: what the plan reads ─► same ─► given again: it is the answer of this moment too
//!                                             └► runs ─► passes through, copied within bounds ─► kept at its end
//! ```
//!
//! All answers are of one catalogue: another one lets them all go. Bounded in bytes, those under way included.

mod keep;
mod rows;
mod seen;
mod states;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use otus_engine::compiled::Catalog;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use crate::access::Identity;
use crate::outcome::Parameter;
use crate::rewrite::Report;
pub(crate) use keep::Keeping;
pub(crate) use rows::{BLOCK_ROWS, Block, Column, RowsCache, Shape};
pub(crate) use seen::{Seen, Tag, is_of_sources};
pub(crate) use states::StatesCache;

/// What one answer may have of all bytes: a dashboard has more than one query.
const ANSWER_SHARE: usize = 16;
/// What an answer takes besides its rows and its key, bytes.
const ENTRY_BYTES: usize = 1 << 10;

/// What must be equal for an answer to be given again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The way it was asked: SQL, or a pattern and its spellings.
    pub(crate) face: &'static str,
    /// The statement or the pattern.
    pub(crate) text: Arc<str>,
    /// With their types.
    pub(crate) params: Vec<Parameter>,
    pub(crate) user: String,
    /// What may be seen; none = all.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Values of the settings that change an answer.
    pub(crate) settings: Vec<String>,
}

impl Key {
    fn bytes(&self) -> usize {
        let params: usize = self.params.iter().map(|p| p.value.size()).sum();
        let settings: usize = self.settings.iter().map(String::len).sum();
        self.text.len() + self.user.len() + params + settings + ENTRY_BYTES
    }
}

/// What an answer is made of.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Rows, and what was told besides.
    Rows { schema: SchemaRef, batches: Arc<[RecordBatch]>, report: Report },
    /// The body of an answer to a pattern.
    Body(Bytes),
}

/// An answer that was kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) content: Content,
    /// The moment that it is of, microseconds.
    pub(crate) at_us: i64,
    /// The same as a number of a snapshot.
    pub(crate) sequence: u64,
    /// What it was read from; none = it hangs on more than that.
    pub(crate) tag: Option<Tag>,
}

impl Kept {
    /// Number of its rows.
    pub(crate) fn rows(&self) -> usize {
        match &self.content {
            Content::Rows { batches, .. } => batches.iter().map(RecordBatch::num_rows).sum(),
            Content::Body(_) => 0,
        }
    }

    /// How old it is; none if it is of a later moment than this.
    pub(crate) fn age(&self, now_us: i64) -> Option<Duration> {
        u64::try_from(now_us.checked_sub(self.at_us)?).ok().map(Duration::from_micros)
    }
}

/// Rows that are there already, as a stream.
pub(crate) fn stream_of(schema: &SchemaRef, batches: &[RecordBatch]) -> SendableRecordBatchStream {
    let rows = futures::stream::iter(batches.iter().cloned().map(Ok).collect::<Vec<_>>());
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows))
}

/// What the caches of a process have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheFigures {
    /// Answers that were given again.
    pub hits: u64,
    /// Questions whose client takes a kept answer, but that had to run.
    pub misses: u64,
    /// Bytes that are kept, answers under way included.
    pub bytes: usize,
    /// Answers that are kept.
    pub answers: usize,
    /// Bytes of states of small files that are kept decoded.
    pub states_bytes: usize,
    /// Bytes of raw rows that are kept decoded.
    pub rows_bytes: usize,
}

/// The answers that a process keeps.
#[derive(Debug)]
pub(crate) struct Answers {
    bytes_max: usize,
    /// Of this process alone, so that nobody can make two tags alike.
    seeds: [RandomState; 2],
    inner: Mutex<Inner>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// What all of them are answers over, when it was seen first, and its number.
    catalog: Option<(Arc<Catalog>, u64)>,
    epoch: u64,
    kept: HashMap<Arc<Key>, Entry>,
    /// Keys, oldest answer first.
    order: BTreeMap<u64, Arc<Key>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    bytes: usize,
    place: u64,
}

impl Answers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            seeds: [RandomState::new(), RandomState::new()],
            inner: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Most bytes of one answer.
    fn answer_bytes_max(&self) -> usize {
        self.bytes_max / ANSWER_SHARE
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        let inner = self.inner.lock();
        CacheFigures {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: inner.bytes,
            answers: inner.kept.len(),
            states_bytes: 0,
            rows_bytes: 0,
        }
    }

    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// For the plans of one statement.
    pub(crate) fn seen(&self) -> Seen {
        Seen::new(self.seeds.clone())
    }

    /// The answer under a key, if the definitions are those of the snapshot and it is at most `max_age` old.
    pub(crate) fn young(
        &self,
        key: &Key,
        snapshot: &Snapshot,
        now_us: i64,
        max_age: Duration,
    ) -> Option<Kept> {
        let mut inner = self.inner.lock();
        inner.epoch_of(snapshot)?;
        let kept = &inner.kept.get(key)?.kept;
        kept.age(now_us).filter(|age| *age <= max_age).map(|_| kept.clone())
    }

    /// The answer under a key if it was read from what `tag` stands for. It is one of the snapshot, too.
    pub(crate) fn same(&self, key: &Key, snapshot: &Snapshot, tag: Tag) -> Option<Kept> {
        let mut inner = self.inner.lock();
        inner.epoch_of(snapshot)?;
        let kept = &mut inner.kept.get_mut(key)?.kept;
        if kept.tag != Some(tag) {
            return None;
        }
        if kept.sequence <= snapshot.sequence() {
            kept.sequence = snapshot.sequence();
            kept.at_us = snapshot.pinned_at_us();
        }
        Some(kept.clone())
    }

    /// What tells one answer to a question from another; none where that cannot be told.
    pub(crate) fn tag(&self, key: &Key, snapshot: &Snapshot, seen: &Seen) -> Option<Tag> {
        self.name(snapshot, key, seen)
    }

    /// A name for whatever hangs on a question and on what was seen; none where that cannot be told.
    pub(crate) fn name(&self, snapshot: &Snapshot, asked: impl Hash, seen: &Seen) -> Option<Tag> {
        let sums = seen.sums()?;
        let epoch = self.inner.lock().epoch_of(snapshot)?;
        let [a, b] = &self.seeds;
        Some(Tag([a.hash_one((&asked, epoch, sums[0])), b.hash_one((&asked, epoch, sums[1]))]))
    }

    /// Keeps an answer, unless definitions have changed or a later one is there.
    fn keep(&self, key: Arc<Key>, kept: Kept, snapshot: &Snapshot, bytes: &mut usize) {
        let mut inner = self.inner.lock();
        if inner.epoch_of(snapshot).is_none() {
            return;
        }
        let later = |known: &Entry| known.kept.sequence > kept.sequence;
        if inner.kept.get(&key).is_some_and(later) {
            return;
        }
        inner.forget(&key);
        let (place, bytes) = (inner.next, std::mem::take(bytes));
        inner.next += 1;
        inner.order.insert(place, Arc::clone(&key));
        inner.kept.insert(key, Entry { kept, bytes, place });
    }
}

impl Inner {
    /// The number of the snapshot's catalogue, to which all answers belong from here on; none if there is a
    /// newer one.
    fn epoch_of(&mut self, snapshot: &Snapshot) -> Option<u64> {
        match &self.catalog {
            Some((known, _)) if known.is_same(snapshot.whole_catalog()) => return Some(self.epoch),
            Some((_, since)) if *since > snapshot.sequence() => return None,
            _ => {}
        }
        let entries: usize = self.kept.values().map(|entry| entry.bytes).sum();
        self.kept.clear();
        self.order.clear();
        self.bytes -= entries;
        self.epoch += 1;
        self.catalog = Some((Arc::clone(snapshot.whole_catalog()), snapshot.sequence()));
        Some(self.epoch)
    }

    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.kept.remove(key) {
            self.order.remove(&entry.place);
            self.bytes -= entry.bytes;
        }
    }

    /// Makes room for so many bytes; false if what is under way leaves none.
    fn reserve(&mut self, bytes: usize, most: usize) -> bool {
        while self.bytes.saturating_add(bytes) > most {
            let Some((_, oldest)) = self.order.pop_first() else { return false };
            self.forget(&oldest);
        }
        self.bytes += bytes;
        true
    }
}

/// Bytes of an answer under way, given back when it is dropped.
#[derive(Debug)]
struct Reserved {
    answers: Arc<Answers>,
    bytes: usize,
}

impl Reserved {
    fn grow(&mut self, bytes: usize) -> bool {
        let wanted = self.bytes.saturating_add(bytes);
        let fits = wanted <= self.answers.answer_bytes_max()
            && self.answers.inner.lock().reserve(bytes, self.answers.bytes_max);
        if fits {
            self.bytes = wanted;
        }
        fits
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.answers.inner.lock().bytes -= self.bytes;
    }
}
