//! Whether another set of brokers should vote on metadata, and the command that brings it about. Knows nothing of how it is shown.

use tidelog_client::BrokerId;
use tidelog_client::messages::{BrokerDescription, BrokerStanding, DescribeClusterResponse};

/// More voters make every change slower and survive no more in practice.
const VOTERS_MAX: usize = 5;

/// What an operator should do about a vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Advice {
    /// One more vote would be worth having. A data folder that was wiped or replaced comes back without the vote that it had.
    Promote(BrokerId),
    /// One vote less survives as much.
    Demote(BrokerId),
}

impl Advice {
    /// What to type.
    pub(super) fn command(&self) -> String {
        match self {
            Self::Promote(broker) => format!("tidelog cluster promote {broker}"),
            Self::Demote(broker) => format!("tidelog cluster demote {broker}"),
        }
    }

    /// What is wrong, and what to type.
    pub(super) fn sentence(&self) -> String {
        let command = self.command();
        match self {
            Self::Promote(broker) => {
                format!("broker {broker} does not vote, and a new or wiped data folder never does by itself: {command}")
            }
            Self::Demote(_) => format!("an even number survives no more losses than one less: {command}"),
        }
    }
}

/// As many should vote as are an odd number of the brokers, of those that serve and are to stay. Without a controller nothing can be
/// changed, and one change is finished before another is begun.
pub(super) fn advice(cluster: &DescribeClusterResponse) -> Vec<Advice> {
    let Some(controller) = cluster.controller.filter(|_| cluster.next_voters.is_empty()) else { return Vec::new() };
    let votes = |broker: &BrokerId| cluster.voters.contains(broker);
    let stays = |broker: &&BrokerDescription| broker.standing == BrokerStanding::Serving && !broker.draining;
    let others = cluster.brokers.iter().filter(stays).map(|broker| broker.broker_id).filter(|broker| !votes(broker));
    let others: Vec<BrokerId> = others.collect();
    let voters = cluster.voters.len();
    let possible = (voters + others.len()).min(VOTERS_MAX);
    let wanted = if possible.is_multiple_of(2) { possible.saturating_sub(1) } else { possible };
    if wanted > voters {
        return others.into_iter().take(wanted - voters).map(Advice::Promote).collect();
    }
    // While one of them is away, the votes of the others are needed all the more.
    if cluster.brokers.iter().any(|broker| votes(&broker.broker_id) && broker.standing != BrokerStanding::Serving) {
        return Vec::new();
    }
    // The controller would have to be elected anew.
    let spare = cluster.voters.iter().copied().filter(|voter| controller != *voter).max();
    spare.filter(|_| voters.is_multiple_of(2)).map(Advice::Demote).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use tidelog_client::messages::PartitionCounts;
    use tidelog_protocol::{BrokerEpoch, ClusterId, ControllerEpoch, IncarnationId, MetadataIndex};

    use super::*;

    fn broker(id: u32) -> BrokerDescription {
        BrokerDescription {
            broker_id: BrokerId(id),
            broker_epoch: BrokerEpoch(1),
            incarnation: IncarnationId([1; 16]),
            host: "host".into(),
            port: 9092,
            rack: None,
            standing: BrokerStanding::Serving,
            draining: false,
            lease_left_ms: None,
            replicas: 0,
            in_sync: 0,
            leaders: 0,
            preferred: 0,
        }
    }

    fn cluster(brokers: u32, voters: &[u32]) -> DescribeClusterResponse {
        DescribeClusterResponse {
            cluster_id: ClusterId([1; 16]),
            controller: Some(BrokerId(voters[0])),
            controller_epoch: ControllerEpoch(1),
            voters: voters.iter().copied().map(BrokerId).collect(),
            as_of: MetadataIndex(1),
            feature_level: 1,
            brokers: (1..=brokers).map(broker).collect(),
            partitions: PartitionCounts {
                partitions: 0,
                offline: 0,
                under_replicated: 0,
                below_minimum: 0,
                moving: 0,
                not_preferred: 0,
            },
            next_voters: Vec::new(),
        }
    }

    fn commands(cluster: &DescribeClusterResponse) -> Vec<String> {
        advice(cluster).iter().map(Advice::command).collect()
    }

    #[test]
    fn a_broker_that_lost_its_vote_with_its_folder_is_named() {
        assert_eq!(commands(&cluster(3, &[1, 2])), ["tidelog cluster promote 3"]);
        assert_eq!(commands(&cluster(5, &[5, 1, 4])), ["tidelog cluster promote 2", "tidelog cluster promote 3"]);
        assert_eq!(commands(&cluster(4, &[1, 2, 4])), [""; 0], "four voters survive no more than three");
        assert_eq!(commands(&cluster(7, &[1, 2, 3, 4, 5])), [""; 0], "five are enough");
    }

    #[test]
    fn who_is_away_or_goes_is_not_promoted() {
        let mut away = cluster(4, &[1, 2]);
        away.brokers[2].standing = BrokerStanding::Fenced;
        assert_eq!(commands(&away), ["tidelog cluster promote 4"]);
        away.brokers[3].draining = true;
        assert_eq!(commands(&away), ["tidelog cluster demote 2"]);
    }

    #[test]
    fn an_even_number_is_told_with_the_vote_to_spare() {
        assert_eq!(commands(&cluster(2, &[2, 1])), ["tidelog cluster demote 1"], "not the controller's");
        assert_eq!(commands(&cluster(4, &[1, 2, 3, 4])), ["tidelog cluster demote 4"]);
        for (brokers, voters) in [(1, &[1][..]), (2, &[1]), (3, &[1, 2, 3])] {
            assert_eq!(commands(&cluster(brokers, voters)), [""; 0], "{brokers} brokers");
        }
        let changing = DescribeClusterResponse { next_voters: vec![BrokerId(1), BrokerId(2)], ..cluster(2, &[1, 2]) };
        assert_eq!(commands(&changing), [""; 0], "one change after the other");
        let mut one_is_away = cluster(4, &[1, 2, 3, 4]);
        one_is_away.brokers[2].standing = BrokerStanding::Fenced;
        assert_eq!(commands(&one_is_away), [""; 0], "no vote is to spare while a voter is down");
        let nobody_decides = DescribeClusterResponse { controller: None, ..cluster(2, &[1, 2]) };
        assert_eq!(commands(&nobody_decides), [""; 0]);
    }
}
