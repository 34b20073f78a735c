//! Re-reads sealed segments in the background, slowly, so that rot is found before a consumer meets it. Knows nothing of how a
//! batch is checked; the log tells what damage it finds.

use std::sync::Arc;
use std::time::Duration;

use tidelog_log::Scrub;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::node::Node;

/// Rest between two rounds over everything.
const REST: Duration = Duration::from_secs(3_600);

/// Scrubs one partition after the other until the broker drains.
pub(crate) async fn run(node: Arc<Node>) {
    let budget = node.config.scrub_bytes_per_second;
    if budget == 0 {
        return;
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for partition in node.registry.all() {
            let mut scrub = Scrub::new(partition.reader().clone());
            loop {
                tokio::select! {
                    () = node.draining.cancelled() => return,
                    _ = second.tick() => {}
                }
                let step = move || {
                    let scrubbed = scrub.step(budget);
                    (scrub, scrubbed)
                };
                let Ok((continued, scrubbed)) = tokio::task::spawn_blocking(step).await else { return };
                scrub = continued;
                match scrubbed {
                    Ok(scrubbed) => {
                        node.metrics.scrubbed_bytes.inc_by(scrubbed.bytes);
                        if scrubbed.is_complete {
                            break;
                        }
                    }
                    Err(error) => {
                        // A poisoned or deleted partition has said so itself; the disk may answer next time.
                        warn!(topic = %partition.topic(), partition = %partition.partition(), %error, "scrub: a segment cannot be read");
                        break;
                    }
                }
            }
            // Small partitions share a second: only what was read counts.
            second.reset_immediately();
        }
        tokio::select! {
            () = node.draining.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}
