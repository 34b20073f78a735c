//! Produce: checks the batches on the network thread, once, and hands them to the partition. The answer leaves when what was asked
//! for has happened, in whatever order that is.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_protocol::messages::{Acks, ProduceRequest, ProduceResponse};
use tidelog_protocol::records::{ProduceLimits, validate_produce};
use tidelog_protocol::{ErrorCode, WireError};
use tidelog_replication::ProduceTerms;

use super::{Input, decode};
use crate::clock;
use crate::node::Node;
use crate::partition::{Acked, Append};
use crate::session::Reply;

pub(super) fn handle(node: &Arc<Node>, input: Input, reply: Reply) {
    let session = reply.session.clone();
    let Some((request, reply)) = decode::<ProduceRequest>(&session, &input, reply) else { return };
    let silent = request.acks == Acks::None;
    match prepare(node, &request, input) {
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

fn prepare(
    node: &Node,
    request: &ProduceRequest,
    input: Input,
) -> Result<(crate::partition::Handle, Append), WireError> {
    let (partition, config) = node.registry.find(request.topic_id, request.partition)?;
    if partition.topic().as_str().starts_with(INTERNAL_PREFIX) {
        let sentence = format!("topic '{}' belongs to the broker: nobody else writes to it", partition.topic());
        return Err(WireError::new(ErrorCode::InternalTopic, sentence));
    }
    let limits = ProduceLimits { batch_bytes_max: config.batch_bytes_max as usize, ..ProduceLimits::default() };
    let batches =
        validate_produce(input.payload, limits).map_err(|error| WireError::new(error.code(), error.to_string()))?;
    if batches.headers().iter().any(|header| header.attributes.is_transactional()) {
        return Err(WireError::new(ErrorCode::InvalidBatch, "transactional batches are not accepted by this version"));
    }
    if config.cleanup_policy.compacts() && batches.has_keyless_records() {
        return Err(WireError::new(
            ErrorCode::KeyMissing,
            format!(
                "{} is compacted, which keeps the latest record of each key: a record without key has no place in it, and nothing was written; give each record a key",
                partition.topic()
            ),
        ));
    }
    let terms = ProduceTerms::from(request);
    Ok((partition, Append { batches, terms, deadline: None, ticket: Box::new(|_| {}), lent: input.lent, ask: None }))
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
