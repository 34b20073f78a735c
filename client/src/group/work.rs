//! What a member works on: the partitions it was given, the records handed out of each, and what may be committed. Shared by the program,
//! which takes records, and by the member's tasks, which add and take away partitions. Knows nothing of the coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidelog_protocol::messages::Position;
use tidelog_protocol::{Monotonic, Offset, PartitionId};

use super::GroupError;
use super::member::Place;
use super::progress::{Progress, Reached};
use crate::consumer::{self, Slot};
use crate::{Consumer, ConsumerRecord, TopicPartition};

/// Which stay of a partition with this member: it may come, go, and come again, and be moved by a seek.
pub(super) type Run = u64;

/// What a member works on.
pub(super) struct Work {
    reader: Consumer,
    claims: BTreeMap<Place, Claim>,
    /// Who has which slot of the reader.
    slots: Vec<Option<Place>>,
    runs: Run,
    unfinished_max: usize,
    /// The member's session may have ended from then on: nothing is handed out.
    valid_until: Monotonic,
    /// For the program, which has not been told.
    errors: VecDeque<GroupError>,
    ended: bool,
    program: Option<Waker>,
}

/// A partition that the member works on.
struct Claim {
    run: Run,
    source: Option<Arc<TopicPartition>>,
    /// The program was told that it came.
    announced: bool,
    /// Where it is read; `None` before its place is found, and while it is let go of.
    slot: Option<Slot>,
    /// `None` until the partition is let go of.
    left: Option<Left>,
    progress: Progress,
    /// Records in the program's hands.
    in_hand: usize,
    /// What the coordinator has.
    committed: Option<Offset>,
    paused: bool,
    /// It waits for its oldest unfinished record.
    full: bool,
}

/// How a partition was let go of.
#[derive(Clone, Copy)]
enum Left {
    /// It had not been read yet: what is committed of it stays as it is.
    Unread,
    /// The next record would have been this.
    At(Reached),
}

/// A record handed out, and where it belongs.
pub(super) struct Handed {
    pub(super) record: ConsumerRecord,
    pub(super) place: Place,
    pub(super) run: Run,
}

/// What may be committed of a partition.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) place: Place,
    pub(super) source: Arc<TopicPartition>,
    pub(super) reached: Reached,
    pub(super) committed: Option<Offset>,
}

impl Work {
    pub(super) const fn new(reader: Consumer, unfinished_max: usize) -> Self {
        Self {
            reader,
            claims: BTreeMap::new(),
            slots: Vec::new(),
            runs: 0,
            unfinished_max,
            valid_until: Monotonic(0),
            errors: VecDeque::new(),
            ended: false,
            program: None,
        }
    }

    /// The next record of any partition; `None` once the member has ended and everything was told.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        now: Monotonic,
    ) -> Poll<Option<Result<Handed, GroupError>>> {
        if let Some(error) = self.errors.pop_front() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match &mut self.program {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.program = Some(cx.waker().clone()),
        }
        if now >= self.valid_until {
            return Poll::Pending;
        }
        let delivery = match self.reader.poll_delivery(cx) {
            Poll::Ready(Ok(delivery)) => delivery,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => return Poll::Pending,
        };
        let consumer::Delivery { slot, record, leader_epoch } = delivery;
        let Some((place, claim)) = self.slots[slot].and_then(|place| Some((place, self.claims.get_mut(&place)?)))
        else {
            // A slot that is read is somebody's.
            return Poll::Pending;
        };
        claim.progress.hand_out(record.offset, leader_epoch, now);
        claim.in_hand += 1;
        if claim.progress.kept() >= self.unfinished_max {
            claim.full = true;
            self.reader.set_aside(slot);
        }
        Poll::Ready(Some(Ok(Handed { record, place, run: claim.run })))
    }

    /// The member's session may have ended from then on.
    #[must_use]
    pub(super) fn extend(&mut self, valid_until: Monotonic, now: Monotonic) -> Option<Waker> {
        let was_over = self.valid_until <= now;
        self.valid_until = valid_until;
        // Whoever asked meanwhile was sent to sleep.
        if was_over && now < valid_until { self.program.take() } else { None }
    }

    /// A record is out of the program's hands: done, or not. Returns whom to wake, without the lock.
    #[must_use]
    pub(super) fn returned(&mut self, place: Place, run: Run, offset: Offset, done: bool) -> Option<Waker> {
        let claim = self.claims.get_mut(&place).filter(|claim| claim.run == run)?;
        claim.in_hand -= 1;
        if done {
            claim.progress.done(offset);
        }
        if claim.full && claim.progress.kept() <= self.unfinished_max / 2 {
            claim.full = false;
            if let (Some(slot), false) = (claim.slot, claim.paused) {
                self.reader.take_up(slot);
                return self.program.take();
            }
        }
        None
    }

    /// True while records of this stay are the member's and it is not letting go of them.
    pub(super) fn is_current(&self, place: Place, run: Run) -> bool {
        self.claims.get(&place).is_some_and(|claim| claim.run == run && claim.left.is_none()) && !self.ended
    }

    /// Takes a claim on partitions; where they are read is found out next.
    pub(super) fn claim(&mut self, places: &[Place]) -> Vec<(Place, Run)> {
        let claimed = places.iter().map(|place| {
            self.runs += 1;
            let claim = Claim {
                run: self.runs,
                source: None,
                announced: false,
                slot: None,
                left: None,
                progress: Progress::default(),
                in_hand: 0,
                committed: None,
                paused: false,
                full: false,
            };
            self.claims.insert(*place, claim);
            (*place, self.runs)
        });
        claimed.collect()
    }

    /// Those claims of these that still hold, and are not being let go of.
    pub(super) fn still(&self, claimed: &[(Place, Run)]) -> Vec<(Place, Run)> {
        claimed.iter().copied().filter(|(place, run)| self.is_current(*place, *run)).collect()
    }

    /// The program is about to be told of a partition.
    pub(super) fn announce(&mut self, place: Place, source: &Arc<TopicPartition>) {
        if let Some(claim) = self.claims.get_mut(&place) {
            claim.announced = true;
            claim.source = Some(Arc::clone(source));
        }
    }

    /// Reads a claimed partition from `from` on, `committed` being what the coordinator has.
    pub(super) fn open(&mut self, claimed: (Place, Run), from: consumer::Place, committed: Option<Offset>) {
        let (place, run) = claimed;
        if !self.is_current(place, run) {
            return;
        }
        let Some(claim) = self.claims.get_mut(&place) else { return };
        let Some(source) = claim.source.clone() else { return };
        claim.progress = Progress::starting(from.leader_epoch);
        claim.committed = committed;
        let Some(slot) = self.reader.take_in(source, place.0, from) else { return };
        if claim.paused {
            self.reader.set_aside(slot);
        }
        claim.slot = Some(slot);
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        self.slots[slot] = Some(place);
    }

    /// Hands out nothing more of these, but those that are being let go of already. What was handed out may still be done, and committed.
    pub(super) fn begin_to_let_go(&mut self, places: &[Place]) -> Vec<(Place, Run)> {
        let mut begun = Vec::new();
        for place in places {
            let Some(claim) = self.claims.get_mut(place).filter(|claim| claim.left.is_none()) else { continue };
            let left = match claim.slot.take() {
                Some(slot) => {
                    let (next, leader_epoch) = self.reader.place_of(slot);
                    self.reader.let_go(slot);
                    self.slots[slot] = None;
                    Left::At(Reached { offset: next, leader_epoch })
                }
                None => Left::Unread,
            };
            claim.left = Some(left);
            begun.push((*place, claim.run));
        }
        begun
    }

    /// The program has none of their records in its hands.
    pub(super) fn is_out_of_hand(&self, claimed: &[(Place, Run)]) -> bool {
        let claims = claimed.iter().filter_map(|(place, run)| self.claims.get(place).filter(|claim| claim.run == *run));
        claims.map(|claim| claim.in_hand).sum::<usize>() == 0
    }

    /// Gives up the claims; returns the partitions of which the program was told.
    pub(super) fn forget(&mut self, claimed: &[(Place, Run)]) -> Vec<TopicPartition> {
        let mut told = Vec::new();
        for (place, run) in claimed {
            if self.claims.get(place).is_none_or(|claim| claim.run != *run) {
                continue;
            }
            let Some(claim) = self.claims.remove(place) else { continue };
            if let Some(slot) = claim.slot {
                self.reader.let_go(slot);
                self.slots[slot] = None;
            }
            told.extend(claim.source.filter(|_| claim.announced).map(|source| TopicPartition::clone(&source)));
        }
        told
    }

    /// The partitions of these of which the program was told.
    pub(super) fn told(&self, claimed: &[(Place, Run)]) -> Vec<TopicPartition> {
        let claims = claimed.iter().filter_map(|(place, run)| self.claims.get(place).filter(|claim| claim.run == *run));
        claims.filter(|claim| claim.announced).filter_map(|claim| claim.source.as_deref().cloned()).collect()
    }

    /// All claims, those being let go of included.
    pub(super) fn all(&self) -> Vec<(Place, Run)> {
        self.claims.iter().map(|(place, claim)| (*place, claim.run)).collect()
    }

    /// Partitions that are the member's, by name.
    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let held = self.claims.values().filter(|claim| claim.left.is_none() && claim.announced);
        held.filter_map(|claim| claim.source.as_deref().cloned()).collect()
    }

    /// Those of these partitions that have come further than was committed, or of all.
    pub(super) fn due(&self, of: Option<&[(Place, Run)]>) -> Vec<Due> {
        let mut due = Vec::new();
        for (place, claim) in &self.claims {
            let asked = of.is_none_or(|of| of.contains(&(*place, claim.run)));
            let (true, Some(source), Some(reached)) = (asked, &claim.source, self.reached(claim)) else { continue };
            if claim.committed != Some(reached.offset) {
                due.push(Due { place: *place, source: Arc::clone(source), reached, committed: claim.committed });
            }
        }
        due
    }

    fn reached(&self, claim: &Claim) -> Option<Reached> {
        let next = match (claim.left, claim.slot) {
            (Some(Left::At(left_at)), _) => left_at,
            (None, Some(slot)) => {
                let (offset, leader_epoch) = self.reader.place_of(slot);
                Reached { offset, leader_epoch }
            }
            (Some(Left::Unread), _) | (None, None) => return None,
        };
        Some(claim.progress.reached(next.offset, next.leader_epoch))
    }

    /// The coordinator has these.
    pub(super) fn committed(&mut self, place: Place, offset: Offset) {
        if let Some(claim) = self.claims.get_mut(&place) {
            claim.committed = Some(offset);
        }
    }

    /// The claim on a partition by name.
    pub(super) fn find(&self, topic: &str, partition: PartitionId) -> Option<(Place, Run)> {
        let is_it = |source: &TopicPartition| source.partition == partition && source.topic.as_str() == topic;
        // Ids begin with the time: of a topic that was deleted and made again under its name the later one is meant.
        let mut held = self.claims.iter().rev().filter(|(_, claim)| claim.left.is_none());
        let found = held.find(|(_, claim)| claim.source.as_deref().is_some_and(is_it));
        found.map(|(place, claim)| (*place, claim.run))
    }

    /// Partitions of these that the member does not hold, and the places of those that it does.
    pub(super) fn holds(&self, at: &TopicPartition) -> Option<Place> {
        let mut held = self.claims.iter().filter(|(_, claim)| claim.source.as_deref() == Some(at));
        held.next().map(|(place, _)| *place)
    }

    /// The present stay of a partition, one that is being let go of included.
    pub(super) fn stay(&self, at: &TopicPartition) -> Option<(Place, Run)> {
        let place = self.holds(at)?;
        Some((place, self.claims.get(&place)?.run))
    }

    /// It is still that stay.
    pub(super) fn is_stay(&self, place: Place, run: Run) -> bool {
        self.claims.get(&place).is_some_and(|claim| claim.run == run)
    }

    /// Hands out again what is not committed. Returns whom to wake.
    #[must_use]
    pub(super) fn rewind(&mut self) -> Option<Waker> {
        let behind = self.claims.iter().filter(|(_, claim)| claim.left.is_none()).filter_map(|(place, claim)| {
            let (next, _) = self.reader.place_of(claim.slot?);
            claim.committed.filter(|committed| *committed != next).map(|committed| (*place, committed))
        });
        let behind: Vec<(Place, Offset)> = behind.collect();
        let mut program = None;
        for (place, offset) in behind {
            let to = consumer::Place { position: Position::offset(offset), offset, leader_epoch: None };
            program = self.seek(place, to).or(program);
        }
        program
    }

    pub(super) fn position(&self, place: Place) -> Option<Offset> {
        Some(self.reader.place_of(self.claims.get(&place)?.slot?).0)
    }

    /// Returns whom to wake.
    #[must_use]
    pub(super) fn pause(&mut self, place: Place, paused: bool) -> Option<Waker> {
        let claim = self.claims.get_mut(&place)?;
        claim.paused = paused;
        match (claim.slot, paused, claim.full) {
            (Some(slot), true, _) => {
                self.reader.set_aside(slot);
                None
            }
            (Some(slot), false, false) => {
                self.reader.take_up(slot);
                self.program.take()
            }
            _ => None,
        }
    }

    /// Goes on elsewhere: what was handed out before is none of this stay any more.
    #[must_use]
    pub(super) fn seek(&mut self, place: Place, to: consumer::Place) -> Option<Waker> {
        self.runs += 1;
        let runs = self.runs;
        let claim = self.claims.get_mut(&place)?;
        claim.run = runs;
        claim.in_hand = 0;
        claim.progress = Progress::default();
        let was_full = std::mem::take(&mut claim.full);
        match claim.slot {
            Some(slot) => {
                self.reader.move_to(slot, to);
                if was_full && !claim.paused {
                    self.reader.take_up(slot);
                }
            }
            None => {
                let committed = claim.committed;
                self.open((place, runs), to, committed);
            }
        }
        self.program.take()
    }

    /// When the oldest record in the program's hands was handed out.
    pub(super) fn busy_since(&self) -> Option<Monotonic> {
        self.claims.values().filter_map(|claim| claim.progress.busy_since()).min()
    }

    /// Has the program told of an error with its next record.
    #[must_use]
    pub(super) fn fail(&mut self, error: GroupError) -> Option<Waker> {
        self.errors.push_back(error);
        self.program.take()
    }

    /// Nothing more is handed out.
    #[must_use]
    pub(super) fn end(&mut self, error: Option<GroupError>) -> Option<Waker> {
        self.errors.extend(error);
        self.ended = true;
        self.program.take()
    }

    /// What the program has not been told.
    pub(super) fn take_error(&mut self) -> Option<GroupError> {
        self.errors.pop_front()
    }
}
