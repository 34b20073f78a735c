//! A member takes partitions: finds where the group stopped in them, tells the program, and reads on from there. Knows nothing of heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_protocol::messages::{CommittedOffset, OffsetCommitRequest, OffsetFetchRequest, Position, TopicPartitions};
use tidelog_protocol::{TopicId, TopicName};

use super::GroupError;
use super::member::Place;
use super::shared::{Shared, Unanswered, wake};
use super::work::Run;
use crate::{ClientError, ErrorCode, TopicPartition, WireError, consumer};

/// Partitions under way to the program.
pub(super) struct Taking {
    pub(super) shared: Arc<Shared>,
    pub(super) claimed: Vec<(Place, Run)>,
}

/// Where a partition begins for this member.
struct Beginning {
    claimed: (Place, Run),
    source: Arc<TopicPartition>,
    /// `None`: nothing was committed, and nobody said where to begin then.
    place: Option<consumer::Place>,
    /// It is not what was committed: nothing was.
    is_new: bool,
}

impl Taking {
    /// Runs until the partitions are read, or are not the member's any more. What passes is tried again for as long.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            let still = self.shared.work.lock().still(&self.claimed);
            if still.is_empty() {
                return;
            }
            let error = match self.beginnings(&still).await {
                Ok(beginnings) => return self.open(beginnings).await,
                Err(Unanswered::Fenced | Unanswered::Pointless) => return,
                Err(Unanswered::Failed(error)) => error,
            };
            if !error.is_retriable() && !is_about_a_topic(&error) {
                let program = self.shared.work.lock().fail(error.into());
                return wake(program);
            }
            failures += 1;
            tracing::debug!(group = %self.shared.group, %error, "could not find where to begin, and tries again");
            tokio::time::sleep(self.shared.cluster.backoff().draw(failures, error.retry_after_ms())).await;
        }
    }

    /// Where each of these begins.
    async fn beginnings(&self, claimed: &[(Place, Run)]) -> Result<Vec<Beginning>, Unanswered> {
        let shared = &self.shared;
        let mut names: BTreeMap<TopicId, TopicName> = BTreeMap::new();
        for ((topic_id, _), _) in claimed {
            if !names.contains_key(topic_id) {
                names.insert(*topic_id, shared.cluster.topic_of(*topic_id).await.map_err(Unanswered::Failed)?);
            }
        }
        let partitions = by_topic(claimed.iter().map(|(place, _)| *place));
        let fetched = shared
            .ask(|me| {
                Some(OffsetFetchRequest {
                    group: shared.group.to_string(),
                    member_id: Some(me.member_id.to_string()),
                    member_epoch: me.epoch,
                    partitions: Some(partitions.clone()),
                    require_stable: true,
                })
            })
            .await?;
        let committed: BTreeMap<Place, CommittedOffset> =
            fetched.offsets.into_iter().map(|offset| ((offset.topic_id, offset.partition), offset)).collect();
        let isolation = shared.settings.reading.isolation;
        let mut beginnings = Vec::with_capacity(claimed.len());
        for (place, run) in claimed {
            let Some(topic) = names.get(&place.0) else { continue };
            let source = Arc::new(TopicPartition { topic: topic.clone(), partition: place.1 });
            let from = match (committed.get(place), shared.settings.start) {
                (Some(committed), _) => Some(consumer::Place {
                    position: Position::offset(committed.offset),
                    offset: committed.offset,
                    leader_epoch: committed.leader_epoch,
                }),
                (None, Some(start)) => {
                    let found = consumer::resolve(&shared.cluster, topic.as_str(), place.1, start, isolation).await;
                    let (position, offset) = found.map_err(Unanswered::Failed)?;
                    Some(consumer::Place { position, offset, leader_epoch: None })
                }
                (None, None) => None,
            };
            let is_new = !committed.contains_key(place);
            beginnings.push(Beginning { claimed: (*place, *run), source, place: from, is_new });
        }
        self.settle(&beginnings).await?;
        Ok(beginnings)
    }

    /// Commits the places of partitions in which nothing was: whoever gets them next, however soon, goes on from there.
    async fn settle(&self, beginnings: &[Beginning]) -> Result<(), Unanswered> {
        let new = beginnings.iter().filter(|beginning| beginning.is_new);
        let offsets: Vec<CommittedOffset> = new
            .filter_map(|beginning| {
                let (topic_id, partition) = beginning.claimed.0;
                let place = beginning.place.as_ref()?;
                let metadata = String::new();
                Some(CommittedOffset { topic_id, partition, offset: place.offset, leader_epoch: None, metadata })
            })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let _turn = self.shared.committing.lock().await;
        let settled = self.shared.ask(|me| {
            Some(OffsetCommitRequest {
                group: self.shared.group.to_string(),
                member_id: Some(me.member_id.to_string()),
                member_epoch: me.epoch,
                offsets: offsets.clone(),
                transaction: None,
            })
        });
        match settled.await {
            // Some were taken away meanwhile: the next try asks for those that are left.
            Err(Unanswered::Failed(error)) if error.code() == Some(ErrorCode::NotOwned) => {
                Err(Unanswered::Failed(ClientError::Broker(WireError::new(ErrorCode::StaleMember, error.to_string()))))
            }
            settled => settled.map(drop),
        }
    }

    /// Tells the program of those that are still the member's, and reads them.
    async fn open(&self, beginnings: Vec<Beginning>) {
        let shared = &self.shared;
        let told: Vec<TopicPartition> = {
            let _alone = shared.calling.lock().await;
            let told = {
                let mut work = shared.work.lock();
                let still = work.still(&self.claimed);
                let held = beginnings.iter().filter(|beginning| still.contains(&beginning.claimed));
                held.map(|beginning| {
                    work.announce(beginning.claimed.0, &beginning.source);
                    TopicPartition::clone(&beginning.source)
                })
                .collect::<Vec<_>>()
            };
            if !told.is_empty() {
                shared.settings.listener.assigned(&told).await;
            }
            told
        };
        tracing::debug!(group = %shared.group, partitions = ?told, "partitions assigned");
        let mut program = None;
        let mut work = shared.work.lock();
        for Beginning { claimed, source, place, .. } in beginnings {
            match place {
                Some(place) => {
                    let committed = Some(place.offset);
                    work.open(claimed, place, committed);
                }
                None if work.is_current(claimed.0, claimed.1) => {
                    let TopicPartition { topic, partition } = TopicPartition::clone(&source);
                    program = work.fail(GroupError::NoOffset { topic, partition }).or(program);
                }
                None => {}
            }
        }
        drop(work);
        wake(program);
    }
}

/// A topic that is gone is soon taken away, too; one that is new is soon known everywhere.
fn is_about_a_topic(error: &ClientError) -> bool {
    matches!(error, ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. })
}

/// Places as messages say them: by topic, partitions ascending.
pub(super) fn by_topic(places: impl IntoIterator<Item = Place>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<_>> = BTreeMap::new();
    for (topic_id, partition) in places {
        topics.entry(topic_id).or_default().push(partition);
    }
    let sorted = topics.into_iter().map(|(topic_id, mut partitions)| {
        partitions.sort_unstable();
        TopicPartitions { topic_id, partitions }
    });
    sorted.collect()
}
