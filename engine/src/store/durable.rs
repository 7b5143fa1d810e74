//! `DurableLocal`: a local folder as an object store whose answers outlive a power cut. A write goes to
//! `_tmp/<process>/`, is synced, gets its name by a link (create) or a rename (overwrite), and then the
//! folder of the name is synced, and before it every parent that had to be created. Deletes are not
//! synced: after a power cut a deleted object may be back, which all readers of this store allow for.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    UploadPart,
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::lock::LOCK_FILE;

/// Folder of writes under way.
pub const TMP_FOLDER: &str = "_tmp";
const STORE: &str = "DurableLocal";

type StoreResult<T> = object_store::Result<T>;

/// See the module.
#[derive(Debug, Clone)]
pub struct DurableLocal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// None: opened for reading only.
    tmp: Option<PathBuf>,
    reader: LocalFileSystem,
    disk: Arc<dyn Disk>,
    /// Folders known to exist on the disk itself, not only in the page cache.
    synced: Mutex<HashSet<PathBuf>>,
    next: AtomicU64,
}

impl DurableLocal {
    /// Opens an existing folder for reading.
    pub fn open_read_only(root: &FilePath, disk: Arc<dyn Disk>) -> StoreResult<Self> {
        Self::new(root, None, disk)
    }

    /// Opens an existing folder for writing. The caller holds the folder's lock, so what
    /// lies in `_tmp` belongs to nobody and is cleared.
    pub fn open(root: &FilePath, process: Uuid, disk: Arc<dyn Disk>) -> StoreResult<Self> {
        let tmp = PathBuf::from(TMP_FOLDER).join(process.simple().to_string());
        let store = Self::new(root, Some(tmp), disk)?;
        store.shared.start().map_err(|e| generic("prepare the folder", root, e))?;
        Ok(store)
    }

    fn new(root: &FilePath, tmp: Option<PathBuf>, disk: Arc<dyn Disk>) -> StoreResult<Self> {
        let reader = LocalFileSystem::new_with_prefix(root)?;
        let root = root.canonicalize().map_err(|e| generic("find the folder", root, e))?;
        let tmp = tmp.map(|t| root.join(t));
        let shared =
            Shared { root, tmp, reader, disk, synced: Mutex::default(), next: AtomicU64::new(0) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The folder, absolute.
    pub fn root(&self) -> &FilePath {
        &self.shared.root
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared)).await?
    }
}

impl Shared {
    fn start(&self) -> io::Result<()> {
        let Some(tmp) = &self.tmp else { return Ok(()) };
        let all = self.root.join(TMP_FOLDER);
        match std::fs::remove_dir_all(&all) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.disk.create_dir(&all)?;
        self.disk.create_dir(tmp)?;
        self.synced.lock().insert(self.root.clone());
        // A process killed between a link and its sync left names that a power cut would still take.
        if let Some(parent) = self.root.parent() {
            // Best effort: a parent we may not open was not created by us.
            self.disk.sync_dir(parent).ok();
        }
        self.sync_known(&self.root)?;
        self.sync_known(&self.root.join("_log"))
    }

    fn sync_known(&self, folder: &FilePath) -> io::Result<()> {
        if folder.is_dir() { self.disk.sync_dir(folder) } else { Ok(()) }
    }

    /// Makes `folder` exist durably. The lock is held while syncing: a second writer must not take a
    /// folder for durable that the first has only just created.
    fn ensure_folder(&self, folder: &FilePath) -> io::Result<()> {
        let mut synced = self.synced.lock();
        let mut missing = Vec::new();
        let mut at = folder;
        while !synced.contains(at) {
            missing.push(at);
            at = at.parent().ok_or_else(|| io::Error::other("path outside of the folder"))?;
        }
        for folder in missing.into_iter().rev() {
            match self.disk.create_dir(folder) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            if let Some(parent) = folder.parent() {
                self.disk.sync_dir(parent)?;
            }
            synced.insert(folder.to_path_buf());
        }
        Ok(())
    }

    fn staged(&self) -> StoreResult<PathBuf> {
        let Some(tmp) = &self.tmp else {
            return Err(object_store::Error::NotSupported {
                source: "the folder was opened for reading only".into(),
            });
        };
        Ok(tmp.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    fn put(&self, location: &Path, payload: &PutPayload, create: bool) -> StoreResult<()> {
        let dest = self.reader.path_to_filesystem(location)?;
        let staged = self.staged()?;
        let write = || -> io::Result<()> {
            let mut file = self.disk.create(&staged)?;
            let mut at = 0;
            for bytes in payload.iter() {
                file.write_at(bytes, at)?;
                at += bytes.len() as u64;
            }
            file.sync()
        };
        let done = write()
            .map_err(|e| generic("write", &dest, e))
            .and_then(|()| self.name(location, &staged, &dest, create));
        if create || done.is_err() {
            // Gone already after a rename; a leftover is cleared at the next open.
            self.disk.remove(&staged).ok();
        }
        done
    }

    fn name(
        &self,
        location: &Path,
        staged: &FilePath,
        dest: &FilePath,
        create: bool,
    ) -> StoreResult<()> {
        let fail = |e| generic("name", dest, e);
        let folder = dest.parent().unwrap_or(&self.root);
        self.ensure_folder(folder).map_err(fail)?;
        let exists = if create {
            match self.disk.link(staged, dest) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Some(e),
                other => other.map(|()| None).map_err(fail)?,
            }
        } else {
            self.disk.rename(staged, dest).map_err(fail)?;
            None
        };
        // Also when it exists: whoever is told so will rely on it.
        self.disk.sync_dir(folder).map_err(fail)?;
        match exists {
            None => Ok(()),
            Some(e) => Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: Box::new(e),
            }),
        }
    }
}

/// Creates the root and every missing parent, each synced into its own parent.
pub(super) fn create_root(root: &FilePath, disk: &dyn Disk) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if parent.as_os_str().is_empty() => FilePath::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    create_root(parent, disk)?;
    match disk.create_dir(root) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    disk.sync_dir(parent)
}

fn generic(what: &str, path: &FilePath, e: io::Error) -> object_store::Error {
    let kind = e.kind();
    let text = format!("cannot {what} {}: {e}", path.display());
    object_store::Error::Generic { store: STORE, source: Box::new(io::Error::new(kind, text)) }
}

fn is_hidden(location: &Path) -> bool {
    location.parts().next().is_some_and(|p| p.as_ref() == TMP_FOLDER || p.as_ref() == LOCK_FILE)
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.shared.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "conditional overwrite".into(),
                    implementer: STORE.into(),
                });
            }
        };
        let location = location.clone();
        self.blocking(move |shared| shared.put(&location, &payload, create)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let (location, shared) = (location.clone(), Arc::clone(&self.shared));
        let upload = self.blocking(move |s| {
            let staged = s.staged()?;
            let file = s.disk.create(&staged).map_err(|e| generic("create", &staged, e))?;
            Ok((staged, file))
        });
        let (staged, file) = upload.await?;
        let file = Arc::new(Mutex::new(Some(file)));
        Ok(Box::new(DurableUpload { shared, location, staged, file, bytes: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.shared.reader.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> StoreResult<Vec<bytes::Bytes>> {
        self.shared.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.shared.reader.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let all = self.shared.reader.list(prefix);
        all.try_filter(|meta| futures::future::ready(!is_hidden(&meta.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let mut listed = self.shared.reader.list_with_delimiter(prefix).await?;
        listed.objects.retain(|meta| !is_hidden(&meta.location));
        listed.common_prefixes.retain(|path| !is_hidden(path));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.get(from).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(|_| ())
    }
}

/// A large object written in parts. Nothing of it has a name before `complete` returns.
#[derive(Debug)]
struct DurableUpload {
    shared: Arc<Shared>,
    location: Path,
    staged: PathBuf,
    file: Arc<Mutex<Option<Box<dyn DiskFile>>>>,
    bytes: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, staged) = (Arc::clone(&self.file), self.staged.clone());
        let mut at = self.bytes;
        self.bytes += data.content_length() as u64;
        Box::pin(async move {
            let write = move || -> io::Result<()> {
                let mut file = file.lock();
                let file = file.as_mut().ok_or_else(|| io::Error::other("upload has ended"))?;
                for bytes in data.iter() {
                    file.write_at(bytes, at)?;
                    at += bytes.len() as u64;
                }
                Ok(())
            };
            let written = tokio::task::spawn_blocking(write).await?;
            written.map_err(|e| generic("write", &staged, e))
        })
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        let (location, staged) = (self.location.clone(), self.staged.clone());
        let finish = move || {
            let dest = shared.reader.path_to_filesystem(&location)?;
            let taken = file.lock().take();
            let mut file =
                taken.ok_or_else(|| generic("end", &dest, io::Error::other("upload has ended")))?;
            file.sync().map_err(|e| generic("sync", &staged, e))?;
            drop(file);
            shared.name(&location, &staged, &dest, false)
        };
        tokio::task::spawn_blocking(finish).await??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.file.lock().take();
        self.shared.disk.remove(&self.staged).map_err(|e| generic("abort", &self.staged, e))
    }
}

impl Drop for DurableUpload {
    fn drop(&mut self) {
        if self.file.lock().take().is_some() {
            self.shared.disk.remove(&self.staged).ok();
        }
    }
}
