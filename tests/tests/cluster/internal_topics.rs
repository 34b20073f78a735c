//! The topics that coordinators keep their state in grow with the cluster: what one broker alone kept outlives it once there are three.

use tidelog_client::Client;
use tidelog_client::messages::CommittedOffset;
use tidelog_protocol::messages::VoterChange;
use tidelog_protocol::{Offset, PartitionId};
use tidelog_tests::cluster::sight::{metadata, partitions_of};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_transactions::{RawProducer, SHARDS, create};

const TOPICS: [&str; 2] = ["__groups", "__transactions"];
const LONG: u32 = 900_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_broker_alone_kept_outlives_it_once_there_are_three() {
    let settings = ClusterSettings::of(1);
    let mut cluster = Cluster::start(settings.clone()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let alone = cluster.address(1);
    let orders = create(&client, alone, "orders").await;
    let committed = CommittedOffset {
        topic_id: orders,
        partition: PartitionId(0),
        offset: Offset(0),
        leader_epoch: None,
        metadata: "kept".into(),
    };
    client.admin().set_group_offsets("readers", vec![committed.clone()]).await.unwrap();
    let before = RawProducer::begin(&[alone], "tx", LONG).await.identity;
    let known = metadata(alone).await.unwrap();
    for topic in TOPICS {
        let partitions = partitions_of(&known, topic).unwrap();
        let held: Vec<usize> = partitions.iter().map(|state| state.replicas.len()).collect();
        assert_eq!(held, [1; SHARDS as usize], "{topic} begins with one broker");
    }

    for id in [2, 3] {
        assert_eq!(cluster.add(&settings).await, id);
        cluster.change_voter(id, VoterChange::Promote).await;
    }
    for topic in TOPICS {
        for shard in 0..SHARDS {
            cluster.wait_in_sync((topic, shard), &[1, 2, 3], 1).await;
        }
        wait_until("two to be asked for", async || {
            let topics = client.admin().describe_topics(&[topic]).await.ok()?;
            let minimum = topics.first()?.configs.iter().find(|config| config.key == "min.insync.replicas")?;
            (minimum.value == "2").then_some(())
        })
        .await;
    }

    let _ = cluster.kill(1);
    let rest = [cluster.address(2), cluster.address(3)];
    let client = Client::connect(&rest.map(|address| address.to_string()).join(",")).await.unwrap();
    assert_eq!(client.admin().group_offsets("readers").await.unwrap(), [committed]);
    let after = RawProducer::begin(&rest, "tx", LONG).await.identity;
    assert_eq!(after.producer_id, before.producer_id, "it is known");
    assert!(after.epoch > before.epoch, "and goes on: {before:?} {after:?}");
    assert!(cluster.is_down(1), "all of that without the broker that had it alone");
}
