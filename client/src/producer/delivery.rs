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
}

/// What became of a batch: the receipt of its first record, or why there is none.
pub(crate) type Outcome = Result<Receipt, SendError>;

/// The fate of a batch, shared by all its records.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Vec<Waker>>,
}

impl Completion {
    /// Settles the batch and wakes all who wait. Only the first call counts.
    pub(crate) fn settle(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    /// The outcome, or a place in the list of those to be woken: `place` is where this waiter stood before.
    fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Option<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome);
        }
        let mut waiting = self.waiting.lock();
        // Settled between the look above and the lock: nobody will wake this waiter any more.
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome);
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

    /// Waits for the outcome of the whole batch.
    pub(crate) async fn settled(&self) -> Outcome {
        let mut place = None;
        std::future::poll_fn(|cx| match self.poll(&mut place, cx.waker()) {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => Poll::Pending,
        })
        .await
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
        self.batch.outcome.get().map(|outcome| self.of(outcome))
    }

    fn of(&self, outcome: &Outcome) -> Result<Receipt, SendError> {
        match outcome {
            Ok(first) => Ok(Receipt { offset: first.offset.map(|offset| offset.plus(self.index.into())), ..*first }),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut place = this.place;
        let outcome = this.batch.poll(&mut place, cx.waker()).map(|outcome| this.of(outcome));
        this.place = place;
        match outcome {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
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
