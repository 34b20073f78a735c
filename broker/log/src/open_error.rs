//! Why a log cannot be opened, in words for an operator. Knows nothing of how it is opened.

use std::path::PathBuf;

use tidelog_protocol::Offset;

use crate::identity::IdentityError;
use crate::storage_error::StorageError;

/// Why a partition folder cannot be opened at all. Damage that can be fenced is in the [`crate::RecoveryReport`] instead.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is another partition's, a later release's, or nobody's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A later release wrote a file that says what of the log counts. Without it records might come back that were deleted.
    #[error("{} has version {found}, this release reads up to {newest}: start a newer release", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that can be read.
        newest: u16,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Two segments claim the same offsets: a copy was put there, or two brokers wrote one folder.
    #[error("{} begins before offset {expected}, where the segment before it ends: move the one that does not belong there away", path.display())]
    Overlap {
        /// The later of the two.
        path: PathBuf,
        /// Where the earlier one ends.
        expected: Offset,
    },
}
