//! Finds the leader of a partition, again and again until one takes the records or their time is over. Knows nothing of batches
//! but when they expire.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::lane::LinkTerms;
use super::partition::{Link, Partition};
use crate::ClientError;
use crate::cluster::Purpose;

/// Runs until the lane is linked, or an attempt fails with nothing left to deliver.
pub(super) async fn run(partition: Arc<Partition>) {
    loop {
        match attempt(&partition).await {
            Ok(link) => return partition.link(link),
            Err(error) if error.is_retriable() => {
                tracing::debug!(topic = %partition.topic, partition = %partition.id, %error, "no leader yet");
                let mut state = partition.lock();
                state.lane.failed(error, Instant::now());
                if state.lane.rest() {
                    return;
                }
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

/// One attempt, after its pause, while batches whose time is over are given up. It goes on though none is left: were it begun anew for
/// those that come later, a pause or a dial that takes longer than the delivery timeout would never end.
async fn attempt(partition: &Arc<Partition>) -> Result<Link, ClientError> {
    let (pause, failed_at) = partition.lock().lane.recovery(partition.shared.cluster.backoff());
    let mut found = pin!(async {
        // The clock of a sleep is coarse, and a transaction may be shorter than its tick.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        find(partition, failed_at).await
    });
    loop {
        let now = Instant::now();
        let silence = || ClientError::LeaderSilent { topic: partition.topic.to_string(), partition: partition.id };
        let (expired, next) = partition.lock().lane.expire(now, silence);
        for settled in expired {
            partition.tell(settled);
        }
        // What comes from now on has at least until then.
        let due = next.unwrap_or_else(|| now + partition.shared.settings.delivery_timeout);
        if let Ok(found) = tokio::time::timeout_at(due.into(), &mut found).await {
            return found;
        }
    }
}

/// The leader as it is known, or, after a failure, as the cluster says since.
async fn find(partition: &Arc<Partition>, failed_at: Option<Instant>) -> Result<Link, ClientError> {
    let cluster = &partition.shared.cluster;
    let image = match failed_at {
        Some(failed_at) => cluster.refreshed(&partition.topic, failed_at).await?,
        None => cluster.topic(&partition.topic).await?,
    };
    let leader = cluster.leader(&image, partition.id)?;
    let connection = cluster.connection(&leader.address, Purpose::Requests).await?;
    if let Some(transaction) = &partition.shared.transaction {
        transaction.check(&connection)?;
    }
    let batch_bytes_max = image.batch_bytes_max as usize;
    let wants = partition.lock().lane.wants();
    let terms = match &partition.shared.transaction {
        None => partition.shared.identity.terms(&connection, wants).await?,
        Some(transaction) => {
            let identity = if wants.is_some() { Some(transaction.identity().await?) } else { None };
            LinkTerms { identity, ..partition.shared.identity.terms(&connection, None).await? }
        }
    };
    let refusals = partition.hear_refusals(&connection);
    Ok(Link { connection, topic_id: image.id, leader_epoch: leader.epoch, batch_bytes_max, terms, refusals })
}
