//! `perf-consumer`: reads records in borrowed batches and measures how fast they come.
//!
//! From the beginning it measures throughput from the page cache, and samples how old records are. From the end it follows a
//! running `perf-producer`: the latency of every record counts from its intended send time to its arrival here.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Parser;
use tidelog_client::{BatchView, Client, ConsumeError, Consumer, GroupConsumerBuilder, PartitionId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::latency::Latencies;
use super::membership::{self, Sharing};
use super::options::{CreateTopic, RunArgs, Throughput, parse_throughput};
use super::pacer::Pacer;
use super::payload::SendTime;
use super::progress::Progress;
use super::session::{Session, Stop};
use super::summary::{LatencyOf, Measured};
use super::timer::Timer;
use crate::byte_size::{counted, display_byte_size, display_count, parse_small_byte_size};
use crate::cli::consume::{client_start, consume_failure};
use crate::connect::failure;
use crate::contact::until_lost;
use crate::duration::{display_duration, parse_duration};
use crate::exit::{EXIT_CODES_HELP, Exit, Failure};
use crate::isolation::IsolationArg;
use crate::start_position::StartPosition;

/// Reads records as fast as they come, and reports throughput, latency, CPU and memory.
#[derive(Debug, Parser)]
#[command(name = "perf-consumer", version, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
pub struct ConsumerCommand {
    /// What both load generators take.
    #[command(flatten)]
    run: RunArgs,

    /// Where to start: beginning, end, offset:N or time:RFC3339. From the end, the latency of each record is measured end
    /// to end; from elsewhere, how old records are when they are read.
    #[arg(long, value_name = "POSITION", default_value = "beginning")]
    from: StartPosition,

    /// How many consumers read at once, each over a connection of its own; the partitions are spread over them.
    /// With --group, how many members join here.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    consumers: u16,

    /// Read as members of this group, which share the partitions and commit what they count. It goes on where it stopped: --from counts where
    /// it has committed nothing, and records of --warmup are not read again.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Records per second, all consumers together; -1 reads as fast as possible.
    #[arg(long, value_name = "RATE", default_value = "-1", allow_negative_numbers = true, value_parser = parse_throughput)]
    throughput: Throughput,

    /// Records to read before, which are not counted. Reading then starts anew at the same place; from the end it goes on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,

    /// Bytes of batches that the broker pushes at a time.
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_small_byte_size)]
    batch_size: u32,

    /// Bytes of batches, per partition, that the broker may push ahead.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_small_byte_size)]
    prefetch: u32,

    /// Which records are read: of committed transactions and of none, or all.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    isolation: IsolationArg,

    /// Give up once no record has come for this long.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    idle_timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  perf-consumer --records 1000000 --warmup 1000000
  perf-consumer --consumers 2 --records 5000000 --limits --json
  perf-consumer --group readers --consumers 4 --records 1000000
  perf-consumer --create-topic --from end --records 500000 --report latency.html &
  perf-producer --throughput 50000 --records 500000";

/// Runs `perf-consumer` with the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    let command = ConsumerCommand::parse();
    command.run.clone().conclude(run(command))
}

async fn run(command: ConsumerCommand) -> Result<Exit, Failure> {
    let workers = usize::from(command.consumers);
    let block = command.batch_size as usize;
    let unless_told = (CreateTopic::Never, workers as u32);
    let spread_over = |partitions: u32| match command.group.is_none() && workers > partitions as usize {
        true => Err(some_idle(workers, partitions, command.run.topic.as_str())),
        false => Ok(()),
    };
    if let (Some(CreateTopic::Missing), Some(partitions)) = (command.run.create_topic, command.run.partitions) {
        // Before the topic is created.
        spread_over(partitions)?;
    }
    let session = Session::open(command.run.clone(), "perf-consumer", block, unless_told, |_| Ok(())).await?;
    spread_over(session.partitions)?;
    let mut clients = Vec::with_capacity(workers);
    for _ in 0..workers {
        clients.push(session.worker_client().await?);
    }
    let goes_on = command.from == StartPosition::End || command.group.is_some();
    if command.warmup > 0 && !goes_on {
        let plan = Plan { skip: 0, records: command.warmup, what: "warming up" };
        if let (_, Some(failed)) = receive_all(&session, &command, plan, &clients).await? {
            return Err(failed.prefix("during the warm-up"));
        }
    }
    let before = session.usage().await;
    let skip = if goes_on { command.warmup } else { 0 };
    let plan = Plan { skip, records: session.args.records, what: "receiving" };
    let (measured, failed) = receive_all(&session, &command, plan, &clients).await?;
    let after = session.usage().await;
    let warmup = command.warmup;
    session.finish(command.settings(), &measured, [before, after], failed, warmup)
}

fn some_idle(workers: usize, partitions: u32, topic: &str) -> Failure {
    let places = counted(partitions, "partition");
    Failure::new(Exit::Usage, format!("{workers} consumers share {places} of '{topic}', so some would have none"))
        .hint(format!("read with --consumers {partitions}, or add partitions: tidelog topics add-partitions {topic} --total {workers}"))
}

impl ConsumerCommand {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("topic", self.run.topic.to_string()),
            ("from", self.from.to_string()),
            ("consumers", self.consumers.to_string()),
            ("group", self.group.clone().unwrap_or_else(|| "none".into())),
            ("throughput", self.throughput.to_string()),
            ("threads", self.run.threads.map_or("one per core".into(), |threads| threads.to_string())),
            ("batch size", display_byte_size(self.batch_size.into())),
            ("prefetch", display_byte_size(self.prefetch.into())),
            ("isolation", self.isolation.name().into()),
        ]
    }

    async fn consumer(&self, client: &Client, partitions: Vec<PartitionId>) -> Result<Consumer, Failure> {
        let consumer = client.consumer().partitions(self.run.topic.as_str(), partitions);
        let consumer = consumer.start(client_start(self.from)).item_bytes(self.batch_size);
        let consumer = consumer.isolation(self.isolation.isolation());
        consumer.prefetch_bytes(self.prefetch.max(self.batch_size)).build().await.map_err(failure)
    }

    fn member(&self, client: &Client, group: &str, sharing: &Sharing) -> GroupConsumerBuilder {
        let member = client.group(group).topics([self.run.topic.as_str()]).start(client_start(self.from));
        let member = member.isolation(self.isolation.isolation());
        member.prefetch_bytes(self.prefetch.max(self.batch_size)).on_rebalance(sharing.clone())
    }
}

/// What all workers together shall read.
#[derive(Clone, Copy)]
struct Plan {
    /// Records that are not counted.
    skip: u64,
    /// Records that are counted, after those.
    records: u64,
    what: &'static str,
}

/// What the workers share: how many records are still wanted, and when counting began.
pub(super) struct Shared {
    /// Records taken so far, those that are skipped included.
    taken: AtomicU64,
    plan: Plan,
    started: OnceLock<Instant>,
    pub(super) done: watch::Sender<()>,
    progress: Progress,
    stop: Stop,
    pub(super) idle_timeout: Duration,
    pub(super) throughput: Throughput,
    pub(super) workers: usize,
    /// Every record's latency is wanted, not one of each batch.
    follows: bool,
}

impl Shared {
    /// Have all together what they shall read, or are they to stop?
    pub(super) fn is_enough(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.plan.skip + self.plan.records || self.stop.is_wanted()
    }

    /// A worker has so many records: which of them count?
    pub(super) fn claim(&self, records: usize) -> Claim {
        Claim::new(self.taken.fetch_add(records as u64, Ordering::Relaxed), records, self.plan)
    }
}

/// How many records of a batch count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    /// So many at its front do not.
    pub(super) skip: usize,
    /// So many after them do.
    pub(super) count: usize,
}

impl Claim {
    /// The share of a batch of `records` that begins after `taken` others.
    fn new(taken: u64, records: usize, plan: Plan) -> Self {
        let skip = plan.skip.saturating_sub(taken).min(records as u64) as usize;
        let end = (plan.skip + plan.records).saturating_sub(taken).min(records as u64) as usize;
        Self { skip, count: end.saturating_sub(skip) }
    }
}

/// What one worker did.
pub(super) struct Received {
    pub(super) latencies: Latencies,
    pub(super) records: u64,
    bytes: u64,
    pub(super) failure: Option<Failure>,
    ended: Instant,
}

/// Reads a plan's records with all workers at once.
async fn receive_all(
    session: &Session,
    command: &ConsumerCommand,
    plan: Plan,
    clients: &[Client],
) -> Result<(Measured, Option<Failure>), Failure> {
    let workers = clients.len();
    let follows = command.from == StartPosition::End;
    let shared = Arc::new(Shared {
        taken: AtomicU64::new(0),
        plan,
        started: OnceLock::new(),
        done: watch::Sender::new(()),
        progress: Progress::new(workers),
        stop: session.stop.clone(),
        idle_timeout: command.idle_timeout,
        throughput: command.throughput,
        workers,
        follows,
    });
    if !follows && command.group.is_none() {
        // Reading a backlog starts with opening it. Following starts with the first record: before, there was nothing to do. What a group does
        // before its first record has figures of its own.
        shared.started.get_or_init(Instant::now);
    }
    let contact = {
        let (client, connect, shared) = (clients[0].clone(), session.args.connect.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let failure = until_lost(&client, &connect.server, connect.asked_timeout).await;
            // Nothing will come: whoever waits for it need not.
            let _ = shared.done.send(());
            failure
        })
    };
    let following = || session.verbosity.say("following from the end; start the producer now");
    let (joined, timeline, group) = if let Some(group) = &command.group {
        let sharing = Sharing::new(session.partitions);
        let builders = clients.iter().map(|client| command.member(client, group, &sharing)).collect();
        let members = membership::join_all(builders).await?;
        follows.then(following);
        let mut tasks = JoinSet::new();
        for (worker, member) in members.into_iter().enumerate() {
            tasks.spawn(membership::receive(member, Arc::clone(&shared), worker));
        }
        let (ended, timeline) = session.watch(plan.what, plan.records, &shared.progress, tasks.join_all()).await;
        sharing.is_over();
        let (joined, members): (Vec<Received>, Vec<_>) = ended.into_iter().unzip();
        let lag = membership::leave_all(members, (&clients[0], group)).await?;
        let records: Vec<u64> = joined.iter().map(|received| received.records).collect();
        (joined, timeline, Some(sharing.figures(group, &records, lag)))
    } else {
        let mut consumers = Vec::with_capacity(workers);
        for (worker, client) in clients.iter().enumerate() {
            let partitions = (0..session.partitions).skip(worker).step_by(workers).map(PartitionId).collect();
            consumers.push(command.consumer(client, partitions).await?);
        }
        follows.then(following);
        let mut tasks = JoinSet::new();
        for (worker, consumer) in consumers.into_iter().enumerate() {
            tasks.spawn(receive(consumer, Arc::clone(&shared), worker));
        }
        let (joined, timeline) = session.watch(plan.what, plan.records, &shared.progress, tasks.join_all()).await;
        (joined, timeline, None)
    };
    let mut measured = Measured {
        records: 0,
        bytes: 0,
        failed: 0,
        elapsed: Duration::ZERO,
        latencies: Latencies::new(),
        latency_of: if follows { LatencyOf::EndToEnd } else { LatencyOf::RecordAge },
        timeline,
        group,
    };
    contact.abort();
    let mut first_failure = contact.await.ok();
    for received in joined {
        measured.records += received.records;
        measured.bytes += received.bytes;
        measured.latencies.merge(&received.latencies);
        if let Some(started) = shared.started.get().filter(|_| received.records > 0) {
            measured.elapsed = measured.elapsed.max(received.ended.saturating_duration_since(*started));
        }
        first_failure = first_failure.or(received.failure);
    }
    let missing = plan.records - measured.records.min(plan.records);
    let failed = first_failure.filter(|_| missing > 0).map(|failed| {
        failed.prefix(format!("{} of {} records did not come", display_count(missing), display_count(plan.records)))
    });
    Ok((measured, failed))
}

/// One worker: reads its partitions until all workers together have enough.
async fn receive(mut consumer: Consumer, shared: Arc<Shared>, worker: usize) -> Received {
    let mut received = Received::none();
    let mut done = shared.done.subscribe();
    let mut idle = Idle::new();
    let mut throttle = Throttle::new(shared.throughput, shared.workers);
    while !shared.is_enough() {
        let next = tokio::time::timeout(shared.idle_timeout.min(LOOK_UP), consumer.next_batch());
        let batch = tokio::select! {
            biased;
            batch = next => batch,
            _ = done.changed() => break,
        };
        match batch {
            Ok(Ok(Some(batch))) => {
                if let Err(error) = received.count(&batch, &shared, worker) {
                    received.failure = Some(consume_failure(error));
                    break;
                }
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                received.failure = Some(consume_failure(error));
                break;
            }
            // Each partition may rest; only where none of them brings anything the run is over.
            Err(_) if idle.has_lasted(&shared) => {
                received.failure = Some(no_record(shared.idle_timeout));
                break;
            }
            Err(_) => continue,
        }
        if let Err(error) = throttle.hold_back(received.records).await {
            received.failure = Some(no_timer(&error));
            break;
        }
    }
    // Nobody listens where all have ended.
    let _ = shared.done.send(());
    received
}

pub(super) fn no_record(waited: Duration) -> Failure {
    Failure::new(Exit::Unavailable, format!("no record came for {}", display_duration(waited)))
}

pub(super) fn no_timer(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the kernel gives no timer: {error}"))
}

/// How long nobody has taken a record.
pub(super) struct Idle {
    taken: u64,
    since: Instant,
}

impl Idle {
    pub(super) fn new() -> Self {
        Self { taken: 0, since: Instant::now() }
    }

    pub(super) fn has_lasted(&mut self, shared: &Shared) -> bool {
        let taken = shared.taken.load(Ordering::Relaxed);
        if taken != self.taken {
            *self = Self { taken, since: Instant::now() };
        }
        self.since.elapsed() >= shared.idle_timeout
    }
}

/// How often a worker that waits looks up whether it shall stop.
pub(super) const LOOK_UP: Duration = Duration::from_millis(500);

impl Received {
    pub(super) fn none() -> Self {
        Self { latencies: Latencies::new(), records: 0, bytes: 0, failure: None, ended: Instant::now() }
    }

    /// So many records and bytes more that count.
    pub(super) fn counted(&mut self, (records, bytes): (u64, u64), arrived: Instant, shared: &Shared, worker: usize) {
        shared.started.get_or_init(|| arrived);
        self.records += records;
        self.bytes += bytes;
        self.ended = Instant::now();
        shared.progress.counter(worker).add(records, bytes);
    }

    fn count(&mut self, batch: &BatchView<'_>, shared: &Shared, worker: usize) -> Result<(), ConsumeError> {
        // A batch arrives as a whole: one look at the clock is the arrival of all its records.
        let arrived = Instant::now();
        let records = batch.header().record_count as usize;
        let now = SendTime::now();
        let claim = shared.claim(records);
        let (mut counted, mut bytes) = (0, 0);
        let first_counts_for = claim.count as u64;
        for record in batch.records().skip(claim.skip).take(claim.count) {
            let record = record?;
            let value = record.value.unwrap_or_default();
            bytes += (record.key.map_or(0, <[u8]>::len) + value.len()) as u64;
            let sampled = if shared.follows {
                1
            } else if counted == 0 {
                first_counts_for
            } else {
                0
            };
            if sampled > 0
                && let Some(sent) = SendTime::of_record(value, now)
            {
                self.latencies.record(sent.age_at(now), sampled);
            }
            counted += 1;
        }
        // A batch may begin before the start; what of it is not ours is left to the others to find.
        shared.taken.fetch_sub(claim.count as u64 - counted, Ordering::Relaxed);
        if counted > 0 {
            self.counted((counted, bytes), arrived, shared, worker);
        }
        Ok(())
    }
}

/// Holds a worker back to its share of the rate.
pub(super) struct Throttle {
    pacer: Option<(Pacer, Timer)>,
    start: Instant,
}

impl Throttle {
    pub(super) fn new(throughput: Throughput, workers: usize) -> Self {
        let pacer = match throughput {
            Throughput::Unlimited => None,
            Throughput::PerSecond(rate) => Timer::new().ok().map(|timer| (Pacer::new(rate / workers as f64), timer)),
        };
        Self { pacer, start: Instant::now() }
    }

    /// Waits until `records` are due.
    pub(super) async fn hold_back(&mut self, records: u64) -> std::io::Result<()> {
        let Some((pacer, timer)) = &mut self.pacer else { return Ok(()) };
        match pacer.due_at(records).checked_sub(self.start.elapsed()) {
            Some(early) if !early.is_zero() => timer.sleep(early).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_records_asked_for_count() {
        let plan = Plan { skip: 100, records: 1000, what: "" };
        let mut taken = 0;
        let mut counted = 0;
        for records in [30, 300, 700, 200, 50] {
            counted += Claim::new(taken, records, plan).count;
            taken += records as u64;
        }
        assert_eq!(counted, 1000);
        assert_eq!(Claim::new(0, 30, plan), Claim { skip: 30, count: 0 });
        assert_eq!(Claim::new(90, 30, plan), Claim { skip: 10, count: 20 });
        assert_eq!(Claim::new(1090, 30, plan), Claim { skip: 0, count: 10 });
        assert_eq!(Claim::new(1200, 30, plan), Claim { skip: 0, count: 0 });
    }

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory;
        ConsumerCommand::command().debug_assert();
    }
}
