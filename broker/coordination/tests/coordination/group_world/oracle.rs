//! What must hold whatever happens, each check by its name. Knows the records and what the members believe, nothing of the machine's
//! insides.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::GroupRecord;
use tidelog_coordination::groups::partition_set::{PartitionSet, TopicPartition};
use tidelog_protocol::messages::{DescribeGroupResponse, OffsetCommitRequest, PAUSING, Subscription};
use tidelog_protocol::{LeaderEpoch, Monotonic, PartitionId};

use super::client::Client;
use super::coordinator::Coordinator;

#[derive(Default)]
pub struct Oracle {
    targets: BTreeMap<String, PartitionSet>,
    owned: BTreeMap<String, PartitionSet>,
    /// The latest tenure that a commit was taken of.
    tenures: BTreeMap<TopicPartition, u64>,
    /// Transactions that are decided to hold.
    committed: BTreeSet<LeaderEpoch>,
    /// What came to count of them.
    counts: BTreeSet<(LeaderEpoch, TopicPartition)>,
}

impl Oracle {
    /// Another coordinator: what it did not read never was.
    pub fn forget(&mut self, coordinator: &Coordinator) {
        let (committed, counts) = (std::mem::take(&mut self.committed), std::mem::take(&mut self.counts));
        *self = Self { committed, counts, ..Self::default() };
        for record in coordinator.records() {
            self.follow(record);
        }
    }

    /// KeptPartitionIsNeverTaken: what a member owns and is to own stays with it.
    pub fn watch(&mut self, records: &[GroupRecord]) {
        for record in records {
            if let GroupRecord::Current(key, Some(value)) = record
                && value.epoch != PAUSING
                && let Some(before) = self.owned.get(&key.member_id)
            {
                let taken = before.without(&PartitionSet::from_wire(&value.owned));
                let kept = taken.shared_with(self.targets.get(&key.member_id).unwrap_or(&PartitionSet::EMPTY));
                assert!(
                    kept.is_empty(),
                    "KeptPartitionIsNeverTaken: {} keeps {kept:?}, and it is taken",
                    key.member_id
                );
            }
            self.check_counts(record);
            self.follow(record);
        }
    }

    /// A transaction shall hold.
    pub fn decide(&mut self, transaction: LeaderEpoch) {
        self.committed.insert(transaction);
    }

    /// NothingOfAnUndoneTransaction: what is noted within one counts once it is committed, and never before or otherwise. Nor does it come from
    /// an earlier tenure.
    fn check_counts(&self, record: &GroupRecord) {
        let GroupRecord::Offset(key, Some(value)) = record else { return };
        let Some(transaction) = value.leader_epoch else { return };
        assert!(
            self.committed.contains(&transaction),
            "NothingOfAnUndoneTransaction: {transaction} is not committed, and its offset for {key:?} counts"
        );
        let tenure: u64 = value.metadata.parse().expect("the simulation notes numbers");
        let latest = self.tenures.get(&(key.topic_id, key.partition)).copied().unwrap_or_default();
        assert!(
            tenure >= latest,
            "NoCommitFromAnEarlierTenure: {transaction} commits {tenure}, and {latest} was taken"
        );
    }

    /// CommittedTransactionIsWhole: all that was answered to be noted counts, but for what is of deleted topics.
    pub fn check_whole(&self, transaction: LeaderEpoch, acknowledged: &BTreeSet<TopicPartition>, image: &ClusterImage) {
        for partition in acknowledged.iter().filter(|(topic, _)| image.topic(*topic).is_some()) {
            let counts = self.counts.contains(&(transaction, *partition));
            assert!(counts, "CommittedTransactionIsWhole: {transaction} is committed without {partition:?}");
        }
    }

    fn follow(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Target(key, value) => {
                let target = value.as_ref().map(|value| PartitionSet::from_wire(&value.partitions));
                self.targets.insert(key.member_id.clone(), target.unwrap_or_default());
            }
            GroupRecord::Current(key, value) => {
                let owned = value.as_ref().map(|value| PartitionSet::from_wire(&value.owned));
                self.owned.insert(key.member_id.clone(), owned.unwrap_or_default());
            }
            GroupRecord::Offset(key, Some(value)) => {
                let tenure = value.metadata.parse().expect("the simulation notes numbers");
                self.tenures.insert((key.topic_id, key.partition), tenure);
                if let Some(transaction) = value.leader_epoch {
                    self.counts.insert((transaction, (key.topic_id, key.partition)));
                }
            }
            GroupRecord::Offset(key, None) => drop(self.tenures.remove(&(key.topic_id, key.partition))),
            GroupRecord::Group(..) | GroupRecord::Member(..) => {}
            GroupRecord::PendingOffset(..) | GroupRecord::Fence(..) => {}
            GroupRecord::ClassicGroup(..) | GroupRecord::ClassicMember(..) | GroupRecord::ClassicPart(..) => {
                panic!("nobody here speaks Kafka's protocol")
            }
        }
    }

    /// NobodyShares: no partition is worked on by two members, as they see it themselves.
    pub fn check_nobody_shares(&self, clients: &[Client], now: u64) {
        let mut workers: BTreeMap<TopicPartition, &str> = BTreeMap::new();
        for client in clients {
            for partition in client.works_on(now).into_iter().flat_map(PartitionSet::iter) {
                let other = workers.insert(*partition, &client.id);
                assert!(other.is_none(), "NobodyShares: {other:?} and {} work on {partition:?} at {now}", client.id);
            }
        }
    }

    /// TargetsAreAnExactPartition: all that somebody reads is somebody's, once, and only theirs who read it.
    pub fn check_targets(&self, coordinator: &mut Coordinator, image: &ClusterImage, now: u64) {
        let Some(group) = coordinator.describe(Monotonic(now)) else { return };
        let mut all: BTreeSet<TopicPartition> = BTreeSet::new();
        let mut aimed: BTreeSet<TopicPartition> = BTreeSet::new();
        for member in &group.members {
            let read = readable(&member.subscription, image);
            for partition in PartitionSet::from_wire(&member.target).iter() {
                assert!(
                    read.contains(partition),
                    "TargetsAreAnExactPartition: {} does not read {partition:?}",
                    member.member_id
                );
                assert!(aimed.insert(*partition), "TargetsAreAnExactPartition: {partition:?} is to be owned twice");
            }
            all.extend(read);
        }
        assert_eq!(aimed, all, "TargetsAreAnExactPartition: {group:#?}");
    }

    /// NoCommitFromAnEarlierTenure, and none for what another works on.
    pub fn check_commit(
        &self,
        commit: &OffsetCommitRequest,
        before: &BTreeMap<TopicPartition, u64>,
        clients: &[Client],
        now: u64,
    ) {
        for offset in &commit.offsets {
            let partition = (offset.topic_id, offset.partition);
            let tenure: u64 = offset.metadata.parse().expect("the simulation notes numbers");
            let latest = before.get(&partition).copied().unwrap_or_default();
            assert!(
                tenure >= latest,
                "NoCommitFromAnEarlierTenure: {:?} commits for {partition:?} of {tenure}, and {latest} was taken",
                commit.member_id
            );
            for client in clients.iter().filter(|client| Some(&client.id) != commit.member_id.as_ref()) {
                let works = client.works_on(now).is_some_and(|owned| owned.contains(&partition));
                assert!(!works, "NoCommitFromAnEarlierTenure: {} works on {partition:?}, {commit:?}", client.id);
            }
        }
    }

    pub fn tenures(&self) -> BTreeMap<TopicPartition, u64> {
        self.tenures.clone()
    }

    /// Balanced: members that read the same have as many partitions, but for one.
    pub fn check_balance(&self, group: &DescribeGroupResponse, image: &ClusterImage) {
        if group.assignor != "uniform" {
            return;
        }
        let mut counts: BTreeMap<BTreeSet<TopicPartition>, Vec<usize>> = BTreeMap::new();
        for member in &group.members {
            let target = PartitionSet::from_wire(&member.target).len();
            counts.entry(readable(&member.subscription, image)).or_default().push(target);
        }
        for counts in counts.values() {
            let (least, most) = (counts.iter().min().expect("one"), counts.iter().max().expect("one"));
            assert!(most - least <= 1, "Balanced: {group:#?}");
        }
    }
}

/// What a subscription reads, found in another way than the machine's: the one pattern of the simulation is a prefix.
fn readable(subscription: &Subscription, image: &ClusterImage) -> BTreeSet<TopicPartition> {
    let reads = |name: &str| {
        subscription.topics.iter().any(|topic| topic == name)
            || subscription
                .pattern
                .as_deref()
                .is_some_and(|pattern| pattern == "orders.*" && name.starts_with("orders"))
    };
    let topics = image.topics().filter(|topic| reads(topic.name.as_str()));
    topics.flat_map(|topic| (0..topic.partitions.len() as u32).map(|at| (topic.id, PartitionId(at)))).collect()
}
