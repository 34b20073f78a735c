//! The topic in which shards of a relay say what they have published: made, checked, and read at its end. Knows nothing of databases.

use tidelog_protocol::Offset;

use super::error::RelayError;
use super::options::Options;
use super::position::{BATCH_BYTES_MIN, Published};
use crate::{Client, ClientError, ErrorCode, NewTopic, OutOfRange, PartitionId, Position, Start};

/// Records before the end that are read first. There is one of each transaction, and its marker.
const WINDOW: u64 = 64;

/// Has the topic be there, as it must be; the only one who makes it. How many bytes it takes in one batch.
pub(super) async fn ensure(client: &Client, options: &Options) -> Result<usize, RelayError> {
    let name = options.positions();
    let admin = client.admin();
    let mut described = admin.describe_topics(&[&name]).await;
    if let Err(ClientError::UnknownTopic { .. }) = described {
        let topic = NewTopic::named(&name).partitions(options.shards).config("cleanup.policy", "compact");
        let topic = options.replication_factor.into_iter().fold(topic, NewTopic::replication_factor);
        match admin.create_topic(&topic).await {
            Err(error) if error.code() != Some(ErrorCode::TopicExists) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        described = admin.describe_topics(&[&name]).await;
    }
    let described = described?;
    let Some(topic) = described.first() else { return Err(ClientError::UnknownTopic { topic: name }.into()) };
    let partitions = topic.partitions.len() as u32;
    let config = |key: &str| topic.configs.iter().find(|config| config.key == key).map(|config| config.value.as_str());
    let policy = config("cleanup.policy");
    let bytes = config("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES_MIN);
    let what = if policy != Some("compact") {
        format!(
            "its cleanup.policy is {}, and must be compact, or the last position could be deleted: stop the relays, and change it (`tidelog topics alter \
             {name} --config cleanup.policy=compact`)",
            policy.unwrap_or("unknown")
        )
    } else if bytes < BATCH_BYTES_MIN {
        format!("its max.message.bytes is {bytes}, and must be {BATCH_BYTES_MIN} at least")
    } else if partitions < options.shards {
        format!("it has {partitions} partitions, and the relay needs one for each of its {} shards", options.shards)
    } else {
        return Ok(bytes);
    };
    Err(RelayError::Positions { topic: name, what })
}

/// Has it have a partition for each shard.
pub(super) async fn widen(client: &Client, options: &Options) -> Result<(), RelayError> {
    let name = options.positions();
    let described = client.admin().describe_topics(&[&name]).await?;
    if described.first().is_some_and(|topic| (topic.partitions.len() as u32) < options.shards) {
        client.admin().create_partitions(&name, options.shards).await?;
    }
    Ok(())
}

/// What the last transaction of a shard published; `None` where there was none. To be asked once its producer has been fenced: then nothing of it
/// is open, and nothing more comes.
pub(super) async fn last(client: &Client, options: &Options, shard: u32) -> Result<Option<Published>, RelayError> {
    let (name, partition) = (options.positions(), PartitionId(shard));
    let queries = [(partition, Position::EARLIEST), (partition, Position::LATEST)];
    let answers = client.admin().list_offsets(&name, &queries).await?;
    let offset = |at: usize| answers.get(at).and_then(|answer| answer.offset);
    let (Some(start), Some(end)) = (offset(0), offset(1)) else {
        return Err(ClientError::NoLeader { topic: name, partition }.into());
    };
    let mut window = WINDOW;
    loop {
        let from = Offset(end.0.saturating_sub(window).max(start.0));
        let consumer = client.consumer().partition_from(&name, partition, Start::Offset(from));
        let mut consumer = consumer.out_of_range(OutOfRange::Earliest).until_end().build().await?;
        let mut last = None;
        while let Some(record) = consumer.next().await {
            last = Some(record?);
        }
        if let Some(record) = last {
            let decoded = Published::decode(record.value.as_deref().unwrap_or_default());
            let damaged =
                |what| RelayError::Positions { topic: name, what: format!("the record at {} {what}", record.offset) };
            return decoded.map(Some).map_err(damaged);
        }
        if from <= start {
            return Ok(None);
        }
        window = window.saturating_mul(16);
    }
}
