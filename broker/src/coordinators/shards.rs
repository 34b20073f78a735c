//! Which partitions of an internal topic this broker leads, and the shard that drives each. Knows nothing of what is coordinated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tidelog_protocol::messages::Coordinated;
use tidelog_protocol::{PartitionId, TopicId, WireError};

use super::machine::Machine;
use super::shard::{self, Shard};
use super::topic;
use crate::node::Node;

/// A log that could not be read is read again no sooner.
const PAUSE: Duration = Duration::from_millis(250);

/// The shards of one topic.
pub(crate) struct Shards<M: Machine> {
    kind: Coordinated,
    led: ArcSwap<HashMap<(TopicId, PartitionId), Led<M>>>,
}

struct Led<M: Machine> {
    shard: Arc<Shard<M>>,
    since: Instant,
}

impl<M: Machine> Clone for Led<M> {
    fn clone(&self) -> Self {
        Self { shard: self.shard.clone(), since: self.since }
    }
}

impl<M: Machine> Shards<M> {
    pub(super) fn new(kind: Coordinated) -> Self {
        Self { kind, led: ArcSwap::default() }
    }

    /// The shard of `key`.
    ///
    /// # Errors
    /// NotCoordinator, CoordinatorLoading.
    pub(crate) fn of(&self, node: &Node, key: &str) -> Result<Arc<Shard<M>>, WireError> {
        let image = node.controllers.image();
        let topic = image.topic_named(topic::name(self.kind)).ok_or_else(shard::not_coordinator)?;
        let partition = topic::partition_of(key, topic.partitions.len());
        if let Some(led) = self.led.load().get(&(topic.id, partition)) {
            return Ok(led.shard.clone());
        }
        // It may lead since a moment ago.
        let leads = topic.partition(partition).is_some_and(|state| state.leader == Some(node.broker_id));
        Err(if leads { shard::loading() } else { shard::not_coordinator() })
    }

    /// Every shard here.
    pub(crate) fn all(&self) -> Vec<Arc<Shard<M>>> {
        self.led.load().values().map(|led| led.shard.clone()).collect()
    }

    /// This broker was away for so long that silence says nothing.
    pub(super) fn forgive(&self) {
        self.led.load().values().for_each(|led| led.shard.forgive());
    }

    /// Takes up what this broker has come to lead, drops what it leads no more, and does what is due.
    pub(super) fn keep_step(&self, node: &Arc<Node>) {
        let image = node.controllers.image();
        let before = self.led.load();
        let mut after = HashMap::new();
        if let Some(topic) = image.topic_named(topic::name(self.kind)) {
            for (partition, _) in topic.partitions() {
                let Ok((handle, _)) = node.registry.find(topic.id, partition) else { continue };
                let tail = handle.tail().borrow().clone();
                if !tail.leads || tail.ended.is_some() {
                    continue;
                }
                let known = before.get(&(topic.id, partition)).filter(|led| {
                    let is_current = led.shard.epoch() == tail.leader_epoch;
                    is_current && (!led.shard.is_lost() || led.since.elapsed() < PAUSE)
                });
                let led = known.cloned().unwrap_or_else(|| {
                    let shard = Shard::open(handle, tail.leader_epoch);
                    M::accompany(&shard, node);
                    Led { shard, since: Instant::now() }
                });
                after.insert((topic.id, partition), led);
            }
        }
        after.values().for_each(|led| led.shard.expire(node));
        self.led.store(Arc::new(after));
    }
}
