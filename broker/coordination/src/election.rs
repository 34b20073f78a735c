//! Who leads a partition and who counts as in sync, when brokers come and go (KIP-966). Works on one partition; knows nothing of
//! topics, commands or the reasons why somebody goes.
//!
//! Two facts carry it. The high watermark moves only with all in-sync replicas, so each of them is complete. And it does not
//! move while fewer than `min.insync.replicas` are in sync, so who leaves then stays complete: *eligible*.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::take;

use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionEpoch};

use crate::image::ClusterImage;
use crate::records::PartitionState;

/// Which brokers can lead, with one of them seen as it will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness<'a> {
    image: &'a ClusterImage,
    except: Option<(BrokerId, Standing)>,
}

/// How a broker stands to leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It can lead.
    Live,
    /// It goes on with what it leads until somebody else can, and gets nothing new.
    Leaving,
    /// It leads nothing.
    Gone,
}

impl<'a> Liveness<'a> {
    /// As the image has it.
    pub(crate) const fn of(image: &'a ClusterImage) -> Self {
        Self { image, except: None }
    }

    /// As the image has it, but for this broker.
    pub(crate) const fn with(image: &'a ClusterImage, broker: BrokerId, standing: Standing) -> Self {
        Self { image, except: Some((broker, standing)) }
    }

    pub(crate) fn standing(&self, broker: BrokerId) -> Standing {
        if let Some((known, standing)) = self.except
            && known == broker
        {
            return standing;
        }
        match self.image.broker(broker) {
            Some(broker) if broker.fenced => Standing::Gone,
            Some(broker) if broker.leaving => Standing::Leaving,
            Some(_) => Standing::Live,
            None => Standing::Gone,
        }
    }

    pub(crate) fn is_live(&self, broker: BrokerId) -> bool {
        self.standing(broker) == Standing::Live
    }
}

/// What a replica that leaves still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure {
    /// All that was ever acknowledged to it.
    Complete,
    /// It may lack a tail that was not flushed.
    TailLost,
    /// Nothing: another disk.
    Emptied,
    /// Nothing that its broker can read or that counts, at least until that registers anew.
    Unreadable,
}

/// A change of one partition in the making. [`Seating::finish`] gives the new state, if there is one.
#[derive(Debug)]
pub(crate) struct Seating<'a> {
    held: &'a PartitionState,
    next: PartitionState,
    min_in_sync: usize,
    live: Liveness<'a>,
    /// The leadership ended, though the same broker may begin the next.
    ended: bool,
}

impl<'a> Seating<'a> {
    /// Begins with the partition as it is.
    pub(crate) fn new(held: &'a PartitionState, min_in_sync: u16, live: Liveness<'a>) -> Self {
        Self { held, next: held.clone(), min_in_sync: min_in_sync.into(), live, ended: false }
    }

    /// `broker` leaves the in-sync set and the lead, as far as that can be: the last one in sync stays so, because nobody else is
    /// known to be complete.
    pub(crate) fn leave(mut self, broker: BrokerId, departure: Departure) -> Self {
        if self.next.leader == Some(broker) {
            self.next.leader = None;
            self.ended = true;
        }
        if departure != Departure::Complete {
            remove(&mut self.next.eligible, broker);
        }
        if !self.next.in_sync.contains(&broker) {
            return self;
        }
        if self.next.in_sync.len() > 1 {
            remove(&mut self.next.in_sync, broker);
            // Eligible only while the set is below the minimum, see `finish`.
            if departure == Departure::Complete {
                self.next.eligible.push(broker);
            }
        } else if departure != Departure::Complete {
            self.pass_the_last_seat_on(broker, departure);
        }
        self
    }

    /// The only replica in sync comes back with less than it had. An eligible one is complete and takes its place, though it may
    /// be away. Without one, a lost tail is lost everywhere; but an empty disk is never taken for the partition.
    fn pass_the_last_seat_on(&mut self, broker: BrokerId, departure: Departure) {
        // Whichever: where another eligible one lives, `elect` gives it the seat.
        match (self.next.eligible.first().copied(), departure) {
            (Some(heir), _) => {
                remove(&mut self.next.eligible, heir);
                self.next.in_sync = vec![heir];
            }
            (None, Departure::Emptied) => remove(&mut self.next.in_sync, broker),
            // Its seat is kept: its folder may be put back, and nobody else is known to be complete.
            (None, Departure::Unreadable) => self.next.unreadable = Some(broker),
            (None, Departure::Complete | Departure::TailLost) => {}
        }
    }

    /// `broker` begins anew, and may be able to read what it could not.
    pub(crate) fn look_again(mut self, broker: BrokerId) -> Self {
        self.next.unreadable = self.next.unreadable.filter(|unreadable| *unreadable != broker);
        self
    }

    /// Another set is in sync. Who leaves it is eligible where the set is below the minimum.
    pub(crate) fn in_sync(mut self, in_sync: Vec<BrokerId>) -> Self {
        let before = core::mem::replace(&mut self.next.in_sync, in_sync);
        self.next.eligible.extend(before);
        let Self { next: PartitionState { in_sync, eligible, .. }, .. } = &mut self;
        eligible.retain(|broker| !in_sync.contains(broker));
        self
    }

    /// Gives the partition a leader where it has none, or one that goes: the first replica in sync that can lead, else the first
    /// eligible one. A leader that goes stays until there is another.
    pub(crate) fn elect(mut self) -> Self {
        let standing = self.next.leader.map(|leader| self.live.standing(leader));
        if standing == Some(Standing::Live) {
            return self;
        }
        match self.candidate() {
            Some(leader) => self.lead_by(leader),
            None if standing == Some(Standing::Leaving) => {}
            None => self.next.leader = None,
        }
        self
    }

    /// `broker` hands the lead to another that can have it, and leaves the in-sync set unless it must go on leading.
    pub(crate) fn step_aside(self, broker: BrokerId) -> Self {
        let seated = self.elect();
        if seated.next.leader == Some(broker) { seated } else { seated.leave(broker, Departure::Complete) }
    }

    /// Gives the lead to the preferred replica, where that is in sync and can lead.
    pub(crate) fn prefer(mut self) -> Self {
        let able = |broker: &BrokerId| self.next.in_sync.contains(broker) && self.is_able(*broker);
        if let Some(preferred) = self.next.preferred().filter(able)
            && self.next.leader != Some(preferred)
        {
            self.lead_by(preferred);
        }
        self
    }

    /// `broker` leads, whatever it holds: what only others hold is lost.
    pub(crate) fn force(mut self, broker: BrokerId) -> Self {
        self.next.in_sync = vec![broker];
        self.next.eligible.clear();
        self.next.unreadable = None;
        self.next.leader = Some(broker);
        self.next.unclean_epoch = Some(LeaderEpoch(self.held.leader_epoch.0 + 1));
        self.ended = true;
        self
    }

    /// The replicas shall be `target`, in this order.
    pub(crate) fn reassign(mut self, target: &[BrokerId]) -> Self {
        let held: Vec<BrokerId> = self.next.replicas.clone();
        // A move that takes the place of another is taken back to what was before both. One that began under an earlier release kept no order.
        if self.next.before.is_empty() && !self.next.is_moving() {
            self.next.before = held.clone();
        }
        let was_adding = take(&mut self.next.adding);
        // A copy that had not caught up yet is just dropped, the others stay until the new ones are in sync.
        let dropped = |broker: &BrokerId| was_adding.contains(broker) && !self.next.in_sync.contains(broker);
        let old = held.iter().copied().filter(|broker| !target.contains(broker) && !dropped(broker));
        self.next.removing = old.collect();
        self.next.adding = target.iter().copied().filter(|b| !held.contains(b) || was_adding.contains(b)).collect();
        self.next.replicas = target.iter().copied().chain(self.next.removing.iter().copied()).collect();
        let replicas = &self.next.replicas;
        self.next.eligible.retain(|broker| replicas.contains(broker));
        self
    }

    /// The new state; `None` where nothing changes.
    pub(crate) fn finish(mut self) -> Option<PartitionState> {
        self.switch_if_caught_up();
        if self.next.in_sync.len() >= self.min_in_sync {
            self.next.eligible.clear();
        }
        let Self { held, mut next, ended, .. } = self;
        if !next.is_moving() {
            next.before.clear();
        }
        next.unreadable = next.unreadable.filter(|broker| next.in_sync == [*broker]);
        let order = |replicas: &[BrokerId], list: &mut Vec<BrokerId>| {
            list.sort_by_key(|broker| replicas.iter().position(|replica| replica == broker));
        };
        order(&next.replicas, &mut next.in_sync);
        order(&next.replicas, &mut next.eligible);
        next.last_leader = if next.leader.is_some() { None } else { held.leader.or(held.last_leader) };
        if next == *held && !(ended && next.leader.is_some()) {
            return None;
        }
        if next.leader.is_some() && (ended || next.leader != held.leader) {
            next.leader_epoch = LeaderEpoch(held.leader_epoch.0 + 1);
        }
        next.partition_epoch = PartitionEpoch(held.partition_epoch.0 + 1);
        Some(next)
    }

    /// A reassignment is over when all replicas that shall stay are in sync.
    fn switch_if_caught_up(&mut self) {
        let target: Vec<BrokerId> = self.next.target().collect();
        if !self.next.is_moving() || !target.iter().all(|broker| self.next.in_sync.contains(broker)) {
            return;
        }
        let next = &mut self.next;
        next.in_sync.retain(|broker| target.contains(broker));
        next.eligible.retain(|broker| target.contains(broker));
        next.adding.clear();
        next.removing.clear();
        next.replicas = target;
        if next.leader.is_some_and(|leader| !next.replicas.contains(&leader)) {
            next.leader = None;
            self.ended = true;
            if let Some(leader) = self.candidate() {
                self.lead_by(leader);
            }
        }
    }

    fn candidate(&self) -> Option<BrokerId> {
        let able =
            |list: &[BrokerId]| self.next.replicas.iter().copied().find(|b| list.contains(b) && self.is_able(*b));
        able(&self.next.in_sync).or_else(|| able(&self.next.eligible))
    }

    fn is_able(&self, broker: BrokerId) -> bool {
        self.live.is_live(broker) && self.next.unreadable != Some(broker)
    }

    fn lead_by(&mut self, leader: BrokerId) {
        let next = &mut self.next;
        next.leader = Some(leader);
        if !next.in_sync.contains(&leader) {
            // From the eligible: nobody in sync can lead. Those stay complete, because one alone is below the minimum.
            remove(&mut next.eligible, leader);
            let before = core::mem::replace(&mut next.in_sync, vec![leader]);
            next.eligible.extend(before);
        }
    }
}

fn remove(list: &mut Vec<BrokerId>, broker: BrokerId) {
    list.retain(|other| *other != broker);
}
