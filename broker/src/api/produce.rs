//! Produce: checks the batches on the network thread, once, and hands them to the partition; those that are large once decompressed take
//! a detour over the blocking pool, and what the same client sent after them waits behind them. The answer leaves when what was asked for
//! has happened, in whatever order that is.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_coordination::transactions::{FEATURE_LEVEL, check_transactional_id};
use tidelog_protocol::messages::{Acks, ProduceRequest, ProduceResponse, ProducerIdentity};
use tidelog_protocol::records::{
    BatchError, BatchHeader, DecompressError, ProduceLimits, Scratch, ValidBatches, validate_produce, validate_within,
};
use tidelog_protocol::{ErrorCode, ProducerId, WireError};
use tidelog_replication::{ProduceTerms, Word};

use super::{Input, decode, gone, in_time};
use crate::budget::Lent;
use crate::clock;
use crate::coordinators::ask_membership;
use crate::node::Node;
use crate::partition::{Acked, Append, Command, Handle};
use crate::session::Reply;

/// What is decompressed on a network thread, at most, in bytes: a few milliseconds of the others' time.
const AT_ONCE_BYTES: usize = 2 << 20;

pub(super) fn handle(node: &Arc<Node>, input: Input, reply: Reply) {
    let session = reply.session.clone();
    let Some((request, reply)) = decode::<ProduceRequest>(&session, &input, reply) else { return };
    let produce = Produce { request, payload: input.payload, lent: input.lent, reply };
    if session.detour.is_taken() {
        return detour(node, produce, false);
    }
    match check(node, &produce.request, &produce.payload, AT_ONCE_BYTES, validate_produce) {
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
            checked = in_time(deadline, check_aside(&checking, &produce, is_large)) => checked.map_err(|mut error| {
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

async fn check_aside(node: &Arc<Node>, produce: &Produce, is_large: bool) -> Result<Checked, WireError> {
    let (request, payload) = (produce.request.clone(), produce.payload.clone());
    if !is_large {
        match check(node, &request, &payload, AT_ONCE_BYTES, validate_produce) {
            Err(Unchecked::Larger) => {}
            Err(Unchecked::Refused(error)) => return Err(error),
            Ok(checked) => return Ok(checked),
        }
    }
    let most = ProduceLimits::default().decompressed_bytes_max;
    let lent = node.budget.decompression.lend(most).await;
    let node = node.clone();
    let aside = move || {
        // Goes with the thread's work, whoever still waits for it.
        let _lent = lent;
        check(&node, &request, &payload, most, |payload, limits| {
            validate_within(payload, limits, &mut Scratch::roomy(most))
        })
    };
    match tokio::task::spawn_blocking(aside).await {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(Unchecked::Refused(error))) => Err(error),
        Ok(Err(Unchecked::Larger)) | Err(_) => {
            Err(WireError::new(ErrorCode::Internal, "the batches could not be checked; nothing was written"))
        }
    }
}

/// What is to be appended, and where.
struct Checked {
    partition: Handle,
    batches: ValidBatches,
}

/// Why there is nothing.
enum Unchecked {
    /// It takes more memory than was given.
    Larger,
    /// It is refused.
    Refused(WireError),
}

impl From<WireError> for Unchecked {
    fn from(error: WireError) -> Self {
        Self::Refused(error)
    }
}

/// Checks everything about the batches, where that takes no more than `most` bytes of memory.
fn check(
    node: &Node,
    request: &ProduceRequest,
    payload: &Bytes,
    most: usize,
    validate: impl FnOnce(Bytes, ProduceLimits) -> Result<ValidBatches, BatchError>,
) -> Result<Checked, Unchecked> {
    let (partition, config) = node.registry.find(request.topic_id, request.partition)?;
    if partition.topic().as_str().starts_with(INTERNAL_PREFIX) {
        let sentence = format!("topic '{}' belongs to the broker: nobody else writes to it", partition.topic());
        return Err(WireError::new(ErrorCode::InternalTopic, sentence).into());
    }
    let full = ProduceLimits { batch_bytes_max: config.batch_bytes_max as usize, ..ProduceLimits::default() };
    let is_part = most < full.decompressed_bytes_max;
    let limits = match is_part {
        // All batches together, since it is time that counts as well.
        true => ProduceLimits { decompressed_bytes_max: most, decompressed_in_all_max: most, ..full },
        false => full,
    };
    let batches = match validate(payload.clone(), limits) {
        Err(BatchError::Decompress(DecompressError::TooLarge { .. })) if is_part => return Err(Unchecked::Larger),
        validated => validated.map_err(|error| WireError::new(error.code(), error.to_string()))?,
    };
    if config.cleanup_policy.compacts() && batches.has_keyless_records() {
        let sentence = format!(
            "{} is compacted, which keeps the latest record of each key: a record without key has no place in it, and nothing was written; give each record a key",
            partition.topic()
        );
        return Err(WireError::new(ErrorCode::KeyMissing, sentence).into());
    }
    Ok(Checked { partition, batches })
}

/// Hands the batches to the partition, or says why not.
fn finish(node: &Arc<Node>, produce: Produce, checked: Result<Checked, WireError>) {
    let Produce { request, lent, reply, payload: _ } = produce;
    let silent = request.acks == Acks::None;
    let prepared = match checked {
        Ok(checked) => prepare(node, &request, checked, lent),
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

fn prepare(
    node: &Arc<Node>,
    request: &ProduceRequest,
    Checked { partition, batches }: Checked,
    lent: Option<Lent>,
) -> Result<(Handle, Append), WireError> {
    let is_transactional = batches.headers().iter().any(|header| header.attributes.is_transactional());
    let ask = if is_transactional { Some(transaction(node, request, &batches, &partition)?) } else { None };
    let terms = ProduceTerms::from(request);
    Ok((partition, Append { batches, terms, deadline: None, ticket: Box::new(|_| {}), lent, ask }))
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
