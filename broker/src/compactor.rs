//! Compacts the topics that keep the latest record of each key: the dirtiest log first, one pass at a time, no faster than it may. A log whose
//! pass fails is tried again, later each time, counted and named in the metrics; the others go on. Knows nothing of how a log is compacted.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::TopicConfig;
use tidelog_log::{
    AbortedTransaction, Backlog, Compacted, CompactionDriver, CompactionError, CompactionRules, CompactionStep,
    ReadError,
};
use tidelog_protocol::messages::{CompactionStage, CompactionState};
use tidelog_protocol::{Offset, PartitionId, TopicName, messages};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::clock;
use crate::compactions::Failed;
use crate::node::Node;
use crate::partition::Handle;
use crate::throttle::Throttle;

/// So many aborted transactions one pass knows of, 24 bytes each; it goes no further than they do.
const ABORTED_MAX: usize = 1_000_000;
/// A pass looks this often whether the broker shuts down.
const NAP: Duration = Duration::from_millis(50);

/// Logs that the metrics tell of.
type Told = BTreeSet<(TopicName, PartitionId)>;

/// A log that a pass is due for.
struct Due {
    partition: Handle,
    config: TopicConfig,
    backlog: Backlog,
}

/// Compacts, again and again, until the broker drains.
pub(crate) async fn run(node: Arc<Node>) {
    let mut tick = tokio::time::interval(Duration::from_millis(node.config.housekeeping_interval_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::new();
    let throttle = Arc::new(Throttle::new(node.config.compaction_bytes_per_second));
    loop {
        tokio::select! {
            () = node.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        // Until nothing is due, and then not before the next tick.
        loop {
            let looking = node.clone();
            let before = std::mem::take(&mut told);
            let Ok((due, after)) = tokio::task::spawn_blocking(move || dirtiest(&looking, before)).await else {
                warn!("looking for logs to compact failed unexpectedly; it is tried again");
                break;
            };
            told = after;
            let Some(due) = due else { break };
            if node.draining.is_cancelled() {
                return;
            }
            let (working, throttle, partition) = (node.clone(), throttle.clone(), due.partition.clone());
            let pass = tokio::task::spawn_blocking(move || compact(&working, &due, &throttle)).await;
            let place = (partition.topic_id(), partition.partition());
            match pass {
                Ok(Ok(())) => {
                    if node.compactions.finished(place, clock::now()) {
                        info!(topic = %partition.topic(), partition = %partition.partition(), "compaction works again");
                    }
                }
                Ok(Err(CompactionError::Stopped)) => return,
                // Retention, a truncation or a reassignment was faster: the next look finds what is there now.
                Ok(Err(CompactionError::Changed)) => {
                    node.compactions.stops(place);
                    break;
                }
                Ok(Err(error)) => note_failure(&node, &partition, &error.to_string()),
                Err(_) => note_failure(&node, &partition, "it ended unexpectedly"),
            }
        }
    }
}

/// Looks at every log here, and has the metrics tell how each is. Blocks.
fn dirtiest(node: &Node, told: Told) -> (Option<Due>, Told) {
    let (now, mut dirty_bytes) = (Instant::now(), 0);
    let mut dirtiest: Option<Due> = None;
    let mut tells = Told::new();
    let mut there = BTreeSet::new();
    for partition in node.registry.all() {
        let place = (partition.topic_id(), partition.partition());
        let Ok((_, config)) = node.registry.find(place.0, place.1) else { continue };
        if !config.cleanup_policy.compacts() {
            continue;
        }
        there.insert(place);
        tells.insert((partition.topic().clone(), place.1));
        let backlog = partition.compaction().backlog(&rules(node, &partition, &config));
        node.metrics.compaction.note(partition.topic().as_str(), place.1, &state_of(node, &partition, &backlog, now));
        if partition.reader().poisoned().is_some() {
            continue;
        }
        dirty_bytes += backlog.dirty_bytes;
        let is_dirtier = dirtiest.as_ref().is_none_or(|best| backlog.dirty_ratio() > best.backlog.dirty_ratio());
        if is_due(&backlog, &config) && is_dirtier && !node.compactions.waits(place, now) {
            dirtiest = Some(Due { partition, config, backlog });
        }
    }
    node.metrics.compaction_dirty_bytes.set(i64::try_from(dirty_bytes).unwrap_or(i64::MAX));
    // One that is not here any more, or not compacted any more, has nothing to tell, and does not fail.
    node.compactions.keep(|place| there.contains(&place));
    for (topic, partition) in told.difference(&tells) {
        node.metrics.compaction.forget(topic.as_str(), *partition);
    }
    (dirtiest, tells)
}

/// How the compaction of a log here is; nothing where its topic is not compacted.
pub(crate) fn state(node: &Node, partition: &Handle, config: &TopicConfig) -> Option<CompactionState> {
    if !config.cleanup_policy.compacts() {
        return None;
    }
    let backlog = partition.compaction().backlog(&rules(node, partition, config));
    Some(state_of(node, partition, &backlog, Instant::now()))
}

fn state_of(node: &Node, partition: &Handle, backlog: &Backlog, now: Instant) -> CompactionState {
    let place = (partition.topic_id(), partition.partition());
    node.compactions.state(place, backlog, partition.compaction().cleaned_at(), now)
}

fn is_due(backlog: &Backlog, config: &TopicConfig) -> bool {
    let least = f64::from(config.min_cleanable_dirty_millionths) / 1e6;
    backlog.has_due_tombstones || (backlog.dirty_bytes > 0 && backlog.dirty_ratio() >= least)
}

fn rules(node: &Node, partition: &Handle, config: &TopicConfig) -> CompactionRules<'static> {
    let tail = partition.tail().borrow().clone();
    CompactionRules {
        now: clock::now(),
        below: tail.last_stable.min(tail.high_watermark),
        tombstones_below: tail.common_end,
        tombstone_grace: Duration::from_millis(config.delete_retention_ms),
        lag: Duration::from_millis(config.min_compaction_lag_ms),
        map_bytes: usize::try_from(node.config.compaction_memory_bytes).unwrap_or(usize::MAX),
        aborted: &[],
    }
}

/// One pass over one log. Blocks.
fn compact(node: &Node, due: &Due, throttle: &Throttle) -> Result<(), CompactionError> {
    let Due { partition, config, backlog } = due;
    let began = Instant::now();
    let mut driver = Paced { node, partition, throttle };
    let rules = rules(node, partition, config);
    let (aborted, complete_to) = aborted(partition, rules.below)?;
    let rules = CompactionRules { below: rules.below.min(complete_to), aborted: &aborted, ..rules };
    let done = partition.compaction().run(&rules, &mut driver);
    let metrics = &node.metrics;
    metrics.compaction_seconds.inc_by(began.elapsed().as_secs_f64());
    let done = done?;
    metrics.compaction_passes.inc();
    metrics.compaction_last_pass.set(clock::now().0 / 1_000);
    metrics.compaction_removed_bytes.inc_by(done.replaced_bytes.saturating_sub(done.written_bytes));
    report(partition, backlog, &done, began.elapsed());
    Ok(())
}

/// The transactions that were aborted of those with records that a pass has not looked at yet, and up to where these are all.
fn aborted(partition: &Handle, below: Offset) -> Result<(Vec<AbortedTransaction>, Offset), CompactionError> {
    let (reader, from) = (partition.reader(), partition.compaction().cleaned_to());
    let (aborted, complete_to) = match reader.aborted_known(from..below) {
        Some(known) => (known, below),
        None => {
            let found = reader.aborted_found(from..below, ABORTED_MAX).map_err(|error| match error {
                ReadError::Corrupt { from, .. } => CompactionError::Damaged(from),
                ReadError::OutOfRange { .. } => CompactionError::Changed,
                ReadError::Poisoned(error) => CompactionError::Poisoned(error),
                ReadError::Storage(error) => CompactionError::Storage(error),
            })?;
            (found.aborted, found.complete_to)
        }
    };
    let of_pass = |aborted: messages::AbortedTransaction| AbortedTransaction {
        producer: aborted.producer_id,
        first: aborted.first_offset,
        last: aborted.marker_offset,
    };
    Ok((aborted.into_iter().map(of_pass).collect(), complete_to))
}

fn report(partition: &Handle, backlog: &Backlog, done: &Compacted, took: Duration) {
    let (topic, index) = (partition.topic(), partition.partition());
    let (before, after) = (done.replaced_bytes, done.written_bytes);
    debug!(%topic, partition = %index, dirty = backlog.dirty_bytes, upto = %done.upto, keys = done.keys, map_bytes = done.map_bytes, before, after, took_ms = took.as_millis() as u64, partial = done.is_partial, "compacted");
}

fn note_failure(node: &Node, partition: &Handle, why: &str) {
    let (topic, index) = (partition.topic(), partition.partition());
    let now = Instant::now();
    let Failed { failures, wait } = node.compactions.failed((partition.topic_id(), index), why, now);
    node.metrics.compaction_failures.inc();
    warn!(%topic, partition = %index, why, failures, again_in_s = wait.as_secs(), "this log cannot be compacted, and grows; it is tried again");
}

/// Runs a pass at the broker's pace.
struct Paced<'p> {
    node: &'p Node,
    partition: &'p Handle,
    throttle: &'p Throttle,
}

impl CompactionDriver for Paced<'_> {
    fn steps(&mut self, to: CompactionStep) {
        self.node.compactions.steps((self.partition.topic_id(), self.partition.partition()), to);
        let at = match to {
            CompactionStep::Learns { segment, of } => (CompactionStage::Learning, segment, of),
            CompactionStep::Rewrites { segment, of } => (CompactionStage::Rewriting, segment, of),
        };
        self.node.metrics.compaction.at(self.partition.topic().as_str(), self.partition.partition(), at);
    }

    fn pace(&mut self, bytes: u64) -> ControlFlow<()> {
        self.node.metrics.compacted_bytes.inc_by(bytes);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut wait = self.throttle.take(bytes, Instant::now());
        loop {
            if self.node.draining.is_cancelled() {
                return ControlFlow::Break(());
            }
            if wait.is_zero() {
                return ControlFlow::Continue(());
            }
            let nap = wait.min(NAP);
            std::thread::sleep(nap);
            wait -= nap;
        }
    }

    fn tombstones_below(&mut self) -> Offset {
        self.partition.tail().borrow().common_end
    }
}
