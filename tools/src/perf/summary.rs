//! The figures of a run: gathered once, printed as JSON for programs and as text for people. Knows nothing of how they came about.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::latency::{Latencies, LatencyMillis};
use super::limits::Limits;
use super::membership::GroupFigures;
use super::progress::Timeline;
use super::usage::ProcessUsage;
use crate::byte_size::{display_byte_size, display_count};

/// What the latencies of a run are latencies of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyOf {
    /// From the intended send time to the broker's answer, at a fixed rate (open loop).
    AckOpenLoop,
    /// From the call of `send` to the broker's answer, as fast as the bounds on what is in flight allow (closed loop).
    AckClosedLoop,
    /// From the intended send time to the consumer, records arriving while it follows the tail.
    EndToEnd,
    /// How old records were when they were read from the log.
    RecordAge,
    /// Nothing was measured: no answers were asked for, or the records carry no send time.
    Nothing,
}

impl LatencyOf {
    /// The same in words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::AckOpenLoop => "from the intended send time to the ack (open loop)",
            Self::AckClosedLoop => "from send to ack (closed loop: includes waiting in the producer's own batches)",
            Self::EndToEnd => "end to end: from the intended send time to the consumer",
            Self::RecordAge => "age of the records when they were read",
            Self::Nothing => "not measured",
        }
    }
}

/// What the workers of a run did.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Records acknowledged or received.
    pub records: u64,
    /// Their bytes: keys and values, without headers of records or batches.
    pub bytes: u64,
    /// Records that failed.
    pub failed: u64,
    /// From the first send to the last ack, or from the first record received to the last.
    pub elapsed: Duration,
    /// Their latencies.
    pub latencies: Latencies,
    /// What the latencies are of.
    pub latency_of: LatencyOf,
    /// Rates over time.
    pub timeline: Timeline,
    /// How the work was shared, where members of a group did it.
    pub group: Option<GroupFigures>,
}

/// What the broker process used, as `DescribeBroker` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerUsage {
    /// CPU time so far.
    pub cpu: Duration,
    /// Resident memory of its own, in bytes.
    pub rss_bytes: u64,
    /// Largest resident memory so far, mapped log pages included, in bytes.
    pub rss_peak_bytes: u64,
    /// Bytes of log of the topic.
    pub log_bytes: u64,
}

/// A process before and after the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span<T> {
    /// Right before the run, after any warm-up.
    pub before: T,
    /// Right after it.
    pub after: T,
}

/// Which run it was.
#[derive(Clone, Debug)]
pub struct RunIdentity {
    /// `perf-producer` or `perf-consumer`.
    pub tool: &'static str,
    /// The command line, quoted for a shell.
    pub command: String,
    /// When it started, RFC 3339 in UTC.
    pub started_at: String,
    /// Records that went before and were not counted.
    pub warmup_records: u64,
    /// What was asked for, in words.
    pub settings: Vec<(&'static str, String)>,
}

/// The figures of a run. The keys of its JSON form are part of the interface; the first nine come first, and more may be added.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Records acknowledged or received.
    pub records: u64,
    /// Their bytes: keys and values.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Records per second.
    pub records_per_second: f64,
    /// MB (10⁶ bytes) per second.
    pub mb_per_second: f64,
    /// Latencies in milliseconds.
    pub latency_ms: LatencyMillis,
    /// CPU time of this process.
    pub client_cpu_seconds: f64,
    /// CPU time of the broker; `null` where it does not tell, or restarted during the run.
    pub broker_cpu_seconds: Option<f64>,
    /// Resident memory of the broker after the run that is its own (RssAnon), so without pages of mapped log files, which the system takes back
    /// when it needs them; `null` where it does not tell.
    pub broker_rss_bytes: Option<u64>,
    /// What the latencies are of.
    pub latency_of: LatencyOf,
    /// How many latencies were recorded.
    pub latency_count: u64,
    /// Records that failed.
    pub failed_records: u64,
    /// Records that went before and were not counted.
    pub warmup_records: u64,
    /// Largest resident memory of this process.
    pub client_rss_peak_bytes: u64,
    /// Largest resident memory of the broker since it started, mapped log pages included.
    pub broker_rss_peak_bytes: Option<u64>,
    /// CPU seconds of this process per GB (10⁹ bytes).
    pub client_cpu_seconds_per_gb: Option<f64>,
    /// CPU seconds of this process per million records.
    pub client_cpu_seconds_per_million_records: Option<f64>,
    /// CPU seconds of the broker per GB (10⁹ bytes).
    pub broker_cpu_seconds_per_gb: Option<f64>,
    /// CPU seconds of the broker per million records.
    pub broker_cpu_seconds_per_million_records: Option<f64>,
    /// By how much the topic's log grew: what went over the wire, and what lies on the disk.
    pub log_bytes_added: Option<u64>,
    /// How the work was shared, where members of a group did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupFigures>,
    /// What the machine can do, where it was asked for.
    pub limits: Option<Limits>,
    /// `perf-producer` or `perf-consumer`.
    pub tool: &'static str,
    /// Its version.
    pub version: &'static str,
    /// When it started, RFC 3339 in UTC.
    pub started_at: String,
    /// The command line.
    pub command: String,
    /// What was asked for.
    #[serde(serialize_with = "as_object")]
    pub settings: Vec<(&'static str, String)>,
}

impl Summary {
    /// Gathers the figures.
    #[must_use]
    pub fn new(
        run: RunIdentity,
        measured: &Measured,
        client: Span<ProcessUsage>,
        broker: Option<Span<BrokerUsage>>,
        limits: Option<Limits>,
    ) -> Self {
        let Measured { records, bytes, elapsed, .. } = *measured;
        let seconds = elapsed.as_secs_f64();
        let per_second = |amount: f64| if seconds > 0.0 { rounded(amount / seconds, 1) } else { 0.0 };
        let client_cpu = client.after.cpu.saturating_sub(client.before.cpu).as_secs_f64();
        // Less than before: it is another process, and what the first one used died with it.
        let broker_cpu =
            broker.and_then(|span| span.after.cpu.checked_sub(span.before.cpu)).map(|cpu| cpu.as_secs_f64());
        let per = |cpu: Option<f64>, amount: f64| cpu.filter(|_| amount > 0.0).map(|cpu| rounded(cpu / amount, 4));
        let (gb, million) = (bytes as f64 / 1e9, records as f64 / 1e6);
        Self {
            records,
            bytes,
            seconds: rounded(seconds, 6),
            records_per_second: per_second(records as f64),
            mb_per_second: per_second(bytes as f64 / 1e6),
            latency_ms: measured.latencies.millis(),
            client_cpu_seconds: rounded(client_cpu, 4),
            broker_cpu_seconds: broker_cpu.map(|cpu| rounded(cpu, 4)),
            broker_rss_bytes: broker.map(|span| span.after.rss_bytes),
            latency_of: if measured.latencies.count() == 0 { LatencyOf::Nothing } else { measured.latency_of },
            latency_count: measured.latencies.count(),
            failed_records: measured.failed,
            warmup_records: run.warmup_records,
            client_rss_peak_bytes: client.after.rss_peak_bytes,
            broker_rss_peak_bytes: broker.map(|span| span.after.rss_peak_bytes),
            client_cpu_seconds_per_gb: per(Some(client_cpu), gb),
            client_cpu_seconds_per_million_records: per(Some(client_cpu), million),
            broker_cpu_seconds_per_gb: per(broker_cpu, gb),
            broker_cpu_seconds_per_million_records: per(broker_cpu, million),
            log_bytes_added: broker.map(|span| span.after.log_bytes.saturating_sub(span.before.log_bytes)),
            group: measured.group.clone(),
            limits,
            tool: run.tool,
            version: env!("CARGO_PKG_VERSION"),
            started_at: run.started_at,
            command: run.command,
            settings: run.settings,
        }
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

fn as_object<S: serde::Serializer>(settings: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let object: Map<String, Value> =
        settings.iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
    object.serialize(serializer)
}

/// A latency for people, with as many digits as say something.
#[must_use]
pub fn display_millis(millis: Option<f64>) -> String {
    match millis {
        None => "-".into(),
        Some(millis) if millis < 10.0 => format!("{millis:.3} ms"),
        Some(millis) if millis < 1000.0 => format!("{millis:.1} ms"),
        Some(millis) => format!("{:.2} s", millis / 1000.0),
    }
}

/// A rate in MB/s for people.
#[must_use]
pub fn display_mb_per_second(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1} MB/s") } else { format!("{} MB/s", display_count(rate.round() as u64)) }
}

impl fmt::Display for Summary {
    /// A paragraph for people, one topic to a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latency_ms: latency, .. } = self;
        let size = self.bytes.checked_div(self.records).unwrap_or(0);
        let (records, size) = (display_count(self.records), display_count(size));
        writeln!(f, "records     {records} of {size} bytes in {:.3} s", self.seconds)?;
        if self.failed_records > 0 {
            writeln!(f, "failed      {} records", display_count(self.failed_records))?;
        }
        let (count, mb) =
            (display_count(self.records_per_second.round() as u64), display_mb_per_second(self.mb_per_second));
        writeln!(f, "throughput  {count} records/s, {mb}")?;
        if self.latency_of == LatencyOf::Nothing {
            writeln!(f, "latency     not measured")?;
        } else {
            let [p50, p99, p99_9, p99_99, max] =
                [latency.p50, latency.p99, latency.p99_9, latency.p99_99, latency.max].map(display_millis);
            writeln!(f, "latency     p50 {p50}, p99 {p99}, p99.9 {p99_9}, p99.99 {p99_99}, max {max}")?;
            writeln!(f, "            {}", self.latency_of.describe())?;
        }
        let cpu = |seconds: f64, per_gb: Option<f64>, per_million: Option<f64>| {
            let per = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{rate:.3} s"));
            format!("{seconds:.2} s ({} per GB, {} per million records)", per(per_gb), per(per_million))
        };
        let client =
            cpu(self.client_cpu_seconds, self.client_cpu_seconds_per_gb, self.client_cpu_seconds_per_million_records);
        writeln!(f, "CPU         client {client}")?;
        if let Some(seconds) = self.broker_cpu_seconds {
            let broker = cpu(seconds, self.broker_cpu_seconds_per_gb, self.broker_cpu_seconds_per_million_records);
            writeln!(f, "            broker {broker}")?;
        }
        write!(f, "memory      client {} at its peak", display_byte_size(self.client_rss_peak_bytes))?;
        if let (Some(rss), Some(peak)) = (self.broker_rss_bytes, self.broker_rss_peak_bytes) {
            let (rss, peak) = (display_byte_size(rss), display_byte_size(peak));
            write!(f, "; broker {rss} of its own now, {peak} at its peak with mapped log pages")?;
        }
        writeln!(f)?;
        if let Some(added) = self.log_bytes_added.filter(|added| *added > 0) {
            writeln!(f, "log         grew by {}", display_byte_size(added))?;
        }
        if let Some(group) = &self.group {
            write!(f, "{group}")?;
        }
        match &self.limits {
            Some(limits) => write_limits(limits, f),
            None => Ok(()),
        }
    }
}

fn write_limits(limits: &Limits, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rate = display_mb_per_second;
    writeln!(
        f,
        "limits      in blocks of {}: loopback TCP {}, memcpy {}, CRC32C {}",
        display_byte_size(limits.block_bytes as u64),
        rate(limits.loopback_tcp_mb_per_second),
        rate(limits.memcpy_mb_per_second),
        rate(limits.crc32c_mb_per_second),
    )?;
    writeln!(
        f,
        "            sequential write + fdatasync {}, 4 KiB append + fdatasync {}",
        rate(limits.sequential_write_mb_per_second),
        display_millis(Some(limits.fdatasync_ms)),
    )
}

/// Figures of a run that never was, for tests here and of the report.
#[cfg(test)]
pub(super) fn example() -> (Summary, Measured) {
    use super::progress::Sample;
    let mut latencies = Latencies::new();
    for n in 1..=100_000u64 {
        let tail = if n % 1000 == 0 { 1_500 + n / 50 } else { 0 };
        latencies.record(Duration::from_micros(80 + n % 97 + tail), 10);
    }
    let mut timeline = Timeline::default();
    for step in 0..=40u64 {
        let records = step * 25_000 + (step * 7919 % 13) * 500;
        timeline.push(Sample { at: Duration::from_millis(step * 100), records, bytes: records * 1000 });
    }
    let measured = Measured {
        records: 1_000_000,
        bytes: 1_000_000_000,
        failed: 0,
        elapsed: Duration::from_secs(4),
        latencies,
        latency_of: LatencyOf::AckOpenLoop,
        timeline,
        group: None,
    };
    let run = RunIdentity {
        tool: "perf-producer",
        command: "perf-producer --topic 'a <b> & c' --records 1000000".into(),
        started_at: "2026-01-31T12:00:00Z".into(),
        warmup_records: 1000,
        settings: vec![("record size", "1,000 bytes".into()), ("acks", "all".into())],
    };
    let usage = |millis, rss_bytes| ProcessUsage {
        cpu: Duration::from_millis(millis),
        rss_bytes,
        rss_peak_bytes: rss_bytes * 2,
    };
    let broker = |millis, log_bytes| BrokerUsage {
        cpu: Duration::from_millis(millis),
        rss_bytes: 66_060_288,
        rss_peak_bytes: 222_298_112,
        log_bytes,
    };
    let limits = Limits {
        block_bytes: 262_144,
        loopback_tcp_mb_per_second: 3600.0,
        memcpy_mb_per_second: 9000.5,
        crc32c_mb_per_second: 17_000.0,
        sequential_write_mb_per_second: 1300.0,
        fdatasync_ms: 0.13,
    };
    let summary = Summary::new(
        run,
        &measured,
        Span { before: usage(500, 1 << 20), after: usage(2500, 20 << 20) },
        Some(Span { before: broker(1000, 0), after: broker(2500, 1_010_000_000) }),
        Some(limits),
    );
    (summary, measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_keys_come_first_and_under_their_names() {
        let text = serde_json::to_string(&example().0).unwrap();
        let promised = concat!(
            r#"{"records":1000000,"bytes":1000000000,"seconds":4.0,"records_per_second":250000.0,"mb_per_second":250.0,"#,
            r#""latency_ms":{"p50":"#
        );
        assert!(text.starts_with(promised), "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        let latency_keys: Vec<_> = object["latency_ms"].as_object().unwrap().keys().cloned().collect();
        let mut expected = ["p50", "p99", "p99_9", "p99_99", "max"];
        expected.sort_unstable();
        let mut found = latency_keys.clone();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(object["client_cpu_seconds"], 2.0);
        assert_eq!(object["broker_cpu_seconds"], 1.5);
        assert_eq!(object["broker_rss_bytes"], 66_060_288);
        assert_eq!(object["latency_of"], "ack_open_loop");
        assert_eq!(object["settings"]["record_size"], "1,000 bytes");
    }

    #[test]
    fn cpu_is_stated_per_gb_and_per_million_records() {
        let (summary, _) = example();
        assert_eq!(summary.client_cpu_seconds_per_gb, Some(2.0));
        assert_eq!(summary.broker_cpu_seconds_per_million_records, Some(1.5));
        assert_eq!(summary.log_bytes_added, Some(1_010_000_000));
    }

    #[test]
    fn a_broker_that_restarted_has_no_cpu_time_instead_of_none() {
        let (summary, measured) = example();
        let run = RunIdentity {
            tool: summary.tool,
            command: String::new(),
            started_at: String::new(),
            warmup_records: 0,
            settings: Vec::new(),
        };
        let usage = ProcessUsage { cpu: Duration::ZERO, rss_bytes: 0, rss_peak_bytes: 0 };
        let broker =
            |millis| BrokerUsage { cpu: Duration::from_millis(millis), rss_bytes: 7, rss_peak_bytes: 9, log_bytes: 0 };
        let span = Span { before: broker(900), after: broker(100) };
        let restarted = Summary::new(run, &measured, Span { before: usage, after: usage }, Some(span), None);
        assert_eq!((restarted.broker_cpu_seconds, restarted.broker_rss_bytes), (None, Some(7)));
    }

    #[test]
    fn the_text_states_the_same_figures() {
        let text = example().0.to_string();
        for part in [
            "1,000,000 of 1,000 bytes in 4.000 s",
            "250,000 records/s, 250 MB/s",
            "client 2.00 s (2.000 s per GB, 2.000 s per million records)",
            "broker 63.0 MiB of its own now, 212 MiB at its peak with mapped log pages",
            "loopback TCP 3,600 MB/s",
            "4 KiB append + fdatasync 0.130 ms",
            "intended send time",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn an_empty_run_divides_by_nothing() {
        let (summary, mut measured) = example();
        (measured.records, measured.bytes, measured.elapsed) = (0, 0, Duration::ZERO);
        measured.latencies = Latencies::new();
        let usage = ProcessUsage { cpu: Duration::ZERO, rss_bytes: 0, rss_peak_bytes: 0 };
        let run = RunIdentity {
            tool: summary.tool,
            command: String::new(),
            started_at: String::new(),
            warmup_records: 0,
            settings: Vec::new(),
        };
        let empty = Summary::new(run, &measured, Span { before: usage, after: usage }, None, None);
        assert_eq!((empty.records_per_second, empty.client_cpu_seconds_per_gb), (0.0, None));
        assert_eq!(empty.latency_of, LatencyOf::Nothing);
        assert!(empty.to_string().contains("not measured"));
    }
}
