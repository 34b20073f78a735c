//! The end-to-end table of `RESULTS.md`: starts a broker, drives it with `perf-producer` and `perf-consumer`, alternates what is compared,
//! and prints medians with their spread as Markdown. Knows nothing of the protocol: it runs the same binaries that a user runs.
//!
//! `cargo build --release --bins && cargo run --release -p tidelog-benches --bin end-to-end -- [ROUNDS [SCALE [PARTITIONS]]]`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const SERVER: &str = "127.0.0.1:19292";
const ADMIN: &str = "127.0.0.1:19293";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse()).context("ROUNDS is a number")?;
    let scale: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse()).context("SCALE is a number")?;
    // Two files each, so the limit of open files must be beyond 30,000 for as many.
    let partitions: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse()).context("PARTITIONS is a number")?;
    let bench = Bench::new(rounds, scale)?;
    println!(
        "| work | median | least to most | p50 / p99 / p99.9 ms | client / broker CPU s per GB | broker memory: its own / most resident, mapped files included, MiB | limits beside it: loopback TCP / memcpy / CRC32C / write + fdatasync GB/s, fdatasync ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    let peak = bench.produce_rows()?;
    bench.compared_rows()?;
    bench.latency_row(40_000)?;
    bench.latency_row((peak / 10.0) as u64)?;
    bench.start_rows(partitions)
}

/// A name, and what it asks of `perf-producer`.
type Variant<'a> = (&'a str, &'a [&'a str]);

struct Bench {
    rounds: usize,
    scale: f64,
    binaries: PathBuf,
    folder: tempfile::TempDir,
}

/// Touches as much memory as a run will need for the page cache, and a little more, then gives it back to the kernel. On a machine
/// whose memory is lent, the kernel would else fetch each page from the host within the run, which no program can help.
fn warm_memory(bytes: u64) {
    let bytes = usize::try_from(bytes).unwrap_or(0);
    drop(std::hint::black_box(vec![1u8; bytes + bytes / 4]));
}

/// A running broker; ends with this value.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself, which the next request would have told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn new(rounds: usize, scale: f64) -> Result<Self> {
        let binaries = std::env::current_exe()?.parent().context("an executable lies in a folder")?.to_path_buf();
        for name in ["tidelog-broker", "tidelog", "perf-producer", "perf-consumer"] {
            if !binaries.join(name).exists() {
                bail!("{name} is not built: cargo build --release --bins");
            }
        }
        // Beside the binaries, because the system's folder for temporary files may lie in memory.
        let folder = tempfile::tempdir_in(&binaries)?;
        Ok(Self { rounds, scale, binaries, folder })
    }

    /// What the machine gives right now, on the disk of the broker's data. Measured by a run of its own: memory that was warmed for the run
    /// that counts would be cold again by the time the limits are known.
    fn limits(&self) -> Result<Value> {
        let folder = format!("--limits-folder={}", self.folder.path().display());
        let run = ["--topic=limits", "--records=1", "--record-size=100", "--warmup=0", "--limits", &folder];
        let mut run = self.measure("perf-producer", &run.map(String::from))?;
        Ok(run["limits"].take())
    }

    fn count(&self, records: u64) -> u64 {
        (records as f64 * self.scale) as u64
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.env("TIDELOG_SERVER", SERVER).stdin(Stdio::null());
        command
    }

    fn broker(&self, data: &Path) -> Result<Broker> {
        let child = self
            .command("tidelog-broker")
            .args(["--listen", SERVER, "--admin-listen", ADMIN, "--set", "log_level=warn", "--data"])
            .arg(data)
            .spawn()?;
        let broker = Broker(child);
        self.run("tidelog", &["ping", "--wait", "120s"])?;
        Ok(broker)
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(tool).args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("{tool} {} failed: {}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn measure(&self, tool: &str, arguments: &[String]) -> Result<Value> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--json"]).collect();
        Ok(serde_json::from_str(&self.run(tool, &arguments)?)?)
    }

    /// Produce and consume, each on a topic of its own that is deleted afterwards: its pages are what the next one reuses warm.
    /// Gives the records a second of the last produce row.
    fn produce_rows(&self) -> Result<f64> {
        let mut peak = 0.0;
        let rows = [
            ("1 KB records, 1 producer", "consume 1 KB records, 1 consumer", 1_000, 2_000_000, 1),
            ("1 KB records, 4 producers", "consume 1 KB records, 4 consumers", 1_000, 2_000_000, 4),
            ("100 B records, 1 producer", "consume 100 B records, 1 consumer", 100, 20_000_000, 1),
        ];
        for (produce, consume, size, records, workers) in rows {
            let records = self.count(records);
            let (mut produced, mut consumed) = (Vec::new(), Vec::new());
            for round in 0..=self.rounds {
                let data = self.folder.path().join("produce");
                let broker = self.broker(&data)?;
                let topic = [
                    format!("--topic=t{round}"),
                    format!("--records={records}"),
                    format!("--partitions={workers}"),
                    "--durability=written".into(),
                ];
                let mut arguments = topic.to_vec();
                arguments.extend([format!("--record-size={size}"), format!("--producers={workers}")]);
                let limits = self.limits()?;
                warm_memory(records * size);
                let mut written = self.measure("perf-producer", &arguments)?;
                let mut arguments = topic.to_vec();
                arguments.push(format!("--consumers={workers}"));
                let mut read = self.measure("perf-consumer", &arguments)?;
                written["limits"] = limits.clone();
                read["limits"] = limits;
                drop(broker);
                fs::remove_dir_all(&data)?;
                // The first round warms memory.
                if round > 0 {
                    produced.push(written);
                    consumed.push(read);
                }
            }
            self.print(produce, &produced);
            self.print(consume, &consumed);
            peak = median_of(&produced, "records_per_second");
        }
        Ok(peak)
    }

    /// What a promise costs: without it and with it, one after the other, again and again.
    fn compared_rows(&self) -> Result<()> {
        self.compared(
            "acks=all, 1 KB records",
            1_000,
            [("`written`", &["--durability=written"]), ("`flushed`", &["--durability=flushed"])],
        )?;
        let idempotent: [Variant<'_>; 2] = [
            ("plain", &["--durability=written", "--idempotent=false"]),
            ("idempotent", &["--durability=written", "--idempotent=true"]),
        ];
        self.compared("acks=all, 1 KB records", 1_000, idempotent)?;
        self.compared("acks=all, 100 B records", 100, idempotent)?;
        let transactions: [Variant<'_>; 2] = [
            ("idempotent", &["--durability=written"]),
            (
                "transactions of 1,000",
                &["--durability=written", "--transactional-id=bench", "--transaction-records=1000"],
            ),
        ];
        self.compared("acks=all, 1 KB records", 1_000, transactions)?;
        self.compared("acks=all, 100 B records", 100, transactions)
    }

    /// Two variants of a produce run of 1 GB, in turn, every run on a broker and a topic of its own, and their ratio within each round.
    fn compared(&self, work: &str, size: u64, variants: [Variant<'_>; 2]) -> Result<()> {
        let mut runs = [Vec::new(), Vec::new()];
        let bytes = self.count(1_000_000_000);
        for round in 0..=self.rounds {
            let mut order = [0, 1];
            order.rotate_left(round % 2);
            for at in order {
                let data = self.folder.path().join("compared");
                let broker = self.broker(&data)?;
                let mut arguments = vec![
                    "--topic=t".to_string(),
                    format!("--records={}", bytes / size),
                    format!("--record-size={size}"),
                ];
                arguments.extend(variants[at].1.iter().map(ToString::to_string));
                let limits = self.limits()?;
                warm_memory(bytes);
                let mut run = self.measure("perf-producer", &arguments)?;
                run["limits"] = limits;
                drop(broker);
                fs::remove_dir_all(&data)?;
                // The first round warms memory.
                if round > 0 {
                    runs[at].push(run);
                }
            }
        }
        for (runs, (variant, _)) in runs.iter().zip(variants) {
            self.print(&format!("{work}, {variant}"), runs);
        }
        let rate = |run: &Value| number(run, "mb_per_second");
        let ratios: Vec<f64> = runs[0].iter().zip(&runs[1]).map(|(base, run)| rate(run) / rate(base)).collect();
        let (least, median, most) = spread(&ratios);
        let [base, other] = variants.map(|(variant, _)| variant);
        println!(
            "| {work}, {other} / {base} | {:.0} % | {:.0} to {:.0} % | | | | |",
            median * 100.0,
            least * 100.0,
            most * 100.0
        );
        Ok(())
    }

    /// End to end at a fixed rate: a consumer follows while a producer sends.
    fn latency_row(&self, rate: u64) -> Result<()> {
        let data = self.folder.path().join("latency");
        let _broker = self.broker(&data)?;
        self.run("tidelog", &["topics", "create", "latency", "--durability", "written"])?;
        let records = self.count(rate * 10);
        let mut runs = Vec::new();
        for _ in 0..=self.rounds {
            let counted = format!("--records={records}");
            let limits = self.limits()?;
            let consumer = self
                .command("perf-consumer")
                .args(["--topic=latency", "--from=end", &counted, "--json"])
                .stdout(Stdio::piped())
                .spawn()?;
            // The consumer waits at the end of the topic before the first record comes; a few more than it counts are sent.
            std::thread::sleep(Duration::from_millis(500));
            let sent = format!("--records={}", records + rate / 10);
            self.run(
                "perf-producer",
                &["--topic=latency", &sent, "--record-size=100", &format!("--throughput={rate}"), "--json"],
            )?;
            let output = consumer.wait_with_output()?;
            let mut run: Value = serde_json::from_slice(&output.stdout)?;
            run["limits"] = limits;
            runs.push(run);
        }
        self.print(&format!("end to end, {rate} records/s of 100 B, `written`"), &runs[1..]);
        drop(_broker);
        fs::remove_dir_all(&data)?;
        Ok(())
    }

    /// Idle cost, many partitions, starts.
    fn start_rows(&self, partitions: u32) -> Result<()> {
        let data = self.folder.path().join("start");
        let broker = self.broker(&data)?;
        let cpu_before = Usage::of(broker.0.id())?.cpu_seconds;
        std::thread::sleep(Duration::from_secs(10));
        let idle = Usage::of(broker.0.id())?;
        let cpu = idle.cpu_seconds - cpu_before;
        println!("| idle broker | {:.2} % of a core | over 10 s | | | {} | |", cpu * 10.0, idle.memory());
        let partitions = partitions.to_string();
        self.run("tidelog", &["topics", "create", "many", "--partitions", &partitions, "--timeout", "900s"])?;
        println!("| {partitions} partitions | | | | | {} | |", Usage::of(broker.0.id())?.memory());
        self.end(broker)?;
        let began = Instant::now();
        let broker = self.broker(&data)?;
        println!("| start with {partitions} clean segments | {:.2} s | | | | | |", began.elapsed().as_secs_f64());
        self.end(broker)?;
        fs::remove_dir_all(&data)?;

        let broker = self.broker(&data)?;
        let records = self.count(4_000_000);
        self.run("perf-producer", &["--topic=big", &format!("--records={records}"), "--record-size=1000", "--json"])?;
        drop(broker);
        let began = Instant::now();
        let broker = self.broker(&data)?;
        let gb = records as f64 / 1e6;
        println!("| start after kill -9 with {gb:.1} GB of log | {:.2} s | | | | | |", began.elapsed().as_secs_f64());
        drop(broker);
        Ok(fs::remove_dir_all(&data)?)
    }

    /// Ends a broker with SIGTERM and waits for it.
    fn end(&self, mut broker: Broker) -> Result<()> {
        let signalled = Command::new("kill").arg(broker.0.id().to_string()).status()?;
        let ended = broker.0.wait()?;
        if signalled.success() && ended.success() { Ok(()) } else { bail!("the broker ended with {ended}") }
    }

    fn print(&self, name: &str, runs: &[Value]) {
        let rates: Vec<f64> = runs.iter().map(|run| number(run, "mb_per_second")).collect();
        let records: Vec<f64> = runs.iter().map(|run| number(run, "records_per_second") / 1e6).collect();
        let of = |key: &str| median_of(runs, key);
        let latency = |key: &str| spread(&runs.iter().map(|run| number(&run["latency_ms"], key)).collect::<Vec<_>>()).1;
        let limit = |key: &str| spread(&runs.iter().map(|run| number(&run["limits"], key)).collect::<Vec<_>>()).1;
        let (least, median, most) = spread(&rates);
        println!(
            "| {name} | {median:.0} MB/s, {:.2} M records/s | {least:.0} to {most:.0} MB/s | {:.3} / {:.3} / {:.3} | {:.2} / {:.2} | {:.0} / {:.0} | {:.1} / {:.1} / {:.1} / {:.1}, {:.3} |",
            spread(&records).1,
            latency("p50"),
            latency("p99"),
            latency("p99_9"),
            of("client_cpu_seconds_per_gb"),
            of("broker_cpu_seconds_per_gb"),
            of("broker_rss_bytes") / (1 << 20) as f64,
            of("broker_rss_peak_bytes") / (1 << 20) as f64,
            limit("loopback_tcp_mb_per_second") / 1e3,
            limit("memcpy_mb_per_second") / 1e3,
            limit("crc32c_mb_per_second") / 1e3,
            limit("sequential_write_mb_per_second") / 1e3,
            limit("fdatasync_ms"),
        );
    }
}

fn number(run: &Value, key: &str) -> f64 {
    run[key].as_f64().unwrap_or(f64::NAN)
}

fn median_of(runs: &[Value], key: &str) -> f64 {
    spread(&runs.iter().map(|run| number(run, key)).collect::<Vec<_>>()).1
}

/// Least, median, most.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => (f64::NAN, f64::NAN, f64::NAN),
        count => (sorted[0], sorted[count / 2], sorted[count - 1]),
    }
}

/// What a process took so far.
struct Usage {
    cpu_seconds: f64,
    anonymous_mib: f64,
    resident_mib: f64,
}

impl Usage {
    fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let mib = |name: &str| -> Result<f64> {
            let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
            let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
            Ok(kib / 1024.0)
        };
        Ok(Self { cpu_seconds: ticks / 100.0, anonymous_mib: mib("RssAnon:")?, resident_mib: mib("VmRSS:")? })
    }

    fn memory(&self) -> String {
        format!("{:.0} / {:.0}", self.anonymous_mib, self.resident_mib)
    }
}
