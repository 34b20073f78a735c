//! `perf-producer`: sends records one by one and measures how fast they are acknowledged.
//!
//! Unlimited, the loop is closed: each worker sends as fast as its bound on unacknowledged bytes allows, and a latency counts from
//! `send` to the ack. At a rate, the loop is open: each record is due at its own time, and its latency counts from there.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tidelog_client::{Client, ProducerBuilder, RecordRef, SendError, TopicProducer};
use tokio::task::JoinSet;

use super::flight::{Flight, LOOK_THROUGH};
use super::latency::Latencies;
use super::options::{CreateTopic, RunArgs, Throughput, parse_throughput, share};
use super::pacer::Pacer;
use super::payload::{Content, Payload, STAMP_BYTES, SendTime};
use super::progress::Progress;
use super::session::{Session, Stop};
use super::summary::{LatencyOf, Measured};
use super::timer::Timer;
use super::transactions::Transactions;
use crate::byte_size::{display_byte_size, display_count, parse_byte_size, parse_small_byte_size};
use crate::connect::{failure, send_failure, transaction_failure};
use crate::duration::{display_duration, parse_timeout};
use crate::exit::{EXIT_CODES_HELP, Exit, Failure};
use crate::producer_args::{CompressionArg, ProducerArgs};

/// Records between two looks at the clock, at the acks and at the wish to stop.
const STRIDE: u64 = 64;

/// The shortest wait of an open loop. Shorter ones cost more CPU than they gain in smoothness; the wait counts as latency.
const WAIT_MIN: Duration = Duration::from_micros(50);

/// Sends records as fast as possible or at a rate, and reports throughput, latency, CPU and memory.
#[derive(Debug, Parser)]
#[command(
    name = "perf-producer",
    version,
    after_help = "\
Examples:
  perf-producer --records 5000000 --record-size 100 --warmup 5000000
  perf-producer --throughput 50000 --records 500000 --report latency.html
  perf-producer --producers 4 --record-size 1000 --limits --json
  perf-producer --transactional-id perf --transaction-records 1000"
)]
#[command(after_long_help = format!("\
Examples:
  perf-producer --records 5000000 --record-size 100 --warmup 5000000
  perf-producer --throughput 50000 --records 500000 --report latency.html
  perf-producer --producers 4 --record-size 1000 --limits --json
  perf-producer --transactional-id perf --transaction-records 1000

Each record carries its intended send time in its first 8 bytes; perf-consumer tells the end-to-end latency from it.

{EXIT_CODES_HELP}"))]
pub struct ProducerCommand {
    /// What both load generators take.
    #[command(flatten)]
    run: RunArgs,

    /// Bytes of each record, 8 or more; the key is empty.
    #[arg(long, value_name = "SIZE", default_value = "1000", value_parser = parse_record_size)]
    record_size: u32,

    /// How many producers send at once, each over a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    producers: u16,

    /// Records per second, all producers together; -1 sends as fast as possible.
    #[arg(long, value_name = "RATE", default_value = "-1", allow_negative_numbers = true, value_parser = parse_throughput)]
    throughput: Throughput,

    /// Records to send before, which are not counted: the first touch of memory and disk is not what is measured.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,

    /// Unacknowledged bytes that each producer may have.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_small_byte_size)]
    in_flight: u32,

    /// Unacknowledged batches per partition that each producer may have.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batches_in_flight: u16,

    /// Whether the broker writes once what has to be sent twice; not said: as acks and batches in flight allow.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    idempotent: Option<bool>,

    /// The id of transactions, with the number of the producer behind it; one of this run's own if absent.
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,

    /// Send within transactions of so many records. The next begins while the one before is being committed; a latency counts to the ack of
    /// its record.
    #[arg(long, value_name = "N", conflicts_with = "throughput")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    transaction_records: Option<u64>,

    /// How long a record is tried before it counts as failed, such as 10s. The first that fails ends the run.
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = parse_timeout)]
    delivery_timeout: Duration,

    /// What the bytes of a record are: 'text' (log-like lines) if compressed, else 'random'.
    #[arg(long, value_enum)]
    content: Option<Content>,

    /// Batching and acknowledgement.
    #[command(flatten)]
    producer: ProducerArgs,
}

fn parse_record_size(text: &str) -> Result<u32, String> {
    // Before the rule that holds for every size, which would only lead to this one.
    match parse_byte_size(text)? {
        size if size < STAMP_BYTES as u64 => Err(format!("a record needs {STAMP_BYTES} bytes for its send time")),
        _ => parse_small_byte_size(text),
    }
}

/// Runs `perf-producer` with the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    let command = ProducerCommand::parse();
    command.run.clone().conclude(run(command))
}

async fn run(command: ProducerCommand) -> Result<Exit, Failure> {
    command.check()?;
    let workers = usize::from(command.producers);
    let block = command.producer.batch_size as usize;
    let unless_told = (CreateTopic::Missing, workers as u32);
    let check = |client: &Client| {
        let described = command.describe(client.producer());
        // As the producers of transactions are, whose building asks for more than this.
        let described = if command.transaction_records.is_some() { described.idempotent(true) } else { described };
        described.build().map(drop).map_err(failure)
    };
    let session = Session::open(command.run.clone(), "perf-producer", block, unless_told, check).await?;
    let mut senders = Vec::with_capacity(workers);
    for worker in 0..workers {
        let client = session.worker_client().await?;
        let outlet = command.outlet(&client, &session, worker).await?;
        let payload = Payload::new(command.record_size as usize, command.content(), worker as u64);
        senders.push(Sender { outlet, payload, stop: session.stop.clone() });
    }
    if command.warmup > 0 {
        let plan = Plan { records: command.warmup, throughput: Throughput::Unlimited, what: "warming up" };
        let (warmed, returned) = send_all(&session, plan, senders).await?;
        if let Some(failed) = warmed.1 {
            return Err(failed.prefix("during the warm-up"));
        }
        senders = returned;
    }
    let before = session.usage().await;
    let plan = Plan { records: session.args.records, throughput: command.throughput, what: "sending" };
    let ((measured, failed), _) = send_all(&session, plan, senders).await?;
    let after = session.usage().await;
    let failed = failed.map(|failed| match measured.failed {
        0 => failed,
        count => failed.prefix(format!("{} records were not acknowledged", display_count(count))),
    });
    let warmup = command.warmup;
    session.finish(command.settings(), &measured, [before, after], failed, warmup)
}

impl ProducerCommand {
    /// Refuses what goes with nothing else that was said, for which the grammar has no words.
    fn check(&self) -> Result<(), Failure> {
        match (self.transaction_records, &self.transactional_id, self.idempotent) {
            (None, Some(_), _) => {
                let sentence = "--transactional-id says under which id there are transactions, and nothing says that there are any";
                Err(Failure::new(Exit::Usage, sentence).hint("--transaction-records 1000"))
            }
            (Some(_), _, Some(false)) => {
                let sentence =
                    "--transaction-records cannot be used with --idempotent false: transactions are idempotent";
                Err(Failure::new(Exit::Usage, sentence))
            }
            _ => Ok(()),
        }
    }

    fn content(&self) -> Content {
        let compressed = self.producer.compression != CompressionArg::None;
        self.content.unwrap_or(if compressed { Content::Text } else { Content::Random })
    }

    fn describe(&self, builder: ProducerBuilder) -> ProducerBuilder {
        let builder = self
            .producer
            .apply(builder)
            .memory_bytes(self.in_flight.max(self.producer.batch_size) as usize)
            .max_in_flight(self.batches_in_flight.into())
            .delivery_timeout(self.delivery_timeout);
        match self.idempotent {
            Some(idempotent) => builder.idempotent(idempotent),
            None => builder,
        }
    }

    async fn outlet(&self, client: &Client, session: &Session, worker: usize) -> Result<Outlet, Failure> {
        let topic = session.args.topic.as_str();
        let Some(records) = self.transaction_records else {
            let producer = self.describe(client.producer()).build().map_err(failure)?;
            return Ok(Outlet::Plain(producer.topic(topic).await.map_err(failure)?));
        };
        let own = || format!("perf-producer-{}", std::process::id());
        let id = self.transactional_id.clone().unwrap_or_else(own);
        let building = client.transactional_producer(format!("{id}-{worker}")).sending(|it| self.describe(it));
        let producer = building.build().await.map_err(transaction_failure)?;
        Ok(Outlet::Transactions(Transactions::new(producer, topic, records)))
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("topic", self.run.topic.to_string()),
            ("record size", format!("{} bytes", display_count(self.record_size.into()))),
            ("content", format!("{:?}", self.content()).to_lowercase()),
            ("producers", self.producers.to_string()),
            ("throughput", self.throughput.to_string()),
            ("acks", self.producer.acks.name().into()),
            ("compression", self.producer.compression.compression().to_string()),
            ("threads", self.run.threads.map_or("one per core".into(), |threads| threads.to_string())),
            ("batch size", display_byte_size(self.producer.batch_size.into())),
            ("linger", format!("{} ms", self.producer.linger.as_secs_f64() * 1e3)),
            ("in flight", display_byte_size(self.in_flight.into())),
            ("batches in flight", self.batches_in_flight.to_string()),
            ("delivery timeout", display_duration(self.delivery_timeout)),
            (
                "transactions",
                self.transaction_records.map_or("none".into(), |n| format!("of {} records", display_count(n))),
            ),
        ]
    }
}

/// What all workers together shall send.
#[derive(Clone, Copy)]
struct Plan {
    records: u64,
    throughput: Throughput,
    what: &'static str,
}

/// One worker's means.
struct Sender {
    outlet: Outlet,
    payload: Payload,
    stop: Stop,
}

/// Where a worker's records go.
enum Outlet {
    Plain(TopicProducer),
    Transactions(Transactions),
}

/// Sends a plan's records with all workers at once; hands the workers back for the next plan.
async fn send_all(
    session: &Session,
    plan: Plan,
    senders: Vec<Sender>,
) -> Result<((Measured, Option<Failure>), Vec<Sender>), Failure> {
    let workers = senders.len();
    let progress = Arc::new(Progress::new(workers));
    let record_bytes = senders.first().map_or(0, |sender| sender.payload.record_bytes() as u64);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (worker, mut sender) in senders.into_iter().enumerate() {
        let records = share(plan.records, worker, workers);
        let progress = Arc::clone(&progress);
        let clock = Clock { start, wall: SendTime::now() };
        let look_through = match plan.throughput {
            Throughput::PerSecond(_) if session.partitions > 1 => LOOK_THROUGH,
            _ => 1,
        };
        tasks.spawn(async move {
            let mut flight = Flight::new(&progress, worker, record_bytes, look_through);
            let Sender { outlet, payload, stop } = &mut sender;
            let failure = match (outlet, plan.throughput) {
                (Outlet::Plain(topic), Throughput::Unlimited) => {
                    let mut sending = Sending { topic, payload, stop };
                    closed_loop(&mut sending, clock, records, &mut flight).await.map_err(send_failure)
                }
                (Outlet::Plain(topic), Throughput::PerSecond(rate)) => {
                    let pacer = Pacer::new(rate / workers as f64);
                    let mut sending = Sending { topic, payload, stop };
                    open_loop(&mut sending, clock, (records, pacer), &mut flight).await.map_err(send_failure)
                }
                // The command line refuses a rate.
                (Outlet::Transactions(transactions), _) => {
                    transactions.run(clock, records, (payload, stop), &mut flight).await
                }
            };
            let failure = failure.err();
            if failure.is_some() || !flight.is_sound() {
                // The others would send into the same wall.
                stop.ask();
            }
            (sender, flight.settle(failure).await)
        });
    }
    let (joined, timeline) = session.watch(plan.what, plan.records, &progress, tasks.join_all()).await;
    let latency_of = match plan.throughput {
        Throughput::Unlimited => LatencyOf::AckClosedLoop,
        Throughput::PerSecond(_) => LatencyOf::AckOpenLoop,
    };
    let mut measured = Measured {
        records: 0,
        bytes: 0,
        failed: 0,
        elapsed: Duration::ZERO,
        latencies: Latencies::new(),
        latency_of,
        timeline,
        group: None,
    };
    let (mut senders, mut first_failure) = (Vec::with_capacity(workers), None);
    for (sender, sent) in joined {
        senders.push(sender);
        measured.records += sent.records;
        measured.bytes += sent.records * record_bytes;
        measured.failed += sent.failed;
        measured.latencies.merge(&sent.latencies);
        measured.elapsed = measured.elapsed.max(sent.ended.duration_since(start));
        first_failure = first_failure.or(sent.failure);
    }
    Ok(((measured, first_failure), senders))
}

/// The start of a run, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) start: Instant,
    pub(super) wall: SendTime,
}

/// What a loop sends with.
pub(super) struct Sending<'a> {
    pub(super) topic: &'a TopicProducer,
    pub(super) payload: &'a mut Payload,
    pub(super) stop: &'a Stop,
}

/// Sends as fast as the bound on unacknowledged bytes allows.
pub(super) async fn closed_loop(
    sender: &mut Sending<'_>,
    clock: Clock,
    records: u64,
    flight: &mut Flight<'_>,
) -> Result<(), SendError> {
    let mut sent = 0;
    while sent < records && !sender.stop.is_wanted() && flight.is_sound() {
        // One look at the clock for a stride of records: it lasts some microseconds, and the clock costs as much as a record.
        let mut now = Instant::now();
        let mut stamp = clock.wall.plus(now - clock.start);
        for _ in 0..STRIDE.min(records - sent) {
            let record = RecordRef::new(None, sender.payload.next(stamp));
            let delivery = match sender.topic.try_send(&record) {
                Err(SendError::Full) => {
                    flight.drain(now);
                    if !flight.is_sound() {
                        return Ok(());
                    }
                    let delivery = sender.topic.send_record(&record).await?;
                    flight.push(now, delivery);
                    now = Instant::now();
                    stamp = clock.wall.plus(now - clock.start);
                    continue;
                }
                result => result?,
            };
            flight.push(now, delivery);
        }
        sent += STRIDE.min(records - sent);
        flight.drain(Instant::now());
    }
    Ok(())
}

/// Sends each record when it is due, however the earlier ones fare.
async fn open_loop(
    sender: &mut Sending<'_>,
    clock: Clock,
    (records, pacer): (u64, Pacer),
    flight: &mut Flight<'_>,
) -> Result<(), SendError> {
    let mut timer = Timer::new().map_err(timer_failed)?;
    let mut sent = 0;
    while sent < records && !sender.stop.is_wanted() && flight.is_sound() {
        let due = pacer.due_by(clock.start.elapsed()).min(records);
        for sequence in sent..due {
            let intended = pacer.due_at(sequence);
            let record = RecordRef::new(None, sender.payload.next(clock.wall.plus(intended)));
            let delivery = match sender.topic.try_send(&record) {
                Err(SendError::Full) => {
                    flight.drain(Instant::now());
                    if !flight.is_sound() || sender.stop.is_wanted() {
                        return Ok(());
                    }
                    sender.topic.send_record(&record).await?
                }
                result => result?,
            };
            flight.push(clock.start + intended, delivery);
        }
        sent = due;
        flight.drain(Instant::now());
        let wait = pacer.due_at(sent).saturating_sub(clock.start.elapsed()).max(WAIT_MIN);
        let mut wait = std::pin::pin!(timer.sleep(wait));
        // Acks that come during the wait are looked at as they come: their time is what is measured.
        loop {
            tokio::select! {
                biased;
                () = flight.any_settled() => flight.drain(Instant::now()),
                slept = &mut wait => break slept.map_err(timer_failed)?,
            }
        }
    }
    Ok(())
}

fn timer_failed(error: std::io::Error) -> SendError {
    SendError::Client(tidelog_client::ClientError::Argument(format!("the kernel gives no timer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory;
        ProducerCommand::command().debug_assert();
    }

    #[test]
    fn a_rate_of_minus_one_and_a_size_too_small() {
        let parsed = ProducerCommand::try_parse_from(["perf-producer", "--throughput", "-1"]).unwrap();
        assert_eq!(parsed.throughput, Throughput::Unlimited);
        let refused = ProducerCommand::try_parse_from(["perf-producer", "--record-size", "7"]).unwrap_err();
        assert!(refused.to_string().contains("needs 8 bytes for its send time"));
        let refused = ProducerCommand::try_parse_from(["perf-producer", "--record-size", "0"]).unwrap_err();
        assert!(
            refused.to_string().contains("needs 8 bytes for its send time"),
            "one refusal is not to lead to another"
        );
        let refused = ProducerCommand::try_parse_from(["perf-producer", "--recods", "7"]).unwrap_err();
        assert!(refused.to_string().contains("--records"));
    }

    #[test]
    fn idempotence_may_be_said_without_a_value_and_transactions_only_refuse_its_opposite() {
        let parsed =
            |arguments: &[&str]| ProducerCommand::try_parse_from([&["perf-producer"], arguments].concat()).unwrap();
        assert_eq!(parsed(&["--idempotent", "--topic", "t"]).idempotent, Some(true));
        assert_eq!(parsed(&["--idempotent", "false"]).idempotent, Some(false));
        let exit = |arguments: &[&str]| parsed(arguments).check().map_err(|refused| refused.exit());
        assert_eq!(exit(&["--idempotent", "true", "--transaction-records", "500"]), Ok(()));
        assert_eq!(exit(&["--idempotent", "--transaction-records", "500", "--transactional-id", "x"]), Ok(()));
        assert_eq!(exit(&["--idempotent", "false", "--transaction-records", "500"]), Err(Exit::Usage));
        assert_eq!(exit(&["--transactional-id", "x"]), Err(Exit::Usage));
    }

    #[test]
    fn compressed_runs_send_text_unless_told_otherwise() {
        let content = |arguments: &[&str]| {
            ProducerCommand::try_parse_from([&["perf-producer"], arguments].concat()).unwrap().content()
        };
        assert_eq!(content(&[]), Content::Random);
        assert_eq!(content(&["--compression", "zstd"]), Content::Text);
        assert_eq!(content(&["--compression", "zstd", "--content", "random"]), Content::Random);
    }
}
