//! The one door to the operating system: what a log may ask of a disk, as two traits.
//!
//! Knows nothing of batches, offsets or segments. Everything below `tidelog-log` that touches a file comes through here, so that a
//! test can put a disk in between that runs full, tears writes, fails a flush or loses power (see [`crate::fault`]). The
//! real one is [`crate::os_disk::OsDisk`].

use std::fmt;
use std::fs::Metadata;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::map::Map;

/// Most slices one `pwritev` takes (`IOV_MAX` of Linux).
const SLICES_PER_WRITE: usize = 1024;

/// Folders and names. Every path is absolute or relative to the working folder, as the caller chose for the log.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates an empty file for reading and writing; `AlreadyExists` if the name is taken.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Whatever the operating system says; `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading only (offline dumps).
    ///
    /// # Errors
    /// Whatever the operating system says; `NotFound` if there is none.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Length of a file in bytes, without opening it.
    ///
    /// # Errors
    /// Whatever the operating system says; `NotFound` if there is none.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Which file a name leads to, and its length in bytes.
    ///
    /// # Errors
    /// Whatever the operating system says; `NotFound` if there is none.
    fn find(&self, path: &Path) -> io::Result<(FileId, u64)>;

    /// Moves a name, replacing what `to` named before. Durable after [`Disk::sync_dir`] of the folder.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name; the bytes live on while a descriptor or a map holds them.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a name as [`Disk::remove_file`] does. Where the file is large and was the name's alone its blocks are free only little by
    /// little, so that the disk has time for others.
    ///
    /// # Errors
    /// As [`Disk::remove_file`].
    fn remove_file_gradually(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    /// Creates one folder whose parent exists.
    ///
    /// # Errors
    /// Whatever the operating system says; `AlreadyExists` if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a folder durable (`fsync` of the folder).
    ///
    /// # Errors
    /// Whatever the operating system says; final, as for [`DiskFile::sync_data`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names in a folder, in no order.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// How large the file system of `dir` is, and how much of it is free.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn capacity(&self, dir: &Path) -> io::Result<Capacity>;

    /// Takes the exclusive lock on a file, creating it if need be; `WouldBlock` if another process holds it. Held until
    /// the answer is dropped, or the process dies.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// How large a file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What a process without privileges may still allocate, in bytes.
    pub free_bytes: u64,
}

/// One name in a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The last part of the path. Names that are not UTF-8 are not listed: no log writes such a name.
    pub name: String,
    /// Whether it is a folder or anything else.
    pub kind: EntryKind,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A file (or anything that is not a folder).
    File,
    /// A folder.
    Dir,
}

/// Which file it is, as long as anybody has it open: two names, or a name and an open file, that are the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId {
    /// Its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl FileId {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// One open file. All positions and lengths are bytes.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Length of the file.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Which file it is.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn id(&self) -> io::Result<FileId>;

    /// Reserves blocks for `range`, growing the file to its end: a later write into it cannot run out of space.
    ///
    /// # Errors
    /// `StorageFull`, or whatever else the operating system says.
    fn allocate(&self, range: Range<u64>) -> io::Result<()>;

    /// One vectored write; like `pwritev`, it may write less than asked. [`write_all_at`] is the loop around it.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// One read; may read less than asked, and 0 at the end of the file. [`read_exact_at`] is the loop around it.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// As [`DiskFile::read_at`], but never waits for the disk: `None` where the page cache does not hold the bytes.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;

    /// Makes every byte written so far durable (`fdatasync`), with the length needed to read it.
    ///
    /// # Errors
    /// Whatever the operating system says. **Final**: the kernel reports a failed write-back once and then forgets it, so the
    /// caller must never try again and must believe nothing it wrote since the last success.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file. Never on a range that a map may still read.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Makes zeros of `range`, within the file, whose blocks stay reserved: they count as never written again where the file system can do that.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn erase(&self, range: Range<u64>) -> io::Result<()>;

    /// First position at or after `position` that may hold anything but zeros; `None` if there is none.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn next_data(&self, position: u64) -> io::Result<Option<u64>>;

    /// First position at or after `position` that is reserved but was never written to the disk, as the file system has it; the end of the
    /// file if there is none. Pages in the page cache count as written, even where they hold nothing but zeros.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn next_hole(&self, position: u64) -> io::Result<u64>;

    /// Drops clean pages of `range` from the page cache, so that the next read comes from the disk. A hint.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn evict(&self, range: Range<u64>) -> io::Result<()>;

    /// A read-only shared map of the first `bytes` bytes; it may reach beyond the end of the file, for the file to grow into.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn map(&self, bytes: u64) -> io::Result<Map>;
}

/// A write that stopped part way.
#[derive(Debug)]
pub(crate) struct PartialWrite {
    /// Bytes that did reach the file.
    pub(crate) written: u64,
    /// Why it stopped.
    pub(crate) error: io::Error,
}

/// Writes all of `parts` at `position`: loops over short writes, interruptions and the limit of slices per call.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    mut parts: &mut [IoSlice<'_>],
    position: u64,
) -> Result<(), PartialWrite> {
    let mut written = 0u64;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let call = &parts[..parts.len().min(SLICES_PER_WRITE)];
        match file.write_at(call, position + written) {
            Ok(0) => return Err(PartialWrite { written, error: io::ErrorKind::WriteZero.into() }),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut parts, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PartialWrite { written, error }),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends; the answer is the bytes read.
pub(crate) fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The whole of a small file; `InvalidData` if it holds more than `limit` bytes.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open_read_only(path)?;
    let bytes = file.bytes()?;
    if bytes > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{bytes} bytes, at most {limit} expected")));
    }
    let mut content = vec![0; bytes as usize];
    let filled = read_full_at(&*file, &mut content, 0)?;
    content.truncate(filled);
    Ok(content)
}

/// Whether this error says that the process or the machine has no file descriptor left. Nothing was done then, and closing some heals it.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).iter().any(|&errno| error.raw_os_error() == Some(errno))
}

/// Whether this error says that the file system (or a quota on it) has no room, which freeing space heals.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
