//! Is everything there that a client needs? Looks, rather than remembers. Knows nothing of HTTP.

use std::sync::Arc;
use std::time::Duration;

use tidelog_coordination::counted;
use tidelog_protocol::WireError;

use crate::node::Node;
use crate::waiting;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What is wrong with it, so that clients are not served.
    pub fault: Option<String>,
    /// What an operator should look at although clients are served.
    pub warning: Option<String>,
}

impl Check {
    fn new(name: &'static str, fault: Option<String>) -> Self {
        Self { name, fault, warning: None }
    }
}

/// Whoever waits for memory for so long is not served.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// A disk that has not answered for so long has no answer for whoever asks now.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// Looks at everything.
pub async fn check(node: &Arc<Node>) -> Vec<Check> {
    let drained = node.draining.is_cancelled().then(|| "shutting down".to_string());
    let disk = probe_disk(node).await.err();
    let stalled = node.stalls.current().map(|stall| format!("the disk hangs: {stall}"));
    let space = node.registry.space();
    let full = (!space.has_room()).then(|| {
        let (free, least) = (space.free_bytes(), space.low_water_bytes());
        format!("{free} bytes are free, disk_free_min_bytes is {least}: produce is refused until space is freed")
    });
    let (poisoned, failed) = (node.metrics.partitions_poisoned.get(), node.registry.failed());
    let poisoned = out_of_service(poisoned, failed);
    let damaged = node.registry.all().iter().filter(|partition| partition.reader().is_damaged()).count();
    let damaged = (damaged > 0).then(|| {
        let partitions = counted(damaged, "partition");
        format!(
            "{partitions} with a damaged range here, which is not served; the rest is (see the log, or topics describe)"
        )
    });
    let unread = unread(&node.coordinators.unread());
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
    let memory = node.budget.pools().into_iter().find_map(|(name, pool)| {
        let waited = pool.longest_wait().filter(|waited| *waited >= MEMORY_WAIT)?;
        let (lent, waiting) = (pool.lent_bytes(), pool.waiting());
        Some(format!("{waiting} connections wait for memory ({name}), the first of them for {waited:.1?}: {lent} bytes are lent; raise memory_budget_bytes if this goes on"))
    });
    let starting = (!node.serves()).then(|| waiting::reason(node));
    vec![
        Check::new("started", starting),
        Check::new("accepting", drained),
        Check::new("log-writable", disk),
        Check::new("disk-answers", stalled),
        Check::new("disk-space", full),
        Check::new("memory", memory),
        Check::new("lease", fenced),
        Check::new("metadata", metadata),
        Check { warning: damaged, ..Check::new("partitions", poisoned) },
        Check { warning: unread, ..Check::new("coordinators", None) },
    ]
}

/// Writes to the disk, unless that takes too long.
async fn probe_disk(node: &Arc<Node>) -> Result<(), String> {
    let probe = async {
        let (turn, node) = (node.disk_probe.clone().lock_owned().await, node.clone());
        let write = move || {
            // Until it is done, also where nobody waits for it any more.
            let _turn = turn;
            node.registry.space().refresh().map_err(|error| error.to_string())?;
            node.registry.probe_disk()
        };
        tokio::task::spawn_blocking(write).await
    };
    match tokio::time::timeout(DISK_PATIENCE, probe).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) => Err("the probe failed unexpectedly".into()),
        Err(_) => Err(format!("a small file has not been written within {DISK_PATIENCE:?}")),
    }
}

/// Which partitions are not served at all, as far as there are any.
fn out_of_service(poisoned: i64, failed: usize) -> Option<String> {
    let told = [
        (poisoned > 0)
            .then(|| format!("{} out of service after a failed write or flush", counted(poisoned, "partition"))),
        (failed > 0).then(|| format!("{} that could not be opened (see the log)", counted(failed, "partition"))),
    ];
    let told: Vec<_> = told.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Groups and transactional ids that are not served, and why.
fn unread(shards: &[WireError]) -> Option<String> {
    let first = shards.first()?;
    let more = match shards.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more, see the log)"),
    };
    let rest = "the groups and transactional ids that belong there are not served, the rest is";
    Some(format!("{}; {rest}{more}", first.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_told_and_counted_as_people_count() {
        assert_eq!(out_of_service(0, 0), None);
        assert_eq!(out_of_service(1, 0).unwrap(), "1 partition out of service after a failed write or flush");
        assert_eq!(out_of_service(0, 2).unwrap(), "2 partitions that could not be opened (see the log)");
        assert!(out_of_service(2, 1).unwrap().contains("flush, 1 partition that"));
    }
}
