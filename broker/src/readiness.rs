//! Is everything there that a client needs? Looks, rather than remembers. Knows nothing of HTTP.

use std::sync::Arc;

use crate::node::Node;
use crate::waiting;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Looks at everything.
pub async fn check(node: &Arc<Node>) -> Vec<Check> {
    let drained = node.draining.is_cancelled().then(|| "shutting down".to_string());
    let probe = node.clone();
    let written = tokio::task::spawn_blocking(move || probe.registry.probe_disk()).await;
    let disk = match written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some("the probe failed unexpectedly".into()),
    };
    let space = node.registry.space();
    let full = (!space.has_room()).then(|| {
        let (free, least) = (space.free_bytes(), space.low_water_bytes());
        format!("{free} bytes are free, disk_free_min_bytes is {least}: produce is refused until space is freed")
    });
    let (poisoned, failed) = (node.metrics.partitions_poisoned.get(), node.registry.failed());
    let poisoned = (poisoned > 0 || failed > 0).then(|| {
        format!("{poisoned} partitions are out of service after a failed write or flush, {failed} could not be opened")
    });
    let leaderless = || {
        node.controllers
            .leader()
            .is_none()
            .then(|| "no broker leads the metadata quorum: a majority is missing".to_string())
    };
    let fenced = (node.is_one_of_several() && !node.lease.holds()).then(|| {
        "the controller does not count on this broker: it has no lease, and leads nothing that others hold too"
            .to_string()
    });
    let failed_log =
        node.controllers.failure().map(|why| format!("the metadata log failed: {why}; restart the broker"));
    let metadata = failed_log.or_else(leaderless);
    let starting = (!node.serves()).then(|| waiting::reason(node));
    vec![
        Check { name: "started", fault: starting },
        Check { name: "accepting", fault: drained },
        Check { name: "log-writable", fault: disk },
        Check { name: "disk-space", fault: full },
        Check { name: "lease", fault: fenced },
        Check { name: "metadata", fault: metadata },
        Check { name: "partitions", fault: poisoned },
    ]
}
