//! What tests of transactions begin with: a cluster, what stands in its topics for who reads so, and records for each partition. Knows nothing of
//! what the tests show.

use tidelog_client::{
    Client, Isolation, NewTopic, PartitionId, Record, SendError, Start, TopicPartition, Transaction,
    TransactionalProducer,
};

use crate::cluster::{Cluster, ClusterSettings};
use crate::patience::{wait_until, within_limit};

/// Three brokers with these topics, and a client of theirs.
///
/// # Panics
/// Where they do not start, or make no topic.
pub async fn cluster_with(topics: &[(&str, u32)]) -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    for (topic, partitions) in topics {
        client.admin().create_topic(&NewTopic::named(*topic).partitions(*partitions)).await.unwrap();
    }
    (cluster, client)
}

/// The values that a topic holds for who reads so, in order.
///
/// # Panics
/// Where it cannot be read.
pub async fn values(client: &Client, topic: &str, isolation: Isolation) -> Vec<String> {
    let reading = client.consumer().topic(topic).start(Start::Beginning).isolation(isolation).until_end();
    let mut consumer = reading.build().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = within_limit("the end of a topic", consumer.next()).await {
        values.push(String::from_utf8(record.unwrap().value.clone().unwrap().to_vec()).unwrap());
    }
    values.sort();
    values
}

/// The values that were committed.
///
/// # Panics
/// As [`values`].
pub async fn committed(client: &Client, topic: &str) -> Vec<String> {
    values(client, topic, Isolation::ReadCommitted).await
}

/// Waits until nothing is open in a topic: markers come a moment after the decision.
///
/// # Panics
/// Where that takes longer than anything may.
pub async fn until_settled(client: &Client, topic: &str) {
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
///
/// # Panics
/// Where one is refused.
pub async fn send(transaction: &Transaction<'_>, topic: &str, values: &[&str]) {
    try_send(transaction, topic, values).await.unwrap();
}

/// The same, where it may be refused.
///
/// # Errors
/// Why the first that was refused was.
pub async fn try_send(transaction: &Transaction<'_>, topic: &str, values: &[&str]) -> Result<(), SendError> {
    for (partition, value) in values.iter().enumerate() {
        let record = Record::to(topic).value((*value).to_owned()).partition(PartitionId(partition as u32));
        drop(transaction.send(record).await?);
    }
    Ok(())
}

/// A producer under this id.
///
/// # Panics
/// Where it gets none.
pub async fn producer(client: &Client, id: &str) -> TransactionalProducer {
    client.transactional_producer(id).build().await.unwrap()
}
