//! Sends within a transaction, from anywhere. Knows nothing of how it ends.

use crate::ClientError;
use crate::producer::{Delivery, Producer, Record, SendError, TopicProducer};

/// Sends records of one transaction. Clones are cheap; any number of tasks may send at once. It ends with its transaction: what is sent later
/// is refused.
#[derive(Clone, Debug)]
pub struct TransactionSender {
    pub(super) producer: Producer,
}

impl TransactionSender {
    /// Takes a record into its batch, as [`Producer::send`] does. The delivery tells that it was written, which is not that the transaction
    /// holds; where it is not awaited, a record that cannot be written fails the commit.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`SendError::Undone`] once a record of the transaction was not written, [`SendError::TransactionEnded`] once it
    /// has ended.
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        self.producer.send(record).await
    }

    /// A handle for one topic: the fastest way to send many records to it. It ends with the transaction, too.
    ///
    /// # Errors
    /// As [`Producer::topic`].
    pub async fn topic(&self, name: &str) -> Result<TopicProducer, ClientError> {
        self.producer.topic(name).await
    }
}
