//! `tidelog verify`: runs a workload against a cluster and judges whether it kept its promises.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use tidelog_client::{Admin, Client, ClientError, ErrorCode, NewTopic, Offset, PartitionId, Position, TopicName};

use super::Context;
use super::topics::{parse_config, print};
use crate::connect::{failure, unknown_topic};
use crate::duration::parse_duration;
use crate::exit::{Exit, Failure};
use crate::perf::live_rate::{LiveCount, SAMPLE_EVERY, Visible};
use crate::stop_signal::StopSignal;
use crate::verify::events::{Event, HistoryWriter};
use crate::verify::judge::judge;
use crate::verify::last_reading::{self, LastReadingError};
use crate::verify::verdict::{Conclusion, Verdict};
use crate::verify::workload::{self, Counts, Workload};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Producers write unique values with acks=all, consumers read along; at the end fresh consumers read everything, and the history of it all is
judged: was something acknowledged and lost, does something stand twice, does a producer's record stand behind a later one of it, was
something read that nobody sent, was a consumer handed something twice or never. Meanwhile you may kill brokers. Without idempotent producers a record may stand twice where an
acknowledgement was lost.

Memory: 24 bytes for each record sent (--records-max bounds it), 1,000 waiting records for each producer and partition, and 100 findings of
each kind. The history takes about 300 bytes of disk for each record.

Ends with exit code 0 where everything holds, 1 where something is violated, 8 where nothing is but something that was acknowledged was deleted
(by order or by retention) before it could be checked, 9 where nothing was acknowledged, so that there was nothing to judge, and 4 where
something else stood in the way of a verdict.

Examples:
  tidelog verify --duration 60s --replication-factor 3
  tidelog verify --topic there-already --rate 500 --output json
  tidelog verify --idempotent false --duration 5m
  tidelog verify --judge history.jsonl")]
pub struct VerifyArgs {
    /// How long to send, such as 60s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// Replicas of the topic that is created; the cluster's default if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "topic")]
    replication_factor: Option<u16>,
    /// Partitions of the topic that is created.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "topic")]
    partitions: u32,
    /// A configuration value of the topic that is created; may be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_config, conflicts_with = "topic")]
    config: Vec<(String, String)>,
    /// A topic that exists, instead of one of its own; what others write there is left aside.
    #[arg(long)]
    topic: Option<TopicName>,
    /// How many producers.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: u32,
    /// Records a second, all producers together.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Whether producers are idempotent: then nothing may stand twice, whatever acknowledgements were lost.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    idempotent: bool,
    /// Send this many records at most; bounds memory and disk.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    records_max: u64,
    /// How long partitions may take to be readable at the end.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    heal: Duration,
    /// Where the history goes; without it, to a temporary file that is kept only where something is violated.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Only judge the history of an earlier run.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "topic", "replication_factor", "config"])]
    judge: Option<PathBuf>,
}

pub(super) async fn run(args: VerifyArgs, context: &Context) -> Result<Exit, Failure> {
    if let Some(path) = &args.judge {
        return conclude(judged(path)?, path, context);
    }
    let client = context.connect.client("tidelog-verify").await?;
    let run = format!("verify-{:08x}", fastrand::u32(..));
    let path = args.history.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("tidelog-{run}.jsonl")));
    let history = Arc::new(HistoryWriter::create(&path).map_err(|error| Failure::file(path.display(), &error))?);
    let topic = OwnTopic { name: run.clone(), may_be_there: AtomicBool::new(false) };
    let mut stop = StopSignal::listen()?;
    let worked = tokio::select! {
        worked = work(&client, &args, run, &history, &topic) => worked,
        () = stop.received() => Err(Failure::new(Exit::Interrupted, "interrupted before there was a verdict")),
    };
    let noted = history.flush().map_err(|error| Failure::file(path.display(), &error));
    let worked = worked.and(noted).map_err(|failure| without_verdict(failure, &path));
    let verdict = worked.and_then(|()| judged(&path)).map_err(|failure| topic.left_by(failure))?;
    // What was violated stays for whoever looks into it.
    if verdict.conclusion() != Conclusion::Violated {
        if topic.may_be_there.load(Ordering::Relaxed) {
            let deleted = client.admin().delete_topic(&topic.name).await;
            deleted.map_err(|error| topic.left_by(failure(error)))?;
        }
        if args.history.is_none() {
            std::fs::remove_file(&path).map_err(|error| Failure::file(path.display(), &error))?;
        }
    }
    conclude(verdict, &path, context)
}

/// The topic of a run that makes its own.
#[derive(Debug)]
struct OwnTopic {
    name: String,
    may_be_there: AtomicBool,
}

impl OwnTopic {
    /// Says which topic a run that failed has left behind.
    fn left_by(&self, failure: Failure) -> Failure {
        match self.may_be_there.load(Ordering::Relaxed) {
            true => failure
                .suffix(format!("its topic {} is left behind", self.name))
                .hint(format!("tidelog topics delete {}", self.name)),
            false => failure,
        }
    }
}

/// Names the history of a run that came to no verdict; one that never began leaves none.
fn without_verdict(failure: Failure, path: &Path) -> Failure {
    let is_empty = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    match is_empty && std::fs::remove_file(path).is_ok() {
        true => failure,
        false => failure.suffix(format!("the history so far: {}", path.display())),
    }
}

/// Creates a topic whose name nobody else has. A broker that goes away meanwhile leaves it unknown whether it was created: then it is asked
/// for again, and one that is there by then is this one.
async fn create_own(admin: &Admin, topic: &NewTopic, own: &OwnTopic) -> Result<(), ClientError> {
    let mut may_be_there = false;
    own.may_be_there.store(true, Ordering::Relaxed);
    for is_last in [false, false, true] {
        match admin.create_topic(topic).await {
            Ok(_) => break,
            Err(error) if may_be_there && error.code() == Some(ErrorCode::TopicExists) => break,
            Err(ClientError::Disconnected { .. }) if !is_last => may_be_there = true,
            Err(error) => {
                own.may_be_there.store(may_be_there || error.outcome_is_unknown(), Ordering::Relaxed);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Sends, reads along, and reads everything at the end.
async fn work(
    client: &Client,
    args: &VerifyArgs,
    run: String,
    history: &Arc<HistoryWriter>,
    own: &OwnTopic,
) -> Result<(), Failure> {
    let admin = client.admin();
    let (topic, own_topic) = match &args.topic {
        Some(topic) => (topic.to_string(), false),
        None => {
            let mut topic = NewTopic::named(&run).partitions(args.partitions);
            topic = args.replication_factor.into_iter().fold(topic, NewTopic::replication_factor);
            topic = args.config.iter().fold(topic, |topic, (key, value)| topic.config(key, value));
            create_own(&admin, &topic, own).await.map_err(failure)?;
            (run.clone(), true)
        }
    };
    let begins = begins(&admin, &topic).await?;
    let begin = Event::Begin {
        run: run.clone(),
        topic: topic.clone(),
        own_topic,
        partitions: begins.len() as u32,
        producers: args.producers,
        idempotent: args.idempotent,
    };
    let cannot_write = |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot go on: {error}"));
    history.note(begin).map_err(cannot_write)?;
    let acked_ends = begins.iter().map(|_| AtomicU64::new(0)).collect();
    let counts = Arc::new(Counts { acked_ends, ..Counts::default() });
    let work = Arc::new(Workload {
        run,
        topic: topic.clone(),
        begins,
        producers: args.producers,
        idempotent: args.idempotent,
        rate: args.rate,
        records_max: args.records_max,
        duration: args.duration,
    });
    {
        let line = LiveCount::new("acknowledged", Visible::Yes);
        let working = workload::run(client, work.clone(), history.clone(), counts.clone());
        let mut working = std::pin::pin!(working);
        let worked = loop {
            tokio::select! {
                worked = &mut working => break worked,
                () = tokio::time::sleep(SAMPLE_EVERY) => line.show(counts.acked.load(Ordering::Relaxed)),
            }
        };
        line.clear();
        worked.map_err(cannot_write)?;
    }
    match last_reading::read(client, &work, &counts, args.heal, history).await {
        Ok(()) => Ok(()),
        Err(error @ LastReadingError::History(_)) => Err(Failure::new(Exit::Failed, error.to_string())),
        Err(error @ LastReadingError::Unreadable { .. }) => {
            Err(Failure::new(Exit::Unavailable, format!("there is no verdict: {error}")))
        }
    }
}

/// Where the partitions of a topic end now.
async fn begins(admin: &Admin, topic: &str) -> Result<Vec<Offset>, Failure> {
    let metadata = admin.metadata().await.map_err(failure)?;
    let found = metadata.topics.iter().find(|found| found.name.as_str() == topic);
    let partitions = found.ok_or_else(|| unknown_topic(topic))?.partitions.len() as u32;
    let queries: Vec<_> = (0..partitions).map(|partition| (PartitionId(partition), Position::LATEST)).collect();
    let answers = admin.list_offsets(topic, &queries).await.map_err(failure)?;
    Ok(answers.iter().map(|answer| answer.offset.unwrap_or_default()).collect())
}

fn judged(path: &Path) -> Result<Verdict, Failure> {
    judge(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            Failure::new(Exit::Unavailable, format!("there is no verdict: {}: {error}", path.display()))
        }
        _ => Failure::file(path.display(), &error),
    })
}

fn conclude(verdict: Verdict, path: &Path, context: &Context) -> Result<Exit, Failure> {
    let (mut text, mut document) = (verdict.text(), verdict.json());
    if path.exists() {
        text.push_str(&format!("History     {}\n", path.display()));
        document["history"] = path.display().to_string().into();
    }
    print(context, &text, || document)?;
    Ok(match verdict.conclusion() {
        Conclusion::Holds => Exit::Done,
        Conclusion::Violated => Exit::Failed,
        Conclusion::NothingToJudge => Exit::NoVerdict,
        Conclusion::Unchecked => {
            verdict.gap().into_iter().for_each(|gap| eprintln!("{gap}"));
            Exit::Partial
        }
    })
}
