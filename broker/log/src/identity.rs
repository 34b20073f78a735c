//! Whose data a partition folder holds: a small file that is written once, before the first byte of data.
//!
//! A folder is reached by name, and names are reused: the topic id in here keeps a deleted topic's bytes from being served under its
//! successor's name.

use std::path::{Path, PathBuf};

use tidelog_protocol::{IncarnationId, PartitionId, TopicId};

use crate::disk::Disk;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::StorageError;

/// Name of the file in the partition folder.
pub(crate) const FILE_NAME: &str = "identity";
pub(crate) const KIND: Kind = Kind { magic: *b"TLid", version: 1 };

/// Which partition, and which life of it on this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionId,
    /// The life of the data folder in which this replica was created.
    pub incarnation: IncarnationId,
}

/// Why a folder is not that of the partition asked for.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another topic's or partition's data.
    #[error("{} holds topic {} partition {}, not topic {} partition {}: move that folder away",
        path.display(), found.topic, found.partition, expected.topic, expected.partition)]
    Mismatch {
        /// The identity file.
        path: PathBuf,
        /// What it says.
        found: Identity,
        /// What was asked for.
        expected: Identity,
    },
    /// A later release wrote the folder.
    #[error("{} has format version {found}, this release reads up to {newest}: start a newer release", path.display())]
    Newer {
        /// The identity file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that can be read.
        newest: u16,
    },
    /// There are segments, but nothing says whose.
    #[error("{} cannot be trusted ({reason}) though there are segments beside it: restore it, or move the folder away", path.display())]
    Unknown {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Identity {
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        small_file::replace(disk, &dir.join(FILE_NAME), KIND, &self.encode())
    }

    /// What the folder says it is.
    ///
    /// # Errors
    /// [`SmallFileError`].
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, SmallFileError> {
        let (_, body) = small_file::read(disk, &dir.join(FILE_NAME), KIND)?;
        Self::decode(&body).ok_or(SmallFileError::Damaged("its fields do not fit"))
    }

    /// The same partition, whatever the incarnation: a replica outlives a restart.
    pub(crate) fn is_same_partition(&self, other: &Self) -> bool {
        (self.topic, self.partition) == (other.topic, other.partition)
    }

    fn encode(&self) -> Vec<u8> {
        [&self.topic.0[..], &self.partition.0.to_be_bytes(), &self.incarnation.0].concat()
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let identity = Self {
            topic: TopicId(fields.take()?),
            partition: PartitionId(fields.u32()?),
            incarnation: IncarnationId(fields.take()?),
        };
        fields.0.is_empty().then_some(identity)
    }
}
