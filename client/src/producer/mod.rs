//! From records to acknowledged batches.
//!
//! - [`Producer`], [`TopicProducer`]: where records come in.
//! - `partitioner`, [`murmur2`]: which partition.
//! - `dispatch`: the record finds its lane, and memory for its batch (`memory`).
//! - `lane`: the records of one partition, in order: the open batch, those that wait, those in flight. Pure.
//! - `partition`: drives a lane: finishes batches, sends them, brings answers back; `recovery` finds its leader.
//! - `identity`: who the producer is, so that what it sends twice is written once.
//! - `scope`: the transaction that records belong to, where they do.
//! - `split`: cuts a batch where the topic's limit was lowered under it.
//! - `delivery`: what a sender waits for.

mod builder;
mod delivery;
mod dispatch;
mod error;
mod identity;
mod lane;
#[cfg(test)]
mod lane_idempotence;
#[cfg(test)]
mod lane_model;
#[cfg(test)]
mod lane_transactions;
mod memory;
mod murmur2;
mod partition;
mod partitioner;
mod record;
mod recovery;
mod scope;
mod split;
mod topic;

pub use builder::ProducerBuilder;
pub(crate) use builder::Settings;
pub use delivery::{Delivery, Receipt};
pub(crate) use dispatch::Supplies;
pub use error::SendError;
pub use murmur2::murmur2;
pub use partitioner::{Partitioner, by_key};
pub use record::{HeaderRef, Record, RecordRef};
pub(crate) use scope::Scope;
pub use topic::TopicProducer;

use std::sync::Arc;

use crate::ClientError;
use crate::cluster::Cluster;
use dispatch::Dispatch;

/// Sends records. Clones are cheap and share everything; any number of tasks and threads may send at once.
///
/// Records of one partition are written in the order of their `send` calls (see [`ProducerBuilder::max_in_flight`] for what
/// a failure may do to it). Dropping the last handle does not wait: what was sent is still delivered in the background as long as
/// the runtime lives, but nobody hears of it. Call [`Producer::close`] or [`Producer::flush`] before the program ends.
///
/// ```no_run
/// use tidelog_client::{Client, Record};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let producer = client.producer().build()?;
/// let delivery = producer.send(Record::to("orders").key("customer-7").value("one crate")).await?;
/// let receipt = delivery.await?;
/// println!("partition {} offset {:?}", receipt.partition, receipt.offset);
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    dispatch: Arc<Dispatch>,
}

impl Producer {
    const fn new(dispatch: Arc<Dispatch>) -> Self {
        Self { dispatch }
    }

    /// A handle for one topic: the fastest way to send many records to it, from borrowed bytes.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; those of asking the cluster.
    pub async fn topic(&self, name: &str) -> Result<TopicProducer, ClientError> {
        Ok(TopicProducer::new(Arc::clone(&self.dispatch), self.dispatch.topic(name).await?))
    }

    /// Takes a record into its batch. Waits only where the producer's memory is full, and at the first record of a topic, for what
    /// the cluster says of it. The delivery tells what became of it.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`], [`SendError::Client`].
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        let lanes = match self.dispatch.known_topic(&record.topic) {
            Some(lanes) => lanes,
            None => self.dispatch.topic(&record.topic).await?,
        };
        self.dispatch.send(&lanes, &record.lend(&record.header_refs())).await
    }

    /// As [`Producer::send`], but never waits; the record stays the caller's.
    ///
    /// # Errors
    /// [`SendError::Full`] where there is no memory; [`SendError::Client`] with
    /// [`ClientError::UnknownTopic`] also for a topic that this producer has not used before: call [`Producer::topic`] first.
    pub fn try_send(&self, record: &Record) -> Result<Delivery, SendError> {
        let Some(lanes) = self.dispatch.known_topic(&record.topic) else {
            return Err(ClientError::UnknownTopic { topic: record.topic.to_string() }.into());
        };
        self.dispatch.try_send(&lanes, &record.lend(&record.header_refs()))
    }

    /// Sends everything that was taken before the call, whatever `linger` says, and waits until its fate is known.
    ///
    /// # Errors
    /// The first failure since the last flush, if any record failed: one of those that it waited for, or one that failed before. Each delivery tells
    /// its own.
    pub async fn flush(&self) -> Result<(), SendError> {
        self.dispatch.flush().await
    }

    /// Refuses new records, then flushes. Other clones of this handle are closed with it.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), SendError> {
        self.dispatch.close();
        self.dispatch.flush().await
    }

    /// True where what this producer has to send twice is written once: as it was built, and as long as no leader of an older release was met.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.dispatch.is_idempotent()
    }

    /// Bytes of memory in use for records that are not acknowledged yet, in whole batches.
    #[must_use]
    pub fn memory_in_use(&self) -> usize {
        self.dispatch.memory_in_use()
    }

    /// One whose records belong to a transaction, and which ends with it.
    pub(crate) fn of_transaction(cluster: Arc<Cluster>, supplies: Supplies, transaction: Scope) -> Self {
        Self::new(Dispatch::of_transaction(cluster, supplies, transaction))
    }

    /// Takes no more records.
    pub(crate) fn refuse_more(&self) {
        self.dispatch.close();
    }

    /// Of a transaction: takes no more records, and gives up those that have no answer.
    pub(crate) fn abandon(&self) {
        self.dispatch.abandon();
    }

    /// Of a transaction: why a record was not written, where one was not.
    pub(crate) fn failure(&self) -> Option<SendError> {
        self.dispatch.failure()
    }

    /// Of a transaction: no record was ever taken.
    pub(crate) fn is_untouched(&self) -> bool {
        self.dispatch.is_untouched()
    }
}
