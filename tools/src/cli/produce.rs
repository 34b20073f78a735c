//! `tidelog produce`: lines become records. A thread reads and cuts, this task sends and watches over the deliveries.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Args;
use serde_json::json;
use tidelog_client::producer::HeaderRef;
use tidelog_client::{Delivery, PartitionId, RecordRef, TopicName, TopicProducer};
use tokio::sync::mpsc;

use super::topics::{parse_pair, print};
use super::{Context, Verbosity, produce_transactions};
use crate::byte_size::{counted, display_byte_size};
use crate::connect::{failure, send_failure};
use crate::duration::parse_timeout;
use crate::escape::unescape_separator;
use crate::exit::{Exit, Failure};
use crate::lines::LineSplitter;
use crate::output::OutputFormat;
use crate::perf::live_rate::{LiveCount, Visible};
use crate::producer_args::ProducerArgs;
use crate::stop_signal::StopSignal;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// The longest line: what the largest batch of a client can hold.
const LINE_BYTES_MAX: usize = 32 << 20;

/// Deliveries waited for at once: bounds the memory that counting them takes where lines are short.
const DELIVERIES_MAX: usize = 100_000;

/// Arguments of `produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line is the bytes up to a newline (which is not part of it); nothing is decoded or trimmed. A last line without a newline
counts as a line. Returns once every record is acknowledged.

Examples:
  tidelog produce logs < app.log
  tidelog produce logs app.log --compression zstd
  tidelog produce logs app.log --transactional-id import-1
  printf 'k1\\tv1\\nk2\\tv2\\n' | tidelog produce pairs --key-separator '\\t' --header origin=shell")]
pub struct ProduceArgs {
    /// The topic; it must exist.
    pub(super) topic: TopicName,
    /// The file whose lines are written; standard input if absent or '-'.
    file: Option<PathBuf>,
    /// What stands between key and value in each line; \t, \0 and \xNN are understood.
    #[arg(short, long, value_name = "TEXT", value_parser = unescape_separator)]
    pub(super) key_separator: Option<Bytes>,
    /// A header for every record; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    pub(super) header: Vec<(String, String)>,
    /// Write to this partition instead of spreading by key.
    #[arg(short, long, value_name = "N")]
    pub(super) partition: Option<u32>,
    /// Write within transactions under this id: the lines of each are seen together or not at all. Whoever else has the id is fenced.
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// Lines in each transaction; all in one if absent, which then has as much time as a transaction may take.
    #[arg(long, value_name = "N", requires = "transactional_id", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records_per_transaction: Option<u64>,
    /// How long each transaction may be open, from its first line on, before it is undone; as the broker has it if absent (1 min).
    #[arg(long, value_name = "DURATION", requires = "transactional_id", value_parser = parse_timeout)]
    pub(super) transaction_timeout: Option<Duration>,
    /// Batching and acknowledgement.
    #[command(flatten)]
    pub(super) producer: ProducerArgs,
}

/// Reads `name=value`.
fn parse_header(text: &str) -> Result<(String, String), String> {
    parse_pair(text, "NAME=VALUE")
}

pub(super) async fn run(args: ProduceArgs, context: &Context) -> Result<Exit, Failure> {
    let input = Input::open(args.file.clone())?;
    if let Some(id) = args.transactional_id.clone() {
        return produce_transactions::run(id, args, input, context).await;
    }
    let opened = async {
        let client = context.connect.client("tidelog").await?;
        let producer = args.producer.apply(client.producer()).delivery_timeout(context.connect.timeout());
        let producer = producer.build().map_err(failure)?;
        let topic = producer.topic(args.topic.as_str()).await.map_err(failure)?;
        Ok((producer, topic))
    };
    let (producer, topic) = context.connect.in_time(opened).await?;
    check_partition(&args, &topic)?;
    if input.is_terminal() {
        context.verbosity.say("type lines to write them; Ctrl-D ends");
    }
    let typed = input.is_terminal() || context.verbosity == Verbosity::Quiet;
    let live = LiveCount::new("producing", if typed { Visible::No } else { Visible::Yes });
    let start = Instant::now();
    let mut chunks = input.read_lines();
    let mut sending = Sending { args: &args, topic: &topic, waiting: VecDeque::new(), tally: Tally::default() };
    let mut stop = StopSignal::listen()?;
    let ended = loop {
        let chunk = tokio::select! {
            biased;
            () = stop.received() => break Ok(Exit::Interrupted),
            chunk = chunks.recv() => chunk,
        };
        let sent = match chunk {
            Some(Ok(lines)) => sending.send(&lines).await,
            Some(Err(refused)) => Err(refused),
            None => break Ok(Exit::Done),
        };
        live.show(sending.tally.written);
        if let Err(refused) = sent {
            break Err(refused);
        }
    };
    // Whatever ended it: what was taken is delivered. Each delivery tells its own failure.
    let _ = producer.flush().await;
    let settled = sending.settle().await;
    live.clear();
    let written = counted(sending.tally.written, "record");
    let exit =
        ended.and_then(|exit| settled.map(|()| exit)).map_err(|refused| refused.suffix(format!("{written} written")));
    report(&sending.tally, &args, start, context)?;
    exit
}

/// Refuses a partition that the topic does not have.
pub(super) fn check_partition(args: &ProduceArgs, topic: &TopicProducer) -> Result<(), Failure> {
    let partitions = topic.partitions();
    let Some(missing) = args.partition.filter(|partition| *partition >= partitions) else { return Ok(()) };
    let has = counted(partitions, "partition");
    let text = format!("topic '{}' has {has}, numbered from 0; there is no partition {missing}", args.topic);
    Err(Failure::new(Exit::NotFound, text))
}

/// Says what was written: JSON where it was asked for, a closing line where talking.
pub(super) fn report(tally: &Tally, args: &ProduceArgs, start: Instant, context: &Context) -> Result<(), Failure> {
    let seconds = start.elapsed().as_secs_f64();
    if context.output == OutputFormat::Json {
        return print(context, "", || {
            json!({
                "topic": args.topic.as_str(),
                "records": tally.written,
                "bytes": tally.bytes,
                "failed": tally.taken - tally.written,
                "seconds": (seconds * 1e6).round() / 1e6,
            })
        });
    }
    let (records, bytes) = (counted(tally.written, "record"), display_byte_size(tally.bytes));
    context.verbosity.say(format!("wrote {records} ({bytes}) to '{}' in {seconds:.2} s", args.topic));
    Ok(())
}

/// How many records were taken and written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) taken: u64,
    pub(super) written: u64,
    /// Bytes of keys and values taken.
    pub(super) bytes: u64,
}

/// Records on their way.
struct Sending<'a> {
    args: &'a ProduceArgs,
    topic: &'a TopicProducer,
    waiting: VecDeque<Delivery>,
    tally: Tally,
}

impl Sending<'_> {
    /// Sends lines; returns once they are in batches, and the failure of any earlier one that is known by now.
    async fn send(&mut self, lines: &[Bytes]) -> Result<(), Failure> {
        let headers: Vec<HeaderRef<'_>> =
            self.args.header.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect();
        for line in lines {
            let (key, value) = key_and_value(self.args, line).map_err(|refused| self.at_line(refused))?;
            let partition = self.args.partition.map(PartitionId);
            let record = RecordRef { partition, key, value: Some(value), headers: &headers, timestamp: None };
            let delivery = self.topic.send_record(&record).await.map_err(|error| self.at_line(send_failure(error)))?;
            self.waiting.push_back(delivery);
            self.tally.taken += 1;
            self.tally.bytes += (key.map_or(0, <[u8]>::len) + value.len()) as u64;
            if self.waiting.len() >= DELIVERIES_MAX {
                self.settle_one().await?;
            }
        }
        while self.waiting.front().is_some_and(|delivery| delivery.now().is_some()) {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Waits for the oldest delivery.
    async fn settle_one(&mut self) -> Result<(), Failure> {
        let Some(delivery) = self.waiting.pop_front() else { return Ok(()) };
        delivery.await.map_err(send_failure)?;
        self.tally.written += 1;
        Ok(())
    }

    /// Waits for all deliveries; the first failure is told once all are settled.
    async fn settle(&mut self) -> Result<(), Failure> {
        let mut first = Ok(());
        while !self.waiting.is_empty() {
            let settled = self.settle_one().await;
            first = first.and(settled);
        }
        first.map_err(|refused| {
            let missing = self.tally.taken - self.tally.written;
            refused.prefix(format!("{} of {} records were not written", missing, self.tally.taken))
        })
    }

    fn at_line(&self, refused: Failure) -> Failure {
        refused.prefix(format!("line {}", self.tally.taken + 1))
    }
}

/// What a line is to be written as.
pub(super) fn key_and_value<'a>(args: &ProduceArgs, line: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), Failure> {
    let Some(separator) = &args.key_separator else { return Ok((None, line)) };
    let no_key = || {
        let separator = String::from_utf8_lossy(separator);
        Failure::new(Exit::Failed, format!("there is no key separator {separator:?}"))
    };
    split_key(line, separator).map(|(key, value)| (Some(key), value)).ok_or_else(no_key)
}

/// Key and value of a line: what stands before and after the first separator.
fn split_key<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// Where lines come from.
pub(super) enum Input {
    Stdin,
    File(File, PathBuf),
}

impl Input {
    fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Stdin),
            Some(path) if path.as_os_str() == "-" => Ok(Self::Stdin),
            Some(path) => match File::open(&path) {
                Ok(file) => Ok(Self::File(file, path)),
                Err(error) => Err(Failure::file(path.display(), &error)),
            },
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdin) && std::io::stdin().is_terminal()
    }

    /// Lines, chunk by chunk, read by a thread of its own: a read from a terminal or pipe cannot be called off, and the
    /// thread must not hold up the end of the process.
    pub(super) fn read_lines(self) -> mpsc::Receiver<Result<Vec<Bytes>, Failure>> {
        let (sender, receiver) = mpsc::channel(4);
        std::thread::spawn(move || {
            let result = match self {
                Self::Stdin => cut(std::io::stdin().lock(), "standard input", &sender),
                Self::File(file, path) => cut(file, &path.display().to_string(), &sender),
            };
            if let Err(refused) = result {
                // Nobody listens any more where the command has ended.
                let _ = sender.blocking_send(Err(refused));
            }
        });
        receiver
    }
}

fn cut(mut input: impl Read, name: &str, sender: &mpsc::Sender<Result<Vec<Bytes>, Failure>>) -> Result<(), Failure> {
    let mut splitter = LineSplitter::new(LINE_BYTES_MAX);
    loop {
        let mut buffer = BytesMut::zeroed(CHUNK_BYTES);
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::file(name, &error)),
        };
        let chunk = buffer.freeze().slice(..length);
        let mut lines = Vec::new();
        let pushed = splitter.push(&chunk, &mut lines);
        if !lines.is_empty() && sender.blocking_send(Ok(lines)).is_err() {
            return Ok(());
        }
        pushed.map_err(|refused| {
            let limit = display_byte_size(refused.bytes_max as u64);
            Failure::new(Exit::Failed, format!("{name}: line {} is longer than {limit}", refused.line))
        })?;
    }
    if let Some(last) = splitter.finish() {
        // Nobody takes it where sending has ended, which says why by itself.
        let _ = sender.blocking_send(Ok(vec![last]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_ends_the_key() {
        assert_eq!(split_key(b"k\tv\tw", b"\t"), Some((&b"k"[..], &b"v\tw"[..])));
        assert_eq!(split_key(b"::v", b"::"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split_key(b"k::", b"::"), Some((&b"k"[..], &b""[..])));
        assert_eq!(split_key(b"no key", b"\t"), None);
        assert_eq!(split_key(b"", b"\t"), None);
    }

    #[tokio::test]
    async fn a_file_is_cut_into_its_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(3 * CHUNK_BYTES);
        std::fs::write(file.path(), format!("one\r\n{long}\nlast")).unwrap();
        let mut chunks = Input::open(Some(file.path().into())).unwrap().read_lines();
        let mut lines = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            lines.extend(chunk.unwrap());
        }
        assert_eq!(lines, [b"one\r", long.as_bytes(), b"last"]);
    }

    #[test]
    fn a_missing_file_is_told_by_its_name() {
        let refused = Input::open(Some("/nonexistent/app.log".into())).err().unwrap();
        assert_eq!(refused.exit(), Exit::NotFound);
        assert!(refused.to_string().contains("/nonexistent/app.log"));
    }
}
