//! What a broker does without being asked: follows the metadata, keeps retention, watches free space, scrubs. Knows nothing of
//! how any of it is done.

use std::sync::Arc;
use std::time::Duration;

use tidelog_log::retention::DeleteError;
use tidelog_protocol::Timestamp;
use tidelog_replication::OpenTransactions;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::clock;
use crate::node::Node;
use crate::partition::{Command, Handle};
use crate::quorum::Role;
use crate::replica;

/// Keeps the partitions in step with the metadata image until the broker drains.
pub(crate) async fn follow_metadata(node: Arc<Node>) {
    let mut images = node.controllers.images();
    // What was proposed between the start and now is not to be missed; applying an image twice changes nothing.
    images.mark_changed();
    loop {
        tokio::select! {
            () = node.connections_close.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
        let image = images.borrow_and_update().clone();
        let applying = node.clone();
        if tokio::task::spawn_blocking(move || applying.registry.apply(&image)).await.is_err() {
            warn!("a change of metadata could not be applied; restart the broker");
        }
    }
}

/// Begins a controller's epoch whenever this broker comes to lead the metadata quorum, until the broker drains.
pub(crate) async fn hold_office(node: Arc<Node>) {
    let mut roles = node.controllers.roles();
    loop {
        let role = *roles.borrow_and_update();
        if let Role::Leader { term, .. } = role {
            match node.controllers.take_office().await {
                Ok(()) => info!(term, "this broker runs the controller"),
                Err(error) => debug!(%error, "the controller's epoch is begun with its first decision"),
            }
        }
        tokio::select! {
            () = node.draining.cancelled() => return,
            changed = roles.changed() => if changed.is_err() { return },
        }
    }
}

/// Looks after everything, again and again, until the broker drains.
pub(crate) async fn run(node: Arc<Node>) {
    let mut tick = tokio::time::interval(Duration::from_millis(node.config.housekeeping_interval_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_full = false;
    let mut repairs = JoinSet::new();
    loop {
        tokio::select! {
            () = node.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        let working = node.clone();
        if tokio::task::spawn_blocking(move || look_after(&working)).await.is_err() {
            warn!("housekeeping failed unexpectedly; it goes on at the next tick");
        }
        while repairs.try_join_next().is_some() {}
        if node.metrics.partitions_corrupt.get() > 0 && repairs.is_empty() {
            repairs.spawn(replica::repair_all(node.clone()));
        }
        was_full = report_space(&node, was_full);
    }
}

/// Writes down how far the partitions here are. Blocks.
pub(crate) fn note_watermarks(node: &Node) {
    // In this order: what is opened in between is not forgotten.
    let not_open = node.registry.not_open();
    if let Err(error) = node.watermarks.write(&node.data, &node.registry.all(), &not_open) {
        debug!(%error, "the high watermarks cannot be noted; it is tried again");
    }
}

fn look_after(node: &Node) {
    if let Err(error) = node.registry.space().refresh() {
        warn!(%error, "free space cannot be measured");
    }
    if node.registry.has_waiting() {
        node.registry.apply(&node.controllers.image());
    }
    note_watermarks(node);
    let now = clock::now();
    let mut corrupt = 0;
    let mut transactions = OpenTransactions::default();
    let mut producers_most = 0;
    for partition in node.registry.all() {
        let open = partition.reader().open_transactions();
        transactions.count += open.count;
        transactions.oldest_ms = transactions.oldest_ms.max(open.oldest_ms);
        producers_most = producers_most.max(partition.reader().producers_known());
        corrupt += i64::from(partition.reader().is_damaged());
        if node.draining.is_cancelled() {
            return;
        }
        tidy(node, &partition, now);
    }
    node.metrics.partitions_corrupt.set(corrupt);
    node.metrics.partition_producers_most.set(i64::try_from(producers_most).unwrap_or(i64::MAX));
    node.metrics.partition_transactions_open.set(i64::try_from(transactions.count).unwrap_or(i64::MAX));
    let oldest_seconds = i64::try_from(transactions.oldest_ms / 1_000).unwrap_or(i64::MAX);
    node.metrics.partition_transactions_oldest_seconds.set(oldest_seconds);
    let flushes = node.registry.flush_metrics();
    let metrics = &node.metrics;
    metrics.flushes.inc_by(flushes.flushes.saturating_sub(metrics.flushes.get()));
    let seconds = flushes.micros as f64 / 1e6;
    metrics.flush_seconds.inc_by((seconds - metrics.flush_seconds.get()).max(0.0));
}

fn tidy(node: &Node, partition: &Handle, now: Timestamp) {
    let Ok((_, config)) = node.registry.find(partition.topic_id(), partition.partition()) else { return };
    partition.submit(Command::RollIfDue { now });
    match partition.apply_retention(now, &config) {
        Ok(deleted) if deleted.segments > 0 => {
            let (topic, index) = (partition.topic(), partition.partition());
            debug!(%topic, partition = %index, segments = deleted.segments, bytes = deleted.bytes, "retention removed segments");
            node.metrics.segments_deleted.inc_by(deleted.segments as u64);
        }
        Ok(_) | Err(DeleteError::Poisoned(_)) => {}
        Err(error) => {
            let (topic, index) = (partition.topic(), partition.partition());
            warn!(%topic, partition = %index, %error, "retention failed; it is tried again");
        }
    }
}

fn report_space(node: &Node, was_full: bool) -> bool {
    let space = node.registry.space();
    let full = !space.has_room();
    node.metrics.disk_free_bytes.set(i64::try_from(space.free_bytes()).unwrap_or(i64::MAX));
    node.metrics.disk_full.set(i64::from(full));
    if full && !was_full {
        warn!(
            free = space.free_bytes(),
            least = space.low_water_bytes(),
            "the disk is nearly full: produce is refused until space is freed"
        );
    } else if was_full && !full {
        info!(free = space.free_bytes(), "there is space again: produce goes on");
    }
    full
}
