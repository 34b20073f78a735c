//! What a producer promises when the peer misbehaves: order, bounded memory, honest outcomes.

use crate::peer;
use std::sync::Mutex;
use std::time::Duration;

use crate::peer::{Peer, Reaction, Stream};
use tidelog_client::*;

async fn producer(peer: &Peer, describe: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> TopicProducer {
    let quick = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(5) };
    let client = Client::builder().backoff(quick).connect(&peer.address.to_string()).await.unwrap();
    describe(client.producer()).build().unwrap().topic("t").await.unwrap()
}

/// Sends each value in a batch of its own.
async fn send_apart(topic: &TopicProducer, values: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for value in values {
        // More than half of a batch, so that no two share one.
        let text = format!("{value:0>700}");
        deliveries.push(topic.send(None, text.as_bytes()).await.unwrap());
    }
    deliveries
}

async fn next_value(consumer: &mut Consumer) -> String {
    let record = consumer.next().await.unwrap().unwrap();
    String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()
}

fn numbers(values: &[String]) -> Vec<u32> {
    values.iter().map(|value| value.parse().unwrap()).collect()
}

#[tokio::test]
async fn what_was_in_flight_on_a_lost_connection_is_sent_again_in_order() {
    let mut peer = Peer::start(|n| match n {
        0..3 | 4.. => Reaction::Ack,
        3 => Reaction::HangUp,
    })
    .await;
    let topic = producer(&peer, |builder| builder.batch_bytes(1 << 10)).await;
    for delivery in send_apart(&topic, 0..20).await {
        delivery.await.unwrap();
    }
    let mut arrived = Vec::new();
    while let Ok(values) = peer.arrivals.try_recv() {
        arrived.extend(numbers(&values));
    }
    assert!(arrived.len() > 20, "at least the one that was hung up on came twice: {arrived:?}");
    let mut first_time = Vec::new();
    for value in &arrived {
        if !first_time.contains(value) {
            first_time.push(*value);
        }
    }
    assert_eq!(first_time, (0..20).collect::<Vec<_>>());
    // Answers to earlier ones may be lost with the connection too.
    assert!(arrived[..4] == [0, 1, 2, 3] && arrived[4] <= 3, "{arrived:?}");
    assert_eq!(arrived[4..], (arrived[4]..20).collect::<Vec<_>>(), "again from the first of unknown fate, in order");
}

#[tokio::test]
async fn nothing_new_overtakes_a_batch_that_was_refused_for_the_moment() {
    let mut peer = Peer::start(|n| if n < 2 { Reaction::Refuse(ErrorCode::Overloaded) } else { Reaction::Ack }).await;
    let topic = producer(&peer, |builder| builder.batch_bytes(1 << 10).max_in_flight(1)).await;
    for delivery in send_apart(&topic, 0..5).await {
        delivery.await.unwrap();
    }
    let mut arrived = Vec::new();
    while let Ok(values) = peer.arrivals.try_recv() {
        arrived.extend(numbers(&values));
    }
    assert_eq!(arrived, [0, 0, 0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn who_asks_only_the_flush_hears_of_what_had_failed_before() {
    let peer = Peer::start(|n| if n == 0 { Reaction::Refuse(ErrorCode::InvalidBatch) } else { Reaction::Ack }).await;
    let client = Client::connect(&peer.address.to_string()).await.unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    let failed = topic.send(None, b"refused").await.unwrap().await.unwrap_err();
    topic.send(None, b"taken").await.unwrap().await.unwrap();
    assert_eq!(producer.flush().await, Err(failed), "long before the call");
    assert_eq!(producer.flush().await, Ok(()), "it was told");
    assert_eq!(producer.close().await, Ok(()));
}

#[tokio::test]
async fn a_broker_that_refuses_what_was_sent_behind_a_refused_batch_keeps_the_order() {
    let refused = Mutex::new(None::<String>);
    let mut peer = Peer::judging(move |arrival| {
        let mut refused = refused.lock().unwrap();
        match &*refused {
            // Until the batch that was refused first comes again.
            Some(first) if *first != arrival.values[0] => Reaction::Refuse(ErrorCode::Overloaded),
            Some(_) => {
                *refused = None;
                Reaction::Ack
            }
            None if arrival.n % 4 == 3 => {
                *refused = Some(arrival.values[0].clone());
                Reaction::Refuse(ErrorCode::Overloaded)
            }
            None => Reaction::Ack,
        }
    })
    .await;
    let topic = producer(&peer, |builder| builder.batch_bytes(1 << 10).max_in_flight(5)).await;
    for delivery in send_apart(&topic, 0..40).await {
        delivery.await.unwrap();
    }
    let mut tries = Vec::new();
    while let Ok(values) = peer.arrivals.try_recv() {
        tries.extend(numbers(&values));
    }
    assert!(tries.len() > 45, "some were refused: {tries:?}");
    // The last try of each is the one that was written.
    tries.reverse();
    let mut written = Vec::new();
    for value in tries {
        if !written.contains(&value) {
            written.push(value);
        }
    }
    written.reverse();
    assert_eq!(written, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_for_good_fails_its_batch_alone() {
    let peer = Peer::start(|n| if n == 0 { Reaction::Refuse(ErrorCode::InvalidBatch) } else { Reaction::Ack }).await;
    let topic = producer(&peer, |builder| builder.batch_bytes(1 << 10)).await;
    let mut deliveries = send_apart(&topic, 0..2).await.into_iter();
    let refused = deliveries.next().unwrap().await.unwrap_err();
    assert!(matches!(&refused, SendError::Rejected(error) if error.code == ErrorCode::InvalidBatch), "{refused}");
    deliveries.next().unwrap().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_the_outcome_unknown() {
    let peer = Peer::start(|_| Reaction::Silence).await;
    let topic = producer(&peer, |builder| builder.delivery_timeout(Duration::from_millis(300))).await;
    let error = topic.send(None, b"1").await.unwrap().await.unwrap_err();
    assert!(matches!(error, SendError::Unknown { .. }), "{error}");
    assert!(error.may_be_written());
}

#[tokio::test]
async fn a_record_that_never_left_is_known_not_to_be_written() {
    let peer = Peer::start(|_| Reaction::Refuse(ErrorCode::StorageFull)).await;
    let topic = producer(&peer, |builder| builder.delivery_timeout(Duration::from_millis(100))).await;
    let error = topic.send(None, b"1").await.unwrap().await.unwrap_err();
    assert!(
        matches!(&error, SendError::Expired { cause, .. } if cause.code() == Some(ErrorCode::StorageFull)),
        "{error}"
    );
    assert!(!error.may_be_written());
}

#[tokio::test]
async fn memory_stays_within_its_bound_and_senders_wait() {
    let peer = Peer::start(|_| Reaction::Silence).await;
    let client = Client::connect(&peer.address.to_string()).await.unwrap();
    let limit = 64 << 10;
    let timeout = Duration::from_millis(300);
    let producer =
        client.producer().batch_bytes(8 << 10).memory_bytes(limit).delivery_timeout(timeout).build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    let mut taken = 0;
    loop {
        match topic.try_send(&RecordRef::new(None, &[b'1'; 1_000])) {
            Ok(_) => taken += 1,
            Err(error) => break assert_eq!(error, SendError::Full),
        }
        assert!(producer.memory_in_use() <= limit);
    }
    assert!((40..=64).contains(&taken), "about as many records as fit into the memory: {taken}");
    // Waits for memory, which comes back as the first ones fail.
    let waiting = topic.send(None, &[b'1'; 1_000]).await.unwrap();
    assert!(producer.memory_in_use() <= limit);
    waiting.await.unwrap_err();
    producer.flush().await.unwrap_err();
    assert_eq!(producer.memory_in_use(), 0);
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_that_names_its_place_and_reading_does_not_hang() {
    let peer = Peer::pushing(|n, start| {
        let mut damaged = peer::batch(1, "damaged");
        *damaged.last_mut().unwrap() ^= 1;
        let items = match n {
            0 => vec![
                (peer::batch(0, "whole").freeze(), 1),
                (damaged.freeze(), 2),
                (peer::batch(2, "behind").freeze(), 3),
            ],
            _ => vec![(peer::batch(start, "behind").freeze(), start + 1)],
        };
        Stream { items, vanishes: false }
    })
    .await;
    let client = Client::connect(&peer.address.to_string()).await.unwrap();
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    assert_eq!(next_value(&mut consumer).await, "whole");
    let error = consumer.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, ConsumeError::Corrupt { offset: Offset(1), .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("offset 1 of t/0 is damaged") && text.contains("checksum"), "{text}");
    assert!(consumer.next().await.is_none(), "nothing can come before the program has decided");
    assert!(consumer.next_batch().await.unwrap().is_none());
    consumer.seek("t", PartitionId(0), Start::Offset(Offset(2))).await.unwrap();
    assert_eq!(next_value(&mut consumer).await, "behind");
}

#[tokio::test]
async fn a_stream_whose_peer_vanished_is_opened_again_where_it_stood() {
    let peer = Peer::pushing(|n, start| {
        let (offset, value) = [(0, "before"), (1, "after")][n];
        assert_eq!(start, offset);
        Stream { items: vec![(peer::batch(offset, value).freeze(), offset + 1)], vanishes: n == 0 }
    })
    .await;
    let patience = Client::builder().keepalive(Duration::from_millis(100));
    let client = patience.connect(&peer.address.to_string()).await.unwrap();
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    assert_eq!(next_value(&mut consumer).await, "before");
    // Nothing is ever read or written there again, and nothing closes it.
    assert_eq!(next_value(&mut consumer).await, "after");
}

#[tokio::test]
async fn an_idle_producer_whose_peer_vanished_sends_over_a_new_connection() {
    let peer = Peer::start(|n| if n == 0 { Reaction::Vanish } else { Reaction::Ack }).await;
    let patience = Client::builder().keepalive(Duration::from_millis(100));
    let client = patience.connect(&peer.address.to_string()).await.unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    topic.send(None, b"before").await.unwrap().await.unwrap();
    topic.send(None, b"after").await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_leaves_while_it_is_greeted_is_one_to_try_again() {
    let address = peer::start_leaving().await;
    let error = Client::connect(&address.to_string()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_retriable(), "{error:?}");
}

#[tokio::test]
async fn a_pause_that_is_longer_than_the_delivery_timeout_ends() {
    let peer = Peer::start(|n| if n == 0 { Reaction::Refuse(ErrorCode::Overloaded) } else { Reaction::Ack }).await;
    let slow = Backoff { first: Duration::from_millis(400), max: Duration::from_millis(400) };
    let client = Client::builder().backoff(slow).connect(&peer.address.to_string()).await.unwrap();
    let producer = client.producer().delivery_timeout(Duration::from_millis(100)).build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    let acknowledged = async {
        // Never without a record on the way, so that there is always one that waits for the next try.
        let mut deliveries = Vec::new();
        while !deliveries.iter().any(|delivery: &Delivery| matches!(delivery.now(), Some(Ok(_)))) {
            deliveries.push(topic.send(None, b"value").await.unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(deliveries.iter().any(|delivery| matches!(delivery.now(), Some(Err(_)))), "some were given up first");
    };
    tokio::time::timeout(Duration::from_secs(30), acknowledged).await.expect("a producer tries again");
}

/// Sends one record after the other, each once the one before has its outcome, until one is acknowledged.
async fn acknowledged_in_the_end(topic: &TopicProducer) {
    let mut given_up = 0;
    let sending = async {
        while topic.send(None, b"value").await.unwrap().await.is_err() {
            given_up += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), sending).await.expect("a producer tries again");
    assert!(given_up > 0, "the first must be given up: nothing was left to deliver");
}

#[tokio::test]
async fn a_pause_that_a_broker_asked_for_ends_though_everything_was_given_up_meanwhile() {
    let peer = Peer::start(|n| if n == 0 { Reaction::Postpone(400) } else { Reaction::Ack }).await;
    let topic = producer(&peer, |builder| builder.delivery_timeout(Duration::from_millis(100))).await;
    acknowledged_in_the_end(&topic).await;
}

#[tokio::test]
async fn a_dial_that_outlasts_the_delivery_timeout_ends_though_everything_was_given_up_meanwhile() {
    let slow = Duration::from_millis(400);
    let peer = Peer::slow_to_greet(slow, |arrival| if arrival.n == 0 { Reaction::HangUp } else { Reaction::Ack }).await;
    let topic = producer(&peer, |builder| builder.delivery_timeout(Duration::from_millis(100))).await;
    acknowledged_in_the_end(&topic).await;
}

/// Takes connections and answers nothing; tells of each as it comes, and as it goes.
async fn hanging(
    number: usize,
    told: tokio::sync::mpsc::UnboundedSender<(usize, &'static str)>,
) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            told.send((number, "dialled")).unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                // What the client says first is read and not answered.
                let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
                let _ = told.send((number, "given up"));
            });
        }
    });
    address
}

#[tokio::test]
async fn of_several_brokers_that_hang_none_is_given_up_before_the_next_is_dialled() {
    let peer = Peer::start(|_| Reaction::Ack).await;
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut addresses = Vec::new();
    for number in 0..3 {
        addresses.push(hanging(number, told.clone()).await.to_string());
    }
    addresses.push(peer.address.to_string());
    let client = Client::connect(&addresses.join(",")).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(events.recv().await.unwrap());
    }
    assert_eq!(seen, [(0, "dialled"), (1, "dialled"), (2, "dialled")]);
    drop(client);
}
