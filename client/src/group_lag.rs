//! How far a group is behind: what it has committed against what the logs hold, in every partition that it has to do with. Knows nothing of
//! members' own work.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::{
    DescribeGroupResponse, Isolation, MemberDescription, OffsetAnswer, Position, TopicPartitions,
};
use tidelog_protocol::{Offset, PartitionId, TopicId};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::{Admin, ClientError};

/// How long the leader of a partition is looked for; one that has none then is told with that.
const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// How far a group has come in a partition, and how far it could.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLag {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The next offset that the group will read; `None` where it has committed nothing there.
    pub committed: Option<Offset>,
    /// From the first offset that can be read up to the first that cannot yet; an error where nobody could tell soon.
    pub log: Result<Range<Offset>, ClientError>,
    /// The member that owns it, or that is about to let go of it.
    pub member_id: Option<String>,
    /// The member that gets it next, where it moves.
    pub next_member_id: Option<String>,
}

impl GroupLag {
    /// Records that the group has not read: all there are, where it has committed nothing. `None` where it is not known what there is.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let log = self.log.as_ref().ok()?;
        let next = self.committed.unwrap_or(log.start).max(log.start).min(log.end);
        Some(log.end.since(next))
    }

    /// By how much what the group has committed is beyond the end of the log: it reads nothing there before that is reached.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        match (&self.log, self.committed) {
            (Ok(log), Some(committed)) if committed > log.end => committed.since(log.end),
            _ => 0,
        }
    }

    /// How many offsets that the group has not read are gone from the front of the log: its place is not there any more, and without
    /// [another to go on at](crate::GroupConsumerBuilder::reset) its members fail.
    #[must_use]
    pub fn gone(&self) -> u64 {
        match (&self.log, self.committed) {
            (Ok(log), Some(committed)) if committed < log.start => log.start.since(committed),
            _ => 0,
        }
    }
}

/// What a group says of a partition.
#[derive(Clone, Debug, Default)]
struct Known {
    committed: Option<Offset>,
    member_id: Option<String>,
    next_member_id: Option<String>,
}

type Places = BTreeMap<TopicId, BTreeMap<PartitionId, Known>>;

impl Admin {
    /// How far a group is behind, by topic and partition: in every partition of a topic in which it has committed something, which a member
    /// subscribes to by name, or of which one has a partition. Offsets of topics that are gone are left out.
    ///
    /// # Errors
    /// `UnknownGroup` from the broker; else as any call. A partition whose leader does not answer says so itself.
    pub async fn group_lag(&self, group: &str) -> Result<Vec<GroupLag>, ClientError> {
        let described = self.describe_group(group).await?;
        let mut places = places(&described);
        let subscribed: BTreeSet<&str> =
            described.members.iter().flat_map(|member| &member.subscription.topics).map(|name| name.as_str()).collect();
        let mut lags = Vec::new();
        for topic in self.cluster.metadata(None).await?.topics {
            let mut known = match places.remove(&topic.topic_id) {
                Some(known) => known,
                None if subscribed.contains(topic.name.as_str()) => BTreeMap::new(),
                None => continue,
            };
            for partition in &topic.partitions {
                known.entry(partition.partition).or_default();
            }
            let partitions = known.keys().copied().collect();
            let logs = self.cluster.logs(topic.name.as_str(), partitions).await;
            let told = known.into_iter().zip(logs).filter(|(_, log)| {
                !matches!(log, Err(ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. }))
            });
            lags.extend(told.map(|((partition, known), log)| GroupLag {
                topic: topic.name.to_string(),
                partition,
                committed: known.committed,
                log,
                member_id: known.member_id,
                next_member_id: known.next_member_id,
            }));
        }
        lags.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(lags)
    }
}

fn places(described: &DescribeGroupResponse) -> Places {
    let mut places = Places::new();
    for at in &described.offsets {
        places.entry(at.topic_id).or_default().entry(at.partition).or_default().committed = Some(at.offset);
    }
    let mut note =
        |of: &[TopicPartitions], member: &MemberDescription, whose: fn(&mut Known) -> &mut Option<String>| {
            for topic in of {
                for partition in &topic.partitions {
                    let known = places.entry(topic.topic_id).or_default().entry(*partition).or_default();
                    *whose(known) = Some(member.member_id.clone());
                }
            }
        };
    for member in &described.members {
        note(&member.target, member, |known| &mut known.next_member_id);
        note(&member.letting_go, member, |known| &mut known.member_id);
        note(&member.owned, member, |known| &mut known.member_id);
    }
    for known in places.values_mut().flat_map(BTreeMap::values_mut) {
        if known.next_member_id == known.member_id {
            known.next_member_id = None;
        }
    }
    places
}

impl Cluster {
    /// What the logs of these partitions hold, in their order, each as far as its leader answers soon.
    async fn logs(
        self: &Arc<Self>,
        topic: &str,
        partitions: Vec<PartitionId>,
    ) -> Vec<Result<Range<Offset>, ClientError>> {
        if let Ok(Ok(all)) = tokio::time::timeout(LEADER_WITHIN / 2, self.ends(topic, &partitions)).await {
            return all.into_iter().map(Ok).collect();
        }
        // One without a leader holds up no other.
        let mut asking = JoinSet::new();
        for (at, partition) in partitions.iter().copied().enumerate() {
            let (cluster, topic) = (Arc::clone(self), topic.to_owned());
            asking.spawn(async move {
                let asked = tokio::time::timeout(LEADER_WITHIN, cluster.ends(&topic, &[partition])).await;
                let ends = asked.unwrap_or(Err(ClientError::LeaderSilent { topic, partition }));
                (at, ends.map(|mut ends| ends.pop().unwrap_or_default()))
            });
        }
        let unasked =
            |partition: &PartitionId| Err(ClientError::LeaderSilent { topic: topic.into(), partition: *partition });
        let mut logs: Vec<_> = partitions.iter().map(unasked).collect();
        while let Some(asked) = asking.join_next().await {
            if let Ok((at, log)) = asked {
                logs[at] = log;
            }
        }
        logs
    }

    async fn ends(&self, topic: &str, partitions: &[PartitionId]) -> Result<Vec<Range<Offset>>, ClientError> {
        let queries: Vec<_> =
            partitions.iter().flat_map(|at| [(*at, Position::EARLIEST), (*at, Position::LATEST)]).collect();
        let answers = self.list_offsets(topic, &queries, Isolation::ReadUncommitted).await?;
        let offset = |answer: &OffsetAnswer| match &answer.fault {
            Some(fault) => Err(ClientError::Broker(fault.clone().into())),
            None => Ok(answer.offset.unwrap_or_default()),
        };
        answers.chunks_exact(2).map(|ends| Ok(offset(&ends[0])?..offset(&ends[1])?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_protocol::messages::{GroupState, Subscription};

    fn lag(committed: Option<u64>, log: Range<u64>) -> GroupLag {
        GroupLag {
            topic: "orders".into(),
            partition: PartitionId(0),
            committed: committed.map(Offset),
            log: Ok(Offset(log.start)..Offset(log.end)),
            member_id: None,
            next_member_id: None,
        }
    }

    #[test]
    fn what_was_never_committed_is_all_behind_and_what_is_ahead_is_not() {
        let of = |committed, log: Range<u64>| (lag(committed, log.clone()).lag(), lag(committed, log).ahead());
        assert_eq!(of(Some(7), 0..10), (Some(3), 0));
        assert_eq!(of(None, 4..10), (Some(6), 0));
        assert_eq!(of(Some(1), 4..10), (Some(6), 0), "what retention has taken cannot be read any more");
        assert_eq!(of(Some(15), 4..10), (Some(0), 5));
        let gone = |committed, log: Range<u64>| lag(committed, log).gone();
        assert_eq!(gone(Some(1), 4..10), 3);
        assert_eq!(gone(Some(0), 50..50), 50, "nothing is behind, and still it cannot go on");
        assert_eq!((gone(Some(4), 4..10), gone(None, 4..10), gone(Some(15), 4..10)), (0, 0, 0));
        let error = ClientError::NoLeader { topic: "orders".into(), partition: PartitionId(0) };
        assert_eq!(GroupLag { log: Err(error), ..lag(Some(1), 0..1) }.lag(), None);
    }

    fn member(id: &str, owned: &[u32], letting_go: &[u32], target: &[u32]) -> MemberDescription {
        let of = |partitions: &[u32]| {
            let partitions = partitions.iter().copied().map(PartitionId).collect();
            vec![TopicPartitions { topic_id: TopicId([1; 16]), partitions }]
        };
        MemberDescription {
            member_id: id.into(),
            instance_id: None,
            client_name: None,
            rack: None,
            member_epoch: 1,
            subscription: Subscription { topics: Vec::new(), pattern: None },
            owned: of(owned),
            letting_go: of(letting_go),
            target: of(target),
            silent_ms: 0,
            busy_ms: None,
        }
    }

    #[test]
    fn a_partition_that_moves_is_told_with_both_its_members() {
        let described = DescribeGroupResponse {
            state: GroupState::Reconciling,
            epoch: 2,
            target_epoch: 2,
            assignor: "uniform".into(),
            members: vec![member("a", &[1], &[0], &[1]), member("b", &[], &[], &[0, 2])],
            offsets: Vec::new(),
        };
        let places = places(&described);
        let known = |index| {
            let known = &places[&TopicId([1; 16])][&PartitionId(index)];
            (known.member_id.as_deref(), known.next_member_id.as_deref())
        };
        assert_eq!(known(0), (Some("a"), Some("b")));
        assert_eq!(known(1), (Some("a"), None));
        assert_eq!(known(2), (None, Some("b")), "nobody has it yet");
    }
}
