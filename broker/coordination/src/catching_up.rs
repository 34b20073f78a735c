//! Who sends to replicas that catch up. Knows nothing of how much.

use alloc::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::BrokerId;

use crate::image::ClusterImage;

/// For each broker that has a replica which is not in sync: how many others lead such partitions, and so send to it at the same time.
#[must_use]
pub fn senders(image: &ClusterImage) -> BTreeMap<BrokerId, u32> {
    let mut leaders: BTreeMap<BrokerId, BTreeSet<BrokerId>> = BTreeMap::new();
    for (_, state) in image.topics().flat_map(|topic| topic.partitions()) {
        let Some(leader) = state.leader else { continue };
        for behind in state.replicas.iter().filter(|replica| !state.in_sync.contains(replica)) {
            leaders.entry(*behind).or_default().insert(leader);
        }
    }
    leaders.into_iter().map(|(behind, leaders)| (behind, leaders.len() as u32)).collect()
}
