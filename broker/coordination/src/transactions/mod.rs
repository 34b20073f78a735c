//! Transactional producers (KIP-98, with an epoch per transaction from the start: KIP-890), pure: one [`Transactions`] holds the ids of one
//! partition of the internal topic. Knows nothing of the log that holds its records, nor of connections; the time comes as an argument.
//!
//! In the order a transaction meets them:
//! - [`command`]: what can be asked for, what comes back, and the limits.
//! - `names`: what a transactional id may be; `identity`: a producer under one epoch, and which comes next.
//! - `init`: a producer asks who it is.
//! - `add`: the transaction touches partitions and groups, `touched`.
//! - `end`: it is committed or aborted; `refusals`: why not.
//! - `expiry`: it was open for too long, a topic is deleted, an id is not used any more.
//! - `fate`: what became of one whose marker a partition has lost.
//! - `salvage`: what is written anew where a part of the log is lost.
//! - `overview`: ids as people see them.
//! - [`records`]: what is written, keyed for compaction; `transaction` and `entry`: the state that they make, and what is known beside it.
//! - [`flaws`]: bugs that tests plant.
//!
//! Of one id: nothing is open → (Add) a transaction is open → (End, a new producer, the timeout, an operator) it is being ended, which is
//! decided and stored, and the next epoch begins → (all markers confirmed) nothing is open.
//!
//! What drives it owes it this:
//! - **Records in order, before the next call**, and **answers wait**: as [`groups`](crate::groups) says.
//! - **Markers wait too**: what `pending_markers` says leaves once every record replayed until then is stored. A marker is for ever; a
//!   record that is not stored may never have been.
//! - **The image has caught up**: with the metadata by which this broker leads the partition, at least. Partitions of topics that it does
//!   not know have no markers written.
//! - [`TransactionReply::FreshIdNeeded`]: the command is handed in again, with an id that nobody had before.
//!
//! What a partition owes it, and a group for the offsets of a transaction, so that none is left open and none is touched by another's end:
//! - A batch of a transaction under an epoch is taken where one of that epoch is open already, or where this coordinator has answered, to a
//!   question asked for it, that the partition is part of it; and only while no later epoch is known there, which is looked at *after* that
//!   answer came, since a marker may have overtaken it.
//! - A marker of an epoch ends what an *earlier* epoch has open there, if anything, and fences all before its own, also where nothing is open.
//!   Where its epoch or a later one is known it stands already, and nothing is done: it is confirmed.
//! - Both are in its log, and outlast whoever leads it.
//!
//! Kafka's clients keep their epoch from one transaction to the next (KIP-98): [`TransactionCommand::EndInEpoch`]. Then the marker carries the epoch
//! of its transaction, and ends what that very epoch has open. So whatever drives this makes sure that no copy of a marker comes once the next
//! transaction may have begun; what a batch is asked for is only whether its partition was taken in; and what was answered before a marker is
//! not believed after it.

mod add;
pub mod command;
mod end;
mod entry;
mod expiry;
mod fate;
pub mod flaws;
mod identity;
mod init;
mod names;
mod overview;
pub mod records;
mod refusals;
mod salvage;
mod touched;
mod transaction;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidelog_protocol::messages::{
    ListTransactionsResponse, ProducerIdentity, TransactionFate, TransactionMarkers, TransactionState,
};
use tidelog_protocol::{Monotonic, ProducerId, Timestamp};

use crate::command::Refusal;
use crate::image::ClusterImage;
pub use command::{
    Ending, Init, OpenTransactions, PendingMarkers, Place, TransactionCommand, TransactionDecision, TransactionLimits,
    TransactionReply,
};
use entry::{Age, Entry};
use expiry::Look;
pub use fate::{FateVerdict, Inquiry, marker_of};
pub use flaws::{TransactionFlaw, TransactionFlaws};
use identity::Identity;
use init::Initiation;
pub use names::{TRANSACTIONAL_ID_BYTES_MAX, check as check_transactional_id};
pub use records::{RecordError, TransactionRecord};
pub use salvage::salvage;
use touched::Touched;
use transaction::Transaction;

/// The internal topic. With it begins the feature level at which partitions hold open transactions, so that none is ever led, or followed, by
/// a broker that does not know what they are.
pub const TOPIC: &str = "__transactions";
/// That level.
pub const FEATURE_LEVEL: u16 = 4;

/// The transactional ids of one partition of the internal topic.
#[derive(Clone, Debug)]
pub struct Transactions {
    limits: TransactionLimits,
    flaws: TransactionFlaws,
    entries: BTreeMap<String, Entry>,
    /// Every id is in one of these three. This: a transaction is open.
    open: BTreeSet<String>,
    /// It is being ended.
    ending: BTreeSet<String>,
    /// Nothing is open, and since when.
    unused: BTreeSet<(Timestamp, String)>,
}

impl Transactions {
    /// None yet.
    #[must_use]
    pub const fn new(limits: TransactionLimits) -> Self {
        Self::with_flaws(limits, TransactionFlaws::NONE)
    }

    /// None yet, with a bug in the rules, or not.
    #[must_use]
    pub const fn with_flaws(limits: TransactionLimits, flaws: TransactionFlaws) -> Self {
        Self {
            limits,
            flaws,
            entries: BTreeMap::new(),
            open: BTreeSet::new(),
            ending: BTreeSet::new(),
            unused: BTreeSet::new(),
        }
    }

    /// Decides on `command`. Changes soft state only: which markers were confirmed, and so whether an ending is over. All else changes by replay
    /// alone.
    ///
    /// # Errors
    /// [`Refusal`] with a code of the wire's table.
    pub fn handle(
        &mut self,
        command: &TransactionCommand,
        image: &ClusterImage,
        now: Monotonic,
        wall: Timestamp,
    ) -> Result<TransactionDecision, Refusal> {
        match command {
            TransactionCommand::Init(init) => {
                let known = self.entries.get(&init.transactional_id).map(Entry::present);
                Initiation { init, known: known.as_deref(), ids: self.entries.len(), limits: &self.limits, wall }
                    .decide()
            }
            TransactionCommand::Add(request) => {
                let known = self.known(&request.transactional_id)?.present();
                add::add(&known, request, &self.limits, image, wall)
            }
            TransactionCommand::End { request, fresh_id } => {
                let known = self.known(&request.transactional_id)?.present();
                end::end(&known, request, *fresh_id, wall, self.flaws)
            }
            TransactionCommand::EndInEpoch(request) => {
                let known = self.known(&request.transactional_id)?.present();
                end::end_in_epoch(&known, request, wall)
            }
            TransactionCommand::MarkersWritten { transactional_id, written } => {
                self.confirm(transactional_id, written);
                Ok(TransactionDecision::nothing(TransactionReply::Noted))
            }
            TransactionCommand::Abort(request) => {
                let id = &request.transactional_id;
                end::abort(id, &self.known(id)?.present(), wall)
            }
            TransactionCommand::List(request) => {
                let entries = self.entries.iter().filter(|(_, entry)| !request.open_only || overview::is_open(entry));
                let transactions = entries.map(|(id, entry)| overview::listing(id, entry, now)).collect();
                Ok(TransactionDecision::nothing(TransactionReply::Listed(ListTransactionsResponse {
                    transactions,
                    unread: Vec::new(),
                })))
            }
            TransactionCommand::Describe(request) => {
                let described = overview::describe(self.known(&request.transactional_id)?);
                Ok(TransactionDecision::nothing(TransactionReply::Described(described)))
            }
        }
    }

    /// What the passing of time and the image bring about. To be called about every 100 ms; costs as much as there is open. Where a lot is due
    /// at once, the next calls do the rest.
    pub fn expire(&mut self, image: &ClusterImage, now: Monotonic, wall: Timestamp) -> Vec<TransactionRecord> {
        Look::new(image, now, wall).at(self)
    }

    /// Applies a stored record: the latest of each id is its whole state.
    pub fn replay(&mut self, record: &TransactionRecord) {
        let id = record.transactional_id();
        self.open.remove(id);
        self.ending.remove(id);
        let old = self.entries.remove(id);
        if let Some(old) = &old {
            self.unused.remove(&(old.transaction.changed_at, id.into()));
        }
        let Some(value) = &record.value else { return };
        let transaction = Transaction::from_value(value);
        match transaction.state {
            TransactionState::Empty => drop(self.unused.insert((transaction.changed_at, id.into()))),
            TransactionState::Ongoing => drop(self.open.insert(id.into())),
            TransactionState::Committing | TransactionState::Aborting => drop(self.ending.insert(id.into())),
        }
        let entry = match old {
            Some(mut entry) => {
                entry.replace(transaction);
                entry
            }
            None => Entry::new(transaction),
        };
        self.entries.insert(id.into(), entry);
    }

    /// The whole log was replayed: what is open is as old as the wall clocks say, so that no transaction gets its timeout anew because its
    /// coordinator stood still or another took its place. Where this one's clock is behind that of whoever noted when it began, it may stay open
    /// longer by as much; where it is ahead, it is aborted as much earlier, which loses nothing that was committed.
    pub fn loaded(&mut self, now: Monotonic, wall: Timestamp) {
        for entry in self.entries.values_mut() {
            entry.confirmed = Touched::default();
            entry.age = overview::is_open(entry).then(|| Age::since(entry.transaction.began_at, now, wall));
        }
    }

    /// The markers that are to be written: of every transaction that is being ended, where they are not known to stand. They may leave once
    /// all that was replayed until now is stored, are sent again until they are confirmed, and do nothing where they stand already.
    #[must_use]
    pub fn pending_markers(&self) -> Vec<PendingMarkers> {
        let mut pending: Vec<(Ending<'_>, Touched)> = Vec::new();
        self.visit_pending(|ending, place| {
            if pending.last().is_none_or(|(last, _)| last != ending) {
                pending.push((ending.clone(), Touched::default()));
            }
            let Some((_, touched)) = pending.last_mut() else { return };
            match place {
                Place::Partition(topic_id, partition) => touched.partitions.insert((topic_id, partition)),
                Place::Group(group) => drop(touched.groups.insert(group.into())),
            }
        });
        pending.into_iter().map(|(ending, touched)| ending.markers(&touched)).collect()
    }

    /// The same place by place, for whoever takes only some: shown to `visit` in the order of the ids. Groups hear of a commit once all partitions
    /// have.
    pub fn visit_pending<'a>(&'a self, mut visit: impl FnMut(&Ending<'a>, Place<'a>)) {
        for id in &self.ending {
            let Some(entry) = self.entries.get(id) else { continue };
            let Some(TransactionMarkers { identity, commit, own_epoch, .. }) =
                entry.transaction.markers(&Touched::default(), self.flaws)
            else {
                continue;
            };
            let ending = Ending { transactional_id: id, identity, commit, own_epoch };
            let Touched { partitions, groups } = &entry.transaction.touched;
            let mut missing =
                partitions.iter().filter(|partition| !entry.confirmed.partitions.contains(partition)).peekable();
            // Whoever waits for a group to be so far is to find what was made on the way.
            let groups_come = !commit || missing.peek().is_none();
            missing.for_each(|(topic_id, partition)| visit(&ending, Place::Partition(*topic_id, *partition)));
            if groups_come {
                let missing = groups.difference(&entry.confirmed.groups);
                missing.for_each(|group| visit(&ending, Place::Group(group)));
            }
        }
    }

    /// What became of the transaction of this identity, as far as the ids here know; to be told once all that was replayed until now is stored.
    #[must_use]
    pub fn fate(&self, transaction: &ProducerIdentity) -> TransactionFate {
        self.fates(core::slice::from_ref(transaction))[0]
    }

    /// The same of many. Costs as much as there are ids, however many are asked about.
    #[must_use]
    pub fn fates(&self, transactions: &[ProducerIdentity]) -> Vec<TransactionFate> {
        let mut said = vec![TransactionFate::Unknown; transactions.len()];
        let mut asked: BTreeMap<ProducerId, Vec<usize>> = BTreeMap::new();
        for (at, transaction) in transactions.iter().enumerate() {
            asked.entry(transaction.producer_id).or_default().push(at);
        }
        for known in self.entries.values().map(|entry| &entry.transaction) {
            for at in known.producers().filter_map(|producer| asked.get(&producer)).flatten() {
                if said[*at] == TransactionFate::Unknown {
                    said[*at] = fate::of(known, Identity::from(&transactions[*at]), self.flaws);
                }
            }
        }
        said
    }

    /// What is open, for metrics.
    #[must_use]
    pub fn open_transactions(&self, now: Monotonic) -> OpenTransactions {
        let open = self.open.iter().chain(&self.ending).filter_map(|id| self.entries.get(id));
        let open = open.filter(|entry| overview::is_open(entry));
        open.fold(OpenTransactions::default(), |so_far, entry| OpenTransactions {
            count: so_far.count + 1,
            oldest_ms: so_far.oldest_ms.max(entry.open_ms(now)),
        })
    }

    fn known(&self, id: &str) -> Result<&Entry, Refusal> {
        names::check(id)?;
        self.entries.get(id).ok_or_else(|| refusals::unknown(id))
    }

    /// Markers stand. With the last of them nothing is open any more, which is stored with what the id does next, or by the next look at what is
    /// due: a coordinator that does not know it writes markers that stand. A confirmation that comes late, or twice, says nothing new.
    fn confirm(&mut self, id: &str, written: &TransactionMarkers) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let pending = entry.transaction.markers(&Touched::default(), self.flaws);
        if pending
            .is_some_and(|pending| (pending.identity, pending.commit) == (written.identity.clone(), written.commit))
        {
            entry.confirmed.take_in(&Touched::from_wire(&written.partitions, &written.groups));
        }
    }
}
