//! Repair of a damaged range from a copy of the same log: replicas are equal byte for byte, so what belongs there fits exactly. Knows
//! nothing of where the copy comes from.

use std::io::IoSlice;

use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchError, Batches};

use crate::disk::write_all_at;
use crate::hole::Hole;
use crate::reader::LogReader;
use crate::scan::epoch_matches;
use crate::storage_error::{Context, StorageError};

/// Why a range stays damaged.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Its bytes are not there any more: retention took them, or a segment's file is gone.
    #[error("there is no room for offset {0} in this log: the bytes that held it are missing altogether")]
    NoPlace(Offset),
    /// What came is not what was here.
    #[error("what a replica sent for offset {offset} is not what was here: {why}")]
    Differs {
        /// Where it does not fit.
        offset: Offset,
        /// Why not.
        why: &'static str,
    },
    /// What came is damaged too.
    #[error(transparent)]
    Damaged(#[from] BatchError),
    /// The disk refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A repair under way. What was put in place stays when it is given up: the range counts as damaged until all of it is there.
#[derive(Debug)]
pub struct Repair {
    reader: LogReader,
    hole: Hole,
    next: Offset,
    position: u64,
}

impl Repair {
    /// Begins to repair a range.
    ///
    /// # Errors
    /// [`RepairError::NoPlace`].
    pub fn begin(reader: LogReader, hole: Hole) -> Result<Self, RepairError> {
        if hole.bytes.is_empty() {
            return Err(RepairError::NoPlace(hole.from));
        }
        let (next, position) = (hole.from, hole.bytes.start);
        Ok(Self { reader, hole, next, position })
    }

    /// The offset that is needed next.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Takes whole batches, those before the range are passed over; true once the range is whole and durable. Blocks.
    ///
    /// # Errors
    /// [`RepairError`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, RepairError> {
        let base = self.hole.segment;
        let segments = self.reader.state.segments();
        let segment = segments.iter().find(|segment| segment.base() == base);
        let segment = segment.ok_or(RepairError::NoPlace(self.next))?;
        let path = segment.path();
        let file = segment.file().context("open", &path)?;
        let epochs = self.reader.leader_epochs();
        for batch in Batches::compacted(bytes) {
            let batch = batch?;
            let header = *batch.header();
            if header.next_offset() <= self.next || self.next == self.hole.to {
                continue;
            }
            batch.verify_crc()?;
            let end = self.position + batch.bytes().len() as u64;
            let differs = |why| Err(RepairError::Differs { offset: self.next, why });
            if header.base_offset != self.next {
                return differs("another batch begins there");
            }
            if end > self.hole.bytes.end || header.next_offset() > self.hole.to {
                return differs("it takes more room");
            }
            if !epoch_matches(&epochs, &header) {
                return differs("another leadership wrote it");
            }
            write_all_at(&*file, &mut [IoSlice::new(batch.bytes())], self.position)
                .map_err(|partial| partial.error)
                .context("repair", &path)?;
            (self.next, self.position) = (header.next_offset(), end);
        }
        if self.next < self.hole.to {
            return Ok(false);
        }
        if self.position != self.hole.bytes.end {
            return Err(RepairError::Differs { offset: self.next, why: "it takes less room" });
        }
        file.sync_data().context("flush", &path)?;
        self.reader.state.remove_hole(&self.hole);
        Ok(true)
    }
}
