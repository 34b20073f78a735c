//! What an operator asks of groups: which there are, who is in one, how far it has come; and that its offsets change. Knows nothing of
//! members' own work.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_protocol::messages::*;
use tidelog_protocol::{ErrorCode, Offset, PartitionId, TopicId, WireError};
use tokio::time::Instant;

use crate::cluster::{Coordinate, Purpose};
use crate::{Admin, ClientError, GroupBehind, Listed};

/// How long a wait that is over is prolonged, at most, to say where the group is instead.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is looked whether the topic of a wait is still there.
const STILL_THERE: Duration = Duration::from_secs(2);

impl Admin {
    /// The groups, of all coordinators that answer soon. See [`Listed::missing`] for the others.
    ///
    /// # Errors
    /// Where not even who coordinates can be found out.
    pub async fn list_groups(&self) -> Result<Listed<GroupListing>, ClientError> {
        let gathered = self.cluster.ask_shards("__groups", ListGroupsRequest {}, |answer| &answer.unread).await?;
        let all = gathered.answers.into_iter().flat_map(|answer| answer.groups);
        let found: BTreeMap<_, _> = all.map(|listing| (listing.group.clone(), listing)).collect();
        Ok(Listed { found: found.into_values().collect(), missing: gathered.missing })
    }

    /// Who is in a group, what each owns, and how far the group has come.
    ///
    /// # Errors
    /// `UnknownGroup` from the broker; else as any call.
    pub async fn describe_group(&self, group: &str) -> Result<DescribeGroupResponse, ClientError> {
        let request = DescribeGroupRequest { group: group.into() };
        self.cluster.ask_coordinator(Coordinate::group(group), &request).await
    }

    /// Sets where a group without members goes on; makes the group where there is none. Nothing is set where one of the offsets is beyond the
    /// end of its log: the group would pass by what is written next.
    ///
    /// # Errors
    /// `OffsetOutOfRange` for such an offset; `GroupNotEmpty`, `UnknownTopic`, `UnknownPartition` from the broker; those of asking for the ends;
    /// else as any call.
    pub async fn set_group_offsets(&self, group: &str, offsets: Vec<CommittedOffset>) -> Result<(), ClientError> {
        self.check_within_logs(&offsets).await?;
        let request =
            OffsetCommitRequest { group: group.into(), member_id: None, member_epoch: 0, offsets, transaction: None };
        self.cluster.ask_coordinator(Coordinate::group(group), &request).await.map(drop)
    }

    /// What there is no such topic or partition of is for the coordinator to refuse.
    async fn check_within_logs(&self, offsets: &[CommittedOffset]) -> Result<(), ClientError> {
        let mut by_topic: BTreeMap<TopicId, Vec<&CommittedOffset>> = BTreeMap::new();
        for at in offsets {
            by_topic.entry(at.topic_id).or_default().push(at);
        }
        for (topic_id, offsets) in by_topic {
            let topic = match self.cluster.topic_of(topic_id).await {
                Ok(topic) => topic,
                Err(ClientError::UnknownTopic { .. }) => continue,
                Err(error) => return Err(error),
            };
            let queries: Vec<_> = offsets.iter().map(|at| (at.partition, Position::LATEST)).collect();
            let answers = match self.list_offsets(topic.as_str(), &queries).await {
                Ok(answers) => answers,
                Err(ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. }) => continue,
                Err(error) => return Err(error),
            };
            for (at, end) in offsets.iter().zip(answers.iter().map(|answer| answer.offset)) {
                if let Some(end) = end.filter(|end| at.offset > *end) {
                    let CommittedOffset { partition, offset, .. } = at;
                    let sentence = format!(
                        "a group cannot go on at offset {offset} of partition {partition} of '{topic}', which ends at {end}: nothing was set"
                    );
                    return Err(WireError::new(ErrorCode::OffsetOutOfRange, sentence).into());
                }
            }
        }
        Ok(())
    }

    /// Where a group stopped, in all partitions that it committed.
    ///
    /// # Errors
    /// As any call.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>, ClientError> {
        let request = OffsetFetchRequest {
            group: group.into(),
            member_id: None,
            member_epoch: 0,
            partitions: None,
            require_stable: false,
        };
        Ok(self.cluster.ask_coordinator(Coordinate::group(group), &request).await?.offsets)
    }

    /// Forgets a group without members and all its offsets.
    ///
    /// # Errors
    /// `UnknownGroup`, `GroupNotEmpty` from the broker; else as any call.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupRequest { group: group.into(), partitions: None };
        self.cluster.ask_coordinator(Coordinate::group(group), &request).await.map(drop)
    }

    /// Waits until a group is done with the record at `offset`, or has begun behind it; gives the next offset that the group will read. What it made of
    /// the record can be read then: what was written before the commit, and within a transaction what is committed with it.
    ///
    /// # Errors
    /// [`ClientError::GroupBehind`] where it did not come so far in time; [`ClientError::UnknownTopic`], also where the topic is deleted
    /// meanwhile, [`ClientError::UnknownPartition`]; else as any call.
    pub async fn wait_for_group(
        &self,
        group: &str,
        topic: &str,
        partition: PartitionId,
        offset: Offset,
        timeout: Duration,
    ) -> Result<Offset, ClientError> {
        let ends = Instant::now() + timeout;
        let image = self.cluster.topic(topic).await?;
        image.partition(partition)?;
        let request = WaitForRequest { group: group.into(), topic_id: image.id, partition, offset };
        let waiting = self.wait_until(group, &request, ends);
        let gone = self.until_gone(topic, image.id);
        let error = tokio::select! {
            waited = waiting => match waited {
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            },
            gone = gone => return Err(gone),
        };
        let is_late = matches!(error, ClientError::TimedOut { .. })
            || error.code() == Some(ErrorCode::DeadlineExceeded)
            || error.is_retriable() && Instant::now() + FAREWELL >= ends;
        if !is_late {
            return Err(error);
        }
        // Whoever cannot tell either where the group is has not answered, which is another matter.
        let Ok(Ok(found)) = tokio::time::timeout(FAREWELL, self.group_offsets(group)).await else { return Err(error) };
        let here = found.into_iter().find(|at| at.topic_id == image.id && at.partition == partition);
        let committed = here.map(|at| at.offset);
        if let Some(committed) = committed.filter(|committed| *committed > offset) {
            return Ok(committed);
        }
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let behind = GroupBehind { group, topic, partition, offset, committed, after: timeout };
        Err(ClientError::GroupBehind(Box::new(behind)))
    }

    /// Waits for as long as the coordinator, or its successors, can be asked.
    async fn wait_until(&self, group: &str, request: &WaitForRequest, ends: Instant) -> Result<Offset, ClientError> {
        let mut failures = 0;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let asked = self.cluster.ask_coordinator_once(Coordinate::group(group), request, Purpose::Waits, left);
            let error = match asked.await {
                Ok(answer) => return Ok(answer.committed),
                Err(error) => error,
            };
            failures += 1;
            let pause = self.cluster.backoff().draw(failures, error.retry_after_ms());
            let left = ends.saturating_duration_since(Instant::now());
            if !error.is_retriable() || pause >= left {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Resolves once the cluster says that the topic is gone, or another under its name.
    async fn until_gone(&self, topic: &str, id: TopicId) -> ClientError {
        let mut seen = std::time::Instant::now();
        loop {
            tokio::time::sleep(STILL_THERE).await;
            match self.cluster.refreshed(topic, seen).await {
                Ok(image) if image.id == id => seen = image.as_of,
                Ok(_) => return ClientError::UnknownTopic { topic: topic.into() },
                Err(error @ ClientError::UnknownTopic { .. }) => return error,
                // It is not known, and asked again.
                Err(_) => seen = std::time::Instant::now(),
            }
        }
    }
}
