//! Which group a call of Kafka's protocol is about, and of which kind it is. Knows nothing of how classic groups decide.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::kafka::consumer_protocol::CONSUMER;
use tidelog_protocol::messages::{CommittedOffset, GroupState, OffsetCommitRequest};
use tidelog_protocol::{ErrorCode, Monotonic, Timestamp};

use super::command::{
    ClassicCaller, ClassicCommand, ClassicError, ClassicJoined, ClassicListing, ClassicPart, ClassicReply,
    ClassicTransactionCommit,
};
use super::turn::{Turn, check_caller};
use super::{join, sync, view};
use crate::command::Refusal;
use crate::groups::flaws::GroupFlaw;
use crate::groups::group::Group;
use crate::groups::heartbeat::check_groups;
use crate::groups::names::check_group;
use crate::groups::offsets::Committer;
use crate::groups::records::ClassicPhase;
use crate::groups::{GroupDecision, GroupRecord, GroupReply, Groups};
use crate::image::ClusterImage;

type Decided = Result<(Vec<GroupRecord>, ClassicReply), ClassicError>;

impl Groups {
    /// Decides on a call. What is refused in Kafka's words is part of the answer.
    pub(in crate::groups) fn classic(
        &mut self,
        command: &ClassicCommand,
        (image, now, wall): (&ClusterImage, Monotonic, Timestamp),
    ) -> Result<GroupDecision, Refusal> {
        let decided = match command {
            ClassicCommand::Commit { caller, offsets } => {
                let committer = match self.committer(caller) {
                    Ok(committer) => committer,
                    Err(error) => return Ok(decision(Err(error))),
                };
                let request = commit_request(caller, offsets, committer);
                let (records, _) = self.commit_by(committer, &request, false, image, wall)?;
                Ok((records, ClassicReply::Committed))
            }
            ClassicCommand::CommitInTransaction(commit) => return self.commit_in_transaction(commit, image, wall),
            ClassicCommand::List => Ok((Vec::new(), ClassicReply::Listed(self.listings()))),
            ClassicCommand::Describe { group } => self.describe_classic(group),
            ClassicCommand::Join(ask) => self.turn(&ask.group, now, |turn| turn.join(ask)),
            ClassicCommand::Sync(ask) => self.turn(&ask.caller.group, now, |turn| turn.sync(ask)),
            ClassicCommand::Heartbeat(caller) => self.turn(&caller.group, now, |turn| turn.heartbeat(caller)),
            ClassicCommand::Leave { group, members } => self.turn(group, now, |turn| Ok(turn.leave(members))),
        };
        Ok(decision(decided))
    }

    /// What a member hears that joined, once the generation after `after` has begun; `None` until then.
    #[must_use]
    pub fn classic_joined(
        &self,
        group: &str,
        member: (&str, Option<&str>),
        after: i32,
    ) -> Option<Result<ClassicJoined, ClassicError>> {
        match self.groups.get(group) {
            Some(group) => join::joined(&group.classic, member, after),
            None => Some(Err(ClassicError::UnknownMember)),
        }
    }

    /// What a member hears that asked for its part, once the leader has said who does what; `None` until then.
    #[must_use]
    pub fn classic_synced(&self, caller: &ClassicCaller) -> Option<Result<ClassicPart, ClassicError>> {
        match self.groups.get(&caller.group) {
            Some(group) => sync::synced(&group.classic, caller),
            None => Some(Err(ClassicError::UnknownMember)),
        }
    }

    /// What the passing of time brings about in the groups of `touched`, or in all.
    pub(in crate::groups) fn expire_classic(
        &mut self,
        touched: Option<&BTreeSet<String>>,
        now: Monotonic,
    ) -> Vec<GroupRecord> {
        let names: Vec<String> = match touched {
            Some(touched) => touched.iter().cloned().collect(),
            None => self.gatherings.keys().cloned().collect(),
        };
        let mut records = Vec::new();
        for name in names {
            let state = self.groups.get(&name).map(|group| &group.classic).filter(|state| !state.is_empty());
            if state.is_none() && !self.gatherings.contains_key(&name) {
                continue;
            }
            let mut gathering = self.gatherings.remove(&name).unwrap_or_default();
            let mut turn = Turn::new((&name, state), &mut gathering, (&self.limits, self.flaws), now);
            let due = turn.pass();
            let is_over = turn.state().is_empty();
            records.extend(turn.into_records());
            self.next_due = due.map_or(self.next_due, |due| due.min(self.next_due));
            if !is_over || gathering.promised() > 0 {
                self.gatherings.insert(name, gathering);
            }
        }
        records
    }

    /// Everyone's time counts from now on.
    pub(in crate::groups) fn loaded_classic(&mut self, now: Monotonic) {
        for (name, group) in self.groups.iter().filter(|(_, group)| !group.classic.is_empty()) {
            self.gatherings.entry(name.clone()).or_default().look(&group.classic, now);
        }
        self.gatherings.values_mut().for_each(|gathering| gathering.forgive(now));
    }

    fn turn(
        &mut self,
        name: &str,
        now: Monotonic,
        decide: impl FnOnce(&mut Turn<'_>) -> Result<ClassicReply, ClassicError>,
    ) -> Decided {
        check_group(name).map_err(|_| ClassicError::InvalidGroup)?;
        let group = self.groups.get(name);
        if group.is_some_and(|group| !group.membership.is_empty()) {
            return Err(ClassicError::InconsistentProtocol);
        }
        let is_known = group.is_some() || self.gatherings.contains_key(name);
        let count = self.groups.len().max(self.gatherings.len());
        if !is_known && check_groups(count, &self.limits).is_err() {
            return Err(ClassicError::GroupFull);
        }
        let mut gathering = self.gatherings.remove(name).unwrap_or_default();
        let state = group.map(|group| &group.classic);
        let mut turn = Turn::new((name, state), &mut gathering, (&self.limits, self.flaws), now);
        let decided = decide(&mut turn);
        let has_members = !turn.state().is_empty();
        let records = turn.into_records();
        if has_members || gathering.promised() > 0 {
            self.gatherings.insert(name.to_owned(), gathering);
            self.touched.insert(name.to_owned());
        }
        Ok((records, decided?))
    }

    /// What is answered by `AskFirst` counts only as long as no transaction of that producer has ended here since: the next may have its epoch.
    fn commit_in_transaction(
        &self,
        commit: &ClassicTransactionCommit,
        image: &ClusterImage,
        wall: Timestamp,
    ) -> Result<GroupDecision, Refusal> {
        let ClassicTransactionCommit { caller, offsets, transaction, asked } = commit;
        let committer = match self.committer(caller) {
            // Earlier versions do not say who commits: its epoch tells.
            Err(_) if caller.is_nobody() => Committer::Classic,
            Err(error) => return Ok(decision(Err(error))),
            Ok(Committer::Nobody) if self.groups.contains_key(&caller.group) => Committer::Classic,
            Ok(committer) => committer,
        };
        let transaction_of = Some(transaction.clone());
        let request = OffsetCommitRequest { transaction: transaction_of, ..commit_request(caller, offsets, committer) };
        let ends = self.fences.ends(&caller.group, transaction.identity.producer_id);
        if asked.is_some_and(|asked| asked != ends) {
            let sentence = format!("the transaction has ended in group '{}': nothing was noted", caller.group);
            return Err(Refusal::new(ErrorCode::InvalidTransactionState, sentence));
        }
        match self.commit_by(committer, &request, asked.is_some(), image, wall)? {
            (records, GroupReply::TakeInFirst) => Ok(decision(Ok((records, ClassicReply::AskFirst(ends))))),
            (records, _) => Ok(decision(Ok((records, ClassicReply::Committed)))),
        }
    }

    /// Who commits, if it may.
    fn committer(&self, caller: &ClassicCaller) -> Result<Committer, ClassicError> {
        let group = self.groups.get(&caller.group);
        if group.is_some_and(|group| !group.membership.is_empty()) {
            return Ok(if caller.member_id.is_empty() { Committer::Nobody } else { Committer::Member });
        }
        let state = group.map(|group| &group.classic).filter(|state| !state.is_empty());
        let is_nobody = caller.is_nobody();
        match state {
            None if is_nobody => Ok(Committer::Nobody),
            // Its generation is over.
            None => {
                Err(if caller.generation < 0 { ClassicError::UnknownMember } else { ClassicError::IllegalGeneration })
            }
            Some(state) => {
                match check_caller(state, caller) {
                    Err(ClassicError::IllegalGeneration) if self.flaws.has(GroupFlaw::ClassicCommitUnfenced) => {}
                    checked => checked?,
                }
                // What it is to do is open: another may do it in this generation.
                if state.phase() == ClassicPhase::Completing {
                    return Err(ClassicError::RebalanceInProgress);
                }
                Ok(Committer::Classic)
            }
        }
    }

    fn describe_classic(&self, name: &str) -> Decided {
        check_group(name).map_err(|_| ClassicError::InvalidGroup)?;
        let group = self.groups.get(name).filter(|group| !group.is_native()).ok_or(ClassicError::UnknownGroup)?;
        Ok((Vec::new(), ClassicReply::Described(view::description(&group.classic))))
    }

    fn listings(&self) -> Vec<ClassicListing> {
        let listing = |(name, group): (&String, &Group)| {
            let is_native = group.is_native();
            let (protocol_type, state) = match (is_native, group.state()) {
                (false, _) => (group.classic.protocol_type(), group.classic.phase().name()),
                (true, GroupState::Empty) => (CONSUMER, "Empty"),
                (true, GroupState::Reconciling) => (CONSUMER, "Reconciling"),
                (true, GroupState::Stable) => (CONSUMER, "Stable"),
            };
            ClassicListing { group: name.clone(), is_native, protocol_type: protocol_type.to_owned(), state }
        };
        self.groups.iter().map(listing).collect()
    }
}

fn decision(decided: Decided) -> GroupDecision {
    let (records, said) = match decided {
        Ok((records, reply)) => (records, Ok(reply)),
        Err(error) => (Vec::new(), Err(error)),
    };
    GroupDecision { records, reply: GroupReply::Classic(Box::new(said)) }
}

/// The same in words that both kinds have.
fn commit_request(caller: &ClassicCaller, offsets: &[CommittedOffset], committer: Committer) -> OffsetCommitRequest {
    let is_native = committer == Committer::Member;
    OffsetCommitRequest {
        group: caller.group.clone(),
        member_id: is_native.then(|| caller.member_id.clone()),
        member_epoch: caller.generation,
        offsets: offsets.to_vec(),
        transaction: None,
    }
}
