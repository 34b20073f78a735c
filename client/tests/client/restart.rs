//! A broker that goes away and comes back: producers deliver, consumers resume.

use crate::broker::TestBroker;
use tidelog_client::*;

#[tokio::test(flavor = "multi_thread")]
async fn across_restarts_nothing_is_lost_and_a_consumer_sees_each_offset_once() {
    let mut broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 2).await;
    let mut consumer = client.consumer().topic("t").start(Start::Beginning).build().await.unwrap();
    let producer = client.producer().batch_bytes(1 << 10).build().unwrap();
    let topic = producer.topic("t").await.unwrap();

    let total = 3_000u32;
    let reading = tokio::spawn(async move {
        let mut next = [Offset(0); 2];
        let mut missing: std::collections::BTreeSet<u32> = (0..total).collect();
        while !missing.is_empty() {
            let record = consumer.next().await.unwrap().unwrap();
            let expected = &mut next[record.partition().0 as usize];
            assert_eq!(record.offset, *expected, "no offset twice, none left out");
            *expected = expected.plus(1);
            missing.remove(&u32::from_le_bytes(record.value.as_ref().unwrap()[..].try_into().unwrap()));
        }
    });
    for round in 0..3 {
        let mut deliveries = Vec::new();
        for value in round * total / 3..(round + 1) * total / 3 {
            deliveries.push(topic.send(None, &value.to_le_bytes()).await.unwrap());
        }
        broker.restart().await;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_where_nobody_answers() {
    let mut broker = TestBroker::start().await;
    let client = broker.client().await;
    broker.stop().await;
    let quick = Client::builder().request_timeout(std::time::Duration::from_millis(200));
    let error = quick.connect(&broker.address.to_string()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    broker.restart().await;
    client.admin().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_cluster_where_one_was_gets_nothing_and_is_named() {
    let mut broker = TestBroker::start().await;
    let client = broker.client_with_topic("t", 1).await;
    let patient = client.producer().build().unwrap().topic("t").await.unwrap();
    let hasty = client.producer().delivery_timeout(std::time::Duration::from_millis(500)).build().unwrap();
    let hasty = hasty.topic("t").await.unwrap();
    patient.send(None, b"before").await.unwrap().await.unwrap();
    broker.stop().await;
    let mut stranger = TestBroker::start_at(broker.address).await;
    let kept = patient.send(None, b"meanwhile").await.unwrap();
    let error = hasty.send(None, b"too late").await.unwrap().await.unwrap_err();
    assert!(matches!(&error, SendError::Expired { cause, .. } if cause.to_string().contains("and not to")), "{error}");
    let asked = client.admin().describe_all_topics().await.unwrap_err();
    assert!(asked.to_string().contains("belongs to cluster"), "{asked}");
    stranger.stop().await;
    broker.restart().await;
    assert_eq!(kept.await.unwrap().offset, Some(Offset(1)));
}
