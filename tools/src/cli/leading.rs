//! Whether partitions are led by a broker that can do so: the metadata alone go on naming a leader that is gone, for as long as nobody can
//! change them. Every command that shows partitions shows this. Knows nothing of how it is shown.

use std::collections::BTreeSet;

use tidelog_client::messages::{BrokerStanding, DescribeClusterResponse};
use tidelog_client::{Admin, BrokerId};

use super::ailing::PATIENCE;

/// Which brokers can lead.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Leading {
    /// No broker runs the controller, so no lease is renewed.
    is_without_controller: bool,
    /// Brokers without a lease by what the controller says, or that do not answer where there is none.
    away: BTreeSet<BrokerId>,
}

/// How a partition is led, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Led {
    /// As it should be.
    Well,
    /// By a broker whose lease nobody renews: what is settled can be read, nothing is acknowledged.
    WithoutLease,
    /// By a broker that is away.
    ByNobodyThere,
    /// Nobody leads it.
    ByNobody,
}

impl Leading {
    /// As the controller says; where there is none, as the brokers answer, all asked at once.
    pub(super) async fn ask(admin: &Admin, cluster: &DescribeClusterResponse) -> Self {
        if cluster.controller.is_some() {
            let away = cluster
                .brokers
                .iter()
                .filter(|broker| broker.standing == BrokerStanding::Fenced || broker.lease_left_ms == Some(0));
            return Self { is_without_controller: false, away: away.map(|broker| broker.broker_id).collect() };
        }
        let asked: Vec<_> = cluster
            .brokers
            .iter()
            .map(|broker| {
                let (admin, id) = (admin.clone(), broker.broker_id);
                let asked = async move { tokio::time::timeout(PATIENCE, admin.describe_broker_of(id)).await };
                (id, tokio::spawn(asked))
            })
            .collect();
        let mut away = BTreeSet::new();
        for (broker, asked) in asked {
            if !matches!(asked.await, Ok(Ok(Ok(_)))) {
                away.insert(broker);
            }
        }
        Self { is_without_controller: true, away }
    }

    /// These did not answer, whatever the controller says of them.
    pub(super) fn but_for(mut self, silent: impl IntoIterator<Item = BrokerId>) -> Self {
        self.away.extend(silent);
        self
    }

    /// How a partition with this leader is led.
    pub(super) fn of(&self, leader: Option<BrokerId>) -> Led {
        match leader {
            None => Led::ByNobody,
            Some(leader) if self.away.contains(&leader) => Led::ByNobodyThere,
            Some(_) if self.is_without_controller => Led::WithoutLease,
            Some(_) => Led::Well,
        }
    }

    /// Partitions that nobody leads who is there.
    pub(super) fn offline(&self, cluster: &DescribeClusterResponse) -> u32 {
        let away = cluster.brokers.iter().filter(|broker| self.away.contains(&broker.broker_id));
        cluster.partitions.offline + away.map(|broker| broker.leaders).sum::<u32>()
    }
}

impl Led {
    /// In words, where there is something to say.
    pub(super) const fn words(self) -> Option<&'static str> {
        match self {
            Self::Well => None,
            Self::WithoutLease => Some("leader without lease"),
            Self::ByNobodyThere => Some("offline, its leader is away"),
            Self::ByNobody => Some("offline"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_leads_nothing_even_where_the_controller_hears_of_it() {
        let silent = Leading::default().but_for([BrokerId(2)]);
        assert_eq!((silent.of(Some(BrokerId(1))), silent.of(Some(BrokerId(2)))), (Led::Well, Led::ByNobodyThere));
    }

    #[test]
    fn a_leader_counts_only_where_it_is_there_and_its_lease_is_renewed() {
        let one = Some(BrokerId(1));
        let sound = Leading::default();
        assert_eq!((sound.of(one), sound.of(None)), (Led::Well, Led::ByNobody));
        let gone = Leading { is_without_controller: false, away: BTreeSet::from([BrokerId(1)]) };
        assert_eq!((gone.of(one), gone.of(Some(BrokerId(2)))), (Led::ByNobodyThere, Led::Well));
        let undecided = Leading { is_without_controller: true, ..gone };
        assert_eq!((undecided.of(one), undecided.of(Some(BrokerId(2)))), (Led::ByNobodyThere, Led::WithoutLease));
    }
}
