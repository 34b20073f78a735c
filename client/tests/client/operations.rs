//! What an operator asks of a cluster, by the client, against brokers in this process.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog_broker::config::{Advertise, OwnId, PathText};
use tidelog_broker::{Broker, Config};
use tidelog_client::messages::{BrokerStanding, PartitionFilter, ReplicaAssignment, VoterChange};
use tidelog_client::*;

/// Brokers 1 and 2, of which the first runs the controller.
struct Pair {
    _folder: TempDir,
    brokers: [Broker; 2],
}

impl Pair {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = launch(folder.path(), 1, Advertise(None)).await;
        let join = Advertise(Some(("127.0.0.1".into(), first.address().port())));
        let second = launch(folder.path(), 2, join).await;
        Self { _folder: folder, brokers: [first, second] }
    }

    /// A client that was told of the second broker only, which decides nothing.
    async fn client(&self) -> Client {
        Client::connect(&self.brokers[1].address().to_string()).await.unwrap()
    }
}

async fn launch(folder: &Path, broker_id: u32, join: Advertise) -> Broker {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(folder.join(format!("broker-{broker_id}"))),
        disk_free_min_bytes: 0,
        broker_id: OwnId(Some(broker_id)),
        join,
        ..Config::default()
    };
    Broker::start(config).await.unwrap()
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn assignment(partition: u32, replicas: &[u32]) -> ReplicaAssignment {
    let replicas = Some(replicas.iter().copied().map(BrokerId).collect());
    ReplicaAssignment { topic: "logs".into(), partition: PartitionId(partition), replicas }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_described_and_who_votes_is_changed() {
    let pair = Pair::start().await;
    let admin = pair.client().await.admin();
    admin.create_topic(&NewTopic::named("logs").partitions(2)).await.unwrap();
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!((cluster.controller, cluster.voters), (Some(BrokerId(1)), vec![BrokerId(1)]));
    assert!(cluster.brokers.iter().all(|broker| broker.standing == BrokerStanding::Serving), "{:?}", cluster.brokers);
    for broker in [1, 2] {
        // The other broker may come to hear of the topic later than the one that was asked for it.
        let has_its_share = async || {
            let described = admin.describe_broker_of(BrokerId(broker)).await.unwrap();
            assert_eq!(described.broker_id, BrokerId(broker));
            (described.partitions == 2 && described.leads == 1).then_some(())
        };
        eventually("two replicas on each and one to lead", has_its_share).await;
    }
    let error = admin.describe_broker_of(BrokerId(9)).await.unwrap_err();
    assert!(matches!(error, ClientError::Argument(_)), "{error}");

    let voters = admin.change_voters(BrokerId(2), VoterChange::Promote).await.unwrap();
    assert_eq!(voters, [BrokerId(1), BrokerId(2)]);
    assert_eq!(admin.change_voters(BrokerId(1), VoterChange::Demote).await.unwrap(), [BrokerId(2)]);
    let error = admin.change_voters(BrokerId(2), VoterChange::Remove).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidVoters), "{error}");
    let error = admin.remove_broker(BrokerId(1)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::BrokerInUse), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_by_list_by_drain_and_by_balance() {
    let pair = Pair::start().await;
    let admin = pair.client().await.admin();
    admin.create_topic(&NewTopic::named("logs").partitions(2).replication_factor(1)).await.unwrap();
    let holders = async || {
        let held = admin.describe_partitions(Some(&["logs"]), PartitionFilter::All).await.unwrap();
        held.into_iter().map(|partition| partition.replicas).collect::<Vec<_>>()
    };
    let settled = async || {
        let none = async || admin.describe_partitions(None, PartitionFilter::Unsettled).await.unwrap().is_empty();
        eventually("nothing to move", async || none().await.then_some(())).await;
    };
    let list = || vec![assignment(0, &[2]), assignment(1, &[2])];
    let before = holders().await;
    assert_eq!(admin.plan_reassignment(list()).await.unwrap().copying, 1);
    assert_eq!(holders().await, before);
    assert_eq!(admin.reassign(list()).await.unwrap().copying, 1);
    settled().await;
    assert_eq!(holders().await, [[BrokerId(2)], [BrokerId(2)]]);

    assert_eq!(admin.plan_balance(None).await.unwrap().copies, 1);
    assert_eq!(admin.balance(Some(1)).await.unwrap().copies, 1);
    settled().await;
    assert_ne!(holders().await[0], holders().await[1]);

    assert_eq!(admin.plan_drain(BrokerId(2)).await.unwrap().copying, 1);
    assert_eq!(admin.drain(BrokerId(2)).await.unwrap().copying, 1);
    settled().await;
    assert_eq!(holders().await, [[BrokerId(1)], [BrokerId(1)]]);
    assert!(admin.describe_cluster().await.unwrap().brokers[1].draining);
    admin.cancel_drain(BrokerId(2)).await.unwrap();
    let error = admin.cancel_drain(BrokerId(2)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidReassignment), "{error}");

    let error = admin.reassign(vec![assignment(0, &[7])]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownBroker), "{error}");
    let error = admin.describe_partitions(Some(&["other"]), PartitionFilter::All).await.unwrap_err();
    assert_eq!(error, ClientError::UnknownTopic { topic: "other".into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_elected_by_preference_and_by_force_only_where_there_is_none() {
    let pair = Pair::start().await;
    let admin = pair.client().await.admin();
    admin.create_topic(&NewTopic::named("logs").replication_factor(2)).await.unwrap();
    assert_eq!(admin.elect_preferred(None).await.unwrap(), 0);
    assert_eq!(admin.elect_preferred(Some(("logs", PartitionId(0)))).await.unwrap(), 0);
    let error = admin.elect_preferred(Some(("logs", PartitionId(5)))).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownPartition), "{error}");
    let error = admin.elect_unclean("logs", PartitionId(0), BrokerId(2)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidElection), "{error}");
}
