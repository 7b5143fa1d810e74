//! Collection: objects that no live file names are deleted, after a sweep that forbids them to come back.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::log::manifest::Manifest;
use crate::log::op::Op;

/// Paths that left while this process watched, and when (microseconds). What was unreferenced when the
/// process first looked counts as removed at that moment: another process may have pinned it.
#[derive(Debug, Default)]
pub(crate) struct Removed(BTreeMap<String, i64>);

/// Folders that hold data files; nothing else is ever deleted.
fn is_data(path: &str) -> bool {
    path.ends_with(".parquet") && (path.starts_with('t') || path.starts_with('r'))
}

/// When the file was named, milliseconds, from its UUIDv7.
fn named_at_ms(path: &str) -> Option<i64> {
    let stem = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let (seconds, nanos) = Uuid::parse_str(stem).ok()?.get_timestamp()?.to_unix();
    i64::try_from(seconds * 1000 + u64::from(nanos) / 1_000_000).ok()
}

pub(crate) fn live_paths(manifest: &Manifest) -> HashSet<String> {
    let raw = manifest.tables.values().flat_map(|t| &t.files);
    let states = manifest.rollups.values().flat_map(|r| &r.files);
    raw.chain(states).chain(&manifest.rejected).map(|f| f.path.clone()).collect()
}

impl Dataset {
    /// Deletes unreferenced files older than the grace; the number deleted.
    pub(crate) async fn collect(&self, removed: &mut Removed) -> Result<u64> {
        let now_us = self.options.clock.now_us();
        let grace_us = self.options.flush.collect_grace_us;
        let store = self.storage.store();
        let objects: Vec<_> = store.list(None).try_collect().await?;
        let live = live_paths(self.snapshot().manifest());
        let mut unreferenced = BTreeMap::new();
        for object in objects {
            let path = object.location.to_string();
            if is_data(&path) && !live.contains(&path) {
                let since = removed.0.get(&path).copied().unwrap_or(now_us);
                unreferenced.insert(path, since);
            }
        }
        removed.0 = unreferenced;
        let due: Vec<String> = removed
            .0
            .iter()
            .filter(|(path, since)| {
                let named_us = named_at_ms(path).map_or(i64::MAX, |ms| ms.saturating_mul(1000));
                now_us - **since >= grace_us && now_us.saturating_sub(named_us) >= grace_us
            })
            .map(|(path, _)| path.clone())
            .collect();
        if due.is_empty() {
            return Ok(0);
        }
        let before_ms = (now_us - grace_us) / 1000 + 1;
        self.commit(vec![Op::Sweep { before_ms }]).await?;
        crate::failpoint::hit("sweep.committed");
        // Between the look and the sweep another process may have added one of them.
        let live = live_paths(self.snapshot().manifest());
        let mut deleted = 0;
        for path in due.into_iter().filter(|p| !live.contains(p)) {
            match store.delete(&Path::from(path.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => deleted += 1,
                Err(error) => return Err(error.into()),
            }
            removed.0.remove(&path);
        }
        self.counters.files_deleted.fetch_add(deleted, Ordering::Relaxed);
        Ok(deleted)
    }
}
