//! Whether a partition folder is new, half made, whole, or has lost its log. A log that is gone and one that never was look alike, but for what is
//! written last when a folder is made: its identity.
//!
//! A new folder gets, each durable before the next: its first segment, empty; a checkpoint that knows it; the identity. So one with an identity has
//! been whole, and without a segment it has lost its records; one without, and with nothing in it but what comes before, is half made and is
//! made anew. Knows nothing of what is in the segments of a whole one (see [`crate::recovery`]).

use std::io;

use tidelog_protocol::Offset;

use crate::checkpoint::{self, Checkpoint, SegmentEnd, SegmentRecord, Shutdown, tellable};
use crate::disk::{DiskFile, read_full_at};
use crate::identity::{self, Identity, IdentityError};
use crate::open_error::OpenError;
use crate::segment::{Place, Segment};
use crate::segment_files::{self, LOG, Listing, remove_if_there};
use crate::small_file::{SmallFileError, TEMP_SUFFIX};
use crate::storage_error::{Context, StorageError};

/// What there is of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Founded {
    /// It was whole once.
    Before,
    /// It is empty, and becomes this partition's with [`found`].
    Now,
}

pub(crate) fn create_folder(place: &Place) -> Result<(), StorageError> {
    match place.disk.create_dir(&place.dir) {
        Ok(()) => {
            let parent = place.dir.parent().unwrap_or(&place.dir);
            place.disk.sync_dir(parent).context("flush", parent)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("create", &place.dir),
    }
}

/// Makes sure that the folder is this partition's, or can become it; what was begun of a new one is removed.
pub(crate) fn claim(place: &Place, expected: &Identity, listing: &Listing) -> Result<Founded, OpenError> {
    let path = place.dir.join(identity::FILE_NAME);
    let has_segments = !listing.logs.is_empty() || !listing.swaps.is_empty();
    match Identity::read(&*place.disk, &place.dir) {
        Ok(found) if found.is_same_partition(expected) => Ok(Founded::Before),
        Ok(found) => Err(IdentityError::Mismatch { path, found, expected: *expected }.into()),
        Err(SmallFileError::Newer { found, newest }) => Err(IdentityError::Newer { path, found, newest }.into()),
        Err(SmallFileError::Storage(error)) => Err(error.into()),
        Err(SmallFileError::Missing) if is_half_made(place, listing)? => {
            for &base in &listing.logs {
                segment_files::remove(place, base)?;
            }
            remove_if_there(&*place.disk, &place.dir.join(checkpoint::FILE_NAME))?;
            Ok(Founded::Now)
        }
        Err(error) if has_segments => Err(IdentityError::Unknown { path, reason: error.to_string() }.into()),
        Err(_) => Err(OpenError::LogLost { dir: place.dir.to_path_buf() }),
    }
}

/// Refuses a folder that was whole and has no segment any more; but for one whose log was about to begin anew.
pub(crate) fn refuse_lost(place: &Place, logs: &[Offset]) -> Result<(), OpenError> {
    if !logs.is_empty() {
        return Ok(());
    }
    match Checkpoint::read(&*place.disk, &place.dir) {
        // Written before the old segments go; the first one after the new segment is there knows of that.
        Ok(checkpoint) if checkpoint.segments.is_empty() && checkpoint.log_start == checkpoint.recovery_point => Ok(()),
        Err(SmallFileError::Storage(error)) => Err(error.into()),
        _ => Err(OpenError::LogLost { dir: place.dir.to_path_buf() }),
    }
}

/// Refuses a log whose last segment is gone, or was cut short by another than this log, and whose end nothing tells: `checkpoint` says how far it
/// went then, and it went on. Of a crash there is always all of what was reserved for a segment before it had its name.
pub(crate) fn refuse_endless(place: &Place, checkpoint: Option<&Checkpoint>, logs: &[Offset]) -> Result<(), OpenError> {
    let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.shutdown == Shutdown::Running) else {
        return Ok(());
    };
    let Some(known) = checkpoint.segments.last() else { return Ok(()) };
    let lost = |base, found| {
        let (path, checkpoint) = (place.path(base, LOG), place.dir.join(checkpoint::FILE_NAME));
        Err(OpenError::EndLost { path, found, checkpoint })
    };
    let Some(&last) = logs.last().filter(|last| **last >= known.base) else { return lost(known.base, None) };
    let written = if last == known.base { known.end.bytes } else { 0 };
    let path = place.path(last, LOG);
    let measured = place.disk.file_bytes(&path).context("measure", &path);
    let found = measured.map_err(|error| OpenError::of_segment(error, &path))?;
    if found < written.max(checkpoint.reserved_bytes) { lost(last, Some(found)) } else { Ok(()) }
}

/// The last acts of making a folder, whose first segment is there.
pub(crate) fn found(place: &Place, identity: &Identity, first: &Segment) -> Result<(), StorageError> {
    let (disk, dir, base) = (&*place.disk, &*place.dir, first.base());
    let record = SegmentRecord { end: SegmentEnd::empty(base), ..first.record() };
    let checkpoint = Checkpoint {
        log_start: base,
        recovery_point: base,
        shutdown: Shutdown::Running,
        reserved_bytes: tellable(first.certain_bytes().min(u64::from(place.options.first_allocation_bytes))),
        segments: vec![record],
        holes: Vec::new(),
    };
    checkpoint.write(disk, dir)?;
    identity.write(disk, dir)
}

/// Whether there is nothing but what comes before the identity, as a crash or a full disk left it.
fn is_half_made(place: &Place, listing: &Listing) -> Result<bool, OpenError> {
    let is_bare = listing.others.iter().all(|name| name == checkpoint::FILE_NAME)
        && listing.leftovers.iter().all(|name| name.ends_with(TEMP_SUFFIX))
        && listing.swaps.is_empty()
        && listing.producers.is_empty();
    match &listing.logs[..] {
        // The checkpoint comes after the segment.
        [] => Ok(is_bare && listing.others.is_empty()),
        [Offset::ZERO] if is_bare => {
            let path = place.path(Offset::ZERO, LOG);
            let looked = place.disk.open_read_only(&path).and_then(|file| is_empty(&*file));
            looked.map_err(|error| {
                OpenError::of_segment(StorageError { operation: "read", path: path.clone(), source: error }, &path)
            })
        }
        _ => Ok(false),
    }
}

/// Whether it is reserved space from its first byte to its last; little, for nothing has grown it. Some file systems take such space for data.
fn is_empty(file: &dyn DiskFile) -> io::Result<bool> {
    let mut block = vec![0; 64 << 10];
    let mut position = 0;
    loop {
        let filled = read_full_at(file, &mut block, position)?;
        if filled == 0 || block[..filled].iter().any(|&byte| byte != 0) {
            return Ok(filled == 0);
        }
        position += filled as u64;
    }
}
