//! RaftVote, RaftAppend, RaftSnapshot: what members of the metadata quorum ask each other. They wait for no turn behind other requests.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_protocol::WireError;
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{RaftAppendRequest, RaftSnapshotRequest, RaftVoteRequest};

use super::{Input, decode, in_time};
use crate::member::Member;
use crate::node::Node;
use crate::quorum::Quorum;
use crate::session::{Reply, Session};

/// A request of another member.
pub(super) trait OfMember: Request {
    /// Does it.
    fn handle(
        self,
        quorum: &Quorum,
        from: Member,
        payload: Bytes,
    ) -> impl Future<Output = Result<Self::Response, WireError>> + Send;
}

impl OfMember for RaftVoteRequest {
    async fn handle(self, quorum: &Quorum, from: Member, _: Bytes) -> Result<Self::Response, WireError> {
        quorum.vote(from, self).await
    }
}

impl OfMember for RaftAppendRequest {
    async fn handle(self, quorum: &Quorum, from: Member, payload: Bytes) -> Result<Self::Response, WireError> {
        quorum.append(from, self, &payload).await
    }
}

impl OfMember for RaftSnapshotRequest {
    async fn handle(self, quorum: &Quorum, from: Member, payload: Bytes) -> Result<Self::Response, WireError> {
        quorum.receive_snapshot(from, self, &payload).await
    }
}

/// Runs a request of another member in a task of its own.
pub(super) fn run<R: OfMember>(node: &Arc<Node>, session: &Arc<Session>, mut input: Input, reply: Reply) {
    let Some((request, reply)) = decode::<R>(session, &input, reply) else { return };
    let from = match session.member() {
        Ok(from) => from,
        Err(error) => return reply.fail(error),
    };
    let (lent, quorum, payload) = (input.lent.take(), node.controllers.quorum().clone(), input.payload);
    node.tasks.spawn(async move {
        let result = in_time(reply.deadline, request.handle(&quorum, from, payload)).await;
        reply.finish::<R>(result);
        drop(lent);
    });
}
