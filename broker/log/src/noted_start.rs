//! Where a log begins, noted a second time: records that were deleted stay so where the checkpoint is damaged.
//!
//! The name of the first segment says it too, unless the log begins inside that segment: from then on there is a note, and it is kept up to date,
//! so that segments which are gone from behind it are told from those that were deleted. It is durable before the
//! checkpoint is written, so of the two the larger counts; and everything below it was flushed before it was written, so no log ends
//! below it. Knows nothing of who deletes.

use std::path::Path;

use tidelog_protocol::Offset;

use crate::disk::Disk;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::StorageError;

/// Name of the file in the partition folder.
pub(crate) const FILE_NAME: &str = "log-start";
pub(crate) const KIND: Kind = Kind { magic: *b"TLls", version: 1 };

/// What the file says; `None` where there is none, or none that can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NotedStart(Option<Offset>);

impl NotedStart {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, SmallFileError> {
        let body = match small_file::read(disk, &dir.join(FILE_NAME), KIND) {
            Ok((_, body)) => body,
            // A log that never began inside a segment, or that only releases before this file wrote.
            Err(SmallFileError::Missing) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut fields = Fields(&body);
        let start = fields.u64().filter(|_| fields.0.is_empty());
        start.map(|start| Self(Some(Offset(start)))).ok_or(SmallFileError::Damaged("it is not one number"))
    }

    /// Whether there is a note. One that earlier releases wrote may say less than was deleted.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// The offset, zero without a note.
    pub(crate) fn offset(self) -> Offset {
        self.0.unwrap_or_default()
    }

    /// Notes the start of a log whose first segment begins at `first`, where that has always said it. What lies below must be durable.
    pub(crate) fn store(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        start: Offset,
        first: Offset,
    ) -> Result<(), StorageError> {
        if self.0 == Some(start) || self.0.is_none() && start <= first {
            return Ok(());
        }
        small_file::replace(disk, &dir.join(FILE_NAME), KIND, &start.0.to_be_bytes())?;
        self.0 = Some(start);
        Ok(())
    }

    /// Takes the note back, durably, before the log begins anew: it may do so below.
    pub(crate) fn remove(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        if self.0.is_some() {
            small_file::remove(disk, &dir.join(FILE_NAME))?;
            self.0 = None;
        }
        Ok(())
    }
}
