//! Looks now and then whether the topics that are read whole have got more partitions, and has the new ones read too. Knows nothing
//! of records.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::Position;
use tidelog_protocol::{PartitionId, TopicId, TopicName};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::TopicPartition;
use super::builder::Settings;
use super::inbox::{Inbox, Slot};
use super::subscription::Subscription;
use crate::cluster::Cluster;

/// What it takes to have a partition read.
#[derive(Clone, Debug)]
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
        let subscription = self.subscription(slot, source, None);
        let ended = self.ended.clone();
        self.cluster.runtime.spawn(ended.run_until_cancelled_owned(subscription.run()));
    }

    /// Keeps the stream of a partition open until the guard is dropped; then its slot is free. Another topic of the same name is not read.
    pub(super) fn start_for_a_while(&self, slot: Slot, source: Arc<TopicPartition>, topic_id: TopicId) -> DropGuard {
        let subscription = self.subscription(slot, source, Some(topic_id));
        let ended = self.ended.child_token();
        let guard = ended.clone().drop_guard();
        let inbox = Arc::clone(&self.inbox);
        self.cluster.runtime.spawn(async move {
            ended.run_until_cancelled_owned(subscription.run()).await;
            inbox.vacate(slot);
        });
        guard
    }

    fn subscription(&self, slot: Slot, source: Arc<TopicPartition>, topic_id: Option<TopicId>) -> Subscription {
        Subscription {
            cluster: Arc::clone(&self.cluster),
            changed: self.inbox.changed(slot),
            inbox: Arc::clone(&self.inbox),
            slot,
            source,
            topic_id,
            settings: self.settings.clone(),
        }
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
