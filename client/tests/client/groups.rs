//! Groups against a real broker: members share partitions, hand them over, and lose no record, whoever ends and however.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::broker::TestBroker;
use parking_lot::Mutex;
use tidelog_client::group::*;
use tidelog_client::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Partition, offset, value.
type Seen = (u32, u64, String);

fn seen(record: &ConsumerRecord) -> Seen {
    let value = String::from_utf8(record.value.as_deref().unwrap().to_vec()).unwrap();
    (record.partition().0, record.offset.0, value)
}

async fn soon(what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a member was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

/// What was told, and of which partitions.
type Event = (&'static str, Vec<u32>);

impl Told {
    fn note(&self, what: &'static str, partitions: &[TopicPartition]) {
        self.0.lock().push((what, partitions.iter().map(|at| at.partition.0).collect()));
    }

    /// How often each partition stands in calls of this kind.
    fn counts(&self, of: &str) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for (_, partitions) in self.0.lock().iter().filter(|(what, _)| *what == of) {
            partitions.iter().for_each(|partition| *counts.entry(*partition).or_default() += 1);
        }
        counts
    }
}

impl RebalanceListener for Told {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.note("assigned", partitions);
        Box::pin(async {})
    }
    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], _: &'a Commits) -> Call<'a> {
        self.note("revoked", partitions);
        Box::pin(async {})
    }
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.note("lost", partitions);
        Box::pin(async {})
    }
}

fn member(client: &Client, topic: &str) -> GroupConsumerBuilder {
    client.group("billing").topics([topic]).start(Start::Beginning).session_timeout(Duration::from_secs(6))
}

async fn send(client: &Client, topic: &str, partitions: u32, values: std::ops::Range<u32>) {
    let producer = client.producer().build().unwrap();
    for value in values {
        let record = Record::to(topic).partition(PartitionId(value % partitions)).value(format!("v{value}"));
        drop(producer.send(record.key(format!("k{}", value % 7))).await.unwrap());
    }
    producer.flush().await.unwrap();
}

fn partitions(consumer: &GroupConsumer) -> BTreeSet<u32> {
    consumer.assignment().iter().map(|at| at.partition.0).collect()
}

/// A member that processes until it is told to stop, in a task.
struct Working {
    seen: Arc<Mutex<Vec<Seen>>>,
    held: Arc<Mutex<BTreeSet<u32>>>,
    told: Told,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Working {
    async fn start(client: &Client, topic: &str) -> Self {
        let told = Told::default();
        let mut consumer = member(client, topic).on_rebalance(told.clone()).build().await.unwrap();
        let (seen_by, held, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<_>>::default(), Arc::default());
        let (sees, holds, stops) = (Arc::clone(&seen_by), Arc::clone(&held), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            loop {
                *holds.lock() = partitions(&consumer);
                match tokio::time::timeout(Duration::from_millis(20), consumer.next()).await {
                    Ok(Some(record)) => sees.lock().push(seen(record.unwrap())),
                    Ok(None) => panic!("it ended"),
                    Err(_) => consumer.done(),
                }
                if AtomicBool::load(&stops, Ordering::Relaxed) {
                    consumer.done();
                    return consumer.leave().await.unwrap();
                }
            }
        });
        Self { seen: seen_by, held, told, stop, task }
    }

    fn held(&self) -> BTreeSet<u32> {
        self.held.lock().clone()
    }

    async fn leave(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let seen = self.seen.lock();
        seen.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_partitions_and_those_that_stay_are_not_touched_as_records_flow() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 6).await;
    let flowing = Arc::new(AtomicBool::new(true));
    let (flows, sender) = (Arc::clone(&flowing), client.clone());
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while AtomicBool::load(&flows, Ordering::Relaxed) {
            send(&sender, "orders", 6, sent..sent + 30).await;
            sent += 30;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    });
    let first = Working::start(&client, "orders").await;
    soon("all partitions for the only member", || first.held().len() == 6).await;
    let second = Working::start(&client, "orders").await;
    soon("half of them for each", || first.held().len() == 3 && second.held().len() == 3).await;
    let kept = first.held();
    let moved = second.held();
    assert!(kept.is_disjoint(&moved));
    soon("records for the second", || second.seen.lock().len() > 100).await;
    let of_second = second.leave().await;
    soon("all of them for the first again", || first.held().len() == 6).await;
    flowing.store(false, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    soon("every record", || first.seen.lock().len() + of_second.len() >= sent as usize).await;
    let told = first.told.clone();
    let of_first = first.leave().await;

    // Handed over properly, nothing comes twice, and nothing is missing.
    let mut all: Vec<&Seen> = of_first.iter().chain(&of_second).collect();
    all.sort();
    let expected = sent / 6;
    assert_eq!(all.len() as u32, sent, "each record once");
    for (place, seen) in all.iter().enumerate() {
        assert_eq!((seen.0, seen.1), (place as u32 / expected, u64::from(place as u32 % expected)));
    }
    // What stayed was told once, taken away only at the end, and read without a gap or a step back.
    for partition in &kept {
        assert_eq!(told.counts("assigned").get(partition), Some(&1), "partition {partition} was opened again");
        let offsets: Vec<u64> = of_first.iter().filter(|seen| seen.0 == *partition).map(|seen| seen.1).collect();
        assert_eq!(offsets, (0..u64::from(expected)).collect::<Vec<_>>());
    }
    for partition in &moved {
        assert_eq!((told.counts("assigned")[partition], told.counts("revoked")[partition]), (2, 2));
    }
    assert_eq!(told.counts("lost"), BTreeMap::new());
}

#[test]
fn another_member_takes_over_what_a_killed_one_had_in_its_hands() {
    let here = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let there = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = here.block_on(TestBroker::start());
    let client = here.block_on(broker.client_with_topic("orders", 1));
    here.block_on(send(&client, "orders", 1, 0..100));

    // The first has done 40, commits, is handed some more, and ends in the midst of the one after the last it has done.
    let address = broker.address.to_string();
    let in_hand = there.block_on(async move {
        let client = Client::connect(&address).await.unwrap();
        let auto = CommitMode::Auto { interval: Duration::from_millis(20) };
        let mut consumer = member(&client, "orders").commit(auto).build().await.unwrap();
        for _ in 0..40 {
            consumer.next().await.unwrap().unwrap();
        }
        let last = seen(consumer.next().await.unwrap().unwrap());
        let commits = consumer.commits();
        commits.commit().await.unwrap();
        // Long enough for many automatic commits: none may pass the record in hand.
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::mem::forget(consumer);
        last
    });
    assert_eq!(in_hand.1, 40);
    there.shutdown_background();

    here.block_on(async {
        let committed = client.admin().group_offsets("billing").await.unwrap();
        assert_eq!(committed.iter().map(|offset| offset.offset.0).collect::<Vec<_>>(), [40]);
        let started = Instant::now();
        let mut second = member(&client, "orders").build().await.unwrap();
        let first_of_second = seen(second.next().await.unwrap().unwrap());
        assert_eq!(first_of_second, in_hand, "the record that was in hand comes again, and none before it");
        assert!(started.elapsed() > Duration::from_millis(500), "not before the session of the first had ended");
        for offset in 41..100 {
            assert_eq!(seen(second.next().await.unwrap().unwrap()).1, offset);
        }
        second.done();
        second.leave().await.unwrap();
        let committed = client.admin().group_offsets("billing").await.unwrap();
        assert_eq!(committed[0].offset, Offset(100));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_an_offset_is_an_error_where_nobody_said_where_to_begin() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    send(&client, "orders", 1, 0..3).await;
    let mut consumer = client.group("billing").topics(["orders"]).build().await.unwrap();
    let error = consumer.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, GroupError::NoOffset { partition: PartitionId(0), .. }), "{error}");
    consumer.seek("orders", PartitionId(0), Start::Offset(Offset(1))).await.unwrap();
    assert_eq!(seen(consumer.next().await.unwrap().unwrap()), (0, 1, "v1".into()));
    consumer.done();
    consumer.commit().await.unwrap();
    consumer.leave().await.unwrap();

    // Out of range: the committed record was deleted meanwhile.
    client.admin().delete_records("orders", PartitionId(0), None).await.unwrap();
    let mut consumer = client.group("billing").topics(["orders"]).build().await.unwrap();
    let error = consumer.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, GroupError::Consume(ConsumeError::OffsetOutOfRange { .. })), "{error}");
    consumer.leave().await.unwrap();

    send(&client, "orders", 1, 3..4).await;
    let reset = client.group("billing").topics(["orders"]).reset(OutOfRange::Earliest);
    let mut consumer = reset.build().await.unwrap();
    assert_eq!(seen(consumer.next().await.unwrap().unwrap()), (0, 3, "v3".into()));
    consumer.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_a_member_began_at_the_end_is_missed_by_nobody() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    send(&client, "orders", 1, 0..5).await;
    let first = client.group("billing").topics(["orders"]).start(Start::End).build().await.unwrap();
    soon("the partition", || !first.assignment().is_empty()).await;
    soon("its place", || first.position("orders", PartitionId(0)).is_ok()).await;
    first.leave().await.unwrap();
    // Nothing was read, and yet the group knows where it stands.
    send(&client, "orders", 1, 5..7).await;
    let mut second = client.group("billing").topics(["orders"]).start(Start::End).build().await.unwrap();
    assert_eq!(seen(second.next().await.unwrap().unwrap()), (0, 5, "v5".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_done_out_of_order_are_committed_up_to_the_oldest_that_is_not() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    send(&client, "orders", 1, 0..20).await;
    let mut consumer = member(&client, "orders").commit(CommitMode::Manual).unfinished_max(4).build().await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(consumer.take().await.unwrap().unwrap());
    }
    // As many as may be unfinished are in hand: the partition waits for the oldest, though others were done.
    taken.drain(1..).for_each(GroupRecord::done);
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.take()).await.is_err());
    consumer.commit().await.unwrap();
    assert_eq!(client.admin().group_offsets("billing").await.unwrap()[0].offset, Offset(0));
    taken.pop().unwrap().done();
    let next = consumer.take().await.unwrap().unwrap();
    assert_eq!(next.offset, Offset(4));
    consumer.commit().await.unwrap();
    assert_eq!(client.admin().group_offsets("billing").await.unwrap()[0].offset, Offset(4));
    drop(next);
    // A record that was dropped is not done, however many after it are.
    for _ in 0..2 {
        consumer.take().await.unwrap().unwrap().done();
    }
    consumer.commit().await.unwrap();
    assert_eq!(client.admin().group_offsets("billing").await.unwrap()[0].offset, Offset(4));

    let elsewhere = TopicPartition { topic: TopicName::new("orders").unwrap(), partition: PartitionId(9) };
    let offset = GroupOffset { at: elsewhere, offset: Offset(1), metadata: String::new() };
    let error = consumer.commit_offsets(std::slice::from_ref(&offset)).await.unwrap_err();
    assert!(matches!(&error, GroupError::NotOwned { partitions } if partitions.len() == 1), "{error}");
    let here = TopicPartition { partition: PartitionId(0), ..offset.at };
    let offset = GroupOffset { at: here, offset: Offset(11), metadata: "noted".into() };
    consumer.commit_offsets(&[offset]).await.unwrap();
    let committed = client.admin().group_offsets("billing").await.unwrap();
    assert_eq!((committed[0].offset, committed[0].metadata.as_str()), (Offset(11), "noted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_hands_out_nothing_and_goes_on_where_it_was() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    send(&client, "orders", 1, 0..100).await;
    let mut consumer = member(&client, "orders").build().await.unwrap();
    for offset in 0..10 {
        assert_eq!(consumer.next().await.unwrap().unwrap().offset, Offset(offset));
    }
    consumer.pause("orders", PartitionId(0)).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err());
    consumer.resume("orders", PartitionId(0)).unwrap();
    for offset in 10..100 {
        assert_eq!(consumer.next().await.unwrap().unwrap().offset, Offset(offset));
    }
    assert!(consumer.pause("orders", PartitionId(1)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_comes_back_gets_what_it_had_and_another_under_its_name_is_refused_while_it_lives() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 4).await;
    let told = Told::default();
    let static_member = |name: &'static str| member(&client, "orders").instance_id(name);
    let first = static_member("a").build().await.unwrap();
    let other = static_member("b").on_rebalance(told.clone()).build().await.unwrap();
    soon("two for each", || partitions(&first).len() == 2 && partitions(&other).len() == 2).await;
    let (had, others) = (partitions(&first), told.counts("assigned"));
    first.leave().await.unwrap();
    let again = static_member("a").build().await.unwrap();
    soon("what it had", || partitions(&again) == had).await;
    assert_eq!(told.counts("assigned"), others, "the other noticed nothing");

    let started = Instant::now();
    let error = static_member("a").session_timeout(Duration::from_secs(1)).build().await.unwrap_err();
    assert!(matches!(&error, GroupError::Client(error) if error.code() == Some(ErrorCode::InstanceTaken)), "{error}");
    assert!(started.elapsed() >= Duration::from_secs(1), "the one before might have been about to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_told_as_the_member_is_built() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    let code = |error: GroupError| match error {
        GroupError::Client(error) => error.code(),
        error => panic!("{error}"),
    };
    let built = client.group("g").topics(["orders"]).assignor("best").build().await;
    assert_eq!(code(built.unwrap_err()), Some(ErrorCode::InvalidGroup));
    let built = client.group("g").pattern("orders(").build().await;
    assert_eq!(code(built.unwrap_err()), Some(ErrorCode::InvalidGroup));
    let built = client.group("").topics(["orders"]).build().await;
    assert_eq!(code(built.unwrap_err()), Some(ErrorCode::InvalidGroup));
    assert!(client.group("g").build().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_takes_in_topics_that_come_later() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders-eu", 1).await;
    let builder = client.group("billing").pattern("orders-.*").start(Start::Beginning);
    let mut consumer = builder.build().await.unwrap();
    send(&client, "orders-eu", 1, 0..1).await;
    assert_eq!(consumer.next().await.unwrap().unwrap().topic(), "orders-eu");
    client.admin().create_topic(&NewTopic::named("orders-us").partitions(1)).await.unwrap();
    send(&client, "orders-us", 1, 0..1).await;
    assert_eq!(consumer.next().await.unwrap().unwrap().topic(), "orders-us");
}
