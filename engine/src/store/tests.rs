//! What a storage promises to whoever opens it.

use futures::TryStreamExt;
use object_store::{CopyMode, CopyOptions, PutMultipartOptions};

use super::*;
use crate::ErrorKind;
use crate::store::fault::{Fault, FaultPlan, FaultStore};

/// The seeds of a test of chance: the first `fixed` and a fresh one, or the one that `OTUS_SEED` names.
pub(crate) fn seeds(fixed: u64) -> Vec<u64> {
    match std::env::var("OTUS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let fresh = random_id().as_u64_pair().0;
            println!("besides the fixed seeds: OTUS_SEED={fresh}");
            (0..fixed).chain([fresh]).collect()
        }
    }
}

/// A folder that goes when the test ends well or ill.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In memory where the system has such a folder: for tests that make many and sync none.
    pub(crate) fn volatile() -> Self {
        let memory = FilePath::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(parent: &FilePath) -> Self {
        let path = parent.join(format!("otus-{}", random_id().simple()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn config(url: impl Into<String>) -> StorageConfig {
    StorageConfig { url: url.into(), options: BTreeMap::new() }
}

async fn open(folder: &Folder, access: Access, holder: &str) -> Result<Storage> {
    Storage::open(&config(format!("file:{}/data", folder.0.display())), access, holder).await
}

async fn names(storage: &Storage) -> Vec<String> {
    let all: Vec<_> = storage.store().list(None).try_collect().await.unwrap();
    let mut names: Vec<_> = all.into_iter().map(|m| m.location.to_string()).collect();
    names.sort();
    names
}

async fn read(storage: &Storage, path: &str) -> Vec<u8> {
    storage.store().get(&path.into()).await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_folder() {
    let folder = Folder::new();
    let first = open(&folder, Access::ReadWrite, "pid 12").await.unwrap();
    let e = open(&folder, Access::ReadWrite, "pid 13").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy);
    assert!(e.message().ends_with("is in use by pid 12"), "{e}");
    first.name_holder("pid 12, http 127.0.0.1:8080").unwrap();
    let e = open(&folder, Access::ReadWrite, "pid 13").await.unwrap_err();
    assert!(e.message().contains("127.0.0.1:8080"), "{e}");
    assert_eq!(lock::holder(&folder.0.join("data")).unwrap(), "pid 12, http 127.0.0.1:8080");
    // Looking on is free, and changes nothing.
    let reader = open(&folder, Access::ReadOnly, "").await.unwrap();
    assert!(reader.store().put(&"x".into(), "x".into()).await.is_err());
    let clone = first.clone();
    drop(first);
    assert!(open(&folder, Access::ReadWrite, "pid 13").await.is_err(), "a clone still holds it");
    drop(clone);
    open(&folder, Access::ReadWrite, "pid 13").await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_made_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let storage = open(&folder, Access::ReadWrite, "a").await.unwrap();
    drop(storage);
    let mode = std::fs::metadata(folder.0.join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_local_folder_is_an_object_store() {
    let folder = Folder::new();
    let storage = open(&folder, Access::ReadWrite, "").await.unwrap();
    assert_eq!(names(&storage).await, [""; 0], "neither lock nor probe show");
    let (store, path) = (storage.store(), Path::from("a/b/c.txt"));
    store.put_opts(&path, "one".into(), PutMode::Create.into()).await.unwrap();
    let e = store.put_opts(&path, "two".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(e, object_store::Error::AlreadyExists { .. }), "{e}");
    assert_eq!(read(&storage, "a/b/c.txt").await, b"one");
    store.put(&path, "three".into()).await.unwrap();
    assert_eq!(read(&storage, "a/b/c.txt").await, b"three");
    let copy = |mode| CopyOptions { mode, ..CopyOptions::default() };
    store.copy_opts(&path, &"d".into(), copy(CopyMode::Create)).await.unwrap();
    assert!(store.copy_opts(&path, &"d".into(), copy(CopyMode::Create)).await.is_err());
    assert_eq!(names(&storage).await, ["a/b/c.txt", "d"]);
    let top = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(top.common_prefixes, [Path::from("a")]);
    assert_eq!(top.objects.len(), 1);
    store.delete(&path).await.unwrap();
    assert!(matches!(store.head(&path).await, Err(object_store::Error::NotFound { .. })));
    assert_eq!(std::fs::read_dir(storage.local_dir().unwrap().join("_tmp")).unwrap().count(), 1);
    assert!(storage.free_bytes().unwrap() > 0);
}

#[tokio::test]
async fn parts_have_no_name_before_they_are_complete() {
    let folder = Folder::new();
    let storage = open(&folder, Access::ReadWrite, "").await.unwrap();
    let path = Path::from("big");
    let begin = || storage.store().put_multipart_opts(&path, PutMultipartOptions::default());
    let mut upload = begin().await.unwrap();
    let (a, b) = (upload.put_part("first ".into()), upload.put_part("second".into()));
    // Parts may arrive in any order.
    b.await.unwrap();
    a.await.unwrap();
    assert_eq!(names(&storage).await, [""; 0]);
    upload.complete().await.unwrap();
    assert_eq!(read(&storage, "big").await, b"first second");
    let mut aborted = begin().await.unwrap();
    aborted.put_part("x".into()).await.unwrap();
    aborted.abort().await.unwrap();
    drop(begin().await.unwrap());
    let tmp = storage.local_dir().unwrap().join("_tmp");
    let own = std::fs::read_dir(tmp).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(own).unwrap().count(), 0, "nothing is left over");
    assert_eq!(read(&storage, "big").await, b"first second");
}

#[cfg(unix)]
#[tokio::test]
async fn what_was_written_in_parts_outlives_a_power_cut() {
    use crate::store::powercut::PowerCutDisk;
    let open = async |folder: PathBuf, disk: &PowerCutDisk| {
        let disk = Arc::new(disk.clone());
        Storage::open_folder(&folder, Access::ReadWrite, "test", disk).await.unwrap()
    };
    for seed in 0..20 {
        let (home, disk) = (Folder::volatile(), PowerCutDisk::new(None));
        let (before, after) = (home.0.join("before"), home.0.join("after"));
        std::fs::create_dir(&before).unwrap();
        let storage = open(before.join("data"), &disk).await;
        let (store, path) = (storage.store(), Path::from("a/b/big"));
        let mut upload =
            store.put_multipart_opts(&path, PutMultipartOptions::default()).await.unwrap();
        upload.put_part("first ".into()).await.unwrap();
        upload.put_part("second".into()).await.unwrap();
        upload.complete().await.unwrap();
        disk.remains(&before, &after, seed).unwrap();
        let storage = open(after.join("data"), &PowerCutDisk::new(None)).await;
        assert_eq!(read(&storage, "a/b/big").await, b"first second", "seed {seed}");
    }
}

#[tokio::test]
async fn leftovers_of_a_dead_process_are_cleared() {
    let folder = Folder::new();
    drop(open(&folder, Access::ReadWrite, "").await.unwrap());
    let left = folder.0.join("data/_tmp/dead");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("0"), "half a segm").unwrap();
    let _storage = open(&folder, Access::ReadWrite, "").await.unwrap();
    assert!(!left.exists());
}

#[tokio::test]
async fn urls_are_understood_or_refused() {
    for (url, why) in [
        ("ftp://x", "unknown kind of storage \"ftp\""),
        ("data", "unknown kind of storage \"data\""),
        ("s3://key:s3/cret@bucket/x", "before an \"@\""),
        ("s3://key@bucket/x", "before an \"@\""),
        ("file:", "names no folder"),
        ("file://host/x", "names a host"),
        ("s3://", "names no bucket"),
    ] {
        let e = Storage::open(&config(url), Access::ReadWrite, "").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.message().contains(why), "{e}");
    }
    let mut s3 = config("s3://bucket/a/b");
    s3.options.insert("colour".into(), "red".into());
    let e = Storage::open(&s3, Access::ReadOnly, "").await.unwrap_err();
    assert!(e.message().contains("\"colour\""), "{e}");
    let memory = Storage::open(&config("memory:"), Access::ReadWrite, "").await.unwrap();
    let other = Storage::open(&config("memory:"), Access::ReadWrite, "").await.unwrap();
    assert_ne!(memory.object_url(), other.object_url());
    assert_eq!(memory.object_url().scheme(), "otus");
    let gone = Storage::open(&config("file:/nowhere/at/all"), Access::ReadOnly, "").await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_store_without_put_if_absent_is_refused() {
    let good: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    probe(good.as_ref(), "x").await.unwrap();
    // A client that tries again meets its own first attempt.
    let plan = FaultPlan { nth: Some((1, Fault::Twice)), ..FaultPlan::none() };
    probe(&FaultStore::new(Arc::clone(&good), plan), "x").await.unwrap();
    let plan = FaultPlan { nth: Some((2, Fault::Refuse)), ..FaultPlan::none() };
    let e = probe(&FaultStore::new(Arc::clone(&good), plan), "x").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    let e = probe(&Overwriting(good), "x").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.message().contains("overwrites objects on create"), "{e}");
}

#[test]
fn a_full_disk_is_recognised_however_it_is_wrapped() {
    let io = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let store = object_store::Error::Generic { store: "x", source: Box::new(io()) };
    let nested = std::io::Error::other(store);
    let parquet = parquet::errors::ParquetError::External(Box::new(nested));
    assert_eq!(Error::from(parquet).kind(), ErrorKind::Full);
    let store = object_store::Error::Generic { store: "x", source: Box::new(io()) };
    assert_eq!(Error::from(store).kind(), ErrorKind::Full);
    let refused = "status code: 507 Insufficient Storage: <Code>XMinioStorageFull</Code>";
    let store = object_store::Error::Generic { store: "S3", source: refused.into() };
    assert_eq!(Error::from(store).kind(), ErrorKind::Full);
    let other = std::io::Error::from(std::io::ErrorKind::TimedOut);
    let store = object_store::Error::Generic { store: "x", source: Box::new(other) };
    assert_eq!(Error::from(store).kind(), ErrorKind::Unavailable);
}

/// A store that takes a create for an overwrite.
#[derive(Debug)]
struct Overwriting(Arc<dyn ObjectStore>);

impl std::fmt::Display for Overwriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overwriting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Overwriting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.0.put(location, payload).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }
    async fn get_opts(
        &self,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }
    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
