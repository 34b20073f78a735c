//! Which brokers hold a new partition. Knows nothing of load or racks yet; the seed makes it repeatable.

use alloc::vec::Vec;

use tidelog_protocol::BrokerId;

/// The replicas of partition `index`, the preferred leader first. Leaders go round the brokers in turn, so that the partitions of
/// a topic are led evenly; the followers' distance from the leader grows with each round, so that a broker's load spreads over
/// all others when it fails. `seed` is the same for all partitions of a topic and decides who begins.
///
/// # Panics
/// Where `replication_factor` is 0 or above the number of `brokers`: the controller refuses that.
#[must_use]
pub fn place(brokers: &[BrokerId], index: u32, replication_factor: usize, seed: u64) -> Vec<BrokerId> {
    let count = brokers.len();
    assert!((1..=count).contains(&replication_factor), "{replication_factor} replicas on {count} brokers");
    let leader = (seed % count as u64) as usize + index as usize;
    let round = leader / count;
    let followers = (0..replication_factor - 1).map(|nth| 1 + (round + nth) % (count - 1));
    core::iter::once(0).chain(followers).map(|distance| brokers[(leader + distance) % count]).collect()
}

#[cfg(test)]
mod tests {
    use alloc::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn leaders_are_spread_evenly_and_no_broker_holds_two_replicas_of_one_partition() {
        for count in 1..=6u32 {
            let brokers: Vec<_> = (10..10 + count).map(BrokerId).collect();
            for factor in 1..=count as usize {
                for seed in [0, 1, 7, u64::MAX] {
                    let mut led = BTreeMap::new();
                    for index in 0..count * 5 {
                        let replicas = place(&brokers, index, factor, seed);
                        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor, "{replicas:?}");
                        *led.entry(replicas[0]).or_insert(0) += 1;
                    }
                    assert!(led.values().all(|partitions| *partitions == 5), "{led:?}");
                }
            }
        }
    }

    #[test]
    fn the_followers_of_one_leader_are_not_always_the_same() {
        let brokers: Vec<_> = (0..4).map(BrokerId).collect();
        let followers: BTreeSet<_> = (0..12).map(|i| place(&brokers, i, 2, 0)).filter(|r| r[0].0 == 0).collect();
        assert_eq!(followers.len(), 3);
    }
}
