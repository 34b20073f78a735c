//! Transactional producers and the coordinator of their transactions, as far as a group sees of them: it obeys the rules of the real one, and never
//! fails. Knows nothing of the group.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::groups::GroupCommand;
use tidelog_coordination::groups::partition_set::TopicPartition;
use tidelog_protocol::messages::ProducerIdentity;
use tidelog_protocol::{LeaderEpoch, ProducerEpoch, ProducerId};

use super::GROUP;

/// Tells the transactions of a run apart: what is committed within one carries it as its leader epoch.
pub fn number(identity: &ProducerIdentity) -> LeaderEpoch {
    LeaderEpoch(identity.producer_id.0 as u32 * 10_000 + identity.epoch.0 as u32)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Open, and whether the group is part of it.
    Open { has_group: bool },
    /// The group is to hear of it.
    Ending { commit: bool },
}

struct Producer {
    epoch: i16,
    state: State,
}

/// By the number of the client that each belongs to.
#[derive(Default)]
pub struct Producers {
    all: Vec<Producer>,
    /// What the group has answered that it noted.
    acknowledged: BTreeMap<LeaderEpoch, BTreeSet<TopicPartition>>,
}

impl Producers {
    pub fn start(&mut self) {
        self.all.push(Producer { epoch: 0, state: State::Open { has_group: false } });
    }

    pub fn identity(&self, client: usize) -> ProducerIdentity {
        ProducerIdentity { producer_id: ProducerId(client as i64), epoch: ProducerEpoch(self.all[client].epoch) }
    }

    /// The group asks whether this transaction may note something there.
    pub fn take_in(&mut self, identity: &ProducerIdentity) -> bool {
        let producer = &mut self.all[identity.producer_id.0 as usize];
        let is_open = producer.epoch == identity.epoch.0 && matches!(producer.state, State::Open { .. });
        if is_open {
            producer.state = State::Open { has_group: true };
        }
        is_open
    }

    pub fn acknowledge(&mut self, transaction: LeaderEpoch, partitions: impl Iterator<Item = TopicPartition>) {
        self.acknowledged.entry(transaction).or_default().extend(partitions);
    }

    /// Ends what is open; gives which transaction that was.
    pub fn end(&mut self, client: usize, commit: bool) -> Option<LeaderEpoch> {
        let transaction = number(&self.identity(client));
        let producer = &mut self.all[client];
        let State::Open { has_group } = producer.state else { return None };
        producer.epoch += 1;
        producer.state = if has_group { State::Ending { commit } } else { State::Open { has_group: false } };
        has_group.then_some(transaction)
    }

    /// The markers that are missing.
    pub fn markers(&self) -> Vec<(usize, GroupCommand)> {
        let marker = |client: usize| match self.all[client].state {
            State::Ending { commit } => {
                let (group, identity) = (GROUP.into(), self.identity(client));
                Some((client, GroupCommand::EndTransaction { group, identity, commit, own_epoch: false }))
            }
            State::Open { .. } => None,
        };
        (0..self.all.len()).filter_map(marker).collect()
    }

    /// The group knows. Gives what was acknowledged and has to count now, where this is the end that was waited for.
    pub fn confirm(&mut self, identity: &ProducerIdentity) -> Option<(LeaderEpoch, BTreeSet<TopicPartition>)> {
        let producer = &mut self.all[identity.producer_id.0 as usize];
        let State::Ending { commit } = producer.state else { return None };
        if producer.epoch != identity.epoch.0 {
            return None;
        }
        producer.state = State::Open { has_group: false };
        let ended = LeaderEpoch(number(identity).0 - 1);
        let acknowledged = self.acknowledged.remove(&ended).unwrap_or_default();
        commit.then_some((ended, acknowledged))
    }
}
