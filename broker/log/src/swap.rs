//! Exchanges sealed segments for one that was written anew from them, under live readers, so that a crash at any step leaves the old ones or the
//! new one.
//!
//! The new file is complete and flushed before it gets the name `<base>.<end>.swap`, which says which segments it stands for: once that name
//! is durable, the exchange happens, now or at the next opening. Then the checkpoint describes the new segment, the old files go, and the file
//! takes the name of the first of them. Each step is durable before the next begins, and all of them can be done twice. Readers keep
//! the files they have open. Knows nothing of why a segment was written anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::Offset;

use crate::checkpoint::{Checkpoint, Marks, SegmentRecord, Shutdown};
use crate::compaction::CompactionError;
use crate::compaction::rewrite::Rewritten;
use crate::hole::Holes;
use crate::segment::{Place, Segment};
use crate::segment_files::{self, INDEX, LOG, TIME_INDEX};
use crate::segment_index::rebuild_index;
use crate::state::{LogState, Upkeep};
use crate::storage_error::{Context, StorageError};

/// An exchange that is decided and not finished.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    /// The new segment, which lies under its swap name until then.
    segment: Arc<Segment>,
    /// Where the other segments begin that it stands for.
    others: Vec<Offset>,
    end: Offset,
}

impl LogState {
    /// Puts `new` in the place of `old`, which are neighbours.
    pub(crate) fn swap_in(&self, old: &[Arc<Segment>], new: Rewritten) -> Result<(), CompactionError> {
        let mut upkeep = self.upkeep.lock();
        let undo = |error| {
            // What cannot be removed now is a leftover of the next opening.
            let _ = self.place.disk.remove_file(&new.path);
            old.iter().for_each(|segment| segment.unpin());
            Err(error)
        };
        if let Err(error) = self.check_swap(old, &new) {
            return undo(error);
        }
        // What an earlier exchange left undone may be about the same names.
        if let Err(error) = self.settle_swaps(&mut upkeep) {
            return undo(error.into());
        }
        for segment in old {
            if let Err(error) = segment.pin().context("open", &segment.path()) {
                return undo(error.into());
            }
        }
        if let Err(error) = new.segment.pin().context("open", &new.path) {
            return undo(error.into());
        }
        if let Err(error) = self.commit(&new) {
            return undo(error);
        }
        self.change_segments(|segments| {
            let first = segments.partition_point(|segment| segment.base() < new.base);
            segments.splice(first..first + old.len(), [Arc::clone(&new.segment)]);
        });
        let others = old[1..].iter().map(|segment| segment.base()).collect();
        upkeep.swaps.push(Swap { segment: new.segment, others, end: new.end.offset });
        // The old ones describe other bytes. Readers that still search the old segments make their index from those.
        for extension in [INDEX, TIME_INDEX] {
            segment_files::remove_if_there(&*self.place.disk, &self.place.path(new.base, extension))?;
        }
        self.checkpoint(&mut upkeep, Shutdown::Running)?;
        Ok(())
    }

    fn check_swap(&self, old: &[Arc<Segment>], new: &Rewritten) -> Result<(), CompactionError> {
        if let Some(error) = self.poisoned() {
            return Err(CompactionError::Poisoned(error));
        }
        let segments = self.segments();
        let first = segments.partition_point(|segment| segment.base() < new.base);
        let there = segments[..segments.len() - 1].get(first..first + old.len());
        let is_same = there.is_some_and(|there| there.iter().zip(old).all(|(there, old)| Arc::ptr_eq(there, old)));
        if !is_same || self.retired.load(Ordering::Acquire) {
            return Err(CompactionError::Changed);
        }
        let end = old.last().map_or(new.base, |last| last.end_offset());
        assert!(new.end.offset == end, "{:?} in place of segments that end at {end}", new.end);
        match self.holes().within(new.base..end).all().first() {
            Some(hole) => Err(CompactionError::Damaged(hole.from)),
            None => Ok(()),
        }
    }

    /// From here on the exchange happens, whatever else does.
    fn commit(&self, new: &Rewritten) -> Result<(), CompactionError> {
        let Place { disk, dir, .. } = &self.place;
        let swap = dir.join(segment_files::swap_name(new.base, new.end.offset));
        disk.rename(&new.path, &swap).context("rename", &new.path)?;
        match disk.sync_dir(dir).context("flush", dir) {
            Ok(()) => Ok(()),
            // Nothing was tried yet, so it can be taken back.
            Err(error) if error.is_transient() && disk.remove_file(&swap).is_ok() => Err(error.into()),
            Err(error) => Err(CompactionError::Poisoned(self.poison(error))),
        }
    }

    /// Finishes exchanges that a refusal of the disk has kept from it. To be called before files change names for any other reason.
    pub(crate) fn settle_swaps(&self, upkeep: &mut Upkeep) -> Result<(), StorageError> {
        if upkeep.swaps.is_empty() { Ok(()) } else { self.checkpoint(upkeep, Shutdown::Running) }
    }

    /// After a checkpoint that describes the new segments.
    pub(crate) fn finish_swaps(&self, upkeep: &mut Upkeep) -> Result<(), StorageError> {
        while let Some(swap) = upkeep.swaps.first() {
            let base = swap.segment.base();
            finish(&self.place, base, swap.end, &swap.others).map_err(|error| {
                let is_transient = error.is_transient();
                let copy = StorageError {
                    operation: error.operation,
                    path: error.path.clone(),
                    source: std::io::Error::new(error.source.kind(), error.source.to_string()),
                };
                if !is_transient {
                    // Whether the names are durable is unknown, and they are not to come back later.
                    let _ = self.poison(error);
                }
                copy
            })?;
            swap.segment.unpin();
            upkeep.swaps.remove(0);
        }
        Ok(())
    }
}

/// The last steps: the old files go, the new one takes its name. Doing it twice changes nothing.
fn finish(place: &Place, base: Offset, end: Offset, others: &[Offset]) -> Result<(), StorageError> {
    let Place { disk, dir, .. } = place;
    for &other in others.iter().rev() {
        segment_files::remove(place, other)?;
    }
    if !others.is_empty() {
        disk.sync_dir(dir).context("flush", dir)?;
    }
    let swap = dir.join(segment_files::swap_name(base, end));
    match disk.rename(&swap, &place.path(base, LOG)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        renamed => renamed.context("rename", &swap)?,
    }
    disk.sync_dir(dir).context("flush", dir)
}

/// At opening: finishes what was decided before a crash. `logs` are the segments' files that are there.
pub(crate) fn recover_swaps(place: &Place, swaps: &[(Offset, Offset)], logs: &[Offset]) -> Result<(), StorageError> {
    if swaps.is_empty() {
        return Ok(());
    }
    // A killed process may not have come to make the names durable that decide it.
    place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
    for &(base, end) in swaps {
        describe(place, base, end)?;
        let others: Vec<_> = logs.iter().copied().filter(|log| (base.plus(1)..end).contains(log)).collect();
        finish(place, base, end, &others)?;
    }
    Ok(())
}

/// Makes the checkpoint say what the file under the swap name holds, if it does not yet.
fn describe(place: &Place, base: Offset, end: Offset) -> Result<(), StorageError> {
    // Without one, everything is scanned.
    let Ok(mut checkpoint) = Checkpoint::read(&*place.disk, &place.dir) else { return Ok(()) };
    let path = place.dir.join(segment_files::swap_name(base, end));
    let file = place.disk.open(&path).context("open", &path)?;
    let bytes = file.bytes().context("measure", &path)?;
    let first = checkpoint.segments.partition_point(|record| record.base < base);
    let after = checkpoint.segments.partition_point(|record| record.base < end);
    if let [record] = &checkpoint.segments[first..after]
        && (record.end.offset, record.end.bytes) == (end, bytes)
    {
        return Ok(());
    }
    let interval = place.options.index_interval_bytes;
    let (_, found) = rebuild_index(file, base, bytes, &Holes::default(), interval).context("read", &path)?;
    let is_whole = (found.offset, found.bytes) == (end, bytes);
    // Rot in it: left out of the checkpoint, it makes that distrusted, and the scan of everything finds what is left.
    let record = is_whole.then_some(SegmentRecord { base, end: found, marks: Marks::default() });
    checkpoint.segments.splice(first..after, record);
    checkpoint.shutdown = Shutdown::Running;
    checkpoint.write(&*place.disk, &place.dir)
}
