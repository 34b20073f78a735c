//! Conditional append: records are written only where the partition ends at the offset that the caller expects. The base of optimistic
//! concurrency; knows nothing of what the records mean.

use std::time::SystemTime;

use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::{BatchBuilder, Compression};
use tidelog_protocol::{Offset, PartitionId, Timestamp};

use crate::cluster::Purpose;
use crate::{Client, ClientError, Receipt, RecordRef};

impl Client {
    /// Appends `records` to one partition, all or none, if its log end offset is `expected`; of two callers that expect the same
    /// offset at most one wins. Waits until the records are stored as the topic's durability asks. Never tries again by itself.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `OffsetMismatch` where the partition ends elsewhere: nothing was written, and the error's
    /// range ends at the actual log end. [`ClientError::Argument`] where the records do not fit into one batch. Where
    /// [`ClientError::outcome_is_unknown`], compare what is stored before another attempt.
    pub async fn append_at(
        &self,
        topic: &str,
        partition: PartitionId,
        expected: Offset,
        records: &[RecordRef<'_>],
    ) -> Result<Receipt, ClientError> {
        let image = self.cluster.topic(topic).await?;
        let mut builder = BatchBuilder::new(image.batch_bytes_max as usize);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let unfit = |error| ClientError::Argument(format!("the records do not make one batch: {error}"));
        for record in records {
            let headers = record.headers.iter().copied();
            builder.append(record.timestamp.unwrap_or(now), record.key, record.value, headers).map_err(unfit)?;
        }
        let payload = builder.finish(Compression::None).map_err(unfit)?;
        let leader = self.cluster.leader(&image, partition)?;
        let request = ProduceRequest {
            topic_id: image.id,
            partition,
            leader_epoch: Some(leader.epoch),
            acks: Acks::All,
            expected_log_end: Some(expected),
            transactional_id: None,
        };
        let connection = self.cluster.connection(&leader.address, Purpose::Requests).await?;
        let response = connection.call_with(&request, payload).await?;
        Ok(Receipt {
            partition,
            offset: Some(response.base_offset),
            timestamp: response.appended_at,
            leader_epoch: Some(response.leader_epoch),
            replicas_written: response.replicas_written,
            replicas_flushed: response.replicas_flushed,
            maybe_twice: false,
        })
    }
}
