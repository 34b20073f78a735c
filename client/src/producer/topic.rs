//! The sending end of one topic: borrowed bytes in, no allocation per record. Knows nothing of connections.

use std::fmt;
use std::sync::Arc;

use super::dispatch::{Dispatch, TopicLanes};
use super::{Delivery, RecordRef, SendError};

/// Sends to one topic. Clones are cheap; any number of tasks and threads may send at once.
#[derive(Clone)]
pub struct TopicProducer {
    dispatch: Arc<Dispatch>,
    lanes: Arc<TopicLanes>,
}

impl fmt::Debug for TopicProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicProducer({})", self.name())
    }
}

impl TopicProducer {
    pub(super) const fn new(dispatch: Arc<Dispatch>, lanes: Arc<TopicLanes>) -> Self {
        Self { dispatch, lanes }
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.lanes.name()
    }

    /// How many partitions it has, as far as is known.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.lanes.partitions()
    }

    /// Copies a key, where there is one, and a value into a batch. Waits only where the producer's memory is full.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`], [`SendError::Client`].
    #[inline]
    pub async fn send(&self, key: Option<&[u8]>, value: &[u8]) -> Result<Delivery, SendError> {
        self.send_record(&RecordRef::new(key, value)).await
    }

    /// As [`TopicProducer::send`], with all that a record can have.
    ///
    /// # Errors
    /// As [`TopicProducer::send`]; [`ClientError::UnknownPartition`](crate::ClientError::UnknownPartition) for an explicit one
    /// that does not exist.
    #[inline]
    pub async fn send_record(&self, record: &RecordRef<'_>) -> Result<Delivery, SendError> {
        self.dispatch.send(&self.lanes, record).await
    }

    /// As [`TopicProducer::send_record`], but never waits.
    ///
    /// # Errors
    /// As [`TopicProducer::send_record`]; [`SendError::Full`] where there is no memory.
    #[inline]
    pub fn try_send(&self, record: &RecordRef<'_>) -> Result<Delivery, SendError> {
        self.dispatch.try_send(&self.lanes, record)
    }
}
