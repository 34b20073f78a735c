//! Writes what is left of some segments into one new file beside them, durably and without a name that anybody reads.
//!
//! Empty batches that follow one another become one that names the offsets of all of them: kept one by one they would take 61 bytes for each
//! batch that was ever written, and a topic of single-record batches would grow for ever. Gaps in place of them would take away what tells a
//! lost batch from one that never was. Knows nothing of which records stay.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_protocol::records::{BatchError, BatchHeader};
use tidelog_protocol::{Offset, ProducerId};

use crate::checkpoint::{Marks, SegmentEnd};
use crate::disk::{DiskFile, write_all_at};
use crate::segment::{Place, Scanned, Segment};
use crate::segment_files;
use crate::segment_index::SegmentIndex;
use crate::storage_error::{Context, StorageError};
use crate::verified::Verified;

/// Bytes written at once.
const CHUNK_BYTES: usize = 1 << 20;
/// An empty batch names no more offsets than this: far from what the indexes of a segment can hold.
const EMPTY_OFFSETS_MAX: u64 = 1 << 30;

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Rewrite {
    place: Place,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    base: Offset,
    end: SegmentEnd,
    index: SegmentIndex,
    buffer: Vec<u8>,
    written: u64,
    /// Not written yet: the next may join it.
    empty: Option<BatchHeader>,
}

/// A finished file: all of it is on the disk.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub(crate) path: PathBuf,
    pub(crate) base: Offset,
    pub(crate) end: SegmentEnd,
    pub(crate) segment: Arc<Segment>,
}

impl Rewrite {
    /// Begins one for the segment at `base`.
    pub(crate) fn begin(place: Place, base: Offset) -> Result<Self, StorageError> {
        let path = place.dir.join(segment_files::rewrite_name(base));
        segment_files::remove_if_there(&*place.disk, &path)?;
        let file = place.disk.create(&path).context("create", &path)?;
        let end = SegmentEnd::empty(base);
        let (index, buffer) = (SegmentIndex::default(), Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { place, path, file, base, end, index, buffer, written: 0, empty: None })
    }

    /// Bytes of batches so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.end.bytes
    }

    /// Makes sure that the disk has room for so many more.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), StorageError> {
        self.file.allocate(self.end.bytes..self.end.bytes + bytes).context("allocate", &self.path)
    }

    /// Takes a batch as it is.
    pub(crate) fn push(&mut self, batch: &[u8]) -> Result<(), RewriteError> {
        let header = BatchHeader::parse_compacted(batch)?;
        self.push_waiting()?;
        self.push_bytes(&header, batch)
    }

    /// Takes a batch without records.
    pub(crate) fn push_empty(&mut self, header: BatchHeader) -> Result<(), RewriteError> {
        if let Some(joined) = self.empty.as_ref().and_then(|waiting| joined(waiting, &header)) {
            self.empty = Some(joined);
            return Ok(());
        }
        self.push_waiting()?;
        self.empty = Some(header);
        Ok(())
    }

    fn push_waiting(&mut self) -> Result<(), RewriteError> {
        let Some(header) = self.empty.take() else { return Ok(()) };
        let bytes = header.sealed();
        let header = BatchHeader::parse_compacted(&bytes)?;
        self.push_bytes(&header, &bytes)
    }

    fn push_bytes(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), RewriteError> {
        assert!(header.base_offset == self.end.offset, "{header:?} behind {:?}", self.end);
        if self.end.bytes + batch.len() as u64 > i32::MAX as u64 {
            return Err(RewriteError::TooLarge);
        }
        self.index.note(self.base, &mut self.end, header, self.place.options.index_interval_bytes);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= CHUNK_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        let written = write_all_at(&*self.file, &mut [IoSlice::new(&self.buffer)], self.written);
        written.map_err(|partial| partial.error).context("write", &self.path)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK_BYTES);
        Ok(())
    }

    /// Makes it durable. On an error there is no file.
    pub(crate) fn finish(mut self) -> Result<Rewritten, RewriteError> {
        let flushed = self.push_waiting().and_then(|()| Ok(self.flush()?));
        if let Err(error) = flushed {
            self.discard();
            return Err(error);
        }
        let found = Scanned {
            file: self.file,
            index: self.index,
            marks: Marks::default(),
            // All of it was written by this process just now.
            verified: Verified::from(0),
            allocated: self.end.bytes,
        };
        let segment = Arc::new(Segment::scanned(&self.place, self.base, self.end, found));
        Ok(Rewritten { path: self.path, base: self.base, end: self.end, segment })
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.write_buffer()?;
        let sealed = self.file.set_bytes(self.end.bytes).and_then(|()| self.file.sync_data());
        sealed.context("flush", &self.path)
    }

    /// Gives its space back; what cannot be removed now is a leftover of the next opening.
    pub(crate) fn discard(self) {
        let _ = self.place.disk.remove_file(&self.path);
    }
}

/// One empty batch in place of two.
pub(crate) fn joined(earlier: &BatchHeader, later: &BatchHeader) -> Option<BatchHeader> {
    let offsets = later.next_offset().since(earlier.base_offset);
    let fits = earlier.leader_epoch == later.leader_epoch && offsets <= EMPTY_OFFSETS_MAX;
    // One that names its producer is the last of it.
    let nameless = [earlier, later].iter().all(|header| header.producer_id == ProducerId::NONE);
    (fits && nameless).then(|| BatchHeader {
        last_offset_delta: (offsets - 1) as u32,
        max_timestamp: earlier.max_timestamp.max(later.max_timestamp),
        ..*earlier
    })
}

/// Why a file cannot be finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RewriteError {
    /// What was given is no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batches take more room than a segment may have.
    #[error("what is left takes more than {} bytes", i32::MAX)]
    TooLarge,
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
