//! `tidelog consume --group`: as a member of a group, which goes on where the group stopped. A record is committed only once its line left
//! this process. Knows nothing of arguments.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use tidelog_client::messages::CommittedOffset;
use tidelog_client::{
    Client, CommitMode, ConsumeError, ConsumerRecord, GroupConsumer, GroupError, Isolation, Offset, PartitionId,
    Position, Start, TopicId, TopicName,
};

use super::Context;
use super::consume::{consume_failure, outcome};
use super::offsets::topic_and_partitions;
use crate::byte_size::counted;
use crate::connect::{failure, refusal, send_failure};
use crate::contact::until_lost;
use crate::exit::{Exit, Failure};
use crate::record_format::{PrintedRecord, RecordFormat};
use crate::stop_signal::StopSignal;

/// How long records may be printed before they are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// After how much silence it is looked whether there is anything left.
const SILENCE: Duration = Duration::from_millis(200);

/// What is read as a member of a group.
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) topic: TopicName,
    pub(super) start: Start,
    pub(super) until_end: bool,
    pub(super) isolation: Isolation,
    pub(super) max: Option<u64>,
    pub(super) format: RecordFormat,
}

impl Membership {
    /// True where only an interrupt can end it.
    const fn follows(&self) -> bool {
        !self.until_end && self.max.is_none()
    }
}

/// What was the end, as the member sees it, when the command started.
struct End {
    topic_id: TopicId,
    partitions: Vec<(PartitionId, Offset)>,
}

pub(super) async fn run(membership: Membership, context: &Context) -> Result<Exit, Failure> {
    // From here on: whatever was joined is left before the process ends.
    let mut stop = StopSignal::listen()?;
    let stopped = if membership.follows() { Exit::Done } else { Exit::Interrupted };
    let connecting = async {
        // Reading goes on for longer than the timeout: it bounds only how long each answer is waited for.
        let client = context.connect.in_time(context.connect.client("tidelog")).await?;
        let end = context.connect.in_time(end(&client, &membership)).await?;
        Ok((client, end))
    };
    let (client, end) = tokio::select! {
        connected = connecting => connected?,
        () = stop.received() => return Ok(stopped),
    };
    let builder = client.group(&membership.group).topics([membership.topic.as_str()]);
    let joining = async {
        builder
            .start(membership.start)
            .isolation(membership.isolation)
            .commit(CommitMode::Manual)
            .build()
            .await
            .map_err(group_failure)
    };
    // Whoever has asked to join may be a member already.
    let Some(joined) = stop.unless_again(context.connect.in_time(joining)).await else {
        return Ok(Exit::Interrupted);
    };
    let mut consumer = joined?;
    context.verbosity.say(format!("joined group '{}' as {}", membership.group, consumer.member_id()));
    let mut printing = Printing { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()), printed: 0 };
    let silence_max = context.connect.silence_max(membership.follows());
    let ended = tokio::select! {
        biased;
        () = stop.received() => Ok(stopped),
        ended = read(&client, &mut consumer, &membership, end.as_ref(), &mut printing) => ended,
        failure = until_lost(&client, &context.connect.server, silence_max) => {
            // Nobody is there to commit to, or to take leave of.
            return outcome(printing.out.flush()).unwrap_or(Err(failure));
        }
    };
    let leaving = async {
        // What is printed is done, whatever ended it.
        let flushed = printing.settle(&mut consumer).await;
        (flushed, consumer.leave().await.map_err(group_failure))
    };
    let Some((flushed, left)) = stop.unless_again(leaving).await else { return Ok(Exit::Interrupted) };
    context.verbosity.say(counted(printing.printed, "record"));
    let exit = ended?;
    if let Some(broken) = flushed? {
        return Ok(broken);
    }
    left.map(|()| exit)
}

async fn read(
    client: &Client,
    consumer: &mut GroupConsumer,
    membership: &Membership,
    end: Option<&End>,
    printing: &mut Printing<impl Write>,
) -> Result<Exit, Failure> {
    let mut settled = Instant::now();
    loop {
        if membership.max == Some(printing.printed) {
            return Ok(Exit::Done);
        }
        let next = tokio::time::timeout(SILENCE, consumer.next()).await;
        let is_silent = next.is_err();
        if let Ok(next) = next {
            let Some(record) = next else { return Err(Failure::new(Exit::Failed, "the member has left its group")) };
            printing
                .print(record.map_err(|error| read_failure(error, &membership.group))?, &membership.format)
                .map_err(|error| Failure::stdout(&error))?;
        }
        if is_silent || settled.elapsed() >= COMMIT_EVERY {
            if let Some(broken) = printing.settle(consumer).await? {
                return Ok(broken);
            }
            settled = Instant::now();
        }
        if is_silent
            && let Some(end) = end
            && end.is_reached(client, &membership.group).await?
        {
            return Ok(Exit::Done);
        }
    }
}

/// Where the topic ends now, where that is where to stop.
async fn end(client: &Client, membership: &Membership) -> Result<Option<End>, Failure> {
    let topic = &membership.topic;
    // Also to say at once that there is no such topic.
    let (topic_id, partitions) = topic_and_partitions(client, topic, &[]).await?;
    if !membership.until_end {
        return Ok(None);
    }
    let queries: Vec<_> = partitions.iter().map(|partition| (*partition, Position::LATEST)).collect();
    let asked = client.admin().list_offsets_seen_by(topic.as_str(), &queries, membership.isolation).await;
    let answers = asked.map_err(failure)?;
    if let Some(fault) = answers.iter().find_map(|answer| answer.fault.clone()) {
        return Err(refusal(&fault.into()));
    }
    let ends = partitions.into_iter().zip(answers.iter().map(|answer| answer.offset.unwrap_or_default()));
    Ok(Some(End { topic_id, partitions: ends.collect() }))
}

impl End {
    /// The group has come so far in every partition, whichever member it was.
    async fn is_reached(&self, client: &Client, group: &str) -> Result<bool, Failure> {
        let committed = client.admin().group_offsets(group).await.map_err(failure)?;
        let reached = |partition: PartitionId| {
            let is_it = |known: &&CommittedOffset| known.topic_id == self.topic_id && known.partition == partition;
            committed.iter().find(is_it).map_or(Offset::ZERO, |known| known.offset)
        };
        Ok(self.partitions.iter().all(|(partition, end)| reached(*partition) >= *end))
    }
}

/// What goes to standard output.
struct Printing<W: Write> {
    out: BufWriter<W>,
    printed: u64,
}

impl<W: Write> Printing<W> {
    fn print(&mut self, record: &ConsumerRecord, format: &RecordFormat) -> io::Result<()> {
        let headers = if format.prints_headers() {
            record.headers().map(|header| (header.key, header.value)).collect()
        } else {
            Vec::new()
        };
        let printed = PrintedRecord {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers,
        };
        self.printed += 1;
        format.write(&printed, &mut self.out)
    }

    /// Has all lines leave this process, then commits their records. Says how to end where the reader closed the pipe.
    async fn settle(&mut self, consumer: &mut GroupConsumer) -> Result<Option<Exit>, Failure> {
        if let Some(broken) = outcome(self.out.flush()) {
            return broken.map(Some);
        }
        consumer.done();
        match consumer.commit().await {
            Ok(()) => Ok(None),
            // Whoever owns them now gets them again, and this member goes on with what it has.
            Err(GroupError::Fenced { .. } | GroupError::NotOwned { .. }) => Ok(None),
            Err(error) => Err(group_failure(error)),
        }
    }
}

/// As [`group_failure`]; where the group is to go on at what is not there, whoever sets that is the group's, and not an argument's.
fn read_failure(error: GroupError, group: &str) -> Failure {
    let GroupError::Consume(ConsumeError::OffsetOutOfRange { topic, partition, .. }) = &error else {
        return group_failure(error);
    };
    let reset = format!("tidelog groups reset-offsets {group} --topic {topic} --partition {partition} --to");
    let hint = format!("set where the group goes on: '{reset} beginning', or '{reset} end'");
    group_failure(error).hint(hint)
}

/// What it means to a script that a group cannot be read.
pub(crate) fn group_failure(error: GroupError) -> Failure {
    match error {
        GroupError::Client(error) => failure(error),
        GroupError::Consume(error) => consume_failure(error),
        GroupError::DeadLetter { topic, partition, offset, source, .. } => {
            send_failure(source).prefix(format!("offset {offset} of partition {partition} of '{topic}'"))
        }
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_whose_place_is_gone_is_told_how_to_set_another() {
        let gone = ConsumeError::OffsetOutOfRange {
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(1),
            offset: Offset(5),
            log_start: Offset(10),
            log_end: Offset(20),
        };
        let told = read_failure(gone.into(), "printers").to_string();
        let reset = "tidelog groups reset-offsets printers --topic logs --partition 1 --to beginning";
        assert!(told.contains(reset) && !told.contains("--from"), "{told}");
    }
}
