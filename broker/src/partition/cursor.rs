//! Reading a partition forward: waits on the published tail, never reads beyond it, and faults cold pages in on a blocking thread.
//! Knows nothing of who reads.

use bytes::Bytes;
use tidelog_log::{LogReader, ReadOutcome};
use tokio::task::spawn_blocking;

use tidelog_protocol::messages::{AbortedTransaction, Isolation};
use tidelog_protocol::{ErrorCode, Offset, WireError};
use tokio::sync::watch;

use super::handle::Handle;
use super::refusals;
use super::replica_cursor::read_back;
use super::tail::Tail;
use super::undone::undone_in;

/// Whole batches, as slices of the mapped log.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes, back to back.
    pub bytes: Bytes,
    /// Offset after their last record.
    pub next_offset: Offset,
    /// The aborted transactions that have batches in them, for one that reads what is committed.
    pub aborted: Vec<AbortedTransaction>,
    /// What was published when they were read.
    pub tail: Tail,
}

/// A place in a partition that moves forward.
#[derive(Debug)]
pub struct Cursor {
    partition: Handle,
    tail: watch::Receiver<Tail>,
    next_offset: Offset,
    isolation: Isolation,
    serves: Serves,
}

/// Which replica may serve a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serves {
    /// The leader.
    Leader,
    /// Any that keeps up.
    Nearby,
    /// Any that knows of nobody who leads, as nobody does, or as its broker is out of touch with the controller, to one who finds no leader: what is
    /// settled stays so whoever leads next.
    Survivor,
    /// The leader by its own view, whose broker is out of touch with the controller, to one who finds no other: it says what it knows, and is not
    /// asked for all there is.
    Adrift,
    /// Any that keeps up, to a broker that fetches what is damaged at its own: what is damaged here, too, is not to be waited for.
    Peer,
}

impl Serves {
    /// Why a replica that published this tail does not serve.
    #[must_use]
    pub fn refusal(self, tail: &Tail) -> Option<WireError> {
        let is_to_lead = matches!(self, Self::Leader | Self::Adrift);
        let elsewhere = || (is_to_lead && !tail.leads).then(refusals::not_leader);
        match self {
            Self::Leader | Self::Adrift | Self::Nearby | Self::Peer => tail.ended.clone().or_else(elsewhere),
            Self::Survivor if tail.closed.is_some() => tail.closed.clone(),
            // It leads, or a controller hears of it and names a leader.
            Self::Survivor => tail.ended.is_none().then(refusals::is_led),
        }
    }
}

impl Cursor {
    /// Starts at `start`.
    ///
    /// # Errors
    /// OffsetOutOfRange, with the range; or why the partition is not served.
    pub fn open(partition: Handle, start: Offset, isolation: Isolation, serves: Serves) -> Result<Self, WireError> {
        let mut tail = partition.tail();
        let now = tail.borrow_and_update().clone();
        if let Some(refusal) = serves.refusal(&now) {
            return Err(refusal);
        }
        // A leader that has just begun learns from its followers how far all are: until then the watermark may lie behind what a consumer
        // has read already, which waits for it.
        if start < now.log_start || start > now.log_end.max(now.high_watermark) {
            // One that follows may not have it yet, nor one that may have been replaced.
            return Err(match (now.leads && serves != Serves::Adrift) || start < now.log_start {
                true => refusals::out_of_range(start, now.log_start, now.high_watermark),
                false => refusals::not_leader(),
            });
        }
        Ok(Self { partition, tail, next_offset: start, isolation, serves })
    }

    /// Goes to the first offset that can be read by now.
    ///
    /// # Errors
    /// Why the partition is not served any more.
    pub fn restart_at_log_start(&mut self) -> Result<(), WireError> {
        let tail = self.tail.borrow().clone();
        // The log moves its start a moment before that is published.
        self.next_offset = tail.log_start.max(self.partition.reader().log_start());
        self.serves.refusal(&tail).map_or(Ok(()), Err)
    }

    /// Where it stands.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// What is published now.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail.borrow().clone()
    }

    /// The next batches, up to `bytes_max` but at least one, as soon as there are some.
    ///
    /// # Errors
    /// OffsetOutOfRange where the records were deleted; CorruptLog; or why the partition is not served any more.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Fetched, WireError> {
        loop {
            if let Some(fetched) = self.next_now(bytes_max).await? {
                return Ok(fetched);
            }
            if self.tail.changed().await.is_err() {
                return Err(WireError::new(ErrorCode::ShuttingDown, "the partition is closed"));
            }
        }
    }

    /// As [`Cursor::next`], of those that are there now; `None` where there are none.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn next_now(&mut self, bytes_max: usize) -> Result<Option<Fetched>, WireError> {
        let tail = self.tail.borrow_and_update().clone();
        if let Some(refusal) = self.serves.refusal(&tail) {
            return Err(refusal);
        }
        if self.next_offset < tail.log_start {
            return Err(refusals::out_of_range(self.next_offset, tail.log_start, tail.high_watermark));
        }
        let upper = match self.isolation {
            Isolation::ReadUncommitted => tail.high_watermark,
            Isolation::ReadCommitted => tail.last_stable,
        };
        if self.next_offset >= upper {
            return Ok(None);
        }
        let read = self.read(upper, bytes_max, &tail).await;
        let Err(error) = &read else { return read };
        if error.code != ErrorCode::CorruptLog || !tail.has_peers || self.serves == Serves::Peer {
            return read;
        }
        let Some(damaged) = error.range else { return read };
        if let Some(absent) = self.partition.repair_attempts().beyond_repair(damaged) {
            return Err(refusals::beyond_repair(damaged, absent));
        }
        if self.is_noted(damaged) {
            return Err(refusals::being_repaired(damaged));
        }
        // It was mended a moment ago, or is damage that no range of bytes is to blame for, so that nobody mends it.
        self.read(upper, bytes_max, &tail).await
    }

    /// Does the log know of this damage, so that it is fetched from another replica?
    fn is_noted(&self, (from, to): (Offset, Offset)) -> bool {
        self.partition.reader().holes().iter().any(|hole| hole.from < to && from < hole.to)
    }

    async fn read(&mut self, upper: Offset, bytes_max: usize, tail: &Tail) -> Result<Option<Fetched>, WireError> {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let reader: &LogReader = self.partition.reader();
        let mut outcome = match self.serves {
            Serves::Leader | Serves::Nearby | Serves::Survivor | Serves::Adrift => {
                reader.read(self.next_offset, upper, bytes_max).map_err(|error| refusals::of_read(&error))?
            }
            // What is to mend another is read from the disk: where it has rotted here, too, that is known from now on.
            Serves::Peer => read_back(reader, self.next_offset, (upper, bytes_max)).await?,
        };
        loop {
            match outcome {
                ReadOutcome::Batches(batches) => {
                    let aborted = match self.isolation {
                        Isolation::ReadUncommitted => Vec::new(),
                        Isolation::ReadCommitted => undone_in(reader, &batches.bytes, batches.next).await?,
                    };
                    self.next_offset = batches.next;
                    let (bytes, next_offset, tail) = (batches.bytes, batches.next, tail.clone());
                    return Ok(Some(Fetched { bytes, next_offset, aborted, tail }));
                }
                ReadOutcome::UpToDate => return Ok(None),
                ReadOutcome::Cold(cold) => {
                    // A page fault on a slow disk must not stall a network thread.
                    let read = spawn_blocking(move || cold.complete()).await;
                    outcome = read
                        .map_err(|_| WireError::new(ErrorCode::Internal, "reading the log failed unexpectedly"))?
                        .map_err(|error| refusals::of_read(&error))?;
                }
            }
        }
    }
}
