//! How much replicas that are not in sync get from here. One broker that takes in from several has the rate of one of them altogether: what
//! it writes and the memory that this takes are its own, and keep it from what others wait for. Knows nothing of streams.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tidelog_coordination::{ClusterImage, catching_up};
use tidelog_protocol::BrokerId;

use crate::throttle::Throttle;

/// The rate, and who else sends.
#[derive(Debug)]
pub struct CatchUp {
    throttle: Throttle,
    senders: RwLock<BTreeMap<BrokerId, u32>>,
}

impl CatchUp {
    /// With so many bytes a second; 0 for no limit.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { throttle: Throttle::new(bytes_per_second), senders: RwLock::default() }
    }

    /// Learns who sends to whom.
    pub fn learn(&self, image: &ClusterImage) {
        *self.senders.write() = catching_up::senders(image);
    }

    /// What may be sent besides from now on, in bytes a second, however many send.
    pub fn allow_besides(&self, bytes_per_second: u64) {
        self.throttle.allow_besides(bytes_per_second);
    }

    /// So many bytes go `to` a broker at `now`. Says how long to wait before any more do.
    pub fn take(&self, to: BrokerId, bytes: usize, now: Instant) -> Duration {
        let senders = self.senders.read().get(&to).copied().unwrap_or(1);
        self.throttle.take_part(bytes, senders, now)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_coordination::records::{PartitionCreated, PartitionState, TopicCreated};
    use tidelog_protocol::{MetadataIndex, PartitionId, Timestamp, TopicId, TopicName};

    use super::*;

    /// Each of the leaders has one partition that broker 9 lacks.
    fn image(leaders: &[u32]) -> ClusterImage {
        let topic_id = TopicId([7; 16]);
        let created_at = Timestamp(0);
        let topic = TopicCreated {
            topic_id,
            name: TopicName::new("t").unwrap(),
            internal: false,
            created_at,
            overrides: Vec::new(),
        };
        let mut image = ClusterImage::default();
        image.apply(MetadataIndex(1), &topic.into());
        for (index, leader) in (0..).zip(leaders) {
            let mut state = PartitionState::first(vec![BrokerId(*leader), BrokerId(9)]);
            state.in_sync = vec![BrokerId(*leader)];
            let created = PartitionCreated { topic_id, partition: PartitionId(index), state };
            image.apply(MetadataIndex(2 + u64::from(index)), &created.into());
        }
        image
    }

    #[test]
    fn a_broker_that_takes_in_from_three_has_a_third_of_the_rate_from_each() {
        let now = Instant::now();
        let waits = |leaders: &[u32], to: u32| {
            let catch_up = CatchUp::new(3_000);
            catch_up.learn(&image(leaders));
            catch_up.take(BrokerId(to), 10_000, now).as_secs_f64()
        };
        let alone = waits(&[1, 1], 9);
        let of_three = waits(&[1, 2, 3, 3], 9);
        assert!((3.1..3.3).contains(&alone) && (9.8..10.0).contains(&of_three), "{alone} s, {of_three} s");
        assert_eq!(waits(&[1, 2, 3], 8), alone, "who lacks nothing that is known is nobody's third");
    }
}
