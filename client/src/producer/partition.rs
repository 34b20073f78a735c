//! The driver of one lane: takes what the lane says to send, finishes it outside of the lock, sends it, and brings the
//! answer back. Knows connections; the rules are the lane's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::{LeaderEpoch, PartitionId, Timestamp, TopicId};

use super::identity::Identity;
use super::lane::{Belonging, Content, Lane, LinkTerms, Rules, Settled, Step};
use super::memory::{Buffers, Memory};
use super::scope::Scope;
use super::{Receipt, SendError, Settings};
use crate::ClientError;
use crate::cluster::Cluster;
use crate::net::{Connection, Refusals, Reply, Ticket};

/// What all lanes of a producer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: Settings,
    pub(super) memory: Arc<Memory>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) identity: Identity,
    /// What all lanes belong to, where they belong to a transaction.
    pub(super) transaction: Option<Scope>,
    /// No more records are taken.
    pub(super) closed: AtomicBool,
    /// The first failure since a flush told the one before.
    pub(super) first_failure: Mutex<Option<SendError>>,
}

/// The leader of a partition, as it was found.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) topic_id: TopicId,
    pub(super) leader_epoch: LeaderEpoch,
    /// The topic's limit as it was heard with the leader.
    pub(super) batch_bytes_max: usize,
    /// Who the producer is there.
    pub(super) terms: LinkTerms,
    /// Hears of what is refused of what wants no acknowledgement, as long as this leader is held for one.
    pub(super) refusals: Option<Arc<Refusals>>,
}

/// The lane of one partition and its way to the leader.
pub(super) struct Partition {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: Arc<str>,
    pub(super) id: PartitionId,
    /// The topic's limit as it was heard last, shared by all its partitions.
    batch_bytes_max: Arc<AtomicUsize>,
    state: Mutex<State>,
}

/// Behind the lock.
pub(super) struct State {
    pub(super) lane: Lane,
    link: Option<Link>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({}/{})", self.topic, self.id)
    }
}

impl Partition {
    pub(super) fn new(
        shared: Arc<Shared>,
        topic: Arc<str>,
        batch_bytes_max: Arc<AtomicUsize>,
        id: PartitionId,
    ) -> Arc<Self> {
        let rules = Rules {
            max_in_flight: shared.settings.max_in_flight,
            linger: shared.settings.linger,
            delivery_timeout: shared.settings.delivery_timeout,
            compression: shared.settings.compression,
            idempotent: shared.settings.is_idempotent(),
            acknowledged: shared.settings.acks != Acks::None,
            transaction: shared
                .transaction
                .as_ref()
                .map(|transaction| transaction.who().map_or(Belonging::ToBeTold, Belonging::To)),
        };
        let state = Mutex::new(State { lane: Lane::new(rules), link: None });
        Arc::new(Self { shared, topic, id, batch_bytes_max, state })
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sends all that may be sent. Only for whom [`Lane::begin_drive`] told to; never with the lock held.
    pub(super) fn drive(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            if state.link.as_ref().is_some_and(|link| link.connection.is_leaving()) {
                state.lane.unlink();
            }
            let step = state.lane.step(Instant::now());
            match step {
                Step::Idle => return,
                Step::Recover => {
                    let former = state.link.take();
                    drop(state);
                    // Not under the lock: with its last handle a connection ends, and all that waits on it hears of that.
                    drop(former);
                    self.shared.cluster.runtime.spawn(super::recovery::run(Arc::clone(self)));
                    return;
                }
                Step::Send { id, content, within } => {
                    let link = state.link.clone();
                    drop(state);
                    self.send(id, content, within, link);
                }
            }
        }
    }

    fn send(self: &Arc<Self>, id: u64, content: Content, within: Duration, link: Option<Link>) {
        let payload = match self.finish(content) {
            Ok(payload) => payload,
            Err(error) => return self.answered(id, Err(error), Bytes::new()),
        };
        let Some(link) = link else {
            return self.answered(id, Err(self.no_leader()), payload);
        };
        let request = ProduceRequest {
            topic_id: link.topic_id,
            partition: self.id,
            leader_epoch: Some(link.leader_epoch),
            acks: self.shared.settings.acks,
            expected_log_end: None,
            transactional_id: self.shared.transaction.as_ref().map(|transaction| transaction.id().to_owned()),
        };
        let this = Arc::clone(self);
        let sent = payload.clone();
        let ticket = if request.acks == Acks::None {
            let written = move |written: Result<(), ClientError>| {
                let receipt = written.map(|()| this.receipt_without_answer());
                this.answered(id, receipt, sent);
            };
            Ticket::Written(Box::new(written), link.refusals.as_ref().map(|refusals| refusals.id()))
        } else {
            let handler = Box::new(move |reply: Result<Reply<'_>, ClientError>| {
                let answer = reply.and_then(|reply| reply.decode::<ProduceRequest>());
                let receipt = answer.map(|answer| Receipt {
                    partition: this.id,
                    offset: Some(answer.base_offset),
                    timestamp: answer.appended_at,
                    leader_epoch: Some(answer.leader_epoch),
                    replicas_written: answer.replicas_written,
                    replicas_flushed: answer.replicas_flushed,
                    maybe_twice: false,
                });
                this.answered(id, receipt, sent);
            });
            let is_told_apart = self.shared.settings.is_idempotent() && !self.shared.identity.is_unavailable();
            if is_told_apart { Ticket::Answered(handler) } else { Ticket::AnsweredOnce(handler) }
        };
        let timeout = within.min(self.shared.cluster.options.request_timeout);
        link.connection.submit(&request, payload, timeout, ticket);
    }

    /// The bytes of a batch; compresses where it shall.
    fn finish(&self, content: Content) -> Result<Bytes, ClientError> {
        match content {
            Content::Sealed(bytes) | Content::Failed(bytes) | Content::Oversized(bytes) => Ok(bytes),
            Content::Filling(mut builder) => {
                let finished = builder.finish(self.shared.settings.compression);
                // With compression the buffer stays with the builder.
                self.shared.buffers.give(builder.into_buffer());
                finished.map_err(|error| ClientError::Argument(error.to_string()))
            }
            Content::Away => Err(ClientError::Argument("a batch was sent twice at once".into())),
        }
    }

    fn answered(self: &Arc<Self>, id: u64, answer: Result<Receipt, ClientError>, payload: Bytes) {
        let mut state = self.state.lock();
        let settled = state.lane.answered(id, answer, payload, Instant::now());
        let undone = self.shared.transaction.is_some() && settled.as_ref().is_some_and(|it| it.failure().is_some());
        let given_up = if undone { state.lane.abandon() } else { Vec::new() };
        let drive = state.lane.begin_drive();
        drop(state);
        for settled in settled.into_iter().chain(given_up) {
            self.tell(settled);
        }
        if drive {
            self.drive();
        }
    }

    /// Has the lane hear of what this leader refuses of what wants no acknowledgement, where it says so.
    pub(super) fn hear_refusals(self: &Arc<Self>, connection: &Connection) -> Option<Arc<Refusals>> {
        let acks = self.shared.settings.acks;
        if acks != Acks::None || !acks.hears_refusals(connection.version()) {
            return None;
        }
        // The link holds what is given here, and the partition the link.
        let (this, told) = (Arc::downgrade(self), AtomicBool::new(false));
        let refused = move |error: ClientError| {
            let Some(this) = this.upgrade() else { return };
            if !told.swap(true, Ordering::Relaxed) {
                tracing::warn!(topic = %this.topic, partition = %this.id, %error, "records without acknowledgement were refused and are lost");
            }
            this.refused(error);
        };
        Some(Arc::new(connection.hear_refusals(Arc::new(refused))))
    }

    fn refused(self: &Arc<Self>, error: ClientError) {
        let mut state = self.state.lock();
        state.lane.refused(error, Instant::now());
        let drive = state.lane.begin_drive();
        drop(state);
        if drive {
            self.drive();
        }
    }

    /// Tells the outcome; the buffer and the memory are free again.
    pub(super) fn tell(&self, settled: Settled) {
        if let Some(failure) = settled.failure() {
            self.shared.first_failure.lock().get_or_insert_with(|| failure.clone());
            if let Some(transaction) = &self.shared.transaction {
                transaction.fail(failure);
                self.shared.closed.store(true, Ordering::Release);
            }
        }
        if let Some(bytes) = settled.tell() {
            self.shared.buffers.give_back(bytes);
        }
    }

    /// The open batch leaves as soon as it may, if it is still `id` (or whichever it is).
    pub(super) fn let_leave(self: &Arc<Self>, id: Option<u64>) {
        let mut state = self.state.lock();
        state.lane.let_leave(id);
        let drive = state.lane.begin_drive();
        drop(state);
        if drive {
            self.drive();
        }
    }

    /// Gives up what has no answer, and takes no more: the transaction is undone, or has ended.
    pub(super) fn abandon(&self) {
        let given_up = self.state.lock().lane.abandon();
        for settled in given_up {
            self.tell(settled);
        }
    }

    /// A leader was found.
    pub(super) fn link(self: &Arc<Self>, link: Link) {
        let (limit, terms) = (link.batch_bytes_max, link.terms);
        self.batch_bytes_max.store(limit, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.link = Some(link);
        let settled = state.lane.link(limit, terms);
        let drive = state.lane.begin_drive();
        drop(state);
        for settled in settled {
            self.tell(settled);
        }
        if drive {
            self.drive();
        }
    }

    pub(super) fn no_leader(&self) -> ClientError {
        ClientError::NoLeader { topic: self.topic.to_string(), partition: self.id }
    }

    const fn receipt_without_answer(&self) -> Receipt {
        Receipt {
            partition: self.id,
            offset: None,
            timestamp: Timestamp::NONE,
            leader_epoch: None,
            replicas_written: 0,
            replicas_flushed: 0,
            maybe_twice: false,
        }
    }
}
