//! What a partition holds, as a fresh consumer reads it from its first record to its end. Knows nothing of who wrote it.

use std::collections::BTreeMap;

use tidelog_client::{Client, Start};

use crate::patience::within_limit;

/// The records of one partition in the order they were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionContents {
    /// The partition.
    pub partition: u32,
    /// Offset and value of each record.
    pub records: Vec<(u64, String)>,
}

/// Reads a topic from its beginning to its end, each partition in its order. What follows the first space of a value is padding and
/// left out.
///
/// # Panics
/// Where it cannot be read.
pub async fn read_all(server: &str, topic: &str) -> Vec<PartitionContents> {
    within_limit("a topic to be read to its end", async {
        let client = Client::connect(server).await.unwrap();
        let builder = client.consumer().topic(topic).start(Start::Beginning).until_end();
        let mut consumer = builder.build().await.unwrap();
        let mut contents: BTreeMap<u32, Vec<(u64, String)>> =
            consumer.assignment().iter().map(|part| (part.partition.0, Vec::new())).collect();
        while let Some(record) = consumer.next().await {
            let record = record.unwrap();
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
            let value = value.split(' ').next().unwrap_or_default().to_string();
            contents.entry(record.partition().0).or_default().push((record.offset.0, value));
        }
        contents.into_iter().map(|(partition, records)| PartitionContents { partition, records }).collect()
    })
    .await
}
