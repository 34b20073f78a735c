//! What a sender waits for. A batch has one completion, however many records stand in it; a delivery is a share in it and a
//! place. Knows nothing of how a batch is sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_protocol::{LeaderEpoch, Offset, PartitionId, Timestamp};

use super::SendError;

/// What was promised of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The partition it was sent to.
    pub partition: PartitionId,
    /// Its offset; `None` with [`Acks::None`](crate::Acks::None), where no answer says.
    pub offset: Option<Offset>,
    /// The broker's clock at the append, in milliseconds since 1970; −1 with [`Acks::None`](crate::Acks::None).
    pub timestamp: Timestamp,
    /// The leadership that wrote it; `None` with [`Acks::None`](crate::Acks::None).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Replicas known to have written it, the leader included; 0 with [`Acks::None`](crate::Acks::None).
    pub replicas_written: u16,
    /// Replicas known to have flushed it to disk, the leader included.
    pub replicas_flushed: u16,
    /// The answer to an earlier try was lost, so the record may stand twice: this says where the later one is. Never with an idempotent
    /// producer, unless its leader was of a release that knows none.
    pub maybe_twice: bool,
}

/// What became of a batch: the receipt of its first record, or why there is none.
pub(crate) type Outcome = Result<Receipt, SendError>;

/// What became of a batch, or of what it was cut into.
#[derive(Debug)]
pub(crate) enum Fate {
    Known(Outcome),
    /// It went on in parts: the place of the first record of each, in order from 0, and its fate.
    Split(Vec<(u32, Arc<Completion>)>),
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        Self::Known(outcome)
    }
}

/// The fate of a batch, shared by all its records.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    fate: OnceLock<Fate>,
    waiting: Mutex<Vec<Waker>>,
}

impl Completion {
    /// Settles the batch and wakes all who wait. Only the first call counts.
    pub(crate) fn settle(&self, fate: impl Into<Fate>) {
        if self.fate.set(fate.into()).is_err() {
            return;
        }
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    /// The fate, or a place in the list of those to be woken: `place` is where this waiter stood before.
    fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Option<&Fate> {
        if let Some(fate) = self.fate.get() {
            return Some(fate);
        }
        let mut waiting = self.waiting.lock();
        // Settled between the look above and the lock: nobody will wake this waiter any more.
        if let Some(fate) = self.fate.get() {
            return Some(fate);
        }
        match place.and_then(|place| waiting.get_mut(place)) {
            Some(mine) => mine.clone_from(waker),
            None => {
                *place = Some(waiting.len());
                waiting.push(waker.clone());
            }
        }
        None
    }

    /// Waits for the outcome of the whole batch; of its parts, for the first failure.
    pub(crate) async fn settled(&self) -> Outcome {
        let mut place = None;
        let known = std::future::poll_fn(|cx| match self.poll(&mut place, cx.waker()) {
            Some(Fate::Known(outcome)) => Poll::Ready(Ok(outcome.clone())),
            Some(Fate::Split(parts)) => Poll::Ready(Err(parts)),
            None => Poll::Pending,
        });
        let parts = match known.await {
            Ok(outcome) => return outcome,
            Err(parts) => parts,
        };
        let mut together: Option<Outcome> = None;
        for (_, part) in parts {
            let outcome = Box::pin(part.settled()).await;
            together = Some(match together {
                Some(before) => before.and_then(|receipt| outcome.map(|_| receipt)),
                None => outcome,
            });
        }
        together.unwrap_or(Err(SendError::Closed))
    }
}

/// The fate of one record, to be awaited or dropped. Dropping it does not take the record back.
///
/// Deliveries of one partition resolve in the order of their sending; awaiting them one after the other is as good as any.
#[must_use = "a record is delivered only once its delivery says so; drop it on purpose where that does not matter"]
#[derive(Debug)]
pub struct Delivery {
    batch: Arc<Completion>,
    index: u32,
    place: Option<usize>,
}

impl Delivery {
    pub(crate) const fn new(batch: Arc<Completion>, index: u32) -> Self {
        Self { batch, index, place: None }
    }

    /// The outcome, where it is known already.
    #[must_use]
    pub fn now(&self) -> Option<Result<Receipt, SendError>> {
        let (mut batch, mut index) = (&self.batch, self.index);
        loop {
            match batch.fate.get()? {
                Fate::Known(outcome) => return Some(of(outcome, index)),
                Fate::Split(parts) => (batch, index) = part_of(parts, index)?,
            }
        }
    }
}

/// What the outcome of a batch means for its record at `index`.
fn of(outcome: &Outcome, index: u32) -> Result<Receipt, SendError> {
    match outcome {
        Ok(first) => Ok(Receipt { offset: first.offset.map(|offset| offset.plus(index.into())), ..*first }),
        Err(error) => Err(error.clone()),
    }
}

/// The part that holds the record at `index`, and its place there.
fn part_of(parts: &[(u32, Arc<Completion>)], index: u32) -> Option<(&Arc<Completion>, u32)> {
    let after = parts.partition_point(|(first, _)| *first <= index);
    let (first, part) = parts.get(after.checked_sub(1)?)?;
    Some((part, index - first))
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let (part, index) = match this.batch.poll(&mut this.place, cx.waker()) {
                None => return Poll::Pending,
                Some(Fate::Known(outcome)) => return Poll::Ready(of(outcome, this.index)),
                Some(Fate::Split(parts)) => match part_of(parts, this.index) {
                    Some((part, index)) => (Arc::clone(part), index),
                    None => return Poll::Ready(Err(SendError::Closed)),
                },
            };
            // Its place was in the list of the whole.
            (this.batch, this.index, this.place) = (part, index, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(base: u64) -> Receipt {
        Receipt {
            partition: PartitionId(1),
            offset: Some(Offset(base)),
            timestamp: Timestamp(5),
            leader_epoch: Some(LeaderEpoch(2)),
            replicas_written: 1,
            replicas_flushed: 1,
            maybe_twice: false,
        }
    }

    #[tokio::test]
    async fn each_record_of_a_batch_gets_its_own_offset() {
        let batch = Arc::new(Completion::default());
        let deliveries: Vec<_> = (0..3).map(|index| Delivery::new(Arc::clone(&batch), index)).collect();
        assert_eq!(deliveries[2].now(), None);
        let waiting = tokio::spawn(async move {
            let mut offsets = Vec::new();
            for delivery in deliveries {
                offsets.push(delivery.await.unwrap().offset.unwrap().0);
            }
            offsets
        });
        tokio::task::yield_now().await;
        batch.settle(Ok(receipt(40)));
        batch.settle(Err(SendError::Closed));
        assert_eq!(waiting.await.unwrap(), [40, 41, 42]);
    }

    #[tokio::test]
    async fn a_failed_batch_fails_each_of_its_records() {
        let batch = Arc::new(Completion::default());
        let delivery = Delivery::new(Arc::clone(&batch), 1);
        batch.settle(Err(SendError::Closed));
        assert_eq!(delivery.await, Err(SendError::Closed));
    }

    #[tokio::test]
    async fn a_batch_that_went_on_in_parts_has_the_outcome_of_each_for_its_records() {
        let batch = Arc::new(Completion::default());
        let waiting: Vec<_> = (0..4).map(|index| tokio::spawn(Delivery::new(Arc::clone(&batch), index))).collect();
        let late = Delivery::new(Arc::clone(&batch), 3);
        tokio::task::yield_now().await;
        let parts: Vec<_> = [0, 1, 3].into_iter().map(|first| (first, Arc::new(Completion::default()))).collect();
        batch.settle(Fate::Split(parts.clone()));
        assert_eq!(late.now(), None);
        let all = tokio::spawn(async move { batch.settled().await });
        tokio::task::yield_now().await;
        parts[0].1.settle(Ok(receipt(10)));
        parts[1].1.settle(Ok(receipt(20)));
        parts[2].1.settle(Err(SendError::TooLarge { bytes: 2, limit: 1 }));
        let mut offsets = Vec::new();
        for delivery in waiting {
            offsets.push(delivery.await.unwrap().ok().and_then(|receipt| receipt.offset).map(|offset| offset.0));
        }
        assert_eq!(offsets, [Some(10), Some(20), Some(21), None]);
        assert_eq!(late.now(), Some(Err(SendError::TooLarge { bytes: 2, limit: 1 })));
        assert!(all.await.unwrap().is_err(), "the whole failed where a part did");
    }

    #[test]
    fn a_delivery_polled_again_takes_one_place_in_the_list() {
        let batch = Completion::default();
        let mut place = None;
        for _ in 0..10 {
            assert!(batch.poll(&mut place, Waker::noop()).is_none());
        }
        assert_eq!(batch.waiting.lock().len(), 1);
    }
}
