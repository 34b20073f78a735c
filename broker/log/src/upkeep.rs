//! What a log needs done off the append path: grow ahead, prepare the next segment, checkpoint, let go of what nobody reads.
//!
//! Runs on the flusher's second thread (or in [`crate::Log::close`]); everything here may fail without harm but a slower restart, and is
//! tried again at the next visit. Knows nothing of appends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{Checkpoint, SegmentRecord, Shutdown, tellable};
use crate::segment::{Place, Segment};
use crate::segment_files::Prepared;
use crate::segment_index::rebuild_index;
use crate::state::{FlushError, LogState, Upkeep};
use crate::storage_error::{Context, StorageError};

impl LogState {
    /// Whether the upkeep should prepare the next segment now.
    pub(crate) fn wants_next_segment(&self, active: &Segment) -> bool {
        active.end_bytes() > active.full_bytes() / 2
            && self.prepared.try_lock().is_some_and(|prepared| prepared.is_none())
    }

    /// One visit of the upkeep.
    pub(crate) fn tidy(&self, checkpoint_bytes: u64) -> Result<(), StorageError> {
        if self.poisoned().is_some() || self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let active = self.active();
        if active.wants_growth() && self.flusher.has_space() {
            let grown = active.grow(active.allocated() + 1, self.flusher.spare_bytes());
            let taken = grown
                .context("allocate", &active.path())
                .or_else(|error| if error.is_transient() { Ok(0) } else { Err(error) })?;
            self.flusher.note_taken(taken);
        }
        if self.wants_next_segment(&active) && self.flusher.has_space() {
            self.prepare_next()?;
        }
        let mut upkeep = self.upkeep.lock();
        if self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let sealed_since = upkeep.recovery_point.is_none_or(|point| point < active.base());
        let is_due = sealed_since || self.flushed_bytes.load(Ordering::Relaxed) >= checkpoint_bytes;
        if is_due || upkeep.has_unfinished_work() {
            self.checkpoint(&mut upkeep, Shutdown::Running)?;
            self.unlink_gone(&mut upkeep)?;
            let segments = self.segments();
            self.trim(&segments[..segments.len() - 1])?;
        }
        Ok(())
    }

    fn prepare_next(&self) -> Result<(), StorageError> {
        // The slot stays taken meanwhile: a writer that comes too early waits for this one instead of making a second.
        let Some(mut slot) = self.prepared.try_lock() else { return Ok(()) };
        let bytes = u64::from(self.segment_bytes());
        if self.flusher.spare_bytes() < bytes {
            return Ok(());
        }
        match Prepared::make(&self.place, bytes) {
            Ok(prepared) => {
                self.flusher.note_taken(bytes);
                *slot = Some(prepared);
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes where recovery may begin: everything published now, once it is durable.
    pub(crate) fn checkpoint(&self, upkeep: &mut Upkeep, shutdown: Shutdown) -> Result<(), StorageError> {
        let segments = self.segments();
        let log_start = self.log_start();
        let records: Vec<SegmentRecord> = segments.iter().map(|segment| segment.record()).collect();
        // Before the flush, which then covers every batch that it knows.
        let producers = self.producers.lock().snapshot();
        self.flushed_bytes.store(0, Ordering::Relaxed);
        self.flush().map_err(no_checkpoint)?;
        let reserved_bytes = match (shutdown, segments.last()) {
            (Shutdown::Running, Some(last)) => tellable(self.certain_length(last)?),
            _ => 0,
        };
        // The checkpoint knows the newest segment, though no record may have gone into it that the flush would have been about.
        self.sync_folder()?;
        self.write_epochs()?;
        self.store_producers(upkeep, &producers, &segments)?;
        let mut saved = Vec::with_capacity(records.len());
        for (segment, record) in segments.iter().zip(records) {
            let marks = segment.save_index(&record).context("write the index of", &segment.path())?;
            saved.push(SegmentRecord { marks, ..record });
        }
        let recovery_point = saved.last().map_or(log_start, |record| record.end.offset);
        let holes = self.holes().within(self.first_base()..recovery_point).all().to_vec();
        let checkpoint = Checkpoint {
            log_start,
            recovery_point: recovery_point.max(log_start),
            shutdown,
            reserved_bytes,
            segments: saved,
            holes,
        };
        // Before the checkpoint, which a start that is noted then always agrees with.
        let Place { disk, dir, .. } = &self.place;
        let first = segments.first().map_or(log_start, |first| first.base());
        upkeep.noted_start.store(&**disk, dir, log_start, first)?;
        checkpoint.write(&**disk, dir)?;
        upkeep.recovery_point = Some(recovery_point);
        upkeep.is_start_stored = true;
        self.finish_swaps(upkeep)
    }

    /// How long the file of the last segment is for certain, up to what a new one has. One that was trimmed when the log was closed grows first, and
    /// one that nobody has flushed is.
    fn certain_length(&self, last: &Segment) -> Result<u64, StorageError> {
        let least = u64::from(self.place.options.first_allocation_bytes);
        if last.certain_bytes() < least {
            if self.flusher.has_space() {
                let grown = last.grow(least, self.flusher.spare_bytes()).context("allocate", &last.path());
                // Where there is no room the checkpoint says less.
                let taken = grown.or_else(|error| if error.is_transient() { Ok(0) } else { Err(error) })?;
                self.flusher.note_taken(taken);
            }
            self.sync_length(last).map_err(no_checkpoint)?;
        }
        Ok(last.certain_bytes().min(least))
    }

    /// The last act of a log that was flushed.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        let mut upkeep = self.upkeep.lock();
        self.retired.store(true, Ordering::Release);
        self.checkpoint(&mut upkeep, Shutdown::Clean)?;
        if let Some(prepared) = self.prepared.lock().take() {
            prepared.discard(&self.place)?;
        }
        self.trim(&self.segments())
    }

    /// Gives back what was reserved behind the last batch of segments that are full or closed.
    ///
    /// Only of those that are durable: a flush that fails reports it once, and whoever hears it must poison the log. The writer may have
    /// sealed others since the checkpoint; their turn comes with the next.
    fn trim(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        let is_due = |segment: &&Arc<Segment>| segment.has_spare_room() && segment.dirty_bytes() == 0;
        for segment in segments.iter().filter(is_due) {
            segment.trim().context("trim", &segment.path())?;
        }
        Ok(())
    }

    /// Makes sure that a segment's index is in memory, from its files or else from the log itself.
    pub(crate) fn index_segment(&self, segment: &Arc<Segment>) -> io::Result<()> {
        if segment.load_index()? {
            return Ok(());
        }
        let holes = self.holes();
        let interval = self.place.options.index_interval_bytes;
        let (index, _) = rebuild_index(segment.file()?, segment.base(), segment.end_bytes(), &holes, interval)?;
        segment.adopt_index(index);
        Ok(())
    }

    /// Closes sealed segments that nobody has read since the last call.
    pub(crate) fn rest_idle_segments(&self) {
        let segments = self.segments();
        let _no_checkpoint = self.upkeep.lock();
        for segment in segments.iter().rev().skip(1) {
            if !segment.touched.swap(false, Ordering::Relaxed) {
                segment.rest();
            }
        }
    }
}

/// Poisoned logs keep their last honest checkpoint.
fn no_checkpoint(error: FlushError) -> StorageError {
    match error {
        FlushError::NotTried(error) => error,
        FlushError::Poisoned(error) => {
            let source = io::Error::new(error.source.kind(), error.to_string());
            StorageError { operation: "flush before checkpoint", path: error.path.clone(), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use parking_lot::Mutex;
    use tidelog_protocol::{IncarnationId, LeaderEpoch, Offset, PartitionId, TopicId};

    use crate::fault::{Fault, FaultDisk, Operation};
    use crate::{FlusherHandle, Group, Identity, Log, LogListener, LogOptions, SegmentOptions, sample};

    /// Lets the writer go on in the middle of a checkpoint, when its flush is done.
    struct Turns {
        flushed: SyncSender<()>,
        go_on: Mutex<Receiver<()>>,
    }

    impl LogListener for Turns {
        fn flushed(&self, _end: Offset) {
            let _ = self.flushed.send(());
            let _ = self.go_on.lock().recv();
        }

        fn poisoned(&self, _error: &Arc<StorageError>) {}
    }

    fn append(log: &mut Log) {
        let (bytes, header) = sample::batch(&[7; 1000]);
        let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(1)).unwrap();
    }

    #[test]
    fn a_segment_that_was_sealed_during_a_checkpoint_is_not_synced_behind_the_flushers_back() {
        let temp = tempfile::tempdir().unwrap();
        let disk = FaultDisk::new();
        let (flushed_sender, flushed) = sync_channel(0);
        let (go_on, go_on_receiver) = sync_channel(0);
        let (mut log, _) = Log::open(LogOptions {
            dir: temp.path().join("t-0"),
            disk: Arc::<FaultDisk>::clone(&disk),
            identity: Identity {
                topic: TopicId([7; 16]),
                partition: PartitionId(0),
                incarnation: IncarnationId([9; 16]),
            },
            segment: SegmentOptions { segment_bytes: 4096, index_interval_bytes: 4096, first_allocation_bytes: 4096 },
            flusher: FlusherHandle::detached(),
            listener: Arc::new(Turns { flushed: flushed_sender, go_on: Mutex::new(go_on_receiver) }),
        })
        .unwrap();
        append(&mut log);
        let state = Arc::clone(&log.state);
        let visit = std::thread::spawn(move || state.tidy(0));
        flushed.recv().unwrap();
        // The first segment is sealed with batches that no flush has covered, and the disk is about to lose them.
        for _ in 0..4 {
            append(&mut log);
        }
        let sealed = Arc::clone(&log.state.segments()[0]);
        assert!(sealed.dirty_bytes() > 0 && sealed.end_bytes() < sealed.allocated());
        go_on.send(()).unwrap();
        visit.join().unwrap().unwrap();
        assert!(sealed.end_bytes() < sealed.allocated(), "its turn comes later");

        // Nobody else has heard of the failure, so the flush does, and stops this replica.
        disk.arm(Operation::SyncData, 0, Fault::Error(ErrorKind::Other));
        assert!(matches!(log.state.flush(), Err(FlushError::Poisoned(_))));
        assert_eq!(log.state.flushed_end(), Offset(1));
    }
}
