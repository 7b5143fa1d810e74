//! The few file-system calls on which durability rests, behind a seam, so that a simulated power cut can
//! drop whatever was not synced. Reads do not pass here: they need no promise.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{Result, Seek, SeekFrom, Write};
use std::path::Path;

/// A file being written.
pub trait DiskFile: Debug + Send {
    /// Writes all of `bytes` at offset `at`.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()>;
    /// Returns once the content would outlive a power cut. The file's name is another matter.
    fn sync(&mut self) -> Result<()>;
}

/// A local file system.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file that does not exist.
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>>;
    /// Creates a folder in an existing one, for its owner alone.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// Gives a file a second name, which must be free.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Returns once the names in a folder would outlive a power cut.
    fn sync_dir(&self, path: &Path) -> Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl DiskFile for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.write_all(bytes)
    }
    fn sync(&mut self) -> Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        let mut folder = std::fs::DirBuilder::new();
        // What lies in it is nobody else's business: rows are rows, whatever the umask.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(path)
    }
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }
    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }
    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
}
