//! Asks the machine of a transactional id that is coordinated here. What has to wait for the end of the transaction before waits here for a
//! while, which is mostly shorter than the way to the producer and back. Knows nothing of connections.

use std::time::{Duration, Instant};

use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::{ErrorCode, WireError};

use crate::node::Node;

/// How long the end of the transaction before is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// When to ask again after that.
const RETRY_MS: u32 = 100;

/// Asks.
///
/// # Errors
/// What the rules say; NotCoordinator, CoordinatorLoading. ConcurrentTransactions also where an open transaction was aborted for a new
/// producer, and its markers are not written in time.
pub(crate) async fn ask(
    node: &Node,
    transactional_id: &str,
    command: &TransactionCommand,
) -> Result<TransactionReply, WireError> {
    let shard = node.coordinators.transactions.of(node, transactional_id)?;
    let until = Instant::now() + PATIENCE;
    let mut changes = shard.changes();
    loop {
        changes.mark_unchanged();
        let asked = match shard.ask(node, command).await {
            Ok(TransactionReply::AbortedFirst) => Err(aborted_first(transactional_id)),
            asked => asked,
        };
        let is_ending = asked.as_ref().is_err_and(|error| error.code == ErrorCode::ConcurrentTransactions);
        if !is_ending || !matches!(tokio::time::timeout_at(until.into(), changes.changed()).await, Ok(Ok(()))) {
            return asked.map_err(|error| match is_ending {
                true => WireError { retry_after_ms: RETRY_MS, ..error },
                false => error,
            });
        }
    }
}

fn aborted_first(id: &str) -> WireError {
    let sentence = format!("an open transaction under '{id}' was aborted for this producer; ask again in a moment");
    WireError::new(ErrorCode::ConcurrentTransactions, sentence)
}
