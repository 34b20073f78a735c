//! A group on paper for the tests: every decision is stored as soon as it is made. Knows nothing of what the tests want to show.
#![allow(dead_code, reason = "each test program uses a part")]

use tidelog_coordination::groups::partition_set::PartitionSet;
use tidelog_coordination::groups::{Bounds, GroupCommand, GroupDecision, GroupLimits, GroupRecord, GroupReply, Groups};
use tidelog_coordination::{Command, Refusal};
use tidelog_protocol::messages::{
    CommittedOffset, DeleteGroupRequest, DescribeGroupRequest, DescribeGroupResponse, GroupHeartbeatRequest,
    GroupHeartbeatResponse, OffsetCommitRequest, OffsetFetchRequest, Subscription, TopicPartitions,
};
use tidelog_protocol::{Monotonic, Offset, PartitionId, TopicId};

use crate::cluster::{Cluster, NOW};

pub const GROUP: &str = "payments";

pub struct Paper {
    pub cluster: Cluster,
    pub groups: Groups,
    pub log: Vec<GroupRecord>,
    pub now: u64,
}

pub fn limits() -> GroupLimits {
    GroupLimits {
        session_ms: Bounds { min: 1_000, default: 5_000, max: 20_000 },
        rebalance_ms: Bounds { min: 1_000, default: 8_000, max: 60_000 },
        classic_session_ms: Bounds { min: 1_000, default: 5_000, max: 1_800_000 },
        classic_hold_ms: 500,
        heartbeat_ms: 1_000,
        members_max: 4,
        groups_max: 2,
        topics_max: 5,
        metadata_bytes_max: 16,
        transaction_bytes_max: 310,
    }
}

impl Paper {
    /// One topic, "orders", of `partitions` partitions.
    pub fn new(partitions: u32) -> Self {
        Self::over(Cluster::of(3), partitions)
    }

    pub fn over(cluster: Cluster, partitions: u32) -> Self {
        let mut paper = Self { cluster, groups: Groups::new(limits()), log: Vec::new(), now: 1_000 };
        paper.topic("orders", partitions);
        paper
    }

    pub fn topic(&mut self, name: &str, partitions: u32) {
        self.cluster.create(name, |topic| topic.partitions = partitions).expect("a topic");
    }

    pub fn grow(&mut self, name: &str, total: u32) {
        self.cluster.ask(&Command::CreatePartitions { name: name.into(), total }).expect("it grows");
    }

    pub fn drop_topic(&mut self, name: &str) {
        self.cluster.ask(&Command::DeleteTopic { name: name.into() }).expect("it goes");
    }

    pub fn id(&self, topic: &str) -> TopicId {
        self.cluster.controller.image().topic_named(topic).expect("it exists").id
    }

    pub fn ask(&mut self, command: &GroupCommand) -> Result<GroupReply, Refusal> {
        let image = self.cluster.controller.image();
        let GroupDecision { records, reply } = self.groups.handle(command, image, Monotonic(self.now), NOW)?;
        self.store(records);
        Ok(reply)
    }

    /// Time passes. Gives how many records came of it.
    pub fn pass(&mut self, ms: u64) -> usize {
        self.now += ms;
        let records = self.groups.expire(self.cluster.controller.image(), Monotonic(self.now));
        let count = records.len();
        self.store(records);
        count
    }

    fn store(&mut self, records: Vec<GroupRecord>) {
        for record in &records {
            self.groups.replay(record);
        }
        self.log.extend(records);
    }

    pub fn beat(&mut self, request: GroupHeartbeatRequest) -> Result<GroupHeartbeatResponse, Refusal> {
        match self.ask(&GroupCommand::Heartbeat(request))? {
            GroupReply::Heartbeat(response) => Ok(response),
            other => unreachable!("{other:?}"),
        }
    }

    /// A member that reads "orders".
    pub fn join(&mut self, id: &str) -> GroupHeartbeatResponse {
        self.beat(joining(id, &["orders"])).expect("it joins")
    }

    /// It says what it has, and does at once what it is told. Gives what it may work on then.
    pub fn follow(&mut self, id: &str) -> PartitionSet {
        let member = self.member(id);
        let request = GroupHeartbeatRequest { owned: Some(member.1.to_wire()), ..heartbeat(id, member.0) };
        self.beat(request).expect("it stays");
        self.member(id).1
    }

    /// Everyone does as told until nothing changes.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            for member in self.describe().members {
                self.follow(&member.member_id);
            }
        }
    }

    /// A member's epoch, and what it may work on.
    pub fn member(&mut self, id: &str) -> (i32, PartitionSet) {
        let group = self.describe();
        let member = group.members.iter().find(|member| member.member_id == id).expect("it is a member");
        (member.member_epoch, PartitionSet::from_wire(&member.owned))
    }

    /// How many partitions each member is to own, by id.
    pub fn shares(&mut self) -> Vec<usize> {
        let members = self.describe().members;
        members.iter().map(|member| PartitionSet::from_wire(&member.target).len()).collect()
    }

    pub fn try_describe(&mut self) -> Result<DescribeGroupResponse, Refusal> {
        match self.ask(&GroupCommand::Describe(DescribeGroupRequest { group: GROUP.into() }))? {
            GroupReply::Described(described) => Ok(described),
            other => unreachable!("{other:?}"),
        }
    }

    pub fn describe(&mut self) -> DescribeGroupResponse {
        self.try_describe().expect("it is there")
    }

    /// A commit for partitions of "orders", by a member in its epoch, or by nobody.
    pub fn commit(
        &mut self,
        member: Option<(&str, i32)>,
        partitions: &[u32],
        offset: u64,
    ) -> Result<GroupReply, Refusal> {
        let topic_id = self.id("orders");
        let offsets = partitions.iter().map(|partition| offset_of(topic_id, *partition, offset)).collect();
        self.ask(&GroupCommand::Commit(commit(member, offsets)))
    }

    pub fn committed(&self, partition: u32) -> Option<u64> {
        self.groups.committed(GROUP, self.id("orders"), PartitionId(partition)).map(|offset| offset.0)
    }

    pub fn fetch(
        &mut self,
        member: Option<(&str, i32)>,
        partitions: Option<Vec<TopicPartitions>>,
    ) -> Result<Vec<CommittedOffset>, Refusal> {
        let request = OffsetFetchRequest {
            group: GROUP.into(),
            member_id: member.map(|(id, _)| id.into()),
            member_epoch: member.map_or(0, |(_, epoch)| epoch),
            partitions,
            require_stable: false,
        };
        match self.ask(&GroupCommand::Fetch(request))? {
            GroupReply::Fetched(fetched) => Ok(fetched.offsets),
            other => unreachable!("{other:?}"),
        }
    }

    pub fn delete(&mut self, partitions: Option<Vec<TopicPartitions>>) -> Result<GroupReply, Refusal> {
        self.ask(&GroupCommand::Delete(DeleteGroupRequest { group: GROUP.into(), partitions }))
    }
}

pub fn commit(member: Option<(&str, i32)>, offsets: Vec<CommittedOffset>) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group: GROUP.into(),
        member_id: member.map(|(id, _)| id.into()),
        member_epoch: member.map_or(0, |(_, epoch)| epoch),
        offsets,
        transaction: None,
    }
}

pub fn offset_of(topic_id: TopicId, partition: u32, offset: u64) -> CommittedOffset {
    let (partition, offset) = (PartitionId(partition), Offset(offset));
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: String::new() }
}

pub fn heartbeat(member_id: &str, member_epoch: i32) -> GroupHeartbeatRequest {
    GroupHeartbeatRequest {
        group: GROUP.into(),
        member_id: member_id.into(),
        member_epoch,
        instance_id: None,
        rack: None,
        client_name: None,
        session_timeout_ms: 0,
        rebalance_timeout_ms: 0,
        subscription: None,
        assignor: None,
        owned: None,
        busy_ms: None,
    }
}

pub fn subscription(topics: &[&str]) -> Option<Subscription> {
    Some(Subscription { topics: topics.iter().map(|topic| (*topic).into()).collect(), pattern: None })
}

pub fn joining(member_id: &str, topics: &[&str]) -> GroupHeartbeatRequest {
    GroupHeartbeatRequest { subscription: subscription(topics), owned: Some(Vec::new()), ..heartbeat(member_id, 0) }
}

pub fn with_instance(instance: &str, request: GroupHeartbeatRequest) -> GroupHeartbeatRequest {
    GroupHeartbeatRequest { instance_id: Some(instance.into()), ..request }
}
