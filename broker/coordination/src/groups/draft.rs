//! The records of one decision as they come about, and the group as it will be after them. Knows nothing of who asked for what.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;

use super::assignor::{Assignor, ReadTopic, Reader, Spread};
use super::membership::{MemberView, Membership};
use super::partition_set::PartitionSet;
use super::reconciliation::Current;
use super::records::{GroupKey, GroupRecord, GroupValue, MemberKey, MemberValue, TargetValue};
use super::subscription::Readings;
use crate::image::{ClusterImage, TopicImage};

/// A group that is being changed. Costs a copy only once something changes.
pub(super) struct Draft<'a> {
    name: &'a str,
    membership: Cow<'a, Membership>,
    records: Vec<GroupRecord>,
}

impl<'a> Draft<'a> {
    /// Of a group that exists, or of a new one.
    pub fn new(name: &'a str, membership: Option<&'a Membership>) -> Self {
        let membership = membership.map_or_else(|| Cow::Owned(Membership::default()), Cow::Borrowed);
        Self { name, membership, records: Vec::new() }
    }

    /// As it will be.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What is to be stored.
    pub fn into_records(self) -> Vec<GroupRecord> {
        self.records
    }

    /// A member said this of itself.
    pub fn admit(&mut self, id: &str, said: MemberValue) {
        self.write(GroupRecord::Member(self.key(id), Some(said)));
    }

    /// It owns this now.
    pub fn settle(&mut self, id: &str, current: &Current) {
        self.write(GroupRecord::Current(self.key(id), Some(current.to_record())));
    }

    /// It is to own this.
    pub fn aim(&mut self, id: &str, target: &PartitionSet) {
        let value = TargetValue { partitions: target.to_wire() };
        self.write(GroupRecord::Target(self.key(id), Some(value)));
    }

    /// It is no member any more: what it owned is free.
    pub fn dismiss(&mut self, id: &str) {
        self.write(GroupRecord::Current(self.key(id), None));
        self.write(GroupRecord::Target(self.key(id), None));
        self.write(GroupRecord::Member(self.key(id), None));
    }

    /// Makes targets for a new epoch of the group.
    pub fn retarget(&mut self, image: &ClusterImage) {
        let readings = Readings::of(&self.membership, image);
        let assignor = Assignor::preferred(&self.membership);
        let targets = targets(&self.membership, &readings, assignor, image);
        let epoch = self.membership.next_epoch();
        for (id, target) in targets {
            self.aim(&id, &target);
        }
        let value = GroupValue {
            epoch,
            target_epoch: epoch,
            assignor: assignor.name().to_owned(),
            topics_hash: readings.hash(),
        };
        self.write(GroupRecord::Group(GroupKey { group: self.name.to_owned() }, Some(value)));
    }

    /// Do the members ask for another assignor than the one that the targets were made by?
    pub fn wants_another_assignor(&self) -> bool {
        let value = self.membership.value();
        value.is_some_and(|value| value.assignor != Assignor::preferred(&self.membership).name())
    }

    fn write(&mut self, record: GroupRecord) {
        self.membership.to_mut().replay(&record);
        self.records.push(record);
    }

    fn key(&self, id: &str) -> MemberKey {
        MemberKey { group: self.name.to_owned(), member_id: id.to_owned() }
    }
}

/// The targets that differ from what they were, by member.
fn targets(
    membership: &Membership,
    readings: &Readings<'_>,
    assignor: Assignor,
    image: &ClusterImage,
) -> Vec<(String, PartitionSet)> {
    let members: Vec<MemberView<'_>> = membership.members().collect();
    let with_racks = members.iter().any(|member| member.said.rack.is_some());
    let topic = |topic: &&TopicImage| ReadTopic {
        id: topic.id,
        partitions: topic.partitions.len() as u32,
        racks: if with_racks { racks(topic, image) } else { Vec::new() },
    };
    let spread = Spread {
        topics: readings.topics.iter().map(topic).collect(),
        readers: members.iter().zip(&readings.of).map(|(member, topics)| reader(member, topics)).collect(),
    };
    let targets = assignor.spread(&spread).into_iter();
    let changed = members.iter().zip(targets).filter(|(member, target)| member.destination.target != target);
    changed.map(|(member, target)| (member.id.to_owned(), target)).collect()
}

fn reader<'a>(member: &MemberView<'a>, topics: &[usize]) -> Reader<'a> {
    Reader {
        name: member.said.instance_id.as_deref().unwrap_or(member.id),
        rack: member.said.rack.as_deref(),
        topics: topics.to_vec(),
        had: member.destination.target,
    }
}

/// For each partition the racks that have a replica.
fn racks<'a>(topic: &TopicImage, image: &'a ClusterImage) -> Vec<Vec<&'a str>> {
    let of = |partition: &crate::image::PartitionImage| {
        let brokers = partition.replicas.iter().filter_map(|broker| image.broker(*broker));
        brokers.filter_map(|broker| broker.rack.as_deref()).collect()
    };
    topic.partitions.iter().map(of).collect()
}
