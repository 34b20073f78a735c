//! What idempotent producers are promised, through a real broker: ids that nobody else has, a producer that was idle while its records were
//! deleted and its broker was killed, and answers that say what is wrong with a number.

use std::collections::BTreeSet;

use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::messages::{InitProducerIdRequest, ProducerIdentity};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, ProducerEpoch, ProducerId, WireError};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::numbered::{CROWD, PRODUCERS_MAX, crowd, numbered};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::workload::create_topic;

const NEW: InitProducerIdRequest =
    InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 0, current: None };

#[tokio::test(flavor = "multi_thread")]
async fn no_producer_id_is_given_out_twice_not_even_after_kill_9() {
    let mut broker = BrokerProcess::start();
    let mut given = BTreeSet::new();
    for _ in 0..3 {
        let mut connection = RawConnection::introduced(broker.address()).await;
        // More than a block.
        for _ in 0..1_100 {
            let response = connection.call(&NEW, &[]).await.unwrap();
            assert_eq!(response.epoch, ProducerEpoch(0));
            assert!(given.insert(response.producer_id), "{} was given out twice", response.producer_id);
        }
        broker.kill();
        broker.restart();
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let mut next = async |producer_id, epoch| {
        let current = Some(ProducerIdentity { producer_id, epoch });
        let response = connection.call(&InitProducerIdRequest { current, ..NEW }, &[]).await?;
        Ok::<_, WireError>((response.producer_id, response.epoch))
    };
    assert_eq!(next(ProducerId(7), ProducerEpoch(3)).await, Ok((ProducerId(7), ProducerEpoch(4))));
    let (fresh, epoch) = next(ProducerId(7), ProducerEpoch(i16::MAX)).await.unwrap();
    assert!(given.insert(fresh) && epoch == ProducerEpoch(0), "epochs that are used up: another id");
    assert_eq!(next(ProducerId(-1), ProducerEpoch(0)).await.unwrap_err().code, ErrorCode::Malformed);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_judged_the_same_after_kill_9_and_after_everything_was_deleted() {
    let mut broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("logs").await;
    for first in 0..7 {
        connection.produce(topic, &numbered(500, 2, first, 1)).await.unwrap();
    }
    for round in ["at once", "after kill -9", "after deletion", "after deletion and kill -9"] {
        let mut connection = RawConnection::introduced(broker.address()).await;
        let mut code = async |batch: Vec<u8>| connection.produce(topic, &batch).await.map(|told| told.base_offset);
        let codes = [
            code(numbered(500, 2, 4, 1)).await,
            code(numbered(500, 2, 8, 1)).await.map_err(|error| WireError::new(error.code, "")),
            code(numbered(500, 1, 7, 1)).await.map_err(|error| WireError::new(error.code, "")),
            code(numbered(500, 2, 1, 1)).await.map_err(|error| WireError::new(error.code, "")),
            code(numbered(501, 0, 3, 1)).await.map_err(|error| WireError::new(error.code, "")),
        ];
        let refused = |code| Err(WireError::new(code, ""));
        let expected = [
            Ok(Offset(4)),
            refused(ErrorCode::OutOfOrderSequence),
            refused(ErrorCode::ProducerFenced),
            refused(ErrorCode::DuplicateSequence),
            refused(ErrorCode::ProducerNeverWrote),
        ];
        assert_eq!(codes, expected, "{round}");
        if round == "after kill -9" {
            let client = Client::connect(&broker.server()).await.unwrap();
            client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
        } else {
            broker.kill();
            broker.restart();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_producer_goes_on_after_its_records_were_deleted_and_its_broker_was_killed() {
    let mut broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let client = Client::connect(&broker.server()).await.unwrap();
    let producer = client.producer().build().unwrap();
    assert!(producer.is_idempotent());
    for expected in 0..3 {
        let receipt = producer.send(Record::to("logs").value("one")).await.unwrap().await.unwrap();
        assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(expected)), false));
        client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
        broker.kill();
        broker.restart();
    }
    // A topic of the same name knows nothing of it, and takes what comes next all the same.
    client.admin().delete_topic("logs").await.unwrap();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let receipt = producer.send(Record::to("logs").value("one")).await.unwrap().await.unwrap();
    assert_eq!(receipt.offset, Some(Offset(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_remembers_as_many_producers_as_it_may_says_when_there_is_room_for_another() {
    let mut broker = BrokerProcess::start();
    // Of a later epoch nobody can be told from who sends again.
    let topic = crowd(&broker, "crowded", 1).await;
    for life in ["first", "after kill -9"] {
        let mut connection = RawConnection::introduced(broker.address()).await;
        let refused = connection.produce(topic, &numbered(CROWD + PRODUCERS_MAX, 0, 0, 1)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded, "{life}: {refused}");
        assert!((1..=15 * 60 * 1_000).contains(&refused.retry_after_ms), "{life}: {refused:?}");
        // It may have lost the answer.
        let told = connection.produce(topic, &numbered(CROWD + 7, 1, 0, 1)).await.unwrap();
        assert_eq!(told.base_offset, Offset(7), "{life}: it stands once");
        connection.produce(topic, &numbered(CROWD + 8, 1, i32::from(life != "first") + 1, 1)).await.unwrap();
        wait_until("the metrics of that", async || {
            let metrics = broker.http("/metrics").body;
            let tells = |line: &str| metrics.lines().any(|found| found == line);
            let most = format!("tidelog_partition_producers_most {PRODUCERS_MAX}");
            (tells("tidelog_produce_refused_producers_total 1") && tells(&most)).then_some(())
        })
        .await;
        broker.kill();
        broker.restart();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_producers_get_in_though_a_partition_remembers_as_many_as_it_may_and_nothing_stands_twice() {
    let mut broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.unwrap();
    // Somebody with an earlier id, who has written elsewhere so far.
    create_topic(&broker.server(), &NewTopic::named("elsewhere")).await.unwrap();
    let early = client.producer().build().unwrap();
    early.send(Record::to("elsewhere").value("one")).await.unwrap().await.unwrap();
    let topic = crowd(&broker, "crowded", 0).await;
    for life in ["first", "after kill -9"] {
        let mut connection = RawConnection::introduced(broker.address()).await;
        let first = CROWD + PRODUCERS_MAX * if life == "first" { 1 } else { 2 };
        for id in first..first + 1_500 {
            let told = connection.produce(topic, &numbered(id, 0, 0, 1)).await.unwrap().base_offset;
            let again = connection.produce(topic, &numbered(id, 0, 0, 1)).await.unwrap().base_offset;
            assert_eq!(again, told, "{life}: it stands once");
        }
        // Whose first answer was lost, and who was forgotten meanwhile: nobody knows any more, and it is not written again.
        let refused = connection.produce(topic, &numbered(CROWD + 7, 0, 0, 1)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownProducer, "{life}: {refused}");
        broker.kill();
        broker.restart();
    }
    // Whoever may be one of them takes another epoch, and the program hears nothing of it.
    let receipt = early.send(Record::to("crowded").value("mine")).await.unwrap().await.unwrap();
    assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(PRODUCERS_MAX as u64 + 3_000)), false));
    let metrics = broker.http("/metrics").body;
    assert!(metrics.lines().any(|line| line == "tidelog_produce_refused_producers_total 0"), "nobody had to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_cannot_be_idempotent_says_so() {
    let broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.unwrap();
    use tidelog_client::Acks;
    for refused in [
        client.producer().idempotent(true).acks(Acks::Leader).build(),
        client.producer().idempotent(true).max_in_flight(6).build(),
    ] {
        assert!(refused.unwrap_err().to_string().contains("idempotent producer"));
    }
    assert!(!client.producer().acks(Acks::Leader).build().unwrap().is_idempotent());
    assert!(!client.producer().idempotent(false).build().unwrap().is_idempotent());
}
