//! What a log needs done off the append path: grow ahead, prepare the next segment, checkpoint, let go of what nobody reads.
//!
//! Runs on the flusher's second thread (or in [`crate::Log::close`]); everything here may fail without harm but a slower restart, and is
//! tried again at the next visit. Knows nothing of appends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{Checkpoint, SegmentRecord, Shutdown};
use crate::recovery::rebuild_index;
use crate::segment::Segment;
use crate::segment_files::Prepared;
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
            let grown = active.grow(active.allocated() + 1);
            grown
                .context("allocate", &active.path())
                .or_else(|error| if error.is_transient() { Ok(()) } else { Err(error) })?;
        }
        if self.wants_next_segment(&active) && self.flusher.has_space() {
            self.prepare_next()?;
        }
        let mut upkeep = self.upkeep.lock();
        if self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let sealed_since = upkeep.recovery_point.is_none_or(|point| point < active.base());
        if sealed_since || self.flushed_bytes.load(Ordering::Relaxed) >= checkpoint_bytes {
            self.checkpoint(&mut upkeep, Shutdown::Running)?;
            let segments = self.segments();
            self.trim(&segments[..segments.len() - 1])?;
        }
        Ok(())
    }

    fn prepare_next(&self) -> Result<(), StorageError> {
        // The slot stays taken meanwhile: a writer that comes too early waits for this one instead of making a second.
        let Some(mut slot) = self.prepared.try_lock() else { return Ok(()) };
        match Prepared::make(&self.place, u64::from(self.segment_bytes())) {
            Ok(prepared) => *slot = Some(prepared),
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
        self.flushed_bytes.store(0, Ordering::Relaxed);
        match self.flush() {
            Ok(_) => {}
            Err(FlushError::NotTried(error)) => return Err(error),
            Err(FlushError::Poisoned(error)) => {
                // Poisoned logs keep their last honest checkpoint.
                let source = io::Error::new(error.source.kind(), error.to_string());
                return Err(StorageError { operation: "flush before checkpoint", path: error.path.clone(), source });
            }
        }
        self.write_epochs()?;
        let mut saved = Vec::with_capacity(records.len());
        for (segment, record) in segments.iter().zip(records) {
            let marks = segment.save_index(&record).context("write the index of", &segment.path())?;
            saved.push(SegmentRecord { marks, ..record });
        }
        let recovery_point = saved.last().map_or(log_start, |record| record.end.offset);
        let holes = self.holes().within(log_start..recovery_point).all().to_vec();
        let checkpoint =
            Checkpoint { log_start, recovery_point: recovery_point.max(log_start), shutdown, segments: saved, holes };
        checkpoint.write(&*self.place.disk, &self.place.dir)?;
        upkeep.recovery_point = Some(recovery_point);
        Ok(())
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
    fn trim(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        for segment in segments.iter().filter(|segment| segment.end_bytes() < segment.allocated()) {
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
