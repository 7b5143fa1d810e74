//! For tests: a disk that can lose its power. It works in a real folder, remembers which bytes and which
//! names were synced, and after the cut builds the folder as it may be found: what was synced is there,
//! what was not is there, gone, cut short or zeros, as a seed decides.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, RealDisk};
use super::fault::Dice;

/// See the module.
#[derive(Debug, Clone)]
pub struct PowerCutDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    /// The call, counted from 1, at which the power goes.
    cut_at: Option<u64>,
    dark: bool,
    full: bool,
    next_id: u64,
    /// Inode numbers are reused; ids are not.
    ids: HashMap<u64, u64>,
    /// Synced bytes by file id.
    bytes: HashMap<u64, Vec<u8>>,
    /// Synced names by folder.
    names: HashMap<PathBuf, BTreeMap<OsString, Node>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

#[derive(Debug)]
struct PowerFile {
    file: File,
    id: u64,
    disk: PowerCutDisk,
}

impl PowerCutDisk {
    /// Loses its power at call `cut_at`, counted from 1: before it on odd calls, after it on even ones.
    pub fn new(cut_at: Option<u64>) -> Self {
        let state = State { cut_at, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Whether the power is gone.
    pub fn is_dark(&self) -> bool {
        self.state.lock().dark
    }

    /// Whether the disk has no space left.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Builds in `after`, a new folder, what may be found of `before` once the power is back.
    pub fn remains(&self, before: &Path, after: &Path, seed: u64) -> Result<()> {
        let mut state = self.state.lock();
        state.dark = true;
        let mut dice = Dice::new(seed);
        state.rebuild(&before.canonicalize()?, after, &mut dice)
    }

    fn call<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (cut, even) = {
            let mut state = self.state.lock();
            if state.dark {
                return Err(Error::other("the power is gone"));
            }
            state.calls += 1;
            let cut = state.cut_at == Some(state.calls);
            state.dark = cut;
            (cut, state.calls.is_multiple_of(2))
        };
        if !cut {
            return work();
        }
        if even {
            work().ok();
        }
        Err(Error::other("the power goes"))
    }

    fn check_space(&self) -> Result<()> {
        if self.state.lock().full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for PowerCutDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        self.check_space()?;
        self.call(|| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            let id = self.state.lock().new_id(file.metadata()?.ino());
            Ok(Box::new(PowerFile { file, id, disk: self.clone() }) as Box<dyn DiskFile>)
        })
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.check_space()?;
        self.call(|| RealDisk.create_dir(path))
    }
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|| RealDisk.link(from, to))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|| RealDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.call(|| RealDisk.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.call(|| {
            let mut state = self.state.lock();
            let names = state.look(path)?;
            state.names.insert(path.canonicalize()?, names);
            Ok(())
        })
    }
}

impl DiskFile for PowerFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.disk.check_space()?;
        let file = &mut self.file;
        self.disk.call(|| {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(bytes)
        })
    }
    fn sync(&mut self) -> Result<()> {
        let (file, id, state) = (&mut self.file, self.id, &self.disk.state);
        self.disk.call(|| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            state.lock().bytes.insert(id, bytes);
            Ok(())
        })
    }
}

impl State {
    fn new_id(&mut self, inode: u64) -> u64 {
        self.next_id += 1;
        self.ids.insert(inode, self.next_id);
        self.next_id
    }

    /// The names in a real folder now.
    fn look(&mut self, folder: &Path) -> Result<BTreeMap<OsString, Node>> {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let node = if metadata.is_dir() {
                Node::Folder
            } else {
                let known = self.ids.get(&metadata.ino()).copied();
                Node::File(known.unwrap_or_else(|| self.new_id(metadata.ino())))
            };
            names.insert(entry.file_name(), node);
        }
        Ok(names)
    }

    fn rebuild(&mut self, before: &Path, after: &Path, dice: &mut Dice) -> Result<()> {
        std::fs::create_dir(after)?;
        let now = if before.is_dir() { self.look(before)? } else { BTreeMap::new() };
        let synced = self.names.get(before).cloned().unwrap_or_default();
        let mut all: Vec<_> = synced.keys().chain(now.keys()).cloned().collect();
        all.sort();
        all.dedup();
        for name in all {
            let (old, new) = (synced.get(&name), now.get(&name));
            // A name that was not synced since it changed may be as before or as after.
            let found = if old == new || dice.percent(50) { new } else { old };
            match found {
                None => {}
                Some(Node::Folder) => {
                    self.rebuild(&before.join(&name), &after.join(&name), dice)?;
                }
                Some(Node::File(id)) => {
                    let unsynced = || std::fs::read(before.join(&name)).unwrap_or_default();
                    let bytes = match self.bytes.get(id) {
                        Some(bytes) => bytes.clone(),
                        None => torn(unsynced(), dice),
                    };
                    std::fs::write(after.join(&name), bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// Bytes that were written but not synced.
fn torn(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        0 => bytes.clear(),
        1 => bytes.truncate(bytes.len() / 2),
        2 => bytes.fill(0),
        _ => {}
    }
    bytes
}
