//! Producer ids that this broker may give out: from a block of its own, and another block from the controller when that is used up. An id is
//! given out once, whatever answers are lost. Knows nothing of producers.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::messages::AllocateProducerIdsRequest;
use tidelog_protocol::{ProducerId, WireError};
use tokio::sync::Mutex;

use crate::change::change;
use crate::node::Node;

/// How long a controller is looked for: the producer asks again, and hears meanwhile that there is none.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is left of the block.
#[derive(Debug, Default)]
pub struct ProducerIds {
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// One that nobody had before.
    ///
    /// # Errors
    /// What the controller says; NoQuorum where there is none.
    pub async fn next(&self, node: &Arc<Node>) -> Result<ProducerId, WireError> {
        // One asks, and those that come meanwhile wait for its block.
        let mut left = self.left.lock().await;
        if left.is_empty() {
            let request = AllocateProducerIdsRequest { broker_id: node.broker_id };
            let block = change(node, request, Some(Instant::now() + PATIENCE)).await?;
            *left = block.first.0..block.first.0.saturating_add(i64::from(block.count));
        }
        left.next().map(ProducerId).ok_or_else(|| {
            let sentence = "the controller gave no producer ids";
            WireError::new(tidelog_protocol::ErrorCode::Internal, sentence)
        })
    }
}
