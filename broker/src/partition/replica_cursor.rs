//! Reading a partition forward on behalf of a follower: up to what is written, settled or not. Ends with the leadership under which it
//! was opened. Knows nothing of who follows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::{LogReader, ReadOutcome};
use tidelog_protocol::{LeaderEpoch, Offset, WireError};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::handle::Handle;
use super::refusals;

/// How long a watermark that has moved waits for records to travel with.
const WATERMARK_DELAY: Duration = Duration::from_millis(5);

/// Wakes the streams of followers.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<Notify>);

impl Followers {
    /// There may be something to push.
    pub(super) fn wake(&self) {
        self.0.notify_waiters();
    }
}

/// What a follower gets next.
#[derive(Debug)]
pub struct Pushed {
    /// Whole batches, as slices of the mapped log; empty where only the offsets moved.
    pub bytes: Bytes,
    /// The leadership.
    pub leader_epoch: LeaderEpoch,
    /// The high watermark.
    pub high_watermark: Offset,
    /// First offset of the log.
    pub log_start: Offset,
}

/// How far what is sent is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// It was just written.
    Recent,
    /// It may have lain on the disk for long: every checksum is verified.
    Old,
}

/// Reads past what is known of the bytes, on a thread that may block.
pub(super) async fn read_back(
    reader: &LogReader,
    from: Offset,
    (upper, bytes_max): (Offset, u32),
) -> Result<ReadOutcome, WireError> {
    let reader = reader.clone();
    let read = spawn_blocking(move || reader.read_back(from, upper, bytes_max)).await;
    read.map_err(|_| refusals::unexpected("reading the log"))?.map_err(|error| refusals::of_read(&error))
}

/// A follower's place in a partition.
#[derive(Debug)]
pub struct ReplicaCursor {
    partition: Handle,
    leader_epoch: LeaderEpoch,
    next_offset: Offset,
    /// High watermark and log start as last told.
    told: Option<(Offset, Offset)>,
}

impl ReplicaCursor {
    /// Starts where the leader of `leader_epoch` agreed to.
    #[must_use]
    pub const fn new(partition: Handle, leader_epoch: LeaderEpoch, from: Offset) -> Self {
        Self { partition, leader_epoch, next_offset: from, told: None }
    }

    /// What comes next, as soon as there is something: batches of about `bytes_max` bytes, at least one. Damage that nobody knew is noted where
    /// `care` is taken.
    ///
    /// # Errors
    /// NotLeader or FencedEpoch where the leadership is over; OffsetOutOfRange where the records were deleted; CorruptLog; or why the
    /// partition is not served.
    pub async fn next(&mut self, bytes_max: usize, care: Care) -> Result<Pushed, WireError> {
        let followers = self.partition.followers();
        let mut waited = false;
        loop {
            let woken = followers.0.notified();
            tokio::pin!(woken);
            // Registered before the look, so that a change in between is not missed.
            woken.as_mut().enable();
            let tail = self.partition.tail().borrow().clone();
            if let Some(ended) = tail.ended {
                return Err(ended);
            }
            if tail.leader_epoch != self.leader_epoch || !tail.leads {
                return Err(refusals::leadership_over(self.leader_epoch, tail.leader_epoch));
            }
            let bytes = self.read(bytes_max, care).await?;
            let now = (tail.high_watermark, tail.log_start);
            if !bytes.is_empty() || self.told.is_none() || (waited && self.told != Some(now)) {
                self.told = Some(now);
                let (leader_epoch, (high_watermark, log_start)) = (self.leader_epoch, now);
                return Ok(Pushed { bytes, leader_epoch, high_watermark, log_start });
            }
            if self.told == Some(now) {
                woken.await;
            } else {
                waited = tokio::time::timeout(WATERMARK_DELAY, woken).await.is_err();
            }
        }
    }

    async fn read(&mut self, bytes_max: usize, mut care: Care) -> Result<Bytes, WireError> {
        let reader = self.partition.reader();
        let upper = reader.written_end();
        if self.next_offset == upper {
            return Ok(Bytes::new());
        }
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let mut outcome = reader.read(self.next_offset, upper, bytes_max).map_err(|error| refusals::of_read(&error))?;
        loop {
            match outcome {
                ReadOutcome::Batches(batches) if care == Care::Old && !batches.are_whole() => {
                    // Whether they are damaged, or one look met what another wrote, the disk says.
                    outcome = read_back(reader, self.next_offset, (upper, bytes_max)).await?;
                    care = Care::Recent;
                }
                ReadOutcome::Batches(batches) => {
                    self.next_offset = batches.next;
                    return Ok(batches.bytes);
                }
                ReadOutcome::UpToDate => return Ok(Bytes::new()),
                ReadOutcome::Cold(cold) => {
                    // A follower that catches up reads old pages: never on a network thread.
                    let read = spawn_blocking(move || cold.complete()).await;
                    outcome = read
                        .map_err(|_| refusals::unexpected("reading the log"))?
                        .map_err(|error| refusals::of_read(&error))?;
                }
            }
        }
    }
}
