//! Whether there is still room for appends: a low-space watermark that refuses before the disk is full.
//!
//! A completely full disk also stops what would free space (a checkpoint, a truncation), so appends stop earlier and reads go on. Freed
//! space is seen at the next look; nothing has to be restarted. Knows nothing of logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Disk;
use crate::storage_error::{Context, StorageError};

/// Watches the free space of one file system.
#[derive(Debug)]
pub struct SpaceGuard {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    low_water_bytes: u64,
    free_bytes: AtomicU64,
}

impl SpaceGuard {
    /// Watches the file system that `dir` lies on; below `low_water_bytes` of free space there is no room for appends.
    ///
    /// # Errors
    /// [`StorageError`] if the file system cannot be asked.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, low_water_bytes: u64) -> Result<Self, StorageError> {
        let guard = Self { disk, dir: dir.to_owned(), low_water_bytes, free_bytes: AtomicU64::new(u64::MAX) };
        guard.refresh()?;
        Ok(guard)
    }

    /// Looks anew; the flusher's upkeep thread does so once a second.
    ///
    /// # Errors
    /// [`StorageError`] if the file system cannot be asked; then the last answer stands.
    pub fn refresh(&self) -> Result<(), StorageError> {
        let free = self.disk.free_bytes(&self.dir).context("measure free space of", &self.dir)?;
        self.free_bytes.store(free, Ordering::Release);
        Ok(())
    }

    /// Bytes free at the last look.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Acquire)
    }

    /// The watermark, in bytes.
    #[must_use]
    pub fn low_water_bytes(&self) -> u64 {
        self.low_water_bytes
    }

    /// Whether appends may go on, as of the last look.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free_bytes() >= self.low_water_bytes
    }
}
