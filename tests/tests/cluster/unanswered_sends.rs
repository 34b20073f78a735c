//! Producers that wait for no answer (acks=0): whoever leads, they find it, though nobody tells them that a record was taken. What was on its way to
//! the one before is lost, as they were promised no better.

use tidelog_client::{Acks, Client, NewTopic, TopicProducer};
use tidelog_protocol::messages::Position;
use tidelog_protocol::{Offset, PartitionId};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::patience::wait_until;
use tidelog_tests::workload::create_topic;

const TOPIC: &str = "unanswered";

async fn end(client: &Client) -> Offset {
    let answers = client.admin().list_offsets(TOPIC, &[(PartitionId(0), Position::LATEST)]).await;
    answers.map_or(Offset::ZERO, |answers| answers[0].offset.unwrap_or_default())
}

/// Sends until something arrives; from then on nothing is lost.
async fn arrives_again(client: &Client, producer: &TopicProducer) {
    let before = end(client).await;
    wait_until("a record to arrive at the new leader", async || {
        let _ = producer.send(None, b"probe").await.unwrap().await;
        (end(client).await > before).then_some(())
    })
    .await;
    // The probes that were on their way have arrived once one that is sent now has.
    wait_until("the probes to be there", async || {
        let before = end(client).await;
        let _ = producer.send(None, b"probe").await.unwrap().await;
        (end(client).await.since(before) == 1).then_some(())
    })
    .await;
    let before = end(client).await;
    for _ in 0..100 {
        let _ = producer.send(None, b"counted").await.unwrap().await.unwrap();
    }
    wait_until("all to arrive", async || (end(client).await.since(before) >= 100).then_some(())).await;
}

async fn producer_of(cluster: &Cluster) -> (Client, TopicProducer) {
    create_topic(&cluster.servers(), &NewTopic::named(TOPIC).replication_factor(3)).await.unwrap();
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let producer = client.producer().acks(Acks::None).build().unwrap().topic(TOPIC).await.unwrap();
    arrives_again(&client, &producer).await;
    (client, producer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_waits_for_no_answer_follows_a_leader_that_moved() {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let (client, producer) = producer_of(&cluster).await;
    for _ in 0..3 {
        let (leader, _) = cluster.leader(TOPIC, 0).await;
        let next = leader % 3 + 1;
        let replicas = format!("{next},{leader},{}", 6 - leader - next);
        let commands =
            [&["reassign", "--topic", TOPIC, "--partition", "0", "--replicas", &replicas][..], &["elect"][..]];
        for command in commands {
            let servers = cluster.servers();
            let asked = CommandLine::of("tidelog").args(["--server", &servers, "cluster"]).args(command);
            let _ = asked.run().success();
        }
        assert_eq!(cluster.next_leader(TOPIC, 0, leader).await, next);
        arrives_again(&client, &producer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_waits_for_no_answer_follows_once_its_leader_was_killed_or_stopped() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let (client, producer) = producer_of(&cluster).await;
    for is_killed in [true, false] {
        let (leader, _) = cluster.leader(TOPIC, 0).await;
        if is_killed {
            cluster.kill(leader).assert_happened();
        } else {
            cluster.stop(leader).assert_happened();
        }
        let _ = cluster.next_leader(TOPIC, 0, leader).await;
        arrives_again(&client, &producer).await;
        cluster.restart(leader);
        cluster.wait_healed(TOPIC).await;
        arrives_again(&client, &producer).await;
    }
}
