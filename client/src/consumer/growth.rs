//! Looks now and then whether the topics that are read whole have got more partitions, and has the new ones read too. Knows nothing
//! of records.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::Position;
use tidelog_protocol::{PartitionId, TopicName};
use tokio_util::sync::CancellationToken;

use super::TopicPartition;
use super::builder::Settings;
use super::inbox::{Inbox, Slot};
use super::subscription::Subscription;
use crate::cluster::Cluster;

/// What it takes to have a partition read.
pub(super) struct Readers {
    pub(super) cluster: Arc<Cluster>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) settings: Settings,
    /// Ends all that was started.
    pub(super) ended: CancellationToken,
}

impl Readers {
    /// Keeps the stream of a partition open from now on.
    pub(super) fn start(&self, slot: Slot, source: Arc<TopicPartition>) {
        let subscription = Subscription {
            cluster: Arc::clone(&self.cluster),
            changed: self.inbox.changed(slot),
            inbox: Arc::clone(&self.inbox),
            slot,
            source,
            settings: self.settings.clone(),
        };
        let ended = self.ended.clone();
        self.cluster.runtime.spawn(ended.run_until_cancelled_owned(subscription.run()));
    }

    /// Watches topics of which so many partitions are read, for as long as the consumer is there.
    pub(super) fn watch(self, topics: Vec<(TopicName, u32)>) {
        let runtime = self.cluster.runtime.clone();
        let ended = self.ended.clone();
        runtime.spawn(ended.run_until_cancelled_owned(self.run(topics)));
    }

    async fn run(self, mut topics: Vec<(TopicName, u32)>) {
        loop {
            // A little later than metadata are taken for old.
            tokio::time::sleep(self.cluster.options.metadata_max_age + Duration::from_millis(1)).await;
            for (topic, known) in &mut topics {
                let partitions = match self.cluster.topic(topic.as_str()).await {
                    Ok(image) => image.partitions.len() as u32,
                    Err(error) => {
                        tracing::debug!(%topic, %error, "could not look whether the topic has grown");
                        continue;
                    }
                };
                while *known < partitions {
                    let source = Arc::new(TopicPartition { topic: topic.clone(), partition: PartitionId(*known) });
                    // From its beginning, whatever the start of the others was: it came into being while the consumer ran.
                    let slot = self.inbox.join(Arc::clone(&source), Position::EARLIEST);
                    self.start(slot, source);
                    *known += 1;
                }
            }
        }
    }
}
