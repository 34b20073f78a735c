//! A group: its members, how far it has come, and who was heard of. Knows nothing of other groups.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::Monotonic;
use tidelog_protocol::messages::{CommittedOffset, GroupState};

use super::classic::{self, ClassicState};
use super::membership::{MemberView, Membership};
use super::partition_set::TopicPartition;
use super::pending::Pending;
use super::presence::Presence;
use super::records::{GroupRecord, OffsetValue};

/// A group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub membership: Membership,
    /// The members, where they share the work out among themselves. A group has members of one kind at most.
    pub classic: ClassicState,
    pub offsets: BTreeMap<TopicPartition, OffsetValue>,
    /// What open transactions have noted.
    pub pending: Pending,
    presences: BTreeMap<String, Presence>,
    /// Since when it is known to have neither members nor offsets.
    pub idle_since: Option<Monotonic>,
}

impl Group {
    /// Is nothing left of it?
    pub fn is_void(&self) -> bool {
        self.membership.is_void() && self.classic.is_void() && self.offsets.is_empty() && self.pending.is_empty()
    }

    /// How many members it has, of either kind.
    pub fn members(&self) -> usize {
        self.membership.members().count() + self.classic.count()
    }

    /// Does the broker assign its partitions? Without members that is so if it was the last to do so.
    pub fn is_native(&self) -> bool {
        let was_native = self.membership.epoch() > 0 && self.classic.value().is_none();
        !self.membership.is_empty() || (self.classic.is_empty() && was_native)
    }

    /// Applies a record of this group.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset(key, value) => {
                let partition = (key.topic_id, key.partition);
                match value {
                    Some(value) => drop(self.offsets.insert(partition, value.clone())),
                    None => drop(self.offsets.remove(&partition)),
                }
            }
            GroupRecord::Member(key, value) => {
                self.membership.replay(record);
                if value.is_none() {
                    self.presences.remove(&key.member_id);
                }
            }
            GroupRecord::Current(key, value) => {
                self.membership.replay(record);
                let lets_go = value.as_ref().is_some_and(|value| !value.letting_go.is_empty());
                if !lets_go && let Some(presence) = self.presences.get_mut(&key.member_id) {
                    presence.letting_go_since = None;
                }
            }
            GroupRecord::PendingOffset(key, value) => self.pending.replay(key, value.as_ref()),
            // Of the group's name: it outlasts the group.
            GroupRecord::Fence(..) => {}
            GroupRecord::Group(..) | GroupRecord::Target(..) => self.membership.replay(record),
            GroupRecord::ClassicGroup(..) | GroupRecord::ClassicMember(..) | GroupRecord::ClassicPart(..) => {
                self.classic.replay(record);
            }
        }
    }

    /// Everyone's time counts from now on.
    pub fn loaded(&mut self, now: Monotonic) {
        self.presences.clear();
        for member in self.membership.members() {
            let mut presence = Presence::default();
            presence.begin(&member, now);
            self.presences.insert(member.id.into(), presence);
        }
    }

    /// A member's presence.
    pub fn presence(&self, id: &str) -> Presence {
        self.presences.get(id).copied().unwrap_or_default()
    }

    /// Has this member gone, and means to come back?
    pub fn is_paused(&self, id: &str) -> bool {
        self.membership.member(id).is_some_and(|member| member.current.is_paused())
    }

    /// It was heard of.
    pub fn heard(&mut self, id: &str, busy_ms: Option<u32>, now: Monotonic) {
        if self.membership.member(id).is_none() {
            return;
        }
        let presence = self.presence_mut(id);
        presence.heard = Some(now);
        presence.busy_ms = busy_ms;
    }

    /// It is to let go of something that it was not before.
    pub fn told_to_let_go(&mut self, id: &str, now: Monotonic) {
        self.presence_mut(id).letting_go_since = Some(now);
    }

    /// The time of everyone counts, at the latest from now on.
    pub fn begin(&mut self, now: Monotonic) {
        for member in self.membership.members() {
            match self.presences.get_mut(member.id) {
                Some(presence) => presence.begin(&member, now),
                None => {
                    let mut presence = Presence::default();
                    presence.begin(&member, now);
                    self.presences.insert(member.id.into(), presence);
                }
            }
        }
    }

    /// How it is.
    pub fn state(&self) -> GroupState {
        let on_the_way =
            |member: &MemberView<'_>| !member.current.is_paused() && !member.current.has_arrived(member.destination);
        if self.membership.is_empty() {
            classic::group_state(&self.classic)
        } else if self.membership.members().any(|member| on_the_way(&member)) {
            GroupState::Reconciling
        } else {
            GroupState::Stable
        }
    }

    /// How far it has come, by topic and partition.
    pub fn committed(&self) -> Vec<CommittedOffset> {
        self.offsets.iter().map(|(partition, value)| committed(*partition, value)).collect()
    }

    fn presence_mut(&mut self, id: &str) -> &mut Presence {
        self.presences.entry(id.into()).or_default()
    }
}

/// As messages say it.
pub(super) fn committed((topic_id, partition): TopicPartition, value: &OffsetValue) -> CommittedOffset {
    let OffsetValue { offset, leader_epoch, metadata, committed_at: _ } = value.clone();
    CommittedOffset { topic_id, partition, offset, leader_epoch, metadata }
}
