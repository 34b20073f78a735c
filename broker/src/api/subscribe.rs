//! Subscribe: opens a stream and pushes batches for as long as there is credit and room in the outbox.

use std::sync::Arc;

use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{Flags, FrameKind};
use tidelog_protocol::messages::{Fault, PositionKind, StreamItemPush, SubscribeRequest, SubscribeResponse};
use tidelog_protocol::{CorrelationId, ErrorCode, Offset, ProtocolVersion, WireError};

use super::{Input, decode};
use crate::lease::{ADRIFT, Lease};
use crate::node::Node;
use crate::operations::adrift::{may_be_deposed, serves_settled};
use crate::operations::leaderships::{check_continuity, check_epoch};
use crate::operations::look_up::{look_up, readable_end};
use crate::outbox::{FrameStamp, OutFrame, Outbox};
use crate::partition::{Cursor, Fetched, Handle, Serves, refusals};
use crate::session::{Reply, Session};
use crate::streams::StreamControl;

/// Most payload bytes in one item; larger ones delay what else the connection has to say.
const ITEM_BYTES_MAX: u32 = 4 << 20;
/// Least payload bytes in one item; smaller ones would be all header.
const ITEM_BYTES_MIN: u32 = 4 << 10;

/// From this version on a client is told which transactions were aborted.
const KNOWS_ABORTED: ProtocolVersion = ProtocolVersion(4);

pub(super) fn handle(node: &Arc<Node>, session: &Arc<Session>, input: &Input, reply: Reply) {
    let Some((request, reply)) = decode::<SubscribeRequest>(session, input, reply) else { return };
    // Opened here, so that credit which follows the request finds its stream.
    let opened =
        session.streams.open(reply.correlation(), request.credit_bytes, &session.closed, Some(&node.budget.streams));
    let control = match opened {
        Ok(control) => control,
        Err(refusal) => return reply.fail(refusal.into()),
    };
    let (node, session) = (node.clone(), session.clone());
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let stream = reply.correlation();
        match super::in_time(reply.deadline, open(&node, &session, &request)).await {
            Ok((partition, cursor, serves)) => {
                let tail = cursor.tail();
                reply.send(&SubscribeResponse {
                    start_offset: cursor.next_offset(),
                    high_watermark: tail.high_watermark,
                    log_start: tail.log_start,
                    leader_epoch: tail.leader_epoch,
                });
                let item_bytes = request.item_bytes_max.clamp(ITEM_BYTES_MIN, ITEM_BYTES_MAX) as usize;
                let from_earliest = request.position.kind == PositionKind::Earliest;
                let push = Push { session: &session, stream, control, partition, item_bytes, from_earliest };
                tokio::select! {
                    () = push.control.ended.cancelled() => {}
                    error = push.run(cursor) => push.end(error),
                    error = adrift(&node.lease, &push.partition, serves) => push.end(error),
                }
            }
            Err(error) => reply.fail(error),
        }
        session.streams.close(stream);
        // The connection looks after itself again once its last stream is gone.
        session.outbox.poke();
    });
}

/// Waits until this broker leads a partition without a lease for some time, so that another may lead it by now: whoever reads here looks who does,
/// and comes back where nobody else does. Whoever reads what such a broker knows to be settled does so as well, and as soon as it has a lease again.
async fn adrift(lease: &Lease, partition: &Handle, serves: Serves) -> WireError {
    let mut standing = lease.standing();
    if serves == Serves::Adrift {
        let renewed = tokio::time::timeout(ADRIFT, standing.wait_for(|standing| standing.holds)).await.is_ok();
        return if renewed { refusals::is_led() } else { refusals::is_adrift() };
    }
    loop {
        // The sender lives as long as the node.
        let _ = standing.wait_for(|standing| !standing.holds).await;
        let renewed = tokio::time::timeout(ADRIFT, standing.wait_for(|standing| standing.holds)).await.is_ok();
        let tail = partition.tail().borrow().clone();
        if may_be_deposed(&tail, renewed) {
            return refusals::is_adrift();
        }
    }
}

async fn open(
    node: &Node,
    session: &Session,
    request: &SubscribeRequest,
) -> Result<(Handle, Cursor, Serves), WireError> {
    let (partition, _) = node.registry.find(request.topic_id, request.partition)?;
    let tail = partition.tail().borrow().clone();
    let serves = match (session.member().is_ok(), request.nearby) {
        (true, true) => Serves::Peer,
        (false, _) if request.settled => serves_settled(&tail, node.lease.is_adrift()),
        (false, true) => Serves::Nearby,
        (_, false) => Serves::Leader,
    };
    check_epoch(request.leader_epoch, tail.leader_epoch)?;
    let position = request.position.clone();
    let start = match position.kind {
        PositionKind::Earliest => tail.log_start,
        PositionKind::Latest => readable_end(&tail, request.isolation),
        PositionKind::Offset => Offset::from_signed(position.value)
            .ok_or_else(|| WireError::new(ErrorCode::Malformed, "an offset is never negative"))?,
        PositionKind::Timestamp | PositionKind::MaxTimestamp => {
            let found = look_up(&partition, position.clone(), serves, request.isolation).await?;
            found.offset.unwrap_or_else(|| readable_end(&tail, request.isolation))
        }
    };
    if let Some(refusal) = serves.refusal(&tail) {
        return Err(refusal);
    }
    check_continuity(&partition, (&tail, serves), (request.last_epoch, start))?;
    let mut opened = Cursor::open(partition.clone(), start, request.isolation, serves);
    // Retention may move the start between the look and the opening; whoever asked for the start means where it is.
    while position.kind == PositionKind::Earliest
        && opened.as_ref().is_err_and(|error| error.code == ErrorCode::OffsetOutOfRange)
    {
        let start = partition.tail().borrow().log_start;
        opened = Cursor::open(partition.clone(), start, request.isolation, serves);
    }
    Ok((partition, opened?, serves))
}

struct Push<'a> {
    session: &'a Session,
    stream: CorrelationId,
    control: Arc<StreamControl>,
    partition: Handle,
    item_bytes: usize,
    /// The start was asked for, wherever that is.
    from_earliest: bool,
}

impl Push<'_> {
    /// Pushes until something ends the stream.
    async fn run(&self, mut cursor: Cursor) -> WireError {
        let mut is_first = true;
        loop {
            let credit = self.control.credit().await;
            self.session.outbox.room().await;
            match cursor.next(credit.min(self.item_bytes)).await {
                Ok(fetched) if !fetched.aborted.is_empty() && self.session.version < KNOWS_ABORTED => {
                    let sentence = "there are records of aborted transactions, and this client cannot be told which: update it, or read what is not committed, too";
                    return WireError::new(ErrorCode::Unsupported, sentence);
                }
                Ok(fetched) => {
                    is_first = false;
                    if !self.item(fetched) {
                        return WireError::new(ErrorCode::UnknownStream, "the stream was closed");
                    }
                }
                // Retention was faster than the first read, and that is no loss: nothing was promised yet.
                Err(error) if is_first && self.from_earliest && error.code == ErrorCode::OffsetOutOfRange => {
                    match cursor.restart_at_log_start() {
                        Ok(()) => {}
                        Err(error) => return error,
                    }
                }
                Err(error) => return error,
            }
        }
    }

    fn item(&self, fetched: Fetched) -> bool {
        let Fetched { bytes, next_offset, aborted, tail } = fetched;
        let message = StreamItemPush {
            next_offset,
            high_watermark: tail.high_watermark,
            last_stable: tail.last_stable,
            log_start: tail.log_start,
            leader_epoch: tail.leader_epoch,
            aborted,
        };
        let stamp = self.session.stamp(FrameKind::Push, Api::StreamItem as u16, self.stream);
        let frame = OutFrame::encode(stamp, &message, vec![bytes]);
        let bytes = frame.payload.iter().map(bytes::Bytes::len).sum::<usize>();
        self.control.spend(bytes);
        self.partition.metrics().bytes_out.inc_by(bytes as u64);
        self.control.push(|| self.session.outbox.push(frame))
    }

    fn end(&self, error: WireError) {
        let stamp = self.session.stamp(FrameKind::Push, Api::StreamItem as u16, self.stream);
        let stamp = FrameStamp { flags: Flags::FAULT, ..stamp };
        let frame = OutFrame::encode(stamp, &Fault::from(error), Vec::new());
        let outbox: &Outbox = &self.session.outbox;
        self.control.push(|| outbox.push(frame));
    }
}
