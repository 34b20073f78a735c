//! Produce: one batch for each partition, checked and appended as the native protocol's are. The answer leaves when all of them are as safe as was
//! asked for. What takes long to check goes over the blocking pool, and what the same client sent after it waits behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::produce::{
    LeaderIdAndEpoch, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use tidelog_protocol::messages::{Acks, ProduceRequest as Native};
use tidelog_protocol::{ErrorCode, Offset, WireError};

use super::reply::Reply;
use super::topics::{NO_ID, code, find, node_id, partition_id};
use super::transactions::written_code;
use super::{Asked, decode};
use crate::budget::Lent;
use crate::coordinators::Asking;
use crate::node::Node;
use crate::operations::produce::{Checked, Unchecked, check_aside, check_at_once, prepare};
use crate::partition::Acked;

pub(super) fn handle(mut asked: Asked<'_>) -> Result<(), String> {
    let request = decode::<ProduceRequest>(&mut asked.message, asked.header.api_version)?;
    let Asked { node, client, header, arrived, lent, .. } = asked;
    let reply = client.reply_to(tidelog_protocol::kafka::ApiKey::Produce, header.api_version, header.correlation_id);
    let (parts, outcome) = parts(node, request, arrived, reply);
    let produce = Produce { parts, outcome, lent };
    if client.session.detour.is_taken() {
        detour(node, produce);
        return Ok(());
    }
    let checked = produce.parts.iter().map(|part| part.check(node)).collect::<Result<Vec<_>, Larger>>();
    match checked {
        Ok(checked) => finish(node, produce, checked),
        Err(Larger) => detour(node, produce),
    }
    Ok(())
}

/// A request that is to be carried out.
struct Produce {
    parts: Vec<Part>,
    outcome: Arc<Outcome>,
    lent: Option<Lent>,
}

/// What is for one partition.
struct Part {
    /// Its topic and its place there, in the answer.
    at: (usize, usize),
    /// What is asked of the partition, or why nothing can be.
    asked: Result<(Native, Bytes), Refused>,
}

/// A check would take long.
struct Larger;

/// Why nothing was written, or what became of it is unknown.
struct Refused {
    error: KafkaError,
    message: String,
    /// Where the log begins, as far as that is told: Kafka's own client sends again what it sent to a log that does not know it, and makes
    /// nothing of such an answer without this.
    log_start: Option<Offset>,
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        let error_code = match error.code {
            // Clients know these of a coordinator alone, and try again after this one.
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoading | ErrorCode::NotCoordinator => {
                KafkaError::NotEnoughReplicas
            }
            _ => written_code(&error).unwrap_or_else(|| code(&error)),
        };
        Self { error: error_code, message: error.message, log_start: error.range.map(|(log_start, _)| log_start) }
    }
}

fn refused<T>(error: KafkaError, message: &str) -> Result<T, Refused> {
    Err(Refused { error, message: message.into(), log_start: None })
}

type Looked = Result<Checked, Refused>;

impl Part {
    fn check(&self, node: &Node) -> Result<Looked, Larger> {
        let Ok((request, payload)) = &self.asked else { return Ok(refused(KafkaError::None, "")) };
        match check_at_once(node, request, payload) {
            Err(Unchecked::Larger) => Err(Larger),
            Err(Unchecked::Refused(error)) => Ok(Err(error.into())),
            Ok(checked) => Ok(one_batch(checked)),
        }
    }

    async fn check_aside(&self, node: &Arc<Node>) -> Looked {
        let Ok((request, payload)) = &self.asked else { return refused(KafkaError::None, "") };
        one_batch(check_aside(node, (request, payload), false).await?)
    }
}

fn one_batch(checked: Checked) -> Looked {
    match checked.headers() {
        [_] => Ok(checked),
        _ => refused(KafkaError::InvalidRecord, "a request holds one batch for each partition; nothing was written"),
    }
}

/// What is asked of each partition, and the answer as it comes about.
fn parts(node: &Node, request: ProduceRequest, arrived: Instant, reply: Reply) -> (Vec<Part>, Arc<Outcome>) {
    let image = node.controllers.image();
    let acks = match request.acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    };
    let (mut parts, mut responses) = (Vec::new(), Vec::with_capacity(request.topic_data.len()));
    for (topic_at, data) in request.topic_data.into_iter().enumerate() {
        let topic = find(&image, NO_ID, &data.name);
        let mut partition_responses = Vec::with_capacity(data.partition_data.len());
        for (at, data) in data.partition_data.into_iter().enumerate() {
            partition_responses.push(PartitionProduceResponse { index: data.index, ..Default::default() });
            let native = || {
                let Some(acks) = acks else {
                    return refused(KafkaError::InvalidRequiredAcks, "acks are 0, 1 or -1 (all); nothing was written");
                };
                let of_error = |error: KafkaError| {
                    let message = "there is no such partition".into();
                    Refused { error, message, log_start: None }
                };
                let Some(records) = data.records.clone() else {
                    return refused(KafkaError::InvalidRecord, "there is no batch; nothing was written");
                };
                let native = Native {
                    topic_id: topic.as_ref().map_err(|error| of_error(*error))?.id,
                    partition: partition_id(data.index).map_err(of_error)?,
                    leader_epoch: None,
                    acks,
                    expected_log_end: None,
                    transactional_id: request.transactional_id.clone(),
                };
                Ok((native, records))
            };
            parts.push(Part { at: (topic_at, at), asked: native() });
        }
        responses.push(TopicProduceResponse { name: data.name, partition_responses });
    }
    let progress = Progress { missing: parts.len(), responses, reply: Some(reply), fault: None, lent: None };
    let deadline = arrived + Duration::from_millis(request.timeout_ms.max(0) as u64);
    (parts, Arc::new(Outcome { progress: Mutex::new(progress), deadline, is_silent: acks == Some(Acks::None) }))
}

/// Checks it behind what its client sent before and is still being checked.
fn detour(node: &Arc<Node>, produce: Produce) {
    let checking = node.clone();
    let Some(session) = produce.outcome.progress.lock().reply.as_ref().map(|reply| reply.client.session.clone()) else {
        return;
    };
    let closed = session.closed.clone();
    let work = Box::pin(async move {
        let mut checked = Vec::with_capacity(produce.parts.len());
        for part in &produce.parts {
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                part = part.check_aside(&checking) => checked.push(part),
            }
        }
        finish(&checking, produce, checked);
    });
    if let Some(work) = session.detour.enter(work) {
        node.tasks.spawn(async move { session.detour.run(work).await });
    }
}

/// Hands the batches to their partitions, or says why not.
fn finish(node: &Arc<Node>, produce: Produce, checked: Vec<Looked>) {
    let Produce { parts, outcome, mut lent } = produce;
    if parts.is_empty() {
        outcome.progress.lock().lent = lent;
        return outcome.progress.lock().answer(outcome.is_silent);
    }
    let is_alone = parts.len() == 1;
    if !is_alone {
        // Several share it: it is given back with the answer.
        outcome.progress.lock().lent = lent.take();
    }
    for (part, checked) in parts.into_iter().zip(checked) {
        let at = part.at;
        let prepared = part.asked.and_then(|(request, _)| {
            let lent = lent.take();
            let (partition, append) = prepare(node, &request, (checked?, Asking::WhetherTakenIn), lent)?;
            Ok((partition, append, request))
        });
        match prepared {
            Ok((partition, mut append, request)) => {
                if let Some(lent) = &outcome.progress.lock().lent {
                    lent.note_worth();
                }
                append.deadline = Some(outcome.deadline);
                let (node, outcome) = (node.clone(), outcome.clone());
                let mut waiting = Waiting { outcome: outcome.clone(), at, is_settled: false };
                let node = node.clone();
                append.ticket = Box::new(move |result| {
                    let failed = |error: WireError| {
                        let leader = leader_elsewhere(&node, &request, &error);
                        (Refused::from(error), leader)
                    };
                    waiting.settle(result.map(Some).map_err(failed));
                });
                partition.append(append);
            }
            Err(refusal) => {
                node.metrics.produce_refused.inc();
                outcome.settle(at, Err((refusal, None)));
            }
        }
    }
}

/// Who leads instead, so that the client need not ask.
fn leader_elsewhere(node: &Node, request: &Native, error: &WireError) -> Option<LeaderIdAndEpoch> {
    if error.code != ErrorCode::NotLeader {
        return None;
    }
    let image = node.controllers.image();
    let state = image.topic(request.topic_id)?.partition(request.partition)?;
    let leader = state.leader.filter(|leader| *leader != node.broker_id)?;
    Some(LeaderIdAndEpoch { leader_id: node_id(leader), leader_epoch: state.leader_epoch.signed() })
}

/// What became of a batch; nothing is known of one that wants no acknowledgement. Where another broker leads, who.
type Settled = Result<Option<Acked>, (Refused, Option<LeaderIdAndEpoch>)>;

/// Waits for what becomes of a batch.
struct Waiting {
    outcome: Arc<Outcome>,
    at: (usize, usize),
    is_settled: bool,
}

impl Waiting {
    fn settle(&mut self, result: Settled) {
        self.is_settled = true;
        self.outcome.settle(self.at, result);
    }
}

impl Drop for Waiting {
    /// A partition says nothing of what wants no acknowledgement. Of anything else an answer is missing, and the request gets none.
    fn drop(&mut self) {
        if !self.is_settled && self.outcome.is_silent {
            self.settle(Ok(None));
        }
    }
}

/// The answer to one request as it comes about.
struct Outcome {
    progress: Mutex<Progress>,
    deadline: Instant,
    /// The client wants no answer.
    is_silent: bool,
}

struct Progress {
    missing: usize,
    responses: Vec<TopicProduceResponse>,
    reply: Option<Reply>,
    /// The first thing that went wrong, for a client that gets no answer.
    fault: Option<String>,
    /// The memory that the request takes, where its parts share it.
    lent: Option<Lent>,
}

impl Outcome {
    fn settle(&self, (topic, at): (usize, usize), result: Settled) {
        let mut progress = self.progress.lock();
        let has_sentence = progress.reply.as_ref().is_some_and(|reply| reply.version() >= 8);
        let place = progress.responses.get_mut(topic).and_then(|topic| topic.partition_responses.get_mut(at));
        let mut fault = None;
        if let Some(response) = place {
            match result {
                Ok(None) => {}
                Ok(Some(acked)) => {
                    response.base_offset = acked.base_offset.signed();
                    response.log_start_offset = acked.log_start.signed();
                }
                Err((Refused { error, message, log_start }, leader)) => {
                    response.error_code = error.code();
                    response.base_offset = -1;
                    response.log_start_offset = log_start.map_or(-1, Offset::signed);
                    response.current_leader = leader.unwrap_or_default();
                    fault = Some(message.clone());
                    response.error_message = has_sentence.then_some(message);
                }
            }
        }
        progress.fault = progress.fault.take().or(fault);
        progress.missing -= 1;
        if progress.missing == 0 {
            progress.answer(self.is_silent);
        }
    }
}

impl Progress {
    fn answer(&mut self, is_silent: bool) {
        let lent = self.lent.take();
        let Some(reply) = self.reply.take() else { return };
        if is_silent {
            if let Some(fault) = self.fault.take() {
                reply.client.end(format!("a batch that wants no acknowledgement was not written: {fault}"));
            }
            return reply.stay_silent();
        }
        let response = ProduceResponse { responses: std::mem::take(&mut self.responses), ..Default::default() };
        reply.send_within(&response, lent);
    }
}
