//! A consumer whose partitions come and go while it runs, as somebody else says: those of a group's member. Those that stay are not
//! touched. Knows nothing of groups.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidelog_protocol::messages::Position;
use tidelog_protocol::records::Scratch;
use tidelog_protocol::{LeaderEpoch, Offset, TopicId};
use tokio_util::sync::CancellationToken;

use super::builder::Settings;
use super::growth::Readers;
use super::inbox::{Inbox, Slot};
use super::reading::{Consumer, Course, Item, Partition};
use super::{ConsumeError, ConsumerRecord, TopicPartition};
use crate::cluster::Cluster;

/// What a consumer with changing partitions has besides.
#[derive(Debug)]
pub(super) struct Changing {
    readers: Readers,
    /// Partitions with something set aside that may be handed out again.
    taken_up: VecDeque<Slot>,
}

/// Where a partition is read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// What the subscription asks for.
    pub(crate) position: Position,
    /// The offset that it stands for.
    pub(crate) offset: Offset,
    /// The leadership under which what lies before it was read, where that is known.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// A record and what there is to know of where it comes from.
pub(crate) struct Delivery {
    pub(crate) slot: Slot,
    pub(crate) record: ConsumerRecord,
    /// The leadership that wrote it.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

impl Consumer {
    /// One that reads nothing yet.
    pub(crate) fn of_changing(cluster: Arc<Cluster>, settings: Settings) -> Self {
        let inbox = Inbox::new(Vec::new(), settings.prefetch_bytes);
        let ended = CancellationToken::new();
        let readers = Readers {
            cluster: Arc::clone(&cluster),
            inbox: Arc::clone(&inbox),
            settings: settings.clone(),
            ended: ended.clone(),
        };
        Self {
            survivors: Vec::new(),
            cluster,
            settings,
            inbox,
            partitions: Vec::new(),
            going: 0,
            changing: Some(Changing { readers, taken_up: VecDeque::new() }),
            item: None,
            broken: false,
            scratch: Scratch::new(),
            _subscriptions: ended.drop_guard(),
        }
    }

    /// Reads one more partition.
    pub(crate) fn take_in(&mut self, source: Arc<TopicPartition>, topic_id: TopicId, place: Place) -> Option<Slot> {
        let changing = self.changing.as_ref()?;
        let slot = self.inbox.admit(place.position, place.leader_epoch);
        let mut partition = Partition::new(Arc::clone(&source), place.offset, Offset::MAX, Course::Going);
        partition.leader_epoch = place.leader_epoch;
        partition.reading = Some(changing.readers.start_for_a_while(slot, source, topic_id));
        self.going += 1;
        if slot < self.partitions.len() {
            self.partitions[slot] = partition;
        } else {
            assert_eq!(slot, self.partitions.len(), "slots are given out in order");
            self.partitions.push(partition);
        }
        Some(slot)
    }

    /// Reads a partition no more: nothing of it is handed out from now on.
    pub(crate) fn let_go(&mut self, slot: Slot) {
        self.drop_items(slot);
        self.inbox.halt(slot);
        let partition = &mut self.partitions[slot];
        partition.take(Course::Stopped, &mut self.going);
        // The slot may be another's as soon as this is gone.
        drop(partition.reading.take());
    }

    /// Hands out nothing more of a partition, not even what is left of the item at hand.
    pub(crate) fn set_aside(&mut self, slot: Slot) {
        self.inbox.pause(slot);
        if let Some(item) = self.item.take_if(|item| item.slot == slot) {
            self.partitions[slot].aside = Some(item);
        }
    }

    /// Goes on with a partition that was set aside.
    pub(crate) fn take_up(&mut self, slot: Slot) {
        if let Some(changing) = &mut self.changing {
            changing.taken_up.push_back(slot);
        }
        // Wakes whoever waits for a record only where one was pushed; the caller wakes for what was set aside.
        self.inbox.resume(slot);
    }

    /// Goes on elsewhere in a partition.
    pub(crate) fn move_to(&mut self, slot: Slot, place: Place) {
        self.go_to(slot, place.position, place.offset);
    }

    /// Offset of the next record to be handed out, and the leadership that wrote what lies before.
    pub(crate) fn place_of(&self, slot: Slot) -> (Offset, Option<LeaderEpoch>) {
        let partition = &self.partitions[slot];
        (partition.position, partition.leader_epoch)
    }

    /// The next record of any partition.
    pub(crate) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, ConsumeError>> {
        let polled = match self.poll_record(cx) {
            Poll::Ready(Some(polled)) => polled,
            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(polled.map(|record| {
            // A record always comes of the item at hand.
            let slot = self.item.as_ref().map_or(0, |item| item.slot);
            Delivery { slot, record, leader_epoch: self.partitions[slot].leader_epoch }
        }))
    }

    /// The next item that was set aside and is not any more.
    pub(super) fn taken_up(&mut self) -> Option<Item> {
        let changing = self.changing.as_mut()?;
        while let Some(slot) = changing.taken_up.pop_front() {
            if let Some(item) = self.partitions[slot].aside.take() {
                return Some(item);
            }
        }
        None
    }
}
