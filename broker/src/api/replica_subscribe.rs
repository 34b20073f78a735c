//! ReplicaSubscribe: opens a stream to a follower and pushes all that the log holds, for as long as there is credit and room in the
//! outbox.

use std::sync::Arc;
use std::time::Instant;

use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{Flags, FrameKind};
use tidelog_protocol::messages::{
    EpochEndPoint, Fault, ProducersSnapshot, ReplicaItemPush, ReplicaStreamOutcome, ReplicaSubscribeRequest,
    ReplicaSubscribeResponse,
};
use tidelog_protocol::{BrokerId, CorrelationId, ErrorCode, PartitionId, TopicId, WireError};
use tidelog_replication::{FollowAnswer, FollowOutcome, FollowTerms};

use super::{Input, decode};
use crate::change::speaks_for_itself;
use crate::node::Node;
use crate::outbox::{FrameStamp, OutFrame};
use crate::partition::{Care, Command, Followed, Handle, Pushed, ReplicaCursor};
use crate::session::{Reply, Session};
use crate::streams::StreamControl;

/// Most payload bytes in one item, and least.
const ITEM_BYTES_MAX: u32 = 4 << 20;
const ITEM_BYTES_MIN: u32 = 4 << 10;
/// Most payload bytes in one item for a replica that is not in sync: what it writes and flushes at once keeps the disk from the others.
const CATCH_UP_ITEM_BYTES: usize = 256 << 10;

pub(super) fn handle(node: &Arc<Node>, session: &Arc<Session>, input: &Input, reply: Reply) {
    let Some((request, reply)) = decode::<ReplicaSubscribeRequest>(session, input, reply) else { return };
    // Opened here, so that credit which follows the request finds its stream.
    // Brokers are not kept from what they follow: they open no more than there are partitions.
    let pool = session.member().is_err().then_some(&node.budget.streams);
    let opened = session.streams.open(reply.correlation(), request.credit_bytes, &session.closed, pool);
    let control = match opened {
        Ok(control) => control,
        Err(refusal) => return reply.fail(refusal.into()),
    };
    let (node, session) = (node.clone(), session.clone());
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let stream = reply.correlation();
        match super::in_time(reply.deadline, open(&node, &session, &request, &control)).await {
            Ok((partition, Followed { answer, producers })) => {
                reply.send(&response(answer, producers));
                if answer.outcome == FollowOutcome::Streams {
                    let item_bytes = request.item_bytes_max.clamp(ITEM_BYTES_MIN, ITEM_BYTES_MAX) as usize;
                    let cursor = ReplicaCursor::new(partition, answer.leader_epoch, answer.from);
                    let replica = (request.replica, request.topic_id, request.partition);
                    let push = Push { node: &node, session: &session, stream, control, replica, item_bytes };
                    tokio::select! {
                        () = push.control.ended.cancelled() => {}
                        error = push.run(cursor) => push.end(error),
                    }
                }
            }
            Err(error) => reply.fail(error),
        }
        session.streams.close(stream);
        // The connection looks after itself again once its last stream is gone.
        session.outbox.poke();
    });
}

async fn open(
    node: &Node,
    session: &Session,
    request: &ReplicaSubscribeRequest,
    control: &StreamControl,
) -> Result<(Handle, Followed), WireError> {
    speaks_for_itself(session.member()?, request.replica)?;
    let (partition, _) = node.registry.find(request.topic_id, request.partition)?;
    let terms = FollowTerms {
        replica: request.replica,
        broker_epoch: request.broker_epoch,
        leader_epoch: request.leader_epoch,
        from: request.from,
        last_epoch: request.last_epoch,
    };
    let wants_producers = request.wants_producers;
    let followed = partition.ask(|ticket| Command::Follow { terms, wants_producers, ticket }).await?;
    partition.begin_stream(request.replica, control.ended.clone());
    Ok((partition, followed))
}

fn response(answer: FollowAnswer, producers: Option<ProducersSnapshot>) -> ReplicaSubscribeResponse {
    let FollowAnswer { leader_epoch, from, log_start, outcome } = answer;
    let (outcome, end) = match outcome {
        FollowOutcome::Streams => (ReplicaStreamOutcome::Streams, None),
        FollowOutcome::Diverged { end } => (ReplicaStreamOutcome::Diverged, end),
        FollowOutcome::OutOfRange => (ReplicaStreamOutcome::OutOfRange, None),
    };
    let end = end.map(|end| EpochEndPoint { epoch: end.epoch, end: end.end });
    ReplicaSubscribeResponse { leader_epoch, from, log_start, outcome, end, producers }
}

struct Push<'a> {
    node: &'a Node,
    session: &'a Session,
    stream: CorrelationId,
    control: Arc<StreamControl>,
    replica: (BrokerId, TopicId, PartitionId),
    item_bytes: usize,
}

impl Push<'_> {
    /// Pushes until something ends the stream.
    async fn run(&self, mut cursor: ReplicaCursor) -> WireError {
        loop {
            let credit = self.control.credit().await;
            self.session.outbox.room().await;
            let (item_bytes, care) = match self.is_in_sync() {
                true => (self.item_bytes, Care::Recent),
                false => (self.item_bytes.min(CATCH_UP_ITEM_BYTES), Care::Old),
            };
            match cursor.next(credit.min(item_bytes), care).await {
                Ok(pushed) => {
                    let bytes = pushed.bytes.len();
                    if !self.item(pushed) {
                        return WireError::new(ErrorCode::UnknownStream, "the stream was closed");
                    }
                    if !self.is_in_sync() {
                        let (to, ..) = self.replica;
                        tokio::time::sleep(self.node.catch_up.take(to, bytes, Instant::now())).await;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    /// Whoever is not waited for does not get in the way of those who are.
    fn is_in_sync(&self) -> bool {
        let (replica, topic_id, partition) = self.replica;
        let image = self.node.controllers.image();
        let state = image.topic(topic_id).and_then(|topic| topic.partition(partition));
        state.is_some_and(|state| state.in_sync.contains(&replica))
    }

    fn item(&self, pushed: Pushed) -> bool {
        let Pushed { bytes, leader_epoch, high_watermark, log_start } = pushed;
        let message = ReplicaItemPush { leader_epoch, high_watermark, log_start };
        let stamp = self.session.stamp(FrameKind::Push, Api::ReplicaItem as u16, self.stream);
        self.control.spend(bytes.len());
        let payload = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        let frame = OutFrame::encode(stamp, &message, payload);
        self.control.push(|| self.session.outbox.push(frame))
    }

    fn end(&self, error: WireError) {
        let stamp = self.session.stamp(FrameKind::Push, Api::ReplicaItem as u16, self.stream);
        let stamp = FrameStamp { flags: Flags::FAULT, ..stamp };
        let frame = OutFrame::encode(stamp, &Fault::from(error), Vec::new());
        self.control.push(|| self.session.outbox.push(frame));
    }
}
