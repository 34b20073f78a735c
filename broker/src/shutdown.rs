//! The end of a broker's life: drain, close the connections, close the logs. Knows nothing of signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidelog_coordination::counted;
use tidelog_coordination::leases::LEASE_MS;
use tidelog_protocol::{ErrorCode, WireError};
use tracing::{debug, error, info, warn};

use crate::clean_mark;
use crate::housekeeping::note_watermarks;
use crate::node::Node;
use crate::partition::Command;

/// So many logs are closed at a time.
const CLOSING_THREADS: usize = 32;

/// Does all of it; the first log that cannot be closed cleanly is the error, the others are closed all the same.
pub(crate) async fn drain_and_close(node: &Arc<Node>) -> Result<(), WireError> {
    let began = Instant::now();
    let patience = Duration::from_millis(node.config.shutdown_timeout_ms);
    hand_over(node, patience / 2).await;
    node.controllers.quorum().leave();
    let patience = patience.saturating_sub(began.elapsed());
    node.draining.cancel();
    if !drained_within(node, patience / 2).await {
        answer_who_waits(node);
        if !drained_within(node, patience / 2).await {
            let (connections, under_way) = (node.metrics.connections.get(), node.metrics.requests_under_way.get());
            warn!(connections, under_way, "some requests were not done in time; their connections are closed");
        }
    }
    node.connections_close.cancel();
    if tokio::time::timeout(Duration::from_secs(5), node.tasks.wait()).await.is_err() {
        warn!("some connections did not end in time");
    }
    close_logs(node).await
}

/// A broker without a lease leads nothing that it could hand over; a controller that comes back gives it another within this time.
const UNLEASED: Duration = Duration::from_millis(LEASE_MS);

/// Lets others take over what this broker leads, where there are others and the controller answers.
async fn hand_over(node: &Arc<Node>, patience: Duration) {
    let image = node.controllers.image();
    let others = image.brokers().any(|broker| broker.broker_id != node.broker_id && !broker.fenced);
    if !others || !node.lease.holds() {
        return;
    }
    let mut standing = node.lease.standing();
    node.lease.want_shutdown();
    tokio::select! {
        biased;
        // The sender lives as long as the node.
        _ = standing.wait_for(|standing| standing.may_shut_down) => info!("others lead what this broker led"),
        () = node.lease.missed_for(UNLEASED) => info!("no controller answers, so there is nobody to hand over to"),
        () = tokio::time::sleep(patience) => warn!("not everything that this broker led could be handed over in time"),
    }
}

/// Waits until no connection is left: each ends once what it had under way is answered. False where some are left after `patience`.
async fn drained_within(node: &Arc<Node>, patience: Duration) -> bool {
    node.tasks.close();
    tokio::time::timeout(patience, node.tasks.wait()).await.is_ok()
}

/// Whoever waits for replicas that do not come, or for a disk that takes too long, hears that it is over here. Without a word it would learn only
/// that the connection is gone.
fn answer_who_waits(node: &Arc<Node>) {
    node.registry.all().iter().for_each(|partition| partition.submit(Command::LeaseEnded));
}

async fn close_logs(node: &Arc<Node>) -> Result<(), WireError> {
    let closing = node.clone();
    let registration = node.registry.member().epoch;
    let closed = tokio::task::spawn_blocking(move || close_partitions(&closing)).await;
    let mut result =
        closed.unwrap_or_else(|_| Err(WireError::new(ErrorCode::Internal, "closing the logs failed unexpectedly")));
    if result.is_ok() {
        let marking = node.clone();
        let marked = tokio::task::spawn_blocking(move || clean_mark::set(&marking.data, registration)).await;
        if !matches!(marked, Ok(Ok(()))) {
            warn!("the mark of a clean end cannot be written: the next start counts as one after a crash");
        }
    }
    if let Err(error) = node.controllers.close().await {
        error!(%error, "the metadata log was not closed cleanly");
        result = result.and(Err(WireError::new(ErrorCode::StorageFailed, error.to_string())));
    }
    result
}

fn close_partitions(node: &Node) -> Result<(), WireError> {
    note_watermarks(node);
    let partitions = node.registry.all();
    info!(partitions = partitions.len(), "closing the logs");
    let (sender, receiver) = std::sync::mpsc::channel();
    let next = AtomicUsize::new(0);
    // A partition that is idle is closed by who asks, and that is a wait for the disk: many at a time share its flushes.
    let ask = || {
        while let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (sender, name) = (sender.clone(), format!("{}-{}", partition.topic(), partition.partition()));
            partition.submit(Command::Close {
                ticket: Box::new(move |result| {
                    // The receiver outlives every sender.
                    let _ = sender.send((name, result));
                }),
            });
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..CLOSING_THREADS.min(partitions.len()) {
            scope.spawn(ask);
        }
        ask();
    });
    drop(sender);
    let (mut first, mut answers, mut unclean) = (None, 0, 0);
    for (name, result) in receiver {
        answers += 1;
        if let Err(error) = result {
            unclean += 1;
            debug!(partition = %name, %error, "not closed cleanly");
            first.get_or_insert((name, error));
        }
    }
    // A disk that is full is so for all of them.
    let mut first = match first {
        None => Ok(()),
        Some((name, error)) => {
            error!(partitions = unclean, first = %name, %error, "not closed cleanly; recovery runs at the next start");
            Err(error)
        }
    };
    let missing = partitions.len() - answers;
    if missing > 0 {
        let broken = counted(missing, "partition");
        let sentence = format!("{broken} broke down while the broker ran and could not be closed");
        error!(missing, "some partitions broke down earlier and were not closed; recovery runs at the next start");
        first = first.and(Err(WireError::new(ErrorCode::Internal, sentence)));
    }
    first
}
