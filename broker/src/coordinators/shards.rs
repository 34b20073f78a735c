//! Which partitions of an internal topic this broker leads, and the shard that drives each. Knows nothing of what is coordinated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tidelog_coordination::TopicImage;
use tidelog_protocol::messages::{Coordinated, UnreadShard};
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionId, ProtocolVersion, TopicId, WireError};

use super::machine::Machine;
use super::shard::{self, Shard};
use super::topic;
use crate::node::Node;
use crate::partition::Handle;

/// Lists name shards that cannot be read from this version on.
const UNREAD_NAMED: ProtocolVersion = ProtocolVersion(6);

/// The log of a machine that was lost is read again no sooner.
const PAUSE: Duration = Duration::from_millis(250);

/// The shards of one topic.
pub(crate) struct Shards<M: Machine> {
    kind: Coordinated,
    led: ArcSwap<HashMap<(TopicId, PartitionId), Led<M>>>,
}

struct Led<M: Machine> {
    shard: Arc<Shard<M>>,
    since: Instant,
    /// How often in a row its log could not be read.
    attempts: u32,
}

impl<M: Machine> Clone for Led<M> {
    fn clone(&self) -> Self {
        Self { shard: self.shard.clone(), since: self.since, attempts: self.attempts }
    }
}

impl<M: Machine> Led<M> {
    /// Begins to read the log; `before` is what came of the last attempt under this leadership.
    fn open(node: &Arc<Node>, partition: Handle, epoch: LeaderEpoch, before: Option<&Self>) -> Self {
        let unread = before.and_then(|led| Some((led.shard.unread_state()?, led.attempts.saturating_add(1))));
        let (unread, attempts) = unread.map_or((None, 0), |(unread, attempts)| (Some(unread), attempts));
        let shard = Shard::open(partition, epoch, unread);
        M::accompany(&shard, node);
        Self { shard, since: Instant::now(), attempts }
    }

    /// Is its log to be read again?
    fn is_due(&self) -> bool {
        let waited = self.since.elapsed();
        match self.shard.unread_state() {
            Some(unread) if !self.shard.is_loading() => unread.is_due(self.shard.partition(), waited, self.attempts),
            _ => self.shard.is_lost() && waited >= PAUSE,
        }
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
        let leads = topic.partition(partition).is_some_and(|state| state.leader == Some(node.broker_id));
        Err(if leads { absent(node, topic, partition) } else { shard::not_coordinator() })
    }

    /// Every shard here.
    pub(crate) fn all(&self) -> Vec<Arc<Shard<M>>> {
        self.led.load().values().map(|led| led.shard.clone()).collect()
    }

    /// Asks every shard here; on a connection of an earlier `version` those that cannot be read cannot be named, and fail the whole.
    ///
    /// # Errors
    /// NotCoordinator, CoordinatorLoading.
    pub(crate) async fn ask_each(
        &self,
        node: &Node,
        command: &M::Command,
        version: ProtocolVersion,
    ) -> Result<(Vec<M::Reply>, Vec<UnreadShard>), WireError> {
        let (mut replies, mut unread) = (Vec::new(), Vec::new());
        let image = node.controllers.image();
        let Some(topic) = image.topic_named(topic::name(self.kind)) else { return Ok((replies, unread)) };
        for (partition, state) in topic.partitions() {
            let led = self.led.load().get(&(topic.id, partition)).map(|led| led.shard.clone());
            let asked = match led {
                Some(shard) => shard.ask(node, command).await,
                None if state.leader == Some(node.broker_id) => Err(absent(node, topic, partition)),
                None => continue,
            };
            match asked {
                Ok(reply) => replies.push(reply),
                Err(error) if version >= UNREAD_NAMED && !error.code.is_retriable() => {
                    unread.push(UnreadShard { partition, fault: error.into() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok((replies, unread))
    }

    /// Gives up what is damaged of one.
    ///
    /// # Errors
    /// As [`Shard::give_up_damaged`]; NotCoordinator, CoordinatorLoading.
    pub(super) async fn give_up_damaged(
        &self,
        place: (TopicId, PartitionId),
        before: Option<Offset>,
    ) -> Result<Offset, WireError> {
        let led = self.led.load().get(&place).map(|led| led.shard.clone());
        led.ok_or_else(shard::loading)?.give_up_damaged(before).await
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
                let known = before.get(&(topic.id, partition)).filter(|led| led.shard.epoch() == tail.leader_epoch);
                let led = match known {
                    Some(led) if !led.is_due() => led.clone(),
                    known => Led::open(node, handle, tail.leader_epoch, known),
                };
                after.insert((topic.id, partition), led);
            }
        }
        after.values().for_each(|led| led.shard.expire(node));
        self.led.store(Arc::new(after));
    }
}

/// Why a shard that is led here by the metadata is not here.
fn absent(node: &Node, topic: &TopicImage, partition: PartitionId) -> WireError {
    let refusal = match node.registry.find(topic.id, partition) {
        Ok((handle, _)) => handle.tail().borrow().ended.clone(),
        // Where others have replicas, one of them is about to lead.
        Err(error) => Some(error).filter(|_| topic.partition(partition).is_some_and(|state| state.replicas.len() == 1)),
    };
    // What passes by itself soon is not worth telling; a disk without room waits for somebody.
    match refusal.filter(|error| !error.code.is_retriable() || error.code == ErrorCode::StorageFull) {
        Some(error) => {
            let message =
                format!("what is kept in {}, partition {partition}, is not served: {}", topic.name, error.message);
            WireError { message, ..error }
        }
        // It may lead since a moment ago.
        None => shard::loading(),
    }
}
