//! What surrounds the workers of a run: the topic, the limits, both sides' usage before and after, samples while it runs, and
//! the end: JSON, text, report. Knows nothing of what the workers do.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidelog_client::{Admin, Client, ClientError, NewTopic};

use super::limits::Limits;
use super::live_rate::{LiveRate, SAMPLE_EVERY};
use super::options::{CreateTopic, RunArgs, command_line};
use super::progress::{Progress, Sample, Timeline};
use super::report::report_html;
use super::summary::{BrokerUsage, Measured, RunIdentity, Span, Summary};
use super::usage::ProcessUsage;
use crate::byte_size::counted;
use crate::cli::Verbosity;
use crate::connect::{failure, unknown_topic};
use crate::exit::{Exit, Failure};
use crate::output::{print_json, print_text};
use crate::stop_signal::StopSignal;

/// How long the figures of the broker are waited for.
const USAGE_PATIENCE: Duration = Duration::from_secs(5);

/// A run in the making: connected, its topic there, its limits measured.
#[derive(Debug)]
pub struct Session {
    /// What was asked for.
    pub args: RunArgs,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// Whether to talk on standard error.
    pub verbosity: Verbosity,
    /// Set by Ctrl-C or SIGTERM: workers stop early, and what was measured is still told.
    pub stop: Stop,
    tool: &'static str,
    admin: Admin,
    limits: Option<Limits>,
    started_at: String,
}

/// The wish to stop early.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// True once somebody wants it.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Wishes to stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A signal wishes to stop; a second one ends the process at once.
    fn on_signal(&self, mut signal: StopSignal) {
        let stop = self.clone();
        tokio::spawn(async move {
            signal.received().await;
            stop.ask();
            let None::<Infallible> = signal.unless_again(std::future::pending()).await;
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}

impl Session {
    /// Connects, measures the limits, and looks for the topic; `unless_told` says whether it is created where it is missing, and
    /// with how many partitions, where the command line does not. What `check` refuses is refused before anything is created.
    ///
    /// # Errors
    /// Where the broker or the topic cannot be reached, or the limits cannot be measured.
    pub async fn open(
        args: RunArgs,
        tool: &'static str,
        block_bytes: usize,
        unless_told: (CreateTopic, u32),
        check: impl FnOnce(&Client) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let verbosity = Verbosity::chosen(args.verbose);
        if let Some(path) = &args.report {
            // A report that cannot be written is better known before the run than after it.
            let opened = File::options().create(true).append(true).open(path);
            opened.map_err(|error| Failure::file(format!("--report {}", path.display()), &error))?;
        }
        let client = args.connect.client(tool).await?;
        check(&client)?;
        let limits = match args.limits {
            false => None,
            true => {
                verbosity.say("measuring what this machine can do");
                let folder = args.limits_folder.clone();
                let measured = tokio::task::spawn_blocking(move || Limits::measure(block_bytes, &folder)).await;
                let measured = measured.map_err(|error| Failure::new(Exit::Failed, format!("limits: {error}")))?;
                let refused = |error| Failure::file(format!("limits in {}", args.limits_folder.display()), &error);
                Some(measured.map_err(refused)?)
            }
        };
        let admin = client.admin();
        let partitions = ensure_topic(&admin, &args, unless_told).await?;
        let stop = Stop::default();
        stop.on_signal(StopSignal::listen()?);
        let started_at = format!("{:.0}", jiff::Timestamp::now());
        Ok(Self { args, partitions, verbosity, stop, tool, admin, limits, started_at })
    }

    /// A connection of its own for a worker, so that several do not share one socket.
    ///
    /// # Errors
    /// As [`crate::connect::ConnectArgs::client`].
    pub async fn worker_client(&self) -> Result<Client, Failure> {
        self.args.connect.client(self.tool).await
    }

    /// CPU and memory of both sides, as of now. A broker that does not answer is left out.
    pub async fn usage(&self) -> (ProcessUsage, Option<BrokerUsage>) {
        let name = [self.args.topic.as_str()];
        let asked = async { tokio::join!(self.admin.describe_broker(), self.admin.describe_topics(&name)) };
        // A broker that is gone has no figures, and nobody waits long for them.
        let (described, topics) = match tokio::time::timeout(USAGE_PATIENCE, asked).await {
            Ok((described, topics)) => (described.ok(), topics.unwrap_or_default()),
            Err(_) => (None, Vec::new()),
        };
        let log_bytes = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.size_bytes).sum();
        let broker = described.map(|broker| BrokerUsage {
            cpu: Duration::from_micros(broker.cpu_us),
            rss_bytes: broker.rss_bytes,
            rss_peak_bytes: broker.rss_peak_bytes,
            log_bytes,
        });
        (ProcessUsage::now(), broker)
    }

    /// Runs `work` to its end while the live line is drawn and samples are taken.
    pub async fn watch<T>(
        &self,
        what: &'static str,
        records: u64,
        progress: &Progress,
        work: impl Future<Output = T>,
    ) -> (T, Timeline) {
        let live = LiveRate::new(what, records);
        let start = Instant::now();
        let mut timeline = Timeline::default();
        let sample = || {
            let (records, bytes) = progress.total();
            Sample { at: start.elapsed(), records, bytes }
        };
        timeline.push(sample());
        let mut ticks = tokio::time::interval_at((start + SAMPLE_EVERY).into(), SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = ticks.tick() => timeline.push(sample()),
            }
            if let Some(rate) = timeline.latest() {
                live.show(progress.total().0, rate);
            }
        };
        timeline.finish(sample(), SAMPLE_EVERY / 2);
        live.clear();
        (done, timeline)
    }

    /// Prints the figures, writes the report, and ends: with the failure of the workers, where there was one.
    ///
    /// # Errors
    /// That failure, or where output cannot be written.
    pub fn finish(
        self,
        settings: Vec<(&'static str, String)>,
        measured: &Measured,
        usage: [(ProcessUsage, Option<BrokerUsage>); 2],
        failed: Option<Failure>,
        warmup_records: u64,
    ) -> Result<Exit, Failure> {
        let [(client_before, broker_before), (client_after, broker_after)] = usage;
        let run = RunIdentity {
            tool: self.tool,
            command: command_line(),
            started_at: self.started_at,
            warmup_records,
            settings,
        };
        let broker = broker_before.zip(broker_after).map(|(before, after)| Span { before, after });
        let client = Span { before: client_before, after: client_after };
        let summary = Summary::new(run, measured, client, broker, self.limits);
        let printed = match &failed {
            // Nothing but zeros: the failure says more.
            Some(_) if summary.records == 0 => Ok(()),
            _ if self.args.json => print_json(&summary),
            _ => print_text(&summary.to_string()),
        };
        printed.map_err(|error| Failure::stdout(&error))?;
        if let Some(path) = &self.args.report {
            let page =
                report_html(&summary, measured).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            std::fs::write(path, page).map_err(|error| Failure::file(path.display(), &error))?;
            self.verbosity.say(format!("wrote {}", path.display()));
        }
        match failed {
            Some(failed) => Err(failed),
            None if self.stop.is_wanted() => Ok(Exit::Interrupted),
            None => Ok(Exit::Done),
        }
    }
}

/// Makes sure that the topic exists; returns how many partitions it has.
async fn ensure_topic(
    admin: &Admin,
    args: &RunArgs,
    (missing, partitions): (CreateTopic, u32),
) -> Result<u32, Failure> {
    let name = args.topic.as_str();
    match admin.describe_topics(&[name]).await {
        Ok(topics) => {
            let Some(topic) = topics.first() else { return Ok(0) };
            let existing = topic.partitions.len() as u32;
            if args.partitions.is_some_and(|asked| asked != existing) {
                eprintln!(
                    "topic '{name}' exists with {}: --partitions does not change it",
                    counted(existing, "partition")
                );
            }
            let durability = topic.configs.iter().find(|config| config.key == "durability");
            if let (Some(asked), Some(found)) = (args.durability, durability)
                && asked.name() != found.value
            {
                eprintln!("topic '{name}' exists with durability={}: --durability does not change it", found.value);
            }
            Ok(existing)
        }
        Err(ClientError::UnknownTopic { .. }) if args.create_topic.unwrap_or(missing) == CreateTopic::Missing => {
            let mut topic = NewTopic::named(name).partitions(args.partitions.unwrap_or(partitions));
            topic = args
                .durability
                .into_iter()
                .fold(topic, |topic, durability| topic.config("durability", durability.name()));
            let created = admin.create_topic(&topic).await.map_err(failure)?;
            eprintln!("created topic '{name}' with {}", counted(created.partitions, "partition"));
            Ok(created.partitions)
        }
        Err(ClientError::UnknownTopic { .. }) => Err(unknown_topic(name)),
        Err(error) => Err(failure(error)),
    }
}
