//! The real disk: system calls, one each, without policy.
//!
//! Knows nothing of batches, and retries nothing but an interrupted call: what an error means is for the log to decide.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::disk::{Capacity, DirEntry, Disk, DiskFile, EntryKind, FileId, write_all_at};
use crate::map::Map;
use crate::reclaim;

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl OsDisk {
    /// The disk as the trait object that logs take.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OsFile { file: Arc::new(file) }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OsFile { file: Arc::new(file) }))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile { file: Arc::new(File::open(path)?) }))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn find(&self, path: &Path) -> io::Result<(FileId, u64)> {
        let found = fs::metadata(path)?;
        Ok((FileId::of(&found), found.len()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_file_gradually(&self, path: &Path) -> io::Result<()> {
        reclaim::remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(File::open(dir)?)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = if entry.file_type()?.is_dir() { EntryKind::Dir } else { EntryKind::File };
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, kind });
            }
        }
        Ok(entries)
    }

    fn capacity(&self, dir: &Path) -> io::Result<Capacity> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Capacity { total_bytes: bytes(stat.f_blocks), free_bytes: bytes(stat.f_bavail) })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(HeldLock(file)))
    }
}

/// Unlocks by name when dropped: to close the file is not enough while a child of this process, forked by another thread and not yet another
/// program, has it open too.
struct HeldLock(File);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Where that fails the lock goes with the last who has the file open.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct OsFile {
    file: Arc<File>,
}

impl DiskFile for OsFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(FileId::of(&self.file.metadata()?))
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), range.start, range.end - range.start) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return self.write_zeros(range.start.max(self.bytes()?)..range.end),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, parts, position)?)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.file, buffer, position)?)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut parts, position, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(Some(count)),
            // A file system that cannot tell warm from cold counts as cold: slower, never wrong.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.file, bytes)?)
    }

    fn erase(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let how = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.file, how, range.start, range.end - range.start) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return self.write_zeros(range),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_data(&self, position: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(position)) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            // Without holes every byte may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((position < self.bytes()?).then_some(position)),
            Err(error) => Err(error.into()),
        }
    }

    fn next_hole(&self, position: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(position)) {
            Ok(found) => Ok(found),
            // Behind the end; or a file system without holes, where every byte may be written.
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => self.bytes(),
            Err(error) => Err(error.into()),
        }
    }

    fn evict(&self, range: Range<u64>) -> io::Result<()> {
        let length = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        Ok(rustix::fs::fadvise(&self.file, range.start, length, Advice::DontNeed)?)
    }

    fn map(&self, bytes: u64) -> io::Result<Map> {
        Map::new(Arc::clone(&self.file), bytes)
    }
}

impl OsFile {
    /// For file systems without `fallocate`: real zeros reserve the blocks as well.
    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = [0u8; 64 * 1024];
        let mut position = range.start;
        while position < range.end {
            let count = zeros.len().min((range.end - position) as usize);
            write_all_at(self, &mut [IoSlice::new(&zeros[..count])], position).map_err(|partial| partial.error)?;
            position += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_let_go_of_though_somebody_else_has_its_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = File::create(&path).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        // What a child has between fork and exec.
        let inherited = file.try_clone().unwrap();
        let refused = OsDisk.lock(&path).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(HeldLock(file));
        drop(OsDisk.lock(&path).unwrap());
        drop(inherited);
    }
}
