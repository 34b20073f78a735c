//! What is shown of a cluster: as a page, as JSON. Knows nothing of how it was asked for.

use serde_json::{Value, json};
use tidelog_client::BrokerId;
use tidelog_client::messages::{BrokerDescription, BrokerStanding, DescribeClusterResponse, PartitionCounts};

use super::ailing::Ailing;
use super::strays::Stray;
use super::voting::{Advice, advice};
use crate::byte_size::{counted, display_count};
use crate::output::{Align, Columns};

/// Where nobody answers for the whole.
pub(super) const ONE_VIEW: &str =
    "no broker runs the controller: this is one broker's view, and may be old; metadata cannot be changed";

/// How far the watermarks of what a broker leads are behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lag {
    /// Records that they have not passed, all partitions together.
    pub(super) records: u64,
    /// The most of them in one partition.
    pub(super) records_max: u64,
}

/// A cluster, and what its brokers said of themselves.
pub(super) struct Status<'a> {
    pub(super) cluster: &'a DescribeClusterResponse,
    /// Partitions that nobody leads who is there.
    pub(super) offline: u32,
    /// One for each broker, in order; `None` where it did not answer.
    pub(super) lags: &'a [Option<Lag>],
    /// What they said ails their replicas.
    pub(super) ailing: &'a Ailing,
    /// Addresses that were given for the cluster, and at which another answers.
    pub(super) strays: &'a [Stray],
}

impl Status<'_> {
    /// Is everything as it should be?
    pub(super) fn is_settled(&self) -> bool {
        let PartitionCounts { under_replicated, below_minimum, moving, .. } = self.cluster.partitions;
        self.cluster.controller.is_some()
            && self.cluster.next_voters.is_empty()
            && self.offline + under_replicated + below_minimum + moving == 0
            && self.cluster.brokers.iter().all(is_well)
            && self.ailing.is_empty()
            && self.strays.is_empty()
    }

    fn with_lags(&self) -> impl Iterator<Item = (&BrokerDescription, Option<Lag>)> {
        let lags = self.lags.iter().copied().chain(std::iter::repeat(None));
        self.cluster.brokers.iter().zip(lags)
    }

    fn votes(&self, broker: BrokerId) -> bool {
        self.cluster.voters.contains(&broker)
    }
}

/// It serves, and was heard of in time: whose lease has ended is about to be fenced.
fn is_well(broker: &BrokerDescription) -> bool {
    broker.standing == BrokerStanding::Serving && broker.lease_left_ms != Some(0)
}

/// Ids of brokers in one cell.
pub(super) fn brokers(ids: &[BrokerId], between: &str) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// Without a controller nobody knows more than how a broker stood when there was one.
fn standing_seen(broker: &BrokerDescription, has_controller: bool) -> String {
    let before = if has_controller { "" } else { "was " };
    format!("{before}{}", standing(broker))
}

const fn standing(broker: &BrokerDescription) -> &'static str {
    match (broker.standing, broker.draining) {
        (BrokerStanding::Serving, false) => "serving",
        (BrokerStanding::Serving, true) => "serving, draining",
        (BrokerStanding::Fenced, false) => "fenced",
        (BrokerStanding::Fenced, true) => "fenced, draining",
        (BrokerStanding::Leaving, _) => "leaving",
    }
}

/// The page.
pub(super) fn status(status: &Status<'_>) -> String {
    let cluster = status.cluster;
    let controller = match cluster.controller {
        Some(broker) => format!("broker {broker}, epoch {}", cluster.controller_epoch),
        None => format!("none: a majority of the voters is missing or cannot be reached\n            {ONE_VIEW}"),
    };
    let mut text = format!(
        "Cluster     {}\nController  {controller}\nVoters      {}\nMetadata    record {}, format {}\n\n",
        cluster.cluster_id,
        voters(cluster),
        cluster.as_of,
        cluster.feature_level
    );
    let mut columns = Columns::new(&[
        ("BROKER", Align::Right),
        ("ADDRESS", Align::Left),
        ("RACK", Align::Left),
        ("STANDING", Align::Left),
        ("LEASE LEFT", Align::Right),
        ("VOTES", Align::Left),
        ("LEADERS", Align::Right),
        ("PREFERRED", Align::Right),
        ("REPLICAS", Align::Right),
        ("IN SYNC", Align::Right),
        ("LAG", Align::Right),
        ("LAG MAX", Align::Right),
    ]);
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
    for (broker, lag) in status.with_lags() {
        columns.row([
            broker.broker_id.to_string(),
            format!("{}:{}", broker.host, broker.port),
            or_dash(broker.rack.clone()),
            standing_seen(broker, cluster.controller.is_some()),
            or_dash(broker.lease_left_ms.map(|ms| format!("{ms} ms"))),
            if status.votes(broker.broker_id) { "yes" } else { "no" }.into(),
            broker.leaders.to_string(),
            broker.preferred.to_string(),
            broker.replicas.to_string(),
            broker.in_sync.to_string(),
            or_dash(lag.map(|lag| display_count(lag.records))),
            or_dash(lag.map(|lag| display_count(lag.records_max))),
        ]);
    }
    text.push_str(&columns.to_string());
    let offline = status.offline;
    let PartitionCounts { partitions, under_replicated, below_minimum, moving, not_preferred, .. } = cluster.partitions;
    text.push_str(&format!(
        "\nPartitions  {partitions}: {offline} offline, {under_replicated} under-replicated, {below_minimum} below minimum, \
         {moving} moving; {not_preferred} not led by the preferred replica\n"
    ));
    for broker in &cluster.brokers {
        for (what, (replicas, leads)) in status.ailing.at(broker.broker_id) {
            let replicas = counted(replicas as u32, "replica");
            text.push_str(&format!(
                "Ailing      broker {}: {replicas}, {leads} of which lead: {what}\n",
                broker.broker_id
            ));
        }
    }
    for Stray { address, cluster } in status.strays {
        text.push_str(&format!(
            "Stray       {address} belongs to another cluster, {cluster}: a broker that lost its folder founds a new one unless it is started with --join\n"
        ));
    }
    text.push_str(if status.is_settled() { "Settled     yes\n" } else { "Settled     no\n" });
    text
}

/// The same for programs.
pub(super) fn status_json(status: &Status<'_>) -> Value {
    let cluster = status.cluster;
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let rows: Vec<_> = status
        .with_lags()
        .map(|(broker, lag)| {
            json!({
                "broker": broker.broker_id.0,
                "epoch": broker.broker_epoch.0,
                "incarnation": broker.incarnation.to_string(),
                "host": broker.host,
                "port": broker.port,
                "rack": broker.rack,
                "standing": match broker.standing {
                    BrokerStanding::Serving => "serving",
                    BrokerStanding::Fenced => "fenced",
                    BrokerStanding::Leaving => "leaving",
                },
                "draining": broker.draining,
                "lease_left_ms": broker.lease_left_ms,
                "votes": status.votes(broker.broker_id),
                "ailing": status.ailing.at(broker.broker_id).into_iter()
                    .map(|(what, (replicas, leads))| json!({"state": what, "replicas": replicas, "leaders": leads}))
                    .collect::<Vec<_>>(),
                "leaders": broker.leaders,
                "preferred": broker.preferred,
                "replicas": broker.replicas,
                "in_sync": broker.in_sync,
                "lag_records": lag.map(|lag| lag.records),
                "lag_records_max": lag.map(|lag| lag.records_max),
            })
        })
        .collect();
    let counts = &cluster.partitions;
    json!({
        "cluster_id": cluster.cluster_id.to_string(),
        "controller": cluster.controller.map(|broker| broker.0),
        "controller_epoch": cluster.controller_epoch.0,
        "voters": ids(&cluster.voters),
        "next_voters": ids(&cluster.next_voters),
        "advice": advice(cluster).iter().map(Advice::command).collect::<Vec<_>>(),
        "as_of": cluster.as_of.0,
        "feature_level": cluster.feature_level,
        "brokers": rows,
        "partitions": {
            "partitions": counts.partitions,
            "offline": status.offline,
            "under_replicated": counts.under_replicated,
            "below_minimum": counts.below_minimum,
            "moving": counts.moving,
            "not_preferred": counts.not_preferred,
        },
        "strays": status.strays.iter()
            .map(|stray| json!({"address": stray.address, "cluster_id": stray.cluster.to_string()}))
            .collect::<Vec<_>>(),
        "settled": status.is_settled(),
    })
}

/// Who votes, and below it who should, or should not.
fn voters(cluster: &DescribeClusterResponse) -> String {
    let sentences = advice(cluster).into_iter().map(|advice| format!("\n            {}", advice.sentence()));
    let change = match &cluster.next_voters[..] {
        [] => String::new(),
        next => format!(
            "\n            a change is under way: from then on {} vote; it goes on as soon as a majority of them answers",
            brokers(next, ", ")
        ),
    };
    brokers(&cluster.voters, ", ") + &change + &sentences.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::messages::BrokerDescription;
    use tidelog_protocol::{BrokerEpoch, IncarnationId};

    #[test]
    fn a_broker_whose_lease_has_ended_is_not_well_though_it_is_not_fenced_yet() {
        let serving = BrokerDescription {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            incarnation: IncarnationId([1; 16]),
            host: "localhost".into(),
            port: 1,
            rack: None,
            standing: BrokerStanding::Serving,
            draining: false,
            lease_left_ms: Some(900),
            leaders: 0,
            preferred: 0,
            replicas: 0,
            in_sync: 0,
        };
        assert!(is_well(&serving));
        assert!(
            is_well(&BrokerDescription { lease_left_ms: None, ..serving.clone() }),
            "told by whoever does not know"
        );
        assert!(!is_well(&BrokerDescription { lease_left_ms: Some(0), ..serving.clone() }));
        assert!(!is_well(&BrokerDescription { standing: BrokerStanding::Fenced, ..serving }));
    }
}
