//! A disk that takes its time, or gives up: calls on the segments of one folder wait until the test lets them go, or fail. Knows nothing of
//! what is in them.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tidelog_log::disk::{Capacity, DirEntry, Disk, DiskFile, FileId};
use tidelog_log::map::Map;
use tidelog_log::os_disk::OsDisk;

use crate::patience::wait_until;

/// Which calls wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `write_at`.
    Write,
    /// `sync_data`.
    Flush,
    /// `write_at` of what compaction writes anew.
    Rewrite,
}

#[derive(Debug, Default)]
struct State {
    stalled: Option<(Call, String)>,
    failing: Option<(Call, String)>,
    broken: Option<(Call, String)>,
    refused: u64,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, call: Call, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let is_shut = |state: &State| state.stalled.as_ref().is_some_and(|(on, name)| *on == call && name == folder);
        while is_shut(&state) {
            state.waiting += 1;
            state = self.opened.wait(state).unwrap();
            state.waiting -= 1;
        }
        let is_meant =
            |what: &Option<(Call, String)>| what.as_ref().is_some_and(|(on, name)| *on == call && name == folder);
        if is_meant(&state.failing) {
            state.failing = None;
        } else if !is_meant(&state.broken) {
            return Ok(());
        }
        state.refused += 1;
        Err(io::Error::other("the disk gave up"))
    }
}

/// The disk; otherwise the real one.
#[derive(Clone, Debug, Default)]
pub struct StallingDisk {
    gate: Arc<Gate>,
}

/// Calls wait until this is dropped.
#[derive(Debug)]
pub struct Stall {
    gate: Arc<Gate>,
}

impl StallingDisk {
    /// From now on these calls on segments right in folders of this name wait.
    #[must_use]
    pub fn stall(&self, call: Call, folder: &str) -> Stall {
        self.gate.state.lock().unwrap().stalled = Some((call, folder.into()));
        Stall { gate: self.gate.clone() }
    }

    /// The next of these calls on a segment right in a folder of this name fails.
    pub fn fail_next(&self, call: Call, folder: &str) {
        self.gate.state.lock().unwrap().failing = Some((call, folder.into()));
    }

    /// From now on all these calls on segments right in folders of this name fail, until it is healed.
    pub fn fail_all(&self, call: Call, folder: &str) {
        self.gate.state.lock().unwrap().broken = Some((call, folder.into()));
    }

    /// All calls work again.
    pub fn heal(&self) {
        self.gate.state.lock().unwrap().broken = None;
    }

    /// Calls that failed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.gate.state.lock().unwrap().refused
    }

    /// True once it did.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.gate.state.lock().unwrap().failing.is_none()
    }

    fn file(&self, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        // A segment gets its name only after it was made.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_rewrite = name.contains(".rewrite");
        if !name.ends_with(".log") && name != "next-segment.tmp" && !is_rewrite {
            return inner;
        }
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let (gate, holds_records) = (self.gate.clone(), AtomicBool::new(false));
        Arc::new(StallingFile { inner, folder, gate, is_rewrite, holds_records })
    }
}

impl Stall {
    /// Waits until a call waits.
    ///
    /// # Panics
    /// Where none comes.
    pub async fn struck(&self) {
        wait_until("a call that stalls", async || (self.gate.state.lock().unwrap().waiting > 0).then_some(())).await;
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.gate.state.lock().unwrap().stalled = None;
        self.gate.opened.notify_all();
    }
}

impl Disk for StallingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, OsDisk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, OsDisk.open(path)?))
    }
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.open_read_only(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        OsDisk.file_bytes(path)
    }
    fn find(&self, path: &Path) -> io::Result<(FileId, u64)> {
        OsDisk.find(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_file(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        OsDisk.list(dir)
    }
    fn capacity(&self, dir: &Path) -> io::Result<Capacity> {
        OsDisk.capacity(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        OsDisk.lock(path)
    }
}

#[derive(Debug)]
struct StallingFile {
    inner: Arc<dyn DiskFile>,
    folder: String,
    gate: Arc<Gate>,
    /// What compaction writes: it has its name only once it is whole.
    is_rewrite: bool,
    holds_records: AtomicBool,
}

impl DiskFile for StallingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.allocate(range)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.gate.pass(if self.is_rewrite { Call::Rewrite } else { Call::Write }, &self.folder)?;
        self.holds_records.store(true, Ordering::Relaxed);
        self.inner.write_at(parts, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.inner.read_cached_at(buffer, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        // The flush of blocks that are reserved ahead is nobody's.
        if self.holds_records.load(Ordering::Relaxed) && !self.is_rewrite {
            self.gate.pass(Call::Flush, &self.folder)?;
        }
        self.inner.sync_data()
    }
    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_bytes(bytes)
    }
    fn erase(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.erase(range)
    }
    fn next_data(&self, position: u64) -> io::Result<Option<u64>> {
        self.inner.next_data(position)
    }
    fn next_hole(&self, position: u64) -> io::Result<u64> {
        self.inner.next_hole(position)
    }
    fn evict(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.evict(range)
    }
    fn map(&self, bytes: u64) -> io::Result<Map> {
        self.inner.map(bytes)
    }
}
