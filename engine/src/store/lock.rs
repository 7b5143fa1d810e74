//! The lock of a local dataset: an exclusive lock on `_lock`, whose text names the holder. The lock goes
//! with the process, however it ends; the text may stay and means nothing without the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Name of the lock file.
pub const LOCK_FILE: &str = "_lock";
/// Longest text that is read back, bytes.
const HOLDER_BYTES_MAX: u64 = 1024;

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the lock of `folder`, or says who has it.
    pub fn take(folder: &Path, holder: &str) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        let cannot = |e| Error::unavailable(format!("cannot lock {path:?}")).with_source(e);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &mut file)),
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
        }
        let mut lock = Self { file, path };
        lock.name_holder(holder)?;
        Ok(lock)
    }

    /// Changes the text that names the holder.
    pub fn name_holder(&mut self, holder: &str) -> Result<()> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(holder.as_bytes())
        };
        write(&mut self.file)
            .map_err(|e| Error::unavailable(format!("cannot write {:?}", self.path)).with_source(e))
    }
}

/// The text of the lock file in `folder`, whether or not anybody holds the lock.
pub fn holder(folder: &Path) -> Option<String> {
    read_holder(&mut File::open(folder.join(LOCK_FILE)).ok()?)
}

fn read_holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

fn held(folder: &Path, file: &mut File) -> Error {
    let who = read_holder(file).unwrap_or_else(|| "another process".to_string());
    Error::busy(format!("storage folder {folder:?} is in use by {who}"))
        .with_hint("stop that process, or give this one another folder")
}
