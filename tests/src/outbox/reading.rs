//! What a consumer of an outbox's topic reads: of what is committed everything. Knows nothing of what must hold.

use tidelog_client::{Client, Start};

use super::claims::Read;
use crate::transacting::until_settled;

/// All events of the topic, each partition in its order, once no transaction is open there.
///
/// # Panics
/// Where the topic cannot be read, or holds what the shop does not write.
pub async fn read_all(client: &Client, topic: &str) -> Vec<Read> {
    until_settled(client, topic).await;
    let mut consumer = client.consumer().topic(topic).start(Start::Beginning).until_end().build().await.unwrap();
    let mut read = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record.unwrap();
        let value = String::from_utf8(record.value.as_deref().unwrap().to_vec()).unwrap();
        let (key, number) = value.split_once(' ').unwrap();
        assert_eq!(record.key.as_deref(), Some(key.as_bytes()), "the aggregate is the key");
        let headers: Vec<_> = record.headers().map(|header| header.name().into_owned()).collect();
        assert_eq!(headers, ["id", "type"]);
        read.push(Read { key: key.into(), number: number.parse().unwrap() });
    }
    read
}
