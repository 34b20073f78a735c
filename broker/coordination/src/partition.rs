//! What holds of the state of every partition, and what of every change to it. Knows nothing of who decides on a change.

use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionEpoch};

use crate::records::PartitionState;

impl PartitionState {
    /// The state of a partition that was just placed: all in sync, the first replica leads.
    #[must_use]
    pub fn first(replicas: Vec<BrokerId>) -> Self {
        Self {
            leader: replicas.first().copied(),
            in_sync: replicas.clone(),
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            eligible: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            last_leader: None,
            unclean_epoch: None,
            unreadable: None,
            before: Vec::new(),
        }
    }

    /// The replicas that it has once a reassignment under way is over, in order of preference.
    pub fn target(&self) -> impl Iterator<Item = BrokerId> {
        self.replicas.iter().copied().filter(|broker| !self.removing.contains(broker))
    }

    /// The replica that should lead it.
    #[must_use]
    pub fn preferred(&self) -> Option<BrokerId> {
        self.target().next()
    }

    /// Is a reassignment under way?
    #[must_use]
    pub const fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Is one of the replicas that it shall keep not in sync? Those that are still being copied for the first time do not count.
    #[must_use]
    pub fn is_under_replicated(&self) -> bool {
        self.target().any(|broker| !self.adding.contains(&broker) && !self.in_sync.contains(&broker))
    }

    /// # Panics
    /// Where the state cannot be: a bug of ours.
    pub(crate) fn assert_sound(&self) {
        let Self { replicas, in_sync, eligible, adding, removing, leader, unreadable, before, .. } = self;
        let all_replicas = |list: &[BrokerId]| list.iter().all(|broker| replicas.contains(broker));
        assert!(!replicas.is_empty(), "a partition has a replica: {self:?}");
        assert!(all_replicas(in_sync), "in-sync replicas are replicas: {self:?}");
        assert!(all_replicas(eligible), "eligible replicas are replicas: {self:?}");
        assert!(all_replicas(adding) && all_replicas(removing), "what is added or removed is a replica: {self:?}");
        assert!(leader.is_none_or(|leader| in_sync.contains(&leader)), "a leader is in sync: {self:?}");
        let is_last = |broker: BrokerId| *in_sync == [broker] && leader.is_none();
        assert!(unreadable.is_none_or(is_last), "who cannot read the only replica in sync does not lead: {self:?}");
        assert!(!eligible.iter().any(|broker| in_sync.contains(broker)), "eligible replicas are not in sync: {self:?}");
        assert!(!adding.iter().any(|broker| removing.contains(broker)), "nothing is added and removed: {self:?}");
        assert!(all_replicas(before), "who held it before a move holds it until it is over: {self:?}");
        for list in [replicas, in_sync, eligible, adding, removing] {
            let twice = list.iter().enumerate().any(|(i, broker)| list[..i].contains(broker));
            assert!(!twice, "a broker holds one replica of a partition: {self:?}");
        }
    }

    /// # Panics
    /// Where this state cannot follow on `held`: a bug of ours.
    pub(crate) fn assert_follows(&self, held: &Self) {
        assert!(self.partition_epoch > held.partition_epoch, "partition epochs grow: {held:?} to {self:?}");
        assert!(self.leader_epoch >= held.leader_epoch, "leader epochs grow: {held:?} to {self:?}");
        let same_leadership = self.leader_epoch == held.leader_epoch;
        let continues = self.leader.is_none() || self.leader == held.leader;
        assert!(!same_leadership || continues, "a leadership has an epoch of its own: {held:?} to {self:?}");
    }
}
