//! Groups whose log has lost a part for good: what of it is written anew. Knows nothing of how it was lost.
//!
//! Offsets stay as far as they are known: a group may read again what it was done with, and one that was deleted or set back in what is lost is as
//! it was before. Members go, and join again by themselves: who was one, and what each owned, may have changed in what is lost, and by half of it
//! two could be given one partition. The group's epoch, or generation, rises by as much as it can have risen there, so that none comes twice.

use alloc::vec::Vec;

use super::records::{ClassicGroupValue, ClassicPhase, GroupRecord, GroupValue};
use crate::salvage::{Remains, Remnant};

/// What is to be written.
#[must_use]
pub fn salvage(remains: Remains<GroupRecord>) -> Vec<GroupRecord> {
    let risen = i32::try_from(remains.lost).unwrap_or(i32::MAX);
    let kept = |Remnant { record, .. }: Remnant<GroupRecord>| match record {
        GroupRecord::Member(..) | GroupRecord::Target(..) | GroupRecord::Current(..) => None,
        GroupRecord::Group(key, value) => {
            let raise = |value: GroupValue| GroupValue { epoch: value.epoch.saturating_add(risen), ..value };
            Some(GroupRecord::Group(key, value.map(raise)))
        }
        GroupRecord::ClassicMember(..) | GroupRecord::ClassicPart(..) => None,
        GroupRecord::ClassicGroup(key, value) => {
            let raise = |value: ClassicGroupValue| ClassicGroupValue {
                phase: ClassicPhase::Empty,
                generation: value.generation.saturating_add(risen),
                protocol_type: value.protocol_type,
                protocol: None,
                leader: None,
            };
            Some(GroupRecord::ClassicGroup(key, value.map(raise)))
        }
        GroupRecord::Offset(..) | GroupRecord::PendingOffset(..) | GroupRecord::Fence(..) => Some(record),
    };
    remains.records.into_iter().filter_map(kept).collect()
}
