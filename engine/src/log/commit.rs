//! The writer's side of the log. A commit is one put-if-absent of one object; whoever creates number N
//! decides what N is. While it is unknown whether our put took place, the same bytes are put at the same
//! number until it is known: a commit is never in the log twice, and none is lost that was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use uuid::Uuid;

use super::format::{encode_checkpoint, encode_entry};
use super::manifest::Manifest;
use super::op::{Entry, FORMAT, Note, Op};
use super::replay::{self, checkpoint_path, entry_path, follow, hint_path, load, read_entry};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::limits::{
    CHECKPOINT_EVERY, CHECKPOINTS_KEPT, COMMIT_RACES_MAX, LOG_RETENTION_US, LOG_STALE_US,
};
use crate::store::{Access, Storage, random_id};

/// How patient the log is. The defaults are for production.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Commits between two checkpoints.
    pub checkpoint_every: u64,
    /// Age below which no entry is deleted, microseconds.
    pub retention_us: i64,
    /// Longest that one put may take before its outcome counts as unknown.
    pub put_timeout: Duration,
    /// Puts of a commit in doubt before the caller is told.
    pub attempts: u32,
    /// Pause before the second put; doubled each time.
    pub backoff: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            checkpoint_every: CHECKPOINT_EVERY,
            retention_us: LOG_RETENTION_US,
            put_timeout: Duration::from_secs(20),
            attempts: 6,
            backoff: Duration::from_millis(50),
        }
    }
}

/// A commit that is in the log.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Number of its entry.
    pub number: u64,
    /// Its id.
    pub commit_id: Uuid,
    /// The state right after it.
    pub manifest: Arc<Manifest>,
}

/// The one writer of a process.
#[derive(Debug)]
pub struct CommitLog {
    storage: Storage,
    member: String,
    clock: Arc<dyn Clock>,
    settings: LogSettings,
    manifest: Arc<Manifest>,
    /// Number of the newest checkpoint known.
    checkpoint: u64,
    /// When the tail was last read, microseconds.
    read_at_us: i64,
    pending: Option<Pending>,
}

/// A commit that is under way, or in doubt.
#[derive(Debug)]
struct Pending {
    commit_id: Uuid,
    ops: Vec<Op>,
    notes: Vec<Note>,
    placed: Option<Placed>,
    /// A put at this number may still be on its way.
    doubted: bool,
}

/// A commit for which a number was chosen.
#[derive(Debug, Clone)]
struct Placed {
    number: u64,
    bytes: Bytes,
    next: Arc<Manifest>,
}

/// How a put ended, as far as can be told.
enum Outcome {
    Ours,
    Theirs(Box<Entry>),
    Unknown(Error),
}

impl CommitLog {
    /// Reads the log and opens it for writing. `member` names this process in entries.
    pub async fn open(
        storage: Storage,
        member: String,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Arc<Manifest>)> {
        Self::open_with(storage, member, clock, LogSettings::default()).await
    }

    /// As [`open`](Self::open), with settings.
    pub async fn open_with(
        storage: Storage,
        member: String,
        clock: Arc<dyn Clock>,
        settings: LogSettings,
    ) -> Result<(Self, Arc<Manifest>)> {
        let read_at_us = clock.now_us();
        let loaded = load(storage.store()).await?;
        let manifest = Arc::new(loaded.manifest);
        let checkpoint = loaded.checkpoint;
        let pending = None;
        let shared = Arc::clone(&manifest);
        let log =
            Self { storage, member, clock, settings, manifest, checkpoint, read_at_us, pending };
        Ok((log, shared))
    }

    /// The state after the last entry that this process has read or written.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest)
    }

    /// Operations of the commit whose outcome is unknown, if there is one. None of the files it adds may
    /// be deleted until [`resolve`](Self::resolve) has said what became of it.
    pub fn in_doubt(&self) -> Option<&[Op]> {
        self.pending.as_ref().map(|pending| pending.ops.as_slice())
    }

    /// Commits `ops` as one step. An earlier commit in doubt is resolved first.
    ///
    /// `Busy`: refused on the newest state, nothing was written, and it never will be. `Full`: no space,
    /// nothing was written. `Unavailable`: unknown; see [`in_doubt`](Self::in_doubt). A caller that stops
    /// waiting leaves its commit in doubt.
    pub async fn commit(&mut self, ops: Vec<Op>) -> Result<Committed> {
        self.commit_noted(ops, Vec::new()).await
    }

    /// As [`commit`](Self::commit), with who changed which definitions by it.
    pub async fn commit_noted(&mut self, ops: Vec<Op>, notes: Vec<Note>) -> Result<Committed> {
        if self.storage.access() == Access::ReadOnly {
            return Err(Error::invalid("the dataset was opened for reading only"));
        }
        match self.resolve().await {
            Err(e) if e.kind() != ErrorKind::Busy => return Err(e),
            _ => {}
        }
        self.reopen_if_stale().await?;
        let commit_id = random_id();
        self.pending = Some(Pending { commit_id, ops, notes, placed: None, doubted: false });
        self.drive().await
    }

    /// Finds out what became of a commit in doubt, going on with it if nothing did. `None`: there was
    /// none. `Busy`: it lost its number to another commit and is refused since.
    pub async fn resolve(&mut self) -> Result<Option<Committed>> {
        if self.pending.is_none() {
            return Ok(None);
        }
        self.reopen_if_stale().await?;
        self.drive().await.map(Some)
    }

    /// Reads what others have written.
    pub async fn refresh(&mut self) -> Result<Arc<Manifest>> {
        self.reopen_if_stale().await?;
        let now_us = self.clock.now_us();
        while let Some(entry) = self.read_next().await? {
            if self.pending.as_ref().is_some_and(|p| p.commit_id == entry.commit_id) {
                // Ours after all; `resolve` tells whoever waits for it.
                break;
            }
            self.follow(&entry)?;
        }
        self.read_at_us = now_us;
        Ok(self.manifest())
    }

    async fn read_next(&self) -> Result<Option<Entry>> {
        read_entry(self.store(), self.manifest.number + 1).await
    }

    fn store(&self) -> &dyn ObjectStore {
        self.storage.store().as_ref()
    }

    /// Another's entry comes next; a commit of ours needs another number.
    fn follow(&mut self, entry: &Entry) -> Result<()> {
        self.manifest = Arc::new(follow(&self.manifest, entry)?);
        if let Some(pending) = &mut self.pending {
            (pending.placed, pending.doubted) = (None, false);
        }
        Ok(())
    }

    /// Entries that others deleted since would look like free numbers to a writer that slept.
    async fn reopen_if_stale(&mut self) -> Result<()> {
        let now_us = self.clock.now_us();
        if now_us.saturating_sub(self.read_at_us) < LOG_STALE_US {
            return Ok(());
        }
        let loaded = load(self.storage.store()).await?;
        if loaded.manifest.number < self.manifest.number {
            return Err(Error::corrupt(format!(
                "the log ends at {}, but entry {} was read from it before",
                loaded.manifest.number, self.manifest.number
            )));
        }
        self.checkpoint = loaded.checkpoint;
        if let Some(placed) = self.pending.as_ref().and_then(|p| p.placed.clone())
            && placed.number <= loaded.manifest.number
        {
            return self.settle_stale(placed, loaded.manifest).await;
        }
        self.manifest = Arc::new(loaded.manifest);
        self.read_at_us = now_us;
        Ok(())
    }

    /// A commit was in doubt for so long that others have gone on. Step to just before its number, so
    /// that the usual way finds it or finds another's.
    async fn settle_stale(&mut self, placed: Placed, newest: Manifest) -> Result<()> {
        if read_entry(self.store(), placed.number).await?.is_none() {
            return Err(Error::corrupt(format!(
                "log entry {:?} is gone before it was known whether it is ours",
                entry_path(placed.number).as_ref()
            ))
            .with_hint("restart this process; it goes on from what is committed"));
        }
        // The entry is there, so is everything after it; reading on from here is safe.
        tracing::info!(number = placed.number, newest = newest.number, "reading on in doubt");
        self.read_at_us = self.clock.now_us();
        Ok(())
    }

    /// Brings the pending commit to an end, known or unknown.
    async fn drive(&mut self) -> Result<Committed> {
        let (mut races, mut attempts, mut pause) = (0, 0, self.settings.backoff);
        loop {
            let placed = self.place()?;
            match self.put(&placed).await {
                Outcome::Ours => return Ok(self.finish(placed).await),
                Outcome::Theirs(entry) => {
                    self.follow(&entry)?;
                    races += 1;
                    if races >= COMMIT_RACES_MAX {
                        self.pending = None;
                        let text = format!("commit lost its number {races} times to others");
                        return Err(Error::busy(text));
                    }
                }
                Outcome::Unknown(e) => {
                    if e.kind() == ErrorKind::Corrupt {
                        return Err(e);
                    }
                    if let Some(full) = self.give_up_if_full(&placed, &e).await {
                        return Err(full);
                    }
                    if let Some(pending) = &mut self.pending {
                        pending.doubted = true;
                    }
                    attempts += 1;
                    tracing::warn!(number = placed.number, attempts, error = %e, "commit in doubt");
                    if attempts >= self.settings.attempts {
                        let text = format!("the outcome of commit {} is unknown", placed.number);
                        return Err(Error::unavailable(text).with_source(e));
                    }
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
    }

    /// Chooses a number and the bytes, unless that was done. A refusal ends the commit.
    fn place(&mut self) -> Result<Placed> {
        let Some(pending) = &mut self.pending else {
            return Err(Error::internal("there is no commit to place"));
        };
        if let Some(placed) = &pending.placed {
            return Ok(placed.clone());
        }
        let entry = Entry {
            format: FORMAT,
            number: self.manifest.number + 1,
            commit_id: pending.commit_id,
            member: self.member.clone(),
            at_us: self.clock.now_us(),
            ops: pending.ops.clone(),
            notes: pending.notes.clone(),
        };
        let next = self.manifest.apply(&entry);
        match next.and_then(|next| Ok((encode_entry(&entry)?, next))) {
            Ok((bytes, next)) => {
                let placed = Placed { number: entry.number, bytes, next: Arc::new(next) };
                pending.placed = Some(placed.clone());
                Ok(placed)
            }
            Err(e) => {
                self.pending = None;
                Err(e)
            }
        }
    }

    async fn put(&self, placed: &Placed) -> Outcome {
        let path = entry_path(placed.number);
        let payload = PutPayload::from_bytes(placed.bytes.clone());
        let put = self.store().put_opts(&path, payload, PutMode::Create.into());
        let result = tokio::time::timeout(self.settings.put_timeout, put).await;
        match result {
            Ok(Ok(_)) if failpoint::fires("commit.ack_lost") => {
                Outcome::Unknown(Error::unavailable("acknowledgement lost by a failpoint"))
            }
            Ok(Ok(_)) => Outcome::Ours,
            Ok(Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            )) => self.examine(placed).await,
            Ok(Err(e)) => Outcome::Unknown(e.into()),
            Err(_) => Outcome::Unknown(Error::unavailable("the store does not answer")),
        }
    }

    /// The number is taken: by us, if an acknowledgement was lost, or by another.
    async fn examine(&self, placed: &Placed) -> Outcome {
        let ours = self.pending.as_ref().map(|p| p.commit_id);
        match read_entry(self.store(), placed.number).await {
            Ok(Some(entry)) if Some(entry.commit_id) == ours => Outcome::Ours,
            Ok(Some(entry)) => Outcome::Theirs(Box::new(entry)),
            // Taken and yet not there: nothing was written; put again.
            Ok(None) => Outcome::Unknown(Error::unavailable("the store contradicts itself")),
            Err(e) => Outcome::Unknown(e),
        }
    }

    /// No space left, and nothing was written: known, unless an earlier put is still on its way.
    async fn give_up_if_full(&mut self, placed: &Placed, e: &Error) -> Option<Error> {
        if e.kind() != ErrorKind::Full || self.pending.as_ref().is_none_or(|p| p.doubted) {
            return None;
        }
        match read_entry(self.store(), placed.number).await {
            Ok(None) => {
                self.pending = None;
                Some(Error::full(format!("no space for commit {}: {e}", placed.number)))
            }
            _ => None,
        }
    }

    async fn finish(&mut self, placed: Placed) -> Committed {
        let commit_id = self.pending.take().map_or(Uuid::nil(), |p| p.commit_id);
        self.manifest = placed.next;
        self.read_at_us = self.clock.now_us();
        let due = self.checkpoint.saturating_add(self.settings.checkpoint_every);
        if self.manifest.number >= due
            && let Err(e) = self.checkpoint().await
        {
            // The commit stands; the next one tries again.
            tracing::warn!(number = placed.number, error = %e, "checkpoint failed");
        }
        Committed { number: placed.number, commit_id, manifest: self.manifest() }
    }

    /// Writes the current state as a checkpoint, then deletes what nobody needs any more.
    pub async fn checkpoint(&mut self) -> Result<()> {
        let manifest = self.manifest();
        let number = manifest.number;
        if number == self.checkpoint {
            return Ok(());
        }
        let encode = tokio::task::spawn_blocking(move || encode_checkpoint(&manifest));
        let bytes = encode
            .await
            .map_err(|e| Error::internal("encoding a checkpoint failed").with_source(e))??;
        let path = checkpoint_path(number);
        let put = self.store().put_opts(&path, bytes.into(), PutMode::Create.into());
        match self.in_time(put).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        self.checkpoint = number;
        failpoint::hit("checkpoint.written");
        let (path, hint) = (hint_path(), PutPayload::from(number.to_string()));
        self.in_time(self.store().put(&path, hint)).await?;
        self.trim().await
    }

    /// Deletes all but the newest checkpoints, and entries that those hold and that are old enough.
    async fn trim(&self) -> Result<()> {
        let listing = replay::list(self.store(), None).await?;
        let kept = listing.checkpoints.len().saturating_sub(CHECKPOINTS_KEPT);
        let (old, kept) = listing.checkpoints.split_at(kept);
        // What the oldest checkpoint kept does not hold stays, so that one may fall back on it.
        let Some(&covered) = kept.first() else { return Ok(()) };
        // A test cannot wait for a week.
        let retention_us = match failpoint::is_armed("trim.at_once") {
            true => 0,
            false => self.settings.retention_us,
        };
        let horizon_us = self.clock.now_us().saturating_sub(retention_us);
        let entries = listing.entries.iter();
        let entries = entries.filter(|(number, meta)| {
            *number <= covered && meta.last_modified.timestamp_micros() < horizon_us
        });
        let paths = entries.map(|(_, meta)| meta.location.clone());
        for path in paths.chain(old.iter().map(|number| checkpoint_path(*number))) {
            match self.in_time(self.store().delete(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            failpoint::hit("trim.deleted");
        }
        Ok(())
    }

    /// A store may never answer; whoever holds the log must not wait for ever.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        match tokio::time::timeout(self.settings.put_timeout, call).await {
            Ok(answer) => answer,
            Err(e) => Err(object_store::Error::Generic { store: "log", source: Box::new(e) }),
        }
    }
}
