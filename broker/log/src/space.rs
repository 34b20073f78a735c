//! Whether there is still room for appends: a low-space watermark that refuses before the disk is full.
//!
//! A completely full disk also stops what would free space (a checkpoint, a truncation), so appends stop earlier and reads go on. Where others
//! fill the disk, a reserve of our own is given up for it. Freed
//! space is seen at the next look; nothing has to be restarted. Knows nothing of logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::Disk;
use crate::segment_files::remove_if_there;
use crate::storage_error::{Context, StorageError};

/// Name of the reserve in the folder.
const RESERVE: &str = "reserve";
/// Its size: many checkpoints with their indexes.
const RESERVE_BYTES: u64 = 1 << 20;

/// Where the reserve is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reserve {
    /// Nobody asked for one.
    Unwanted,
    /// To be made as soon as there is room.
    Missing,
    /// It takes its blocks.
    Held,
    /// Its blocks are for those who free space: until it is there again, nothing is appended.
    Lent,
}

/// Watches the free space of one file system.
#[derive(Debug)]
pub struct SpaceGuard {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    low_water_bytes: u64,
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    reserve: Mutex<Reserve>,
}

impl SpaceGuard {
    /// Watches the file system that `dir` lies on; below `low_water_bytes` of free space there is no room for appends.
    ///
    /// # Errors
    /// [`StorageError`] if the file system cannot be asked.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, low_water_bytes: u64) -> Result<Self, StorageError> {
        let (free_bytes, total_bytes) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        let reserve = Mutex::new(Reserve::Unwanted);
        let guard = Self { disk, dir: dir.to_owned(), low_water_bytes, free_bytes, total_bytes, reserve };
        guard.refresh()?;
        Ok(guard)
    }

    /// Keeps a little space in a file of its own, for what frees space on a disk that others filled; made as soon as there is room. Blocks.
    #[must_use]
    pub fn with_reserve(self) -> Self {
        // What an earlier process left is as good, if it is whole.
        let held = self.disk.file_bytes(&self.dir.join(RESERVE)).is_ok_and(|bytes| bytes == RESERVE_BYTES);
        *self.reserve.lock() = if held { Reserve::Held } else { Reserve::Missing };
        self.make_reserve();
        self
    }

    /// Gives the reserve up; false where there is none. Nothing is appended until it is there again.
    pub(crate) fn lend_reserve(&self) -> bool {
        let mut reserve = self.reserve.lock();
        if *reserve != Reserve::Held {
            return false;
        }
        // First: nobody else may take what becomes free.
        *reserve = Reserve::Lent;
        remove_if_there(&*self.disk, &self.dir.join(RESERVE)).is_ok()
    }

    fn make_reserve(&self) {
        let mut reserve = self.reserve.lock();
        if matches!(*reserve, Reserve::Unwanted | Reserve::Held) || self.free_bytes() < 2 * RESERVE_BYTES {
            return;
        }
        let path = self.dir.join(RESERVE);
        let made = remove_if_there(&*self.disk, &path).is_ok()
            && self.disk.create(&path).and_then(|file| file.allocate(0..RESERVE_BYTES)).is_ok();
        if made {
            *reserve = Reserve::Held;
        } else {
            // The next look tries again; half of it would be in the way.
            let _ = remove_if_there(&*self.disk, &path);
        }
    }

    /// Looks anew; the flusher's upkeep thread does so once a second.
    ///
    /// # Errors
    /// [`StorageError`] if the file system cannot be asked; then the last answer stands.
    pub fn refresh(&self) -> Result<(), StorageError> {
        let capacity = self.disk.capacity(&self.dir).context("measure free space of", &self.dir)?;
        self.free_bytes.store(capacity.free_bytes, Ordering::Release);
        self.total_bytes.store(capacity.total_bytes, Ordering::Release);
        self.make_reserve();
        Ok(())
    }

    /// Bytes free at the last look.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Acquire)
    }

    /// How large the file system was at the last look, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Acquire)
    }

    /// What may be taken before the watermark is reached, in bytes: what was free at the last look, less what logs took since.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.free_bytes().saturating_sub(self.low_water_bytes)
    }

    /// A log took so much, which the next look sees.
    pub(crate) fn note_taken(&self, bytes: u64) {
        // The closure always gives a value.
        let _ =
            self.free_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| Some(free.saturating_sub(bytes)));
    }

    /// The watermark, in bytes.
    #[must_use]
    pub fn low_water_bytes(&self) -> u64 {
        self.low_water_bytes
    }

    /// Whether appends may go on, as of the last look.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free_bytes() >= self.low_water_bytes && *self.reserve.lock() != Reserve::Lent
    }
}
