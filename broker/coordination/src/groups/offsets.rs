//! How far a group has come: noted, asked for. Knows nothing of how members come to own what they own, nor of how transactions end.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{CommittedOffset, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use tidelog_protocol::{ErrorCode, Offset, Timestamp};

use super::command::{GroupLimits, GroupReply};
use super::fences::Fences;
use super::flaws::{GroupFlaw, GroupFlaws};
use super::group::{Group, committed};
use super::heartbeat::{check_groups, unknown_member};
use super::membership::MemberView;
use super::names::{check_group, check_member};
use super::partition_set::{PartitionSet, TopicPartition};
use super::records::{GroupKey, GroupRecord, GroupValue, OffsetKey, OffsetValue};
use super::transactions::{Noting, check_unclaimed, unstable};
use super::{assignor::Assignor, subscription};
use crate::command::Refusal;
use crate::counted;
use crate::image::ClusterImage;

/// How many partitions an error names.
const NAMED_MAX: usize = 10;

/// Who commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Committer {
    /// No member.
    Nobody,
    /// A member that the broker assigns partitions to, by the id and the epoch of the request.
    Member,
    /// A member of a classic group, which has been checked: what it does is known to its leader alone.
    Classic,
}

/// A commit, and what it is decided by.
pub(super) struct Commit<'a> {
    pub request: &'a OffsetCommitRequest,
    pub committer: Committer,
    /// The coordinator of its transaction has taken the group in.
    pub taken_in: bool,
    pub group: Option<&'a Group>,
    pub groups: usize,
    pub fences: &'a Fences,
    pub limits: &'a GroupLimits,
    pub image: &'a ClusterImage,
    pub wall: Timestamp,
    pub flaws: GroupFlaws,
}

impl Commit<'_> {
    /// All of it or nothing.
    pub fn decide(&self) -> Result<(Vec<GroupRecord>, GroupReply), Refusal> {
        let request = self.request;
        check_group(&request.group)?;
        match self.committer {
            Committer::Member => self.check_member(request.member_id.as_deref().unwrap_or_default())?,
            Committer::Nobody => self.check_nobody()?,
            Committer::Classic => {}
        }
        for offset in &request.offsets {
            self.check(offset)?;
        }
        let identity = request.transaction.as_ref().map(|transaction| &transaction.identity);
        let offsets: Vec<_> = request.offsets.iter().map(|offset| self.noted(offset)).collect();
        let partitions = offsets.iter().map(|(partition, _)| partition);
        check_unclaimed(&request.group, self.group, partitions, identity.map(|identity| identity.producer_id))?;
        let mut records = Vec::with_capacity(offsets.len() + 1);
        if self.group.is_none() && !offsets.is_empty() {
            records.push(empty_group(&request.group));
        }
        let Some(identity) = identity else {
            records.extend(offsets.into_iter().map(|(partition, value)| self.record(partition, value)));
            return Ok((records, GroupReply::Committed));
        };
        let noting = Noting { group: &request.group, known: self.group, identity, flaws: self.flaws };
        noting.check_room(&offsets, self.limits.transaction_bytes_max)?;
        // Of one that is over, it says best why.
        if !self.taken_in && !noting.is_known() && !offsets.is_empty() {
            return Ok((Vec::new(), GroupReply::TakeInFirst));
        }
        noting.check_epoch(self.fences)?;
        records.extend(offsets.into_iter().map(|(partition, value)| noting.record(partition, value)));
        Ok((records, GroupReply::Committed))
    }

    fn check_member(&self, member_id: &str) -> Result<(), Refusal> {
        let group = &self.request.group;
        let member = member_in_epoch(self.group, group, member_id, self.request.member_epoch, self.flaws)?;
        let partition = |offset: &CommittedOffset| (offset.topic_id, offset.partition);
        let strange =
            self.request.offsets.iter().map(partition).filter(|partition| !member.current.works_on(partition));
        let strange: Vec<TopicPartition> = strange.collect();
        if strange.is_empty() {
            return Ok(());
        }
        let message = format!("member '{member_id}' does not own {}; nothing was committed", self.names(&strange));
        Err(Refusal::new(ErrorCode::NotOwned, message))
    }

    fn check_nobody(&self) -> Result<(), Refusal> {
        match self.group {
            Some(group) if group.members() > 0 => {
                let members = counted(group.members(), "member");
                let message =
                    format!("group '{}' has {members}: only members commit; stop them first", self.request.group);
                Err(Refusal::new(ErrorCode::GroupNotEmpty, message))
            }
            Some(_) => Ok(()),
            None => check_groups(self.groups, self.limits),
        }
    }

    fn check(&self, commit: &CommittedOffset) -> Result<(), Refusal> {
        let CommittedOffset { topic_id, partition, offset, leader_epoch: _, metadata } = commit;
        let Some(topic) = self.image.topic(*topic_id) else {
            return Err(Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic of id {topic_id}")));
        };
        let name = &topic.name;
        if topic.partition(*partition).is_none() {
            let partitions = counted(topic.partitions.len(), "partition");
            let message = format!("topic '{name}' has {partitions}, none of index {partition}");
            return Err(Refusal::new(ErrorCode::UnknownPartition, message));
        }
        if *offset > Offset::MAX {
            return Err(Refusal::new(ErrorCode::Malformed, format!("no record can have offset {offset}")));
        }
        let most = self.limits.metadata_bytes_max;
        if metadata.len() > most {
            let message =
                format!("the metadata for '{name}' partition {partition} has {} bytes, {most} may be", metadata.len());
            return Err(Refusal::new(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    fn noted(&self, commit: &CommittedOffset) -> (TopicPartition, OffsetValue) {
        let CommittedOffset { topic_id, partition, offset, leader_epoch, metadata } = commit.clone();
        ((topic_id, partition), OffsetValue { offset, leader_epoch, metadata, committed_at: self.wall })
    }

    fn record(&self, (topic_id, partition): TopicPartition, value: OffsetValue) -> GroupRecord {
        let key = OffsetKey { group: self.request.group.clone(), topic_id, partition };
        GroupRecord::Offset(key, Some(value))
    }

    fn names(&self, partitions: &[TopicPartition]) -> String {
        let name = |(topic_id, partition): &TopicPartition| match self.image.topic(*topic_id) {
            Some(topic) => format!("'{}' partition {partition}", topic.name),
            None => format!("topic {topic_id} partition {partition}"),
        };
        let named: Vec<String> = partitions.iter().take(NAMED_MAX).map(name).collect();
        let more = partitions.len().saturating_sub(NAMED_MAX);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        named.join(", ") + &tail
    }
}

/// A group that holds offsets alone.
fn empty_group(name: &str) -> GroupRecord {
    let value = GroupValue {
        epoch: 0,
        target_epoch: 0,
        assignor: Assignor::default().name().to_owned(),
        topics_hash: subscription::hash(core::iter::empty()),
    };
    GroupRecord::Group(GroupKey { group: name.to_owned() }, Some(value))
}

/// Where a group stopped.
pub(super) fn fetch(
    group: Option<&Group>,
    request: &OffsetFetchRequest,
    flaws: GroupFlaws,
) -> Result<OffsetFetchResponse, Refusal> {
    check_group(&request.group)?;
    if let Some(member_id) = &request.member_id {
        member_in_epoch(group, &request.group, member_id, request.member_epoch, flaws)?;
    }
    let Some(group) = group else { return Ok(OffsetFetchResponse { offsets: Vec::new() }) };
    // A member that began before what a transaction is about to commit would do its work twice.
    if request.require_stable || request.member_id.is_some() {
        check_stable(group, request)?;
    }
    let offsets = match &request.partitions {
        None => group.committed(),
        Some(partitions) => {
            let asked = PartitionSet::from_wire(partitions);
            let noted = asked.iter().filter_map(|partition| Some((*partition, group.offsets.get(partition)?)));
            noted.map(|(partition, value)| committed(partition, value)).collect()
        }
    };
    Ok(OffsetFetchResponse { offsets })
}

/// Is nothing of what is asked for about to be moved by an open transaction?
fn check_stable(group: &Group, request: &OffsetFetchRequest) -> Result<(), Refusal> {
    match &request.partitions {
        Some(partitions) => {
            let asked = PartitionSet::from_wire(partitions);
            check_unclaimed(&request.group, Some(group), asked.iter(), None)
        }
        None => group.pending.any().map_or(Ok(()), |partition| Err(unstable(&request.group, partition))),
    }
}

/// The member, if it is one and speaks in the epoch that it has.
fn member_in_epoch<'a>(
    group: Option<&'a Group>,
    name: &str,
    member_id: &str,
    epoch: i32,
    flaws: GroupFlaws,
) -> Result<MemberView<'a>, Refusal> {
    check_member(member_id)?;
    let member = group.and_then(|group| group.membership.member(member_id));
    let member = member.ok_or_else(|| unknown_member(name, member_id))?;
    let known = member.current.epoch;
    if member.current.is_paused() {
        let message = format!("member '{member_id}' pauses: it owns nothing until it joins again");
        return Err(Refusal::new(ErrorCode::FencedMember, message));
    }
    if epoch != known && !flaws.has(GroupFlaw::CommitUnfenced) {
        let message = format!("member '{member_id}' speaks in epoch {epoch} and has epoch {known}: heartbeat first");
        return Err(Refusal::new(ErrorCode::StaleMember, message));
    }
    Ok(member)
}
