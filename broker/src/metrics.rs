//! What the broker counts, for Prometheus. Handles are kept by those who count; nothing is looked up per request. Knows nothing
//! of HTTP.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidelog_protocol::api::Api;

use crate::compaction_metrics::CompactionMetrics;

/// Label of request counters.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// Label of topic counters.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

/// Label of the parts of the memory budget.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

/// What one topic's partitions count, shared by all of them.
#[derive(Clone, Debug)]
pub struct TopicMetrics {
    /// Records appended.
    pub records_in: Counter,
    /// Bytes of record batches appended.
    pub bytes_in: Counter,
    /// Bytes of record batches pushed to consumers.
    pub bytes_out: Counter,
}

/// Every metric of a broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Vec<(Api, Counter)>,
    topic_records_in: Family<TopicLabel, Counter>,
    topic_bytes_in: Family<TopicLabel, Counter>,
    topic_bytes_out: Family<TopicLabel, Counter>,
    /// What is told of the compaction of single logs.
    pub(crate) compaction: CompactionMetrics,
    /// Open connections.
    pub connections: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Connections cut off because of what the client sent, or did not take.
    pub connections_faulty: Counter,
    /// Requests that have not been answered.
    pub requests_under_way: Gauge,
    /// Bytes read from clients.
    pub bytes_received: Counter,
    /// Bytes written to clients.
    pub bytes_sent: Counter,
    /// Requests answered with a fault.
    pub produce_refused: Counter,
    /// Produce requests that had been written before and were not written again.
    pub produce_duplicates: Counter,
    /// Produce requests of new producers that were refused as their partition remembered as many as it may.
    pub produce_refused_producers: Counter,
    /// Partitions served.
    pub partitions: Gauge,
    /// Partitions out of service after a failed write or flush.
    pub partitions_poisoned: Gauge,
    /// Partitions with a damaged range.
    pub partitions_corrupt: Gauge,
    /// Transactions that are open in partitions here.
    pub partition_transactions_open: Gauge,
    /// For how long the oldest of them has been, in seconds.
    pub partition_transactions_oldest_seconds: Gauge,
    /// Transactions that were open for long and asked about.
    pub transaction_fates_asked: Counter,
    /// Markers of transactions that were lost and written again.
    pub markers_restored: Counter,
    /// Damaged ranges put back from a replica.
    pub ranges_repaired: Counter,
    budget_lent_bytes: Family<PoolLabel, Gauge>,
    budget_waiting: Family<PoolLabel, Gauge>,
    /// Free space in the data folder's file system, in bytes.
    pub disk_free_bytes: Gauge,
    /// 1 while produce is refused for lack of space.
    pub disk_full: Gauge,
    /// 1 while the disk hangs.
    pub disk_stalled: Gauge,
    /// Flushes of segment files.
    pub flushes: Counter,
    /// Time spent in flushes, in seconds.
    pub flush_seconds: Counter<f64, AtomicU64>,
    /// CPU time of the process, in seconds.
    pub process_cpu_seconds: Counter<f64, AtomicU64>,
    /// Resident memory of the process, mapped log pages included, in bytes.
    pub process_resident_memory_bytes: Gauge,
    /// What of it is its own, in bytes.
    pub process_anonymous_memory_bytes: Gauge,
    /// Records that retention or a request removed from the front of logs, counted in segments.
    pub segments_deleted: Counter,
    /// Bytes the scrub has re-read.
    pub scrubbed_bytes: Counter,
    /// Producer ids that can be given out without the controller.
    pub producer_ids_left: Gauge,
    /// How many producers the partition remembers that remembers the most.
    pub partition_producers_most: Gauge,
    /// Bytes that could be compacted and were not.
    pub compaction_dirty_bytes: Gauge,
    /// When compaction last finished a pass, in seconds since 1970; 0 for never.
    pub compaction_last_pass: Gauge,
    /// Passes that compaction finished.
    pub compaction_passes: Counter,
    /// Passes that failed.
    pub compaction_failures: Counter,
    /// Bytes that compaction read and wrote.
    pub compacted_bytes: Counter,
    /// Bytes by which compaction made logs smaller.
    pub compaction_removed_bytes: Counter,
    /// Time spent in passes, in seconds.
    pub compaction_seconds: Counter<f64, AtomicU64>,
    /// Partitions of groups and transactions led here whose state cannot be read.
    pub coordinator_partitions_unread: Gauge,
    /// Transactions coordinated here that are open, or being ended.
    pub transactions_open: Gauge,
    /// For how long the oldest of them is known here, in seconds; 0 where there is none.
    pub transactions_open_oldest_seconds: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tidelog");
        let requests_by_api = Family::<ApiLabel, Counter>::default();
        registry.register("requests", "Requests received, by API", requests_by_api.clone());
        let requests = Api::ALL
            .iter()
            .map(|api| (*api, requests_by_api.get_or_create(&ApiLabel { api: api.name() }).clone()))
            .collect();
        let topic_records_in = Family::default();
        let topic_bytes_in = Family::default();
        let topic_bytes_out = Family::default();
        registry.register("topic_records_in", "Records appended, by topic", topic_records_in.clone());
        registry.register_with_unit("topic_in", "Record batches appended", Unit::Bytes, topic_bytes_in.clone());
        registry.register_with_unit("topic_out", "Record batches pushed", Unit::Bytes, topic_bytes_out.clone());
        let budget_lent_bytes = Family::default();
        let help = "Memory lent to requests under way, and in parts to frames that arrive, small and large";
        registry.register("budget_lent_bytes", help, budget_lent_bytes.clone());
        let budget_waiting = Family::default();
        registry.register("budget_waiting", "Connections that wait for memory", budget_waiting.clone());
        let compaction = CompactionMetrics::register(&mut registry);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connections_accepted = counter("connections_accepted", "Connections accepted");
        let connections_refused = counter("connections_refused", "Connections refused because too many were open");
        let connections_faulty = counter("connections_faulty", "Connections cut off for what the client did");
        let bytes_received = counter("received_bytes", "Bytes read from clients");
        let bytes_sent = counter("sent_bytes", "Bytes written to clients");
        let produce_refused = counter("produce_refused", "Produce requests answered with a fault");
        let produce_duplicates =
            counter("produce_duplicates", "Produce requests that had been written before and were not written again");
        let produce_refused_producers = counter(
            "produce_refused_producers",
            "Produce requests of new producers that were refused, as their partition remembered as many as it may",
        );
        let flushes = counter("flushes", "Flushes of segment files");
        let segments_deleted = counter("segments_deleted", "Segments removed by retention or on request");
        let ranges_repaired = counter("ranges_repaired", "Damaged ranges put back from a replica");
        let transaction_fates_asked = counter(
            "transaction_fates_asked",
            "Questions to coordinators about transactions that were open for long in a partition here",
        );
        let markers_restored =
            counter("transaction_markers_restored", "Markers of transactions that a partition had lost, written again");
        let scrubbed_bytes = counter("scrubbed_bytes", "Bytes of sealed segments re-read in search of rot");
        let compaction_passes = counter("compaction_passes", "Passes over compacted logs");
        let compaction_failures = counter("compaction_failures", "Passes over compacted logs that failed");
        let compacted_bytes = counter("compacted_bytes", "Bytes that compaction read and wrote");
        let compaction_removed_bytes =
            counter("compaction_removed_bytes", "Bytes by which compaction made logs smaller");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("connections", "Open connections");
        let requests_under_way = gauge("requests_under_way", "Requests not answered yet");
        let partitions = gauge("partitions", "Partitions served");
        let partitions_poisoned =
            gauge("partitions_poisoned", "Partitions out of service after a failed write or flush");
        let partitions_corrupt = gauge("partitions_corrupt", "Partitions with a damaged range");
        let disk_free_bytes = gauge("disk_free_bytes", "Free space in the data folder's file system");
        let disk_full = gauge("disk_full", "1 while produce is refused for lack of space");
        let disk_stalled = gauge(
            "disk_stalled",
            "1 while the disk hangs: a write or a flush is under way for longer than disk_stall_ms",
        );
        let process_resident_memory_bytes = gauge(
            "process_resident_memory_bytes",
            "Resident memory (VmRSS), pages of mapped log files included: those the system takes back when it needs them",
        );
        let process_anonymous_memory_bytes = gauge(
            "process_anonymous_memory_bytes",
            "Resident memory that is the process's own (RssAnon), without mapped log files",
        );
        let partition_transactions_open =
            gauge("partition_transactions_open", "Transactions that are open in partitions of this broker");
        let partition_transactions_oldest_seconds = gauge(
            "partition_transactions_oldest_seconds",
            "For how long the oldest transaction that is open in a partition of this broker has been",
        );
        let producer_ids_left = gauge("producer_ids_left", "Producer ids that can be given out without the controller");
        let partition_producers_most = gauge(
            "partition_producers_most",
            "Producers remembered by the partition of this broker that remembers the most; from 10000 on new ones may have to wait",
        );
        let compaction_dirty_bytes =
            gauge("compaction_dirty_bytes", "Bytes of compacted topics written since their last compaction");
        let compaction_last_pass = gauge(
            "compaction_last_pass_timestamp_seconds",
            "When compaction last finished a pass, in seconds since 1970; 0 for never",
        );
        let coordinator_partitions_unread = gauge(
            "coordinator_partitions_unread",
            "Partitions of groups and transactions led here whose state cannot be read, so that nothing is coordinated there",
        );
        let transactions_open =
            gauge("transactions_open", "Transactions coordinated here that are open, or being ended");
        let transactions_open_oldest_seconds = Gauge::<f64, AtomicU64>::default();
        let help =
            "For how long the oldest transaction coordinated here is open, or being ended; 0 where there is none";
        registry.register_with_unit(
            "transactions_open_oldest",
            help,
            Unit::Seconds,
            transactions_open_oldest_seconds.clone(),
        );
        let mut seconds = |name: &str, help: &str| {
            let counter = Counter::<f64, AtomicU64>::default();
            registry.register_with_unit(name, help, Unit::Seconds, counter.clone());
            counter
        };
        let flush_seconds = seconds("flush", "Time spent in flushes");
        let compaction_seconds = seconds("compaction", "Time spent in compaction");
        let process_cpu_seconds = seconds("process_cpu", "CPU time of the process, user and system");
        Self {
            registry,
            requests,
            topic_records_in,
            topic_bytes_in,
            topic_bytes_out,
            compaction,
            connections,
            connections_accepted,
            connections_refused,
            connections_faulty,
            requests_under_way,
            bytes_received,
            bytes_sent,
            produce_refused,
            produce_duplicates,
            produce_refused_producers,
            partitions,
            partitions_poisoned,
            partitions_corrupt,
            transaction_fates_asked,
            markers_restored,
            ranges_repaired,
            budget_lent_bytes,
            budget_waiting,
            disk_free_bytes,
            disk_full,
            disk_stalled,
            flushes,
            flush_seconds,
            process_cpu_seconds,
            process_resident_memory_bytes,
            process_anonymous_memory_bytes,
            segments_deleted,
            scrubbed_bytes,
            partition_transactions_open,
            partition_transactions_oldest_seconds,
            producer_ids_left,
            partition_producers_most,
            compaction_dirty_bytes,
            compaction_last_pass,
            compaction_passes,
            compaction_failures,
            compacted_bytes,
            compaction_removed_bytes,
            compaction_seconds,
            coordinator_partitions_unread,
            transactions_open,
            transactions_open_oldest_seconds,
        }
    }

    /// Counts a request.
    pub fn count_request(&self, api: Api) {
        // A dozen rows: a scan beats a map.
        if let Some((_, counter)) = self.requests.iter().find(|(known, _)| *known == api) {
            counter.inc();
        }
    }

    /// What one part of the memory budget has lent, and how many wait for it.
    pub fn note_pool(&self, pool: &'static str, lent_bytes: u64, waiting: usize) {
        let label = PoolLabel { pool };
        self.budget_lent_bytes.get_or_create(&label).set(lent_bytes as i64);
        self.budget_waiting.get_or_create(&label).set(waiting as i64);
    }

    /// The counters of one topic.
    #[must_use]
    pub fn topic(&self, name: &str) -> TopicMetrics {
        let label = TopicLabel { topic: name.into() };
        TopicMetrics {
            records_in: self.topic_records_in.get_or_create(&label).clone(),
            bytes_in: self.topic_bytes_in.get_or_create(&label).clone(),
            bytes_out: self.topic_bytes_out.get_or_create(&label).clone(),
        }
    }

    /// Forgets a deleted topic.
    pub fn forget_topic(&self, name: &str) {
        let label = TopicLabel { topic: name.into() };
        self.topic_records_in.remove(&label);
        self.topic_bytes_in.remove(&label);
        self.topic_bytes_out.remove(&label);
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// Where a metric cannot be formatted, which is a bug.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
