//! Replicas that move to another broker under a load, and are hit on the way: the move ends, and nothing is lost by it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::messages::{
    DescribePartitionsRequest, DrainBrokerRequest, LogHealth, PartitionFilter, PartitionReplicas, ReassignRequest,
    ReplicaAssignment,
};
use tidelog_protocol::{BrokerId, PartitionId, TopicName};
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::sight::replicas_at;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence, Round};
use tidelog_tests::history::History;
use tidelog_tests::patience::{insist, within_limit};
use tidelog_tests::question::ask;
use tidelog_tests::workload::{create_topic, wait_for_more_acks};

/// How a partition stands, as this broker says.
async fn replicas(asked: SocketAddr, topic: &str, partition: u32) -> Result<PartitionReplicas, String> {
    let topics = Some(vec![TopicName::new(topic).map_err(|error| error.to_string())?]);
    let request = DescribePartitionsRequest { topics, filter: PartitionFilter::All };
    let answer = ask(asked, &request).await.map_err(|error| format!("{error:?}"))?;
    answer.partitions.into_iter().nth(partition as usize).ok_or_else(|| "no such partition".into())
}

async fn reassign(asked: SocketAddr, topic: &str, partition: u32, to: &[u32]) -> Result<(), String> {
    let replicas = Some(to.iter().map(|id| BrokerId(*id)).collect());
    let assignment = ReplicaAssignment { topic: topic.into(), partition: PartitionId(partition), replicas };
    let request = ReassignRequest { assignments: vec![assignment], validate_only: false };
    ask(asked, &request).await.map(drop).map_err(|error| format!("{error:?}"))
}

/// Waits until the partition lies on these brokers alone, on their disks too.
async fn wait_moved(cluster: &Cluster, topic: &str, partition: u32, to: &[u32]) {
    insist("the move to end", async || {
        let asked = cluster.reachable().next().ok_or("nobody to ask")?;
        let state = replicas(asked, topic, partition).await?;
        let mut held: Vec<u32> = state.replicas.iter().map(|id| id.0).collect();
        held.sort_unstable();
        let folder = |id: &u32| cluster.data(*id).join(format!("{topic}-{partition}")).exists();
        let folders: Vec<u32> = (1..=cluster.brokers()).filter(folder).collect();
        let is_done = held == to && state.adding.is_empty() && state.removing.is_empty() && folders == to;
        if is_done { Ok(()) } else { Err(format!("{state:?}, folders at {folders:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_survives_the_kill_of_the_leader_and_of_the_one_it_moves_to() {
    let mut cluster = Cluster::start(ClusterSettings::of(5)).await;
    let topic = "moving";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(2) {
            // Two of five voters may be gone at once. The newcomer must not be the one who decides about its move.
            let controller = cluster.controller().await;
            let (asked, moved) = (cluster.address(controller), round % 3);
            let state = replicas(asked, topic, moved).await.expect("the topic");
            let held: Vec<u32> = state.replicas.iter().map(|id| id.0).collect();
            let newcomer =
                (1..=5).find(|id| !held.contains(id) && *id != controller).expect("two have no replica of it");
            let (leader, _) = cluster.leader(topic, moved).await;
            let leaves = *held.iter().rfind(|id| **id != leader).expect("a follower");
            let mut wanted: Vec<u32> = held.iter().copied().filter(|id| *id != leaves).chain([newcomer]).collect();
            wanted.sort_unstable();
            // It stands still, so the move is under way for as long as the test wants; but not before the move is ordered, else it is refused.
            insist("the reassignment to be taken", async || {
                cluster.pause(newcomer);
                let taken = reassign(asked, topic, moved, &wanted).await;
                if taken.is_err() {
                    cluster.resume(newcomer);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                taken
            })
            .await;
            let adding = replicas(asked, topic, moved).await.expect("the topic").adding;
            evidence.add(Evidence::of("replicas on the way at the kill", adding.len()));
            let victim = if round % 2 == 0 { leader } else { newcomer };
            if victim == newcomer {
                cluster.resume(newcomer);
            }
            evidence.add(cluster.kill(victim));
            // Two of the five are gone, so others may have too few replicas left.
            wait_for_more_acks(history, moved, 50).await;
            if victim != newcomer {
                cluster.resume(newcomer);
            }
            cluster.restart(victim);
            wait_moved(cluster, topic, moved, &wanted).await;
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_given_up_and_is_taken_again_misses_nothing() {
    // What is noted of it is noted as it stops, and not again before it is taken again.
    let mut cluster = Cluster::start(ClusterSettings::three().set("housekeeping_interval_ms", "3600000")).await;
    let topic = "taken-again";
    create_topic(&cluster.servers(), &NewTopic::named(topic).partitions(1).replication_factor(2)).await.unwrap();
    cluster.wait_healed(topic).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let producer = client.producer().build().unwrap();
    for _ in 0..100 {
        within_limit("a record", producer.send(Record::to(topic).value("kept")).await.unwrap()).await.unwrap();
    }
    cluster.wait_settled(topic).await;
    let (leader, _) = cluster.leader(topic, 0).await;
    let held = replicas(cluster.address(leader), topic, 0).await.unwrap().replicas;
    let given_up = held.iter().map(|id| id.0).find(|id| *id != leader).expect("a follower");
    cluster.stop(given_up).assert_happened();
    cluster.restart(given_up);
    cluster.wait_healed(topic).await;

    for other in [6 - leader - given_up, given_up] {
        let wanted = [leader.min(other), leader.max(other)];
        let asked = cluster.address(cluster.controller().await);
        insist("the reassignment to be taken", async || reassign(asked, topic, 0, &wanted).await).await;
        wait_moved(&cluster, topic, 0, &wanted).await;
    }
    let lost = cluster.process(given_up).log_lines("settled are lost");
    assert!(lost.is_empty(), "it began anew, and nothing was lost: {lost:?}");
    cluster.assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_under_the_next_controller_where_the_one_that_began_it_is_killed() {
    let mut cluster = Cluster::start(ClusterSettings::of(4)).await;
    let topic = "drained";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            let controller = cluster.controller().await;
            let drained = BrokerId(controller % 4 + 1);
            let drain = DrainBrokerRequest { broker_id: drained, cancel: false, validate_only: false };
            let begun = ask(cluster.address(controller), &drain).await.expect("a drain");
            evidence.add(cluster.kill(controller));
            let next = cluster.next_controller(controller).await;
            evidence.add(Evidence::of("copies begun before the kill", begun.copying));
            cluster.restart(controller);
            insist("the drain to end", async || {
                for partition in 0..3 {
                    let state = replicas(cluster.address(next), topic, partition).await?;
                    let is_moving = !state.adding.is_empty() || !state.removing.is_empty();
                    if is_moving || state.replicas.contains(&drained) || state.replicas.len() != 3 {
                        return Err(format!("{state:?}"));
                    }
                }
                Ok(())
            })
            .await;
            insist("the broker to hold nothing any more", async || {
                let held = replicas_at(cluster.address(drained.0), topic).await?;
                let is_held = held.iter().any(|replica| replica.health != LogHealth::Offline);
                if is_held { Err(format!("{held:?}")) } else { Ok(()) }
            })
            .await;
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 20).await;
            }
            let keep = DrainBrokerRequest { cancel: true, ..drain };
            insist("the broker to be used again", async || {
                ask(cluster.address(next), &keep).await.map(drop).map_err(|error| format!("{error:?}"))
            })
            .await;
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}
