//! `tidelog consume`: records become lines on standard output. Output is buffered while records keep coming and flushed before
//! every wait, so that following is prompt and reading a backlog is fast.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use clap::Args;
use tidelog_client::{BatchView, Client, ClientError, ConsumeError, PartitionId, Start, Survivor, TopicName};
use tidelog_protocol::{ErrorCode, WireError};

use super::Context;
use super::consume_group::{self, Membership};
use super::offsets::chosen_partitions;
use super::sources::{SourceError, Sources, Wanted};
use crate::byte_size::counted;
use crate::connect::{failure, refusal};
use crate::contact::until_lost;
use crate::exit::{Exit, Failure};
use crate::isolation::IsolationArg;
use crate::output::OutputFormat;
use crate::record_format::{FORMAT_HELP, PrintedRecord, RecordFormat};
use crate::start_position::StartPosition;
use crate::stop_signal::StopSignal;

/// Arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Follows the topic until Ctrl-C, unless --until-end or --max says where to stop.

Examples:
  tidelog consume logs --from beginning --until-end
  tidelog consume logs --from time:2026-01-31T12:00:00Z --max 100
  tidelog consume logs --group printers --from beginning
  tidelog consume logs --partition 0 --from offset:1000 --format '%o\\t%k\\t%v'
  tidelog consume logs --from beginning --until-end --format json | jq .value")]
pub struct ConsumeArgs {
    /// The topic.
    topic: TopicName,
    /// Where to start: beginning, end, offset:N or time:RFC3339. If absent: 'beginning' with --until-end, else 'end'.
    #[arg(long, value_name = "POSITION")]
    from: Option<StartPosition>,
    /// Stop at what was the end when the command started; where a transaction was open, at its first record; where no leader can be reached nor
    /// elected, at the end that another replica knows, with exit code 8.
    #[arg(long)]
    until_end: bool,
    /// Which records are shown: of committed transactions and of none, or all.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    isolation: IsolationArg,
    /// Stop after this many records.
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<u64>,
    /// How a record is printed: value, json or a template such as '%k\t%v'. With --output json the default is json.
    #[arg(short, long, value_name = "FORMAT", long_help = format!("How a record is printed: {FORMAT_HELP}"))]
    format: Option<RecordFormat>,
    /// Only this partition; may be given several times.
    #[arg(short, long, value_name = "N", conflicts_with = "group")]
    partition: Vec<u32>,
    /// Read as a member of this group: it goes on where the group stopped, shares the partitions with the other members, and commits what
    /// it printed. --from then says where to start in partitions that the group has not read yet; --until-end waits until the group
    /// has read up to what was the end.
    #[arg(short, long)]
    group: Option<String>,
}

impl ConsumeArgs {
    fn start(&self) -> StartPosition {
        let default = if self.until_end { StartPosition::Beginning } else { StartPosition::End };
        self.from.unwrap_or(default)
    }

    /// True where only an interrupt can end it, so that an interrupt is no failure.
    const fn follows(&self) -> bool {
        !self.until_end && self.max.is_none()
    }
}

/// How long a leader may be away before another replica is asked for what it knows; with a short timeout, a part of that.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// The same to the client.
#[must_use]
pub const fn client_start(position: StartPosition) -> Start {
    match position {
        StartPosition::Beginning => Start::Beginning,
        StartPosition::End => Start::End,
        StartPosition::Offset(offset) => Start::Offset(offset),
        StartPosition::Time(time) => Start::Timestamp(time),
    }
}

pub(super) async fn run(args: ConsumeArgs, context: &Context) -> Result<Exit, Failure> {
    let format = chosen_format(args.format.clone(), context.output)?;
    if let Some(group) = args.group.clone() {
        let start = client_start(args.start());
        let ConsumeArgs { topic, until_end, isolation, max, .. } = args;
        let isolation = isolation.isolation();
        let membership = Membership { group, topic, start, until_end, isolation, max, format };
        return consume_group::run(membership, context).await;
    }
    let (client, mut sources) = context.connect.in_time(open(&args, context)).await?;
    let mut lost = pin!(until_lost(&client, &context.connect.server, context.connect.silence_max(args.follows())));
    if args.follows() && args.start() == StartPosition::End {
        context.verbosity.say("waiting for new records; Ctrl-C ends (--from beginning shows what is there already)");
    }
    let mut printer = Printer {
        format,
        out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        left: args.max.unwrap_or(u64::MAX),
        printed: 0,
    };
    let mut stop = StopSignal::listen()?;
    let ended = loop {
        if printer.left == 0 {
            break Ok(Exit::Done);
        }
        let polled = {
            let mut next = pin!(sources.next(|batch| printer.print(&batch)));
            std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await
        };
        let batch = match polled {
            Poll::Ready(batch) => batch,
            Poll::Pending => {
                if let Some(ended) = outcome(printer.out.flush()) {
                    return ended;
                }
                tokio::select! {
                    batch = sources.next(|batch| printer.print(&batch)) => batch,
                    () = stop.received() => break Ok(if args.follows() { Exit::Done } else { Exit::Interrupted }),
                    failure = &mut lost => break Err(failure),
                }
            }
        };
        match batch {
            Ok(None) => break ended_elsewhere(&args.topic, sources.read_elsewhere()).map_or(Ok(Exit::Done), Err),
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(PrintError::Output(error)))) => {
                if let Some(ended) = outcome(Err(error)) {
                    return ended;
                }
            }
            Ok(Some(Err(PrintError::Batch(error)))) | Err(SourceError::Read(error)) => {
                break Err(consume_failure(error));
            }
            Err(SourceError::Late(failure)) => break Err(failure),
        }
    };
    if let Some(ended) = outcome(printer.out.flush()) {
        return ended;
    }
    context.verbosity.say(counted(printer.printed, "record"));
    ended
}

/// What a record is printed as. Whoever asked for JSON gets nothing else: programs read it.
fn chosen_format(asked: Option<RecordFormat>, output: OutputFormat) -> Result<RecordFormat, Failure> {
    match (asked, output) {
        (None | Some(RecordFormat::Json), OutputFormat::Json) => Ok(RecordFormat::Json),
        (Some(_), OutputFormat::Json) => {
            let sentence = "--output json prints each record as a JSON object; --format says something else";
            Err(Failure::new(Exit::Usage, sentence).hint("leave one of the two out"))
        }
        (asked, OutputFormat::Table) => Ok(asked.unwrap_or(RecordFormat::Value)),
    }
}

async fn open(args: &ConsumeArgs, context: &Context) -> Result<(Client, Sources), Failure> {
    // A little less: what is waited for is to be told in time, too.
    let first_by = Instant::now() + context.connect.timeout().mul_f32(0.9);
    let client = context.connect.client("tidelog").await?;
    let partitions = chosen_partitions(&client, &args.topic, &args.partition).await?;
    let wanted = Wanted {
        client: client.clone(),
        topic: args.topic.clone(),
        partitions,
        start: client_start(args.start()),
        until_end: args.until_end,
        isolation: args.isolation.isolation(),
        wait_until: args.until_end.then_some(first_by),
        first_by,
        leader_patience: LEADER_PATIENCE.min(context.connect.timeout() / 3),
        repair_patience: context.connect.silence_max(args.follows()),
    };
    Ok((client, Sources::open(wanted).await?))
}

/// What is not known to be all there is.
fn ended_elsewhere(topic: &TopicName, elsewhere: &BTreeMap<PartitionId, Survivor>) -> Option<Failure> {
    let (first, survivor) = elsewhere.first_key_value()?;
    let Survivor { broker, end } = survivor;
    let others = match elsewhere.len() {
        1 => String::new(),
        several => format!(" (and {} more likewise)", counted(several as u64 - 1, "partition")),
    };
    let sentence = format!(
        "partition {first} of '{topic}' was read up to offset {end}, as far as broker {broker} knows it{others}: its leader cannot be reached, and there may be more behind that"
    );
    Some(Failure::new(Exit::Partial, sentence))
}

/// How a failed write ends the command: quietly where the reader closed the pipe.
pub(super) fn outcome(result: io::Result<()>) -> Option<Result<Exit, Failure>> {
    match result {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(Ok(Exit::Done)),
        Err(error) => Some(Err(Failure::stdout(&error))),
    }
}

/// What a failed read means to a script.
#[must_use]
pub fn consume_failure(error: ConsumeError) -> Failure {
    match error {
        ConsumeError::OffsetOutOfRange { topic, partition, offset, log_start, log_end } => Failure::new(
            Exit::NotFound,
            format!("offset {offset} of partition {partition} of '{topic}' is not there: the log holds {log_start} up to, not including, {log_end}"),
        )
        .hint(format!("start with --from beginning, --from end or --from offset:{log_start}")),
        ConsumeError::Corrupt { .. } => Failure::new(Exit::Damaged, error.to_string())
            .hint("go on behind the damage with --from offset:N, a later offset than that one"),
        ConsumeError::Partition {
            topic,
            partition,
            source: ClientError::Broker(refused @ WireError { range: Some((_, next)), code: ErrorCode::CorruptLog, .. }),
        } => refusal(&refused)
            .prefix(format!("partition {partition} of '{topic}'"))
            .hint(format!("go on behind the damage with --from offset:{next}")),
        // Waited for as long as was asked.
        ConsumeError::Partition {
            topic,
            partition,
            source: ClientError::Broker(refused @ WireError { range: Some((_, next)), code: ErrorCode::Overloaded, .. }),
        } => refusal(&refused)
            .prefix(format!("partition {partition} of '{topic}'"))
            .hint(format!("see which replicas are away with 'tidelog partitions describe {topic}'; a longer wait may help (--timeout 60s), or go on behind the damage with --from offset:{next}")),
        ConsumeError::Partition { topic, partition, source } => {
            failure(source).prefix(format!("partition {partition} of '{topic}'"))
        }
        ConsumeError::Client(error) => failure(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

enum PrintError {
    Output(io::Error),
    Batch(ConsumeError),
}

/// Prints records until there are enough.
struct Printer<W: Write> {
    format: RecordFormat,
    out: BufWriter<W>,
    left: u64,
    printed: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, batch: &BatchView<'_>) -> Result<(), PrintError> {
        for record in batch.records() {
            if self.left == 0 {
                break;
            }
            let record = record.map_err(PrintError::Batch)?;
            let headers = if self.format.prints_headers() {
                record.headers.map(|header| (header.key, header.value)).collect()
            } else {
                Vec::new()
            };
            let printed = PrintedRecord {
                topic: batch.topic(),
                partition: batch.partition(),
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers,
            };
            self.format.write(&printed, &mut self.out).map_err(PrintError::Output)?;
            self.left -= 1;
            self.printed += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::{BrokerId, Offset};

    #[test]
    fn json_is_json_whatever_else_is_asked() {
        let chosen = |format: Option<&str>, output| chosen_format(format.map(|text| text.parse().unwrap()), output);
        assert_eq!(chosen(None, OutputFormat::Json), Ok(RecordFormat::Json));
        assert_eq!(chosen(Some("json"), OutputFormat::Json), Ok(RecordFormat::Json));
        assert_eq!(chosen(None, OutputFormat::Table), Ok(RecordFormat::Value));
        assert_eq!(chosen(Some("json"), OutputFormat::Table), Ok(RecordFormat::Json));
        for format in ["value", "%v"] {
            assert_eq!(chosen(Some(format), OutputFormat::Json).unwrap_err().exit(), Exit::Usage);
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        assert_eq!(outcome(Err(io::ErrorKind::BrokenPipe.into())), Some(Ok(Exit::Done)));
        assert!(matches!(outcome(Err(io::ErrorKind::WriteZero.into())), Some(Err(_))));
        assert_eq!(outcome(Ok(())), None);
    }

    #[test]
    fn an_offset_that_is_gone_is_told_with_what_there_is() {
        let refused = consume_failure(ConsumeError::OffsetOutOfRange {
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(1),
            offset: Offset(5),
            log_start: Offset(10),
            log_end: Offset(20),
        });
        assert_eq!(refused.exit(), Exit::NotFound);
        assert!(refused.to_string().contains("--from offset:10"), "{refused}");
    }

    #[test]
    fn a_batch_that_came_damaged_is_told_with_how_to_go_on() {
        let refused = consume_failure(ConsumeError::Corrupt {
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(1),
            offset: Offset(3),
            source: tidelog_protocol::records::BatchError::Truncated { needed: 61, available: 7 },
        });
        assert_eq!(refused.exit(), Exit::Damaged);
        assert!(refused.to_string().contains("--from offset:N"), "{refused}");
    }

    #[test]
    fn what_was_read_elsewhere_is_not_said_to_be_all() {
        let topic = TopicName::new("logs").unwrap();
        let survivor = Survivor { broker: BrokerId(3), end: Offset(40) };
        assert_eq!(ended_elsewhere(&topic, &BTreeMap::new()), None);
        let one = ended_elsewhere(&topic, &[(PartitionId(1), survivor)].into()).unwrap();
        assert_eq!(one.exit(), Exit::Partial);
        for part in ["partition 1 of 'logs'", "up to offset 40", "broker 3", "there may be more"] {
            assert!(one.to_string().contains(part), "{one}");
        }
        let two = ended_elsewhere(&topic, &[(PartitionId(1), survivor), (PartitionId(4), survivor)].into()).unwrap();
        assert!(two.to_string().contains("and 1 partition more"), "{two}");
    }

    #[test]
    fn damage_is_told_with_where_to_go_on() {
        let refusal = WireError {
            range: Some((Offset(3), Offset(7))),
            ..WireError::new(ErrorCode::CorruptLog, "offsets 3 to 7 are damaged")
        };
        let refused = consume_failure(ConsumeError::Partition {
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(1),
            source: ClientError::Broker(refusal),
        });
        assert_eq!(refused.exit(), Exit::Damaged);
        assert!(refused.to_string().contains("--from offset:7"), "{refused}");
    }

    #[test]
    fn damage_that_was_waited_for_in_vain_may_be_mended_later() {
        let refusal = WireError {
            range: Some((Offset(3), Offset(7))),
            ..WireError::new(
                ErrorCode::Overloaded,
                "offsets 3 to 7 are damaged and are being fetched from another replica",
            )
        };
        let refused = consume_failure(ConsumeError::Partition {
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(1),
            source: ClientError::Broker(refusal),
        });
        assert_eq!(refused.exit(), Exit::Unavailable);
        for part in ["--from offset:7", "partitions describe logs", "being fetched"] {
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
}
