//! A member joins, stays, pauses or leaves (KIP-848). Knows nothing of how targets are made, nor of who was silent.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::{
    GroupHeartbeatRequest, GroupHeartbeatResponse, JOINING, LEAVING, PAUSING, Subscription,
};

use super::command::{Bounds, GroupLimits};
use super::draft::Draft;
use super::flaws::{GroupFlaw, GroupFlaws};
use super::group::Group;
use super::membership::{MemberView, Membership, NOBODY};
use super::names::{check_group, check_member, check_optional};
use super::partition_set::{PartitionSet, TopicPartition};
use super::reconciliation::Current;
use super::records::{GroupRecord, MemberValue};
use super::{assignor, subscription};
use crate::command::Refusal;
use crate::counted;
use crate::image::ClusterImage;

/// A heartbeat, and what it is decided by.
#[derive(Clone, Copy)]
pub(super) struct Beat<'a> {
    pub request: &'a GroupHeartbeatRequest,
    pub group: Option<&'a Group>,
    pub groups: usize,
    pub limits: &'a GroupLimits,
    pub image: &'a ClusterImage,
    pub now: tidelog_protocol::Monotonic,
    pub flaws: GroupFlaws,
}

/// What it comes to.
pub(super) struct Beaten {
    pub records: Vec<GroupRecord>,
    pub response: GroupHeartbeatResponse,
    /// Something is to be let go of that was not before.
    pub told_to_let_go: bool,
}

/// Which of its epochs a member speaks in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Now,
    Before,
}

impl<'a> Beat<'a> {
    pub fn decide(self) -> Result<Beaten, Refusal> {
        let request = self.request;
        check_group(&request.group)?;
        check_member(&request.member_id)?;
        check_optional("instance id", request.instance_id.as_deref())?;
        check_optional("rack", request.rack.as_deref())?;
        check_optional("client name", request.client_name.as_deref())?;
        if let Some(subscription) = &request.subscription {
            subscription::check(subscription, self.limits.topics_max)?;
        }
        assignor::check(request.assignor.as_deref())?;
        match request.member_epoch {
            JOINING => self.join(),
            LEAVING => self.leave(),
            PAUSING => self.pause(),
            epoch if epoch > 0 => self.stay(),
            epoch => Err(invalid(format!("a member epoch of {epoch} means nothing: 0 joins, -1 leaves, -2 pauses"))),
        }
    }

    fn join(self) -> Result<Beaten, Refusal> {
        let said = self.said_on_joining()?;
        if let Some(group) = self.group.filter(|group| !group.classic.is_empty()) {
            let (name, members) = (self.request.group.escape_debug(), counted(group.members(), "member"));
            let message = format!("group '{name}' has {members} that speak Kafka's classic protocol: stop them first");
            return Err(Refusal::new(ErrorCode::GroupNotEmpty, message));
        }
        let mut draft = self.draft();
        if let Some(member) = self.membership().and_then(|membership| membership.member(&self.request.member_id)) {
            return self.join_again(draft, member, said);
        }
        let heir = self.replace(&mut draft, &said)?;
        if heir.is_none() {
            self.check_room()?;
        }
        let changed = heir.as_ref().is_none_or(|before| reads_otherwise(before, &said));
        draft.admit(&self.request.member_id, said);
        if changed || draft.wants_another_assignor() {
            draft.retarget(self.image);
        }
        Ok(self.begin(draft, &Current::NONE))
    }

    /// It is known: an answer was lost, or it was told that it is fenced, or it comes back from a pause. Only a pause says that it works
    /// on nothing: a join may be an old one that comes late, while the member works on. So it keeps what it had, in an epoch that shuts
    /// out what it sent before.
    fn join_again(self, mut draft: Draft<'a>, member: MemberView<'a>, said: MemberValue) -> Result<Beaten, Refusal> {
        self.check_instance(&member)?;
        self.say(&mut draft, member.said, said);
        if member.current.is_paused() {
            return Ok(self.begin(draft, member.current));
        }
        draft.settle(member.id, &member.current.begun_again());
        // It learns only now what it has, and how long it may take begins anew with it.
        let told_to_let_go = !member.current.letting_go.is_empty();
        Ok(Beaten { told_to_let_go, ..self.answer(draft, true) })
    }

    /// Makes room for a member that comes under the instance id of another. Gives what that one had said, if there is one.
    fn replace(self, draft: &mut Draft<'a>, said: &MemberValue) -> Result<Option<MemberValue>, Refusal> {
        let Some(instance_id) = said.instance_id.as_deref() else { return Ok(None) };
        let Some(group) = self.group else { return Ok(None) };
        let Some(holder) = group.membership.instance(instance_id) else { return Ok(None) };
        if !holder.current.is_paused() && !group.presence(holder.id).is_silent(&holder, self.now) {
            let message = format!(
                "member '{}' serves under instance id '{}': stop it, or wait until its session of {} ms ends",
                holder.id,
                instance_id.escape_debug(),
                holder.said.session_ms
            );
            return Err(Refusal::new(ErrorCode::InstanceTaken, message));
        }
        draft.dismiss(holder.id);
        draft.aim(&self.request.member_id, holder.destination.target);
        Ok(Some(holder.said.clone()))
    }

    /// It gets what is free of its target, in an epoch that it never had.
    fn begin(self, mut draft: Draft<'a>, before: &Current) -> Beaten {
        let membership = draft.membership();
        let begun = membership
            .member(&self.request.member_id)
            .map(|member| before.begun(member.destination, |partition| self.is_free(membership, partition)));
        if let Some(begun) = &begun {
            draft.settle(&self.request.member_id, begun);
        }
        self.answer(draft, true)
    }

    fn stay(self) -> Result<Beaten, Refusal> {
        let member = self.member()?;
        let spoken = self.check_epoch(&member)?;
        self.check_instance(&member)?;
        let mut draft = self.draft();
        self.say(&mut draft, member.said, self.said_while_staying(&member));
        let owned = self.request.owned.as_deref().map(PartitionSet::from_wire);
        // One that missed an answer learns only now what it has, and how long it may take begins anew with it.
        let mut told_to_let_go = spoken == Spoken::Before && !member.current.letting_go.is_empty();
        if spoken == Spoken::Now || self.flaws.has(GroupFlaw::LateHeartbeatBelieved) {
            let membership = draft.membership();
            let destination = membership.member(member.id).map_or(member.destination, |member| member.destination);
            let is_free = |partition: &TopicPartition| self.is_free(membership, partition);
            let next = member.current.moved(destination, owned.as_ref(), is_free, self.flaws);
            told_to_let_go = member.current.letting_go.is_empty() && !next.letting_go.is_empty()
                || !next.letting_go.is_within(&member.current.letting_go);
            if next != *member.current {
                draft.settle(member.id, &next);
            }
        }
        let knows = |current: &Current| {
            spoken == Spoken::Now
                && current == member.current
                && current.letting_go.is_empty()
                && owned.as_ref().is_none_or(|owned| *owned == current.owned)
        };
        let tell = draft.membership().member(member.id).is_none_or(|member| !knows(member.current));
        Ok(Beaten { told_to_let_go, ..self.answer(draft, tell) })
    }

    fn leave(self) -> Result<Beaten, Refusal> {
        let member = self.member()?;
        let session_timeout_ms = member.said.session_ms;
        let mut draft = self.draft();
        draft.dismiss(member.id);
        draft.retarget(self.image);
        Ok(self.farewell(draft, session_timeout_ms))
    }

    fn pause(self) -> Result<Beaten, Refusal> {
        let member = self.member()?;
        self.check_instance(&member)?;
        if member.said.instance_id.is_none() {
            return Err(invalid("only a member with an instance id can pause: without one it leaves".into()));
        }
        let mut draft = self.draft();
        if !member.current.is_paused() {
            draft.settle(member.id, &member.current.paused());
        }
        Ok(self.farewell(draft, member.said.session_ms))
    }

    fn farewell(self, draft: Draft<'_>, session_timeout_ms: u32) -> Beaten {
        let response = GroupHeartbeatResponse {
            member_epoch: self.request.member_epoch,
            heartbeat_interval_ms: self.limits.heartbeat_ms,
            session_timeout_ms,
            assignment: None,
        };
        Beaten { records: draft.into_records(), response, told_to_let_go: false }
    }

    fn answer(self, draft: Draft<'_>, tell: bool) -> Beaten {
        let membership = draft.membership();
        let member = membership.member(&self.request.member_id);
        let current = member.map_or(&NOBODY, |member| member.current);
        let arrived = member.is_none_or(|member| current.has_arrived(member.destination));
        let response = GroupHeartbeatResponse {
            member_epoch: current.epoch,
            heartbeat_interval_ms: if arrived { self.limits.heartbeat_ms } else { hurried(self.limits.heartbeat_ms) },
            session_timeout_ms: member.map_or(0, |member| member.said.session_ms),
            assignment: tell.then(|| current.owned.to_wire()),
        };
        Beaten { records: draft.into_records(), response, told_to_let_go: false }
    }

    /// Notes what it says of itself, and makes new targets where that needs them.
    fn say(self, draft: &mut Draft<'_>, before: &MemberValue, said: MemberValue) {
        if *before == said {
            return;
        }
        let changed = reads_otherwise(before, &said);
        draft.admit(&self.request.member_id, said);
        if changed || draft.wants_another_assignor() {
            draft.retarget(self.image);
        }
    }

    fn said_on_joining(self) -> Result<MemberValue, Refusal> {
        let request = self.request;
        let Some(Subscription { topics, pattern }) = &request.subscription else {
            return Err(invalid("a member that joins says what it wants to read".into()));
        };
        let session_ms = within("session timeout", request.session_timeout_ms, self.limits.session_ms)?;
        let rebalance_ms = within("rebalance timeout", request.rebalance_timeout_ms, self.limits.rebalance_ms)?;
        Ok(MemberValue {
            instance_id: request.instance_id.clone(),
            rack: request.rack.clone(),
            client_name: request.client_name.clone(),
            session_ms,
            // Until its session ends, one that hears no answers does not know that it shall let go.
            rebalance_ms: rebalance_ms.max(session_ms),
            topics: subscription::sorted(topics),
            pattern: pattern.clone(),
            assignor: request.assignor.clone(),
        })
    }

    fn said_while_staying(self, member: &MemberView<'_>) -> MemberValue {
        let request = self.request;
        let mut said = member.said.clone();
        if let Some(Subscription { topics, pattern }) = &request.subscription {
            said.topics = subscription::sorted(topics);
            said.pattern.clone_from(pattern);
        }
        let change = |known: &mut Option<String>, new: &Option<String>| {
            if new.is_some() {
                known.clone_from(new);
            }
        };
        change(&mut said.rack, &request.rack);
        change(&mut said.client_name, &request.client_name);
        change(&mut said.assignor, &request.assignor);
        said
    }

    fn check_epoch(self, member: &MemberView<'_>) -> Result<Spoken, Refusal> {
        let (spoken, current) = (self.request.member_epoch, member.current);
        if spoken == current.epoch {
            return Ok(Spoken::Now);
        }
        // The answer that gave it the newer epoch was lost. What it had then it has still, or it had let go before.
        let owned = self.request.owned.as_deref().map(PartitionSet::from_wire);
        let within = owned.is_none_or(|owned| owned.iter().all(|partition| current.works_on(partition)));
        if !current.is_paused() && spoken == current.previous_epoch && within {
            return Ok(Spoken::Before);
        }
        let known = current.epoch;
        let message = format!(
            "member '{}' speaks in epoch {spoken} and has epoch {known}: let go of everything and join again",
            member.id.escape_debug()
        );
        Err(Refusal::new(ErrorCode::FencedMember, message))
    }

    fn check_instance(self, member: &MemberView<'_>) -> Result<(), Refusal> {
        match &self.request.instance_id {
            Some(given) if member.said.instance_id.as_ref() != Some(given) => {
                let id = member.id.escape_debug();
                Err(invalid(format!("member '{id}' did not join under instance id '{}'", given.escape_debug())))
            }
            _ => Ok(()),
        }
    }

    fn check_room(self) -> Result<(), Refusal> {
        let full = |message: String| Err(Refusal::new(ErrorCode::GroupFull, message));
        match self.group {
            None => check_groups(self.groups, self.limits),
            Some(group) if group.membership.members().count() >= self.limits.members_max => {
                full(format!("the group has {} members, and may not have more", self.limits.members_max))
            }
            Some(_) => Ok(()),
        }
    }

    fn is_free(self, membership: &Membership, partition: &TopicPartition) -> bool {
        membership.is_free(partition) || self.flaws.has(GroupFlaw::GivenTooEarly)
    }

    fn member(self) -> Result<MemberView<'a>, Refusal> {
        let member = self.membership().and_then(|membership| membership.member(&self.request.member_id));
        member.ok_or_else(|| unknown_member(&self.request.group, &self.request.member_id))
    }

    fn membership(self) -> Option<&'a Membership> {
        self.group.map(|group| &group.membership)
    }

    fn draft(self) -> Draft<'a> {
        Draft::new(&self.request.group, self.membership())
    }
}

/// May there be one more?
pub(super) fn check_groups(groups: usize, limits: &GroupLimits) -> Result<(), Refusal> {
    if groups < limits.groups_max {
        return Ok(());
    }
    let most = limits.groups_max;
    let message =
        format!("this partition of the internal topic holds {most} groups, and may not hold more: delete some");
    Err(Refusal::new(ErrorCode::GroupFull, message))
}

pub(super) fn unknown_member(group: &str, member_id: &str) -> Refusal {
    let (group, member_id) = (group.escape_debug(), member_id.escape_debug());
    let message = format!("group '{group}' has no member '{member_id}': let go of everything and join again");
    Refusal::new(ErrorCode::UnknownMember, message)
}

fn reads_otherwise(before: &MemberValue, after: &MemberValue) -> bool {
    before.topics != after.topics || before.pattern != after.pattern
}

fn within(what: &str, asked: u32, Bounds { min, default, max }: Bounds) -> Result<u32, Refusal> {
    match asked {
        0 => Ok(default),
        asked if (min..=max).contains(&asked) => Ok(asked),
        asked => Err(invalid(format!("a {what} is {min} to {max} ms, not {asked}"))),
    }
}

/// When to be heard of next, while not all is as it shall be.
const fn hurried(heartbeat_ms: u32) -> u32 {
    let tenth = heartbeat_ms / 10;
    if tenth > 100 {
        tenth
    } else if heartbeat_ms < 100 {
        heartbeat_ms
    } else {
        100
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidGroup, message)
}
