//! Everything of the quorum that lies in the data folder, opened and consistent: the journal and the state machine. Knows nothing of the
//! other members.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_log::{DataDir, FlusherHandle};
use tidelog_protocol::{BrokerId, MetadataIndex};
use tracing::warn;

use super::journal::{FOLDER, Journal, JournalError, JournalOptions, WriteError};
use super::journal_thread::JournalHandle;
use super::one_broker_log::{self, TakeOverError};
use super::raft_types::{Address, Member, Members, StoredMembers, metadata_index, position};
use super::remedy::ANEW;
use super::snapshot::{self, SnapshotError};
use super::state_machine::StateMachine;

/// What the storage of a quorum is opened with.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The data folder; held until nothing is written to it any more.
    pub data: Arc<DataDir>,
    /// Who keeps house for the log.
    pub flusher: FlusherHandle,
    /// This broker.
    pub broker: BrokerId,
    /// Where it can be dialled.
    pub address: Address,
}

/// Why the storage of the quorum cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStorageError {
    /// Log, vote or purge mark.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log of a release without a quorum.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// That log was read, but what it becomes cannot be written.
    #[error("the metadata log of the earlier release cannot be taken over: {0}")]
    Write(#[from] WriteError),
    /// The snapshot and the log leave a gap between them.
    #[error("{FOLDER} lacks metadata between its file 'snapshot', which may be gone, and its log: {ANEW}")]
    Gap,
    /// There is no thread to be had.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// The opened storage.
#[derive(Debug)]
pub struct QuorumStorage {
    pub(super) member: Member,
    pub(super) address: Address,
    pub(super) journal: JournalHandle,
    pub(super) machine: StateMachine,
    fresh: bool,
    end: MetadataIndex,
}

impl QuorumStorage {
    /// Opens what is in the data folder, and takes over the metadata log of a release without a quorum. Blocks.
    ///
    /// # Errors
    /// [`OpenStorageError`]; the broker must not start on half of its metadata.
    pub fn open(options: StorageOptions) -> Result<Self, OpenStorageError> {
        let StorageOptions { data, flusher, broker, address } = options;
        let member = Member { broker, incarnation: data.format().incarnation };
        let (disk, dir) = (data.disk(), data.root().join(FOLDER));
        let journal = JournalOptions { disk: disk.clone(), flusher, incarnation: member.incarnation };
        let mut journal = Journal::open(&dir, &journal)?;
        if let Some(image) = one_broker_log::replay(&journal.reader())? {
            // Each step can be taken again: until the last one, the log begins with what is taken over.
            let last = position(0, journal.reader().written_end().0 - 1);
            let voters = Members::new(vec![[member].into()], BTreeMap::from([(member, address.clone())]));
            let membership = StoredMembers::new(Some(last), voters);
            snapshot::save(&*disk, &dir, &snapshot::encode(Some(&last), &membership, &image))
                .map_err(WriteError::from)?;
            journal.purge(&last)?;
        }
        let machine = StateMachine::open(disk, dir, journal.closing())?;
        let covered = machine.last().map(|last| last.index);
        if journal.purged().is_some_and(|purged| covered.is_none_or(|covered| covered < purged.index)) {
            return Err(OpenStorageError::Gap);
        }
        let start = journal.reader().log_start().0;
        if start > journal.purged().map_or(0, |purged| purged.index + 1) {
            // The note of what was purged is lost. The snapshot, if it goes that far, knows as much.
            let last = machine.last().filter(|last| last.index + 1 >= start).ok_or(OpenStorageError::Gap)?;
            warn!(up_to = last.index, "{FOLDER}: the file 'purged' is lost; it is written anew from the snapshot");
            journal.purge(&last).map_err(JournalError::from)?;
        }
        // A snapshot is of settled entries, and whoever has those has voted.
        let term = machine.last().map_or(0, |last| last.leader_id.term);
        if term > journal.vote().map_or(0, |vote| vote.leader_id.term) {
            return Err(JournalError::VoteLost { term }.into());
        }
        let fresh = journal.is_fresh() && covered.is_none();
        let last = journal.last().map(|last| last.index).max(covered);
        let end = last.map_or(MetadataIndex(0), metadata_index);
        let journal = JournalHandle::start(journal, data).map_err(OpenStorageError::Thread)?;
        Ok(Self { member, address, journal, machine, fresh, end })
    }

    /// Which member this is.
    #[must_use]
    pub fn member(&self) -> Member {
        self.member
    }

    /// How far the metadata go that are stored here, settled or not.
    #[must_use]
    pub fn end(&self) -> MetadataIndex {
        self.end
    }

    /// True where this folder never held metadata.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }
}
