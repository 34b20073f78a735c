//! Names of a partition's files, and how a segment's file is born and dies.
//!
//! Files are named by base offset in 20 digits, so that names sort as offsets do. Knows nothing of what is in them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidelog_protocol::Offset;

use crate::disk::{Disk, DiskFile, EntryKind};
use crate::segment::Place;
use crate::small_file::TEMP_SUFFIX;
use crate::storage_error::{Context, StorageError};

/// Batches.
pub(crate) const LOG: &str = "log";
/// Offsets to positions.
pub(crate) const INDEX: &str = "index";
/// Timestamps to offsets.
pub(crate) const TIME_INDEX: &str = "timeindex";
/// A segment that was written anew, complete, before it takes its name.
const SWAP: &str = "swap";
/// What was known of producers at an offset.
pub(crate) const PRODUCERS: &str = "producers";
/// The next segment, prepared ahead of the roll; it has no base offset yet.
const PREPARED: &str = "next-segment.tmp";

/// The name of one of a segment's files.
pub(crate) fn file_name(base: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base.0)
}

/// The name of a segment that is being written anew.
pub(crate) fn rewrite_name(base: Offset) -> String {
    format!("{:020}.rewrite{TEMP_SUFFIX}", base.0)
}

/// The name of a segment that was written anew and stands for those from `base` up to `end`.
pub(crate) fn swap_name(base: Offset, end: Offset) -> String {
    format!("{:020}.{:020}.{SWAP}", base.0, end.0)
}

/// Base and end, if this is a name that [`swap_name`] gives.
pub(crate) fn parse_swap_name(name: &str) -> Option<(Offset, Offset)> {
    let (base, rest) = parse_name(name)?;
    let (end, extension) = parse_name(rest)?;
    (extension == SWAP && base < end).then_some((base, end))
}

/// Base offset and extension, if this is a name that [`file_name`] gives.
pub(crate) fn parse_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, extension) = name.split_once('.')?;
    let in_form = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base = digits.parse().ok().filter(|&base| in_form && base <= Offset::MAX.0)?;
    Some((Offset(base), extension))
}

/// A segment's file under a temporary name: allocated and flushed, so that the roll is only a rename.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: Arc<dyn DiskFile>,
    allocated: u64,
}

impl Prepared {
    /// Makes one of `allocated` bytes, or with less than a first segment has, one that is as long as that all the same: without blocks. At most one
    /// exists per folder.
    pub(crate) fn make(place: &Place, allocated: u64) -> Result<Self, StorageError> {
        let path = place.dir.join(PREPARED);
        remove_if_there(&*place.disk, &path)?;
        let file = place.disk.create(&path).context("create", &path)?;
        let least = u64::from(place.options.first_allocation_bytes);
        let reserved = file.allocate(0..allocated);
        let reserved = reserved.and_then(|()| if allocated < least { file.set_bytes(least) } else { Ok(()) });
        let reserved = reserved.and_then(|()| file.sync_data());
        if let Err(error) = reserved {
            // A half reserved file would hold on to the little space there is.
            let _ = place.disk.remove_file(&path);
            return Err(error).context("allocate", &path);
        }
        Ok(Self { file, allocated })
    }

    /// Gives it its name. Durable after the next fsync of the folder, which must come before the first ack from it.
    pub(crate) fn name(self, place: &Place, base: Offset) -> Result<(Arc<dyn DiskFile>, u64), StorageError> {
        let path = place.path(base, LOG);
        place.disk.rename(&place.dir.join(PREPARED), &path).context("rename", &path)?;
        Ok((self.file, self.allocated))
    }

    /// Bytes that it takes.
    pub(crate) const fn allocated(&self) -> u64 {
        self.allocated
    }

    /// What it holds before it has a name.
    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Gives its space back.
    pub(crate) fn discard(self, place: &Place) -> Result<(), StorageError> {
        remove_if_there(&*place.disk, &place.dir.join(PREPARED))
    }
}

/// Names in a partition folder, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Base offsets of the `.log` files, in order.
    pub(crate) logs: Vec<Offset>,
    /// Base and end of segments that were written anew and do not have their names yet, in order.
    pub(crate) swaps: Vec<(Offset, Offset)>,
    /// Offsets of the snapshots of producers, in order.
    pub(crate) producers: Vec<Offset>,
    /// Index files whose segment is gone, and temporary files: leftovers.
    pub(crate) leftovers: Vec<String>,
    /// Files that have nothing to do with one segment.
    pub(crate) others: Vec<String>,
}

/// Looks at a partition folder.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, StorageError> {
    let mut listing = Listing::default();
    let mut indexes = Vec::new();
    for entry in disk.list(dir).context("list", dir)? {
        if entry.kind == EntryKind::Dir {
            continue;
        }
        if entry.name.ends_with(TEMP_SUFFIX) {
            listing.leftovers.push(entry.name);
            continue;
        }
        if let Some(swap) = parse_swap_name(&entry.name) {
            listing.swaps.push(swap);
            continue;
        }
        match parse_name(&entry.name) {
            Some((base, LOG)) => listing.logs.push(base),
            Some((end, PRODUCERS)) => listing.producers.push(end),
            Some((base, INDEX | TIME_INDEX)) => indexes.push((base, entry.name)),
            _ => listing.others.push(entry.name),
        }
    }
    listing.logs.sort_unstable();
    listing.swaps.sort_unstable();
    listing.producers.sort_unstable();
    let orphans = indexes.into_iter().filter(|(base, _)| listing.logs.binary_search(base).is_err());
    listing.leftovers.extend(orphans.map(|(_, name)| name));
    Ok(listing)
}

/// Unlinks the segments that lie wholly below the log start: they were deleted, but for this. The answer is the others.
pub(crate) fn remove_below<'a>(
    place: &Place,
    logs: &'a [Offset],
    log_start: Offset,
) -> Result<&'a [Offset], StorageError> {
    let (below, kept) = logs.split_at(logs.partition_point(|&base| base <= log_start).saturating_sub(1));
    below.iter().try_for_each(|&base| remove(place, base))?;
    Ok(kept)
}

/// Unlinks a segment: the log first, since index files without one are leftovers.
pub(crate) fn remove(place: &Place, base: Offset) -> Result<(), StorageError> {
    for extension in [LOG, INDEX, TIME_INDEX] {
        remove_gradually_if_there(&*place.disk, &place.path(base, extension))?;
    }
    Ok(())
}

/// Unlinks an empty segment where the one that begins at `end` takes its place, in which it may have taken its name already.
pub(crate) fn make_way(place: &Place, base: Offset, end: Offset) -> Result<(), StorageError> {
    let extensions: &[&str] = if base == end { &[INDEX, TIME_INDEX] } else { &[LOG, INDEX, TIME_INDEX] };
    extensions.iter().try_for_each(|extension| remove_if_there(&*place.disk, &place.path(base, extension)))
}

/// Cuts what is torn off a segment's file of `length` bytes, durably. It keeps `least` bytes, zeros behind the cut, if it had them: one that is
/// shorter than it was made has lost its end to somebody else. The answer is how long it is now. Nobody may have mapped it.
pub(crate) fn cut(place: &Place, base: Offset, position: u64, length: u64, least: u64) -> Result<u64, StorageError> {
    let path = place.path(base, LOG);
    let file = place.disk.open(&path).context("open", &path)?;
    let kept = position.max(length.min(least));
    // In this order: as long as what proves that the tail may go is there, all of it is.
    file.set_bytes(kept).and_then(|()| file.sync_data()).context("cut", &path)?;
    if position < kept {
        file.erase(position..kept).and_then(|()| file.sync_data()).context("cut", &path)?;
    }
    Ok(kept)
}

/// Makes sure that the name of a file leads to this one, and that this still has so many bytes at least.
pub(crate) fn find_again(disk: &dyn Disk, path: &Path, file: &dyn DiskFile, least: u64) -> Result<(), StorageError> {
    let taken = |kind, sentence: String| Err(io::Error::new(kind, sentence)).context("find what was written to", path);
    match disk.find(path) {
        Ok((found, _)) if found != file.id().context("look at", path)? => {
            taken(io::ErrorKind::NotFound, "another file was put in its place while the broker ran".into())
        }
        Ok((_, bytes)) if bytes >= least => Ok(()),
        Ok((_, bytes)) => {
            let sentence = format!("it was cut short while the broker ran: it has {bytes} bytes, and had {least}");
            taken(io::ErrorKind::InvalidData, sentence)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            taken(error.kind(), "it was deleted or moved while the broker ran".into())
        }
        Err(error) => Err(error).context("find again", path),
    }
}

/// Unlinks a file that may not exist.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    unless_missing(disk.remove_file(path), path)
}

/// The same for one that may be large, and whose space nobody waits for.
pub(crate) fn remove_gradually_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    unless_missing(disk.remove_file_gradually(path), path)
}

fn unless_missing(removed: io::Result<()>, path: &Path) -> Result<(), StorageError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_offsets_do_and_parse_back() {
        assert_eq!(file_name(Offset(42), LOG), "00000000000000000042.log");
        assert_eq!(parse_name("00000000000000000042.timeindex"), Some((Offset(42), "timeindex")));
        for name in
            ["42.log", "0000000000000000004x.log", "99999999999999999999.log", "00000000000000000042", "checkpoint"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
        let swap = swap_name(Offset(42), Offset(77));
        assert_eq!(parse_swap_name(&swap), Some((Offset(42), Offset(77))));
        assert_eq!(parse_swap_name(&swap_name(Offset(42), Offset(42))), None);
        assert_eq!(parse_swap_name("00000000000000000042.swap"), None);
    }
}
