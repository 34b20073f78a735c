//! A broker that stops under load and does not come back: however late its last words reached the leaders, it keeps nobody else out of
//! an in-sync set.

use std::time::Duration;

use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::PartitionId;
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::sight::{metadata, partitions_of};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::{insist, within_limit};
use tidelog_tests::workload::create_topic;
use tokio::runtime::Runtime;

const TOPIC: &str = "resting";
/// So many that the last word of a broker that stops comes too late to some leader.
const PARTITIONS: u32 = 60;
/// Who does not come back.
const GONE: u32 = 3;
/// Who comes back.
const BACK: u32 = 2;

/// Writes to all partitions for as long as its runtime lives.
async fn load(servers: String) {
    let client = Client::connect(&servers).await.unwrap();
    let producer = client.producer().build().unwrap();
    let value = "x".repeat(200);
    loop {
        for partition in 0..PARTITIONS {
            let record = Record::to(TOPIC).value(value.clone()).partition(PartitionId(partition));
            // Whether one of them arrives says nothing here.
            drop(producer.send(record).await);
        }
    }
}

/// Waits until these brokers, and nobody else, are in sync with every partition.
async fn wait_in_sync(cluster: &Cluster, wanted: &[u32]) {
    insist("the in-sync sets", async || {
        let known = metadata(cluster.address(1)).await?;
        let partitions = partitions_of(&known, TOPIC).ok_or("no such topic")?;
        let others = partitions.iter().filter(|state| {
            let mut in_sync: Vec<u32> = state.in_sync.iter().map(|id| id.0).collect();
            in_sync.sort_unstable();
            in_sync != wanted
        });
        let others: Vec<String> =
            others.map(|state| format!("{}: {:?} led by {:?}", state.partition, state.in_sync, state.leader)).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("{} others than {wanted:?}: {others:?}", others.len())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stopped_for_good_keeps_no_other_out_of_an_in_sync_set() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let new = NewTopic::named(TOPIC).partitions(PARTITIONS).replication_factor(3).config("min.insync.replicas", "2");
    create_topic(&cluster.servers(), &new).await.unwrap();
    for _ in turns(1) {
        wait_in_sync(&cluster, &[1, 2, 3]).await;
        // Of its own: what the client took and has not sent goes with it.
        let loading = Runtime::new().unwrap();
        let load = loading.spawn(load(cluster.servers()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!load.is_finished(), "it is under load as it stops");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                // The logs rest from now on.
                loading.shutdown_background();
            });
            cluster.stop(GONE).assert_happened();
        });
        wait_in_sync(&cluster, &[1, 2]).await;

        cluster.stop(BACK).assert_happened();
        cluster.restart(BACK);
        assert!(cluster.is_down(GONE), "the others must not need it");
        wait_in_sync(&cluster, &[1, 2]).await;
        let client = Client::connect(&cluster.servers()).await.unwrap();
        let producer = client.producer().build().unwrap();
        for partition in 0..PARTITIONS {
            let record = Record::to(TOPIC).value("afterwards").partition(PartitionId(partition));
            within_limit("a record", producer.send(record).await.unwrap()).await.unwrap();
        }
        cluster.restart(GONE);
    }
    cluster.assert_alive();
}
