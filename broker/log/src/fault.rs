//! A disk for tests that fails on command: runs full, tears writes, fails flushes, stops in the middle, loses power.
//!
//! It keeps files in a real folder (so that maps work) and beside them remembers what of each would have survived a loss of power: bytes
//! since the last successful `sync_data`, names since the last `sync_dir`. **Not for production**; it is public so that tests of other
//! crates can use it. Knows nothing of logs.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Capacity, DirEntry, Disk, DiskFile, FileId};
use crate::map::Map;
use crate::os_disk::OsDisk;

mod survivors;
use survivors::{Survivors, read_all};

/// What a fault can hit. Reads and openings are counted, too, but never crash: a dead process reads nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Anything that changes the disk.
    Change,
    /// `create`.
    Create,
    /// `open` and `open_read_only`.
    Open,
    /// `allocate`.
    Allocate,
    /// `write_at`.
    Write,
    /// `set_bytes` and `erase`.
    SetBytes,
    /// `sync_data`.
    SyncData,
    /// `sync_dir`.
    SyncDir,
    /// `rename`.
    Rename,
    /// `remove_file`, also where it is gradual, and `remove_dir`.
    Remove,
    /// `remove_file_gradually`, which is counted under this name and meets what is armed for [`Operation::Remove`].
    RemoveGradually,
    /// `read_at` and `read_cached_at`.
    Read,
}

/// What happens then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The operation fails with this error and does nothing; later ones succeed.
    Error(ErrorKind),
    /// This operation and all later ones of its kind fail, until [`FaultDisk::disarm`].
    Stuck(ErrorKind),
    /// As [`Fault::Stuck`], for want of a file descriptor (`EMFILE`).
    OutOfDescriptors,
    /// A write takes at most this many bytes. Other operations are not affected.
    Short(usize),
    /// The process dies before the operation: it and everything after fails and does nothing.
    Crash,
    /// As [`Fault::Crash`], but a write gets this many bytes to the page cache first.
    CrashAfter(usize),
}

#[derive(Debug)]
struct Armed {
    on: Operation,
    skip: u64,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Control {
    armed: Vec<Armed>,
    counts: HashMap<Operation, u64>,
    fired: u64,
    crashed: bool,
    /// Handles from before the last restart belong to a dead process.
    life: u64,
}

/// The disk.
#[derive(Debug, Default)]
pub struct FaultDisk {
    control: Arc<Mutex<Control>>,
    survivors: Arc<Mutex<Survivors>>,
}

/// What [`Control::enter`] decides.
enum Verdict {
    Go,
    Short(usize),
    DieAfter(usize),
}

impl Control {
    fn enter(&mut self, operation: Operation, life: u64) -> io::Result<Verdict> {
        if self.crashed || life != self.life {
            return Err(io::Error::other("the process died"));
        }
        let is_change = !matches!(operation, Operation::Read | Operation::Open);
        *self.counts.entry(operation).or_default() += 1;
        if is_change {
            *self.counts.entry(Operation::Change).or_default() += 1;
        }
        let hits = |armed: &Armed| armed.on == operation || (is_change && armed.on == Operation::Change);
        let mut struck = None;
        for (index, armed) in self.armed.iter_mut().enumerate() {
            if !hits(armed) {
                continue;
            }
            if armed.skip > 0 {
                armed.skip -= 1;
            } else if struck.is_none() {
                struck = Some((index, armed.fault));
            }
        }
        let Some((index, fault)) = struck else { return Ok(Verdict::Go) };
        self.fired += 1;
        if !matches!(fault, Fault::Stuck(_) | Fault::OutOfDescriptors) {
            self.armed.remove(index);
        }
        match fault {
            Fault::Error(kind) | Fault::Stuck(kind) => Err(kind.into()),
            Fault::OutOfDescriptors => Err(rustix::io::Errno::MFILE.into()),
            Fault::Short(bytes) => Ok(Verdict::Short(bytes)),
            Fault::Crash => {
                self.crashed = true;
                Err(io::Error::other("the process died"))
            }
            Fault::CrashAfter(bytes) => {
                self.crashed = true;
                Ok(Verdict::DieAfter(bytes))
            }
        }
    }
}

impl FaultDisk {
    /// A disk that works, until it is armed.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The operation `on` after the next `skip` ones meets `fault`.
    pub fn arm(&self, on: Operation, skip: u64, fault: Fault) {
        self.control.lock().armed.push(Armed { on, skip, fault });
    }

    /// From here on everything works.
    pub fn disarm(&self) {
        self.control.lock().armed.clear();
    }

    /// How often a fault has struck: a test in which none did shows nothing.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.control.lock().fired
    }

    /// How many of these operations were tried so far.
    #[must_use]
    pub fn count(&self, operation: Operation) -> u64 {
        self.control.lock().counts.get(&operation).copied().unwrap_or(0)
    }

    /// Kill -9 and restart: files are as the page cache has them; handles of before are dead.
    pub fn restart(&self) {
        let mut control = self.control.lock();
        control.armed.clear();
        control.crashed = false;
        control.life += 1;
    }

    /// Loss of power and restart: of what was not flushed, a part chosen by `seed` survives, in any combination: blocks of 4096 bytes,
    /// which are holes where they were never written back; sectors of 512 bytes of some that were; names in the order they changed.
    ///
    /// # Errors
    /// Whatever the real disk says.
    pub fn lose_power(&self, seed: u64) -> io::Result<()> {
        self.survivors.lock().lose_power(seed)?;
        self.restart();
        Ok(())
    }

    fn enter(&self, operation: Operation) -> io::Result<u64> {
        let mut control = self.control.lock();
        let life = control.life;
        match control.enter(operation, life)? {
            Verdict::DieAfter(_) => Err(io::Error::other("the process died")),
            Verdict::Go | Verdict::Short(_) => Ok(life),
        }
    }

    fn file(&self, path: &Path, inner: Arc<dyn DiskFile>, life: u64) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.survivors.lock().inode(path, &inner)?;
        let (control, survivors) = (Arc::clone(&self.control), Arc::clone(&self.survivors));
        Ok(Arc::new(FaultFile { inner, inode, life, control, survivors }))
    }

    fn life(&self) -> io::Result<u64> {
        let control = self.control.lock();
        if control.crashed { Err(io::Error::other("the process died")) } else { Ok(control.life) }
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let life = self.enter(Operation::Create)?;
        let inner = OsDisk.create(path)?;
        self.survivors.lock().created(path, &inner);
        self.file(path, inner, life)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let life = self.enter(Operation::Open)?;
        self.file(path, OsDisk.open(path)?, life)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        self.life()?;
        OsDisk.file_bytes(path)
    }

    fn find(&self, path: &Path) -> io::Result<(FileId, u64)> {
        self.life()?;
        OsDisk.find(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Operation::Rename)?;
        OsDisk.rename(from, to)?;
        self.survivors.lock().renamed(from, to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.life()?;
        // Most removals find nothing; those are not worth a crash point.
        OsDisk.file_bytes(path)?;
        self.enter(Operation::Remove)?;
        OsDisk.remove_file(path)?;
        self.survivors.lock().removed(path);
        Ok(())
    }

    fn remove_file_gradually(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)?;
        *self.control.lock().counts.entry(Operation::RemoveGradually).or_default() += 1;
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.life()?;
        OsDisk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Operation::Remove)?;
        OsDisk.remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.enter(Operation::SyncDir)?;
        self.survivors.lock().dir_synced(dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.life()?;
        OsDisk.list(dir)
    }

    fn capacity(&self, dir: &Path) -> io::Result<Capacity> {
        self.life()?;
        OsDisk.capacity(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.life()?;
        OsDisk.lock(path)
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn DiskFile>,
    inode: u64,
    life: u64,
    control: Arc<Mutex<Control>>,
    survivors: Arc<Mutex<Survivors>>,
}

impl FaultFile {
    fn enter(&self, operation: Operation) -> io::Result<Verdict> {
        self.control.lock().enter(operation, self.life)
    }

    fn write_front(&self, parts: &[IoSlice<'_>], position: u64, limit: usize) -> io::Result<usize> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(limit).collect();
        let written = self.inner.write_at(&[IoSlice::new(&bytes)], position)?;
        self.survivors.lock().written(self.inode, position..position + written as u64);
        Ok(written)
    }
}

impl DiskFile for FaultFile {
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        match self.enter(Operation::Allocate)? {
            Verdict::DieAfter(_) => Err(io::Error::other("the process died")),
            Verdict::Go | Verdict::Short(_) => self.inner.allocate(range),
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match self.enter(Operation::Write)? {
            Verdict::Go => self.write_front(parts, position, usize::MAX),
            Verdict::Short(limit) => self.write_front(parts, position, limit.max(1)),
            Verdict::DieAfter(limit) => {
                self.write_front(parts, position, limit)?;
                Err(io::Error::other("the process died"))
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.enter(Operation::Read)?;
        self.inner.read_at(buffer, position)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.enter(Operation::Read)?;
        self.inner.read_cached_at(buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.enter(Operation::SyncData) {
            Ok(Verdict::DieAfter(_)) => Err(io::Error::other("the process died")),
            Ok(Verdict::Go | Verdict::Short(_)) => {
                let content = read_all(&*self.inner)?;
                self.survivors.lock().synced(self.inode, &content);
                Ok(())
            }
            Err(error) => {
                if !self.control.lock().crashed {
                    // As the kernel does it: the pages count as clean from here on, though they never reached the disk.
                    self.survivors.lock().forgotten(self.inode);
                }
                Err(error)
            }
        }
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.enter(Operation::SetBytes)?;
        let before = self.inner.bytes()?;
        self.inner.set_bytes(bytes)?;
        self.survivors.lock().written(self.inode, bytes.min(before)..bytes.max(before));
        Ok(())
    }

    fn erase(&self, range: Range<u64>) -> io::Result<()> {
        self.enter(Operation::SetBytes)?;
        self.inner.erase(range.clone())?;
        self.survivors.lock().written(self.inode, range);
        Ok(())
    }

    fn next_data(&self, position: u64) -> io::Result<Option<u64>> {
        self.inner.next_data(position)
    }

    fn next_hole(&self, position: u64) -> io::Result<u64> {
        self.inner.next_hole(position)
    }

    fn evict(&self, range: Range<u64>) -> io::Result<()> {
        self.survivors.lock().evicted(self.inode, range)
    }

    fn map(&self, bytes: u64) -> io::Result<Map> {
        self.inner.map(bytes)
    }
}
