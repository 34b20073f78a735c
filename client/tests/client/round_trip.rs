//! Producer and consumer against a real broker: what goes in comes out.

use std::collections::HashMap;
use std::time::Duration;

use crate::broker::TestBroker;
use tidelog_client::*;

async fn collect(mut consumer: Consumer) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while let Some(record) = consumer.next().await {
        records.push(record.unwrap());
    }
    records
}

fn text(bytes: &Option<bytes::Bytes>) -> String {
    String::from_utf8(bytes.as_ref().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_in_order_with_all_they_had() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    let producer = client.producer().build().unwrap();
    let sent = producer
        .send(Record::to("orders").key("k").value("v").header("origin", "web").timestamp(Timestamp(1_234)))
        .await
        .unwrap();
    let mut tombstone = Record::to("orders").key("gone");
    tombstone.headers.push(("empty".into(), None));
    let receipt = producer.send(tombstone).await.unwrap().await.unwrap();
    assert_eq!(sent.await.unwrap().offset, Some(Offset(0)));
    assert_eq!((receipt.partition, receipt.offset), (PartitionId(0), Some(Offset(1))));
    assert_eq!(receipt.replicas_written, 1);

    let consumer = client.consumer().topic("orders").start(Start::Beginning).until_end().build().await.unwrap();
    let records = collect(consumer).await;
    assert_eq!(records.len(), 2);
    assert_eq!((text(&records[0].key), text(&records[0].value)), ("k".into(), "v".into()));
    assert_eq!((records[0].timestamp, records[0].offset, records[0].topic()), (Timestamp(1_234), Offset(0), "orders"));
    let headers: Vec<_> = records[0].headers().map(|header| (header.name().into_owned(), header.value)).collect();
    assert_eq!(headers, [("origin".to_string(), Some(&b"web"[..]))]);
    assert_eq!((records[1].value.clone(), records[1].offset), (None, Offset(1)));
    assert_eq!(records[1].headers().next().unwrap().value, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_survive_every_compression_in_order() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    for compression in Compression::ALL {
        let topic = format!("logs-{compression}");
        client.admin().create_topic(&NewTopic::named(&topic).config("durability", "written")).await.unwrap();
        let producer = client.producer().compression(compression).batch_bytes(8 << 10).build().unwrap();
        let logs = producer.topic(&topic).await.unwrap();
        let mut last = None;
        for i in 0..5_000u32 {
            last = Some(logs.send(None, format!("line {i} of a log that repeats itself").as_bytes()).await.unwrap());
        }
        producer.flush().await.unwrap();
        assert_eq!(last.unwrap().now().unwrap().unwrap().offset, Some(Offset(4_999)), "{compression}");

        let mut consumer = client.consumer().topic(&topic).start(Start::Beginning).until_end().build().await.unwrap();
        let mut seen = 0u32;
        while let Some(batch) = consumer.next_batch().await.unwrap() {
            for record in batch.records() {
                let record = record.unwrap();
                assert_eq!(record.offset, Offset(seen.into()));
                assert_eq!(record.value.unwrap(), format!("line {seen} of a log that repeats itself").as_bytes());
                seen += 1;
            }
        }
        assert_eq!(seen, 5_000, "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_in_its_partition_and_records_without_key_reach_all() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("events", 3).await;
    let producer = client.producer().batch_bytes(1 << 10).build().unwrap();
    let events = producer.topic("events").await.unwrap();
    for round in 0..20 {
        for key in ["a", "b", "c", "d", "e"] {
            drop(events.send(Some(key.as_bytes()), format!("{round}").as_bytes()).await.unwrap());
        }
        for _ in 0..30 {
            drop(events.send(None, &[7; 100]).await.unwrap());
        }
    }
    producer.close().await.unwrap();
    assert_eq!(events.send(None, b"late").await.unwrap_err(), SendError::Closed);

    let consumer = client.consumer().topic("events").start(Start::Beginning).until_end().build().await.unwrap();
    assert_eq!(consumer.assignment().len(), 3);
    let mut keyed: HashMap<String, Vec<(PartitionId, String)>> = HashMap::new();
    let mut unkeyed: HashMap<PartitionId, usize> = HashMap::new();
    for record in collect(consumer).await {
        match &record.key {
            Some(_) => keyed.entry(text(&record.key)).or_default().push((record.partition(), text(&record.value))),
            None => *unkeyed.entry(record.partition()).or_default() += 1,
        }
    }
    for (key, seen) in keyed {
        let home = producer::by_key(key.as_bytes(), 3);
        let expected: Vec<_> = (0..20).map(|round| (home, round.to_string())).collect();
        assert_eq!(seen, expected, "{key}");
    }
    assert_eq!(unkeyed.values().sum::<usize>(), 600);
    assert_eq!(unkeyed.len(), 3, "{unkeyed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_starts_where_it_is_told() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().build().unwrap();
    // One batch, so that every start but the first lies within it.
    let topic = client.producer().linger(Duration::from_secs(5)).build().unwrap();
    let lane = topic.topic("t").await.unwrap();
    for i in 0..10i64 {
        let value = i.to_string();
        let record = RecordRef { timestamp: Some(Timestamp(1_000 + i)), ..RecordRef::new(None, value.as_bytes()) };
        drop(lane.send_record(&record).await.unwrap());
    }
    topic.flush().await.unwrap();

    let read = async |start| {
        let consumer = client.consumer().topic("t").start(start).until_end().build().await.unwrap();
        collect(consumer).await.iter().map(|record| text(&record.value)).collect::<Vec<_>>()
    };
    assert_eq!(read(Start::Beginning).await.len(), 10);
    assert_eq!(read(Start::Offset(Offset(7))).await, ["7", "8", "9"]);
    assert_eq!(read(Start::Timestamp(Timestamp(1_008))).await, ["8", "9"]);
    assert!(read(Start::Timestamp(Timestamp(9_999))).await.is_empty());
    assert!(read(Start::End).await.is_empty());

    let mut tail = client.consumer().topic("t").start(Start::End).build().await.unwrap();
    producer.send(Record::to("t").value("new")).await.unwrap().await.unwrap();
    assert_eq!(text(&tail.next().await.unwrap().unwrap().value), "new");
    assert_eq!(tail.position("t", PartitionId(0)).unwrap(), Offset(11));
    assert_eq!(tail.lag("t", PartitionId(0)).unwrap(), 0);
    tail.seek("t", PartitionId(0), Start::Offset(Offset(3))).await.unwrap();
    assert_eq!(text(&tail.next().await.unwrap().unwrap().value), "3");
    // The rest of the batch at hand, borrowed.
    let batch = tail.next_batch().await.unwrap().unwrap();
    assert_eq!(batch.records().next().unwrap().unwrap().offset, Offset(4));
    assert_eq!(tail.position("t", PartitionId(0)).unwrap(), Offset(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_keeps_quiet_until_it_is_resumed() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 2).await;
    let producer = client.producer().build().unwrap();
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    consumer.pause("t", PartitionId(0)).unwrap();
    for partition in [0, 0, 1] {
        let record = Record::to("t").value("x").partition(PartitionId(partition));
        producer.send(record).await.unwrap().await.unwrap();
    }
    assert_eq!(consumer.next().await.unwrap().unwrap().partition(), PartitionId(1));
    consumer.resume("t", PartitionId(0)).unwrap();
    for _ in 0..2 {
        assert_eq!(consumer.next().await.unwrap().unwrap().partition(), PartitionId(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_gone_is_an_error_unless_a_policy_says_otherwise() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().build().unwrap();
    for value in ["a", "b", "c", "d"] {
        producer.send(Record::to("t").value(value)).await.unwrap().await.unwrap();
    }
    let start = client.admin().delete_records("t", PartitionId(0), Some(Offset(2))).await.unwrap();
    assert_eq!(start, Offset(2));

    let at_zero = || client.consumer().topic("t").start(Start::Offset(Offset(0)));
    let mut strict = at_zero().build().await.unwrap();
    let error = strict.next().await.unwrap().unwrap_err();
    let ConsumeError::OffsetOutOfRange { offset, log_start, log_end, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*offset, *log_start, *log_end), (Offset(0), Offset(2), Offset(4)));
    strict.seek("t", PartitionId(0), Start::Offset(*log_start)).await.unwrap();
    assert_eq!(text(&strict.next().await.unwrap().unwrap().value), "c");

    let mut lenient = at_zero().out_of_range(OutOfRange::Earliest).build().await.unwrap();
    assert_eq!(text(&lenient.next().await.unwrap().unwrap().value), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().build().unwrap();
    let unknown = ClientError::UnknownTopic { topic: "nope".into() };
    assert_eq!(producer.send(Record::to("nope").value("x")).await.unwrap_err(), SendError::Client(unknown.clone()));
    assert_eq!(client.consumer().topic("nope").build().await.unwrap_err(), unknown);
    assert_eq!(client.admin().delete_topic("nope").await.unwrap_err(), unknown);
    assert_eq!(client.admin().describe_topics(&["nope"]).await.unwrap_err(), unknown);
    let error = producer.send(Record::to("t").value("x").partition(PartitionId(1))).await.unwrap_err();
    assert!(matches!(error, SendError::Client(ClientError::UnknownPartition { partitions: 1, .. })), "{error}");
    assert!(matches!(producer.topic("../x").await.unwrap_err(), ClientError::Argument(_)));
    let exists = client.admin().create_topic(&NewTopic::named("t")).await.unwrap_err();
    assert_eq!(exists.code(), Some(ErrorCode::TopicExists));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_the_limit_is_refused_and_a_large_one_travels_alone() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().batch_bytes(4 << 10).build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    drop(topic.send(None, b"small").await.unwrap());
    let large = topic.send(None, &vec![1; 100_000]).await.unwrap();
    let too_large = topic.send(None, &vec![1; 80 << 20]).await.unwrap_err();
    assert!(matches!(too_large, SendError::TooLarge { .. }), "{too_large}");
    assert_eq!(large.await.unwrap().offset, Some(Offset(1)));
    assert_eq!(topic.send(None, b"after").await.unwrap().await.unwrap().offset, Some(Offset(2)));
    producer.flush().await.unwrap();
    assert_eq!(producer.memory_in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_changes_under_a_running_producer_is_picked_up() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let admin = client.admin();
    for compression in [Compression::None, Compression::Lz4] {
        // One at a time, as only that keeps the order where one is refused.
        let producer =
            client.producer().batch_bytes(64 << 10).compression(compression).max_in_flight(1).build().unwrap();
        let topic = producer.topic("t").await.unwrap();
        let first = topic.send(None, b"first").await.unwrap().await.unwrap().offset.unwrap();
        admin.alter_topic("t", &[("max.message.bytes", "5000")], &[]).await.unwrap();
        let mut deliveries = Vec::new();
        for i in 0..300u64 {
            // Does not compress.
            let value: Vec<u8> = (0..1_000).map(|_| fastrand::u8(..)).collect();
            deliveries.push((first.plus(1 + i), topic.send(None, &value).await.unwrap()));
        }
        for (offset, delivery) in deliveries {
            assert_eq!(delivery.await.unwrap().offset, Some(offset), "{compression}");
        }
        let large = vec![b'x'; 20_000];
        // Refused here, or by the broker where the limit was heard of a moment before it changed.
        let error = match topic.send(None, &large).await {
            Ok(delivery) => delivery.await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, SendError::TooLarge { .. } | SendError::Rejected(_)), "{error}");
        assert!(error.to_string().contains("5000"), "{error}");

        admin.alter_topic("t", &[], &["max.message.bytes"]).await.unwrap();
        let receipt = loop {
            match topic.send(None, &large).await {
                Ok(delivery) => break delivery.await.unwrap(),
                // What was heard a moment ago is believed.
                Err(error) => assert!(matches!(error, SendError::TooLarge { .. }), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(receipt.offset, Some(first.plus(301)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_taken_under_a_higher_limit_fails_with_its_size_and_the_limit() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    topic.send(None, b"the leader is known").await.unwrap().await.unwrap();
    client.admin().alter_topic("t", &[("max.message.bytes", "5000")], &[]).await.unwrap();
    let error = topic.send(None, &[1; 20_000]).await.unwrap().await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes: 20_000.., limit: 5_000 }), "{error}");
    topic.send(None, b"small").await.unwrap().await.unwrap();
    assert_eq!(producer.flush().await, Err(error));
    assert_eq!(producer.memory_in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgement_a_record_still_arrives() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().acks(Acks::None).build().unwrap();
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    let receipt = producer.send(Record::to("t").value("x")).await.unwrap().await.unwrap();
    assert_eq!((receipt.offset, receipt.replicas_written), (None, 0));
    assert_eq!(text(&consumer.next().await.unwrap().unwrap().value), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lingering_batch_waits_for_company_but_not_for_ever() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().linger(Duration::from_millis(30)).build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    let first = topic.send(None, b"a").await.unwrap();
    let second = topic.send(None, b"b").await.unwrap();
    assert_eq!(first.now(), None);
    assert_eq!((first.await.unwrap().offset, second.await.unwrap().offset), (Some(Offset(0)), Some(Offset(1))));
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().header().record_count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_grows_is_used_whole() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    assert_eq!(topic.partitions(), 1);
    assert_eq!(client.admin().create_partitions("t", 4).await.unwrap(), 4);
    producer.topic("t").await.unwrap();
    assert_eq!(topic.partitions(), 4, "a handle made before sees them too");
    let record = RecordRef { partition: Some(PartitionId(3)), ..RecordRef::new(None, b"x") };
    assert_eq!(topic.send_record(&record).await.unwrap().await.unwrap().partition, PartitionId(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_whole_topic_reads_partitions_that_are_added_from_their_beginning() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let quick = Client::builder().metadata_max_age(Duration::from_millis(50));
    let quick = quick.connect(&broker.address.to_string()).await.unwrap();
    // From the end, yet nothing of the new partitions is missed.
    let mut whole = quick.consumer().topic("t").start(Start::End).build().await.unwrap();
    let mut one = quick.consumer().partitions("t", [PartitionId(0)]).start(Start::End).build().await.unwrap();
    client.admin().create_partitions("t", 3).await.unwrap();
    let producer = client.producer().build().unwrap();
    for partition in [1, 2, 1] {
        let record = Record::to("t").value("early").partition(PartitionId(partition));
        producer.send(record).await.unwrap().await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let record = whole.next().await.unwrap().unwrap();
        seen.push((record.partition().0, record.offset.0));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, 0), (1, 1), (2, 0)]);
    assert_eq!(whole.assignment().len(), 3);
    assert_eq!(whole.position("t", PartitionId(1)).unwrap(), Offset(2));
    producer.send(Record::to("t").value("old").partition(PartitionId(0))).await.unwrap().await.unwrap();
    assert_eq!(text(&whole.next().await.unwrap().unwrap().value), "old");
    assert_eq!(text(&one.next().await.unwrap().unwrap().value), "old");
    assert_eq!(one.assignment().len(), 1, "named partitions stay the ones that were named");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_changes_topics() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 2).await;
    let admin = client.admin();
    let configs = admin.alter_topic("t", &[("retention.ms", "3600000")], &["durability"]).await.unwrap();
    assert_eq!(configs.len(), 1);
    client
        .producer()
        .build()
        .unwrap()
        .send(Record::to("t").value("x").partition(PartitionId(1)))
        .await
        .unwrap()
        .await
        .unwrap();
    let described = admin.describe_topics(&["t"]).await.unwrap();
    assert_eq!(described[0].partitions[1].log_end, Offset(1));
    assert!(described[0].configs.iter().any(|config| config.key == "retention.ms" && !config.is_default));
    let answers =
        admin.list_offsets("t", &[(PartitionId(1), Position::LATEST), (PartitionId(0), Position::EARLIEST)]).await;
    let offsets: Vec<_> = answers.unwrap().iter().map(|answer| answer.offset).collect();
    assert_eq!(offsets, [Some(Offset(1)), Some(Offset(0))]);
    assert!(admin.ping().await.unwrap() > Timestamp(0));
    assert!(admin.describe_broker().await.unwrap().connections >= 1);
    assert_eq!(admin.metadata().await.unwrap().brokers.len(), 1);
    admin.delete_topic("t").await.unwrap();
    assert!(admin.describe_all_topics().await.unwrap().iter().all(|topic| topic.name.as_str() != "t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_that_expect_the_same_end_one_wins() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("versions", 1).await;
    let partition = PartitionId(0);
    let first = [RecordRef::new(None, b"a"), RecordRef::new(None, b"b")];
    assert_eq!(client.append_at("versions", partition, Offset(0), &first).await.unwrap().offset, Some(Offset(0)));
    let other = broker.client().await;
    let (mine, theirs) = ([RecordRef::new(None, b"mine")], [RecordRef::new(None, b"theirs")]);
    let (one, two) = tokio::join!(
        client.append_at("versions", partition, Offset(2), &mine),
        other.append_at("versions", partition, Offset(2), &theirs),
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
    let refused = one.err().or(two.err()).unwrap();
    let ClientError::Broker(refused) = refused else { panic!("{refused}") };
    assert_eq!((refused.code, refused.range), (ErrorCode::OffsetMismatch, Some((Offset(0), Offset(3)))));
    let ends =
        client.admin().list_offsets("versions", &[(partition, tidelog_protocol::messages::Position::LATEST)]).await;
    assert_eq!(ends.unwrap()[0].offset, Some(Offset(3)));
}
