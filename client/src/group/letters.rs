//! Where the dead letter of a record goes, and what it is. Knows nothing of how it is sent.

use std::sync::Arc;

use tidelog_protocol::PartitionId;

use super::dead_letter::{Failing, dead_letter};
use super::record::GroupRecord;
use super::shared::Shared;
use super::{DeadLetterTopic, GroupError};
use crate::{Admin, ClientError, NewTopic, Record, SendError};

/// The dead letters of a member.
pub(crate) struct Letters {
    pub(super) shared: Arc<Shared>,
}

impl Letters {
    /// Those of a consumer's member.
    pub(crate) fn of(consumer: &super::GroupConsumer) -> Self {
        Self { shared: Arc::clone(&consumer.shared) }
    }

    /// The dead-letter topic of a record.
    ///
    /// # Errors
    /// [`GroupError::Failed`] where there is none.
    pub(crate) fn topic(
        &self,
        to: &DeadLetterTopic,
        record: &GroupRecord,
        cause: &str,
        attempts: u32,
    ) -> Result<String, GroupError> {
        let failed = |cause: String| GroupError::Failed {
            topic: record.source().topic.clone(),
            partition: record.partition(),
            offset: record.offset,
            attempts,
            cause,
        };
        let Some(topic) = to.of(record.topic()) else { return Err(failed(cause.to_owned())) };
        // A dead letter that is read like any record would go round for ever.
        if self.shared.work.lock().assignment().iter().any(|at| at.topic.as_str() == topic)
            || topic == record.topic()
            || *to == DeadLetterTopic::default() && record.topic().ends_with(DeadLetterTopic::SUFFIX)
        {
            let sentence =
                format!("{cause} (the group reads dead letters itself: leave dead-letter topics out of its pattern)");
            return Err(failed(sentence));
        }
        Ok(topic)
    }

    /// The dead letter of a record, for its place in the dead-letter topic, which is created where there is none.
    pub(crate) async fn compose(
        &self,
        topic: &str,
        record: &GroupRecord,
        cause: &str,
        attempts: u32,
    ) -> Result<Record, ClientError> {
        let partitions = self.partitions(topic, record.topic()).await?;
        // In the order of its partition, as the records were.
        let partition = PartitionId(record.partition().0 % partitions.max(1));
        let failing = Failing { group: &self.shared.group, cause, attempts };
        Ok(dead_letter(topic, record, &failing).partition(partition))
    }

    /// It could not be written.
    pub(crate) fn refusal(record: &GroupRecord, dead_letters: String, source: SendError) -> GroupError {
        let (topic, partition, offset) = (record.source().topic.clone(), record.partition(), record.offset);
        GroupError::DeadLetter { topic, partition, offset, dead_letters, source }
    }

    /// How many partitions the dead-letter topic has; it is created where there is none.
    async fn partitions(&self, topic: &str, like: &str) -> Result<u32, ClientError> {
        let cluster = &self.shared.cluster;
        match cluster.topic(topic).await {
            Ok(image) => return Ok(image.partitions.len() as u32),
            Err(ClientError::UnknownTopic { .. }) => {}
            Err(error) => return Err(error),
        }
        let partitions = cluster.topic(like).await?.partitions.len() as u32;
        let created =
            Admin::new(Arc::clone(cluster)).create_topic(&NewTopic::named(topic).partitions(partitions)).await;
        match created {
            Ok(_) => tracing::info!(topic, partitions, "created a dead-letter topic"),
            // Another member was quicker.
            Err(error) if error.code() == Some(crate::ErrorCode::TopicExists) => {}
            Err(error) => return Err(error),
        }
        Ok(cluster.refreshed(topic, std::time::Instant::now()).await?.partitions.len() as u32)
    }
}
