//! The small files beside the metadata log: whom this member votes for, up to where the log was purged, and up to where entries are
//! known to be settled. The first two are replaced durably and checked by a checksum; the third is a hint. Knows nothing of when
//! they change.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{Disk, DiskFile, StorageError};
use tidelog_protocol::Message;
use tidelog_protocol::messages::{RaftBallot, RaftPosition};

use super::raft_types::{
    Ballot, ON_DISK, Position, ballot_message, ballot_of, position, position_message, position_of,
};
use super::remedy::ANEW;

const VOTE: (&str, Kind) = ("vote", Kind { magic: *b"TLqv", version: 1 });
const PURGED: (&str, Kind) = ("purged", Kind { magic: *b"TLqp", version: 1 });
const SETTLED: &str = "settled";
/// Term, index, and the checksum of both.
const SETTLED_BYTES: usize = 20;

/// Why a small file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A newer release wrote it.
    #[error(transparent)]
    Newer(DataDirError),
    /// A vote that is lost could be given twice; a purged range that is unknown could be taken for a loss.
    #[error(
        "{} cannot be trusted ({reason}): {ANEW}",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The small files of one folder.
#[derive(Debug)]
pub(super) struct Marks {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settled: Option<Arc<dyn DiskFile>>,
}

impl Marks {
    /// Of a folder that exists.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), settled: None }
    }

    /// Whom this member voted for last.
    pub(super) fn vote(&self) -> Result<Option<Ballot>, MarkError> {
        Ok(self.read::<RaftBallot>(VOTE)?.map(ballot_of))
    }

    /// Votes, durably.
    pub(super) fn save_vote(&self, vote: &Ballot) -> Result<(), StorageError> {
        self.write(VOTE, &ballot_message(vote))
    }

    /// The last entry that was purged.
    pub(super) fn purged(&self) -> Result<Option<Position>, MarkError> {
        Ok(self.read::<RaftPosition>(PURGED)?.as_ref().map(position_of))
    }

    /// Notes that everything up to `last` may be gone from the log, durably.
    pub(super) fn save_purged(&self, last: &Position) -> Result<(), StorageError> {
        self.write(PURGED, &position_message(last))
    }

    /// Up to where entries are settled, as far as noted: where the note is torn or missing, less is known than holds.
    pub(super) fn settled(&self) -> Option<Position> {
        let file = self.disk.open(&self.dir.join(SETTLED)).ok()?;
        let mut bytes = [0; SETTLED_BYTES];
        let filled = file.read_at(&mut bytes, 0).ok()?;
        let (fields, stored) = bytes.split_last_chunk::<4>()?;
        if filled < SETTLED_BYTES || crc32c::crc32c(fields) != u32::from_be_bytes(*stored) {
            return None;
        }
        let (term, index) = (fields.first_chunk::<8>()?, fields.last_chunk::<8>()?);
        Some(position(u64::from_be_bytes(*term), u64::from_be_bytes(*index)))
    }

    /// Notes that entries up to `last` are settled. Not flushed: what is lost of it is found out again from the other members.
    pub(super) fn note_settled(&mut self, last: &Position) -> io::Result<()> {
        let file = match &self.settled {
            Some(file) => Arc::clone(file),
            None => {
                let path = self.dir.join(SETTLED);
                let opened = match self.disk.open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&path)?,
                    opened => opened?,
                };
                Arc::clone(self.settled.insert(opened))
            }
        };
        let mut bytes = [0; SETTLED_BYTES];
        bytes[..8].copy_from_slice(&last.leader_id.term.to_be_bytes());
        bytes[8..16].copy_from_slice(&last.index.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_be_bytes());
        file.write_at(&[IoSlice::new(&bytes)], 0).map(drop)
    }

    fn read<M: Message>(&self, (name, kind): (&str, Kind)) -> Result<Option<M>, MarkError> {
        let path = self.dir.join(name);
        let damaged = |reason: String| MarkError::Damaged { path: path.clone(), reason };
        match small_file::read(&*self.disk, &path, kind) {
            Ok((_, body)) => M::from_body(&body, ON_DISK).map(Some).map_err(|error| damaged(error.to_string())),
            Err(SmallFileError::Missing) => Ok(None),
            Err(SmallFileError::Storage(error)) => Err(error.into()),
            Err(SmallFileError::Newer { found, newest }) => {
                Err(MarkError::Newer(DataDirError::Newer { path, found, newest }))
            }
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    fn write<M: Message>(&self, (name, kind): (&str, Kind), message: &M) -> Result<(), StorageError> {
        small_file::replace(&*self.disk, &self.dir.join(name), kind, &message.to_body(ON_DISK))
    }
}
