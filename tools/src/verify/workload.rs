//! Producers that write unique values with acks=all, and a consumer for each partition that reads along; all of it goes into the history.
//! Knows nothing of what is right.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_client::{
    Acks, Client, ConsumeError, Delivery, Offset, PartitionId, Producer, RecordRef, SendError, Start, TopicProducer,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::events::{Event, HistoryWriter, Outcome, VALUES_MAX, value};

/// How long a record is tried before its fate counts as unknown.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Records of one producer and partition that may wait for their fate.
const WAITING_MAX: usize = 1_000;
/// How often a producer sends what is due.
const TICK: Duration = Duration::from_millis(10);
/// Before a consumer that was thrown off begins again.
const PAUSE: Duration = Duration::from_millis(100);

/// What a workload does.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub run: String,
    /// The topic.
    pub topic: String,
    /// Where each partition began, by index.
    pub begins: Vec<Offset>,
    /// How many producers.
    pub producers: u32,
    /// Whether they are idempotent.
    pub idempotent: bool,
    /// Records a second, all of them together.
    pub rate: u64,
    /// Records that are sent at most, all of them together.
    pub records_max: u64,
    /// How long.
    pub duration: Duration,
}

/// How far a workload is.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records sent.
    pub sent: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// One past the last offset acknowledged in each partition.
    pub acked_ends: Vec<AtomicU64>,
}

/// Runs the workload to its end, every fate known or given up.
///
/// # Errors
/// Where the history cannot be written, or the producers cannot begin.
pub async fn run(
    client: &Client,
    work: Arc<Workload>,
    history: Arc<HistoryWriter>,
    counts: Arc<Counts>,
) -> io::Result<()> {
    let (mut producing, mut reading) = (JoinSet::new(), JoinSet::new());
    let over = CancellationToken::new();
    for partition in 0..work.begins.len() as u32 {
        let (client, work, history, over) = (client.clone(), work.clone(), history.clone(), over.clone());
        let counts = counts.clone();
        reading.spawn(async move { read_along(&client, &work, partition, (&history, &counts), &over).await });
    }
    for number in 0..work.producers {
        // Of its own: what one producer waits for must not hold up another.
        let producer = client.producer().acks(Acks::All).idempotent(work.idempotent).delivery_timeout(DELIVERY_TIMEOUT);
        // What is not numbered stays in order only where one batch waits for the other.
        let built = if work.idempotent { producer.build() } else { producer.max_in_flight(1).build() };
        let producer = built.map_err(io::Error::other)?;
        let topic = producer.topic(&work.topic).await.map_err(io::Error::other)?;
        let (work, history, counts) = (work.clone(), history.clone(), counts.clone());
        producing.spawn(async move { produce(number, &work, (producer, topic), &history, &counts).await });
    }
    let mut outcome = Ok(());
    while let Some(ended) = producing.join_next().await {
        outcome = outcome.and(ended.map_err(io::Error::other).flatten());
    }
    over.cancel();
    while let Some(ended) = reading.join_next().await {
        outcome = outcome.and(ended.map_err(io::Error::other).flatten());
    }
    outcome
}

async fn produce(
    number: u32,
    work: &Workload,
    (producer, topic): (Producer, TopicProducer),
    history: &Arc<HistoryWriter>,
    counts: &Arc<Counts>,
) -> io::Result<()> {
    // One queue for each partition: fates come in order there, and one that stands still holds up its own only.
    let mut fates = JoinSet::new();
    let queues: Vec<_> = (0..work.begins.len())
        .map(|partition| {
            let (queue, waiting) = mpsc::channel(WAITING_MAX);
            let (history, counts) = (history.clone(), counts.clone());
            fates.spawn(async move { note_fates(number, partition, waiting, &history, &counts).await });
            queue
        })
        .collect();
    let mut sequence = 0_u64;
    let began = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (share, records_max) = (u64::from(work.producers.max(1)), work.records_max);
    'run: while began.elapsed() < work.duration {
        tick.tick().await;
        let due = began.elapsed().as_millis() as u64 * work.rate / share / 1_000;
        while sequence < due {
            if sequence >= records_max / share {
                break 'run;
            }
            let partition = (sequence % queues.len() as u64) as usize;
            let Ok(place) = queues[partition].reserve().await else { break 'run };
            history.note(Event::Invoke { producer: number, sequence })?;
            counts.sent.fetch_add(1, Ordering::Relaxed);
            let value = value(&work.run, number, sequence);
            let record =
                RecordRef { partition: Some(PartitionId(partition as u32)), ..RecordRef::new(None, value.as_bytes()) };
            match topic.send_record(&record).await {
                Ok(delivery) => place.send((sequence, delivery)),
                Err(error) => {
                    let outcome = outcome_of(&error);
                    history.note(Event::Complete { producer: number, sequence, outcome })?;
                }
            }
            sequence += 1;
        }
    }
    drop(queues);
    let mut outcome = Ok(());
    while let Some(ended) = fates.join_next().await {
        outcome = outcome.and(ended.map_err(io::Error::other).flatten());
    }
    // Every fate is known by now.
    let _ = producer.close().await;
    outcome
}

async fn note_fates(
    producer: u32,
    partition: usize,
    mut waiting: mpsc::Receiver<(u64, Delivery)>,
    history: &HistoryWriter,
    counts: &Counts,
) -> io::Result<()> {
    while let Some((sequence, delivery)) = waiting.recv().await {
        let outcome = match delivery.await {
            Ok(receipt) => {
                let offset = receipt.offset.unwrap_or_default().0;
                counts.acked.fetch_add(1, Ordering::Relaxed);
                if let Some(end) = counts.acked_ends.get(partition) {
                    end.fetch_max(offset + 1, Ordering::Relaxed);
                }
                Outcome::Acked { offset, maybe_twice: receipt.maybe_twice }
            }
            Err(error) => outcome_of(&error),
        };
        history.note(Event::Complete { producer, sequence, outcome })?;
    }
    Ok(())
}

fn outcome_of(error: &SendError) -> Outcome {
    let text = error.to_string();
    if error.may_be_written() { Outcome::Unknown { error: text } } else { Outcome::Refused { error: text } }
}

/// Follows a partition as an application would, to the last of what was acknowledged: after an error it goes on where it was.
async fn read_along(
    client: &Client,
    work: &Workload,
    partition: u32,
    (history, counts): (&HistoryWriter, &Counts),
    over: &CancellationToken,
) -> io::Result<()> {
    let mut next = work.begins[partition as usize];
    // All that is acknowledged is known once it is over.
    let is_done = |next: Offset| {
        let end = counts.acked_ends.get(partition as usize).map_or(0, |end| end.load(Ordering::Relaxed));
        over.is_cancelled() && next.0 >= end
    };
    let given_up = async {
        over.cancelled().await;
        tokio::time::sleep(DELIVERY_TIMEOUT).await;
    };
    tokio::pin!(given_up);
    while !is_done(next) {
        let from = client.consumer().partition_from(&work.topic, PartitionId(partition), Start::Offset(next));
        let built = tokio::select! {
            built = from.build() => built,
            () = &mut given_up => return Ok(()),
        };
        let Ok(mut consumer) = built else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut saw_end = over.is_cancelled();
        while !is_done(next) {
            let batch = tokio::select! {
                batch = consumer.next_batch() => batch,
                () = over.cancelled(), if !saw_end => {
                    saw_end = true;
                    continue;
                }
                () = &mut given_up => return Ok(()),
            };
            let batch = match batch {
                Ok(Some(batch)) => batch,
                // What was deleted never comes.
                Err(ConsumeError::OffsetOutOfRange { log_start, .. }) => {
                    next = next.max(log_start);
                    break;
                }
                // What was read is not there any more, which the judge finds: on with what others read from there.
                Err(ConsumeError::Truncated { parts_at, .. }) => {
                    next = parts_at;
                    break;
                }
                Ok(None) | Err(_) => break,
            };
            let mut run = Run::new(partition);
            let mut is_whole = true;
            for record in batch.records() {
                let Ok(record) = record else {
                    is_whole = false;
                    break;
                };
                run.push(record.offset.0, record.value.unwrap_or_default(), |run| history.note(run.read()))?;
                next = record.offset.plus(1);
            }
            run.end(|run| history.note(run.read()))?;
            // The rest of it is read once more: to go on behind it would leave records out.
            if !is_whole {
                break;
            }
        }
        if !is_done(next) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    history.note(Event::ReadDone { partition, end: next.0 })
}

/// Records without a gap between their offsets, for one line of the history.
#[derive(Debug)]
pub(super) struct Run {
    partition: u32,
    offset: u64,
    values: Vec<String>,
}

impl Run {
    pub(super) const fn new(partition: u32) -> Self {
        Self { partition, offset: 0, values: Vec::new() }
    }

    /// Adds a record; what does not go with it is noted before.
    pub(super) fn push(
        &mut self,
        offset: u64,
        value: &[u8],
        note: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.values.len() >= VALUES_MAX || offset != self.offset + self.values.len() as u64 {
            self.end(note)?;
            self.offset = offset;
        }
        // Our own values are short; of others' the beginning tells enough.
        let shown = value.get(..100).unwrap_or(value);
        self.values.push(String::from_utf8_lossy(shown).into_owned());
        Ok(())
    }

    pub(super) fn end(&mut self, note: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.values.is_empty() { Ok(()) } else { note(self) }
    }

    fn taken(&mut self) -> (u32, u64, Vec<String>) {
        (self.partition, self.offset, std::mem::take(&mut self.values))
    }

    fn read(&mut self) -> Event {
        let (partition, offset, values) = self.taken();
        Event::Read { partition, offset, values }
    }

    pub(super) fn last_read(&mut self) -> Event {
        let (partition, offset, values) = self.taken();
        Event::LastRead { partition, offset, values }
    }
}
