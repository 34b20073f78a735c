//! Consumers of a replicated topic: they read from the replica in their rack, go on with the leader where that fails, and are told where
//! an unclean election lost what they had read.

#![allow(clippy::unwrap_used, clippy::panic)] // A failed unwrap is a failed test.

use tidelog_client::{Client, ConsumeError, Consumer, Offset, OutOfRange, Start, TopicProducer};
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::within_limit;
use tokio::runtime::Runtime;

const TOPIC: &str = "ledger";

/// Runs what a program does; the cluster runs on its own.
fn program() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn produce(producer: &TopicProducer, values: std::ops::Range<u32>) {
    for value in values {
        let delivery = producer.send(None, value.to_string().as_bytes()).await.unwrap();
        within_limit("an acknowledgement", delivery).await.unwrap();
    }
}

async fn read(consumer: &mut Consumer, values: std::ops::Range<u32>) {
    for value in values {
        let record = within_limit("a record", consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(value.to_string().as_bytes()));
    }
}

#[test]
fn a_consumer_reads_from_the_replica_in_its_rack_and_from_the_leader_where_that_is_gone() {
    let mut cluster = LocalCluster::start(3);
    cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    let (leader, _) = cluster.leader(TOPIC);
    let near = leader % 3 + 1;
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    let program = program();
    let server = cluster.address(leader).to_string();
    let (producer, mut consumer) = program.block_on(async {
        let client = Client::connect(&server).await.unwrap();
        let producer = client.producer().build().unwrap().topic(TOPIC).await.unwrap();
        let reader = client.consumer().topic(TOPIC).start(Start::Beginning);
        let mut consumer = reader.rack(&format!("rack-{near}")).build().await.unwrap();
        produce(&producer, 0..20).await;
        read(&mut consumer, 0..20).await;
        (producer, consumer)
    });
    assert!(cluster.pushed_bytes(near, TOPIC) > 0, "the nearby replica serves");
    assert_eq!(cluster.pushed_bytes(leader, TOPIC), 0, "and the leader is left alone");
    cluster.kill(near);
    program.block_on(async {
        produce(&producer, 20..40).await;
        read(&mut consumer, 20..40).await;
    });
    assert!(cluster.pushed_bytes(leader, TOPIC) > 0);
}

/// Lets a consumer read fifteen records, of which an unclean election loses the last five; the log then goes on otherwise, and further.
fn lose_what_was_read(policy: OutOfRange) -> (LocalCluster, Runtime, Consumer) {
    let mut cluster = LocalCluster::start(3);
    cluster.create_topic(TOPIC, &[("min.insync.replicas", "1")]);
    let (leader, _) = cluster.leader(TOPIC);
    let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    let program = program();
    let server = cluster.address(leader).to_string();
    let (producer, mut consumer) = program.block_on(async {
        let client = Client::connect(&server).await.unwrap();
        let producer = client.producer().build().unwrap().topic(TOPIC).await.unwrap();
        let reader = client.consumer().topic(TOPIC).start(Start::Beginning).out_of_range(policy);
        produce(&producer, 0..10).await;
        (producer, reader.build().await.unwrap())
    });
    for id in [heir, other] {
        cluster.kill(id);
        cluster.fence(id);
    }
    program.block_on(async {
        // The leader alone is in sync, and that is enough.
        produce(&producer, 10..15).await;
        read(&mut consumer, 0..15).await;
    });
    cluster.kill(leader);
    cluster.fence(leader);
    cluster.start_broker(heir);
    assert_eq!(cluster.partition(TOPIC).leader, None, "nobody who is complete is there");
    cluster.elect_unclean(TOPIC, heir);
    program.block_on(produce(&producer, 100..120));
    (cluster, program, consumer)
}

#[test]
fn a_consumer_that_read_what_an_unclean_election_lost_is_told_where_the_logs_part() {
    let (_cluster, program, mut consumer) = lose_what_was_read(OutOfRange::Fail);
    let told = program.block_on(within_limit("the truth", consumer.next())).unwrap();
    let Err(ConsumeError::Truncated { offset, parts_at, .. }) = &told else { panic!("{told:?}") };
    assert_eq!((*offset, *parts_at), (Offset(15), Offset(10)));
}

#[test]
fn a_consumer_that_may_go_on_elsewhere_goes_on_where_the_logs_part() {
    let (_cluster, program, mut consumer) = lose_what_was_read(OutOfRange::Earliest);
    program.block_on(read(&mut consumer, 100..120));
}
