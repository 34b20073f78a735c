//! Why a log cannot be opened, in words for an operator. Knows nothing of how it is opened.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
    /// The folder was whole once, and what is left of it has no records: an empty log in its place would give their offsets out again.
    #[error("the records in {} are gone: the folder is there, but not one segment (*.log) in it", dir.display())]
    LogLost {
        /// The folder.
        dir: PathBuf,
    },
    /// The last segment is gone or was cut short, and with it how far the log went: offsets that were given out could be given out again.
    #[error(
        "{}, the log's last segment, {}, and nothing tells where the log ended: restore it from a copy; or, to go on without {} and perhaps give their offsets out again, remove {}",
        path.display(), ending(*found), if found.is_none() { "its records" } else { "the records that it lost" }, checkpoint.display()
    )]
    EndLost {
        /// The segment's file.
        path: PathBuf,
        /// How long it is; `None` where it is gone.
        found: Option<u64>,
        /// What remembers it.
        checkpoint: PathBuf,
    },
    /// There is a name without a file.
    #[error(
        "{} is a name with no file behind it, as of a symbolic link whose target was moved: put that back, or remove the name and lose the records",
        path.display()
    )]
    Dangling {
        /// The segment's file.
        path: PathBuf,
    },
}

fn ending(found: Option<u64>) -> String {
    match found {
        None => "is gone".to_owned(),
        Some(bytes) => format!("was cut short to {bytes} bytes (no crash does that)"),
    }
}

impl OpenError {
    /// Of a segment whose file the folder lists.
    pub(crate) fn of_segment(error: StorageError, path: &Path) -> Self {
        if error.source.kind() == ErrorKind::NotFound { Self::Dangling { path: path.to_owned() } } else { error.into() }
    }
}
