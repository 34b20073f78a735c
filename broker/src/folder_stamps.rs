//! The stamps of a data folder. A broker draws a number at each start and now and then while it runs, notes it in its folder, and only then tells it
//! to the cluster, which remembers the last. So a folder that does not know the one that the cluster heard last is an older copy: what was
//! written since is not in it. Knows nothing of who tells the cluster, and when.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{DataDir, StorageError};
use tidelog_protocol::FolderStamp;
use tracing::warn;

const KIND: Kind = Kind { magic: *b"TLFS", version: 1 };
/// Name of the file in the data folder: the stamps one after the other, each a big-endian `u64`, the newest last.
const FILE: &str = "folder-stamps";
/// Stamps that may wait to be heard of, as one does for each start without a majority of the quorum. The newest is told again rather than another
/// drawn: no more than copies made between those starts are mistaken for each other.
const KNOWN_MAX: usize = 16;

/// The stamps of one folder.
#[derive(Debug)]
pub(crate) struct FolderStamps {
    data: Arc<DataDir>,
    /// From the last one that the cluster is known to have heard, the newest last.
    known: Mutex<Vec<FolderStamp>>,
}

impl FolderStamps {
    /// Reads them. Damaged ones are none: the folder counts as an older copy then. Blocks.
    ///
    /// # Errors
    /// Where a newer release wrote them, or the disk refuses.
    pub(crate) fn read(data: Arc<DataDir>) -> Result<Self, DataDirError> {
        let known = match small_file::read(&*data.disk(), &path(&data), KIND) {
            Ok((_, body)) => body.as_chunks().0.iter().map(|bytes| FolderStamp(u64::from_be_bytes(*bytes))).collect(),
            Err(SmallFileError::Missing) => Vec::new(),
            Err(SmallFileError::Newer { found, newest }) => {
                return Err(DataDirError::Newer { path: path(&data), found, newest });
            }
            Err(SmallFileError::Storage(error)) => return Err(error.into()),
            Err(error @ SmallFileError::Damaged(_)) => {
                warn!(%error, "the stamps of the data folder cannot be read: where there are other brokers it counts as an older copy, and is filled by them");
                Vec::new()
            }
        };
        Ok(Self { data, known: Mutex::new(known) })
    }

    /// Draws another one and notes it, durably. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses: then nothing was drawn.
    pub(crate) fn draw(&self) -> Result<(), StorageError> {
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            return Ok(());
        }
        let mut next = known.clone();
        next.push(FolderStamp(fastrand::u64(..)));
        self.note(&next)?;
        *known = next;
        Ok(())
    }

    /// The cluster heard `stamp` last. Those before it are forgotten. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses: then they are known still.
    pub(crate) fn heard(&self, stamp: FolderStamp) -> Result<(), StorageError> {
        let mut known = self.known.lock();
        match known.iter().position(|known| *known == stamp) {
            None | Some(0) => Ok(()),
            Some(at) => {
                self.note(&known[at..])?;
                known.drain(..at);
                Ok(())
            }
        }
    }

    /// All that may have been heard last, the newest last.
    pub(crate) fn known(&self) -> Vec<FolderStamp> {
        self.known.lock().clone()
    }

    fn note(&self, stamps: &[FolderStamp]) -> Result<(), StorageError> {
        let body: Vec<u8> = stamps.iter().flat_map(|stamp| stamp.0.to_be_bytes()).collect();
        small_file::replace(&*self.data.disk(), &path(&self.data), KIND, &body)
    }
}

fn path(data: &DataDir) -> PathBuf {
    data.root().join(FILE)
}

#[cfg(test)]
mod tests {
    use tidelog_log::OsDisk;

    use super::*;

    fn open(root: &std::path::Path) -> FolderStamps {
        FolderStamps::read(Arc::new(DataDir::open(Arc::new(OsDisk), root, None).unwrap())).unwrap()
    }

    #[test]
    fn a_folder_knows_each_stamp_from_the_last_that_was_heard_after_any_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut drawn = Vec::new();
        for _ in 0..3 {
            let stamps = open(folder.path());
            assert_eq!(stamps.known(), drawn);
            stamps.draw().unwrap();
            drawn = stamps.known();
        }
        assert_eq!(drawn.len(), 3);
        let stamps = open(folder.path());
        stamps.heard(FolderStamp(drawn[1].0.wrapping_add(1))).unwrap();
        assert_eq!(stamps.known(), drawn, "of another folder nothing follows");
        stamps.heard(drawn[1]).unwrap();
        assert_eq!(stamps.known(), drawn[1..]);
        drop(stamps);
        assert_eq!(open(folder.path()).known(), drawn[1..]);
    }

    #[test]
    fn starts_without_a_quorum_do_not_add_up_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let stamps = open(folder.path());
        for _ in 0..2 * KNOWN_MAX {
            stamps.draw().unwrap();
        }
        let known = stamps.known();
        assert_eq!(known.len(), KNOWN_MAX);
        stamps.heard(known[KNOWN_MAX - 1]).unwrap();
        stamps.draw().unwrap();
        assert_eq!(stamps.known().len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_not_known_and_a_newer_release_is_heeded() {
        let folder = tempfile::tempdir().unwrap();
        let stamps = open(folder.path());
        stamps.draw().unwrap();
        let path = path(&stamps.data);
        drop(stamps);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let stamps = open(folder.path());
        assert_eq!(stamps.known(), []);
        let data = stamps.data.clone();
        small_file::replace(&OsDisk, &path, Kind { version: 2, ..KIND }, b"x").unwrap();
        assert!(matches!(FolderStamps::read(data), Err(DataDirError::Newer { found: 2, newest: 1, .. })));
    }
}
