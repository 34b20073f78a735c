//! Which broker a data folder belongs to: noted at its first start. Under another id its replicas would count as somebody else's, and be
//! removed as left over. Knows nothing of clusters.

use std::path::{Path, PathBuf};

use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{DataDir, Disk, StorageError};
use tidelog_protocol::BrokerId;

const KIND: Kind = Kind { magic: *b"TLID", version: 1 };
/// Name of the file in the data folder.
const FILE: &str = "broker-id";

/// Why a folder cannot be this broker's.
#[derive(Debug, thiserror::Error)]
pub enum BrokerMarkError {
    /// It is another's.
    #[error(
        "{} belongs to broker {noted}, and this one is told to be broker {own}: set broker_id to {noted}, or give this broker a data folder of its own",
        data.display()
    )]
    Another {
        /// The data folder.
        data: PathBuf,
        /// Whose it is.
        noted: BrokerId,
        /// Who would use it.
        own: BrokerId,
    },
    /// It says whose it is, but cannot be read.
    #[error("{}: {error}; it says which broker the folder belongs to: restore it, or remove it where you are sure", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: SmallFileError,
    },
    /// A newer release wrote it.
    #[error(transparent)]
    Newer(DataDirError),
    /// The disk refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes sure that the folder is not another broker's. Blocks.
///
/// # Errors
/// [`BrokerMarkError`].
pub(crate) fn check(data: &DataDir, own: BrokerId) -> Result<(), BrokerMarkError> {
    match noted(&*data.disk(), data.root())? {
        Some(noted) if noted != own => Err(BrokerMarkError::Another { data: data.root().to_owned(), noted, own }),
        _ => Ok(()),
    }
}

/// Notes that the folder is this broker's, where nobody has yet. Not before its cluster has taken it: who is refused may come back under
/// another id. Blocks.
///
/// # Errors
/// [`BrokerMarkError`].
pub(crate) fn note(data: &DataDir, own: BrokerId) -> Result<(), BrokerMarkError> {
    if is_noted(data)? {
        return Ok(());
    }
    match small_file::replace(&*data.disk(), &data.root().join(FILE), KIND, &own.0.to_be_bytes()) {
        // A full disk keeps nobody from reading; the next start notes it.
        Err(error) if error.is_transient() => Ok(()),
        noted => Ok(noted?),
    }
}

/// Whether a cluster has taken it. Blocks.
///
/// # Errors
/// [`BrokerMarkError`].
pub(crate) fn is_noted(data: &DataDir) -> Result<bool, BrokerMarkError> {
    Ok(noted(&*data.disk(), data.root())?.is_some())
}

/// Whose the folder is, where a cluster has taken it. Blocks.
///
/// # Errors
/// [`BrokerMarkError`].
pub(crate) fn noted(disk: &dyn Disk, folder: &Path) -> Result<Option<BrokerId>, BrokerMarkError> {
    let path = folder.join(FILE);
    match small_file::read(disk, &path, KIND) {
        Ok((_, body)) => Ok(body.first_chunk().map(|bytes| BrokerId(u32::from_be_bytes(*bytes)))),
        Err(SmallFileError::Missing) => Ok(None),
        Err(SmallFileError::Newer { found, newest }) => {
            Err(BrokerMarkError::Newer(DataDirError::Newer { path, found, newest }))
        }
        Err(error) => Err(BrokerMarkError::Unreadable { path, error }),
    }
}
