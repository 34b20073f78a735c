//! A partition of the broker's own whose log is gone altogether begins anew, where an operator has said so.

use std::sync::Arc;

use tidelog_protocol::messages::ReplicaHolding;
use tidelog_protocol::{ErrorCode, PartitionId, TopicId, WireError};
use tracing::warn;

use super::{Registry, Slot, Topics};
use crate::partition::recoveries::Recoveries;

impl Registry {
    /// Is this a partition of the broker's own of which nothing is left, here or elsewhere?
    #[must_use]
    pub fn is_gone(&self, topic_id: TopicId, partition: PartitionId) -> bool {
        self.topics.load().get(&topic_id).is_some_and(|topic| {
            let place = topic.places.get(partition.0 as usize);
            topic.image.internal
                && place.is_some_and(|place| {
                    matches!(place.slot, Slot::Failed(_, ReplicaHolding::Nothing))
                        && place.assignment.as_ref().is_some_and(|assignment| assignment.is_sole)
                })
        })
    }

    /// Makes an empty log in its place. Where that breaks off in the middle the same does it, now or after a start. Blocks on the disk.
    ///
    /// # Errors
    /// OutOfService where it is not [gone](Self::is_gone), or the new one cannot be opened; StorageFailed.
    pub fn begin_anew(&self, topic_id: TopicId, partition: PartitionId) -> Result<(), WireError> {
        let _turn = self.one_at_a_time.lock();
        let mut topics = Topics::clone(&self.topics.load());
        let Some(topic) = topics.get_mut(&topic_id).filter(|_| self.is_gone(topic_id, partition)) else {
            return Err(WireError::new(
                ErrorCode::OutOfService,
                "it has changed meanwhile, nothing was done: look again",
            ));
        };
        let image = Arc::clone(&topic.image);
        self.options.opening.remove(&image, partition).map_err(|error| {
            let sentence = format!("what is left of {}-{partition} cannot be removed: {error}", image.name);
            WireError::new(ErrorCode::StorageFailed, sentence)
        })?;
        let slot = self.open(&image, partition, &Recoveries::default());
        if let Slot::Open(handle) = &slot {
            self.note_founded(std::slice::from_ref(handle));
            warn!(topic = %image.name, %partition, "an operator has given up what was lost: the partition begins anew");
        }
        Arc::make_mut(topic).places[partition.0 as usize].slot = slot;
        self.publish(topics);
        self.find(topic_id, partition).map(drop)
    }
}
