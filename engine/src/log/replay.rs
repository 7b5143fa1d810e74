//! Reading the log: newest checkpoint, then every entry after it. A hole, an entry that cannot follow
//! its predecessor, an unknown operation or format, a bad checksum: each is fatal and names the file.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::format::{decode_checkpoint, decode_entry};
use super::manifest::Manifest;
use super::op::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Storage;

/// Folder of the log.
pub const LOG_FOLDER: &str = "_log";
/// Advisory object that holds the number of a recent checkpoint, so that opening need not list all.
pub(super) const HINT_FILE: &str = "_latest";
const ENTRY_SUFFIX: &str = ".json";
const CHECKPOINT_SUFFIX: &str = ".checkpoint";
/// Entries read at the same time.
const READS: usize = 16;
/// Times that opening starts over because a checkpoint was replaced under it.
const LOAD_ATTEMPTS: usize = 3;

/// Path of entry `number`.
pub fn entry_path(number: u64) -> Path {
    Path::from_iter([LOG_FOLDER, &format!("{number:020}{ENTRY_SUFFIX}")])
}

/// Path of the checkpoint that holds all up to entry `number`.
pub fn checkpoint_path(number: u64) -> Path {
    Path::from_iter([LOG_FOLDER, &format!("{number:020}{CHECKPOINT_SUFFIX}")])
}

/// Path of the hint.
pub(super) fn hint_path() -> Path {
    Path::from_iter([LOG_FOLDER, HINT_FILE])
}

/// What lies in the log's folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Numbers of entries, rising, with their objects.
    pub(super) entries: Vec<(u64, ObjectMeta)>,
    /// Numbers of checkpoints, rising.
    pub(super) checkpoints: Vec<u64>,
}

/// The state that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// Number of the checkpoint it began from; 0 = none.
    pub(super) checkpoint: u64,
}

/// The newest state, for those who only look.
pub async fn read_manifest(storage: &Storage) -> Result<Manifest> {
    Ok(load(storage.store()).await?.manifest)
}

/// Entries that the log still has, from number `from` on, at most `limit`, rising.
pub async fn read_entries(storage: &Storage, from: u64, limit: usize) -> Result<Vec<Entry>> {
    let store = storage.store();
    let listing = list(store.as_ref(), None).await?;
    let numbers = listing.entries.into_iter().map(|(number, _)| number);
    let numbers: Vec<u64> = numbers.filter(|number| *number >= from).take(limit).collect();
    let read = stream::iter(numbers)
        .map(|number| async move { read_entry(store.as_ref(), number).await })
        .buffered(READS);
    let found: Vec<Option<Entry>> = read.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Lists the log, from checkpoint `from` on if given.
pub(super) async fn list(store: &dyn ObjectStore, from: Option<u64>) -> Result<Listing> {
    let folder = Path::from(LOG_FOLDER);
    let mut objects = match from {
        // Names sort before their own suffixes, so this offset excludes nothing of its number.
        Some(number) => {
            let offset = Path::from_iter([LOG_FOLDER, &format!("{number:020}")]);
            store.list_with_offset(Some(&folder), &offset)
        }
        None => store.list(Some(&folder)),
    };
    let mut listing = Listing::default();
    // An empty folder lists as nothing; "not found" here means that the bucket itself is not there.
    let cannot = |e| Error::unavailable("the log cannot be listed").with_source(e);
    while let Some(meta) = objects.try_next().await.map_err(cannot)? {
        let name = meta.location.filename().unwrap_or_default();
        if let Some(number) = number_of(name, ENTRY_SUFFIX) {
            listing.entries.push((number, meta));
        } else if let Some(number) = number_of(name, CHECKPOINT_SUFFIX) {
            listing.checkpoints.push(number);
        } else if name != HINT_FILE {
            tracing::warn!(object = %meta.location, "unknown object in the log's folder");
        }
    }
    listing.entries.sort_by_key(|(number, _)| *number);
    listing.checkpoints.sort_unstable();
    Ok(listing)
}

fn number_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Reads the whole state.
pub(super) async fn load(store: &Arc<dyn ObjectStore>) -> Result<Loaded> {
    let mut attempt = 1;
    loop {
        match try_load(store).await {
            // Listed, then gone: another process made a newer checkpoint and tidied up.
            Err(e) if e.kind() == ErrorKind::NotFound && attempt < LOAD_ATTEMPTS => attempt += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(
                    Error::corrupt("the log changes faster than it can be read").with_source(e)
                );
            }
            other => return other,
        }
    }
}

async fn try_load(store: &Arc<dyn ObjectStore>) -> Result<Loaded> {
    let hint = read_hint(store.as_ref()).await;
    let mut listing = list(store.as_ref(), hint).await?;
    if hint.is_some() && listing.checkpoints.is_empty() {
        // The hint is advice only; without its checkpoint, look at everything.
        listing = list(store.as_ref(), None).await?;
    }
    let checkpoint = listing.checkpoints.last().copied().unwrap_or(0);
    let mut manifest = match checkpoint {
        0 => Manifest::default(),
        number => read_checkpoint(store.as_ref(), number).await?,
    };
    let newest = listing.entries.last().map_or(0, |(number, _)| *number);
    let numbers: Vec<u64> = (checkpoint + 1..=newest).collect();
    let mut tail = stream::iter(numbers)
        .map(|number| async move { (number, read_entry(store.as_ref(), number).await) })
        .buffered(READS);
    while let Some((number, entry)) = tail.next().await {
        let entry = entry?.ok_or_else(|| {
            Error::corrupt(format!(
                "log entry {:?} is missing, while {:?} is there",
                entry_path(number).as_ref(),
                entry_path(newest).as_ref()
            ))
        })?;
        manifest = follow(&manifest, &entry)?;
    }
    Ok(Loaded { manifest, checkpoint })
}

/// Applies an entry that is in the log already, where a refusal means damage.
pub(super) fn follow(manifest: &Manifest, entry: &Entry) -> Result<Manifest> {
    manifest.apply(entry).map_err(|e| {
        let path = entry_path(entry.number);
        Error::corrupt(format!("log entry {:?} cannot follow its predecessor", path.as_ref()))
            .with_source(e)
    })
}

/// Reads an entry; none if it is not there.
pub(super) async fn read_entry(store: &dyn ObjectStore, number: u64) -> Result<Option<Entry>> {
    let path = entry_path(number);
    let Some(bytes) = read(store, &path).await? else { return Ok(None) };
    let entry = decode_entry(path.as_ref(), &bytes)?;
    if entry.number != number {
        let inside = entry.number;
        return Err(Error::corrupt(format!("log entry {:?} says it is {inside}", path.as_ref())));
    }
    Ok(Some(entry))
}

/// Reads a checkpoint; not found if it is not there.
async fn read_checkpoint(store: &dyn ObjectStore, number: u64) -> Result<Manifest> {
    let path = checkpoint_path(number);
    let bytes = read(store, &path).await?;
    let bytes =
        bytes.ok_or_else(|| Error::not_found(format!("checkpoint {:?} is gone", path.as_ref())))?;
    let manifest = decode_checkpoint(path.as_ref(), &bytes)?;
    if manifest.number != number {
        let inside = manifest.number;
        return Err(Error::corrupt(format!("checkpoint {:?} says it is {inside}", path.as_ref())));
    }
    Ok(manifest)
}

async fn read_hint(store: &dyn ObjectStore) -> Option<u64> {
    let bytes = read(store, &hint_path()).await.ok()??;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    let got = match store.get(path).await {
        Ok(got) => got.bytes().await,
        Err(e) => Err(e),
    };
    match got {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => {
            let text = format!("cannot read {:?}", path.as_ref());
            Err(Error::unavailable(text).with_source(e))
        }
    }
}
