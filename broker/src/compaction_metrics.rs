//! What is counted of the compaction of single logs, for Prometheus. Knows nothing of where it comes from.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::{CompactionStage, CompactionState};

/// Which log.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: u32,
}

/// One family for each thing that is told.
#[derive(Debug)]
pub struct CompactionMetrics {
    dirty_ratio: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    cleaned_at: Family<PartitionLabel, Gauge>,
    stage: Family<PartitionLabel, Gauge>,
    segment: Family<PartitionLabel, Gauge>,
    segments: Family<PartitionLabel, Gauge>,
    failing: Family<PartitionLabel, Gauge>,
    retry_seconds: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
}

impl CompactionMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let ratio = |registry: &mut Registry, name: &str, help: &str| {
            let family = Family::<PartitionLabel, Gauge<f64, AtomicU64>>::default();
            registry.register(name, help, family.clone());
            family
        };
        let whole = |registry: &mut Registry, name: &str, help: &str| {
            let family = Family::<PartitionLabel, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        Self {
            dirty_ratio: ratio(
                registry,
                "compaction_dirty_ratio",
                "What part of a compacted log was written since its last compaction, from 0 to 1",
            ),
            cleaned_at: whole(
                registry,
                "compaction_partition_last_pass_timestamp_seconds",
                "When compaction last finished with a log, in seconds since 1970; 0 for never",
            ),
            stage: whole(
                registry,
                "compaction_stage",
                "What compaction does with a log: 0 nothing, 1 learns its keys, 2 writes it anew, 3 waits after a failure",
            ),
            segment: whole(registry, "compaction_segment", "The segment that compaction is at, from 1 on; 0 for none"),
            segments: whole(registry, "compaction_segments", "How many segments it has to go through"),
            failing: whole(
                registry,
                "compaction_failing",
                "1 for a partition whose last compaction failed: it grows until one succeeds",
            ),
            retry_seconds: ratio(
                registry,
                "compaction_retry_seconds",
                "For how long compaction of a partition that failed is not tried again",
            ),
        }
    }

    /// So it is with a log.
    pub(crate) fn note(&self, topic: &str, partition: PartitionId, state: &CompactionState) {
        let label = PartitionLabel { topic: topic.into(), partition: partition.0 };
        self.dirty_ratio.get_or_create(&label).set(state.dirty_ratio());
        self.cleaned_at.get_or_create(&label).set(state.cleaned_at.map_or(0, |at| at.0 / 1_000));
        self.stage.get_or_create(&label).set(state.stage as i64);
        self.segment.get_or_create(&label).set(state.segment.into());
        self.segments.get_or_create(&label).set(state.segments.into());
        if state.failures > 0 {
            self.failing.get_or_create(&label).set(1);
            self.retry_seconds.get_or_create(&label).set(f64::from(state.retry_in_ms) / 1_000.0);
        } else {
            self.failing.remove(&label);
            self.retry_seconds.remove(&label);
        }
    }

    /// A pass is there, or at no segment.
    pub(crate) fn at(
        &self,
        topic: &str,
        partition: PartitionId,
        (stage, segment, segments): (CompactionStage, usize, usize),
    ) {
        let label = PartitionLabel { topic: topic.into(), partition: partition.0 };
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.stage.get_or_create(&label).set(stage as i64);
        self.segment.get_or_create(&label).set(number(segment));
        self.segments.get_or_create(&label).set(number(segments));
    }

    /// It is not here any more, or not compacted.
    pub(crate) fn forget(&self, topic: &str, partition: PartitionId) {
        let label = PartitionLabel { topic: topic.into(), partition: partition.0 };
        for family in [&self.cleaned_at, &self.stage, &self.segment, &self.segments, &self.failing] {
            family.remove(&label);
        }
        self.dirty_ratio.remove(&label);
        self.retry_seconds.remove(&label);
    }
}
