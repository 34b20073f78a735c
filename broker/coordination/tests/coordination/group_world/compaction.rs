//! What compaction may leave of a log, and all that is durable of the machine that it makes. Knows nothing of who wrote it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::{GroupCommand, GroupDecision, GroupRecord, GroupReply, Groups};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{DescribeGroupRequest, DescribeGroupResponse, ListGroupsResponse};
use tidelog_protocol::{ErrorCode, Monotonic, Timestamp};

/// What compaction may leave: of a part of the log from its start the latest value of each key, tombstones perhaps not.
pub fn compacted(records: &[GroupRecord], chance: &mut Entropy) -> Vec<GroupRecord> {
    let end = chance.below(records.len() as u64 + 1) as usize;
    let mut seen = BTreeSet::new();
    let mut left: Vec<GroupRecord> = Vec::new();
    for record in records[..end].iter().rev() {
        let latest = seen.insert(record.key());
        if latest && (record.value().is_some() || chance.below(2) == 0) {
            left.push(record.clone());
        }
    }
    left.reverse();
    left.extend(records[end..].iter().cloned());
    left
}

/// All that is durable.
pub fn state(groups: &Groups) -> (ListGroupsResponse, BTreeMap<String, DescribeGroupResponse>) {
    let mut groups = groups.clone();
    let image = ClusterImage::default();
    let listed = groups.handle(&GroupCommand::List, &image, Monotonic(0), Timestamp(0)).expect("it lists").reply;
    let GroupReply::Listed(listed) = listed else { panic!("it lists") };
    let mut described =
        |name: &String| (name.clone(), describe(&mut groups, name, Monotonic(0)).expect("it was listed"));
    let described = listed.groups.iter().map(|listing| &listing.group).map(&mut described).collect();
    (listed, described)
}

pub fn describe(groups: &mut Groups, name: &str, now: Monotonic) -> Option<DescribeGroupResponse> {
    let command = GroupCommand::Describe(DescribeGroupRequest { group: name.into() });
    match groups.handle(&command, &ClusterImage::default(), now, Timestamp(0)) {
        Ok(GroupDecision { reply: GroupReply::Described(described), .. }) => Some(described),
        Err(refusal) if refusal.code == ErrorCode::UnknownGroup => None,
        other => panic!("{other:?}"),
    }
}
