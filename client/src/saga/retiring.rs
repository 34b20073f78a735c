//! Has a partition forget the sagas that ended long ago, so that what is in memory of it stays little. Reads the log once more, so long behind
//! its end as sagas are kept, and notes how far it is as the offset of a group. Knows nothing of sagas that go on.

use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::messages::{CommittedOffset, Isolation};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, Timestamp};
use tokio::task::JoinSet;

use super::error::SagaError;
use super::events::SagaEvent;
use super::machine::between;
use crate::event_store::{AppendError, EventStore, StoreError, StoredEvent, Version};
use crate::{Backoff, Start};

/// What the broker may push ahead of what is looked at: nobody waits for it.
const PREFETCH_BYTES: u32 = 256 << 10;
/// The longest that it rests.
const REST_MAX: Duration = Duration::from_secs(60);

/// Looks after one partition.
#[derive(Clone, Debug)]
pub(super) struct Retiring {
    pub(super) store: EventStore,
    pub(super) partition: PartitionId,
    /// How long a saga is kept after its end.
    pub(super) kept: Duration,
    /// The group whose offsets say how far it is.
    pub(super) group: String,
}

impl Retiring {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            match self.go().await {
                Ok(rest) => {
                    failures = 0;
                    tokio::time::sleep(rest).await;
                }
                Err(error) => {
                    failures += 1;
                    if !error.is_retriable() {
                        tracing::warn!(%error, partition = %self.partition, "sagas that ended are not forgotten; it is tried again");
                    }
                    tokio::time::sleep(Backoff::DEFAULT.wait(failures, fastrand::f64())).await;
                }
            }
        }
    }

    /// Goes on until it comes to what is not old enough; gives how long to rest then.
    async fn go(&self) -> Result<Duration, SagaError> {
        let from = self.noted().await?;
        let topic = self.store.topic();
        let consumer = self.store.client().consumer().isolation(Isolation::ReadUncommitted);
        let consumer = consumer.prefetch_bytes(PREFETCH_BYTES);
        let consumer = consumer.partition_from(topic, self.partition, Start::Offset(from)).build().await;
        let mut consumer = consumer.map_err(StoreError::from)?;
        loop {
            let events = match consumer.next_batch().await.map_err(StoreError::from)? {
                Some(batch) => self.store.events_in(&batch)?,
                None => return Err(StoreError::Closed.into()),
            };
            let next = consumer.position(topic, self.partition).map_err(StoreError::from)?;
            let (old, young) = split(&events, super::now(), self.kept);
            self.retire(old).await?;
            self.note(young.map_or(next, |young| young.offset)).await?;
            if let Some(young) = young {
                return Ok(rest(young.timestamp, super::now(), self.kept));
            }
        }
    }

    /// Has those of them forgotten that are the end of a saga.
    async fn retire(&self, events: &[StoredEvent]) -> Result<(), SagaError> {
        let ends: Vec<&StoredEvent> = events.iter().filter(|event| SagaEvent::is_end(&event.kind)).collect();
        if ends.is_empty() {
            return Ok(());
        }
        self.store.catch_up(&ends[0].id).await?;
        let latest = self.store.latest(self.partition, ends.iter().map(|end| &end.id[..])).await?;
        let mut asked = JoinSet::new();
        for (end, _) in ends.iter().zip(latest).filter(|(end, latest)| *latest == Some(end.offset)) {
            let (store, id, version): (EventStore, Bytes, Version) = (self.store.clone(), end.id.clone(), end.version);
            asked.spawn(async move { store.retire(&id, version).await });
        }
        while let Some(retired) = asked.join_next().await {
            match retired {
                // Another worker was faster, which believes that the partition is its own.
                Ok(Ok(()) | Err(AppendError::Conflict { .. })) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "a saga is forgotten later"),
            }
        }
        Ok(())
    }

    async fn noted(&self) -> Result<Offset, SagaError> {
        let client = self.store.client();
        let described = match client.admin().describe_group(&self.group).await {
            Ok(described) => described,
            Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => return Ok(Offset::ZERO),
            Err(error) => return Err(error.into()),
        };
        let topic_id = client.cluster.topic(self.store.topic()).await?.id;
        let is_here = |at: &&CommittedOffset| at.topic_id == topic_id && at.partition == self.partition;
        Ok(described.offsets.iter().find(is_here).map_or(Offset::ZERO, |at| at.offset))
    }

    async fn note(&self, offset: Offset) -> Result<(), SagaError> {
        let client = self.store.client();
        let topic_id = client.cluster.topic(self.store.topic()).await?.id;
        let partition = self.partition;
        let at = CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: String::new() };
        Ok(client.admin().set_group_offsets(&self.group, vec![at]).await?)
    }
}

/// Those events that are old enough, and the first that is not.
fn split(events: &[StoredEvent], now: Timestamp, kept: Duration) -> (&[StoredEvent], Option<&StoredEvent>) {
    let is_old = |event: &StoredEvent| between(event.timestamp, now) >= kept;
    let old = events.iter().take_while(|event| is_old(event)).count();
    (&events[..old], events.get(old))
}

/// How long to rest where the next event is of this time: until it is old enough, and a little longer, so that others are by then, too.
fn rest(next: Timestamp, now: Timestamp, kept: Duration) -> Duration {
    let more = (kept / 100).clamp(Duration::from_millis(50), REST_MAX);
    (kept.saturating_sub(between(next, now)) + more).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64, timestamp: i64) -> StoredEvent {
        StoredEvent {
            id: Bytes::from_static(b"a"),
            version: Version(offset + 1),
            partition: PartitionId(0),
            offset: Offset(offset),
            timestamp: Timestamp(timestamp),
            kind: "saga-done".into(),
            schema: 1,
            command: None,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn what_is_old_enough_is_dealt_with_up_to_the_first_that_is_not() {
        let events = [event(0, 1_000), event(1, 3_000), event(2, 2_000)];
        let kept = Duration::from_secs(5);
        let counted = |now: i64| {
            let (old, young) = split(&events, Timestamp(now), kept);
            (old.len(), young.map(|young| young.offset.0))
        };
        assert_eq!(counted(5_999), (0, Some(0)));
        assert_eq!(counted(6_000), (1, Some(1)));
        assert_eq!(counted(7_500), (1, Some(1)), "the one behind it waits, though its writer's clock was slow");
        assert_eq!(counted(8_000), (3, None));
    }

    #[test]
    fn it_rests_until_there_is_something_to_do_and_never_for_long() {
        let kept = Duration::from_secs(10);
        assert_eq!(rest(Timestamp(0), Timestamp(9_000), kept), Duration::from_millis(1_100));
        assert_eq!(rest(Timestamp(0), Timestamp(0), Duration::from_secs(7 * 86_400)), REST_MAX);
        assert_eq!(rest(Timestamp(0), Timestamp(9), Duration::from_millis(1)), Duration::from_millis(50));
    }
}
