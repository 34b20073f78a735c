//! Transactions of one producer that follow each other while the one before is being committed: each is seen as a whole or not at all, in their order,
//! and none holds behind one that does not.

#![allow(clippy::unwrap_used)] // Tests only; clippy sees just the functions marked as one.

use tidelog_client::{
    Client, Isolation, NewTopic, PartitionId, Record, SendError, Start, TopicPartition, TransactionError,
    TransactionalProducer,
};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::{wait_until, within_limit};

async fn cluster_with(topics: &[(&str, u32)]) -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    for (topic, partitions) in topics {
        client.admin().create_topic(&NewTopic::named(*topic).partitions(*partitions)).await.unwrap();
    }
    (cluster, client)
}

/// The values that a topic holds for who reads so.
async fn values(client: &Client, topic: &str, isolation: Isolation) -> Vec<String> {
    let reading = client.consumer().topic(topic).start(Start::Beginning).isolation(isolation).until_end();
    let mut consumer = reading.build().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = within_limit("the end of a topic", consumer.next()).await {
        values.push(String::from_utf8(record.unwrap().value.clone().unwrap().to_vec()).unwrap());
    }
    values.sort();
    values
}

async fn committed(client: &Client, topic: &str) -> Vec<String> {
    values(client, topic, Isolation::ReadCommitted).await
}

/// Waits until nothing is open in a topic: markers come a moment after the decision.
async fn until_settled(client: &Client, topic: &str) {
    wait_until("the markers of a transaction", async || {
        let mut ends = Vec::new();
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let reading = client.consumer().topic(topic).start(Start::End).isolation(isolation);
            let consumer = reading.build().await.unwrap();
            let end = |at: &TopicPartition| consumer.position(at.topic.as_str(), at.partition).unwrap();
            ends.push(consumer.assignment().iter().map(end).collect::<Vec<_>>());
        }
        (ends[0] == ends[1]).then_some(())
    })
    .await;
}

/// Sends a record to each of so many partitions.
async fn send(transaction: &tidelog_client::Transaction<'_>, topic: &str, values: &[&str]) {
    try_send(transaction, topic, values).await.unwrap();
}

async fn try_send(
    transaction: &tidelog_client::Transaction<'_>,
    topic: &str,
    values: &[&str],
) -> Result<(), SendError> {
    for (partition, value) in values.iter().enumerate() {
        let record = Record::to(topic).value((*value).to_owned()).partition(PartitionId(partition as u32));
        drop(transaction.send(record).await?);
    }
    Ok(())
}

async fn producer(client: &Client, id: &str) -> TransactionalProducer {
    client.transactional_producer(id).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_follow_each_other_while_the_one_before_is_committed() {
    let (_cluster, client) = cluster_with(&[("orders", 3)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let mut before = None;
    let mut expected = Vec::new();
    for number in 0..50 {
        let transaction = producer.begin().await.unwrap();
        let without = expected.len();
        // One that sends nothing in between holds up nobody.
        if number % 7 != 3 {
            let values = ["a", "b", "c"].map(|partition| format!("{number:02}{partition}"));
            send(&transaction, "orders", &values.each_ref().map(String::as_str)).await;
            expected.extend(values);
        }
        match number % 10 {
            // Dropped or aborted behind one that is being committed: nothing of it is seen.
            5 => {
                drop(transaction);
                expected.truncate(without);
            }
            6 => {
                transaction.abort().await.unwrap();
                expected.truncate(without);
            }
            7 => transaction.commit().await.unwrap(),
            _ => {
                if let Some(before) = before.replace(transaction.commit_in_background()) {
                    within_limit("a commit", before).await.unwrap();
                }
            }
        }
    }
    within_limit("the last commit", before.unwrap()).await.unwrap();
    until_settled(&client, "orders").await;
    expected.sort();
    assert_eq!(committed(&client, "orders").await, expected);
}

/// How a transaction ended that was begun behind another, and the other.
struct Behind {
    first: Result<(), TransactionError>,
    second: Result<(), TransactionError>,
}

/// Commits a transaction of some records in the background that an operator aborts before, and has another follow it.
async fn follow_one_that_is_undone(client: &Client, producer: &mut TransactionalProducer, background: bool) -> Behind {
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b", "c"]).await;
    transaction.flush().await.unwrap();
    client.admin().abort_transaction("billing-1").await.unwrap();
    let first = transaction.commit_in_background();
    let second = match producer.begin().await {
        Ok(transaction) => {
            // The first may be found undone in the middle of this.
            let sent = try_send(&transaction, "orders", &["d", "e", "f"]).await;
            assert!(matches!(sent, Ok(()) | Err(SendError::Undone)), "{sent:?}");
            match background {
                true => within_limit("the second", transaction.commit_in_background()).await,
                false => transaction.commit().await,
            }
        }
        // The first was found undone before.
        Err(error) => Err(error),
    };
    Behind { first: within_limit("the first", first).await, second }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_behind_one_that_is_undone_does_not_hold_either_and_the_next_one_does() {
    let (_cluster, client) = cluster_with(&[("orders", 3)]).await;
    let mut producer = producer(&client, "billing-1").await;
    for round in 0..6 {
        let Behind { first, second } = follow_one_that_is_undone(&client, &mut producer, round % 2 == 0).await;
        let first = first.unwrap_err();
        assert!(matches!(first, TransactionError::Undone(_)), "{first}");
        let second = second.unwrap_err();
        assert!(matches!(&second, TransactionError::Follows { cause } if **cause == first), "{second}");
        assert!(second.is_undone());
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "orders", &[&format!("{round}x")]).await;
        transaction.commit().await.unwrap();
    }
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["0x", "1x", "2x", "3x", "4x", "5x"]);

    // Who was told of it begins the next one without having to hear of it again.
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a"]).await;
    transaction.flush().await.unwrap();
    client.admin().abort_transaction("billing-1").await.unwrap();
    within_limit("the commit", transaction.commit_in_background()).await.unwrap_err();
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["6x"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await.last().unwrap(), "6x");
}
