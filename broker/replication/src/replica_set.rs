//! How far each replica of a partition is known to be, and what the in-sync ones have in common. Knows nothing of tickets or
//! of who may join the in-sync set; the controller decides that.

use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, Durability, Offset};

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
}

#[derive(Debug)]
struct Replica {
    broker: BrokerId,
    in_sync: bool,
    ends: Option<ReplicaEnds>,
}

impl ReplicaSet {
    /// Nothing is known of any of them.
    ///
    /// # Panics
    /// Where a broker of `in_sync` holds no replica.
    #[must_use]
    pub fn new(replicas: &[BrokerId], in_sync: &[BrokerId]) -> Self {
        let replicas = replicas.iter().map(|broker| Replica { broker: *broker, in_sync: false, ends: None }).collect();
        let mut set = Self { replicas };
        set.set_in_sync(in_sync);
        set
    }

    /// Another in-sync set holds. While a change is pending give the larger set: an expansion counts before it is confirmed, a
    /// shrink only after (KIP-497).
    ///
    /// # Panics
    /// Where a broker of `in_sync` holds no replica.
    pub fn set_in_sync(&mut self, in_sync: &[BrokerId]) {
        let known = |broker: &BrokerId| self.replicas.iter().any(|replica| replica.broker == *broker);
        assert!(in_sync.iter().all(known), "in-sync replicas {in_sync:?} are replicas: {self:?}");
        for replica in &mut self.replicas {
            replica.in_sync = in_sync.contains(&replica.broker);
        }
    }

    /// `broker` is this far now. False where it holds no replica.
    #[must_use]
    pub fn record(&mut self, broker: BrokerId, ends: ReplicaEnds) -> bool {
        let found = self.replicas.iter_mut().find(|replica| replica.broker == broker);
        found.map(|replica| replica.ends = Some(ends)).is_some()
    }

    /// True where `broker` is in sync.
    #[must_use]
    pub fn is_in_sync(&self, broker: BrokerId) -> bool {
        self.in_sync().any(|replica| replica.broker == broker)
    }

    /// How many replicas are in sync.
    #[must_use]
    pub fn in_sync_count(&self) -> usize {
        self.in_sync().count()
    }

    /// The end that every in-sync replica has reached; offset 0 while one of them is silent.
    #[must_use]
    pub fn common_end(&self, durability: Durability) -> Offset {
        let end = |replica: &Replica| replica.ends.map_or(Offset::ZERO, |ends| ends.end(durability));
        self.in_sync().map(end).min().unwrap_or(Offset::ZERO)
    }

    /// How many replicas, in sync or not, are known to have reached `end`.
    #[must_use]
    pub fn reached(&self, end: Offset, durability: Durability) -> u16 {
        let reached = |replica: &&Replica| replica.ends.is_some_and(|ends| ends.end(durability) >= end);
        self.replicas.iter().filter(reached).count() as u16
    }

    fn in_sync(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.in_sync)
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
        set.set_in_sync(&[A]);
        assert_eq!(set.common_end(Durability::Written), Offset(9));
    }

    #[test]
    fn a_stranger_is_not_counted() {
        let mut set = ReplicaSet::new(&[A], &[A]);
        assert!(!set.record(B, ends(9, 9)));
        assert_eq!((set.in_sync_count(), set.is_in_sync(B)), (1, false));
    }
}
