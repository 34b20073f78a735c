//! What must hold whatever happens, each check by its name. Knows the records, the logs and what producers were told, nothing of the machine's
//! insides.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::transactions::TransactionRecord;
use tidelog_protocol::messages::{TransactionEnder, TransactionState};

use super::TransactionId;
use super::coordinator::Coordinator;
use super::place::{Entry, Name, Place, Rule};

#[derive(Default)]
pub struct Oracle {
    /// What producers mean to write: place and batch.
    meant: BTreeMap<TransactionId, BTreeSet<(usize, u64)>>,
    /// What they asked for.
    asked: BTreeSet<(TransactionId, bool)>,
    /// What they were told.
    answered: BTreeMap<TransactionId, bool>,
    /// What is stored.
    decided: BTreeMap<TransactionId, bool>,
}

impl Oracle {
    pub fn means(&mut self, by: TransactionId, batches: impl IntoIterator<Item = (usize, u64)>) {
        self.meant.entry(by).or_default().extend(batches);
    }

    pub fn asks(&mut self, by: TransactionId, commit: bool) {
        self.asked.insert((by, commit));
    }

    /// NothingLateEndsTheNext: what a producer is said to have ended, it has.
    pub fn is_decided(&self, record: &TransactionRecord) {
        if let Some(ended) = record.value.as_ref().and_then(|value| value.ended.as_ref())
            && ended.by == TransactionEnder::Producer
        {
            let by = (ended.producer.producer_id, ended.producer.epoch);
            assert!(
                self.asked.contains(&(by, ended.committed)),
                "NothingLateEndsTheNext: {by:?} never asked for commit={}",
                ended.committed
            );
        }
    }

    /// DecidedOnce.
    pub fn is_stored(&mut self, record: &TransactionRecord) {
        if let Some(ended) = record.value.as_ref().and_then(|value| value.ended.as_ref()) {
            let by = (ended.producer.producer_id, ended.producer.epoch);
            let before = *self.decided.entry(by).or_insert(ended.committed);
            assert_eq!(before, ended.committed, "DecidedOnce: {by:?}");
        }
    }

    /// AnsweredIsDecided: what a producer is told is stored.
    pub fn is_answered(&mut self, by: TransactionId, commit: bool) {
        // One that touched nothing, and whose producer asked who it is, has no decision: nothing of it holds.
        let decided = self.decided.get(&by).copied().unwrap_or(false);
        assert_eq!(decided, commit, "AnsweredIsDecided: {by:?}");
        self.answered.insert(by, commit);
    }

    /// AMarkerEndsItsOwn: not what a later epoch has open, nor otherwise than was decided.
    pub fn is_ended(&self, ended: TransactionId, marker: TransactionId, commit: bool, rule: Rule) {
        let bump = if rule == Rule::Earlier { 1 } else { 0 };
        assert_eq!((ended.0, ended.1.0 + bump), (marker.0, marker.1.0), "AMarkerEndsItsOwn");
        assert_eq!(self.decided.get(&ended), Some(&commit), "AMarkerEndsItsOwn: {ended:?}");
    }

    /// NoHangingTransaction: what is open somewhere is known to be, there.
    pub fn check_known(&self, places: &[Place], coordinator: &Coordinator, now: u64) {
        for place in places.iter().filter(|place| !place.is_deleted) {
            for (by, id) in place.open().into_iter().filter(|(by, _)| !place.lost.contains(by)) {
                let described = coordinator.describe(id);
                let is_known = described.as_ref().is_some_and(|described| {
                    let wire = Place::wire_identity(by);
                    let of_it = match described.state {
                        TransactionState::Empty => false,
                        TransactionState::Ongoing => described.identity == wire,
                        TransactionState::Committing | TransactionState::Aborting => {
                            described.ended.as_ref().is_some_and(|ended| ended.identity == wire)
                        }
                    };
                    of_it
                        && match &place.name {
                            Name::Group(group) => described.groups.contains(group),
                            Name::Partition((topic_id, partition)) => described
                                .partitions
                                .iter()
                                .any(|topic| topic.topic_id == *topic_id && topic.partitions.contains(partition)),
                        }
                });
                assert!(is_known, "NoHangingTransaction: {by:?} at {:?} at {now}: {described:#?}", place.name);
            }
        }
    }

    /// NoHangingTransaction: what has lost its marker has it again.
    pub fn check_restored(&self, places: &[Place]) {
        for place in places.iter().filter(|place| !place.is_deleted) {
            let hangs: Vec<_> = place.open().into_iter().filter(|(by, _)| place.lost.contains(by)).collect();
            assert_eq!(hangs, Vec::new(), "NoHangingTransaction: lost at {:?}", place.name);
        }
    }

    /// All is quiet.
    pub fn check_quiet(&self, places: &[Place], coordinator: &Coordinator) {
        for place in places.iter().filter(|place| !place.is_deleted) {
            assert_eq!(place.open(), Vec::new(), "NoHangingTransaction: at {:?}", place.name);
            assert!(place.given_up.is_subset(&place.lost), "OnlyWhatLostItsMarkerIsGivenUp: at {:?}", place.name);
        }
        for id in coordinator.ids() {
            let described = coordinator.describe(&id).expect("it was listed");
            assert_eq!(described.state, TransactionState::Empty, "NoHangingTransaction: {described:#?}");
        }
        for (by, commit) in &self.answered {
            assert_eq!(self.decided.get(by).copied().unwrap_or(false), *commit, "AnsweredIsDecided: {by:?}");
        }
        let mut standing: BTreeMap<TransactionId, BTreeSet<(usize, u64)>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate().filter(|(_, place)| !place.is_deleted) {
            for (by, number, commit) in outcomes(place) {
                if place.given_up.contains(&by) {
                    continue;
                }
                let decided = self.decided.get(&by).copied();
                assert_eq!(Some(commit), decided, "TransactionAllOrNothing: {by:?} at {:?}", place.name);
                if commit {
                    standing.entry(by).or_default().insert((at, number));
                }
            }
        }
        for (by, _) in self.decided.iter().filter(|(_, committed)| **committed) {
            let meant = self.meant.get(by).into_iter().flatten();
            let counts = |at: usize| !places[at].is_deleted && !places[at].given_up.contains(by);
            let meant: BTreeSet<_> = meant.filter(|(at, _)| counts(*at)).copied().collect();
            let stands = standing.remove(by).unwrap_or_default();
            assert_eq!(stands, meant, "TransactionAllOrNothing: {by:?} is committed");
        }
    }
}

/// Every batch with what the first marker behind it says; there is one.
fn outcomes(place: &Place) -> Vec<(TransactionId, u64, bool)> {
    let mut outcomes = Vec::new();
    for (index, entry) in place.log.iter().enumerate() {
        let Entry::Batch(batch) = entry else { continue };
        let commit = place.log[index..].iter().find_map(|entry| match entry {
            Entry::Marker { identity, commit } if identity.0 == batch.by.0 => Some(*commit),
            _ => None,
        });
        outcomes.push((batch.by, batch.number, commit.expect("NoHangingTransaction: no marker stands behind it")));
    }
    outcomes
}
