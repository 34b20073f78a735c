//! Tells the cluster by which stamp the data folder of this broker is known: that of its start where the registration could not say it, and another
//! one now and then, so that a copy made while it ran is told from the folder as well. Knows nothing of what the cluster makes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_log::StorageError;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::StampFolderRequest;
use tokio::task::{JoinError, spawn_blocking};
use tracing::debug;

use crate::change::settle;
use crate::node::Node;

/// Pause after it could not be told.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the controller may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why the cluster may not know the newest stamp.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Refused(#[from] WireError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Thread(#[from] JoinError),
}

/// Keeps the cluster up to date until the broker's connections close.
pub(crate) async fn run(node: Arc<Node>) {
    let ends = node.connections_close.clone();
    ends.run_until_cancelled(keep(&node)).await;
}

async fn keep(node: &Arc<Node>) {
    let every = Duration::from_millis(node.config.folder_stamp_interval_ms);
    let (mut images, mut standing) = (node.controllers.images(), node.lease.standing());
    // The start has drawn one.
    let mut draw = false;
    loop {
        // A broker alone has its metadata in the same folder: there is nobody to tell.
        let several = images.wait_for(|image| image.brokers().len() > 1).await.is_ok();
        if !several || standing.wait_for(|standing| standing.holds).await.is_err() {
            return;
        }
        let pause = match stamp(node, &mut draw).await {
            Ok(()) => every,
            Err(error) => {
                debug!(%error, "the cluster was not told the stamp of the data folder; it is tried again");
                PAUSE.min(every)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Draws one where that is due, tells the newest where the cluster has another, and forgets those before it.
async fn stamp(node: &Arc<Node>, draw: &mut bool) -> Result<(), Untold> {
    let stamps = node.stamps.clone();
    if *draw || stamps.known().is_empty() {
        spawn_blocking(move || stamps.draw()).await??;
        *draw = false;
    }
    let stamps = node.stamps.clone();
    let known = stamps.known();
    let Some(newest) = known.last().copied() else { return Ok(()) };
    let image = node.controllers.image();
    if image.broker(node.broker_id).is_none_or(|broker| broker.stamp != Some(newest)) {
        let member = node.registry.member();
        let request = StampFolderRequest { broker_id: member.broker, broker_epoch: member.epoch, stamps: known };
        let _ = settle(node, request, Instant::now() + PATIENCE).await?;
    }
    *draw = true;
    Ok(spawn_blocking(move || stamps.heard(newest)).await??)
}
