//! Who is in a group and what each owns: the latest value of each key that its log holds. Knows nothing of offsets, nor of time.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use super::partition_set::{PartitionSet, TopicPartition};
use super::reconciliation::{Current, Destination};
use super::records::{GroupRecord, GroupValue, MemberValue};

/// A member. A log that compaction went over may say what one owns before it says who it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    said: Option<MemberValue>,
    target: Option<PartitionSet>,
    current: Option<Current>,
}

/// The members of a group. Invariant: `holders` counts, for each partition, the members that may work on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    value: Option<GroupValue>,
    members: BTreeMap<String, Arc<Member>>,
    holders: BTreeMap<TopicPartition, u32>,
}

/// One that is a member, with all there is to know.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it said of itself.
    pub said: &'a MemberValue,
    /// What it owns.
    pub current: &'a Current,
    /// Where it is to be moved.
    pub destination: Destination<'a>,
}

static NOTHING: PartitionSet = PartitionSet::EMPTY;
/// One that owns nothing yet.
pub(super) static NOBODY: Current = Current::NONE;

impl Membership {
    /// Was nothing written of it, or all of it taken back?
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.value.is_none() && self.members.is_empty()
    }

    /// Its epoch; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.value.as_ref().map_or(0, |value| value.epoch)
    }

    /// The epoch that the targets were made for.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.value.as_ref().map_or(0, |value| value.target_epoch)
    }

    /// The group's own record.
    #[must_use]
    pub const fn value(&self) -> Option<&GroupValue> {
        self.value.as_ref()
    }

    /// An epoch that neither the group nor a member of it ever had.
    #[must_use]
    pub fn next_epoch(&self) -> i32 {
        let given = self.members().map(|member| member.current.epoch.max(member.current.previous_epoch)).max();
        self.epoch().max(given.unwrap_or(0)).saturating_add(1)
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> {
        self.members.iter().filter_map(|(id, member)| self.view(id, member))
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<MemberView<'_>> {
        let (id, member) = self.members.get_key_value(id)?;
        self.view(id, member)
    }

    /// The member that holds an instance id.
    #[must_use]
    pub fn instance(&self, instance_id: &str) -> Option<MemberView<'_>> {
        self.members().find(|member| member.said.instance_id.as_deref() == Some(instance_id))
    }

    /// Has it no members?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    /// Does nobody work on it?
    #[must_use]
    pub fn is_free(&self, partition: &TopicPartition) -> bool {
        !self.holders.contains_key(partition)
    }

    /// Applies a record of this group; others and those about offsets change nothing.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Group(_, value) => self.value.clone_from(value),
            GroupRecord::Member(key, value) => self.change(&key.member_id, |member| member.said.clone_from(value)),
            GroupRecord::Target(key, value) => {
                let target = value.as_ref().map(|value| PartitionSet::from_wire(&value.partitions));
                self.change(&key.member_id, |member| member.target = target);
            }
            GroupRecord::Current(key, value) => {
                let current = value.as_ref().map(Current::from_record);
                let before = self.members.get(&key.member_id).and_then(|member| member.current.clone());
                self.count(before.as_ref(), current.as_ref());
                self.change(&key.member_id, |member| member.current = current);
            }
            GroupRecord::Offset(..) | GroupRecord::PendingOffset(..) | GroupRecord::Fence(..) => {}
            GroupRecord::ClassicGroup(..) | GroupRecord::ClassicMember(..) | GroupRecord::ClassicPart(..) => {}
        }
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        let mut member = self.members.remove(id).unwrap_or_default();
        change(Arc::make_mut(&mut member));
        if *member != Member::default() {
            self.members.insert(id.into(), member);
        }
    }

    fn count(&mut self, before: Option<&Current>, after: Option<&Current>) {
        let all = |current: Option<&Current>| -> alloc::vec::Vec<TopicPartition> {
            let sets = current.into_iter().flat_map(|current| [&current.owned, &current.letting_go]);
            sets.flat_map(PartitionSet::iter).copied().collect()
        };
        for partition in all(after) {
            *self.holders.entry(partition).or_default() += 1;
        }
        for partition in all(before) {
            match self.holders.get_mut(&partition) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.holders.remove(&partition)),
            }
        }
    }

    fn view<'a>(&'a self, id: &'a str, member: &'a Member) -> Option<MemberView<'a>> {
        let target = member.target.as_ref().unwrap_or(&NOTHING);
        Some(MemberView {
            id,
            said: member.said.as_ref()?,
            current: member.current.as_ref().unwrap_or(&NOBODY),
            destination: Destination { epoch: self.target_epoch(), target },
        })
    }
}
