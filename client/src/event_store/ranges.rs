//! Reads ranges of a partition: a few consumers that are kept, and sent from place to place. Knows nothing of events.

use parking_lot::Mutex;
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::records::Record;
use tidelog_protocol::{Offset, PartitionId};
use tokio::sync::Semaphore;

use super::error::StoreError;
use crate::{Client, Consumer, Start};

/// Ranges that are read at once, of one partition.
const READERS: usize = 8;
/// What the broker pushes beyond a range is wasted, and what it does not push at once costs a round trip.
const PREFETCH_BYTES: u32 = 64 << 10;
const ITEM_BYTES: u32 = 32 << 10;

/// Reads ranges of one partition.
#[derive(Debug)]
pub(super) struct Ranges {
    client: Client,
    topic: String,
    partition: PartitionId,
    idle: Mutex<Vec<Consumer>>,
    permits: Semaphore,
}

impl Ranges {
    pub(super) fn new(client: Client, topic: String, partition: PartitionId) -> Self {
        let (idle, permits) = (Mutex::new(Vec::new()), Semaphore::new(READERS));
        Self { client, topic, partition, idle, permits }
    }

    /// Shows the records of a range, both ends inclusive, which must be readable.
    pub(super) async fn read(
        &self,
        (from, to): (Offset, Offset),
        mut visit: impl FnMut(&Record<'_>) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let mut consumer = self.consumer(from).await?;
        while consumer.position(&self.topic, self.partition)? <= to {
            let Some(batch) = consumer.next_batch().await? else { return Err(StoreError::Closed) };
            for record in batch.records() {
                let record = record?;
                if record.offset > to {
                    break;
                }
                visit(&record)?;
            }
        }
        // One that failed is not kept.
        self.idle.lock().push(consumer);
        Ok(())
    }

    async fn consumer(&self, from: Offset) -> Result<Consumer, StoreError> {
        let idle = self.idle.lock().pop();
        if let Some(mut consumer) = idle {
            consumer.seek(&self.topic, self.partition, Start::Offset(from)).await?;
            return Ok(consumer);
        }
        let consumer = self.client.consumer().isolation(Isolation::ReadUncommitted);
        let consumer = consumer.prefetch_bytes(PREFETCH_BYTES).item_bytes(ITEM_BYTES);
        Ok(consumer.partition_from(&self.topic, self.partition, Start::Offset(from)).build().await?)
    }
}
