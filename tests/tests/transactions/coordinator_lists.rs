//! Groups and transactional ids are listed although a broker hangs: whole once its shards have moved, and where they cannot, without those, which
//! is said.

use serde_json::Value;
use tidelog_client::messages::CommittedOffset;
use tidelog_client::{Client, NewTopic, Offset, PartitionId, Record, TopicId, TransactionFilter};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_transactions::{SHARDS, shard_of};

const GROUPS: usize = 24;

fn at(topic_id: TopicId, partition: u32) -> CommittedOffset {
    let (partition, offset, metadata) = (PartitionId(partition), Offset(0), String::new());
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata }
}

/// A cluster with groups and transactional ids in all shards.
async fn cluster(settings: ClusterSettings) -> (Cluster, Client) {
    let cluster = Cluster::start(settings).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("orders").partitions(1).replication_factor(3)).await.unwrap();
    let topics = client.admin().metadata().await.unwrap().topics;
    let topic_id = topics.iter().find(|topic| topic.name.as_str() == "orders").unwrap().topic_id;
    for number in 0..GROUPS {
        client.admin().set_group_offsets(&format!("group-{number}"), vec![at(topic_id, 0)]).await.unwrap();
        let mut producer = client.transactional_producer(format!("id-{number}")).build().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("orders").value("one")).await.unwrap());
        transaction.commit().await.unwrap();
    }
    (cluster, client)
}

/// Broker that leads shards of both, but does not run the controller.
async fn victim(cluster: &Cluster, client: &Client) -> u32 {
    let controller =
        wait_until("a controller", async || client.admin().describe_cluster().await.ok()?.controller).await;
    for shard in 0..SHARDS {
        let (leader, _) = cluster.leader("__groups", shard).await;
        if leader != controller.0 {
            return leader;
        }
    }
    unreachable!("one broker leads all shards");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_is_not_asked_once_others_lead_its_shards() {
    let (cluster, client) = cluster(ClusterSettings::three()).await;
    for topic in ["__groups", "__transactions", "orders"] {
        let _ = cluster.wait_healed(topic).await;
    }
    let victim = victim(&cluster, &client).await;
    let _ = cluster.pause(victim);
    // Whether they have moved already or not, whoever lists waits for that and no longer.
    let groups = within_limit("the groups", client.admin().list_groups()).await.unwrap();
    assert_eq!((groups.found.len(), groups.missing), (GROUPS, Vec::new()));
    let ids = within_limit("the ids", client.admin().list_transactions(TransactionFilter::All)).await.unwrap();
    assert_eq!((ids.found.len(), ids.missing), (GROUPS, Vec::new()));
    let metadata = client.admin().metadata().await.unwrap();
    let leads = |topic: &str| {
        let topic = metadata.topics.iter().find(|known| known.name.as_str() == topic).unwrap();
        topic.partitions.iter().filter(|shard| shard.leader.is_some_and(|leader| leader.0 == victim)).count()
    };
    assert_eq!((leads("__groups"), leads("__transactions")), (0, 0), "it hung, so that others lead");
    cluster.resume(victim);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hanging_broker_alone_has_is_said_to_be_missing_and_the_rest_is_listed() {
    let (cluster, client) = cluster(ClusterSettings::three().set("default_replication_factor", "1")).await;
    let victim = victim(&cluster, &client).await;
    // A topic with a partition on each broker, and a group that the victim does not coordinate.
    client.admin().create_topic(&NewTopic::named("single").partitions(3).replication_factor(1)).await.unwrap();
    let mut reader = None;
    for number in 0..GROUPS {
        let (leader, _) = cluster.leader("__groups", shard_of(&format!("group-{number}"))).await;
        reader = if leader == victim { reader } else { Some(format!("group-{number}")) };
    }
    let reader = reader.expect("another coordinator");
    let topics = client.admin().metadata().await.unwrap().topics;
    let single = topics.iter().find(|topic| topic.name.as_str() == "single").unwrap();
    client.admin().set_group_offsets(&reader, vec![at(single.topic_id, 0)]).await.unwrap();
    let away = single.partitions.iter().filter(|at| at.leader.is_some_and(|leader| leader.0 == victim)).count();
    assert_eq!(away, 1, "each broker leads one");

    let _ = cluster.pause(victim);
    let servers = cluster.servers();
    let lag = tokio::task::spawn_blocking({
        let command =
            CommandLine::of("tidelog").args(["--server", &servers, "--output", "json", "groups", "lag", &reader]);
        move || command.run()
    });
    let lag = lag.await.unwrap().expect_code(8);
    let shown: Value = serde_json::from_slice(&lag.stdout).unwrap();
    let of_single = shown["partitions"].as_array().unwrap().iter().filter(|at| at["topic"] == "single");
    let lags: Vec<&Value> = of_single.map(|at| &at["lag"]).collect();
    assert_eq!(lags.iter().filter(|lag| lag.is_null()).count(), 1, "{lag:?}");
    assert_eq!(lags.iter().filter(|lag| **lag == 0).count(), 2, "{lag:?}");
    for (line, key) in [("groups list", "groups"), ("transactions list", "transactions")] {
        let words = ["--server", &servers, "--output", "json"].into_iter().chain(line.split(' '));
        let listed = tokio::task::spawn_blocking({
            let command = CommandLine::of("tidelog").args(words);
            move || command.run()
        });
        let listed = listed.await.unwrap().expect_code(8);
        let shown: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let found = shown[key].as_array().unwrap().len();
        assert!(found > 0 && found < GROUPS, "{listed:?}");
        let missing: u64 = shown["missing"].as_array().unwrap().iter().map(|at| at["shards"].as_u64().unwrap()).sum();
        assert!(missing > 0 && missing < u64::from(SHARDS), "{listed:?}");
        assert!(listed.stderr.contains("are missing here"), "{listed:?}");
    }
    cluster.resume(victim);
}
