//! Produce: checks the batches on the network thread, once, and hands them to the partition; those that are large once decompressed take
//! a detour over the blocking pool, and what the same client sent after them waits behind them. The answer leaves when what was asked for
//! has happened, in whatever order that is.

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
    let silent = request.acks == Acks::None;
    let prepared = match checked {
        Ok(checked) => prepare(node, &request, (checked, Asking::ToTakeIn), lent),
        Err(error) => Err(error),
    };
    match prepared {
        Ok((partition, mut append)) => {
            let appended_at = clock::now();
            append.deadline = reply.deadline;
            if silent {
                reply.stay_silent();
                // The ticket of acks=None is never called with an answer that somebody waits for.
                append.ticket = Box::new(|_| {});
            } else {
                append.ticket = Box::new(move |result| match result {
                    Ok(acked) => reply.send(&response(acked, appended_at)),
                    Err(error) => reply.fail(error),
                });
            }
            partition.append(append);
        }
        Err(error) => {
            node.metrics.produce_refused.inc();
            if silent { reply.stay_silent() } else { reply.fail(error) }
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
