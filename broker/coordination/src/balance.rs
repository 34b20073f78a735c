//! Balance: replicas spread evenly over the brokers and over racks, preferred leaders spread evenly over the replicas, with as few
//! copies as that takes. Plans on numbers of its own; knows nothing of states and elections until the plan is done.

use alloc::vec;
use alloc::vec::Vec;

use tidelog_protocol::BrokerId;

use crate::command::Reply;
use crate::controller::Decided;
use crate::image::{BrokerImage, ClusterImage};
use crate::reassignment::Moves;
use crate::records::PartitionState;

/// Copies `copies_max` replicas at most, where that is not 0. Partitions that move already, and replicas on brokers that are away
/// or being drained, are left alone.
pub(crate) fn balance(image: &ClusterImage, copies_max: u32) -> Decided {
    let mut plan = Plan::of(image);
    let mut copies = 0;
    while (copies_max == 0 || copies < copies_max) && (plan.spread_over_racks() || plan.level_replicas()) {
        copies += 1;
    }
    while plan.level_leaders() {}

    let mut moves = Moves::default();
    let mut partitions = plan.partitions.iter();
    for topic in image.topics() {
        for index in 0..topic.partitions.len() {
            if let Some(planned) = partitions.next().filter(|planned| planned.open) {
                let target: Vec<BrokerId> = planned.replicas.iter().map(|replica| plan.brokers[*replica]).collect();
                moves.record(image, topic, index, &target);
            }
        }
    }
    let (copying, reordered) = (moves.copying(), moves.done());
    (moves.records, Reply::Balanced { copying, reordered, copies })
}

/// Brokers, topics and partitions by number: thousands of partitions are planned in one decision.
#[derive(Debug)]
struct Plan {
    brokers: Vec<BrokerId>,
    /// Whether a broker can be given replicas, and may lose some.
    takes: Vec<bool>,
    /// Where each stands; one whose rack is not known stands alone.
    racks: Vec<usize>,
    partitions: Vec<Planned>,
    /// Replicas on each broker.
    replicas: Vec<u32>,
    /// Partitions that prefer each broker as leader.
    leaders: Vec<u32>,
    /// Replicas of each topic on each broker.
    of_topic: Vec<Vec<u32>>,
    /// The first partition of each topic.
    begins: Vec<usize>,
    /// Partitions before this one are spread over racks as far as that can be.
    spread_up_to: usize,
}

#[derive(Debug)]
struct Planned {
    topic: usize,
    /// Whether it may be changed.
    open: bool,
    /// The preferred leader first.
    replicas: Vec<usize>,
}

impl Plan {
    fn of(image: &ClusterImage) -> Self {
        let brokers: Vec<BrokerId> = image.brokers().map(|broker| broker.broker_id).collect();
        let named = |at: usize| {
            let rack = |broker: &BrokerImage| broker.rack.clone();
            let mine = image.brokers().nth(at).and_then(rack)?;
            image.brokers().position(|other| rack(other).as_ref() == Some(&mine))
        };
        let mut plan = Self {
            takes: image.brokers().map(BrokerImage::takes_replicas).collect(),
            racks: (0..brokers.len()).map(|at| named(at).unwrap_or(at)).collect(),
            partitions: Vec::new(),
            replicas: vec![0; brokers.len()],
            leaders: vec![0; brokers.len()],
            of_topic: vec![vec![0; brokers.len()]; image.topics().len()],
            begins: Vec::new(),
            brokers,
            spread_up_to: 0,
        };
        for (number, topic) in image.topics().enumerate() {
            plan.begins.push(plan.partitions.len());
            topic.partitions.iter().for_each(|state| plan.count(number, state));
        }
        plan
    }

    fn count(&mut self, topic: usize, state: &PartitionState) {
        let number = |broker: BrokerId| self.brokers.binary_search(&broker).ok();
        let replicas: Vec<usize> = state.target().filter_map(number).collect();
        for broker in &replicas {
            self.replicas[*broker] += 1;
            self.of_topic[topic][*broker] += 1;
        }
        replicas.iter().take(1).for_each(|broker| self.leaders[*broker] += 1);
        let open = !state.is_moving() && !replicas.is_empty();
        self.partitions.push(Planned { topic, open, replicas });
    }

    /// Moves one replica out of a rack that holds another one of its partition, where there is a rack that holds none.
    fn spread_over_racks(&mut self) -> bool {
        while let Some(planned) = self.partitions.get(self.spread_up_to) {
            let racks: Vec<usize> = planned.replicas.iter().map(|broker| self.racks[*broker]).collect();
            // The last of those that crowd a rack: the preferred leader stays, if it can.
            let crowded = (0..racks.len()).rev().find(|rank| {
                let alone = racks.iter().filter(|rack| **rack == racks[*rank]).count() == 1;
                !alone && self.takes[planned.replicas[*rank]]
            });
            let free = |broker: &usize| self.takes[*broker] && !racks.contains(&self.racks[*broker]);
            let to = (0..self.brokers.len()).filter(free).min_by_key(|broker| self.replicas[*broker]);
            if let (Some(rank), Some(to), true) = (crowded, to, planned.open) {
                self.move_replica(self.spread_up_to, rank, to);
                return true;
            }
            self.spread_up_to += 1;
        }
        false
    }

    /// Moves one replica from a broker with many to one with at least two fewer.
    fn level_replicas(&mut self) -> bool {
        let mut by_load: Vec<usize> = (0..self.brokers.len()).filter(|broker| self.takes[*broker]).collect();
        by_load.sort_by_key(|broker| self.replicas[*broker]);
        for from in by_load.iter().rev() {
            for to in by_load.iter().take_while(|to| self.replicas[**to] + 2 <= self.replicas[*from]) {
                if let Some((at, rank)) = self.first_movable(*from, *to) {
                    self.move_replica(at, rank, *to);
                    return true;
                }
            }
        }
        false
    }

    /// A partition and the rank of its replica that can go, of the topic that crowds the one broker most and the other least. Looks
    /// into as few topics as it can: a plan may hold thousands of moves.
    fn first_movable(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let crowding = |topic: usize| i64::from(self.of_topic[topic][from]) - i64::from(self.of_topic[topic][to]);
        let mut tried = vec![false; self.of_topic.len()];
        loop {
            let candidates = (0..tried.len()).filter(|topic| !tried[*topic] && self.of_topic[*topic][from] > 0);
            let topic = candidates.max_by_key(|topic| crowding(*topic))?;
            let end = self.begins.get(topic + 1).copied().unwrap_or(self.partitions.len());
            let mut partitions = self.begins[topic]..end;
            let found = partitions.find_map(|at| Some((at, self.movable(at, from, to)?)));
            if found.is_some() {
                return found;
            }
            tried[topic] = true;
        }
    }

    /// The rank of the replica that could go, if one can, without leaving fewer racks.
    fn movable(&self, at: usize, from: usize, to: usize) -> Option<usize> {
        let Planned { open, replicas, .. } = &self.partitions[at];
        let rank = replicas.iter().position(|broker| *broker == from)?;
        if !open || replicas.contains(&to) {
            return None;
        }
        let neighbours =
            |rack: usize| replicas.iter().filter(|other| **other != from && self.racks[**other] == rack).count();
        let crowds = neighbours(self.racks[to]) > neighbours(self.racks[from]);
        (!crowds).then_some(rank)
    }

    fn move_replica(&mut self, at: usize, rank: usize, to: usize) {
        let Planned { topic, replicas, .. } = &mut self.partitions[at];
        let from = core::mem::replace(&mut replicas[rank], to);
        for (broker, sign) in [(from, -1), (to, 1)] {
            let add = |count: &mut u32| *count = count.saturating_add_signed(sign);
            add(&mut self.replicas[broker]);
            add(&mut self.of_topic[*topic][broker]);
            if rank == 0 {
                add(&mut self.leaders[broker]);
            }
        }
    }

    /// Takes one preference from the broker preferred most often to one preferred at least twice less, along a way of brokers that
    /// share partitions. Copies nothing.
    fn level_leaders(&mut self) -> bool {
        let takers = (0..self.brokers.len()).filter(|broker| self.takes[*broker]);
        let Some(from) = takers.max_by_key(|broker| self.leaders[*broker]) else { return false };
        // By which partition each broker is reached, going breadth first.
        let mut by: Vec<Option<usize>> = vec![None; self.brokers.len()];
        let mut ways = vec![from];
        let mut next = 0;
        while let Some(here) = ways.get(next).copied() {
            next += 1;
            if self.leaders[here] + 2 <= self.leaders[from] {
                self.shift_preferences(from, here, &by);
                return true;
            }
            for (at, planned) in self.partitions.iter().enumerate() {
                if !planned.open || planned.replicas[0] != here {
                    continue;
                }
                for broker in &planned.replicas[1..] {
                    if *broker != from && by[*broker].is_none() && self.takes[*broker] {
                        by[*broker] = Some(at);
                        ways.push(*broker);
                    }
                }
            }
        }
        false
    }

    fn shift_preferences(&mut self, from: usize, to: usize, by: &[Option<usize>]) {
        self.leaders[from] -= 1;
        self.leaders[to] += 1;
        let mut broker = to;
        while let Some(at) = by[broker] {
            let replicas = &mut self.partitions[at].replicas;
            let before = replicas[0];
            if let Some(rank) = replicas.iter().position(|replica| *replica == broker) {
                replicas.swap(0, rank);
            }
            broker = before;
        }
    }
}
