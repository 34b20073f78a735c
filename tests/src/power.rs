//! Cuts a file system off as a power loss would: from now on nothing reaches the disk. Knows nothing of how it is mounted.
#![allow(unsafe_code)] // One ioctl that rustix has no safe form of.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `FS_IOC_SHUTDOWN`, an `_IOR` although the kernel reads the number.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// Without writing the journal out first: what was not flushed is gone.
const NO_LOG_FLUSH: u32 = 2;

/// Shuts the file system down that `path` lies on.
///
/// # Errors
/// Where it cannot be shut down, or the caller may not.
pub fn cut(path: &Path) -> io::Result<()> {
    let folder = File::open(path)?;
    // SAFETY: the operation takes a pointer to a u32, which `Setter` passes and the kernel only reads.
    unsafe { ioctl(&folder, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }?;
    Ok(())
}
