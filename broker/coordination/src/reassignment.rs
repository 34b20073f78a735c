//! Replicas move: by an operator's list, or off a broker that is being emptied. New replicas copy first, and once all that shall
//! stay are in sync the switch happens by itself, in the decision that takes the last one in. Knows nothing of the copying.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, ErrorCode, PartitionId};

use crate::command::{Assignment, Refusal, Reply};
use crate::controller::Decided;
use crate::counted;
use crate::election::{Liveness, Seating};
use crate::image::{ClusterImage, TopicImage};
use crate::placement::{Spread, seed};
use crate::records::{BrokerDraining, MetadataRecord, PartitionChanged, PartitionState};
use crate::registration::known;
use crate::topics::partition_named;

/// An operator says which brokers shall hold which partitions: all of it or nothing.
pub(crate) fn reassign(image: &ClusterImage, assignments: &[Assignment]) -> Result<Decided, Refusal> {
    let mut moves = Moves::default();
    let mut seen = BTreeSet::new();
    for assignment in assignments {
        let (topic, held) = partition_named(image, &assignment.topic, assignment.partition)?;
        let name = format!("'{}'-{}", topic.name, assignment.partition);
        if !seen.insert((topic.id, assignment.partition)) {
            return Err(refused(format!("{name} stands twice in the request; ask once for each")));
        }
        let target = match &assignment.replicas {
            Some(target) => {
                check_target(image, topic, held, target).map_err(|why| match why {
                    Unfit::Unknown(refusal) => refusal,
                    Unfit::Because(why) => refused(format!("{name} cannot be moved: {why}")),
                })?;
                target.clone()
            }
            None if held.is_moving() => before_the_move(held),
            None => return Err(refused(format!("{name} is not being moved: there is nothing to take back"))),
        };
        moves.record(image, topic, assignment.partition.0 as usize, &target);
    }
    Ok(moves.decided())
}

fn before_the_move(held: &PartitionState) -> Vec<BrokerId> {
    if !held.before.is_empty() {
        return held.before.clone();
    }
    let stays = held.target().filter(|broker| !held.adding.contains(broker));
    stays.chain(held.removing.iter().copied()).collect()
}

enum Unfit {
    Unknown(Refusal),
    Because(String),
}

fn check_target(
    image: &ClusterImage,
    topic: &TopicImage,
    held: &PartitionState,
    target: &[BrokerId],
) -> Result<(), Unfit> {
    let distinct: BTreeSet<_> = target.iter().collect();
    let minimum = usize::from(topic.config.min_in_sync_replicas);
    if distinct.len() < target.len() {
        return Err(Unfit::Because("a broker stands twice among its replicas; a broker holds one at most".into()));
    }
    if target.len() < minimum.max(1) {
        return Err(Unfit::Because(format!(
            "{} would be fewer than its min.insync.replicas, which is {minimum}: name more brokers, or lower that first",
            counted(target.len(), "replica")
        )));
    }
    for broker_id in target {
        let broker = known(image, *broker_id).map_err(Unfit::Unknown)?;
        // What holds a replica already may stay, though it is away.
        if held.replicas.contains(broker_id) || broker.takes_replicas() {
            continue;
        }
        let why = match broker {
            broker if broker.fenced => "is fenced: start it first",
            broker if broker.leaving => "is shutting down: wait until it is back",
            _ => "is being drained: take that back first",
        };
        return Err(Unfit::Because(format!("broker {broker_id} {why}, or name another")));
    }
    Ok(())
}

/// A broker is emptied: each replica goes to the broker that a new one would go to. Asked again it goes on where it stopped.
pub(crate) fn drain(image: &ClusterImage, broker_id: BrokerId) -> Result<Decided, Refusal> {
    let broker = known(image, broker_id)?;
    let mut spread = Spread::over(image);
    spread.leave_out(broker_id);
    let mut moves = Moves::default();
    for topic in image.topics() {
        spread.begin_topic(Some(topic));
        for (partition, held) in topic.partitions() {
            let mut target: Vec<BrokerId> = held.target().collect();
            let Some(rank) = target.iter().position(|replica| *replica == broker_id) else { continue };
            let others: Vec<BrokerId> = target.iter().copied().filter(|replica| *replica != broker_id).collect();
            target[rank] = spread.add(&others, seed(topic.id, partition.0)).ok_or_else(|| {
                refused(format!(
                    "broker {broker_id} cannot be drained: no other live broker can take its replica of '{}'-{partition}, \
                     which has {}: add a broker, or give its partitions fewer replicas with 'tidelog cluster reassign'",
                    topic.name,
                    target.len()
                ))
            })?;
            moves.record(image, topic, partition.0 as usize, &target);
        }
    }
    if !broker.draining {
        moves.records.insert(0, BrokerDraining { broker_id, draining: true }.into());
    }
    Ok(moves.decided())
}

/// An operator thought better of it: the broker may get replicas again. What moves already goes on moving.
pub(crate) fn keep(image: &ClusterImage, broker_id: BrokerId) -> Result<Decided, Refusal> {
    if !known(image, broker_id)?.draining {
        return Err(refused(format!("broker {broker_id} is not being drained: there is nothing to take back")));
    }
    Ok((vec![BrokerDraining { broker_id, draining: false }.into()], Reply::Done))
}

/// The records of moves, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    pub(crate) records: Vec<MetadataRecord>,
    copying: u32,
    done: u32,
}

impl Moves {
    /// The replicas of a partition shall be `target`.
    pub(crate) fn record(&mut self, image: &ClusterImage, topic: &TopicImage, index: usize, target: &[BrokerId]) {
        let Some(held) = topic.partitions.get(index) else { return };
        if held.target().eq(target.iter().copied()) {
            return;
        }
        let seating = Seating::new(held, topic.config.min_in_sync_replicas, Liveness::of(image));
        if let Some(state) = seating.reassign(target).prefer().finish() {
            *(if state.is_moving() { &mut self.copying } else { &mut self.done }) += 1;
            let partition = PartitionId(index as u32);
            self.records.push(PartitionChanged { topic_id: topic.id, partition, state }.into());
        }
    }

    /// How many partitions copy replicas.
    pub(crate) const fn copying(&self) -> u32 {
        self.copying
    }

    /// How many partitions changed without copying anything.
    pub(crate) const fn done(&self) -> u32 {
        self.done
    }

    fn decided(self) -> Decided {
        (self.records, Reply::Reassigned { copying: self.copying, done: self.done })
    }
}

fn refused(message: impl ToString) -> Refusal {
    Refusal::new(ErrorCode::InvalidReassignment, message.to_string())
}
