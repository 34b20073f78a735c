//! The log as the consensus library sees it. Knows nothing of threads and files: it asks the journal.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use bytes::BytesMut;
use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, StorageIOError};
use tidelog_log::{LogReader, ReadOutcome};
use tidelog_protocol::Offset;

use super::entry_batch;
use super::journal::{Journal, WriteError};
use super::journal_thread::JournalHandle;
use super::raft_types::{Ballot, Position, RaftEntry, RaftTypes, StorageFault};
use super::state_machine::StateMachine;

/// Entries given to a lagging member at once, in bytes; one entry may be larger.
const READ_BYTES: u32 = 1 << 20;

/// The log.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    journal: JournalHandle,
    machine: StateMachine,
}

impl LogStore {
    /// Over a journal; the state machine knows what no longer has to be in it.
    pub(super) fn new(journal: JournalHandle, machine: StateMachine) -> Self {
        Self { journal, machine }
    }

    /// Asks the journal for something that must become durable.
    async fn write(
        &self,
        work: impl FnOnce(&mut Journal) -> Result<(), WriteError> + Send + 'static,
    ) -> Result<(), StorageFault> {
        match self.journal.ask(work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(write_fault(error)),
            Err(closed) => Err(write_fault(closed)),
        }
    }
}

fn write_fault(error: impl std::error::Error + 'static) -> StorageFault {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

fn read_fault(error: impl std::error::Error + 'static) -> StorageFault {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

/// Entries of `range`, as many as `bytes_max` allows but one at least, as far as there are any.
async fn read(
    reader: &LogReader,
    range: impl RangeBounds<u64>,
    bytes_max: u64,
) -> Result<Vec<RaftEntry>, StorageFault> {
    let start = match range.start_bound() {
        Bound::Included(start) => Offset(*start),
        Bound::Excluded(before) => Offset(before + 1),
        Bound::Unbounded => Offset::ZERO,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => Offset(last + 1),
        Bound::Excluded(end) => Offset(*end),
        Bound::Unbounded => Offset::MAX,
    };
    let (mut next, end) = (start.max(reader.log_start()), end.min(reader.written_end()));
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while next < end && (bytes < bytes_max || entries.is_empty()) {
        let outcome = match reader.read(next, end, READ_BYTES).map_err(read_fault)? {
            ReadOutcome::Cold(pending) => {
                let read = tokio::task::spawn_blocking(|| pending.complete()).await;
                read.map_err(read_fault)?.map_err(read_fault)?
            }
            outcome => outcome,
        };
        let ReadOutcome::Batches(batches) = outcome else { break };
        entries.extend(entry_batch::decode_all(&batches.bytes).map_err(read_fault)?);
        bytes += batches.bytes.len() as u64;
        next = batches.next;
    }
    Ok(entries)
}

impl RaftLogReader<RaftTypes> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageFault> {
        read(self.journal.reader(), range, u64::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, StorageFault> {
        read(self.journal.reader(), start..end, READ_BYTES.into()).await
    }
}

impl RaftLogStorage<RaftTypes> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<RaftTypes>, StorageFault> {
        let state =
            |journal: &mut Journal| LogState { last_purged_log_id: journal.purged(), last_log_id: journal.last() };
        self.journal.ask(state).await.map_err(read_fault)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Ballot) -> Result<(), StorageFault> {
        let vote = *vote;
        self.write(move |journal| journal.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Ballot>, StorageFault> {
        self.journal.ask(|journal| journal.vote()).await.map_err(read_fault)
    }

    async fn save_committed(&mut self, committed: Option<Position>) -> Result<(), StorageFault> {
        if let Some(last) = committed {
            self.journal.tell(move |journal| journal.note_settled(&last));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<Position>, StorageFault> {
        self.journal.ask(|journal| journal.settled()).await.map_err(read_fault)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<RaftTypes>) -> Result<(), StorageFault>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let mut batches = BytesMut::new();
        let mut first = None;
        for entry in entries {
            let first = *first.get_or_insert(entry.log_id.index);
            batches.extend_from_slice(&entry_batch::encode(&entry, first).map_err(write_fault)?);
        }
        let (batches, applied) = (batches.freeze(), self.machine.last());
        self.write(move |journal| journal.append(&batches, applied)).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, first: Position) -> Result<(), StorageFault> {
        self.write(move |journal| journal.truncate(first.index)).await
    }

    async fn purge(&mut self, last: Position) -> Result<(), StorageFault> {
        self.write(move |journal| journal.purge(&last)).await
    }
}
