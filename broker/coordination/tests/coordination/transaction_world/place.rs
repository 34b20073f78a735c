//! Where transactions write: a partition, or a group for its offsets. Keeps to the contract of the coordinator: asks before an epoch writes, and
//! takes a marker for what earlier epochs have open. Knows nothing of producers.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::groups::partition_set::TopicPartition;
use tidelog_protocol::messages::{ProducerIdentity, TransactionMarkers};
use tidelog_protocol::{ProducerEpoch, ProducerId};

use super::{TransactionId, identity};

/// What a place is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    Partition(TopicPartition),
    Group(String),
}

/// What a producer sends.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: &'static str,
    pub by: TransactionId,
    pub number: u64,
}

/// What stands in the log.
#[derive(Clone, Debug)]
pub enum Entry {
    Batch(Batch),
    Marker { identity: TransactionId, commit: bool },
}

/// What becomes of a batch at once.
#[derive(PartialEq, Eq, Debug)]
pub enum Taken {
    Stands,
    Fenced,
    /// The coordinator is asked.
    Asks,
}

#[derive(Clone, Copy)]
struct Standing {
    epoch: ProducerEpoch,
    /// What is open, by its transactional id.
    open: Option<&'static str>,
}

/// What a marker ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// What earlier epochs have open.
    Earlier,
    /// What its own epoch has open, too: as it was when markers carried the epoch that they end.
    EarlierAndItsOwn,
}

pub struct Place {
    pub name: Name,
    pub rule: Rule,
    pub is_deleted: bool,
    pub log: Vec<Entry>,
    /// Batches for which the coordinator is asked, by the number of the question: producer and batch.
    pub waiting: BTreeMap<u64, (usize, Batch)>,
    /// Transactions whose marker was lost here.
    pub lost: BTreeSet<TransactionId>,
    /// Those of them that are undone since nobody knows any more how they ended.
    pub given_up: BTreeSet<TransactionId>,
    /// The latest epoch of each producer of which a marker was lost: what came before it is fenced no more.
    unfenced: BTreeMap<ProducerId, ProducerEpoch>,
    standings: BTreeMap<ProducerId, Standing>,
}

impl Place {
    pub fn new(name: Name, rule: Rule) -> Self {
        Self {
            name,
            rule,
            is_deleted: false,
            log: Vec::new(),
            waiting: BTreeMap::new(),
            lost: BTreeSet::new(),
            given_up: BTreeSet::new(),
            unfenced: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }

    pub fn take(&mut self, batch: &Batch) -> Taken {
        match self.standings.get(&batch.by.0) {
            Some(standing) if standing.epoch > batch.by.1 => Taken::Fenced,
            Some(standing) if standing.epoch == batch.by.1 && standing.open.is_some() => {
                self.append(batch);
                Taken::Stands
            }
            _ => Taken::Asks,
        }
    }

    /// The coordinator says that this place is part of the transaction.
    pub fn take_answered(&mut self, batch: &Batch) -> Taken {
        // A marker may have overtaken the answer.
        if self.standings.get(&batch.by.0).is_some_and(|standing| standing.epoch > batch.by.1) {
            return Taken::Fenced;
        }
        let began = Standing { epoch: batch.by.1, open: Some(batch.id) };
        // What an earlier epoch has open has lost its marker.
        let before = self.standings.insert(batch.by.0, began);
        if let Some(before) = before.filter(|before| before.open.is_some() && before.epoch < batch.by.1) {
            self.given_up.insert((batch.by.0, before.epoch));
        }
        // An answer that came late, behind a marker that stood and is lost: so is what would have ended this.
        if self.unfenced.get(&batch.by.0).is_some_and(|lost| *lost > batch.by.1) {
            self.lost.insert(batch.by);
        }
        self.append(batch);
        Taken::Stands
    }

    /// The last of the log is lost, where it is the marker of a transaction that had something open.
    pub fn lose_marker(&mut self) -> bool {
        let Some(Entry::Marker { identity: (producer, epoch), .. }) = self.log.last() else { return false };
        let marked = *epoch;
        let last = self.log.iter().rev().skip(1).find_map(|entry| match entry {
            Entry::Batch(batch) if batch.by.0 == *producer => Some(Some(batch.clone())),
            Entry::Marker { identity, .. } if identity.0 == *producer => Some(None),
            _ => None,
        });
        let Some(Some(batch)) = last else { return false };
        self.log.pop();
        let latest = self.unfenced.entry(batch.by.0).or_insert(marked);
        *latest = marked.max(*latest);
        self.standings.insert(batch.by.0, Standing { epoch: batch.by.1, open: Some(batch.id) });
        self.lost.insert(batch.by);
        true
    }

    fn append(&mut self, batch: &Batch) {
        let stands = |entry: &Entry| matches!(entry, Entry::Batch(old) if old.number == batch.number);
        if !self.log.iter().any(stands) {
            self.log.push(Entry::Batch(batch.clone()));
        }
    }

    /// Which transaction ended here by this, if any.
    pub fn mark(&mut self, markers: &TransactionMarkers) -> Option<TransactionId> {
        let by = identity(&markers.identity);
        let standing = self.standings.get(&by.0).copied();
        let stands = standing.is_some_and(|standing| match self.rule {
            Rule::Earlier => standing.epoch >= by.1,
            Rule::EarlierAndItsOwn => standing.epoch > by.1,
        });
        if stands {
            return None;
        }
        // Of a later transaction than what is open, which has lost its own: that is undone.
        let is_later = |standing: &Standing| standing.open.is_some() && standing.epoch.0 + 1 < by.1.0;
        if let Some(standing) = standing.filter(is_later) {
            self.given_up.insert((by.0, standing.epoch));
        }
        self.log.push(Entry::Marker { identity: by, commit: markers.commit });
        self.standings.insert(by.0, Standing { epoch: by.1, open: None });
        standing
            .filter(|standing| standing.open.is_some() && !is_later(standing))
            .map(|standing| (by.0, standing.epoch))
    }

    /// The transactions that are open here, each with its transactional id.
    pub fn open(&self) -> Vec<(TransactionId, &'static str)> {
        let open =
            |(producer_id, standing): (&ProducerId, &Standing)| Some(((*producer_id, standing.epoch), standing.open?));
        self.standings.iter().filter_map(open).collect()
    }

    pub fn wire_identity(by: TransactionId) -> ProducerIdentity {
        ProducerIdentity { producer_id: by.0, epoch: by.1 }
    }
}
