//! Brokers that a client should not believe alone: one that is cut off from the cluster and named first, and one of another cluster.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use tidelog_protocol::messages::{CreateTopicRequest, PartitionMetadata};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::cluster::sight::metadata;
use tidelog_tests::cluster::{Cluster, ClusterSettings, End, Wiring};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::insist;
use tidelog_tests::question::ask;
use tidelog_tests::requirements::{Need, requires};

async fn tidelog(servers: &str, line: &str) -> Finished {
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", servers).args(line.split_whitespace());
    tokio::task::spawn_blocking(|| command.run()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_hides_no_healthy_cluster_though_it_is_named_first() {
    let name = "a_broker_that_is_cut_off_hides_no_healthy_cluster_though_it_is_named_first";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let cluster = Cluster::start(ClusterSettings::of(3).wiring(Wiring::Namespaces)).await;
    let controller = cluster.controller().await;
    let follower = (1..=3).find(|id| *id != controller).unwrap();
    // One that follows forgets who decides; one that decided goes on naming itself.
    for (stale, topic) in [(follower, "follower"), (controller, "controller")] {
        let others: Vec<u32> = (1..=3).filter(|id| *id != stale).collect();
        let ways: Vec<_> = others.iter().map(|other| (End::Broker(stale), End::Broker(*other))).collect();
        let cut = cluster.network().cut(&ways);
        let request = CreateTopicRequest {
            name: topic.into(),
            partitions: Some(1),
            replication_factor: Some(2),
            configs: Vec::new(),
            validate_only: false,
        };
        insist("a topic that the others make", async || {
            ask(cluster.address(others[0]), &request).await.map(drop).map_err(|error| format!("{error:?}"))
        })
        .await;
        // A topic whose leader is the one that is cut off gets another by and by, and is no healthy one until then.
        insist("all but one know it, and lead what there is", async || {
            for id in &others {
                let view = metadata(cluster.address(*id)).await?;
                let is_led = |state: &PartitionMetadata| state.leader.is_some_and(|leader| others.contains(&leader.0));
                let healthy = view.topics.iter().flat_map(|topic| &topic.partitions).all(is_led);
                if !healthy || !view.topics.iter().any(|found| found.name.as_str() == topic) {
                    return Err(format!("broker {id} says {view:?}"));
                }
            }
            let view = metadata(cluster.address(stale)).await?;
            assert!(!view.topics.iter().any(|found| found.name.as_str() == topic), "it cannot have heard of it");
            Ok(())
        })
        .await;
        let [first, second, third] = [stale, others[0], others[1]].map(|id| cluster.address(id));
        let servers = format!("{first},{second},{third}");
        let described = tidelog(&servers, &format!("topics describe {topic}")).await.expect_code(0);
        assert!(described.text().contains(topic), "{described:?}");
        // The broker that is cut off may be missed by now, or not yet.
        let partitions = tidelog(&servers, &format!("partitions describe {topic}")).await;
        assert!(matches!(partitions.code, Some(0 | 7)) && partitions.text().contains(topic), "{partitions:?}");
        let listed = tidelog(&servers, "topics list").await.expect_code(0);
        assert!(listed.text().contains(topic), "{listed:?}");
        let status = tidelog(&servers, "cluster status --output json").await;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert!(status["controller"].as_u64().is_some_and(|found| others.contains(&(found as u32))), "{status}");
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines");
        std::fs::write(&lines, "one\n").unwrap();
        let produce = CommandLine::of("tidelog").env("TIDELOG_SERVER", &servers).args(["produce", topic]).stdin(&lines);
        let _ = tokio::task::spawn_blocking(|| produce.run()).await.unwrap().expect_code(0);
        let consumed = tidelog(&servers, &format!("consume {topic} --from beginning --until-end")).await.expect_code(0);
        assert_eq!(consumed.text(), "one\n");
        assert!(cut.mend() > 0, "packets were dropped");
        // The next cut takes another broker: what this one missed must not be missing from both.
        cluster.wait_healed(topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_different_clusters_are_told_apart() {
    let (one, other) = (BrokerProcess::start(), BrokerProcess::start());
    let _ = tidelog(&other.server(), "topics create logs").await.expect_code(0);
    let refused = tidelog(&format!("{},{}", one.server(), other.server()), "topics list").await.expect_code(2);
    assert!(refused.stderr.contains("brokers of different clusters"), "{refused:?}");
    assert!(refused.stderr.contains(&one.server()) && refused.stderr.contains(&other.server()), "{refused:?}");
}
