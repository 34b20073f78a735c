//! The reading end: batches that were pushed become views or records. Knows offsets and batches; streams are the
//! subscriptions' business.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tidelog_protocol::messages::{AbortedTransaction, Isolation, Position};
use tidelog_protocol::records::{BatchError, OwnedBatch, OwnedRecords, RawBatch, Scratch};
use tidelog_protocol::{LeaderEpoch, Offset, PartitionId, TopicId};
use tokio_util::sync::DropGuard;

use super::builder::Settings;
use super::changing::Changing;
use super::inbox::{Event, Inbox, Slot};
use super::visibility;
use super::{BatchView, ConsumeError, ConsumerRecord, Start, TopicPartition};
use crate::cluster::{Cluster, Survivor};

/// Reads records of partitions, each in order. Batches are pushed ahead of the program as far as
/// [`ConsumerBuilder::prefetch_bytes`](super::ConsumerBuilder::prefetch_bytes) reaches, and no further.
///
/// A lost connection is opened again by itself, and reading goes on at the next offset: no record is lost or comes twice. What cannot
/// heal by itself is an error of one partition, told once; the others go on.
///
/// It is a [`Stream`] of owned records; [`Consumer::next_batch`] is several times faster where each record is only looked at. Both may
/// be mixed.
///
/// ```no_run
/// use tidelog_client::{Client, Start};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut consumer = client.consumer().topic("orders").start(Start::Beginning).build().await?;
/// while let Some(batch) = consumer.next_batch().await? {
///     for record in batch.records() {
///         let record = record?;
///         println!("{}/{}: {:?}", batch.partition(), record.offset, record.value);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: Settings,
    pub(super) inbox: Arc<Inbox>,
    pub(super) partitions: Vec<Partition>,
    /// Partitions of which something may come.
    pub(super) going: usize,
    /// Partitions are taken in and let go while it runs, so that it never ends by itself.
    pub(super) changing: Option<Changing>,
    /// The item being consumed.
    pub(super) item: Option<Item>,
    /// The batch at hand could not be looked into; the rest of its item goes with it.
    pub(super) broken: bool,
    pub(super) scratch: Scratch,
    /// Where partitions are read from another replica than the leader's, as far as the program has not asked yet.
    pub(super) survivors: Vec<(TopicPartition, Option<Survivor>)>,
    /// Ends the subscriptions with the consumer.
    pub(super) _subscriptions: DropGuard,
}

/// One partition as the consumer sees it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) source: Arc<TopicPartition>,
    /// Offset of the next record to be handed out.
    pub(super) position: Offset,
    /// Records from here on are not handed out.
    pub(super) until: Offset,
    pub(super) course: Course,
    /// The leadership that wrote the last batch looked at.
    pub(super) leader_epoch: Option<LeaderEpoch>,
    /// What is left of an item that was at hand as the partition was paused in the midst of it.
    pub(super) aside: Option<Item>,
    /// Ends its stream, where that is not to go on for as long as the consumer.
    pub(super) reading: Option<DropGuard>,
}

/// Whether something may come of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    Going,
    /// It has reached its end.
    Finished,
    /// An error was told; it stands still until the program seeks.
    Stopped,
}

impl Partition {
    pub(super) const fn new(source: Arc<TopicPartition>, position: Offset, until: Offset, course: Course) -> Self {
        Self { source, position, until, course, leader_epoch: None, aside: None, reading: None }
    }

    /// Notes a change of course, also in the count of those that are going.
    pub(super) const fn take(&mut self, course: Course, going: &mut usize) {
        match (self.course, course) {
            (Course::Going, Course::Finished | Course::Stopped) => *going -= 1,
            (Course::Finished | Course::Stopped, Course::Going) => *going += 1,
            _ => {}
        }
        self.course = course;
    }
}

/// A pushed item, as far as it was not consumed.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) slot: Slot,
    /// Batches not looked at.
    rest: Bytes,
    /// Bytes of the whole item, to be given back as credit.
    bytes: u32,
    topic_id: TopicId,
    next_offset: Offset,
    aborted: Vec<AbortedTransaction>,
    /// The batch at hand.
    batch: Option<OwnedBatch>,
    /// Its records, where they are handed out one by one.
    records: Option<OwnedRecords>,
}

impl Consumer {
    /// The next batch of any partition; `None` where nothing can come any more: every partition has reached its end (see
    /// [`until_end`](super::ConsumerBuilder::until_end)) or stands still after an error. Its records count as handed out.
    ///
    /// # Errors
    /// [`ConsumeError`], each of one partition; the call after it goes on with the others.
    pub async fn next_batch(&mut self) -> Result<Option<BatchView<'_>>, ConsumeError> {
        // A batch of which some records were handed out one by one gives the rest of them.
        let resumed = self.item.as_mut().is_some_and(|item| item.records.take().is_some() && item.batch.is_some());
        if !resumed && !poll_fn(|cx| self.poll_batch(cx)).await? {
            return Ok(None);
        }
        self.view().map(Some)
    }

    /// The next record of any partition, to be kept or sent elsewhere; `None` as in [`Consumer::next_batch`].
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord, ConsumeError>> {
        poll_fn(|cx| self.poll_record(cx)).await
    }

    /// The partitions that it reads.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.iter().map(|partition| TopicPartition::clone(&partition.source)).collect()
    }

    /// The partitions that are read from another replica than their leader's, or from their leader again, as far as that changed since the last
    /// call; see [`ConsumerBuilder::survivors`](super::ConsumerBuilder::survivors).
    pub fn take_survivors(&mut self) -> Vec<(TopicPartition, Option<Survivor>)> {
        std::mem::take(&mut self.survivors)
    }

    /// The offset of the next record that will be handed out.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn position(&self, topic: &str, partition: PartitionId) -> Result<Offset, ConsumeError> {
        self.slot(topic, partition).map(|slot| self.partitions[slot].position)
    }

    /// The first offset that is not on all in-sync replicas yet, as the broker said last.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn high_watermark(&self, topic: &str, partition: PartitionId) -> Result<Offset, ConsumeError> {
        self.slot(topic, partition).map(|slot| self.inbox.high_watermark(slot))
    }

    /// The first offset of the oldest transaction that is open, or the high watermark where there is none, as the broker said last: a consumer
    /// that reads what is committed goes so far.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn last_stable(&self, topic: &str, partition: PartitionId) -> Result<Offset, ConsumeError> {
        self.slot(topic, partition).map(|slot| self.inbox.last_stable(slot))
    }

    /// How many offsets lie between the position and the first that cannot be read yet: the high watermark, or the last stable offset where
    /// only what is committed is read.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn lag(&self, topic: &str, partition: PartitionId) -> Result<u64, ConsumeError> {
        let end = match self.settings.isolation {
            Isolation::ReadUncommitted => self.high_watermark(topic, partition)?,
            Isolation::ReadCommitted => self.last_stable(topic, partition)?,
        };
        Ok(end.since(self.position(topic, partition)?))
    }

    /// Hands out nothing more of a partition until [`Consumer::resume`], but what is left of the item at hand (see
    /// [`item_bytes`](super::ConsumerBuilder::item_bytes)). What was prefetched stays.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: PartitionId) -> Result<(), ConsumeError> {
        self.inbox.pause(self.slot(topic, partition)?);
        Ok(())
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: PartitionId) -> Result<(), ConsumeError> {
        self.inbox.resume(self.slot(topic, partition)?);
        Ok(())
    }

    /// Goes on elsewhere in a partition; also where an error stopped it. What was prefetched of it is dropped.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`]; [`ConsumeError::Client`] where the place cannot be found.
    pub async fn seek(&mut self, topic: &str, partition: PartitionId, to: Start) -> Result<(), ConsumeError> {
        let slot = self.slot(topic, partition)?;
        let (position, offset) =
            super::opening::resolve(&self.cluster, topic, partition, to, self.settings.isolation).await?;
        self.go_to(slot, position, offset);
        Ok(())
    }

    pub(super) fn go_to(&mut self, slot: Slot, position: Position, offset: Offset) {
        self.drop_items(slot);
        self.partitions[slot].position = offset;
        let finished = offset >= self.partitions[slot].until;
        self.partitions[slot].take(if finished { Course::Finished } else { Course::Going }, &mut self.going);
        self.inbox.seek(slot, position);
        if finished {
            self.inbox.halt(slot);
        }
    }

    /// Forgets what was at hand of a partition.
    pub(super) fn drop_items(&mut self, slot: Slot) {
        self.partitions[slot].aside = None;
        if self.item.as_ref().is_some_and(|item| item.slot == slot) {
            self.item = None;
            self.broken = false;
        }
    }

    fn slot(&self, topic: &str, partition: PartitionId) -> Result<Slot, ConsumeError> {
        let found = self
            .partitions
            .iter()
            .position(|known| known.source.partition == partition && known.source.topic.as_str() == topic);
        found.ok_or_else(|| ConsumeError::NotAssigned { topic: topic.into(), partition })
    }

    /// Puts the next batch at hand; false at the end.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ConsumeError>> {
        if std::mem::take(&mut self.broken) {
            self.item = None;
        }
        loop {
            if let Some(found) = self.next_of_item() {
                return Poll::Ready(found.map(|()| true));
            }
            if let Some(item) = self.taken_up() {
                // The batch that was at hand gives the rest of its records.
                let item = self.item.insert(Item { records: None, ..item });
                if item.batch.is_some() {
                    return Poll::Ready(Ok(true));
                }
                continue;
            }
            let (slot, event) = match self.inbox.poll_next(cx) {
                Poll::Ready(next) => next,
                // Waiting would be for ever: only the program can set a partition going, and it waits here.
                Poll::Pending if self.going == 0 && self.changing.is_none() => return Poll::Ready(Ok(false)),
                Poll::Pending => return Poll::Pending,
            };
            match event {
                Event::Failed(error) => {
                    self.partitions[slot].take(Course::Stopped, &mut self.going);
                    return Poll::Ready(Err(error));
                }
                Event::Survives(survivor) => self.survives(slot, survivor),
                Event::PartsAt(offset) => {
                    let partition = &mut self.partitions[slot];
                    partition.position = partition.position.min(offset);
                }
                Event::Joined(source) => {
                    assert_eq!(slot, self.partitions.len(), "partitions are heard of in the order of their slots");
                    self.partitions.push(Partition::new(source, Offset::ZERO, Offset::MAX, Course::Going));
                    self.going += 1;
                }
                Event::Batches { payload, topic_id, next_offset, aborted } => {
                    let (bytes, rest) = (payload.len() as u32, payload);
                    let (batch, records) = (None, None);
                    self.item = Some(Item { slot, rest, bytes, topic_id, next_offset, aborted, batch, records });
                }
            }
        }
    }

    /// A partition is read from here from now on. What this replica does not know to be settled does not come.
    fn survives(&mut self, slot: Slot, survivor: Option<Survivor>) {
        let partition = &mut self.partitions[slot];
        self.survivors.retain(|(known, _)| *known != *partition.source);
        self.survivors.push((TopicPartition::clone(&partition.source), survivor));
        let Some(survivor) = survivor.filter(|_| self.settings.until_end) else { return };
        partition.until = partition.until.min(survivor.end.max(partition.position));
        if partition.position >= partition.until && partition.course == Course::Going {
            partition.take(Course::Finished, &mut self.going);
            self.inbox.halt(slot);
        }
    }

    /// Puts the next batch of the item at hand in place. Without one left it settles the item.
    fn next_of_item(&mut self) -> Option<Result<(), ConsumeError>> {
        loop {
            let item = self.item.as_mut()?;
            let partition = &mut self.partitions[item.slot];
            if let Some(batch) = item.batch.take() {
                partition.position = partition.position.max(batch.header().next_offset());
            }
            if item.rest.is_empty() || partition.position >= partition.until {
                partition.position = partition.position.max(item.next_offset.min(partition.until));
                self.settle_item();
                continue;
            }
            let batch = match OwnedBatch::split_from(&mut item.rest) {
                Ok(batch) => batch,
                Err(error) => return Some(Err(self.corrupt(error))),
            };
            let header = batch.header();
            // The first batch of a stream may begin before the place asked for, or lie there altogether.
            if header.next_offset() <= partition.position {
                continue;
            }
            if header.base_offset >= partition.until {
                partition.position = partition.until;
                continue;
            }
            if let Err(error) = batch.verify_crc() {
                return Some(Err(self.corrupt(error)));
            }
            partition.leader_epoch = header.leader_epoch;
            let is_seen = visibility::is_seen(header, &item.aborted);
            item.batch = Some(batch);
            if is_seen {
                return Some(Ok(()));
            }
        }
    }

    /// The item at hand is consumed: its bytes go back as credit, and its partition may have reached its end.
    fn settle_item(&mut self) {
        let Some(item) = self.item.take() else { return };
        let partition = &self.partitions[item.slot];
        if item.bytes > 0 {
            self.inbox.consumed(item.slot, item.bytes);
        }
        if partition.position >= partition.until {
            self.partitions[item.slot].take(Course::Finished, &mut self.going);
            self.inbox.halt(item.slot);
        }
    }

    /// Stops the partition of the item at hand where it stands.
    fn corrupt(&mut self, source: BatchError) -> ConsumeError {
        let item = self.item.take();
        let slot = item.map_or(0, |item| item.slot);
        let partition = &mut self.partitions[slot];
        partition.take(Course::Stopped, &mut self.going);
        self.inbox.halt(slot);
        ConsumeError::Corrupt {
            topic: partition.source.topic.clone(),
            partition: partition.source.partition,
            offset: partition.position,
            source,
        }
    }

    /// The batch at hand, borrowed; its records count as handed out.
    fn view(&mut self) -> Result<BatchView<'_>, ConsumeError> {
        let Self { item, partitions, scratch, settings, inbox, broken, going, .. } = self;
        #[expect(clippy::expect_used, reason = "both callers have just put it there")]
        let (item, batch) = item
            .as_ref()
            .and_then(|item| item.batch.as_ref().map(|batch| (item, batch)))
            .expect("a batch is at hand whenever a view of it is asked for");
        let partition = &mut partitions[item.slot];
        let from = partition.position;
        scratch.set_limit(settings.decompressed_bytes_max);
        let records = RawBatch::parse_compacted(batch.bytes()).and_then(|raw| raw.records(scratch));
        let records = records.map_err(|source| {
            inbox.halt(item.slot);
            partition.take(Course::Stopped, going);
            *broken = true;
            ConsumeError::Corrupt {
                topic: partition.source.topic.clone(),
                partition: partition.source.partition,
                offset: from,
                source,
            }
        })?;
        partition.position = from.max(batch.header().next_offset().min(partition.until));
        Ok(BatchView {
            source: &partition.source,
            header: batch.header(),
            bytes: batch.bytes().len(),
            records,
            from,
            until: partition.until,
        })
    }

    pub(super) fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord, ConsumeError>>> {
        loop {
            while let Some(item) = &mut self.item
                && let Some(records) = &mut item.records
            {
                let partition = &mut self.partitions[item.slot];
                match records.next() {
                    Some(Ok(record)) if record.offset < partition.position => {}
                    Some(Ok(record)) if record.offset < partition.until => {
                        partition.position = record.offset.plus(1);
                        let record = ConsumerRecord::new(Arc::clone(&partition.source), item.topic_id, record);
                        return Poll::Ready(Some(Ok(record)));
                    }
                    Some(Ok(_)) | None => item.records = None,
                    Some(Err(error)) => return Poll::Ready(Some(Err(self.corrupt(error)))),
                }
            }
            match ready!(self.poll_batch(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let limit = self.settings.decompressed_bytes_max;
            let Some(item) = &mut self.item else { continue };
            let Some(batch) = &item.batch else { continue };
            match batch.records(limit) {
                Ok(records) => item.records = Some(records),
                Err(error) => return Poll::Ready(Some(Err(self.corrupt(error)))),
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(cx)
    }
}
