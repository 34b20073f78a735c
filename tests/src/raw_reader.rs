//! What a partition gives to whoever reads what is committed, taken frame by frame: up to where that ends, and less what the broker says was
//! undone. Knows nothing of what should be there.

use std::net::SocketAddr;

use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{Flags, FrameKind};
use tidelog_protocol::messages::{
    AbortedTransaction, Fault, Isolation, ListOffsetsRequest, OffsetQuery, Position, PositionKind, StreamItemPush,
    SubscribeRequest,
};
use tidelog_protocol::records::{Batches, Scratch};
use tidelog_protocol::{Message, Offset, PartitionId, ProtocolVersion, TopicId, WireError};

use crate::raw_connection::RawConnection;

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Offset and value of each record.
    pub records: Vec<(u64, String)>,
    /// What was said to be undone.
    pub aborted: Vec<AbortedTransaction>,
    /// Records that were left out.
    pub left_out: usize,
    /// Where it ended.
    pub last_stable: Offset,
}

impl Committed {
    /// The values alone.
    #[must_use]
    pub fn values(&self) -> Vec<&str> {
        self.records.iter().map(|(_, value)| value.as_str()).collect()
    }
}

/// A way to ask one broker.
pub struct RawReader {
    connection: RawConnection,
    topic_id: TopicId,
}

impl RawReader {
    /// Of this topic.
    pub async fn of(address: SocketAddr, topic: &str) -> Self {
        let mut connection = RawConnection::introduced(address).await;
        let topic_id = connection.topic_id(topic).await;
        Self { connection, topic_id }
    }

    /// Where a partition ends, for one that reads what is committed or one that reads everything.
    ///
    /// # Errors
    /// What the broker says.
    ///
    /// # Panics
    /// Where it does not answer.
    pub async fn end(&mut self, partition: u32, committed_only: bool) -> Result<Offset, WireError> {
        let position = Position { kind: PositionKind::Latest, value: 0 };
        let query = OffsetQuery { partition: PartitionId(partition), position };
        let request =
            ListOffsetsRequest { topic_id: self.topic_id, queries: vec![query], committed_only, settled: false };
        let answer = self.connection.call(&request, &[]).await?.answers.remove(0);
        answer.fault.map_or_else(|| Ok(answer.offset.unwrap()), |fault| Err(fault.into()))
    }

    /// What is committed of a partition by now, from `start` on.
    ///
    /// # Errors
    /// What the broker says.
    ///
    /// # Panics
    /// Where it serves what cannot be.
    pub async fn committed(&mut self, partition: u32, start: Offset) -> Result<Committed, WireError> {
        let last_stable = self.end(partition, true).await?;
        let mut read = Committed { last_stable, ..Committed::default() };
        if start >= last_stable {
            return Ok(read);
        }
        let request = SubscribeRequest {
            topic_id: self.topic_id,
            partition: PartitionId(partition),
            position: Position { kind: PositionKind::Offset, value: start.signed() },
            leader_epoch: None,
            isolation: Isolation::ReadCommitted,
            credit_bytes: 64 << 20,
            item_bytes_max: 1 << 20,
            last_epoch: None,
            nearby: false,
            settled: false,
        };
        let stream = self.connection.ask(&request, &[]).await;
        let opened = self.connection.answer(stream).await;
        if opened.header.flags.contains(Flags::FAULT) {
            return Err(Fault::from_body(&opened.body, ProtocolVersion::CURRENT).unwrap().into());
        }
        let mut next = start;
        while next < last_stable {
            let frame = self.connection.next_frame().await.expect("the connection ended within a stream");
            if frame.header.kind != FrameKind::Push || frame.header.api != Api::StreamItem as u16 {
                continue;
            }
            if frame.header.flags.contains(Flags::FAULT) {
                return Err(Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into());
            }
            let item = StreamItemPush::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap();
            assert!(item.next_offset <= item.last_stable, "nothing is served above the last stable offset: {item:?}");
            take(&mut read, start, &item, &frame.payload);
            next = item.next_offset;
        }
        Ok(read)
    }
}

fn take(read: &mut Committed, start: Offset, item: &StreamItemPush, payload: &[u8]) {
    let mut scratch = Scratch::new();
    let mut named = Vec::new();
    for batch in Batches::compacted(payload) {
        let batch = batch.unwrap();
        let header = *batch.header();
        let undone = item.aborted.iter().find(|aborted| {
            let range = aborted.first_offset..=aborted.marker_offset;
            header.attributes.is_transactional()
                && aborted.producer_id == header.producer_id
                && range.contains(&header.base_offset)
        });
        if header.attributes.is_control() {
            continue;
        }
        if let Some(undone) = undone {
            named.push(undone.clone());
            read.left_out += header.record_count as usize;
            continue;
        }
        for record in batch.records(&mut scratch).unwrap().map(Result::unwrap).filter(|record| record.offset >= start) {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            read.records.push((record.offset.0, value));
        }
    }
    let idle = item.aborted.iter().find(|aborted| !named.contains(aborted));
    assert_eq!(idle, None, "it has no batch in what was served");
    for aborted in named {
        if !read.aborted.contains(&aborted) {
            read.aborted.push(aborted);
        }
    }
}
