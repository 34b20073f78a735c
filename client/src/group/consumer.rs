//! A member of a group as the program has it. Knows nothing of how partitions come and go.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::{ErrorCode, Offset, PartitionId, WireError};

use super::GroupError;
use super::commits::{CommitTicket, Commits, GroupOffset};
use super::member::Place;
use super::record::GroupRecord;
use super::shared::{Command, Shared, wake};
use crate::{ConsumeError, ConsumerRecord, Start, TopicPartition, consumer};

/// A member of a group: reads the partitions that the group's coordinator gives it, each in order, and goes on where the group stopped.
///
/// **A record is committed only once the program is done with it.** Three ways to say so, from plain to concurrent:
/// - [`GroupConsumer::next`] lends a record until it is called again: to ask for the next record is to be done with the one before. The borrow
///   keeps a program from taking the record elsewhere and asking for more; an early return leaves it unfinished.
/// - As a [`Stream`], and with [`GroupConsumer::take`], it hands out [`GroupRecord`]s: any number at once, each done by
///   [`GroupRecord::done`], in any order. What is committed is everything before the oldest unfinished one.
/// - [`GroupConsumer::run`] does it all: bounded concurrency, tries, dead letters.
///
/// A record may come twice, to another member too, where this one ended or was fenced before it was committed: at least once.
///
/// Partitions that stay with a member are not touched as others come and go. Dropping the consumer commits and leaves in the background;
/// [`GroupConsumer::leave`] waits for it. A process that ends without either is noticed once its session has ended.
///
/// ```no_run
/// use tidelog_client::{Client, Start};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut consumer = client.group("billing").topics(["orders"]).start(Start::Beginning).build().await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}/{}: {:?}", record.partition(), record.offset, record.value);
/// }
/// # Ok(())
/// # }
/// ```
pub struct GroupConsumer {
    pub(super) shared: Arc<Shared>,
    commits: Commits,
    lent: Option<GroupRecord>,
}

impl fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupConsumer({} as {})", self.shared.group, self.member_id())
    }
}

impl GroupConsumer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { commits: Commits { shared: Arc::clone(&shared) }, shared, lent: None }
    }

    /// The next record of any partition, lent until the next call, which says that the program is done with it. `None` once the member has
    /// ended, after an error that said why.
    ///
    /// # Errors
    /// [`GroupError::Consume`] and [`GroupError::NoOffset`], each of one partition, which stands still until the program seeks: the call
    /// after it goes on with the others. [`GroupError::Client`] where the member cannot go on at all, or cannot find where to begin.
    pub async fn next(&mut self) -> Option<Result<&ConsumerRecord, GroupError>> {
        self.done();
        match poll_fn(|cx| self.poll_handed(cx)).await? {
            Ok(record) => Some(Ok(self.lent.insert(record).record())),
            Err(error) => Some(Err(error)),
        }
    }

    /// Is done with the record that [`GroupConsumer::next`] lent, before the next one is asked for.
    pub fn done(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.done();
        }
    }

    /// The next record of any partition, the program's until it says that it is [done](GroupRecord::done); `None` as in
    /// [`GroupConsumer::next`].
    ///
    /// # Errors
    /// As [`GroupConsumer::next`].
    pub async fn take(&mut self) -> Option<Result<GroupRecord, GroupError>> {
        self.done();
        poll_fn(|cx| self.poll_handed(cx)).await
    }

    /// Commits what is done. The record lent last is not, before the next one is asked for or [`GroupConsumer::done`] says so.
    ///
    /// # Errors
    /// As [`Commits::commit`].
    pub async fn commit(&self) -> Result<(), GroupError> {
        self.commits.commit().await
    }

    /// As [`GroupConsumer::commit`], in the background.
    pub fn commit_async(&self) -> CommitTicket {
        self.commits.commit_async()
    }

    /// Commits what the program says.
    ///
    /// # Errors
    /// As [`Commits::commit_offsets`].
    pub async fn commit_offsets(&self, offsets: &[GroupOffset]) -> Result<(), GroupError> {
        self.commits.commit_offsets(offsets).await
    }

    /// A handle that commits, for other tasks.
    #[must_use]
    pub fn commits(&self) -> Commits {
        self.commits.clone()
    }

    /// The partitions that it owns now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.work.lock().assignment()
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// Its id; a new one once it had to join anew because nobody knew it any more.
    #[must_use]
    pub fn member_id(&self) -> Arc<str> {
        Arc::clone(&self.shared.identity.borrow().member_id)
    }

    /// Its epoch in the group; 0 while it joins.
    #[must_use]
    pub fn member_epoch(&self) -> i32 {
        self.shared.identity.borrow().epoch
    }

    /// The offset of the next record that will be handed out.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn position(&self, topic: &str, partition: PartitionId) -> Result<Offset, GroupError> {
        let work = self.shared.work.lock();
        let position = work.find(topic, partition).and_then(|(place, _)| work.position(place));
        position.ok_or_else(|| not_assigned(topic, partition))
    }

    /// Hands out nothing more of a partition until [`GroupConsumer::resume`], or until it is taken away and comes again.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&self, topic: &str, partition: PartitionId) -> Result<(), GroupError> {
        self.set_paused(topic, partition, true)
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&self, topic: &str, partition: PartitionId) -> Result<(), GroupError> {
        self.set_paused(topic, partition, false)
    }

    /// Goes on elsewhere in a partition; also where an error stopped it. Records that were handed out before count no more, whether they are
    /// done or not: what is committed next is the new place.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`]; [`GroupError::Client`] where the place cannot be found.
    pub async fn seek(&self, topic: &str, partition: PartitionId, to: Start) -> Result<(), GroupError> {
        let (position, offset) = {
            let isolation = self.shared.settings.reading.isolation;
            consumer::resolve(&self.shared.cluster, topic, partition, to, isolation).await?
        };
        let place = consumer::Place { position, offset, leader_epoch: None };
        let program = {
            let mut work = self.shared.work.lock();
            let (at, _) = work.find(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
            work.seek(at, place)
        };
        wake(program);
        Ok(())
    }

    /// The id of the topic of which it has this partition, if it has it.
    #[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
    pub(crate) fn topic_id(&self, at: &TopicPartition) -> Option<tidelog_protocol::TopicId> {
        let found = self.shared.work.lock().find(at.topic.as_str(), at.partition);
        found.map(|((topic_id, _), _)| topic_id)
    }

    /// Where the builder has a partition begin of which nothing is known, whatever the group has committed; `None` while the cluster says that another
    /// topic than `topic_id` has the name, or none.
    #[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
    pub(crate) async fn beginning(
        &self,
        at: &TopicPartition,
        topic_id: tidelog_protocol::TopicId,
    ) -> Result<Option<Offset>, GroupError> {
        let Some(start) = self.shared.settings.start else {
            return Err(GroupError::NoOffset { topic: at.topic.clone(), partition: at.partition });
        };
        let (cluster, topic) = (&self.shared.cluster, at.topic.as_str());
        let found = async {
            if cluster.refreshed(topic, std::time::Instant::now()).await?.id != topic_id {
                return Ok(None);
            }
            let isolation = self.shared.settings.reading.isolation;
            consumer::resolve(cluster, topic, at.partition, start, isolation).await.map(|(_, offset)| Some(offset))
        };
        match found.await {
            Err(crate::ClientError::UnknownTopic { .. } | crate::ClientError::UnknownPartition { .. }) => Ok(None),
            found => Ok(found?),
        }
    }

    /// Leaves the group: hands out nothing more, waits for what other tasks still have in their hands, commits what is done (unless
    /// [`CommitMode::Manual`](super::CommitMode::Manual)), and lets others have its partitions. A member with an instance id means to come back:
    /// they wait for it until its session ends.
    ///
    /// # Errors
    /// [`GroupError::Client`] where the member had ended already, for that reason. That the coordinator could not be told is none: the
    /// session ends by itself.
    pub async fn leave(mut self) -> Result<(), GroupError> {
        // The record lent last is not done: only the next call would have said so.
        drop(self.lent.take());
        let mut identity = self.shared.identity.subscribe();
        // Where nobody listens it has ended.
        let _ = self.shared.events.send(Command::Leave).await;
        let _ = identity.wait_for(|me| me.ended).await;
        match self.shared.work.lock().take_error() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Which records it is handed.
    pub(crate) fn isolation(&self) -> Isolation {
        self.shared.settings.reading.isolation
    }

    /// Is handed again what is not committed; what it has in its hands counts no more.
    pub(crate) fn rewind(&self) {
        let program = self.shared.work.lock().rewind();
        wake(program);
    }

    /// Why the member ended before it was one.
    pub(super) async fn why_it_ended(&mut self) -> GroupError {
        match self.take().await {
            Some(Err(error)) => error,
            Some(Ok(_)) | None => GroupError::Left,
        }
    }

    /// What stood in the way of joining last.
    pub(super) fn why_it_did_not_join(&self, waited: Duration) -> GroupError {
        let failed = self.shared.failed_last.lock().take().unwrap_or_else(|| {
            let sentence = format!("no coordinator of the group answered within {waited:?}");
            WireError::new(ErrorCode::DeadlineExceeded, sentence).into()
        });
        GroupError::Client(failed)
    }

    fn set_paused(&self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), GroupError> {
        let program = {
            let mut work = self.shared.work.lock();
            let (place, _): (Place, _) = work.find(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
            work.pause(place, paused)
        };
        wake(program);
        Ok(())
    }

    fn poll_handed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<GroupRecord, GroupError>>> {
        let now = self.shared.now();
        let polled = self.shared.work.lock().poll_next(cx, now);
        polled.map(|next| next.map(|handed| handed.map(|handed| GroupRecord::new(Arc::clone(&self.shared), handed))))
    }
}

impl Stream for GroupConsumer {
    type Item = Result<GroupRecord, GroupError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.done();
        self.poll_handed(cx)
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        drop(self.lent.take());
        // Where the queue is full or closed its session ends by itself.
        let _ = self.shared.events.try_send(Command::Leave);
    }
}

fn not_assigned(topic: &str, partition: PartitionId) -> GroupError {
    ConsumeError::NotAssigned { topic: topic.into(), partition }.into()
}
