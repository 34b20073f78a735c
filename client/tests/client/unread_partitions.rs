//! Partitions that are taken away, or left, before a record of them was read: what is committed of them stays as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::TestBroker;
use tidelog_client::group::*;
use tidelog_client::*;

const PARTITIONS: u32 = 3;

/// Takes its time over what is given, so that it is not read yet as the member leaves; commits what is taken, as programs do that commit by hand.
struct Slow(Duration);

const A_WHILE: Duration = Duration::from_millis(300);
/// Until after another has joined.
const LONG: Duration = Duration::from_secs(4);

impl RebalanceListener for Slow {
    fn assigned<'a>(&'a self, _: &'a [TopicPartition]) -> Call<'a> {
        Box::pin(tokio::time::sleep(self.0))
    }
    fn revoked<'a>(&'a self, _: &'a [TopicPartition], commits: &'a Commits) -> Call<'a> {
        Box::pin(async { commits.commit().await.unwrap() })
    }
    fn lost<'a>(&'a self, _: &'a [TopicPartition]) -> Call<'a> {
        Box::pin(async {})
    }
}

async fn filled(client: &Client) {
    let producer = client.producer().build().unwrap();
    for number in 0..30 {
        let record = Record::to("orders").partition(PartitionId(number % PARTITIONS)).value(format!("v{number}"));
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
}

fn member(client: &Client) -> GroupConsumerBuilder {
    client.group("billing").topics(["orders"]).start(Start::Beginning).session_timeout(Duration::from_secs(6))
}

async fn offsets(client: &Client) -> BTreeSet<(u32, u64)> {
    let committed = client.admin().group_offsets("billing").await.unwrap();
    committed.iter().map(|at| (at.partition.0, at.offset.0)).collect()
}

async fn read_all(client: &Client) {
    let mut consumer = member(client).build().await.unwrap();
    for _ in 0..30 {
        let _ = consumer.next().await.unwrap().unwrap();
    }
    consumer.done();
    consumer.leave().await.unwrap();
    assert_eq!(offsets(client).await, BTreeSet::from([(0, 10), (1, 10), (2, 10)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_before_it_reads_moves_no_offset() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", PARTITIONS).await;
    filled(&client).await;
    read_all(&client).await;
    let read = offsets(&client).await;
    for mode in [CommitMode::Auto { interval: Duration::from_secs(5) }, CommitMode::Manual] {
        let consumer = member(&client).commit(mode).on_rebalance(Slow(A_WHILE)).build().await.unwrap();
        consumer.leave().await.unwrap();
        assert_eq!(offsets(&client).await, read, "{mode:?}");
    }
    let producer = client.transactional_producer("billing-1").build().await.unwrap();
    let consumer = member(&client).on_rebalance(Slow(A_WHILE)).build().await.unwrap();
    let nothing = |_: ConsumerRecord, _: TransactionSender| async { Ok::<(), SendError>(()) };
    let stopped = std::future::ready(());
    producer.exactly_once_with(consumer, ExactlyOnceOptions::default(), stopped, nothing).await.unwrap();
    assert_eq!(offsets(&client).await, read, "exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_another_takes_before_it_is_read_stays_where_it_is() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", PARTITIONS).await;
    filled(&client).await;
    read_all(&client).await;
    let read = offsets(&client).await;
    // It has all of them, and is still being told, as the other comes.
    let first = member(&client).on_rebalance(Slow(LONG)).build().await.unwrap();
    let second = member(&client).build().await.unwrap();
    let shared = async {
        while second.assignment().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shared).await.expect("the second gets its share");
    assert_eq!(offsets(&client).await, read);
    first.leave().await.unwrap();
    second.leave().await.unwrap();
    assert_eq!(offsets(&client).await, read);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_said_where_to_begin_each_member_says_so() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    for run in 1..=2 {
        let mut consumer = client.group("billing").topics(["orders"]).build().await.unwrap();
        let error = consumer.next().await.unwrap().unwrap_err();
        assert!(matches!(error, GroupError::NoOffset { .. }), "run {run}: {error}");
        consumer.leave().await.unwrap();
        assert_eq!(offsets(&client).await, BTreeSet::new(), "run {run}");
    }
}
