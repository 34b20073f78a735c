//! A read-only map of a file, and slices of it that keep it alive.
//!
//! The one module of this crate with `unsafe`: mapping, advising, looking at mapped bytes, and asking who else might. Knows nothing of batches. Nothing
//! is ever stored through a map: a store is evidence of nothing, `pwrite` reports its errors.
#![allow(unsafe_code)] // mmap cannot be had without it; each block says why it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::FileId;

/// How many maps of each file live in this process.
static LIVING: Mutex<BTreeMap<FileId, usize>> = Mutex::new(BTreeMap::new());

/// Whether any part of a file is mapped in this process, by whomever: a file that is cut short then may end the process.
pub(crate) fn is_mapped(file: FileId) -> bool {
    LIVING.lock().contains_key(&file)
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut living = LIVING.lock();
        if let Some(count) = living.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                living.remove(&self.of);
            }
        }
    }
}

/// A shared, read-only map. It may reach beyond the end of its file; only bytes below the published end are looked at.
pub struct Map {
    pages: memmap2::MmapRaw,
    of: FileId,
    /// Some file systems know of open files only, not of maps: [`is_ours_alone`] must hear of both.
    _file: Arc<File>,
}

impl Map {
    /// Maps the first `bytes` bytes of `file`.
    ///
    /// # Errors
    /// Whatever `mmap` says; `InvalidInput` for zero bytes or more than the address space.
    pub fn new(file: Arc<File>, bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pages = memmap2::MmapOptions::new().len(length).map_raw_read_only(file.as_raw_fd())?;
        let of = FileId::of(&file.metadata()?);
        *LIVING.lock().entry(of).or_default() += 1;
        Ok(Self { pages, of, _file: file })
    }

    /// Length of the map.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Reads the pages of `range` in from the disk and waits for them, so that looking at them cannot fault.
    ///
    /// # Errors
    /// An unreadable page is an error here (`EFAULT`) where touching it would have killed the process. `Unsupported` before
    /// Linux 5.14.
    pub fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range);
        let page = rustix::param::page_size() as u64;
        let start = range.start / page * page;
        let length = (range.end - start) as usize;
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies within the map, and MADV_POPULATE_READ changes no bytes.
        let advised = unsafe {
            let address = self.pages.as_ptr().add(start as usize).cast_mut().cast();
            rustix::mm::madvise(address, length, rustix::mm::Advice::LinuxPopulateRead)
        };
        match advised {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the page cache holds all of `range`, without reading any of it in. Where the system does not say, it does not.
    pub(crate) fn is_resident(&self, range: Range<u64>) -> bool {
        const PAGES: usize = 1024;
        self.check(&range);
        let page = rustix::param::page_size();
        let mut start = range.start as usize / page * page;
        let mut pages = [0u8; PAGES];
        while start < range.end as usize {
            let length = (range.end as usize - start).min(PAGES * page);
            // SAFETY: the range lies within the map, and `pages` has a byte for each of its pages.
            let answer = unsafe {
                let address = self.pages.as_ptr().add(start).cast_mut().cast();
                libc::mincore(address, length, pages.as_mut_ptr())
            };
            if answer != 0 || pages[..length.div_ceil(page)].iter().any(|held| held & 1 == 0) {
                return false;
            }
            start += length;
        }
        true
    }

    /// The bytes of `range`, alive as long as the answer or any slice of it. The caller has made sure that `range` lies within
    /// the file, and that those bytes are never written again.
    #[must_use]
    pub fn slice(self: &Arc<Self>, range: Range<u64>) -> Bytes {
        self.check(&range);
        Bytes::from_owner(Slice { map: Arc::clone(self), start: range.start as usize, end: range.end as usize })
    }

    fn check(&self, range: &Range<u64>) {
        assert!(
            range.start <= range.end && range.end <= self.bytes(),
            "{range:?} is not within {} bytes",
            self.bytes()
        );
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("bytes", &self.bytes()).finish()
    }
}

/// True where nobody but the caller has this file open or mapped, in this process or another: the system gives a lease on it to nobody
/// else. Stays true where the file has no name. Whoever opens it in between is told of in a signal, which is one that ends nothing.
///
/// # Errors
/// Where the file system knows no leases.
pub(crate) fn is_ours_alone(file: &File) -> io::Result<bool> {
    let control = |operation: libc::c_int, value: libc::c_int| {
        // SAFETY: the descriptor is open as long as `file`, and neither a lease nor its signal changes memory.
        match unsafe { libc::fcntl(file.as_raw_fd(), operation, value) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // By default it would be SIGIO, which ends the process.
    control(F_SETSIG, libc::SIGURG)?;
    let lease = |kind| control(libc::F_SETLEASE, kind);
    match lease(libc::F_WRLCK) {
        // Given back at once: it was only a question.
        Ok(()) => lease(libc::F_UNLCK).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which signal tells that somebody wants a lease back (`fcntl.h` of Linux).
const F_SETSIG: libc::c_int = 10;

struct Slice {
    map: Arc<Map>,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: start ≤ end ≤ length of the map was checked when the slice was made, and the map lives as long as `self`.
        // The bytes below a segment's published end are never written again: truncation and recovery replace the file
        // instead, so nobody changes what this shared slice sees.
        unsafe { std::slice::from_raw_parts(self.map.pages.as_ptr().add(self.start), self.end - self.start) }
    }
}
