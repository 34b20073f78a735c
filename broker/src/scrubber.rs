//! Re-reads what is settled in the background, slowly, so that rot is found before a consumer meets it. Knows nothing of how a
//! batch is checked; the log tells what damage it finds, and [`crate::scrub_plan`] what is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_log::{ReadError, Scrub, Scrubbed};
use tidelog_protocol::Offset;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use crate::node::Node;
use crate::partition::{Handle, Replica};
use crate::scrub_plan::{ScrubPlan, Stretch};

/// Rest between two rounds over everything.
const REST: Duration = Duration::from_secs(3_600);

/// Scrubs one partition after the other until the broker drains.
pub(crate) async fn run(node: Arc<Node>) {
    if node.config.scrub_bytes_per_second == 0 {
        return;
    }
    let scrubbing = scrub(&node);
    tokio::select! {
        () = node.draining.cancelled() => {}
        () = scrubbing => {}
    }
}

async fn scrub(node: &Arc<Node>) {
    let look_every = Duration::from_millis(node.config.scrub_delay_ms);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut plan = ScrubPlan::default();
    let (mut look_at, mut round_at) = (Instant::now(), Some(Instant::now()));
    loop {
        let now = Instant::now();
        if look_at <= now {
            let settled = settled(node);
            plan.look(&settled);
            look_at = now + look_every;
            if round_at.is_some_and(|round_at| round_at <= now) {
                plan.begin_round(&settled);
                round_at = None;
            }
        }
        let is_done = !spend_a_second(node, &mut plan).await;
        if round_at.is_none() && !plan.is_in_round() {
            round_at = Some(Instant::now() + REST);
        }
        if is_done {
            tokio::time::sleep_until(look_at).await;
        }
        second.tick().await;
    }
}

/// Reads as much as may be read in a second. False where nothing more is due.
async fn spend_a_second(node: &Arc<Node>, plan: &mut ScrubPlan) -> bool {
    let mut left = node.config.scrub_bytes_per_second;
    // Small partitions share a second: only what was read counts.
    while left > 0 {
        let Some(stretch) = plan.next() else { return false };
        let Replica { topic_id, partition } = stretch.replica;
        let Ok((partition, _)) = node.registry.find(topic_id, partition) else {
            plan.went(stretch, stretch.end);
            continue;
        };
        let reader = partition.reader().clone();
        let step = move || step(Scrub::between(reader, stretch.next..stretch.end), (stretch, left));
        let Ok((to, scrubbed)) = tokio::task::spawn_blocking(step).await else { return false };
        plan.went(stretch, to);
        match scrubbed {
            Ok(scrubbed) => {
                node.metrics.scrubbed_bytes.inc_by(scrubbed.bytes);
                left = left.saturating_sub(scrubbed.bytes);
            }
            Err(error) => {
                // A poisoned or deleted partition has said so itself; the disk may answer next time.
                warn!(topic = %partition.topic(), partition = %partition.partition(), %error, "scrub: a segment cannot be read");
            }
        }
    }
    true
}

/// One step, and how far that came. What cannot be read is left to the next round. Blocks.
fn step(mut scrub: Scrub, (stretch, budget): (Stretch, u64)) -> (Offset, Result<Scrubbed, ReadError>) {
    let scrubbed = scrub.step(budget);
    let goes_on = scrubbed.as_ref().is_ok_and(|scrubbed| !scrubbed.is_complete);
    (if goes_on { scrub.next_offset() } else { stretch.end }, scrubbed)
}

/// How far each partition is settled: below, nothing is cut any more.
fn settled(node: &Node) -> HashMap<Replica, Offset> {
    let end = |partition: &Handle| partition.tail().borrow().high_watermark.min(partition.reader().flushed_end());
    node.registry.all().iter().map(|partition| (Replica::of(partition), end(partition))).collect()
}
