//! What a program hears of a commit that it did not wait for, of records that take too long, and of a group that has come so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_client::group::RetryPolicy;
use tidelog_client::{
    Admin, Client, ConsumerRecord, ExactlyOnceOptions, PartitionId, Record, SendError, Start, TransactionError,
    TransactionSender,
};
use tidelog_protocol::messages::TransactionState;
use tidelog_tests::patience::within_limit;
use tidelog_tests::transacting::{cluster_with, committed, producer, send, until_settled};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_commit_that_was_dropped_anywhere_it_is_told_whether_it_holds() {
    let (_cluster, client) = cluster_with(&[("orders", 2)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let (mut expected, mut dropped, mut undone) = (Vec::new(), 0, 0);
    for number in 0..60u64 {
        let value = format!("{number:02}");
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "orders", &[&value, &value]).await;
        let held = match tokio::time::timeout(Duration::from_micros(number * 250), transaction.commit()).await {
            Ok(committed) => committed,
            Err(_) => {
                dropped += 1;
                within_limit("an answer", producer.settle()).await
            }
        };
        match held {
            Ok(()) => expected.extend([value.clone(), value]),
            Err(TransactionError::Dropped) => undone += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(producer.settle().await.is_ok(), expected.ends_with(&[format!("{number:02}")]), "asked again");
    }
    assert!(dropped > 0 && undone > 0, "{dropped} were dropped, {undone} undone");
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_behind_another_and_is_dropped_is_told_from_that() {
    let (_cluster, client) = cluster_with(&[("orders", 1)]).await;
    let mut producer = producer(&client, "billing-1").await;
    assert_eq!(producer.settle().await, Ok(()), "there was none");
    let first = producer.begin().await.unwrap();
    send(&first, "orders", &["first"]).await;
    let first = first.commit_in_background();
    let second = producer.begin().await.unwrap();
    send(&second, "orders", &["second"]).await;
    drop(second);
    assert_eq!(producer.settle().await, Err(TransactionError::Dropped));
    first.await.unwrap();
    let third = producer.begin().await.unwrap();
    third.commit().await.unwrap();
    assert_eq!(producer.settle().await, Ok(()), "nothing was in it");
    producer.begin().await.unwrap().abort().await.unwrap();
    assert_eq!(producer.settle().await, Err(TransactionError::Dropped));
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["first"]);
}

/// Waits until nothing is open under the id.
async fn undone(admin: Admin) {
    while admin.describe_transaction("p-1").await.is_ok_and(|described| described.state == TransactionState::Ongoing) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_takes_longer_than_a_transaction_may_be_open_goes_to_the_dead_letters_and_the_others_on() {
    let (_cluster, client) = cluster_with(&[("in", 2), ("out", 1)]).await;
    let plain = client.producer().build().unwrap();
    for (partition, value) in [(0, "slow"), (0, "behind"), (1, "other-1"), (1, "other-2")] {
        let record = Record::to("in").partition(PartitionId(partition)).value(value);
        plain.send(record).await.unwrap().await.unwrap();
    }
    let consumer = client.group("pipeline").topics(["in"]).start(Start::Beginning).build().await.unwrap();
    let building = client.transactional_producer("p-1").transaction_timeout(Duration::from_secs(1));
    let producer = building.build().await.unwrap();
    let (tries, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let handler = |record: ConsumerRecord, transaction: TransactionSender| {
        let (tries, all, admin) = (tries.clone(), all.clone(), client.admin());
        async move {
            let value = record.value.clone().unwrap();
            let _written = transaction.send(Record::to("out").value(value.clone())).await?.await?;
            match &value[..] {
                b"slow" => {
                    tries.fetch_add(1, Ordering::SeqCst);
                    within_limit("the transaction to be undone", undone(admin)).await;
                }
                b"behind" => all.notify_one(),
                _ => {}
            }
            Ok::<(), SendError>(())
        }
    };
    let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
    let options = ExactlyOnceOptions::default().retry(retry);
    let running = producer.exactly_once_with(consumer, options, all.notified(), handler);
    within_limit("the record behind it", running).await.unwrap();
    // Once more where others were in the transaction with it, so that it was not known which of them it was.
    let tries = tries.load(Ordering::SeqCst);
    assert!((2..=3).contains(&tries), "{tries}");
    until_settled(&client, "out").await;
    assert_eq!(committed(&client, "out").await, ["behind", "other-1", "other-2"]);
    assert_eq!(committed(&client, "in.dead-letters").await, ["slow"]);
    assert!(client.admin().group_lag("pipeline").await.unwrap().iter().all(|one| one.lag() == Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_group_is_so_far_all_that_it_made_can_be_read() {
    let (cluster, client) = cluster_with(&[("in", 1), ("out", 6)]).await;
    let consumer = client.group("projection").topics(["in"]).start(Start::Beginning).build().await.unwrap();
    let projection = producer(&client, "p-1").await;
    let handler = |record: ConsumerRecord, transaction: TransactionSender| async move {
        for partition in 0..6 {
            let made = Record::to("out").partition(PartitionId(partition)).value(record.value.clone().unwrap());
            let _written_or_the_commit_fails = transaction.send(made).await?;
        }
        Ok::<(), SendError>(())
    };
    let options = ExactlyOnceOptions::default().records(1);
    let running = tokio::spawn(projection.exactly_once_with(consumer, options, std::future::pending(), handler));
    let reader = Client::connect(&cluster.servers()).await.unwrap();
    let plain = client.producer().build().unwrap();
    for number in 0..40 {
        let value = format!("{number:02}");
        let written = plain.send(Record::to("in").value(value.clone())).await.unwrap().await.unwrap();
        let offset = written.offset.unwrap();
        let patience = tidelog_tests::patience::LIMIT;
        client.admin().wait_for_group("projection", "in", PartitionId(0), offset, patience).await.unwrap();
        let found = committed(&reader, "out").await.iter().filter(|found| **found == value).count();
        assert_eq!(found, 6, "of what was made of {value}");
    }
    running.abort();
}
