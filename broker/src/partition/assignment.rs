//! What the metadata wants of a replica here. Knows nothing of how the replica comes to do it.

use tidelog_coordination::{TopicConfig, TopicImage};
use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionId};
use tidelog_replication::{Following, Membership};

/// This broker, as it registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub broker: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// The part of a replica, and the configuration under which it is played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The topic's configuration.
    pub config: TopicConfig,
    /// Lead, follow or wait.
    pub part: Part,
    /// True where the controller may have this replica lead: an empty log in its place would lose records.
    pub counts: bool,
    /// True where it may have another replica lead, which is complete as far as it knows.
    pub has_heirs: bool,
    /// True where no other broker holds a replica.
    pub is_sole: bool,
}

/// Lead, follow or wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// This broker leads.
    Lead {
        /// The broker: this one.
        leader: BrokerId,
        /// The leadership.
        epoch: LeaderEpoch,
        /// With whom.
        membership: Membership,
    },
    /// Another broker leads.
    Follow(Following),
    /// Nobody leads.
    Wait {
        /// The last leadership.
        epoch: LeaderEpoch,
    },
}

impl Assignment {
    /// What `topic` wants of `member`; `None` where it holds no replica of the partition.
    #[must_use]
    pub fn of(topic: &TopicImage, partition: PartitionId, member: Member) -> Option<Self> {
        let state = topic.partition(partition)?;
        let Member { broker, epoch: broker_epoch } = member;
        if !state.replicas.contains(&broker) {
            return None;
        }
        let epoch = state.leader_epoch;
        let part = match state.leader {
            Some(leader) if leader == broker => Part::Lead {
                leader,
                epoch,
                membership: Membership {
                    replicas: state.replicas.clone(),
                    in_sync: state.in_sync.clone(),
                    partition_epoch: state.partition_epoch,
                },
            },
            Some(leader) => Part::Follow(Following { replica: broker, broker_epoch, leader, epoch }),
            None => Part::Wait { epoch },
        };
        let mut complete = state.in_sync.iter().chain(&state.eligible);
        let counts = complete.clone().any(|complete| *complete == broker);
        let has_heirs = complete.any(|complete| *complete != broker);
        let is_sole = state.replicas.len() == 1;
        Some(Self { config: topic.config, part, counts, has_heirs, is_sole })
    }

    /// The leadership.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        match &self.part {
            Part::Lead { epoch, .. } | Part::Wait { epoch } => *epoch,
            Part::Follow(following) => following.epoch,
        }
    }

    /// True where it leads what no other broker holds a replica of.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.is_sole && matches!(self.part, Part::Lead { .. })
    }
}
