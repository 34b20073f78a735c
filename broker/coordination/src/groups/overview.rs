//! Groups as people see and delete them: listed, described, forgotten. Knows nothing of how they came about.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{
    DeleteGroupRequest, DescribeGroupResponse, GroupListing, ListGroupsResponse, MemberDescription, Subscription,
};
use tidelog_protocol::{ErrorCode, Monotonic};

use super::assignor::Assignor;
use super::classic::{self, Gathering};
use super::group::Group;
use super::membership::MemberView;
use super::names::check_group;
use super::partition_set::{PartitionSet, TopicPartition};
use super::records::{GroupKey, GroupRecord, OffsetKey};
use super::transactions::{check_unclaimed, unstable};
use crate::command::Refusal;
use crate::counted;
use crate::image::ClusterImage;

/// All groups, by name.
pub(super) fn list(groups: &BTreeMap<String, Group>) -> ListGroupsResponse {
    let listing = |(name, group): (&String, &Group)| GroupListing {
        group: name.clone(),
        state: group.state(),
        members: group.members() as u32,
    };
    ListGroupsResponse { groups: groups.iter().map(listing).collect(), unread: Vec::new() }
}

/// One group.
pub(super) fn describe(
    groups: &BTreeMap<String, Group>,
    name: &str,
    (gathering, image, now): (Option<&Gathering>, &ClusterImage, Monotonic),
) -> Result<DescribeGroupResponse, Refusal> {
    let group = known(groups, name)?;
    let membership = &group.membership;
    if !group.is_native() && group.classic.value().is_some() {
        let described = classic::described(&group.classic, gathering, image, now);
        return Ok(DescribeGroupResponse { offsets: group.committed(), ..described });
    }
    let member = |member: MemberView<'_>| {
        let presence = group.presence(member.id);
        MemberDescription {
            member_id: member.id.to_owned(),
            instance_id: member.said.instance_id.clone(),
            client_name: member.said.client_name.clone(),
            rack: member.said.rack.clone(),
            member_epoch: member.current.epoch,
            subscription: Subscription { topics: member.said.topics.clone(), pattern: member.said.pattern.clone() },
            owned: member.current.owned.to_wire(),
            letting_go: member.current.letting_go.to_wire(),
            target: member.destination.target.to_wire(),
            silent_ms: presence.silent_ms(now),
            busy_ms: presence.busy_ms,
        }
    };
    let assignor =
        membership.value().map_or_else(|| Assignor::default().name().to_owned(), |value| value.assignor.clone());
    Ok(DescribeGroupResponse {
        state: group.state(),
        epoch: membership.epoch(),
        target_epoch: membership.target_epoch(),
        assignor,
        members: membership.members().map(member).collect(),
        offsets: group.committed(),
    })
}

/// A group without members, or single offsets of it, is forgotten.
pub(super) fn delete(
    groups: &BTreeMap<String, Group>,
    request: &DeleteGroupRequest,
) -> Result<Vec<GroupRecord>, Refusal> {
    let name = &request.group;
    let group = known(groups, name)?;
    if group.members() > 0 {
        let members = counted(group.members(), "member");
        let message = format!("group '{name}' has {members}: stop them first");
        return Err(Refusal::new(ErrorCode::GroupNotEmpty, message));
    }
    match &request.partitions {
        Some(partitions) => {
            let asked = PartitionSet::from_wire(partitions);
            check_unclaimed(name, Some(group), asked.iter(), None)?;
            let noted = asked.iter().filter(|partition| group.offsets.contains_key(partition));
            Ok(noted.map(|partition| forget_offset(name, *partition)).collect())
        }
        None => match group.pending.any() {
            Some(partition) => Err(unstable(name, partition)),
            None => Ok(forget(name, group)),
        },
    }
}

/// The tombstones of a group without members: each key has its own.
pub(super) fn forget(name: &str, group: &Group) -> Vec<GroupRecord> {
    let offsets = group.offsets.keys().map(|partition| forget_offset(name, *partition));
    let key = || GroupKey { group: name.to_owned() };
    let classic = group.classic.value().map(|_| GroupRecord::ClassicGroup(key(), None));
    offsets.chain(classic).chain([GroupRecord::Group(key(), None)]).collect()
}

pub(super) fn forget_offset(name: &str, (topic_id, partition): TopicPartition) -> GroupRecord {
    GroupRecord::Offset(OffsetKey { group: name.to_owned(), topic_id, partition }, None)
}

fn known<'a>(groups: &'a BTreeMap<String, Group>, name: &str) -> Result<&'a Group, Refusal> {
    check_group(name)?;
    let message = || format!("there is no group '{}'", name.escape_debug());
    groups.get(name).ok_or_else(|| Refusal::new(ErrorCode::UnknownGroup, message()))
}
