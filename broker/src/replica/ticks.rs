//! Tells the owners of replicated partitions that time passes, and who cannot join an in-sync set: leaders notice who lags, followers repeat
//! how far they are; and keeps in mind who catches up. Knows nothing of what they do then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::ClusterImage;
use tidelog_protocol::BrokerId;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::node::Node;
use crate::partition::{Command, Tick};

/// Often enough for a lag of seconds, seldom enough for thousands of idle partitions.
const TICK: Duration = Duration::from_millis(500);
/// Partitions told in one go, before others have a turn on the thread.
const TOGETHER: usize = 64;

/// Ticks until the broker's connections close.
pub(super) async fn run(node: Arc<Node>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = (Instant::now(), node.metrics.bytes_received.get());
    let mut images = node.controllers.images();
    images.mark_changed();
    let mut barred = Arc::default();
    loop {
        tokio::select! {
            // Whoever is barred by now is so before the next tick says that it is not.
            biased;
            () = node.connections_close.cancelled() => return,
            Ok(()) = images.changed() => {
                let image = images.borrow_and_update().clone();
                node.catch_up.learn(&image);
                barred = barred_in(&image);
                continue;
            }
            _ = tick.tick() => {}
        }
        // Whoever catches up with a busy leader must get more than arrives meanwhile, or it never does.
        let now = (Instant::now(), node.metrics.bytes_received.get());
        let seconds = now.0.duration_since(last.0).as_secs_f64();
        if seconds > 0.0 {
            let arrived = now.1.saturating_sub(last.1) as f64 / seconds;
            node.catch_up.allow_besides((2.0 * arrived) as u64);
            last = now;
        }
        for together in node.registry.replicated().chunks(TOGETHER) {
            let (now, leased) = (clock::monotonic(), node.lease.holds());
            for partition in together {
                partition.submit(Command::Tick(Tick { now, leased, barred: Arc::clone(&barred) }));
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Who is fenced or shutting down.
fn barred_in(image: &ClusterImage) -> Arc<[BrokerId]> {
    image.brokers().filter(|broker| !broker.is_live()).map(|broker| broker.broker_id).collect()
}
