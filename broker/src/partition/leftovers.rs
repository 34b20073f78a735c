//! Folders that the metadata do not know: what a deletion left that was interrupted, or data that an old copy of the metadata has
//! forgotten. To tell them apart, the index of the image is noted in the data folder before the first folder of an image is made:
//! metadata that end before it are an old copy. Knows nothing of logs.

use std::path::PathBuf;
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_coordination::ClusterImage;
use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_log::small_file::{self, Kind, SmallFileError, TEMP_SUFFIX};
use tidelog_log::{Complaint, DataDir, DataDirError, Identity, PartitionDir, StorageError};
use tidelog_protocol::MetadataIndex;
use tracing::warn;

use super::assignment::{Assignment, Member};
use crate::quorum::ANEW;

const FILE: &str = "metadata-seen";
const KIND: Kind = Kind { magic: *b"TLms", version: 1 };

/// Why nothing can be said of what lies in the data folder.
#[derive(Debug, thiserror::Error)]
pub enum LeftoversError {
    /// The metadata are older than the partitions.
    #[error("the metadata end at index {found}, but {} holds partitions made as of index {seen}: __cluster_metadata-0 is an old copy, or has lost its end, and going on would lose what came after: {ANEW}", path.display())]
    OldMetadata {
        /// The data folder.
        path: PathBuf,
        /// How far the metadata go.
        found: MetadataIndex,
        /// How far they went.
        seen: MetadataIndex,
    },
    /// The data folder cannot be read.
    #[error(transparent)]
    Folder(#[from] DataDirError),
}

/// Refuses metadata that end before what is in the data folder. Blocks.
///
/// # Errors
/// [`LeftoversError`].
pub fn check_age(data: &DataDir, end: MetadataIndex) -> Result<(), LeftoversError> {
    match read(data)?.filter(|seen| *seen > end) {
        Some(seen) => Err(LeftoversError::OldMetadata { path: data.root().to_owned(), found: end, seen }),
        None => Ok(()),
    }
}

/// Removes the folders of users' partitions of which the metadata know no replica of `member`. Blocks.
///
/// # Errors
/// Where the disk refuses.
pub(super) fn remove_leftovers(data: &DataDir, image: &ClusterImage, member: Member) -> Result<(), DataDirError> {
    let seen = read(data)?;
    for folder in data.partitions()? {
        let (topic, partition) = (&folder.topic, folder.partition);
        let named = image.topic_named(topic.as_str());
        let known = named.is_some_and(|topic| Assignment::of(topic, partition, member).is_some());
        // Two underscores: the broker's own, of which the image knows nothing.
        if known || topic.as_str().starts_with(INTERNAL_PREFIX) {
            continue;
        }
        let path = folder.path.display();
        match whose(data, &folder, image, member)? {
            Whose::Deleted if seen.is_some() => {
                warn!(%topic, %partition, "removing what an interrupted deletion left");
                if let Err(error) = data.delete_partition(topic, partition) {
                    warn!(folder = %path, %error, "it cannot be removed; remove it by hand");
                }
            }
            Whose::Deleted => {
                warn!(folder = %path, "the metadata do not know this partition; it is left as it is, for nothing tells how new they are");
            }
            Whose::Other => {
                warn!(folder = %path, "not a partition of this broker under its own name; it is left as it is")
            }
        }
    }
    Ok(())
}

/// What a folder is that bears the name of no partition here.
enum Whose {
    /// A replica that this broker held and shall hold no more, under its own name; or the beginning of one, without a record.
    Deleted,
    /// Somebody's own, or a partition that was moved aside.
    Other,
}

fn whose(data: &DataDir, folder: &PartitionDir, image: &ClusterImage, member: Member) -> Result<Whose, StorageError> {
    let identity = match Identity::read(&*data.disk(), &folder.path) {
        Ok(identity) => identity,
        Err(SmallFileError::Storage(error)) => return Err(error),
        Err(_) => {
            // The identity is the first file of all.
            let entries = data.disk().list(&folder.path);
            let is_begun = entries.is_ok_and(|entries| entries.iter().all(|entry| entry.name.ends_with(TEMP_SUFFIX)));
            return Ok(if is_begun { Whose::Deleted } else { Whose::Other });
        }
    };
    let of_this_disk = identity.incarnation == data.format().incarnation && identity.partition == folder.partition;
    // A folder that was moved aside still says which partition it is, and that one is wanted here.
    let wanted = image
        .topic(identity.topic)
        .is_some_and(|topic| topic.name != folder.topic || Assignment::of(topic, identity.partition, member).is_some());
    Ok(if of_this_disk && !wanted { Whose::Deleted } else { Whose::Other })
}

/// `None` where an earlier release made the folder, or the note cannot be read any more: then nobody knows.
fn read(data: &DataDir) -> Result<Option<MetadataIndex>, DataDirError> {
    let path = path(data);
    match small_file::read(&*data.disk(), &path, KIND) {
        Ok((_, body)) => Ok(body.first_chunk().map(|bytes| MetadataIndex(u64::from_be_bytes(*bytes)))),
        Err(SmallFileError::Newer { found, newest }) => Err(DataDirError::Newer { path, found, newest }),
        Err(SmallFileError::Storage(error)) => Err(error.into()),
        Err(SmallFileError::Missing | SmallFileError::Damaged(_)) => Ok(None),
    }
}

fn path(data: &DataDir) -> PathBuf {
    data.root().join(FILE)
}

/// The note of one data folder.
#[derive(Debug, Default)]
pub(super) struct Note {
    noted: Mutex<MetadataIndex>,
    /// Whoever asks for what is not there yet has it looked for again.
    refused: Mutex<Complaint>,
}

impl Note {
    /// Folders for the image of `index` are about to be made.
    ///
    /// # Errors
    /// Where the disk refuses; none must be made then.
    pub(super) fn raise(&self, data: &DataDir, index: MetadataIndex) -> Result<(), StorageError> {
        let mut noted = self.noted.lock();
        if index > *noted {
            small_file::replace(&*data.disk(), &path(data), KIND, &index.0.to_be_bytes())?;
            *noted = index;
        }
        Ok(())
    }

    /// Partitions wait for what the disk refused.
    pub(super) fn tell_refused(&self, error: &StorageError) {
        if let Some(untold) = self.refused.lock().again(Instant::now()) {
            warn!(%error, untold, "how new the metadata are cannot be noted; no partition is made before it is");
        }
    }
}
