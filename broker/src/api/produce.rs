//! Produce: checks the batches on the network thread, once, and hands them to the partition; those that are large once decompressed take
//! a detour over the blocking pool, and what the same client sent after them waits behind them. The answer leaves when what was asked for
//! has happened, in whatever order that is. One that wants none (acks=None) is answered only where it is refused, now or as it is written:
//! its client would go on writing to a leader that is none any more. Closing the connection instead, as Kafka's brokers do, would take all
//! else on it along; so clients of versions before 11, which look at no such answer, are not told.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_protocol::messages::{Acks, ProduceRequest, ProduceResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::{Input, decode, gone, in_time};
use crate::budget::Lent;
use crate::clock;
use crate::coordinators::Asking;
use crate::node::Node;
use crate::operations::produce::{Checked, Unchecked, check_aside, check_at_once, prepare};
use crate::partition::Acked;
use crate::session::Reply;

pub(super) fn handle(node: &Arc<Node>, input: Input, reply: Reply) {
    let session = reply.session.clone();
    let Some((request, reply)) = decode::<ProduceRequest>(&session, &input, reply) else { return };
    let produce = Produce { request, payload: input.payload, lent: input.lent, reply };
    if session.detour.is_taken() {
        return detour(node, produce, false);
    }
    match check_at_once(node, &produce.request, &produce.payload) {
        Err(Unchecked::Larger) => detour(node, produce, true),
        Err(Unchecked::Refused(error)) => finish(node, produce, Err(error)),
        Ok(checked) => finish(node, produce, Ok(checked)),
    }
}

/// A request that is to be carried out.
struct Produce {
    request: ProduceRequest,
    payload: Bytes,
    lent: Option<Lent>,
    reply: Reply,
}

/// Checks it behind what its client sent before and is still being checked. One that is known to be large is not tried here first.
fn detour(node: &Arc<Node>, produce: Produce, is_large: bool) {
    let (session, checking) = (produce.reply.session.clone(), node.clone());
    let work = Box::pin(async move {
        let deadline = produce.reply.deadline;
        let checked = tokio::select! {
            biased;
            () = produce.reply.session.closed.cancelled() => Err(gone()),
            checked = in_time(deadline, check_aside(&checking, (&produce.request, &produce.payload), is_large)) => checked.map_err(|mut error| {
                if error.code == ErrorCode::DeadlineExceeded {
                    error.message = "the deadline passed before the batches were checked; nothing was written".into();
                }
                error
            }),
        };
        finish(&checking, produce, checked);
    });
    if let Some(work) = session.detour.enter(work) {
        node.tasks.spawn(async move { session.detour.run(work).await });
    }
}

/// Hands the batches to the partition, or says why not.
fn finish(node: &Arc<Node>, produce: Produce, checked: Result<Checked, WireError>) {
    let Produce { request, lent, reply, payload: _ } = produce;
    let reply = if request.acks.hears_refusals(reply.session.version) { reply } else { reply.mute() };
    let silent = request.acks == Acks::None;
    let prepared = match checked {
        Ok(checked) => prepare(node, &request, (checked, Asking::ToTakeIn), lent),
        Err(error) => Err(error),
    };
    match prepared {
        Ok((partition, mut append)) => {
            let appended_at = clock::now();
            append.deadline = reply.deadline;
            append.ticket = Box::new(move |result| match result {
                Ok(_) if silent => reply.stay_silent(),
                Ok(acked) => reply.send(&response(acked, appended_at)),
                Err(error) => reply.fail(error),
            });
            partition.append(append);
        }
        Err(error) => {
            node.metrics.produce_refused.inc();
            reply.fail(error);
        }
    }
}

fn response(acked: Acked, appended_at: tidelog_protocol::Timestamp) -> ProduceResponse {
    let Acked { base_offset, next_offset, leader_epoch, log_start, replicas_written, replicas_flushed } = acked;
    ProduceResponse {
        base_offset,
        next_offset,
        leader_epoch,
        appended_at,
        log_start,
        replicas_written,
        replicas_flushed,
    }
}
