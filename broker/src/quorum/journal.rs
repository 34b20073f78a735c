//! What must be durable before a member of the quorum says it: its log, its vote, what it purged. One thread owns all of it and
//! does one thing after the other; whatever it answers is on the disk. Knows nothing of what entries say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::retention::DeleteError;
use tidelog_log::{
    AppendError, Disk, FlusherHandle, Group, Identity, IdentityError, Log, LogOptions, LogReader, OpenError, ReadError,
    ReadOutcome, SegmentOptions, StorageError, Unheard,
};
use tidelog_protocol::records::{BatchError, Batches, RawBatch, Scratch};
use tidelog_protocol::{IncarnationId, Offset, PartitionId, TopicId};
use tracing::warn;

use super::entry_batch::{ENTRY_BYTES_MAX, first_of_write};
use super::marks::{MarkError, Marks};
use super::raft_types::{Ballot, Position};
use super::remedy::ANEW;

/// Folder of the metadata log in the data folder. `__` keeps it apart from users' topics.
pub(super) const FOLDER: &str = "__cluster_metadata-0";
/// Identity of the metadata log; no topic has it.
const TOPIC: TopicId = TopicId(*b"cluster-metadata");
/// Metadata is small: small segments.
const SEGMENT_BYTES: u32 = 64 << 20;
/// A purge that leaves more than this in the active segment seals it, so that the next purge can unlink it.
const DEAD_BYTES_MAX: u64 = 1 << 20;
/// Entries read at once, in bytes.
const READ_BYTES: u32 = 1 << 20;
/// Pause between two looks at a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(100);

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub(super) struct JournalOptions {
    /// The data folder's disk.
    pub(super) disk: Arc<dyn Disk>,
    /// Who keeps house for the log.
    pub(super) flusher: FlusherHandle,
    /// Which life of the data folder this is.
    pub(super) incarnation: IncarnationId,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log cannot be opened.
    #[error("the metadata log cannot be opened: {0}")]
    Open(OpenError),
    /// Files of it are gone: going on without them would forget topics, or found another cluster on their data.
    #[error("the metadata are lost here: {} is gone or cannot be trusted: {ANEW}", missing.display())]
    Lost {
        /// What is gone.
        missing: PathBuf,
    },
    /// A damaged range: going on would forget topics.
    #[error("{FOLDER}: the metadata log is damaged at offsets {from} to {to}: {ANEW}")]
    Damaged {
        /// First offset lost.
        from: Offset,
        /// First offset after them.
        to: Offset,
    },
    /// A small file beside the log cannot be used.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The log goes on without the vote that it was written under.
    #[error("{FOLDER} holds entries of term {term} but no vote of it: {ANEW}")]
    VoteLost {
        /// The newest term in the log.
        term: u64,
    },
    /// What a crash interrupted cannot be finished.
    #[error("the metadata log cannot be put in order: {0}")]
    Repair(#[from] WriteError),
}

impl From<OpenError> for JournalError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::LogLost { dir } => Self::Lost { missing: dir.join("*.log") },
            // What it says of how to go on is no way for metadata.
            OpenError::EndLost { path, .. } => Self::Lost { missing: path },
            OpenError::Identity(IdentityError::Unknown { path, .. }) => Self::Lost { missing: path },
            error => Self::Open(error),
        }
    }
}

/// Why something did not become durable. Final, but for a disk that is closed down while it is full.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The log refused.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The start of the log cannot be moved.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// A small file cannot be replaced.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is to be appended does not parse.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// There is a gap between the log and what is to be appended.
    #[error("the metadata log ends at {end}, and an entry of index {index} was to follow")]
    Gap {
        /// Where the log ends.
        end: Offset,
        /// The index.
        index: Offset,
    },
}

impl WriteError {
    /// Whether the same may succeed later: where the disk is full, or no file descriptor is left.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Append(error) => error.is_transient(),
            Self::Storage(error) | Self::Delete(DeleteError::Storage(error)) => error.is_transient(),
            Self::Delete(_) | Self::Batch(_) | Self::Gap { .. } => false,
        }
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    log: Log,
    marks: Marks,
    vote: Option<Ballot>,
    purged: Option<Position>,
    /// Set when nobody waits for room on the disk any more.
    closing: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal in the folder `dir`, and finishes a purge that a crash interrupted. Blocks.
    pub(super) fn open(dir: &Path, options: &JournalOptions) -> Result<Self, JournalError> {
        let JournalOptions { disk, flusher, incarnation } = options.clone();
        let (mut log, report) = Log::open(LogOptions {
            dir: dir.to_owned(),
            disk: disk.clone(),
            identity: Identity { topic: TOPIC, partition: PartitionId(0), incarnation },
            segment: SegmentOptions { segment_bytes: SEGMENT_BYTES, ..SegmentOptions::default() },
            flusher,
            listener: Arc::new(Unheard),
        })?;
        if let Some(hole) = report.holes.first() {
            if !is_torn_write(&log.reader(), hole.from, hole.to) {
                return Err(JournalError::Damaged { from: hole.from, to: hole.to });
            }
            log.truncate_to(hole.from).map_err(WriteError::from)?;
        }
        let marks = Marks::new(disk, dir);
        let (vote, purged) = (marks.vote()?, marks.purged()?);
        let mut journal = Self { log, marks, vote, purged, closing: Arc::default() };
        if let Some(purged) = purged {
            journal.forget_up_to(&purged)?;
        }
        let (start, end) = (journal.log.reader().log_start(), journal.log.end());
        if start < end && journal.log.reader().latest_epoch().is_none() {
            return Err(JournalError::Damaged { from: start, to: end });
        }
        let term = journal.last().map_or(0, |last| last.leader_id.term);
        if journal.vote.is_none_or(|vote| vote.leader_id.term < term) && term > 0 {
            return Err(JournalError::VoteLost { term });
        }
        Ok(journal)
    }

    /// For reading entries, from any thread.
    pub(super) fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Whom this member voted for last.
    pub(super) fn vote(&self) -> Option<Ballot> {
        self.vote
    }

    /// The last entry that was purged.
    pub(super) fn purged(&self) -> Option<Position> {
        self.purged
    }

    /// Up to where entries are settled, as far as known.
    pub(super) fn settled(&self) -> Option<Position> {
        let last = self.last()?;
        self.marks.settled().filter(|settled| settled.index <= last.index)
    }

    /// The last entry, or the last purged one where there is none.
    pub(super) fn last(&self) -> Option<Position> {
        let end = self.log.end();
        let reader = self.log.reader();
        if end == reader.log_start() {
            return self.purged;
        }
        let term = reader.latest_epoch().expect("a log that holds a batch knows the epoch of its last");
        Some(super::raft_types::position(u64::from(term.0), end.0 - 1))
    }

    /// True where nothing was ever written.
    pub(super) fn is_fresh(&self) -> bool {
        self.last().is_none() && self.vote.is_none()
    }

    /// Makes sure that entries of so many bytes find room.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), WriteError> {
        Ok(self.log.reserve(bytes)?)
    }

    /// Appends entries, as [`super::entry_batch`] encodes them, back to back, durably. They may begin behind the end of the log if what
    /// is missing in between went into the image already, up to and with `applied`.
    pub(super) fn append(&mut self, batches: &Bytes, applied: Option<Position>) -> Result<(), WriteError> {
        let mut headers = Vec::new();
        for batch in Batches::new(batches) {
            headers.push(*batch?.header());
        }
        let Some(first) = headers.first() else { return Ok(()) };
        let (end, index) = (self.log.end(), first.base_offset);
        if end != index {
            match applied.filter(|applied| end < index && applied.index + 1 == index.0) {
                Some(applied) => self.purge(&applied)?,
                None if end == self.log.reader().log_start() => self.restart_at(index)?,
                None => return Err(WriteError::Gap { end, index }),
            }
        }
        let mut position = 0;
        let mut groups = Vec::with_capacity(headers.len());
        for header in &headers {
            let next = position + header.total_bytes();
            groups.push(Group::new(&batches[position..next], std::slice::from_ref(header)));
            position = next;
        }
        let mut rest = &groups[..];
        while !rest.is_empty() {
            let taken = self.with_room(|journal| Ok(journal.log.append_exact(rest)?))?;
            rest = &rest[taken.groups..];
        }
        self.with_room(|journal| Ok(journal.log.flush()?))
    }

    /// Forgets entries from `index` on, durably.
    pub(super) fn truncate(&mut self, index: u64) -> Result<(), WriteError> {
        self.with_room(|journal| Ok(journal.log.truncate_to(Offset(index)).map(drop)?))
    }

    /// Forgets entries up to and with `last`, durably.
    pub(super) fn purge(&mut self, last: &Position) -> Result<(), WriteError> {
        if self.purged.is_none_or(|purged| purged.index < last.index) {
            // First the note: the log alone does not tell the term of what is gone.
            self.with_room(|journal| Ok(journal.marks.save_purged(last)?))?;
            self.purged = Some(*last);
        }
        self.forget_up_to(last)
    }

    /// Votes, durably.
    pub(super) fn save_vote(&mut self, vote: &Ballot) -> Result<(), WriteError> {
        self.with_room(|journal| Ok(journal.marks.save_vote(vote)?))?;
        self.vote = Some(*vote);
        Ok(())
    }

    /// Notes that entries up to `last` are settled.
    pub(super) fn note_settled(&mut self, last: &Position) {
        if let Err(error) = self.marks.note_settled(last) {
            warn!(%error, "what is settled in the metadata log cannot be noted; a start without the other brokers would know less");
        }
    }

    /// Flushes and closes.
    pub(super) fn close(self) -> Result<(), WriteError> {
        Ok(self.log.close()?)
    }

    /// Setting it ends every wait for room on the disk.
    pub(super) fn closing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.closing)
    }

    fn forget_up_to(&mut self, last: &Position) -> Result<(), WriteError> {
        let next = Offset(last.index + 1);
        if next > self.log.end() {
            return self.restart_at(next);
        }
        let reader = self.log.reader();
        if next > reader.log_start() {
            self.with_room(|journal| Ok(journal.log.retention().delete_records(next).map(drop)?))?;
        }
        let dead = reader.segments().last().is_some_and(|active| active.base < next && active.bytes > DEAD_BYTES_MAX);
        if dead && let Err(error) = self.log.roll() {
            warn!(%error, "the metadata log keeps what was purged until there is room for a new segment");
        }
        Ok(())
    }

    fn restart_at(&mut self, index: Offset) -> Result<(), WriteError> {
        self.with_room(|journal| Ok(journal.log.restart_at(index)?))
    }

    /// The consensus library ends at the first error of its storage, but a full disk heals, and so does a want of descriptors: until then nothing is answered, and the
    /// other members go on without this one.
    fn with_room<T>(&mut self, work: impl Fn(&mut Self) -> Result<T, WriteError>) -> Result<T, WriteError> {
        loop {
            match work(self) {
                Err(error) if error.is_transient() && !self.closing.load(Ordering::Acquire) => {
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                result => return result,
            }
        }
    }
}

/// Of several entries that are written at once and not flushed, a loss of power may take the first and leave the last. Nobody was told of
/// any of them then; anything else that is damaged was answered for.
fn is_torn_write(reader: &LogReader, from: Offset, to: Offset) -> bool {
    let mut scratch = Scratch::with_limit(2 * ENTRY_BYTES_MAX);
    let (mut next, mut is_followed) = (to, false);
    loop {
        let batches = match reader.read_blocking(next, Offset::MAX, READ_BYTES) {
            Ok(ReadOutcome::Batches(batches)) => batches,
            // With nothing behind it, recovery would have cut it off, were it not known to have been durable.
            Ok(ReadOutcome::UpToDate) => return is_followed,
            Err(ReadError::Corrupt { to, .. }) => {
                next = to;
                continue;
            }
            Ok(ReadOutcome::Cold(_)) | Err(_) => return false,
        };
        let of_one_write = |batch: Result<RawBatch<'_>, _>| {
            batch.is_ok_and(|batch| first_of_write(&batch, &mut scratch).is_ok_and(|first| first <= from.0))
        };
        if !Batches::new(&batches.bytes).all(of_one_write) {
            return false;
        }
        is_followed = true;
        next = batches.next;
    }
}
