//! A snapshot: the metadata as of one entry, as records that rebuild it, in one checked file that is replaced as a whole. The same
//! bytes travel to a member that lags too far behind. Knows nothing of when one is made.

use std::path::Path;

use bytes::Bytes;
use openraft::SnapshotMeta;
use tidelog_coordination::ClusterImage;
use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{Disk, StorageError};
use tidelog_protocol::codec::DecodeError;
use tidelog_protocol::messages::{RaftMembership, RaftPosition};
use tidelog_protocol::{Message, MetadataIndex, message};

use super::entry_batch::{EntryError, pack, unpack};
use super::marks::MarkError;
use super::raft_types::{
    Address, Member, ON_DISK, Position, StoredMembers, membership_message, membership_of, position_message, position_of,
};

const NAME: &str = "snapshot";
const KIND: Kind = Kind { magic: *b"TLqs", version: 1 };

message! {
    /// The metadata as of one entry.
    pub struct SnapshotBody {
        /// The last entry that went into it; absent before the first.
        1 last: Option<RaftPosition>,
        /// Where the membership stands in the log; absent before the first.
        1 membership_at: Option<RaftPosition>,
        /// Who belongs to the quorum.
        1 membership: RaftMembership,
        /// The index of the image; entries without records come after it.
        1 as_of: MetadataIndex,
        /// Records that make the image from an empty one, each behind its length (u32).
        1 records: Bytes,
    }
}

/// Why there is no snapshot to use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] MarkError),
    /// What another member sent is none.
    #[error("the snapshot does not parse: {0}")]
    Body(#[from] DecodeError),
    /// Its records do not parse.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// What a snapshot says of itself.
pub(super) type Meta = SnapshotMeta<Member, Address>;

/// A snapshot taken apart.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Of what.
    pub(super) meta: Meta,
    /// The metadata.
    pub(super) image: ClusterImage,
}

/// The bytes of a snapshot of `image` as of the entry `last`.
pub(super) fn encode(last: Option<&Position>, membership: &StoredMembers, image: &ClusterImage) -> Bytes {
    let body = SnapshotBody {
        last: last.map(position_message),
        membership_at: membership.log_id().as_ref().map(position_message),
        membership: membership_message(membership.membership()),
        as_of: image.as_of(),
        records: pack(&image.to_records()),
    };
    body.to_body(ON_DISK).freeze()
}

/// What a snapshot says of itself; two of the same entry say the same.
pub(super) fn meta(last: Option<&Position>, membership: &StoredMembers) -> Meta {
    let snapshot_id = last.map_or_else(String::new, |last| format!("{}-{}", last.leader_id.term, last.index));
    Meta { last_log_id: last.copied(), last_membership: membership.clone(), snapshot_id }
}

/// Takes the bytes of a snapshot apart.
///
/// # Errors
/// [`SnapshotError::Body`] or [`SnapshotError::Entry`].
pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let body = SnapshotBody::from_body(bytes, ON_DISK)?;
    let membership_at = body.membership_at.as_ref().map(position_of);
    let membership = StoredMembers::new(membership_at, membership_of(body.membership));
    let mut image = ClusterImage::default();
    for record in unpack(&body.records)? {
        image.apply(body.as_of, &record);
    }
    Ok(Snapshot { meta: meta(body.last.as_ref().map(position_of).as_ref(), &membership), image })
}

/// Replaces the snapshot of a folder durably. Blocks.
///
/// # Errors
/// [`StorageError`]; the old one or the new one is there.
pub(super) fn save(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    small_file::replace(disk, &dir.join(NAME), KIND, bytes)
}

/// The bytes of the snapshot of a folder, if it has one. Blocks.
///
/// # Errors
/// [`SnapshotError`].
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Bytes>, SnapshotError> {
    match small_file::read(disk, &dir.join(NAME), KIND) {
        Ok((_, body)) => Ok(Some(body.into())),
        Err(SmallFileError::Missing) => Ok(None),
        Err(SmallFileError::Storage(error)) => Err(MarkError::from(error).into()),
        Err(SmallFileError::Newer { found, newest }) => {
            Err(MarkError::Newer(DataDirError::Newer { path: dir.join(NAME), found, newest }).into())
        }
        Err(error) => Err(damaged(dir, error.to_string())),
    }
}

/// The error for a snapshot on disk whose content is wrong.
pub(super) fn damaged(dir: &Path, reason: String) -> SnapshotError {
    MarkError::Damaged { path: dir.join(NAME), reason }.into()
}
