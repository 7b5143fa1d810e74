//! Where queries put what does not fit their memory. A file is open only while it is written or read: a
//! query may leave thousands of them, and connections need descriptors too.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio_util::io::ReaderStream;

use crate::error::{SqlError, sqlstate};

/// What one read asks for.
const READ_BYTES: usize = 128 << 10;
/// How far a file may exceed the bound once it is begun: whoever reads it waits for a batch that was announced.
const SLACK_BYTES: u64 = 64 << 20;

/// The spilled rows of an engine.
#[derive(Debug)]
pub(crate) struct Spill(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    parent: PathBuf,
    most: u64,
    used: AtomicU64,
    next: AtomicU64,
    /// Made when the first file is.
    made: Mutex<Option<PathBuf>>,
}

impl Spill {
    /// Below `parent`, at most about `most` bytes at a time.
    pub(crate) fn new(parent: PathBuf, most: u64) -> Self {
        let (used, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Folder { parent, most, used, next, made: Mutex::default() }))
    }
}

impl TempFileFactory for Spill {
    fn create_temp_file(&self, _: &str) -> DfResult<Arc<dyn SpillFile>> {
        if self.0.used.load(Ordering::Relaxed) > self.0.most {
            return Err(self.0.full().into());
        }
        let path = self.0.path().map_err(DataFusionError::IoError)?;
        let file = Spilled { folder: Arc::clone(&self.0), path, bytes: Arc::default() };
        file.open(true).map_err(DataFusionError::IoError)?;
        Ok(Arc::new(file))
    }
}

impl Folder {
    /// A new file's.
    fn path(&self) -> io::Result<PathBuf> {
        let mut made = self.made.lock();
        let folder = match &mut *made {
            Some(folder) => folder,
            none => none.insert(folder_in(&self.parent)?),
        };
        Ok(folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    fn full(&self) -> SqlError {
        SqlError::new(sqlstate::DISK_FULL, "the space for spilled rows is used up")
            .with_detail(format!("queries have put {} MiB on disk", self.most >> 20))
            .with_hint("narrow the query, or run fewer of its kind at a time")
    }
}

/// A folder of this process that nobody else reads.
fn folder_in(parent: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(parent)?;
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    let mut number = 0_u64;
    loop {
        let folder = parent.join(format!("otus-spill-{}-{number}", std::process::id()));
        match builder.create(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            done => return done.map(|()| folder),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.made.lock().take()
            && let Err(e) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), error = %e, "spilled rows are left on disk");
        }
    }
}

/// One file, gone when nobody reads or writes it any more.
struct Spilled {
    folder: Arc<Folder>,
    path: PathBuf,
    bytes: Arc<AtomicU64>,
}

impl Spilled {
    fn open(&self, new: bool) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(new).mode(0o600).open(&self.path)
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.folder.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), error = %e, "spilled rows are left on disk");
        }
    }
}

impl SpillFile for Spilled {
    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> DfResult<Pin<Box<dyn Stream<Item = DfResult<Bytes>> + Send>>> {
        let opened = tokio::fs::File::open(self.path.clone());
        let chunks = futures::stream::once(opened)
            .map_ok(|file| ReaderStream::with_capacity(file, READ_BYTES))
            .try_flatten();
        Ok(chunks.map_err(DataFusionError::IoError).boxed())
    }

    fn open_writer(&self) -> DfResult<Box<dyn SpillWriter>> {
        let file = self.open(false).map_err(DataFusionError::IoError)?;
        let (folder, bytes) = (Arc::clone(&self.folder), Arc::clone(&self.bytes));
        Ok(Box::new(Writer { folder, bytes, file }))
    }
}

struct Writer {
    folder: Arc<Folder>,
    bytes: Arc<AtomicU64>,
    file: File,
}

impl Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let used = self.folder.used.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        // Counted before it is written, and given back with the file in any case.
        self.bytes.fetch_add(length, Ordering::Relaxed);
        if used > self.folder.most.saturating_add(SLACK_BYTES) {
            return Err(io::Error::other(self.folder.full()));
        }
        self.file.write_all(text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> DfResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("otus-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_file_that_waits_is_closed_and_goes_with_its_last_holder() {
        let parent = folder("spill-closed");
        let spill = Spill::new(parent.clone(), 1 << 20);
        let before = open_files();
        let files: Vec<_> = (0..200).map(|_| spill.create_temp_file("").unwrap()).collect();
        for file in &files {
            file.open_writer().unwrap().write_all(b"rows").unwrap();
        }
        // Other tests of this process open some, too.
        assert!(open_files() < before + 100);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read: Vec<Bytes> =
            runtime.block_on(files[7].read_stream().unwrap().try_collect()).unwrap();
        assert_eq!(read.concat(), b"rows");
        assert_eq!(spill.0.used.load(Ordering::Relaxed), 800);
        let path = files[7].path().unwrap().to_path_buf();
        assert!(path.exists());
        drop(files);
        assert!(!path.exists());
        assert_eq!(spill.0.used.load(Ordering::Relaxed), 0);
        drop(spill);
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
        std::fs::remove_dir(parent).unwrap();
    }

    #[test]
    fn the_bound_refuses_new_files_and_gives_begun_ones_room_for_a_batch() {
        let parent = folder("spill-bound");
        let spill = Spill::new(parent.clone(), 4);
        let file = spill.create_temp_file("").unwrap();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(b"rows more").unwrap();
        let refused = spill.create_temp_file("").err().unwrap();
        assert_eq!(SqlError::from(refused).sqlstate, sqlstate::DISK_FULL);
        let long = vec![0; usize::try_from(SLACK_BYTES).unwrap()];
        let error = writer.write_all(&long).unwrap_err();
        let error = SqlError::from(DataFusionError::from(error));
        assert_eq!(error.sqlstate, sqlstate::DISK_FULL, "{error}");
        drop((file, writer));
        assert!(spill.create_temp_file("").is_ok());
        drop(spill);
        std::fs::remove_dir(parent).unwrap();
    }
}
