//! What was pushed and not consumed yet, partition by partition. Between three parties: the readers of connections put items
//! in, the consumer takes them out, subscriptions learn where to go on. Knows nothing of records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::messages::{AbortedTransaction, CreditSignal, Position, StreamItemPush};
use tidelog_protocol::{CorrelationId, LeaderEpoch, Offset, TopicId};
use tokio::sync::Notify;

use super::{ConsumeError, TopicPartition};
use crate::ClientError;
use crate::cluster::Survivor;
use crate::net::{Connection, StreamHandler};

/// Index of a partition among those of one consumer.
pub(crate) type Slot = usize;

/// What a partition has for the consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// Batches, back to back; the partition goes on at `next_offset`.
    Batches {
        payload: Bytes,
        /// The topic that they were read from.
        topic_id: TopicId,
        next_offset: Offset,
        /// Undone transactions with batches in it, where only what is committed is read.
        aborted: Vec<AbortedTransaction>,
    },
    /// The log goes on otherwise from here: what comes next takes the place of what was read.
    PartsAt(Offset),
    /// It stands still until the program seeks.
    Failed(ConsumeError),
    /// It is read from this replica in place of its leader from now on, or from its leader again.
    Survives(Option<Survivor>),
    /// It was added to its topic: the consumer has not heard of it before, and hears this first.
    Joined(Arc<TopicPartition>),
}

/// Where the stream of a partition starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bearing {
    /// Which stream it is for; items of an older one are stale.
    pub(super) generation: u64,
    pub(super) position: Position,
    /// The leadership under which everything before it was read; `None` where nothing was.
    pub(super) last_epoch: Option<LeaderEpoch>,
    pub(super) credit_bytes: u32,
    /// There shall be no stream until the program seeks.
    pub(super) halted: bool,
}

/// The inbox of a consumer.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    prefetch_bytes: u32,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Partition>,
    /// Slots of partitions that left, to be taken again.
    free: Vec<Slot>,
    /// Partitions with an event to hand out, in turn.
    ready: VecDeque<Slot>,
    consumer: Option<Waker>,
}

#[derive(Debug)]
struct Partition {
    /// Its subscription has something to look at.
    changed: Arc<Notify>,
    generation: u64,
    position: Position,
    last_epoch: Option<LeaderEpoch>,
    queue: VecDeque<Event>,
    /// It stands in `ready`.
    listed: bool,
    paused: bool,
    /// It stands still until the program seeks.
    halted: bool,
    /// Bytes pushed and not consumed.
    held_bytes: u32,
    /// Bytes consumed and not given back as credit.
    owed_bytes: u32,
    stream: Option<(Connection, CorrelationId)>,
    /// Why the stream of this generation ended.
    ended: Option<ClientError>,
    high_watermark: Offset,
    last_stable: Offset,
}

impl Inbox {
    /// What a partition's generation is until it is halted or started anew.
    pub(super) const FIRST_GENERATION: u64 = 0;

    /// An inbox of partitions that start at these positions.
    pub(super) fn new(positions: Vec<(Position, Offset)>, prefetch_bytes: u32) -> Arc<Self> {
        let partitions = positions.into_iter().map(|(position, watermark)| Partition::new(position, watermark));
        let state =
            State { partitions: partitions.collect(), free: Vec::new(), ready: VecDeque::new(), consumer: None };
        Arc::new(Self { state: Mutex::new(state), prefetch_bytes })
    }

    /// Takes in one more partition; the consumer is told before anything of it comes.
    pub(super) fn join(&self, source: Arc<TopicPartition>, position: Position) -> Slot {
        let mut state = self.state.lock();
        let slot = state.partitions.len();
        let mut partition = Partition::new(position, Offset::ZERO);
        partition.queue.push_back(Event::Joined(source));
        state.partitions.push(partition);
        state.list(slot);
        wake(state);
        slot
    }

    /// Takes in a partition that the consumer knows of already, to be read from `position`; what lies before it was read under `last_epoch`.
    pub(super) fn admit(&self, position: Position, last_epoch: Option<LeaderEpoch>) -> Slot {
        let mut state = self.state.lock();
        let mut partition = Partition { last_epoch, ..Partition::new(position, Offset::ZERO) };
        let Some(slot) = state.free.pop() else {
            state.partitions.push(partition);
            return state.partitions.len() - 1;
        };
        // What still comes of the one that had the slot before is stale; that it may stand in `ready` remains so.
        let before = &state.partitions[slot];
        (partition.generation, partition.listed) = (before.generation + 1, before.listed);
        state.partitions[slot] = partition;
        slot
    }

    /// Lets another partition have the slot of one that was halted and has no subscription any more.
    pub(super) fn vacate(&self, slot: Slot) {
        self.state.lock().free.push(slot);
    }

    /// Wakes the subscription of a partition.
    pub(super) fn changed(&self, slot: Slot) -> Arc<Notify> {
        Arc::clone(&self.state.lock().partitions[slot].changed)
    }

    /// The next event of any partition that is not paused, in turn; or the consumer is woken once there is one.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<(Slot, Event)> {
        let mut state = self.state.lock();
        while let Some(slot) = state.ready.pop_front() {
            let partition = &mut state.partitions[slot];
            partition.listed = false;
            if partition.paused {
                continue;
            }
            if let Some(event) = partition.queue.pop_front() {
                state.list(slot);
                return Poll::Ready((slot, event));
            }
        }
        match &mut state.consumer {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.consumer = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The consumer is done with `bytes` of a partition: the broker may push as many more.
    pub(super) fn consumed(&self, slot: Slot, bytes: u32) {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        let Some(owed) = partition.give_back(bytes, self.prefetch_bytes) else { return };
        let Some((connection, stream)) = partition.stream.clone() else { return };
        partition.owed_bytes = 0;
        drop(state);
        connection.signal(&CreditSignal { stream, bytes: owed });
    }

    /// Goes on elsewhere in a partition: what was pushed so far is dropped, with what is under way.
    pub(super) fn seek(&self, slot: Slot, position: Position) {
        let dropped = {
            let mut state = self.state.lock();
            let partition = &mut state.partitions[slot];
            (partition.position, partition.last_epoch) = (position, None);
            partition.halted = false;
            partition.turn_away()
        };
        drop(dropped);
    }

    /// Stops a partition where it stands, until the program seeks: what comes of it is dropped.
    pub(super) fn halt(&self, slot: Slot) {
        let dropped = {
            let mut state = self.state.lock();
            let partition = &mut state.partitions[slot];
            partition.halted = true;
            partition.turn_away()
        };
        drop(dropped);
    }

    pub(super) fn pause(&self, slot: Slot) {
        self.state.lock().partitions[slot].paused = true;
    }

    pub(super) fn resume(&self, slot: Slot) {
        let mut state = self.state.lock();
        state.partitions[slot].paused = false;
        state.list(slot);
        wake(state);
    }

    pub(super) fn high_watermark(&self, slot: Slot) -> Offset {
        self.state.lock().partitions[slot].high_watermark
    }

    pub(super) fn last_stable(&self, slot: Slot) -> Offset {
        self.state.lock().partitions[slot].last_stable
    }

    /// Where a new stream of the partition shall start. What still comes of an older one is stale from now on.
    pub(super) fn bearing(&self, slot: Slot) -> Bearing {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        partition.generation += 1;
        partition.ended = None;
        // Whatever is owed is part of the credit that the new stream starts with.
        partition.owed_bytes = 0;
        Bearing {
            generation: partition.generation,
            position: partition.position.clone(),
            last_epoch: partition.last_epoch,
            credit_bytes: self.prefetch_bytes.saturating_sub(partition.held_bytes),
            halted: partition.halted,
        }
    }

    /// Where the partition goes on.
    pub(super) fn position(&self, slot: Slot) -> Position {
        self.state.lock().partitions[slot].position.clone()
    }

    /// A stream was opened; false where it is stale already.
    pub(super) fn opened(
        &self,
        slot: Slot,
        generation: u64,
        stream: (Connection, CorrelationId),
        watermark: Offset,
    ) -> bool {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        if partition.generation != generation {
            return false;
        }
        partition.high_watermark = partition.high_watermark.max(watermark);
        // What was consumed since the credit was counted.
        let owed = std::mem::take(&mut partition.owed_bytes);
        partition.stream = Some(stream.clone());
        drop(state);
        if owed > 0 {
            stream.0.signal(&CreditSignal { stream: stream.1, bytes: owed });
        }
        true
    }

    /// The partition has no stream any more.
    pub(super) fn closed(&self, slot: Slot) {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        let stream = partition.stream.take();
        drop(state);
        drop(stream);
    }

    /// True where a stream of this generation is to be given up: it ended (then why), or the program has sought elsewhere.
    pub(super) fn verdict(&self, slot: Slot, generation: u64) -> Option<Option<ClientError>> {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        if partition.generation != generation {
            return Some(None);
        }
        partition.ended.take().map(Some)
    }

    /// Tells the consumer that a partition stands still.
    pub(super) fn fail(&self, slot: Slot, generation: u64, error: ConsumeError) {
        let mut state = self.state.lock();
        if state.partitions[slot].generation == generation {
            state.partitions[slot].halted = true;
            state.partitions[slot].queue.push_back(Event::Failed(error));
            state.list(slot);
            wake(state);
        }
    }

    /// Lets a partition go on where its log parts from what was read.
    pub(super) fn part_at(&self, slot: Slot, generation: u64, offset: Offset) {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        if partition.generation == generation {
            (partition.position, partition.last_epoch) = (Position::offset(offset), None);
            partition.queue.push_back(Event::PartsAt(offset));
            state.list(slot);
            wake(state);
        }
    }

    /// Tells the consumer from whom a partition is read.
    pub(super) fn survives(&self, slot: Slot, generation: u64, survivor: Option<Survivor>) {
        let mut state = self.state.lock();
        if state.partitions[slot].generation == generation {
            state.partitions[slot].queue.push_back(Event::Survives(survivor));
            state.list(slot);
            wake(state);
        }
    }

    /// Lets a partition start elsewhere without dropping what was pushed, as the out-of-range policy says.
    pub(super) fn reposition(&self, slot: Slot, generation: u64, position: Position) {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot];
        if partition.generation == generation {
            (partition.position, partition.last_epoch) = (position, None);
        }
    }
}

impl Partition {
    /// The program is done with `bytes`; says how much credit to give back, where it is time to.
    ///
    /// In a few large steps, not with every item. The broker never runs dry for it: what is neither held nor owed, three quarters
    /// and more where nothing is held, is credit that it still has or bytes on their way here.
    const fn give_back(&mut self, bytes: u32, prefetch_bytes: u32) -> Option<u32> {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        self.owed_bytes += bytes;
        if self.owed_bytes < prefetch_bytes / 4 { None } else { Some(self.owed_bytes) }
    }

    fn new(position: Position, readable_end: Offset) -> Self {
        Self {
            changed: Arc::default(),
            generation: Inbox::FIRST_GENERATION,
            position,
            last_epoch: None,
            queue: VecDeque::new(),
            listed: false,
            paused: false,
            halted: false,
            held_bytes: 0,
            owed_bytes: 0,
            stream: None,
            ended: None,
            high_watermark: readable_end,
            last_stable: readable_end,
        }
    }

    /// What still comes of the stream there is goes nowhere from now on; what was pushed is handed back to be dropped.
    fn turn_away(&mut self) -> VecDeque<Event> {
        self.generation += 1;
        self.held_bytes = 0;
        self.owed_bytes = 0;
        self.ended = None;
        self.changed.notify_one();
        std::mem::take(&mut self.queue)
    }
}

impl State {
    /// Puts a partition in line where it has something to hand out.
    fn list(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot];
        if !partition.listed && !partition.paused && !partition.queue.is_empty() {
            partition.listed = true;
            self.ready.push_back(slot);
        }
    }
}

/// Wakes the consumer, after the lock is gone.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = if state.ready.is_empty() { None } else { state.consumer.take() };
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Puts the items of one stream into the inbox.
pub(super) struct Intake {
    pub(super) inbox: Arc<Inbox>,
    pub(super) slot: Slot,
    pub(super) generation: u64,
    pub(super) topic_id: TopicId,
}

impl StreamHandler for Intake {
    fn item(&self, item: StreamItemPush, payload: Bytes) {
        let mut state = self.inbox.state.lock();
        let partition = &mut state.partitions[self.slot];
        if partition.generation != self.generation {
            return;
        }
        (partition.high_watermark, partition.last_stable) = (item.high_watermark, item.last_stable);
        let next = Position::offset(item.next_offset);
        if payload.is_empty() && partition.position == next {
            return;
        }
        (partition.position, partition.last_epoch) = (next, Some(item.leader_epoch));
        partition.held_bytes += payload.len() as u32;
        let (topic_id, next_offset, aborted) = (self.topic_id, item.next_offset, item.aborted);
        partition.queue.push_back(Event::Batches { payload, topic_id, next_offset, aborted });
        state.list(self.slot);
        wake(state);
    }

    fn ended(&self, error: ClientError) {
        let mut state = self.inbox.state.lock();
        let partition = &mut state.partitions[self.slot];
        if partition.generation != self.generation {
            return;
        }
        partition.ended = Some(error);
        partition.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_goes_back_in_large_steps_and_before_the_broker_can_run_dry() {
        let prefetch = 1 << 20;
        let mut partition = Partition::new(Position::offset(Offset::ZERO), Offset::ZERO);
        // The broker's side: what it may still push.
        let (mut credit, mut steps) = (prefetch, 0);
        for _ in 0..10_000 {
            let item = 1_000.min(credit);
            assert!(credit > prefetch / 2, "the broker is about to run dry");
            credit -= item;
            partition.held_bytes += item;
            if let Some(owed) = partition.give_back(item, prefetch) {
                partition.owed_bytes = 0;
                credit += owed;
                steps += 1;
            }
        }
        assert_eq!(steps, 10_000 * 1_000 / (1_000 * (prefetch / 4).div_ceil(1_000)));
    }
}
