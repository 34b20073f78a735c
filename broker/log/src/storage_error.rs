//! What the disk refused, with the words a person needs: which operation, which file, why.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{is_full, is_out_of_descriptors};

/// An operation on a file or folder that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}{}", path.display(), self.remedy())]
pub struct StorageError {
    /// What was tried, as a verb: "flush", "write", "rename".
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl StorageError {
    /// Whether nothing is broken: there is no room on the disk, or no file descriptor, for the time being.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        is_full(&self.source) || is_out_of_descriptors(&self.source)
    }

    /// What helps, where it is no fault of what the disk holds.
    fn remedy(&self) -> &'static str {
        if is_full(&self.source) {
            "; free space on its disk"
        } else if is_out_of_descriptors(&self.source) {
            "; raise the limit of open files (ulimit -n, LimitNOFILE=)"
        } else {
            ""
        }
    }
}

/// Attaches operation and path to an error of the operating system.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError { operation, path: path.to_owned(), source })
    }
}
