//! Where a dataset lies: one URL, one object store, paths relative to the dataset's root.
//! `durable` makes a local folder keep what it acknowledged, `lock` keeps a second process out, `s3`
//! speaks to object stores, `disk` is the seam to the file system, `fault` and `powercut` are for tests.
//! The rest of Otus sees only [`Storage`].

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use parking_lot::Mutex;
use url::Url;
use uuid::Uuid;

use crate::error::{Error, Result};
use disk::{Disk, RealDisk};
use durable::DurableLocal;
use lock::FolderLock;

pub mod disk;
pub mod durable;
pub mod fault;
pub mod lock;
#[cfg(unix)]
pub mod powercut;
mod s3;
#[cfg(test)]
pub(crate) mod tests;

/// Where a dataset lies, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageConfig {
    /// `file:./folder`, `s3://bucket/prefix` or `memory:`.
    pub url: String,
    /// Options of an object store: endpoint, region, access_key_id, secret_access_key, allow_http …
    pub options: BTreeMap<String, String>,
}

/// What the opener means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Take the lock, clear `_tmp`, probe the store.
    ReadWrite,
    /// Look only: nothing is locked, created or deleted.
    ReadOnly,
}

/// An open store. Clones share it; a local folder's lock goes with the last of them.
#[derive(Debug, Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    url: Url,
    access: Access,
    folder: Option<PathBuf>,
    lock: Mutex<Option<FolderLock>>,
}

impl Storage {
    /// Opens the store. `holder` is put in the lock, for whoever comes second.
    pub async fn open(config: &StorageConfig, access: Access, holder: &str) -> Result<Self> {
        let url = config.url.as_str();
        if let Some(rest) = url.strip_prefix("file:") {
            let folder = local_folder(url, rest)?;
            return Self::open_folder(&folder, access, holder, Arc::new(RealDisk)).await;
        }
        let store: Arc<dyn ObjectStore> = if let Some(rest) = url.strip_prefix("s3://") {
            s3::open(url, rest, &config.options)?
        } else if url.trim_end_matches('/') == "memory:" {
            Arc::new(InMemory::new())
        } else {
            let scheme = url.split(':').next().unwrap_or_default();
            return Err(Error::invalid(format!("unknown kind of storage {scheme:?}"))
                .with_hint("write file:./folder, s3://bucket/prefix or memory:"));
        };
        if access == Access::ReadWrite {
            probe(store.as_ref(), url).await?;
        }
        Ok(Self::new(store, access, None, None))
    }

    /// Opens a local folder through `disk`.
    pub async fn open_folder(
        folder: &FilePath,
        access: Access,
        holder: &str,
        disk: Arc<dyn Disk>,
    ) -> Result<Self> {
        let cannot = |e: object_store::Error| {
            let kind = Error::from(e);
            Error::new(kind.kind(), format!("cannot open storage folder {folder:?}"))
                .with_source(kind)
        };
        if access == Access::ReadOnly {
            if !folder.is_dir() {
                return Err(Error::not_found(format!("there is no storage folder {folder:?}")));
            }
            let store = DurableLocal::open_read_only(folder, disk).map_err(cannot)?;
            let root = store.root().to_path_buf();
            return Ok(Self::new(Arc::new(store), access, Some(root), None));
        }
        durable::create_root(folder, disk.as_ref()).map_err(|e| {
            Error::unavailable(format!("cannot create storage folder {folder:?}")).with_source(e)
        })?;
        let lock = FolderLock::take(folder, holder)?;
        let store = DurableLocal::open(folder, random_id(), disk).map_err(cannot)?;
        let root = store.root().to_path_buf();
        probe(&store, &format!("file:{}", root.display())).await?;
        Ok(Self::new(Arc::new(store), access, Some(root), Some(lock)))
    }

    /// Any store, without lock or probe: for tests.
    pub fn from_store(store: Arc<dyn ObjectStore>) -> Self {
        Self::new(store, Access::ReadWrite, None, None)
    }

    fn new(
        store: Arc<dyn ObjectStore>,
        access: Access,
        folder: Option<PathBuf>,
        lock: Option<FolderLock>,
    ) -> Self {
        let url = Url::parse(&format!("otus://{}/", random_id().simple()))
            .expect("hexadecimal digits are a host name");
        Self { inner: Arc::new(Inner { store, url, access, folder, lock: Mutex::new(lock) }) }
    }

    /// The store; paths are relative to the dataset's root.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.store
    }

    /// URL under which this very store is known to the query engine; another for each opened storage.
    pub fn object_url(&self) -> Url {
        self.inner.url.clone()
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.inner.access
    }

    /// The folder, if it is a local one.
    pub fn local_dir(&self) -> Option<&FilePath> {
        self.inner.folder.as_deref()
    }

    /// Bytes that this process may still write to the local disk, if it is one.
    pub fn free_bytes(&self) -> Option<u64> {
        fs4::available_space(self.local_dir()?).ok()
    }

    /// Renames the holder in the lock, once its address is known.
    pub fn name_holder(&self, holder: &str) -> Result<()> {
        match self.inner.lock.lock().as_mut() {
            Some(lock) => lock.name_holder(holder),
            None => Ok(()),
        }
    }
}

fn local_folder(url: &str, rest: &str) -> Result<PathBuf> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            return Err(Error::invalid(format!("storage url {url:?} names a host"))
                .with_hint("write file:./folder or file:///absolute/folder"));
        }
        None => rest,
    };
    if path.is_empty() {
        return Err(Error::invalid(format!("storage url {url:?} names no folder")));
    }
    Ok(PathBuf::from(path))
}

/// Creates one object twice. A store where the second create succeeds would let two commits have the
/// same number, so it is refused.
async fn probe(store: &dyn ObjectStore, url: &str) -> Result<()> {
    let path = Path::from_iter([durable::TMP_FOLDER, &format!("probe-{}", random_id().simple())]);
    let create = || store.put_opts(&path, PutPayload::from_static(b"otus"), PutMode::Create.into());
    let cannot = |e: object_store::Error| {
        // Nothing was looked for, so what is not found is the bucket.
        if matches!(e, object_store::Error::NotFound { .. }) {
            return Error::not_found(format!("there is no bucket for storage {url:?}"))
                .with_source(e);
        }
        let e = Error::from(e);
        Error::new(e.kind(), format!("cannot write to storage {url:?}")).with_source(e)
    };
    match create().await {
        // A client that retries may meet its own first attempt.
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
        Err(e) => return Err(cannot(e)),
    }
    let second = create().await;
    if let Err(e) = store.delete(&path).await {
        tracing::debug!(path = %path, error = %e, "probe object stays");
    }
    match second {
        Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Ok(_) => Err(Error::invalid(format!("storage {url:?} overwrites objects on create"))
            .with_hint("Otus needs put-if-absent: a store that honours If-None-Match: *")),
        Err(e) => Err(cannot(e)),
    }
}

/// Whether an error, or what caused it, says that the disk or quota is exhausted.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        // The cause of an io::Error hides the error it wraps, so look at that one first.
        let wrapped = io.get_ref().is_some_and(|inner| is_full(inner));
        return wrapped || matches!(io.kind(), StorageFull | QuotaExceeded);
    }
    if let Some(object_store::Error::Generic { source, .. }) = error.downcast_ref() {
        let text = source.to_string();
        if text.contains("507 Insufficient Storage") || text.contains("StorageFull") {
            return true;
        }
    }
    error.source().is_some_and(is_full)
}

/// Whether an error, or what caused it, says that an object is not there.
pub fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_this = matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. }));
    is_this || error.source().is_some_and(is_missing)
}

#[expect(clippy::disallowed_methods, reason = "names of processes and stores must never repeat")]
pub(crate) fn random_id() -> Uuid {
    Uuid::new_v4()
}
