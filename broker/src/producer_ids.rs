//! Producer ids that this broker may give out: from blocks of its own. Another one is fetched from the controller when half of the last is used,
//! so that a new producer is served also while there is no controller. An id is given out once, whatever answers are lost. Knows nothing of producers.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_protocol::messages::AllocateProducerIdsRequest;
use tidelog_protocol::{ErrorCode, ProducerId, WireError};
use tokio::sync::Notify;

use crate::change::change;
use crate::node::Node;

/// How long a controller is looked for: the producer asks again, and hears meanwhile that there is none.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause before the next try to fetch a block ahead.
const PAUSE: Duration = Duration::from_secs(1);

/// What is left of the blocks.
#[derive(Debug, Default)]
pub struct ProducerIds {
    reserve: Mutex<Reserve>,
    /// One asks, and those that come meanwhile wait for its block.
    asking: tokio::sync::Mutex<()>,
    /// Less than half a block is left.
    low: Notify,
}

/// Blocks, in the order of their use.
#[derive(Debug, Default)]
struct Reserve {
    blocks: VecDeque<Range<i64>>,
    left: i64,
    /// Of which another one is to be fetched.
    low_below: i64,
}

impl Reserve {
    fn add(&mut self, block: Range<i64>) {
        let ids = block.end - block.start;
        self.left += ids;
        self.low_below = ids / 2;
        self.blocks.push_back(block);
    }

    fn take(&mut self) -> Option<ProducerId> {
        let block = self.blocks.front_mut()?;
        let id = block.next();
        if block.is_empty() {
            self.blocks.pop_front();
        }
        self.left -= i64::from(id.is_some());
        id.map(ProducerId)
    }

    const fn is_low(&self) -> bool {
        self.left <= self.low_below
    }
}

impl ProducerIds {
    /// One that nobody had before.
    ///
    /// # Errors
    /// What the controller says; NoQuorum where there is none and nothing is left.
    pub async fn next(&self, node: &Arc<Node>) -> Result<ProducerId, WireError> {
        if let Some(id) = self.take(node) {
            return Ok(id);
        }
        self.fetch(node, |reserve| reserve.left == 0).await?;
        self.take(node).ok_or_else(|| WireError::new(ErrorCode::Internal, "the controller gave no producer ids"))
    }

    fn take(&self, node: &Node) -> Option<ProducerId> {
        let mut reserve = self.reserve.lock();
        let id = reserve.take();
        node.metrics.producer_ids_left.set(reserve.left);
        if reserve.is_low() {
            self.low.notify_one();
        }
        id
    }

    /// Gets another block, where there is still need of one once it is its turn.
    async fn fetch(&self, node: &Arc<Node>, is_needed: impl Fn(&Reserve) -> bool) -> Result<(), WireError> {
        let _turn = self.asking.lock().await;
        if !is_needed(&self.reserve.lock()) {
            return Ok(());
        }
        let request = AllocateProducerIdsRequest { broker_id: node.broker_id };
        let asked = change(node, request, Some(Instant::now() + PATIENCE)).await;
        let block = asked.map_err(|error| match error.code {
            // It may still come: then that block is lost, and nothing else.
            ErrorCode::DeadlineExceeded => WireError::new(ErrorCode::NoQuorum, error.message),
            _ => error,
        })?;
        let mut reserve = self.reserve.lock();
        reserve.add(block.first.0..block.first.0.saturating_add(i64::from(block.count)));
        node.metrics.producer_ids_left.set(reserve.left);
        Ok(())
    }
}

/// Keeps half a block in hand until the broker drains. Not before somebody in the cluster had an id: the first one makes the metadata unreadable
/// for brokers of releases that know of none, and so it is for a producer to bring about.
pub(crate) async fn keep_ahead(node: Arc<Node>) {
    let mut images = node.controllers.images();
    loop {
        let is_wanted = images.borrow_and_update().next_producer_id() > ProducerId(0);
        let mut pause = None;
        if is_wanted && let Err(error) = node.producer_ids.fetch(&node, Reserve::is_low).await {
            tracing::debug!(%error, "no producer ids could be fetched ahead; tries again");
            pause = Some(PAUSE);
        }
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = node.draining.cancelled() => return,
            () = again => {}
            () = node.producer_ids.low.notified(), if pause.is_none() => {}
            changed = images.changed(), if !is_wanted => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_once_each_and_half_a_block_is_the_time_for_another() {
        let mut reserve = Reserve::default();
        assert!(reserve.is_low() && reserve.take().is_none());
        reserve.add(10..20);
        let mut taken: Vec<i64> = (0..4).filter_map(|_| reserve.take()).map(|id| id.0).collect();
        assert!(!reserve.is_low());
        taken.extend(reserve.take().map(|id| id.0));
        assert!(reserve.is_low(), "half of it is used");
        reserve.add(50..60);
        assert!(!reserve.is_low());
        taken.extend(std::iter::from_fn(|| reserve.take()).map(|id| id.0));
        assert_eq!(taken, (10..20).chain(50..60).collect::<Vec<_>>());
        assert_eq!((reserve.left, reserve.is_low()), (0, true));
    }
}
