//! How far each replica of a partition is known to be, and what those that count have in common. Knows nothing of tickets or of how
//! a change of the in-sync set comes about; the controller decides on that.

use alloc::vec::Vec;

use tidelog_protocol::{BrokerEpoch, BrokerId, Durability, Monotonic, Offset};

/// How far one replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaEnds {
    /// Next offset it has not written.
    pub written_end: Offset,
    /// Next offset it has not flushed; never above the written end.
    pub flushed_end: Offset,
}

impl ReplicaEnds {
    /// The end that counts.
    #[must_use]
    pub const fn end(self, durability: Durability) -> Offset {
        match durability {
            Durability::Flushed => self.flushed_end,
            Durability::Written => self.written_end,
        }
    }
}

/// The replicas of a partition as its leader knows them, the leader among them. Progress is that of this leadership only: a
/// replica that has not reported yet has reached nothing (rule 3: only progress of the leader's own epoch counts).
#[derive(Debug)]
pub struct ReplicaSet {
    replicas: Vec<Replica>,
    /// Proposals that came to nothing.
    refusals: u64,
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) broker: BrokerId,
    /// As the controller confirmed.
    pub(crate) in_sync: bool,
    /// Named by a proposal that the controller may accept still, or have accepted already.
    pub(crate) proposed: bool,
    /// Named by the latest proposal.
    asked_for: bool,
    /// When it was last refused, counted in refusals; `None` where it was not since it was last in sync.
    pub(crate) refused: Option<u64>,
    /// Reported since it last left the in-sync set, was refused or began a stream.
    pub(crate) is_heard: bool,
    /// It is no use to have it join now, as the metadata has it.
    pub(crate) is_barred: bool,
    /// The registration under which it follows; `None` before it does.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    pub(crate) ends: Option<ReplicaEnds>,
    /// Not caught up for longer than the lag allows, as of the last tick.
    pub(crate) lagging: bool,
    /// When it was last known to have everything that the leader had; `None` before the first tick.
    caught_up_at: Option<Monotonic>,
    /// The leader's end at an earlier tick, for a follower that is never quite at the end of a busy log.
    mark: Option<(Offset, Monotonic)>,
}

impl Replica {
    const fn new(broker: BrokerId) -> Self {
        Self {
            broker,
            in_sync: false,
            proposed: false,
            asked_for: false,
            refused: None,
            is_heard: false,
            is_barred: true,
            broker_epoch: None,
            ends: None,
            lagging: false,
            caught_up_at: None,
            mark: None,
        }
    }

    /// Its end that counts; offset 0 while it is silent.
    pub(crate) fn end(&self, durability: Durability) -> Offset {
        self.ends.map_or(Offset::ZERO, |ends| ends.end(durability))
    }

    /// Notes at `now` how it stands to the leader's `log_end`. It lags once it was last caught up more than `lag_max_ms` ago.
    fn observe(&mut self, log_end: Offset, durability: Durability, (now, lag_max_ms): (Monotonic, u64)) {
        let end = self.ends.map(|ends| ends.end(durability));
        let (mark_end, marked_at) = *self.mark.get_or_insert((log_end, now));
        if end.is_some_and(|end| end >= log_end) {
            self.caught_up_at = Some(now);
        } else if end.is_some_and(|end| end >= mark_end) {
            self.caught_up_at = self.caught_up_at.max(Some(marked_at));
        }
        if end.is_some_and(|end| end >= mark_end) {
            self.mark = Some((log_end, now));
        }
        let caught_up_at = *self.caught_up_at.get_or_insert(now);
        self.lagging = now.ms_since(caught_up_at) > lag_max_ms;
    }

    fn forget_lag(&mut self) {
        (self.lagging, self.caught_up_at, self.mark) = (false, None, None);
    }
}

impl ReplicaSet {
    /// Nothing is known of any of them.
    ///
    /// # Panics
    /// Where a broker of `in_sync` holds no replica.
    #[must_use]
    pub fn new(replicas: &[BrokerId], in_sync: &[BrokerId]) -> Self {
        let mut set = Self { replicas: Vec::with_capacity(replicas.len()), refusals: 0 };
        set.confirm(replicas, in_sync);
        set
    }

    /// The controller holds this. Proposals made before can no longer be accepted, so only the confirmed ones count.
    ///
    /// # Panics
    /// Where a broker of `in_sync` holds no replica.
    pub fn confirm(&mut self, replicas: &[BrokerId], in_sync: &[BrokerId]) {
        assert!(in_sync.iter().all(|broker| replicas.contains(broker)), "{in_sync:?} are replicas: {replicas:?}");
        self.replicas.retain(|replica| replicas.contains(&replica.broker));
        for broker in replicas {
            if self.find(*broker).is_none() {
                self.replicas.push(Replica::new(*broker));
            }
        }
        for replica in &mut self.replicas {
            let joins = in_sync.contains(&replica.broker);
            if joins != replica.in_sync {
                replica.forget_lag();
            }
            if replica.in_sync && !joins {
                // It left because it died, most likely: only a fresh report shows that it lives. Otherwise a dead replica of a log that
                // rests would be proposed again at once, and hold the watermark back until it lags.
                (replica.ends, replica.is_heard) = (None, false);
                // Or it is about to: one that is shutting down reports to the last, and to propose it would count it until it is gone.
                replica.is_barred = true;
            }
            (replica.in_sync, replica.proposed, replica.asked_for) = (joins, false, false);
            if joins {
                replica.refused = None;
            }
        }
    }

    /// These were proposed to be in sync. They count from now on, those in sync before go on counting until another set is confirmed
    /// (the maximal in-sync set of KIP-497).
    pub(crate) fn propose(&mut self, in_sync: &[BrokerId]) {
        for replica in &mut self.replicas {
            replica.asked_for = in_sync.contains(&replica.broker);
            replica.proposed |= replica.asked_for;
        }
    }

    /// The latest proposal came to nothing. Whoever was to join must report again before it is proposed again: what a broker said just
    /// before it died may have come after it left, and on a log that rests that stays all there is to say for ever.
    pub(crate) fn refuse(&mut self) {
        self.refusals += 1;
        for replica in self.replicas.iter_mut().filter(|replica| replica.asked_for && !replica.in_sync) {
            (replica.refused, replica.is_heard) = (Some(self.refusals), false);
        }
    }

    /// The metadata has these brokers, of all there are, fenced or shutting down.
    pub(crate) fn bar(&mut self, barred: &[BrokerId]) {
        for replica in &mut self.replicas {
            replica.is_barred = barred.contains(&replica.broker);
        }
    }

    /// `broker` follows under this registration from now on; what it reported before counts no more. False where it holds no replica
    /// or followed under a later registration.
    #[must_use]
    pub(crate) fn begin(&mut self, broker: BrokerId, broker_epoch: BrokerEpoch) -> bool {
        let found = self.replicas.iter_mut().find(|replica| replica.broker == broker);
        let Some(replica) = found.filter(|replica| replica.broker_epoch <= Some(broker_epoch)) else { return false };
        (replica.broker_epoch, replica.ends, replica.is_heard) = (Some(broker_epoch), None, false);
        true
    }

    /// `broker` is this far now. False where it holds no replica.
    #[must_use]
    pub fn record(&mut self, broker: BrokerId, ends: ReplicaEnds) -> bool {
        let found = self.replicas.iter_mut().find(|replica| replica.broker == broker);
        found.map(|replica| (replica.ends, replica.is_heard) = (Some(ends), true)).is_some()
    }

    /// Notes how every replica stands to the leader's `log_end` at `now`.
    pub(crate) fn observe(&mut self, log_end: Offset, durability: Durability, now: Monotonic, lag_max_ms: u64) {
        for replica in &mut self.replicas {
            replica.observe(log_end, durability, (now, lag_max_ms));
        }
    }

    pub(crate) fn find(&self, broker: BrokerId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.broker == broker)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter()
    }

    /// How many replicas there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.replicas.len()
    }

    /// True where `broker` is in sync, as the controller confirmed.
    #[must_use]
    pub fn is_in_sync(&self, broker: BrokerId) -> bool {
        self.find(broker).is_some_and(|replica| replica.in_sync)
    }

    /// How many replicas are in sync, as the controller confirmed.
    #[must_use]
    pub fn in_sync_count(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.in_sync).count()
    }

    /// The replicas in sync, as the controller confirmed.
    pub fn in_sync(&self) -> impl Iterator<Item = BrokerId> {
        self.replicas.iter().filter(|replica| replica.in_sync).map(|replica| replica.broker)
    }

    /// The end that every replica of the maximal in-sync set has reached; offset 0 while one of them is silent.
    #[must_use]
    pub fn common_end(&self, durability: Durability) -> Offset {
        self.common_end_of(durability, |replica| replica.in_sync || replica.proposed)
    }

    /// The end that every replica has reached, in sync or not, as far as this leadership knows; offset 0 while one of them is silent.
    #[must_use]
    pub fn end_of_all(&self, durability: Durability) -> Offset {
        self.common_end_of(durability, |_| true)
    }

    pub(crate) fn common_end_of(&self, durability: Durability, counts: impl Fn(&Replica) -> bool) -> Offset {
        let counting = self.replicas.iter().filter(|replica| counts(replica));
        counting.map(|replica| replica.end(durability)).min().unwrap_or(Offset::ZERO)
    }

    /// How many replicas, in sync or not, are known to have reached `end`.
    #[must_use]
    pub fn reached(&self, end: Offset, durability: Durability) -> u16 {
        let reached = |replica: &&Replica| replica.ends.is_some_and(|ends| ends.end(durability) >= end);
        self.replicas.iter().filter(reached).count() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);
    const C: BrokerId = BrokerId(3);

    fn ends(written: u64, flushed: u64) -> ReplicaEnds {
        ReplicaEnds { written_end: Offset(written), flushed_end: Offset(flushed) }
    }

    #[test]
    fn the_slowest_replica_in_sync_decides_and_others_only_count() {
        let mut set = ReplicaSet::new(&[A, B, C], &[A, B]);
        assert!(set.record(A, ends(9, 8)));
        assert!(set.record(B, ends(7, 3)));
        assert!(set.record(C, ends(9, 1)));
        assert_eq!(set.common_end(Durability::Written), Offset(7));
        assert_eq!(set.common_end(Durability::Flushed), Offset(3));
        assert_eq!(set.reached(Offset(9), Durability::Written), 2);
        assert_eq!(set.reached(Offset(9), Durability::Flushed), 0);
    }

    #[test]
    fn a_silent_replica_in_sync_holds_everything_back() {
        let mut set = ReplicaSet::new(&[A, B], &[A, B]);
        assert!(set.record(A, ends(9, 9)));
        assert_eq!(set.common_end(Durability::Written), Offset::ZERO);
        set.confirm(&[A, B], &[A]);
        assert_eq!(set.common_end(Durability::Written), Offset(9));
    }

    #[test]
    fn a_proposed_replica_counts_until_another_set_is_confirmed() {
        let mut set = ReplicaSet::new(&[A, B], &[A]);
        assert!(set.record(A, ends(9, 9)) && set.record(B, ends(4, 4)));
        set.propose(&[A, B]);
        assert_eq!((set.common_end(Durability::Written), set.in_sync_count()), (Offset(4), 1));
        set.confirm(&[A, B], &[A]);
        assert_eq!(set.common_end(Durability::Written), Offset(9));
    }

    #[test]
    fn a_stranger_is_not_counted_and_an_earlier_life_does_not_begin_again() {
        let mut set = ReplicaSet::new(&[A], &[A]);
        assert!(!set.record(B, ends(9, 9)));
        assert_eq!((set.in_sync_count(), set.is_in_sync(B)), (1, false));
        assert!(set.begin(A, BrokerEpoch(7)) && set.begin(A, BrokerEpoch(7)) && !set.begin(A, BrokerEpoch(6)));
    }

    #[test]
    fn a_follower_of_a_busy_log_is_caught_up_without_ever_being_at_its_end() {
        let mut set = ReplicaSet::new(&[A], &[A]);
        for tick in 0..100u64 {
            set.observe(Offset(10 * tick + 10), Durability::Written, Monotonic(tick * 500), 3_000);
            assert!(set.record(A, ends(10 * tick + 9, 0)));
        }
        assert!(!set.find(A).is_some_and(|replica| replica.lagging), "it is a tick behind, never more");
    }

    #[test]
    fn a_follower_that_stands_still_lags_after_the_time_allowed_and_not_before() {
        let mut set = ReplicaSet::new(&[A], &[A]);
        let mut lagging_at = |now, log_end| {
            set.observe(Offset(log_end), Durability::Written, Monotonic(now), 3_000);
            set.find(A).is_some_and(|replica| replica.lagging)
        };
        assert!(!lagging_at(1_000, 5), "silent, but only now");
        assert!(!lagging_at(4_000, 5));
        assert!(lagging_at(4_001, 5));
        assert!(set.record(A, ends(5, 0)));
        set.observe(Offset(5), Durability::Written, Monotonic(90_000), 3_000);
        assert!(!set.find(A).is_some_and(|replica| replica.lagging), "nobody lags behind a log that rests");
    }
}
