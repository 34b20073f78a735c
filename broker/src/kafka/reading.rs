//! What fetch reads of one partition: what is there now, as slices of the mapped log, without waiting. Knows nothing of other partitions.

use bytes::Bytes;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::fetch::{AbortedTransaction, EpochEndOffset, FetchPartition, PartitionData};
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::{Offset, WireError};
use tokio::sync::watch;

use super::topics::{code, known_epoch};
use crate::operations::leaderships::check_epoch;
use crate::partition::{Cursor, Handle, Serves, Tail};

/// A place in a partition from which a client reads.
pub(super) struct Place {
    handle: Handle,
    tail: watch::Receiver<Tail>,
    asked: FetchPartition,
    isolation: Isolation,
    /// The partition is gone.
    is_closed: bool,
}

impl Place {
    pub(super) fn new(handle: Handle, asked: FetchPartition, isolation: Isolation) -> Self {
        Self { tail: handle.tail(), handle, asked, isolation, is_closed: false }
    }

    /// Waits until something was published since the last read.
    pub(super) async fn changed(&mut self) {
        self.is_closed |= self.tail.changed().await.is_err();
    }

    /// True where another broker could lead it.
    pub(super) fn has_peers(&self) -> bool {
        self.tail.borrow().has_peers
    }

    /// Tells how much of it left.
    pub(super) fn count(&self, bytes: usize) {
        self.handle.metrics().bytes_out.inc_by(bytes as u64);
    }

    /// Up to `bytes_max` bytes, but a batch at least; none where there is no room for any.
    pub(super) async fn read(&mut self, bytes_max: usize) -> PartitionData {
        if self.is_closed {
            return failed(self.asked.partition, KafkaError::NotLeaderOrFollower);
        }
        let tail = self.tail.borrow_and_update().clone();
        let read = self.read_at(&tail, bytes_max).await;
        let mut data = PartitionData {
            partition_index: self.asked.partition,
            high_watermark: tail.high_watermark.signed(),
            last_stable_offset: tail.last_stable.signed(),
            log_start_offset: tail.log_start.signed(),
            aborted_transactions: (self.isolation == Isolation::ReadCommitted).then(Vec::new),
            records: Some(Bytes::new()),
            ..Default::default()
        };
        match read {
            Ok(Read::Nothing) => {}
            Ok(Read::Diverged(end)) => data.diverging_epoch = end,
            Ok(Read::Batches(bytes, aborted)) => {
                data.records = Some(bytes);
                data.aborted_transactions = data.aborted_transactions.map(|_| aborted);
            }
            Err(error) => return failed(self.asked.partition, code(&error)),
        }
        data
    }

    async fn read_at(&self, tail: &Tail, bytes_max: usize) -> Result<Read, WireError> {
        if let Some(refusal) = Serves::Leader.refusal(tail) {
            return Err(refusal);
        }
        check_epoch(known_epoch(self.asked.current_leader_epoch), tail.leader_epoch)?;
        let Some(offset) = Offset::from_signed(self.asked.fetch_offset) else {
            return Err(WireError::new(tidelog_protocol::ErrorCode::OffsetOutOfRange, "an offset is never negative"));
        };
        if let Some(end) = self.divergence(tail, offset) {
            return Ok(Read::Diverged(end));
        }
        let mut cursor = Cursor::open(self.handle.clone(), offset, self.isolation, Serves::Leader)?;
        if bytes_max == 0 {
            return Ok(Read::Nothing);
        }
        let most = bytes_max.min(usize::try_from(self.asked.partition_max_bytes).unwrap_or(0)).max(1);
        let Some(fetched) = cursor.next_now(most).await? else { return Ok(Read::Nothing) };
        let aborted = fetched.aborted.iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id.0,
            first_offset: aborted.first_offset.signed(),
        });
        Ok(Read::Batches(fetched.bytes, aborted.collect()))
    }

    /// Where the log here parts from what the client has read.
    fn divergence(&self, tail: &Tail, offset: Offset) -> Option<EpochEndOffset> {
        let last = known_epoch(self.asked.last_fetched_epoch)?;
        let (epoch, end) = self.handle.reader().leader_epochs().end_of(last, tail.log_end)?;
        let parts = epoch < last || end < offset;
        parts.then(|| EpochEndOffset { epoch: epoch.signed(), end_offset: end.signed() })
    }
}

enum Read {
    Nothing,
    Diverged(EpochEndOffset),
    Batches(Bytes, Vec<AbortedTransaction>),
}

/// The answer where nothing can be read.
pub(super) fn failed(partition: i32, error: KafkaError) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: error.code(),
        high_watermark: -1,
        records: Some(Bytes::new()),
        ..Default::default()
    }
}
