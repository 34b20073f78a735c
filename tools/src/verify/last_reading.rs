//! Fresh consumers read everything when all is over. A partition may need a while until it has a leader again whose watermark has reached
//! what was acknowledged: that long they wait. Knows nothing of what is right.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidelog_client::{Client, ClientError, ConsumeError, Offset, PartitionId, Position, Start};
use tokio::time::Instant;

use super::events::{Event, HistoryWriter};
use super::workload::{Counts, Run, Workload};

/// What is read is waited for at least so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Before a partition is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no last reading.
#[derive(Debug, thiserror::Error)]
pub enum LastReadingError {
    /// The history cannot be written.
    #[error("cannot write the history: {0}")]
    History(#[from] io::Error),
    /// A partition cannot be read.
    #[error("partition {partition} cannot be read within {after:?}: {why}")]
    Unreadable {
        /// The partition.
        partition: u32,
        /// How long it was tried.
        after: Duration,
        /// What stood in the way last.
        why: String,
    },
}

/// Reads all partitions, from where the workload began.
///
/// # Errors
/// [`LastReadingError`].
pub async fn read(
    client: &Client,
    work: &Workload,
    counts: &Counts,
    patience: Duration,
    history: &HistoryWriter,
) -> Result<(), LastReadingError> {
    for (partition, begin) in work.begins.iter().enumerate() {
        let acked_end = counts.acked_ends.get(partition).map_or(0, |end| end.load(Ordering::Relaxed));
        let (number, deadline) = (partition as u32, Instant::now() + patience);
        let unreadable = |why: String| LastReadingError::Unreadable { partition: number, after: patience, why };
        let end = settled_end(client, &work.topic, number, acked_end, deadline).await.map_err(unreadable)?;
        let mut next = *begin;
        while next.0 < end {
            let why = match read_on(client, work, (number, &mut next), deadline, history).await? {
                Ok(()) => "it ends before the end that its leader told".to_string(),
                Err(Stopped::Deleted { before }) if before > next => {
                    history.note(Event::Deleted { partition: number, from: next.0, to: before.0 })?;
                    next = before;
                    continue;
                }
                Err(Stopped::Deleted { before }) => {
                    format!("offsets below {before} were deleted, and {next} is not there")
                }
                Err(Stopped::Unreadable(why)) => why,
            };
            if next.0 < end && Instant::now() >= deadline {
                return Err(unreadable(why));
            }
            if next.0 < end {
                tokio::time::sleep(PAUSE).await;
            }
        }
        history.note(Event::LastReadDone { partition: number, end: next.0 })?;
    }
    Ok(())
}

/// The end of a partition once it has reached `acked_end`, or as it is at the deadline.
async fn settled_end(
    client: &Client,
    topic: &str,
    partition: u32,
    acked_end: u64,
    deadline: Instant,
) -> Result<u64, String> {
    loop {
        let asked = client.admin().list_offsets(topic, &[(PartitionId(partition), Position::LATEST)]).await;
        let why = match asked.map(|answers| answers.first().and_then(|answer| answer.offset)) {
            Ok(Some(end)) if end.0 >= acked_end || Instant::now() >= deadline => return Ok(end.0),
            Ok(Some(_)) => String::new(),
            Ok(None) => "its leader tells no end".into(),
            Err(error @ (ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. })) => {
                return Err(error.to_string());
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a partition is not read to its end.
enum Stopped {
    /// What comes next was deleted.
    Deleted {
        /// The first offset that is left.
        before: Offset,
    },
    /// Something stands in the way.
    Unreadable(String),
}

/// Reads as far as it goes, and where nothing more comes no longer than to the deadline; the inner error says why it stopped before the end.
async fn read_on(
    client: &Client,
    work: &Workload,
    (partition, next): (u32, &mut Offset),
    deadline: Instant,
    history: &HistoryWriter,
) -> io::Result<Result<(), Stopped>> {
    let from = client
        .consumer()
        .partition_from(&work.topic, PartitionId(partition), Start::Offset(*next))
        .until_end()
        // The broker's own words come before the silence is given up.
        .repair_patience(SILENCE_MAX / 2);
    let mut consumer = match from.build().await {
        Ok(consumer) => consumer,
        Err(error) => return Ok(Err(Stopped::Unreadable(error.to_string()))),
    };
    let mut run = Run::new(partition);
    let stopped = loop {
        // A consumer bears it for ever that nobody leads. As long as something comes, there is no hurry.
        let silent = deadline.max(Instant::now() + SILENCE_MAX);
        let batch = match tokio::time::timeout_at(silent, consumer.next_batch()).await {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) => break Ok(()),
            Ok(Err(ConsumeError::OffsetOutOfRange { log_start, .. })) => {
                break Err(Stopped::Deleted { before: log_start });
            }
            Ok(Err(error)) => break Err(Stopped::Unreadable(error.to_string())),
            Err(_) => break Err(Stopped::Unreadable(format!("nothing comes from offset {next} on"))),
        };
        let mut broken: Option<ConsumeError> = None;
        for record in batch.records() {
            match record {
                Ok(record) => {
                    let value = record.value.unwrap_or_default();
                    run.push(record.offset.0, value, |run| history.note(run.last_read()))?;
                    *next = record.offset.plus(1);
                }
                Err(error) => broken = Some(error),
            }
        }
        if let Some(error) = broken {
            break Err(Stopped::Unreadable(error.to_string()));
        }
    };
    run.end(|run| history.note(run.last_read()))?;
    Ok(stopped)
}
