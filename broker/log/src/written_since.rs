//! Where a log's acks stopped waiting for flushes, if they did: a small file beside the segments of a topic with durability `written`.
//!
//! It says that nothing at or after an offset was promised to survive power loss, so that recovery may cut a tail there that has gaps. A log
//! without the file, or with a damaged one, has promised everything. Knows nothing of who acknowledges.

use std::path::Path;

use tidelog_protocol::Offset;

use crate::disk::Disk;
use crate::segment_files::remove_if_there;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::{Context, StorageError};

pub(crate) const FILE_NAME: &str = "written-since";
pub(crate) const KIND: Kind = Kind { magic: *b"TLws", version: 1 };

/// What is to be said, and what the file says. `None`: every ack waits for its flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WrittenSince {
    pub(crate) now: Option<Offset>,
    stored: Option<Offset>,
}

impl WrittenSince {
    /// As the log was left.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, StorageError> {
        let stored = match small_file::read(disk, &dir.join(FILE_NAME), KIND) {
            Ok((_, body)) => {
                let mut fields = Fields(&body);
                fields.u64().filter(|_| fields.0.is_empty()).map(Offset)
            }
            Err(SmallFileError::Storage(error)) => return Err(error),
            Err(_) => None,
        };
        Ok(Self { now: stored, stored })
    }

    /// Makes the file say what is. Must be done before the first ack that waits for a flush again.
    pub(crate) fn store(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        if self.now == self.stored {
            return Ok(());
        }
        let path = dir.join(FILE_NAME);
        match self.now {
            Some(since) => match small_file::replace(disk, &path, KIND, &since.0.to_be_bytes()) {
                // Without it the log promises more than it has to.
                Err(error) if error.is_transient() => return Ok(()),
                replaced => replaced?,
            },
            // Removed, not rewritten: that needs no space.
            None => {
                remove_if_there(disk, &path)?;
                disk.sync_dir(dir).context("flush", dir)?;
            }
        }
        self.stored = self.now;
        Ok(())
    }
}
