//! Produce, whoever asks: everything about the batches is checked, once, and then they are handed to the partition on the terms that were asked
//! for. What is large once decompressed is checked on the blocking pool. Knows nothing of how it is asked for and answered.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_coordination::transactions::{FEATURE_LEVEL, check_transactional_id};
use tidelog_protocol::messages::{Acks, ProduceRequest, ProducerIdentity};
use tidelog_protocol::records::{
    BatchError, BatchHeader, DecompressError, ProduceLimits, Scratch, ValidBatches, validate_produce, validate_within,
};
use tidelog_protocol::{ErrorCode, ProducerId, WireError};
use tidelog_replication::{ProduceTerms, Word};

use crate::budget::Lent;
use crate::coordinators::{Asking, ask_membership};
use crate::node::Node;
use crate::partition::{Append, Command, Handle};

/// What is decompressed on a network thread, at most, in bytes: a few milliseconds of the others' time.
const AT_ONCE_BYTES: usize = 2 << 20;
/// What is decompressed in a lane of its own, at most, in bytes: it waits for none that is larger, but to find that out.
const BESIDE_BYTES: usize = 8 << 20;

/// Checks what takes little time and memory.
///
/// # Errors
/// [`Unchecked::Larger`] where it takes more: see [`check_aside`].
pub(crate) fn check_at_once(node: &Node, request: &ProduceRequest, payload: &Bytes) -> Result<Checked, Unchecked> {
    check(node, request, payload, AT_ONCE_BYTES, validate_produce)
}

/// Checks what may take long, on the blocking pool where it does. One that is known to be large is not tried here first.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn check_aside(
    node: &Arc<Node>,
    (request, payload): (&ProduceRequest, &Bytes),
    is_large: bool,
) -> Result<Checked, WireError> {
    let (request, payload) = (request.clone(), payload.clone());
    if !is_large {
        match check_at_once(node, &request, &payload) {
            Err(Unchecked::Larger) => {}
            Err(Unchecked::Refused(error)) => return Err(error),
            Ok(checked) => return Ok(checked),
        }
    }
    let full = ProduceLimits::default().decompressed_bytes_max;
    for (lane, most) in [(&node.budget.decompression, BESIDE_BYTES), (&node.budget.large_decompression, full)] {
        let lent = lane.lend(most).await;
        let (node, request, payload) = (node.clone(), request.clone(), payload.clone());
        let aside = move || {
            // Goes with the thread's work, whoever still waits for it.
            let _lent = lent;
            check(&node, &request, &payload, most, |payload, limits| {
                validate_within(payload, limits, &mut Scratch::roomy(most))
            })
        };
        match tokio::task::spawn_blocking(aside).await {
            Ok(Ok(checked)) => return Ok(checked),
            Ok(Err(Unchecked::Refused(error))) => return Err(error),
            Ok(Err(Unchecked::Larger)) => {}
            Err(_) => break,
        }
    }
    Err(WireError::new(ErrorCode::Internal, "the batches could not be checked; nothing was written"))
}

/// What is to be appended, and where.
pub(crate) struct Checked {
    partition: Handle,
    batches: ValidBatches,
}

impl Checked {
    /// The headers of the batches, in order; never empty.
    pub(crate) fn headers(&self) -> &[BatchHeader] {
        self.batches.headers()
    }
}

/// Why there is nothing.
pub(crate) enum Unchecked {
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
        validated => validated.map_err(|error| refusal(&error))?,
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

/// What is wrong with the batches, and what to do about it.
fn refusal(error: &BatchError) -> WireError {
    let sentence = match error.remedy() {
        Some(remedy) => format!("{error}; {remedy}: nothing was written"),
        None => format!("{error}: nothing was written"),
    };
    WireError::new(error.code(), sentence)
}

/// What the partition is given, without a deadline and with nobody who waits.
///
/// # Errors
/// Where it is part of a transaction, and not as it should be.
pub(crate) fn prepare(
    node: &Arc<Node>,
    request: &ProduceRequest,
    (Checked { partition, batches }, asking): (Checked, Asking),
    lent: Option<Lent>,
) -> Result<(Handle, Append), WireError> {
    let is_transactional = batches.headers().iter().any(|header| header.attributes.is_transactional());
    let ask = if is_transactional { Some(transaction(node, (request, asking), &batches, &partition)?) } else { None };
    let terms = ProduceTerms::from(request);
    if let Some(lent) = &lent {
        lent.note_worth();
    }
    Ok((partition, Append { batches, terms, deadline: None, ticket: Box::new(|_| {}), lent, ask }))
}

/// What a coordinator is asked before the partition takes the first batch of a transaction.
type Ask = Box<dyn FnOnce(Word) + Send>;

/// Checks what is part of a transaction, and gives the way to its coordinator.
fn transaction(
    node: &Arc<Node>,
    (request, asking): (&ProduceRequest, Asking),
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
            let place = (partition.topic_id(), partition.partition());
            let result = ask_membership(&node, (id, asking), identity, place).await;
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
