//! OffsetForLeaderEpoch: where a leadership ended in the log here, so that a client notices what an unclean election lost (KIP-320).

use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};

use super::topics::{NO_ID, code, find, known_epoch, partition};
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::leaderships::check_epoch;
use crate::partition::{self as parts, Serves};

impl Handle for OffsetForLeaderEpochRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> OffsetForLeaderEpochResponse {
        let mut topics = Vec::with_capacity(self.topics.len());
        for asked in self.topics {
            let topic = find(&node.controllers.image(), NO_ID, &asked.topic);
            let answers = asked.partitions.iter().map(|query| {
                let found = partition(node, &topic, query.partition).and_then(|(handle, _)| answer(&handle, query));
                let refused = |error: KafkaError| EpochEndOffset { error_code: error.code(), ..Default::default() };
                EpochEndOffset { partition: query.partition, ..found.unwrap_or_else(refused) }
            });
            topics.push(OffsetForLeaderTopicResult { partitions: answers.collect(), topic: asked.topic });
        }
        OffsetForLeaderEpochResponse { topics, ..Default::default() }
    }
}

fn answer(handle: &parts::Handle, query: &OffsetForLeaderPartition) -> Result<EpochEndOffset, KafkaError> {
    let tail = handle.tail().borrow().clone();
    if let Some(refusal) = Serves::Leader.refusal(&tail) {
        return Err(code(&refusal));
    }
    check_epoch(known_epoch(query.current_leader_epoch), tail.leader_epoch).map_err(|error| code(&error))?;
    let end = match known_epoch(query.leader_epoch) {
        // A leadership that has written nothing yet ends where the log does.
        Some(epoch) if epoch == tail.leader_epoch => Some((epoch, tail.log_end)),
        // Of one in the future nothing is known.
        Some(epoch) if epoch < tail.leader_epoch => handle.reader().leader_epochs().end_of(epoch, tail.log_end),
        _ => None,
    };
    Ok(end.map_or_else(EpochEndOffset::default, |(epoch, end)| EpochEndOffset {
        leader_epoch: epoch.signed(),
        end_offset: end.signed(),
        ..Default::default()
    }))
}
