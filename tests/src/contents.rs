//! What a partition holds, as a fresh consumer reads it from its first record to its end. Knows nothing of who wrote it.

use std::collections::BTreeMap;
use std::ops::Range;

use tidelog_client::{Client, ClientError, ConsumeError, ErrorCode, Start};

use crate::patience::within_limit;

/// The records of one partition in the order they were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionContents {
    /// The partition.
    pub partition: u32,
    /// Offset and value of each record.
    pub records: Vec<(u64, String)>,
    /// Ranges of offsets that the broker answered with an error.
    pub damaged: Vec<Range<u64>>,
}

/// Reads a topic from its beginning to its end, each partition in its order. What follows the first space of a value is padding and
/// left out.
///
/// # Panics
/// Where it cannot be read, or part of it is damaged.
pub async fn read_all(server: &str, topic: &str) -> Vec<PartitionContents> {
    let contents = read_around_damage(server, topic).await;
    let damaged = contents.iter().find(|contents| !contents.damaged.is_empty());
    assert!(damaged.is_none(), "{topic} is damaged: {:?}", damaged.map(|contents| &contents.damaged));
    contents
}

/// As [`read_all`], but goes on behind a damaged range. A partition that loses its beginning meanwhile is read from the new one.
///
/// # Panics
/// Where it cannot be read.
pub async fn read_around_damage(server: &str, topic: &str) -> Vec<PartitionContents> {
    within_limit("a topic to be read to its end", async {
        let client = Client::connect(server).await.unwrap();
        let builder = client.consumer().topic(topic).start(Start::Beginning).until_end();
        let mut consumer = builder.build().await.unwrap();
        let mut contents: BTreeMap<u32, PartitionContents> = BTreeMap::new();
        for part in consumer.assignment() {
            let partition = part.partition.0;
            contents.insert(partition, PartitionContents { partition, ..PartitionContents::default() });
        }
        while let Some(record) = consumer.next().await {
            match record {
                Ok(record) => {
                    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
                    let value = value.split(' ').next().unwrap_or_default().to_string();
                    contents.entry(record.partition().0).or_default().records.push((record.offset.0, value));
                }
                Err(ConsumeError::Partition { topic, partition, source: ClientError::Broker(error) })
                    if error.code == ErrorCode::CorruptLog =>
                {
                    let (from, to) = error.range.expect("the broker says what is damaged");
                    contents.entry(partition.0).or_default().damaged.push(from.0..to.0);
                    consumer.seek(topic.as_str(), partition, Start::Offset(to)).await.unwrap();
                }
                // Retention took what was to come next: what is kept begins later now.
                Err(ConsumeError::OffsetOutOfRange { topic, partition, offset, log_start, .. })
                    if offset < log_start =>
                {
                    contents.entry(partition.0).or_default().records.clear();
                    consumer.seek(topic.as_str(), partition, Start::Beginning).await.unwrap();
                }
                Err(error) => panic!("{topic} cannot be read: {error}"),
            }
        }
        contents.into_values().collect()
    })
    .await
}
