//! Finds the leader of a partition, again and again until one takes the records or their time is over. Knows nothing of batches
//! but when they expire.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::partition::{Link, Partition};
use crate::ClientError;
use crate::cluster::Purpose;

/// Runs until the lane is linked, or nothing is left to deliver.
pub(super) async fn run(partition: Arc<Partition>) {
    loop {
        let found = match look(&partition).await {
            Some(found) => found,
            None => {
                // Records may have come in while the expired ones were told.
                let drive = partition.lock().lane.begin_drive();
                if drive {
                    partition.drive();
                }
                return;
            }
        };
        match found {
            Ok(link) => return partition.link(link),
            Err(error) if error.is_retriable() => {
                tracing::debug!(topic = %partition.topic, partition = %partition.id, %error, "no leader yet");
                partition.lock().lane.failed(error, Instant::now());
            }
            Err(error) => {
                let (given_up, drive) = {
                    let mut state = partition.lock();
                    (state.lane.give_up(&error), state.lane.begin_drive())
                };
                for settled in given_up {
                    partition.tell(settled);
                }
                if drive {
                    partition.drive();
                }
                return;
            }
        }
    }
}

/// One attempt, after its pause. Batches whose time is over meanwhile are given up; `None` where none is left. The attempt goes on for
/// those that came later: were it begun anew for each, a pause that is longer than the delivery timeout would never end.
async fn look(partition: &Arc<Partition>) -> Option<Result<Link, ClientError>> {
    let (failures, retry_after_ms, failed_at) = {
        let state = partition.lock();
        let (failures, error, failed_at) = state.lane.recovery();
        (failures, error.map_or(0, ClientError::retry_after_ms), failed_at)
    };
    let mut attempt = pin!(async {
        tokio::time::sleep(partition.shared.cluster.backoff().draw(failures, retry_after_ms)).await;
        find(partition, failed_at).await
    });
    loop {
        let (expired, next) = partition.lock().lane.expire(Instant::now());
        for settled in expired {
            partition.tell(settled);
        }
        // The next round expires what is due.
        if let Ok(found) = tokio::time::timeout_at(next?.into(), &mut attempt).await {
            return Some(found);
        }
    }
}

/// The leader as it is known, or, after a failure, as the cluster says since.
async fn find(partition: &Partition, failed_at: Option<Instant>) -> Result<Link, ClientError> {
    let cluster = &partition.shared.cluster;
    let image = match failed_at {
        Some(failed_at) => cluster.refreshed(&partition.topic, failed_at).await?,
        None => cluster.topic(&partition.topic).await?,
    };
    let leader = cluster.leader(&image, partition.id)?;
    let connection = cluster.connection(&leader.address, Purpose::Requests).await?;
    let batch_bytes_max = image.batch_bytes_max as usize;
    Ok(Link { connection, topic_id: image.id, leader_epoch: leader.epoch, batch_bytes_max })
}
