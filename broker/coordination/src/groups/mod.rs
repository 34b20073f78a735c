//! Consumer groups with server-side assignment (the model of KIP-848), pure: one [`Groups`] holds the groups of one partition of the
//! internal topic. Knows nothing of the log that holds its records, nor of connections; the time comes as an argument.
//!
//! In the order a heartbeat meets them:
//! - [`command`]: what can be asked for, what comes back, and the limits.
//! - `names`, `subscription`, [`pattern`]: what is a name, and which topics a member reads.
//! - `heartbeat`: a member joins, stays, pauses or leaves.
//! - `draft`: the records of one decision, and [`assignor`] with its kinds `uniform` and `range`: who is to own what.
//! - [`reconciliation`]: how a member is moved there without two ever owning one partition; [`partition_set`] counts them.
//! - `offsets`: how far a group has come; `transactions`: within a transaction, with `pending` and `fences`, what it has noted and which are over.
//! - `overview`: groups as people see them.
//! - `expiry`: silence, slowness and changing topics, with `presence`, who was heard of when.
//! - [`records`]: what is written, keyed for compaction; `membership` and `group`: the state that they make.
//! - `salvage`: what is written anew where a part of the log is lost.
//! - [`classic`]: groups of Kafka's classic protocol, whose members share the work out among themselves, over the same offsets.
//! - [`flaws`]: bugs that tests plant.
//!
//! What drives it owes it this:
//! - **Records in order, before the next call**: the records of a decision are replayed (or the whole machine is thrown away and
//!   rebuilt from the log) before `handle` or `expire` is called again; those of one group are stored all together or not at all.
//! - **Answers wait**: an answer, a refusal too, leaves once every record replayed until then is stored: it may speak of them.
//! - [`GroupReply::TakeInFirst`]: the transaction's coordinator is asked, *after* that answer, to take the group in; where it does, the command is
//!   handed in again as one that is taken in, to this same machine, and not to one that was rebuilt meanwhile.
//! - **The image has caught up**: with the metadata by which this broker leads the partition, at least. Offsets of topics that it
//!   does not know are dropped as those of deleted ones.
//!
//! What a member owes it, so that no two ever work on one partition:
//! - A partition counts as owned from the answer that gives it until the member has let go of it; `owned` in a heartbeat is what it
//!   owns as that heartbeat is sent. It stands in the first heartbeat after each answer that says what it may own.
//! - It lets go of everything and joins again once its session passed since it *sent* the last heartbeat that was answered; once its
//!   rebalance timeout (or its session, if that is longer) passed since it sent the last one whose answer took nothing from it; and
//!   when it is told that it is no member any more. For the second of these, an answer to what it sent after it had let go of
//!   everything that it was asked for counts too, from the first that it sent then, whatever that answer takes next.
//! - A new life of the process, and whoever left, comes under a new member id.

pub mod assignor;
pub mod classic;
pub mod command;
mod draft;
mod expiry;
mod fences;
pub mod flaws;
mod group;
mod heartbeat;
mod membership;
pub(crate) mod names;
mod offsets;
mod overview;
pub mod partition_set;
pub mod pattern;
mod pending;
mod presence;
mod range;
pub mod reconciliation;
pub mod records;
mod salvage;
mod subscription;
mod transactions;
mod uniform;

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{GroupHeartbeatRequest, OffsetCommitRequest};
use tidelog_protocol::{MetadataIndex, Monotonic, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId};

use crate::command::Refusal;
use crate::image::ClusterImage;
use classic::Gathering;
pub use command::{Bounds, GroupCommand, GroupDecision, GroupLimits, GroupReply};
use expiry::Look;
use fences::Fences;
pub use flaws::{GroupFlaw, GroupFlaws};
use group::Group;
use heartbeat::Beat;
pub use names::check_group;
use offsets::{Commit, Committer};
pub use records::{GroupRecord, RecordError};
pub use salvage::salvage;
use transactions::End;

/// The groups of one partition of the internal topic.
#[derive(Clone, Debug)]
pub struct Groups {
    limits: GroupLimits,
    flaws: GroupFlaws,
    groups: BTreeMap<String, Group>,
    /// Who waits for whom in classic groups.
    gatherings: BTreeMap<String, Gathering>,
    fences: Fences,
    /// Groups that records changed since `expire` last looked at them.
    touched: BTreeSet<String>,
    /// The topics that `expire` saw last: as of when, and their hash.
    seen: Option<(MetadataIndex, u64)>,
    /// Before that nobody's time is up.
    next_due: Monotonic,
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new(limits: GroupLimits) -> Self {
        Self::with_flaws(limits, GroupFlaws::NONE)
    }

    /// None yet, with a bug in the rules, or not.
    #[must_use]
    pub fn with_flaws(limits: GroupLimits, flaws: GroupFlaws) -> Self {
        Self {
            limits,
            flaws,
            groups: BTreeMap::new(),
            gatherings: BTreeMap::new(),
            fences: Fences::default(),
            touched: BTreeSet::new(),
            seen: None,
            next_due: Monotonic(u64::MAX),
        }
    }

    /// Decides on `command`. Changes soft state only: who was heard of when. All else changes by replay alone.
    ///
    /// # Errors
    /// [`Refusal`] with a code of the wire's table.
    pub fn handle(
        &mut self,
        command: &GroupCommand,
        image: &ClusterImage,
        now: Monotonic,
        wall: Timestamp,
    ) -> Result<GroupDecision, Refusal> {
        let nothing = Vec::new();
        let (records, reply) = match command {
            GroupCommand::Heartbeat(request) => return self.heartbeat(request, image, now),
            GroupCommand::Classic(command) => return self.classic(command, (image, now, wall)),
            GroupCommand::Commit(request) => self.commit(request, false, image, wall)?,
            GroupCommand::CommitTakenIn(request) => self.commit(request, true, image, wall)?,
            GroupCommand::EndTransaction { group, identity, commit, own_epoch } => {
                let (known, flaws) = (self.groups.get(group), self.flaws);
                let (commit, own_epoch) = (*commit, *own_epoch);
                let end = End { group, known, identity, commit, own_epoch, image, flaws };
                (end.decide(&self.fences)?, GroupReply::Ended)
            }
            GroupCommand::Fetch(request) => {
                let fetched = offsets::fetch(self.groups.get(&request.group), request, self.flaws)?;
                (nothing, GroupReply::Fetched(fetched))
            }
            GroupCommand::List => (nothing, GroupReply::Listed(overview::list(&self.groups))),
            GroupCommand::Describe(request) => {
                let known = (self.gatherings.get(&request.group), image, now);
                (nothing, GroupReply::Described(overview::describe(&self.groups, &request.group, known)?))
            }
            GroupCommand::Delete(request) => (overview::delete(&self.groups, request)?, GroupReply::Deleted),
        };
        Ok(GroupDecision { records, reply })
    }

    fn commit(
        &self,
        request: &OffsetCommitRequest,
        taken_in: bool,
        image: &ClusterImage,
        wall: Timestamp,
    ) -> Result<(Vec<GroupRecord>, GroupReply), Refusal> {
        let committer = if request.member_id.is_some() { Committer::Member } else { Committer::Nobody };
        self.commit_by(committer, request, taken_in, image, wall)
    }

    fn commit_by(
        &self,
        committer: Committer,
        request: &OffsetCommitRequest,
        taken_in: bool,
        image: &ClusterImage,
        wall: Timestamp,
    ) -> Result<(Vec<GroupRecord>, GroupReply), Refusal> {
        let commit = Commit {
            request,
            committer,
            taken_in,
            group: self.groups.get(&request.group),
            groups: self.groups.len(),
            fences: &self.fences,
            limits: &self.limits,
            image,
            wall,
            flaws: self.flaws,
        };
        commit.decide()
    }

    /// What the passing of time and the image bring about: sessions and rebalance timeouts that ended, topics that came, grew or were
    /// deleted. To be called about every 100 ms; costs next to nothing while nothing is due. Records of one group stand together.
    pub fn expire(&mut self, image: &ClusterImage, now: Monotonic) -> Vec<GroupRecord> {
        let moved = self.seen.is_none_or(|(as_of, _)| as_of != image.as_of());
        let topics_changed = self.see(image);
        let touched = core::mem::take(&mut self.touched);
        let look_at_all = topics_changed || now >= self.next_due;
        let mut records = self.fences.expire(now);
        if !look_at_all && touched.is_empty() {
            return records;
        }
        if look_at_all {
            self.next_due = Monotonic(u64::MAX);
        }
        records.extend(self.expire_classic((!look_at_all).then_some(&touched), now));
        let mut visit = |name: &str, group: &mut Group| {
            // What was decided since the last look was decided by an image in between: a topic that came and went again changes no hash.
            let topics_changed = topics_changed || (moved && touched.contains(name));
            let look = Look { image, topics_changed, now, idle_ms: self.limits.session_ms.max };
            let (changes, due) = look.at(name, group);
            records.extend(changes);
            self.next_due = due.map_or(self.next_due, |due| due.min(self.next_due));
        };
        if look_at_all {
            self.groups.iter_mut().for_each(|(name, group)| visit(name, group));
        } else {
            for name in &touched {
                if let Some(group) = self.groups.get_mut(name) {
                    visit(name, group);
                }
            }
        }
        records
    }

    /// Applies a stored record. What is not known yet is made, whatever the order: compaction leaves the latest value of each key.
    pub fn replay(&mut self, record: &GroupRecord) {
        if let GroupRecord::Fence(key, value) = record {
            return self.fences.replay(key, value.as_ref());
        }
        let name = record.group();
        let mut group = self.groups.remove(name).unwrap_or_default();
        group.replay(record);
        if !group.is_void() {
            self.groups.insert(name.to_owned(), group);
        }
        if !self.touched.contains(name) {
            self.touched.insert(name.to_owned());
        }
    }

    /// The whole log was replayed: everyone gets a whole session from `now`.
    pub fn loaded(&mut self, now: Monotonic) {
        for group in self.groups.values_mut() {
            group.loaded(now);
        }
        self.loaded_classic(now);
        self.touched = self.groups.keys().cloned().collect();
    }

    /// How far a group has come.
    #[must_use]
    pub fn committed(&self, group: &str, topic: TopicId, partition: PartitionId) -> Option<Offset> {
        self.groups.get(group)?.offsets.get(&(topic, partition)).map(|value| value.offset)
    }

    /// Transactions that have noted offsets here and of whose end nothing was heard, up to `count_max`: in which group, whose, and their epoch.
    #[must_use]
    pub fn open_transactions(&self, count_max: usize) -> Vec<(&str, (ProducerId, ProducerEpoch))> {
        let of = |(name, group)| {
            let (name, group): (&String, &Group) = (name, group);
            group.pending.transactions().map(move |transaction| (name.as_str(), transaction))
        };
        self.groups.iter().flat_map(of).take(count_max).collect()
    }

    fn heartbeat(
        &mut self,
        request: &GroupHeartbeatRequest,
        image: &ClusterImage,
        now: Monotonic,
    ) -> Result<GroupDecision, Refusal> {
        let beat = Beat {
            request,
            group: self.groups.get(&request.group),
            groups: self.groups.len(),
            limits: &self.limits,
            image,
            now,
            flaws: self.flaws,
        };
        let beaten = beat.decide()?;
        if let Some(group) = self.groups.get_mut(&request.group) {
            // A pause that comes twice does not make the wait longer.
            if !group.is_paused(&request.member_id) || !beaten.records.is_empty() {
                group.heard(&request.member_id, request.busy_ms, now);
            }
            if beaten.told_to_let_go {
                group.told_to_let_go(&request.member_id, now);
            }
        }
        Ok(GroupDecision { records: beaten.records, reply: GroupReply::Heartbeat(beaten.response) })
    }

    /// Looks at the topics. Did any come, grow or go since it last did?
    fn see(&mut self, image: &ClusterImage) -> bool {
        let before = self.seen;
        if before.is_some_and(|(as_of, _)| as_of == image.as_of()) {
            return false;
        }
        let hash = subscription::hash(image.topics().map(|topic| &**topic));
        self.seen = Some((image.as_of(), hash));
        before.is_none_or(|(_, before)| before != hash)
    }
}
