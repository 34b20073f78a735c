//! Batches of idempotent producers by hand, and partitions that many such have written to.

use tidelog_client::NewTopic;
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, Producer};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

use crate::broker_process::BrokerProcess;
use crate::raw_connection::RawConnection;
use crate::workload::create_topic;

/// So many producers a partition remembers.
pub const PRODUCERS_MAX: i64 = 10_000;

/// The first producer of a crowd: later than any that a broker of a test gives out.
pub const CROWD: i64 = 1 << 32;

/// A batch of so many records whose first has this number.
///
/// # Panics
/// Where that cannot be.
#[must_use]
pub fn numbered(id: i64, epoch: i16, first: i32, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 16);
    let (id, epoch, base_sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(first));
    builder.set_producer(Producer { id, epoch, base_sequence });
    for _ in 0..records {
        builder.append(Timestamp(5), None, Some(b"value"), NO_HEADERS).unwrap();
    }
    builder.finish(Compression::None).unwrap().to_vec()
}

/// Makes a topic of one partition that remembers as many producers as it may, from [`CROWD`] on, of each a record under this epoch.
///
/// # Panics
/// Where the broker refuses.
pub async fn crowd(broker: &BrokerProcess, topic: &str, epoch: i16) -> TopicId {
    create_topic(&broker.server(), &NewTopic::named(topic)).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id(topic).await;
    for first in (CROWD..CROWD + PRODUCERS_MAX).step_by(500) {
        let batches: Vec<u8> = (first..first + 500).flat_map(|id| numbered(id, epoch, 0, 1)).collect();
        connection.produce(topic, &batches).await.unwrap();
    }
    topic
}

/// The same under their first epoch, with one more: some of them were forgotten early. Says how many records there are.
///
/// # Panics
/// Where the broker refuses, or has forgotten nobody.
pub async fn crowd_with_room(broker: &BrokerProcess, topic: &str) -> i64 {
    let topic = crowd(broker, topic, 0).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    connection.produce(topic, &numbered(CROWD + PRODUCERS_MAX, 0, 0, 1)).await.unwrap();
    let refused = connection.produce(topic, &numbered(CROWD, 0, 0, 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownProducer, "nobody was forgotten: {refused}");
    PRODUCERS_MAX + 1
}
