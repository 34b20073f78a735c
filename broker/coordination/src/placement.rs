//! Which brokers hold a partition: spread over racks first, then evenly within a topic, then by what each holds already. Knows
//! nothing of how a placement comes about; a seed makes it repeatable.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, TopicId};

use crate::image::{ClusterImage, TopicImage};

/// What the brokers hold that can be given replicas, and what of it belongs to the topic being placed.
#[derive(Debug)]
pub(crate) struct Spread<'a> {
    racks: BTreeMap<BrokerId, &'a str>,
    seats: Vec<Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    broker: BrokerId,
    all: Load,
    of_topic: Load,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Load {
    leaders: u32,
    replicas: u32,
}

impl Load {
    fn count(&mut self, mut replicas: impl Iterator<Item = BrokerId>, broker: BrokerId) {
        if let Some(rank) = replicas.position(|replica| replica == broker) {
            self.replicas += 1;
            self.leaders += u32::from(rank == 0);
        }
    }
}

impl<'a> Spread<'a> {
    /// Of the cluster as it is.
    pub(crate) fn over(image: &'a ClusterImage) -> Self {
        let rack = |broker: &'a crate::image::BrokerImage| Some((broker.broker_id, broker.rack.as_deref()?));
        let racks = image.brokers().filter_map(rack).collect();
        let takers = image.brokers().filter(|broker| broker.takes_replicas());
        let mut seats: Vec<Seat> = takers.map(|broker| Seat { broker: broker.broker_id, ..Seat::default() }).collect();
        for state in image.topics().flat_map(|topic| &topic.partitions) {
            for seat in &mut seats {
                seat.all.count(state.target(), seat.broker);
            }
        }
        Self { racks, seats }
    }

    /// How many brokers can be given replicas.
    pub(crate) const fn brokers(&self) -> usize {
        self.seats.len()
    }

    /// This broker gets none.
    pub(crate) fn leave_out(&mut self, broker: BrokerId) {
        self.seats.retain(|seat| seat.broker != broker);
    }

    /// From here on replicas of `topic` are placed.
    pub(crate) fn begin_topic(&mut self, topic: Option<&TopicImage>) {
        for seat in &mut self.seats {
            seat.of_topic = Load::default();
            for state in topic.iter().flat_map(|topic| &topic.partitions) {
                seat.of_topic.count(state.target(), seat.broker);
            }
        }
    }

    /// The replicas of a new partition, the preferred leader first; from here on they count.
    ///
    /// # Panics
    /// Where there are not so many brokers: the controller refuses that.
    pub(crate) fn place(&mut self, replication_factor: usize, seed: u64) -> Vec<BrokerId> {
        assert!(
            replication_factor <= self.seats.len(),
            "{replication_factor} replicas on {} brokers",
            self.seats.len()
        );
        let mut replicas = Vec::with_capacity(replication_factor);
        let leader = self.seats.iter().min_by_key(|seat| {
            let Seat { of_topic, all, .. } = seat;
            (of_topic.leaders, all.leaders, of_topic.replicas, all.replicas, shuffled(seed, seat.broker))
        });
        replicas.extend(leader.map(|seat| seat.broker));
        self.take(replicas.first().copied(), 1);
        while replicas.len() < replication_factor {
            replicas.extend(self.add(&replicas, seed));
        }
        replicas
    }

    /// One more replica of a partition that has `others`; from here on it counts. `None` where every broker has one.
    pub(crate) fn add(&mut self, others: &[BrokerId], seed: u64) -> Option<BrokerId> {
        let free = self.seats.iter().filter(|seat| !others.contains(&seat.broker));
        let best = free.min_by_key(|seat| {
            let Seat { broker, of_topic, all } = seat;
            (self.neighbours(*broker, others), of_topic.replicas, all.replicas, shuffled(seed, *broker))
        });
        let broker = best.map(|seat| seat.broker);
        self.take(broker, 0);
        broker
    }

    /// How many of `others` stand in the rack of `broker`. Where no rack is known, each broker counts as one.
    fn neighbours(&self, broker: BrokerId, others: &[BrokerId]) -> usize {
        let Some(rack) = self.racks.get(&broker) else { return 0 };
        others.iter().filter(|other| **other != broker && self.racks.get(other) == Some(rack)).count()
    }

    fn take(&mut self, broker: Option<BrokerId>, leaders: u32) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| Some(seat.broker) == broker) {
            for load in [&mut seat.all, &mut seat.of_topic] {
                load.replicas += 1;
                load.leaders += leaders;
            }
        }
    }
}

/// A seed that differs from partition to partition.
pub(crate) fn seed(topic: TopicId, partition: u32) -> u64 {
    let of_topic = topic.0.iter().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    mixed(of_topic ^ mixed(u64::from(partition)))
}

/// Decides between equals, so that the partners of a broker are not always the same ones.
fn shuffled(seed: u64, broker: BrokerId) -> u64 {
    mixed(seed ^ mixed(u64::from(broker.0)))
}

/// The finaliser of splitmix64.
const fn mixed(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
