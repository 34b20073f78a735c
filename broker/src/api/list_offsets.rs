//! ListOffsets. Look-ups by time read the log and may touch cold pages: they run on a blocking thread.

use std::sync::Arc;

use tidelog_protocol::messages::{
    Isolation, ListOffsetsRequest, ListOffsetsResponse, OffsetAnswer, Position, PositionKind,
};
use tidelog_protocol::{ErrorCode, Offset, Timestamp, WireError};

use super::Handle;
use crate::node::Node;
use crate::partition::{self, Serves};
use crate::session::Session;

/// Most questions in one request.
const QUERIES_MAX: usize = 10_000;

impl Handle for ListOffsetsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<ListOffsetsResponse, WireError> {
        if self.queries.len() > QUERIES_MAX {
            let sentence =
                format!("{} questions are over the limit of {QUERIES_MAX}; ask in parts", self.queries.len());
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        if !node.registry.knows(self.topic_id) {
            return Err(partition::refusals::unknown_topic(self.topic_id));
        }
        let isolation = if self.committed_only { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let mut answers = Vec::with_capacity(self.queries.len());
        for query in self.queries {
            let found = match node.registry.find(self.topic_id, query.partition) {
                Ok((handle, _)) => look_up(&handle, query.position, Serves::Leader, isolation)
                    .await
                    .map(|found| (found, handle.tail().borrow().leader_epoch)),
                Err(error) => Err(error),
            };
            answers.push(match found {
                Ok((found, leader_epoch)) => OffsetAnswer {
                    partition: query.partition,
                    offset: found.offset,
                    timestamp: found.timestamp,
                    leader_epoch,
                    fault: None,
                },
                Err(error) => OffsetAnswer {
                    partition: query.partition,
                    offset: None,
                    timestamp: Timestamp::NONE,
                    leader_epoch: tidelog_protocol::LeaderEpoch(0),
                    fault: Some(error.into()),
                },
            });
        }
        Ok(ListOffsetsResponse { answers })
    }
}

/// What a look-up found.
pub(super) struct Found {
    pub(super) offset: Option<Offset>,
    pub(super) timestamp: Timestamp,
}

/// Finds a position in a partition; never above what can be read there.
pub(super) async fn look_up(
    handle: &partition::Handle,
    position: Position,
    serves: Serves,
    isolation: Isolation,
) -> Result<Found, WireError> {
    let tail = handle.tail().borrow().clone();
    if let Some(refusal) = serves.refusal(&tail) {
        return Err(refusal);
    }
    let end = super::subscribe::readable_end(&tail, isolation);
    // One that leads has to answer for what was acknowledged before it did; whoever follows only says what it knows.
    let unknown = (serves == Serves::Leader && !tail.knows_end())
        .then(|| partition::refusals::end_not_known(tail.high_watermark, tail.led_from));
    let at_end = |offset| Ok(Found { offset: Some(offset), timestamp: Timestamp::NONE });
    let by_time = match position.kind {
        PositionKind::Earliest => return at_end(tail.log_start),
        PositionKind::Latest => return unknown.map_or_else(|| at_end(end), Err),
        PositionKind::Offset => {
            let offset = Offset::from_signed(position.value).filter(|o| (tail.log_start..=end).contains(o));
            return match (offset, unknown) {
                (None, Some(unknown)) => Err(unknown),
                (offset, _) => Ok(Found { offset, timestamp: Timestamp::NONE }),
            };
        }
        PositionKind::Timestamp => Some(Timestamp(position.value)),
        PositionKind::MaxTimestamp => match unknown {
            Some(unknown) => return Err(unknown),
            None => None,
        },
    };
    let reader = handle.reader().clone();
    let found = tokio::task::spawn_blocking(move || match by_time {
        Some(timestamp) => reader.offset_for_timestamp(timestamp, end),
        None => reader.max_timestamp(end),
    })
    .await
    .map_err(|_| WireError::new(ErrorCode::Internal, "looking the offset up failed unexpectedly"))?
    .map_err(|error| partition::refusals::of_read(&error))?;
    match (found.filter(|found| found.offset < end), unknown) {
        (Some(found), _) => Ok(Found { offset: Some(found.offset), timestamp: found.timestamp }),
        (None, Some(unknown)) => Err(unknown),
        (None, None) => Ok(Found { offset: None, timestamp: Timestamp::NONE }),
    }
}
