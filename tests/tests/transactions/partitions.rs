//! Transactions in partitions, over real brokers and by hand: what is committed is read, what was undone is not, whoever leads by then; and what
//! does not belong to a transaction is told so.

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, Producer};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, ProducerId, Sequence, Timestamp, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::http::http_get;
use tidelog_tests::patience::{insist, wait_until};
use tidelog_tests::raw_connection::{RawConnection, produce_request};
use tidelog_tests::raw_reader::{Committed, RawReader};
use tidelog_tests::raw_transactions::{RawProducer, Scene, codes};
use tidelog_tests::workload::create_topic;

const LONG: u32 = 900_000;

/// What is committed in a partition, to this test.
trait Reads {
    /// From whoever leads.
    async fn committed(&self, partition: u32) -> Committed;
    /// As [`Reads::committed`], once this is it.
    async fn reads(&self, partition: u32, values: &[&str]) -> Committed;
}

impl Reads for Scene {
    async fn committed(&self, partition: u32) -> Committed {
        insist("the leader to serve", async || {
            let (leader, _) = self.cluster.leader("orders", partition).await;
            let mut reader = RawReader::of(self.cluster.address(leader), "orders").await;
            reader.committed(partition, Offset::ZERO).await.map_err(|error| error.to_string())
        })
        .await
    }

    async fn reads(&self, partition: u32, values: &[&str]) -> Committed {
        let mut last = Committed::default();
        let read = wait_until("what is committed to be read", async || {
            last = self.committed(partition).await;
            (last.values() == values).then(|| last.clone())
        });
        read.await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_read_with_its_commit_as_a_whole_or_never() {
    let scene = Scene::set().await;
    let (mut one, mut two) = (scene.producer("one", LONG).await, scene.producer("two", LONG).await);
    let at = |partition| (scene.orders, partition);
    one.send(at(0), 0, &["a0"]).await.unwrap();
    two.send(at(0), 0, &["x0", "x1"]).await.unwrap();
    one.send(at(1), 0, &["b0"]).await.unwrap();
    one.send(at(0), 1, &["a1"]).await.unwrap();
    for partition in [0, 1] {
        let read = scene.committed(partition).await;
        assert_eq!((read.values(), read.last_stable), (vec![], Offset(0)), "nothing has ended");
    }
    one.end(true).await.unwrap();
    // What came behind the other's first record waits for its end.
    scene.reads(0, &["a0"]).await;
    scene.reads(1, &["b0"]).await;
    two.end(false).await.unwrap();
    let read = scene.reads(0, &["a0", "a1"]).await;
    let undone: Vec<_> = read.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect();
    assert_eq!((undone, read.left_out), (vec![(two.identity.producer_id, Offset(1))], 2));
    // The next of each, under the epoch that the end told.
    two.send(at(0), 0, &["y0"]).await.unwrap();
    two.end(true).await.unwrap();
    scene.reads(0, &["a0", "a1", "y0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_and_what_was_undone_is_known_to_the_next_leader_and_after_kill_9_of_all() {
    let mut scene = Scene::set().await;
    let (mut kept, mut undone) = (scene.producer("kept", LONG).await, scene.producer("undone", LONG).await);
    let at = (scene.orders, 0);
    undone.send(at, 0, &["x"]).await.unwrap();
    undone.end(false).await.unwrap();
    scene.reads(0, &[]).await;
    for round in 0..3i32 {
        kept.send(at, 0, &["first"]).await.unwrap();
        undone.send(at, 0, &["x"]).await.unwrap();
        if round < 2 {
            let (leader, _) = scene.cluster.leader("orders", 0).await;
            let _ = scene.cluster.kill(leader);
            scene.cluster.next_leader("orders", 0, leader).await;
            scene.cluster.restart(leader);
        } else {
            (1..=3).for_each(|id| drop(scene.cluster.kill(id)));
            scene.cluster.restart_all(&[1, 2, 3]);
        }
        // The leader knows that they are open: these go on, and readers wait.
        kept.send(at, 1, &["second"]).await.unwrap();
        let before: Vec<&str> = (0..round).flat_map(|_| ["first", "second"]).collect();
        assert_eq!(scene.committed(0).await.values(), before, "round {round}");
        kept.end(true).await.unwrap();
        undone.end(false).await.unwrap();
        let after: Vec<&str> = (0..=round).flat_map(|_| ["first", "second"]).collect();
        let read = scene.reads(0, &after).await;
        assert_eq!(read.aborted.len() as i32, round + 2, "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_wait_for_the_coordinator_keep_their_order_and_are_one_question() {
    let scene = Scene::set().await;
    let controller = scene.cluster.controller().await;
    // One whose coordinator may stop without anything else stopping, and a partition that another broker leads.
    let (mut id, mut coordinator) = (String::new(), controller);
    for n in 0.. {
        id = format!("tx-{n}");
        // Its topic is there once somebody has asked.
        let _ = scene.producer(&id, LONG).await;
        coordinator = scene.coordinator_of(&id).await;
        if coordinator != controller {
            break;
        }
    }
    let mut producer = scene.producer(&id, LONG).await;
    let mut partition = 0;
    while scene.cluster.leader("orders", partition).await.0 == coordinator {
        partition += 1;
    }
    let (leader, _) = scene.cluster.leader("orders", partition).await;
    let _ = scene.cluster.pause(coordinator);
    let mut connection = RawConnection::introduced(scene.cluster.address(leader)).await;
    let request = ProduceRequest {
        partition: PartitionId(partition),
        transactional_id: Some(id),
        ..produce_request(scene.orders)
    };
    let mut asked = Vec::new();
    for sequence in 0..5 {
        asked.push(connection.ask(&request, &producer.batch(sequence, &["v"])).await);
    }
    let other = connection.ask(&ProduceRequest { transactional_id: None, ..request.clone() }, &plain(-1, -1, -1)).await;
    let told = RawConnection::told(&connection.answer(other).await).unwrap();
    assert_eq!(told.base_offset, Offset(0), "others do not wait, and nothing that waits was written");
    scene.cluster.resume(coordinator);
    for (index, id) in asked.into_iter().enumerate() {
        let told = RawConnection::told(&connection.answer(id).await).unwrap();
        assert_eq!(told.base_offset, Offset(index as u64 + 1));
    }
    producer.end(true).await.unwrap();
    scene.reads(partition, &["plain", "v", "v", "v", "v", "v"]).await;
}

/// A record outside any transaction.
fn plain(id: i64, epoch: i16, first: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 10);
    let (id, epoch, base_sequence) = (ProducerId(id), tidelog_protocol::ProducerEpoch(epoch), Sequence(first));
    builder.set_producer(Producer { id, epoch, base_sequence });
    builder.append(Timestamp(5), None, Some(b"plain"), NO_HEADERS).unwrap();
    builder.finish(Compression::None).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_part_of_a_transaction_is_refused_with_the_reason_and_nothing_is_written() {
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let addresses = [broker.address()];
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("logs").await;
    let named = |id: &str| ProduceRequest { transactional_id: Some(id.into()), ..produce_request(topic) };
    let nobody = RawProducer {
        addresses: addresses.to_vec(),
        id: "tx".into(),
        identity: tidelog_protocol::messages::ProducerIdentity {
            producer_id: ProducerId(900),
            epoch: tidelog_protocol::ProducerEpoch(0),
        },
    };
    let early = connection.call(&named("tx"), &nobody.batch(0, &["v"])).await;
    assert_eq!(codes(early), Some(ErrorCode::UnknownTransaction), "nobody has transactions yet");
    let mut producer = RawProducer::begin(&addresses, "tx", LONG).await;
    let batch = producer.batch(0, &["v"]);
    let (id, epoch) = (producer.identity.producer_id.0, producer.identity.epoch.0);
    let mixed = [batch.clone(), plain(id, epoch, 1)].concat();
    let two = [batch.clone(), nobody.batch(0, &["v"])].concat();
    let acks = |acks| ProduceRequest { acks, ..named("tx") };
    for (request, batches, expected) in [
        (produce_request(topic), &batch, ErrorCode::InvalidTransactionalId),
        (named(""), &batch, ErrorCode::InvalidTransactionalId),
        (named(&"x".repeat(256)), &batch, ErrorCode::InvalidTransactionalId),
        (named("somebody"), &batch, ErrorCode::UnknownTransaction),
        (named("tx"), &mixed, ErrorCode::InvalidBatch),
        (named("tx"), &two, ErrorCode::InvalidBatch),
        (acks(Acks::Leader), &batch, ErrorCode::InvalidBatch),
        (named("tx"), &producer.batch(1, &["v"]), ErrorCode::ProducerNeverWrote),
        (named("tx"), &nobody.batch(0, &["v"]), ErrorCode::TransactionFenced),
    ] {
        let refused = connection.call(&request, batches).await;
        assert_eq!(codes(refused), Some(expected), "{request:?}");
    }
    let first = producer.send((topic, 0), 0, &["v"]).await.unwrap();
    assert_eq!(first, Offset(0), "nothing was written before");
    let outside = connection.call(&produce_request(topic), &plain(id, epoch, 1)).await;
    assert_eq!(codes(outside), Some(ErrorCode::InvalidTransactionState), "its transaction is open");
    let late = producer.clone();
    producer.end(true).await.unwrap();
    let mut reader = RawReader::of(broker.address(), "logs").await;
    wait_until("the marker", async || (reader.end(0, true).await.unwrap() == Offset(2)).then_some(())).await;
    let refused = connection.call(&named("tx"), &late.batch(1, &["late"])).await;
    assert_eq!(codes(refused), Some(ErrorCode::InvalidTransactionState), "it has ended");
    let outside = connection.call(&produce_request(topic), &plain(id, producer.identity.epoch.0, 0)).await;
    assert_eq!(codes(outside), Some(ErrorCode::InvalidTransactionState), "it writes within transactions");
    assert_eq!(reader.end(0, false).await.unwrap(), Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_stand_outside_of_a_transaction_are_not_acknowledged_as_part_of_it() {
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let addresses = [broker.address()];
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("logs").await;
    let mut producer = RawProducer::begin(&addresses, "tx", LONG).await;
    let (id, epoch) = (producer.identity.producer_id.0, producer.identity.epoch.0);
    // The partition has not heard of the producer yet.
    let taken = connection.call(&produce_request(topic), &plain(id, epoch, 0)).await.unwrap();
    assert_eq!(taken.base_offset, Offset(0));
    for _ in 0..2 {
        let refused = producer.send((topic, 0), 0, &["plain"]).await;
        assert_eq!(codes(refused), Some(ErrorCode::InvalidTransactionState), "an abort would not undo it");
    }
    producer.ask_again().await.unwrap();
    producer.send((topic, 0), 0, &["whole"]).await.unwrap();
    producer.end(true).await.unwrap();
    let mut reader = RawReader::of(broker.address(), "logs").await;
    wait_until("the marker", async || (reader.end(0, true).await.unwrap() == Offset(3)).then_some(())).await;
    assert_eq!(reader.committed(0, Offset::ZERO).await.unwrap().values(), ["plain", "whole"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_transactions_are_counted_and_their_deletion_harms_nobody() {
    let broker = BrokerSettings::new().set("housekeeping_interval_ms", "100").start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let addresses = [broker.address()];
    let client = Client::connect(&broker.server()).await.unwrap();
    let mut reader = RawReader::of(broker.address(), "logs").await;
    let topic = RawConnection::introduced(broker.address()).await.topic_id("logs").await;
    let open = || {
        let text = http_get(broker.admin_address(), "/metrics").unwrap().body;
        let mut figures = text.lines().filter(|line| !line.starts_with('#'));
        let line = figures.find(|line| line.contains("partition_transactions_open ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(open(), 0.0);
    for (commit, rest) in [(true, "2"), (false, "4")] {
        let mut producer = RawProducer::begin(&addresses, "tx", LONG).await;
        producer.send((topic, 0), 0, &["1"]).await.unwrap();
        wait_until("the metric", async || (open() == 1.0).then_some(())).await;
        let start = client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
        assert_eq!(reader.end(0, true).await.unwrap(), start, "what was deleted of it is not waited for");
        producer.send((topic, 0), 1, &[rest]).await.unwrap();
        assert_eq!(reader.end(0, true).await.unwrap(), start);
        producer.end(commit).await.unwrap();
        wait_until("the end", async || (reader.end(0, true).await.unwrap() == start.plus(2)).then_some(())).await;
        let read = reader.committed(0, start).await.unwrap();
        let expected = if commit { vec![rest] } else { vec![] };
        assert_eq!((read.values(), read.left_out), (expected, usize::from(!commit)));
        wait_until("the metric", async || (open() == 0.0).then_some(())).await;
    }
}

/// A record with a key, in a producer's transaction.
async fn send_keyed(connection: &mut RawConnection, topic: TopicId, producer: &RawProducer, key: &str, value: &str) {
    let mut builder = BatchBuilder::new(1 << 10);
    let (id, epoch) = (producer.identity.producer_id, producer.identity.epoch);
    builder.set_producer(Producer { id, epoch, base_sequence: Sequence(0) });
    builder.set_attributes(builder.attributes().transactional());
    builder.append(Timestamp(5), Some(key.as_bytes()), Some(value.as_bytes()), NO_HEADERS).unwrap();
    let batch = builder.finish(Compression::None).unwrap();
    let request = ProduceRequest { transactional_id: Some(producer.id.clone()), ..produce_request(topic) };
    insist("the leader to take it", async || {
        connection.call(&request, &batch).await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_what_was_undone_and_nothing_for_its_sake_and_stops_at_what_is_open() {
    let broker = BrokerSettings::new().set("housekeeping_interval_ms", "20").start();
    let users = NewTopic::named("users").config("cleanup.policy", "compact").config("segment.ms", "1");
    create_topic(&broker.server(), &users.config("min.cleanable.dirty.ratio", "0.01")).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("users").await;
    let addresses = [broker.address()];
    let mut one = RawProducer::begin(&addresses, "one", LONG).await;
    let mut two = RawProducer::begin(&addresses, "two", LONG).await;
    send_keyed(&mut connection, topic, &one, "k", "kept").await;
    one.end(true).await.unwrap();
    send_keyed(&mut connection, topic, &one, "k", "undone").await;
    one.end(false).await.unwrap();
    // Whole segments are compacted: what is open begins in another.
    let next = broker.data().join("users-0").join(format!("{:020}.log", 4));
    wait_until("the segment to be sealed", async || next.exists().then_some(())).await;
    send_keyed(&mut connection, topic, &two, "z", "open").await;
    send_keyed(&mut connection, topic, &one, "k", "later").await;
    one.end(true).await.unwrap();
    let mut reader = RawReader::of(broker.address(), "users").await;
    let compacted = wait_until("what was undone to be taken out", async || {
        let read = reader.committed(0, Offset::ZERO).await.unwrap();
        assert_eq!(read.values(), ["kept"], "what is behind the open one is neither read nor counted");
        (read.left_out == 0).then_some(read)
    });
    compacted.await;
    two.end(true).await.unwrap();
    wait_until("the latest to be left", async || {
        (reader.committed(0, Offset::ZERO).await.unwrap().values() == ["open", "later"]).then_some(())
    })
    .await;
}
