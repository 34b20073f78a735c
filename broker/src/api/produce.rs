//! Produce: checks the batches on the network thread, once, and hands them to the partition. The answer leaves when what was asked
//! for has happened, in whatever order that is.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_coordination::transactions::{FEATURE_LEVEL, check_transactional_id};
use tidelog_protocol::messages::{Acks, ProduceRequest, ProduceResponse, ProducerIdentity};
use tidelog_protocol::records::{BatchHeader, ProduceLimits, ValidBatches, validate_produce};
use tidelog_protocol::{ErrorCode, ProducerId, WireError};
use tidelog_replication::{ProduceTerms, Word};

use super::{Input, decode};
use crate::clock;
use crate::coordinators::ask_membership;
use crate::node::Node;
use crate::partition::{Acked, Append, Command, Handle};
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

fn prepare(node: &Arc<Node>, request: &ProduceRequest, input: Input) -> Result<(Handle, Append), WireError> {
    let (partition, config) = node.registry.find(request.topic_id, request.partition)?;
    if partition.topic().as_str().starts_with(INTERNAL_PREFIX) {
        let sentence = format!("topic '{}' belongs to the broker: nobody else writes to it", partition.topic());
        return Err(WireError::new(ErrorCode::InternalTopic, sentence));
    }
    let limits = ProduceLimits { batch_bytes_max: config.batch_bytes_max as usize, ..ProduceLimits::default() };
    let batches =
        validate_produce(input.payload, limits).map_err(|error| WireError::new(error.code(), error.to_string()))?;
    let is_transactional = batches.headers().iter().any(|header| header.attributes.is_transactional());
    let ask = if is_transactional { Some(transaction(node, request, &batches, &partition)?) } else { None };
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
    Ok((partition, Append { batches, terms, deadline: None, ticket: Box::new(|_| {}), lent: input.lent, ask }))
}

/// What a coordinator is asked before the partition takes the first batch of a transaction.
type Ask = Box<dyn FnOnce(Word) + Send>;

/// Checks what is part of a transaction, and gives the way to its coordinator.
fn transaction(
    node: &Arc<Node>,
    request: &ProduceRequest,
    batches: &ValidBatches,
    partition: &Handle,
) -> Result<Ask, WireError> {
    let Some(id) = request.transactional_id.clone() else {
        let sentence =
            "a transactional batch needs the transactional id of its producer beside it: nothing was written";
        return Err(WireError::new(ErrorCode::InvalidTransactionalId, sentence));
    };
    check_transactional_id(&id)?;
    let [first, rest @ ..] = batches.headers() else { return Err(not_one()) };
    let whose =
        |header: &BatchHeader| (header.producer_id, header.producer_epoch, header.attributes.is_transactional());
    if first.producer_id < ProducerId(0) || rest.iter().any(|header| whose(header) != whose(first)) {
        return Err(not_one());
    }
    if request.acks != Acks::All {
        let sentence =
            "a transaction holds only if all its records do, so its batches need acks=all: nothing was written";
        return Err(WireError::new(ErrorCode::InvalidBatch, sentence));
    }
    if node.controllers.image().feature_level() < FEATURE_LEVEL {
        let sentence = format!("nobody has a transaction under '{id}': ask for a producer id under that name first");
        return Err(WireError::new(ErrorCode::UnknownTransaction, sentence));
    }
    let (node, partition, runtime) = (node.clone(), partition.clone(), tokio::runtime::Handle::current());
    Ok(Box::new(move |word| {
        let tasks = node.tasks.clone();
        let asked = async move {
            let identity = ProducerIdentity { producer_id: word.producer, epoch: word.epoch };
            let (topic_id, index) = (partition.topic_id(), partition.partition());
            let result = ask_membership(&node, &id, identity, topic_id, index).await;
            partition.submit(Command::Word { word, result });
        };
        tasks.spawn_on(asked, &runtime);
    }))
}

fn not_one() -> WireError {
    let sentence =
        "the batches of a request are part of one transaction of one producer, or of none: nothing was written";
    WireError::new(ErrorCode::InvalidBatch, sentence)
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
