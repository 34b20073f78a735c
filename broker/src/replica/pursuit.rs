//! One task for each leader that is followed: takes the questions and reports of all partitions there over one connection, and brings
//! answers and batches to their owners. A connection that breaks is dialled again with growing, jittered pauses; owners ask again then.
//!
//! How much is under way is bounded by the credit of each stream, and for all streams of a leader by not reading further. Knows nothing
//! of what is asked or pushed, but for the checksums of batches.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::FrameKind;
use tidelog_protocol::messages::{
    CreditSignal, EpochEndRequest, EpochEndResponse, PartitionProgress, ProducersSnapshot, ReplicaItemPush,
    ReplicaProgressSignal, ReplicaStreamOutcome, ReplicaSubscribeRequest, ReplicaSubscribeResponse, UnsubscribeRequest,
};
use tidelog_protocol::records::{BatchError, BatchHeader, Batches};
use tidelog_protocol::{BrokerId, CorrelationId};
use tidelog_replication::{EpochEnd, EpochEndAnswer, FollowAnswer, FollowOutcome, Offer, ReplicaEnds, ReplicaProgress};
use tracing::{debug, info, warn};

use super::board::{Board, Slate};
use super::link::{Incoming, Link, LinkError, Reads};
use super::streams::{State, Streams};
use crate::node::Node;
use crate::partition::{Attempt, Command, Question, Replica, Replicated};

/// Bytes that a leader may push of one partition before they are taken here.
const CREDIT_BYTES: u32 = 4 << 20;
/// Credit is given back in steps of this.
const CREDIT_STEP_BYTES: u32 = CREDIT_BYTES / 4;
/// Largest item, in bytes.
const ITEM_BYTES_MAX: u32 = 1 << 20;
/// No more is read from a leader while so many bytes wait for their owners.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// A leader that leaves a question unanswered for so long is dialled anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before the second dial, and the longest.
const DIAL_FIRST: Duration = Duration::from_millis(50);
const DIAL_MAX: Duration = Duration::from_secs(1);
/// How often the connection is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Frames handled in a row before the rest of the loop has its turn.
const FRAMES_TOGETHER: usize = 64;

/// Begins a pursuit of every leader that appears on the board.
pub(super) async fn follow_leaders(node: Arc<Node>, board: Arc<Board>) {
    let mut known = HashSet::new();
    loop {
        for (leader, slate) in board.leaders() {
            if known.insert(leader) {
                let pursuit =
                    Pursuit { node: node.clone(), leader, slate, streams: Streams::default(), waiting: Arc::default() };
                node.vital.spawn("pursuit of a leader", pursuit.run());
            }
        }
        tokio::select! {
            () = node.connections_close.cancelled() => return,
            () = board.appeared() => {}
        }
    }
}

struct Pursuit {
    node: Arc<Node>,
    leader: BrokerId,
    slate: Arc<Slate>,
    streams: Streams,
    /// Bytes that wait for their owners.
    waiting: Arc<AtomicUsize>,
}

impl Pursuit {
    async fn run(mut self) {
        let ends = self.node.connections_close.clone();
        ends.run_until_cancelled(self.pursue()).await;
    }

    async fn pursue(&mut self) -> Infallible {
        let mut failures = 0;
        loop {
            while self.streams.is_empty() {
                self.slate.news().await;
                self.take_news(None);
            }
            match self.connect().await {
                Ok(mut link) => {
                    failures = 0;
                    info!(leader = %self.leader, "following");
                    match self.serve(&mut link).await {
                        Ok(()) => debug!(leader = %self.leader, "nothing is followed from there any more"),
                        Err(error) => warn!(leader = %self.leader, %error, "the connection to a leader broke"),
                    }
                }
                Err(error) if failures == 0 => {
                    warn!(leader = %self.leader, %error, "a leader cannot be reached; it is tried again")
                }
                Err(error) => debug!(leader = %self.leader, %error, "a leader cannot be reached"),
            }
            for replica in self.streams.disconnected() {
                self.interrupt(replica);
            }
            self.pause(failures).await;
            failures += 1;
        }
    }

    async fn connect(&self) -> Result<Link, LinkError> {
        let image = self.node.controllers.image();
        let Some(broker) = image.broker(self.leader) else {
            return Err(std::io::Error::other("the metadata does not know its address").into());
        };
        Link::dial(&self.node, self.leader, (&broker.host, broker.port)).await
    }

    /// Waits before the next dial, but no longer than until something new is asked: the leader may be back.
    async fn pause(&mut self, failures: u32) {
        let bound = DIAL_FIRST.saturating_mul(1 << failures.min(10)).min(DIAL_MAX);
        let until = Instant::now() + bound.mul_f64(0.5 + 0.5 * fastrand::f64());
        // Those that the end of the connection had ask again: news that is none.
        self.take_news(None);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => return,
                () = self.slate.news() => {
                    if self.take_news(None) {
                        return;
                    }
                }
            }
        }
    }

    /// Serves until the connection breaks, or nothing is followed any more.
    async fn serve(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.take_news(Some(link));
            self.ask_pending(link);
            self.end_pauses();
            let mut more = true;
            for _ in 0..FRAMES_TOGETHER {
                match link.next_frame()? {
                    Some(incoming) => self.handle(incoming)?,
                    None => {
                        more = false;
                        break;
                    }
                }
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            if self.streams.is_empty() {
                return Ok(());
            }
            let reads = if self.waiting.load(Ordering::Acquire) > WAITING_BYTES_MAX { Reads::Off } else { Reads::On };
            let due = self.streams.next_due();
            tokio::select! {
                driven = link.drive(reads) => driven?,
                () = self.slate.news() => {}
                () = sleep_until(due), if due.is_some() => {}
                _ = look.tick() => {
                    let now = Instant::now();
                    if reads == Reads::Off {
                        link.was_not_read(now);
                    }
                    link.keep_alive(now)?;
                    if let Some(then) = now.checked_sub(ANSWER_TIMEOUT)
                        && self.streams.waits_since(then)
                    {
                        return Err(LinkError::Silent(ANSWER_TIMEOUT));
                    }
                }
            }
        }
    }

    /// Takes what owners want from the board; true where one of them asks something. Without a connection questions wait, and reports are
    /// worth nothing: the leader asks anew.
    fn take_news(&mut self, mut link: Option<&mut Link>) -> bool {
        let mut asks = false;
        let mut reports = Vec::new();
        for (replica, wanted) in self.slate.take() {
            let mut ended = if wanted.left { self.streams.left(replica) } else { None };
            if let Some((attempt, question)) = wanted.question {
                asks = true;
                ended = ended.or(self.streams.asked(replica, attempt, question));
            }
            let Some(link) = &mut link else { continue };
            if let Some(stream) = ended {
                link.request(&UnsubscribeRequest { stream }, 0);
            }
            if wanted.refill {
                self.refill(replica, link);
            }
            reports.extend(wanted.report.map(|report| (replica, report)));
        }
        if let (Some(link), Some((_, first))) = (link, reports.first()) {
            let (replica, broker_epoch) = (first.replica, first.broker_epoch);
            // A broker that has registered anew speaks for itself alone.
            reports.retain(|(_, report)| report.broker_epoch == broker_epoch);
            let partitions = reports.into_iter().map(progress).collect();
            link.signal(&ReplicaProgressSignal { replica, broker_epoch, partitions });
        }
        asks
    }

    fn refill(&self, replica: Replica, link: &mut Link) {
        let Some(followed) = self.streams.find(replica) else { return };
        let State::Streaming(stream) = followed.state else { return };
        let bytes = followed.taken.swap(0, Ordering::AcqRel);
        if bytes > 0 {
            link.signal(&CreditSignal { stream, bytes });
        }
    }

    fn ask_pending(&mut self, link: &mut Link) {
        for (replica, question) in self.streams.pending() {
            let Replica { topic_id, partition } = replica;
            let correlation = match question {
                Question::EpochEnd { leader_epoch, epoch } => {
                    link.request(&EpochEndRequest { topic_id, partition, leader_epoch, epoch }, 0)
                }
                Question::Follow { terms, wants_producers } => link.request(
                    &ReplicaSubscribeRequest {
                        topic_id,
                        partition,
                        replica: terms.replica,
                        broker_epoch: terms.broker_epoch,
                        leader_epoch: terms.leader_epoch,
                        from: terms.from,
                        last_epoch: terms.last_epoch,
                        credit_bytes: CREDIT_BYTES,
                        item_bytes_max: ITEM_BYTES_MAX,
                        wants_producers,
                    },
                    0,
                ),
                Question::Pause => continue,
            };
            self.streams.sent(replica, question, correlation);
        }
    }

    fn end_pauses(&mut self) {
        for replica in self.streams.due(Instant::now()) {
            self.interrupt(replica);
        }
    }

    /// Tells the owner that nothing came of its question.
    fn interrupt(&mut self, replica: Replica) {
        let Some(followed) = self.streams.find(replica) else { return };
        let command = Command::Interrupted { attempt: followed.attempt };
        match self.partition(replica) {
            Some(partition) => {
                self.streams.told(replica);
                partition.submit(command);
            }
            // It is being opened still.
            None => self.streams.failed(replica),
        }
    }

    fn partition(&self, replica: Replica) -> Option<crate::partition::Handle> {
        self.node.registry.find(replica.topic_id, replica.partition).ok().map(|(handle, _)| handle)
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), LinkError> {
        // Answers to pings, and what comes for a question that was taken back.
        let Some(replica) = self.streams.whose(incoming.correlation) else { return Ok(()) };
        let Some(followed) = self.streams.find(replica) else { return Ok(()) };
        let attempt = followed.attempt;
        match (incoming.kind, incoming.api, followed.state) {
            (FrameKind::Response, Some(Api::EpochEnd), State::Asked(..)) => {
                match incoming.message::<EpochEndResponse>()? {
                    Ok(response) => {
                        let answer = epoch_end(response);
                        self.answer(replica, Command::EpochEndAnswered { attempt, answer });
                    }
                    Err(error) => self.refused(replica, &error),
                }
            }
            (FrameKind::Response, Some(Api::ReplicaSubscribe), State::Asked(..)) => {
                match incoming.message::<ReplicaSubscribeResponse>()? {
                    Ok(response) => self.followed(replica, attempt, (incoming.correlation, response)),
                    Err(error) => self.refused(replica, &error),
                }
            }
            (FrameKind::Push, Some(Api::ReplicaItem), State::Streaming(_)) => {
                match incoming.message::<ReplicaItemPush>()? {
                    Ok(item) => self.deliver(replica, attempt, (item, incoming)),
                    Err(error) => self.refused(replica, &error),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Expected for a moment where this broker and the leader do not have the same metadata.
    fn refused(&mut self, replica: Replica, error: &tidelog_protocol::WireError) {
        debug!(leader = %self.leader, topic = %replica.topic_id, partition = %replica.partition, %error, "the leader refuses; it is asked again");
        self.streams.failed(replica);
    }

    fn followed(
        &mut self,
        replica: Replica,
        attempt: Attempt,
        (correlation, response): (CorrelationId, ReplicaSubscribeResponse),
    ) {
        let opens = response.outcome == ReplicaStreamOutcome::Streams;
        let (answer, producers) = follow_answer(response);
        let command = Command::FollowAnswered { attempt, answer, producers };
        if !opens {
            return self.answer(replica, command);
        }
        match self.partition(replica) {
            Some(partition) => {
                self.streams.opened(replica, correlation);
                // Here, so that it is known before the first item comes.
                partition.submit(command);
            }
            None => self.streams.failed(replica),
        }
    }

    /// Gives an owner an answer after which it may cut its log.
    fn answer(&mut self, replica: Replica, command: Command) {
        match self.partition(replica) {
            Some(partition) => {
                self.streams.told(replica);
                tokio::task::spawn_blocking(move || partition.submit(command));
            }
            None => self.streams.failed(replica),
        }
    }

    fn deliver(&mut self, replica: Replica, attempt: Attempt, (item, incoming): (ReplicaItemPush, Incoming)) {
        let (Some(partition), Some(followed)) = (self.partition(replica), self.streams.find(replica)) else {
            return self.streams.failed(replica);
        };
        let payload = incoming.payload;
        let headers = match verified(&payload) {
            Ok(headers) => headers,
            Err(error) => {
                warn!(leader = %self.leader, topic = %partition.topic(), partition = %partition.partition(), %error, "the leader pushed a damaged batch: it is not taken, and asked for again");
                return self.streams.failed(replica);
            }
        };
        let bytes = payload.len();
        let (slate, taken, waiting) = (self.slate.clone(), followed.taken.clone(), self.waiting.clone());
        waiting.fetch_add(bytes, Ordering::AcqRel);
        let taken = Box::new(move || {
            if waiting.fetch_sub(bytes, Ordering::AcqRel) > WAITING_BYTES_MAX {
                slate.poke();
            }
            let before = taken.fetch_add(bytes as u32, Ordering::AcqRel);
            if before + bytes as u32 >= CREDIT_STEP_BYTES {
                slate.refill(replica);
            }
        });
        let ReplicaItemPush { leader_epoch, high_watermark, log_start } = item;
        let offer = Offer { leader_epoch, high_watermark, log_start };
        self.streams.delivered(replica);
        partition.submit(Command::Replicated(Replicated { attempt, offer, payload, headers, taken }));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The headers of whole batches whose checksums hold.
fn verified(payload: &[u8]) -> Result<SmallVec<[BatchHeader; 4]>, BatchError> {
    let header = |batch: Result<tidelog_protocol::records::RawBatch<'_>, BatchError>| {
        let batch = batch?;
        batch.verify_crc()?;
        Ok(*batch.header())
    };
    Batches::compacted(payload).map(header).collect()
}

fn progress((replica, report): (Replica, ReplicaProgress)) -> PartitionProgress {
    let ReplicaEnds { written_end, flushed_end } = report.ends;
    let Replica { topic_id, partition } = replica;
    PartitionProgress { topic_id, partition, leader_epoch: report.epoch, written_end, flushed_end }
}

fn epoch_end(response: EpochEndResponse) -> EpochEndAnswer {
    let EpochEndResponse { leader_epoch, epoch, end, log_start } = response;
    let end = end.map(|end| EpochEnd { epoch: end.epoch, end: end.end });
    EpochEndAnswer { leader_epoch, asked: epoch, end, log_start }
}

fn follow_answer(response: ReplicaSubscribeResponse) -> (FollowAnswer, Option<Box<ProducersSnapshot>>) {
    let ReplicaSubscribeResponse { leader_epoch, from, log_start, outcome, end, producers } = response;
    let outcome = match outcome {
        ReplicaStreamOutcome::Streams => FollowOutcome::Streams,
        ReplicaStreamOutcome::Diverged => {
            FollowOutcome::Diverged { end: end.map(|end| EpochEnd { epoch: end.epoch, end: end.end }) }
        }
        ReplicaStreamOutcome::OutOfRange => FollowOutcome::OutOfRange,
    };
    (FollowAnswer { leader_epoch, from, log_start, outcome }, producers.map(Box::new))
}
