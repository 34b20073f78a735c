//! ListOffsets: answers questions about the partitions of one topic, each for itself. Knows nothing of how an offset is found, nor of when a
//! leader may have been replaced.

use std::sync::Arc;

use tidelog_protocol::messages::{Isolation, ListOffsetsRequest, ListOffsetsResponse, OffsetAnswer};
use tidelog_protocol::{ErrorCode, Timestamp, WireError};

use super::Handle;
use crate::node::Node;
use crate::operations::adrift;
use crate::operations::look_up::look_up;
use crate::partition::{self, Serves, Tail};
use crate::session::Session;

/// Most questions in one request.
const QUERIES_MAX: usize = 10_000;

impl Handle for ListOffsetsRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<ListOffsetsResponse, WireError> {
        if self.queries.len() > QUERIES_MAX {
            let sentence =
                format!("{} questions are over the limit of {QUERIES_MAX}; ask in parts", self.queries.len());
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        if !node.registry.knows(self.topic_id) {
            return Err(partition::refusals::unknown_topic(self.topic_id));
        }
        let isolation = if self.committed_only { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let (has_lease, is_adrift) = (node.lease.holds(), node.lease.is_adrift());
        let serves = |tail: &Tail| match self.settled {
            true => Ok(adrift::serves_settled(tail, is_adrift)),
            false => adrift::refusal(tail, has_lease, session.version).map_or(Ok(Serves::Leader), Err),
        };
        let mut answers = Vec::with_capacity(self.queries.len());
        for query in self.queries {
            let found = match node.registry.find(self.topic_id, query.partition) {
                Ok((handle, _)) => {
                    let serves = serves(&handle.tail().borrow());
                    match serves {
                        Ok(serves) => look_up(&handle, query.position, serves, isolation)
                            .await
                            .map(|found| (found, handle.tail().borrow().leader_epoch)),
                        Err(refusal) => Err(refusal),
                    }
                }
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
