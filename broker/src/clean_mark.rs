//! The mark of a clean end: under which registration this broker last closed all its logs. It stands from the end of one life to the
//! registration of the next, which uses it up. Knows nothing of what the controller makes of it.

use std::path::PathBuf;

use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{DataDir, StorageError};
use tidelog_protocol::BrokerEpoch;
use tracing::warn;

const KIND: Kind = Kind { magic: *b"TLCE", version: 1 };
/// Name of the file in the data folder.
const FILE: &str = "closed-cleanly";

/// Everything is closed and flushed. Blocks.
///
/// # Errors
/// Where the disk refuses.
pub(crate) fn set(data: &DataDir, epoch: BrokerEpoch) -> Result<(), StorageError> {
    small_file::replace(&*data.disk(), &path(data), KIND, &epoch.0.to_be_bytes())
}

/// Takes the mark away, durably, before anything is written that it would not cover. A mark that is damaged is none. Blocks.
///
/// # Errors
/// Where a newer release set it, or the disk refuses: the mark may stand still, and nothing must be written.
pub(crate) fn take(data: &DataDir) -> Result<Option<BrokerEpoch>, DataDirError> {
    let disk = data.disk();
    let epoch = match small_file::read(&*disk, &path(data), KIND) {
        Ok((_, body)) => body.first_chunk().map(|bytes| BrokerEpoch(u64::from_be_bytes(*bytes))),
        Err(SmallFileError::Missing) => return Ok(None),
        Err(SmallFileError::Newer { found, newest }) => {
            return Err(DataDirError::Newer { path: path(data), found, newest });
        }
        Err(error) => {
            warn!(%error, "the mark of a clean end cannot be read; this start counts as one after a crash");
            None
        }
    };
    small_file::remove(&*disk, &path(data))?;
    Ok(epoch)
}

fn path(data: &DataDir) -> PathBuf {
    data.root().join(FILE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidelog_log::OsDisk;

    use super::*;

    #[test]
    fn a_mark_is_used_up_by_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(Arc::new(OsDisk), folder.path(), None).unwrap();
        assert_eq!(take(&data).unwrap(), None);
        set(&data, BrokerEpoch(7)).unwrap();
        assert_eq!(take(&data).unwrap(), Some(BrokerEpoch(7)));
        assert_eq!(take(&data).unwrap(), None);
        set(&data, BrokerEpoch(8)).unwrap();
        std::fs::write(path(&data), b"garbage").unwrap();
        assert_eq!(take(&data).unwrap(), None, "what cannot be read proves nothing");
        assert!(!path(&data).exists());
    }
}
