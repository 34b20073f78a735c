//! What the passing of time and the cluster's image do to a group. Knows nothing of when it is asked.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::Monotonic;

use super::draft::Draft;
use super::group::Group;
use super::overview::{forget, forget_offset};
use super::records::GroupRecord;
use super::subscription::Readings;
use crate::image::ClusterImage;

/// What may have happened since the last look.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub image: &'a ClusterImage,
    /// Topics came, grew or were deleted, or may have done so where this group is concerned, or this is the first look.
    pub topics_changed: bool,
    pub now: Monotonic,
    /// How long a group without members and offsets is remembered, in milliseconds.
    pub idle_ms: u32,
}

impl Look<'_> {
    /// What is to be stored of this group, and when to look again if nothing happens until then.
    pub fn at(self, name: &str, group: &mut Group) -> (Vec<GroupRecord>, Option<Monotonic>) {
        group.begin(self.now);
        let ended = self.ended(group);
        let mut draft = Draft::new(name, Some(&group.membership));
        for id in &ended {
            draft.dismiss(id);
        }
        if !ended.is_empty() || (self.topics_changed && self.reads_otherwise(group)) {
            draft.retarget(self.image);
        }
        let mut records = draft.into_records();
        if self.topics_changed {
            let gone = group.offsets.keys().filter(|(topic, _)| self.image.topic(*topic).is_none());
            records.extend(gone.map(|partition| forget_offset(name, *partition)));
        }
        if group.members() > 0 || !group.offsets.is_empty() || !group.pending.is_empty() {
            group.idle_since = None;
            let due = group.membership.members().filter_map(|member| group.presence(member.id).due(&member)).min();
            return (records, due);
        }
        let end = group.idle_since.get_or_insert(self.now).plus_ms(u64::from(self.idle_ms));
        if self.now >= end {
            records.extend(forget(name, group));
        }
        (records, Some(end))
    }

    /// The members whose session or rebalance timeout has ended.
    fn ended(self, group: &Group) -> Vec<String> {
        let has_ended = |due: Option<Monotonic>| due.is_some_and(|due| due <= self.now);
        let ended = group.membership.members().filter(|member| has_ended(group.presence(member.id).due(member)));
        ended.map(|member| member.id.to_owned()).collect()
    }

    fn reads_otherwise(self, group: &Group) -> bool {
        let membership = &group.membership;
        membership.value().is_some_and(|value| value.topics_hash != Readings::of(membership, self.image).hash())
    }
}
