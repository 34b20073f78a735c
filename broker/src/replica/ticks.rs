//! Tells the owners of replicated partitions that time passes: leaders notice who lags, followers repeat how far they are. Knows nothing of
//! what they do then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::node::Node;
use crate::partition::Command;

/// Often enough for a lag of seconds, seldom enough for thousands of idle partitions.
const TICK: Duration = Duration::from_millis(500);
/// Partitions told in one go, before others have a turn on the thread.
const TOGETHER: usize = 64;

/// Ticks until the broker's connections close.
pub(super) async fn run(node: Arc<Node>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.connections_close.cancelled() => return,
            _ = tick.tick() => {}
        }
        for together in node.registry.replicated().chunks(TOGETHER) {
            let (now, leased) = (clock::monotonic(), node.lease.holds());
            together.iter().for_each(|partition| partition.submit(Command::Tick { now, leased }));
            tokio::task::yield_now().await;
        }
    }
}
