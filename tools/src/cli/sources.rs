//! Where `consume` reads from: all partitions at once where their leaders answer; else those whose leaders do, and the others as soon as theirs
//! do, or from another replica where no leader can be elected. Says on standard error which partitions are waited for, and why, and which are
//! read from elsewhere. Knows nothing of how records are printed.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use tidelog_client::{
    BatchView, BrokerId, Client, ClientError, ConsumeError, Consumer, Isolation, PartitionId, Start, Survivor,
    TopicName,
};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::connect::failure;
use crate::exit::{Exit, Failure};

/// How long all leaders together may take before those that answer are read without the others, at most; and at most a part of the timeout.
const TOGETHER: (Duration, u32) = (Duration::from_secs(3), 4);
/// Pause before a leader that was away is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// What is read.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) client: Client,
    pub(super) topic: TopicName,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) start: Start,
    pub(super) until_end: bool,
    pub(super) isolation: Isolation,
    /// Until when partitions are waited for, where that is not for ever.
    pub(super) wait_until: Option<Instant>,
    /// Until when at least one must be there.
    pub(super) first_by: Instant,
    /// How long a leader may be away before another replica is read from.
    pub(super) leader_patience: Duration,
    /// How long a damaged range is waited for that is being fetched from another replica, where the client's default is not meant.
    pub(super) repair_patience: Option<Duration>,
}

impl Wanted {
    /// A consumer that reads from other replicas once the leader was away for so long.
    async fn consumer(&self, partitions: Vec<PartitionId>, patience: Duration) -> Result<Consumer, ClientError> {
        let mut builder = self
            .client
            .consumer()
            .partitions(self.topic.as_str(), partitions)
            .start(self.start)
            .isolation(self.isolation)
            .survivors(patience);
        if self.until_end {
            builder = builder.until_end();
        }
        if let Some(patience) = self.repair_patience {
            builder = builder.repair_patience(patience);
        }
        builder.build().await
    }
}

/// What is read from.
pub(super) struct Sources {
    open: Vec<Consumer>,
    /// Which of them is asked first: each in turn, so that none starves.
    turn: usize,
    late: Option<Late>,
    /// What is read from another replica than its leader's.
    elsewhere: BTreeMap<PartitionId, Survivor>,
}

/// Some of the partitions, or why the others will not come.
type Found = Result<Consumer, Failure>;

/// Partitions that are waited for in the background.
struct Late {
    found: mpsc::Receiver<Found>,
    search: AbortHandle,
}

impl Drop for Late {
    fn drop(&mut self) {
        self.search.abort();
    }
}

impl Sources {
    /// Opens what can be read now.
    pub(super) async fn open(wanted: Wanted) -> Result<Self, Failure> {
        let left = wanted.first_by.saturating_duration_since(Instant::now());
        let together = TOGETHER.0.min(left / TOGETHER.1);
        let all = wanted.consumer(wanted.partitions.clone(), wanted.leader_patience);
        match tokio::time::timeout(together, all).await {
            Ok(Ok(all)) => return Ok(Self::of(all, None)),
            Ok(Err(error)) if !error.is_retriable() => return Err(failure(error)),
            Ok(Err(_)) | Err(_) => {}
        }
        let (sender, found) = mpsc::channel(1);
        let search = tokio::spawn(search(wanted, together, sender)).abort_handle();
        let mut late = Late { found, search };
        match late.found.recv().await {
            Some(Ok(first)) => Ok(Self::of(first, Some(late))),
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::new(Exit::Failed, "the search for leaders ended unexpectedly")),
        }
    }

    fn of(first: Consumer, late: Option<Late>) -> Self {
        Self { open: vec![first], turn: 0, late, elsewhere: BTreeMap::new() }
    }

    /// The partitions of which there may be more than was read, because no leader could be asked for the end.
    pub(super) fn read_elsewhere(&self) -> &BTreeMap<PartitionId, Survivor> {
        &self.elsewhere
    }

    /// Hands the next batch to `take`; `None` at the end of all of them.
    pub(super) async fn next<T>(&mut self, mut take: impl FnMut(BatchView<'_>) -> T) -> Result<Option<T>, SourceError> {
        std::future::poll_fn(|cx| self.poll_next(cx, &mut take)).await
    }

    fn poll_next<T>(
        &mut self,
        cx: &mut Waking<'_>,
        take: &mut impl FnMut(BatchView<'_>) -> T,
    ) -> Poll<Result<Option<T>, SourceError>> {
        while let Some(late) = &mut self.late {
            match late.found.poll_recv(cx) {
                Poll::Ready(Some(Ok(consumer))) => self.open.push(consumer),
                Poll::Ready(Some(Err(failure))) => {
                    self.late = None;
                    return Poll::Ready(Err(SourceError::Late(failure)));
                }
                Poll::Ready(None) => self.late = None,
                Poll::Pending => break,
            }
        }
        let mut at = 0;
        while at < self.open.len() {
            let source = (self.turn + at) % self.open.len();
            let polled = pin!(self.open[source].next_batch()).poll(cx).map(|batch| Ok(batch?.map(&mut *take)));
            for (partition, survivor) in self.open[source].take_survivors() {
                tell(&mut self.elsewhere, (partition.topic.as_str(), partition.partition), survivor);
            }
            match polled {
                Poll::Ready(Ok(None)) => drop(self.open.remove(source)),
                Poll::Ready(Ok(taken)) => {
                    self.turn = source + 1;
                    return Poll::Ready(Ok(taken));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SourceError::Read(error))),
                Poll::Pending => at += 1,
            }
        }
        if self.open.is_empty() && self.late.is_none() { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }
}

/// Says from whom a partition is read, where that is news.
fn tell(
    elsewhere: &mut BTreeMap<PartitionId, Survivor>,
    (topic, partition): (&str, PartitionId),
    survivor: Option<Survivor>,
) {
    let before = match survivor {
        Some(survivor) => elsewhere.insert(partition, survivor),
        None => elsewhere.remove(&partition),
    };
    match survivor {
        Some(Survivor { broker, end }) if before != survivor => eprintln!(
            "partition {partition} of '{topic}' is read from broker {broker}, up to offset {end} as far as that knows: its leader cannot be reached, and broker {broker} knows of nobody who leads"
        ),
        None if before.is_some() => eprintln!("partition {partition} of '{topic}' is read from its leader from now on"),
        _ => {}
    }
}

/// Why reading ends.
pub(super) enum SourceError {
    Read(ConsumeError),
    /// Partitions that were waited for.
    Late(Failure),
}

/// Opens partitions as their leaders come back, until all are there or their time is up.
async fn search(wanted: Wanted, patience: Duration, found: mpsc::Sender<Found>) {
    let mut waiting: BTreeMap<PartitionId, String> =
        wanted.partitions.iter().map(|partition| (*partition, String::new())).collect();
    let mut none_yet = true;
    let began = Instant::now();
    loop {
        match ask_leaders(&wanted, patience, &mut waiting, &found).await {
            Ok(any) => none_yet &= !any,
            Err(fatal) => return drop(found.send(Err(failure(fatal))).await),
        }
        if began.elapsed() >= wanted.leader_patience {
            none_yet &= !ask_others(&wanted, patience, &mut waiting, &found).await;
        }
        if waiting.is_empty() {
            return;
        }
        let limit = if none_yet { Some(wanted.first_by) } else { wanted.wait_until };
        if limit.is_some_and(|limit| Instant::now() + PAUSE >= limit) {
            return drop(found.send(Err(unread(&wanted.topic, &waiting))).await);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks every leader for its partitions; who answers is read from, and the others go on waiting. Says whether any did.
async fn ask_leaders(
    wanted: &Wanted,
    patience: Duration,
    waiting: &mut BTreeMap<PartitionId, String>,
    found: &mpsc::Sender<Found>,
) -> Result<bool, ClientError> {
    let metadata = match wanted.client.admin().metadata().await {
        Ok(metadata) => metadata,
        Err(error) if error.is_retriable() => {
            waiting.values_mut().for_each(|why| *why = error.to_string());
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let topic = metadata.topics.iter().find(|topic| topic.name == wanted.topic);
    let topic = topic.ok_or_else(|| ClientError::UnknownTopic { topic: wanted.topic.to_string() })?;
    let mut led: BTreeMap<BrokerId, Vec<PartitionId>> = BTreeMap::new();
    for state in &topic.partitions {
        match state.leader.filter(|_| waiting.contains_key(&state.partition)) {
            Some(leader) => led.entry(leader).or_default().push(state.partition),
            None if state.leader.is_some() => {}
            None => wait_for(wanted, waiting, &[state.partition], "it has no leader"),
        }
    }
    let mut asked = JoinSet::new();
    for (leader, partitions) in led {
        let wanted = wanted.clone();
        asked.spawn(async move {
            let consumer = wanted.consumer(partitions.clone(), wanted.leader_patience);
            let consumer = tokio::time::timeout(patience, consumer).await;
            (leader, partitions, consumer)
        });
    }
    let mut any = false;
    while let Some(answered) = asked.join_next().await {
        let Ok((leader, partitions, consumer)) = answered else { continue };
        match consumer {
            Ok(Ok(consumer)) => {
                for partition in &partitions {
                    if waiting.remove(partition).is_some_and(|why| !why.is_empty()) {
                        eprintln!("partition {partition} of '{}' is read from now on", wanted.topic);
                    }
                }
                any = true;
                // Nobody listens any more where the command has ended.
                let _ = found.send(Ok(consumer)).await;
            }
            Ok(Err(error)) if error.is_retriable() => wait_for(wanted, waiting, &partitions, &error.to_string()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let why = format!("broker {leader}, which leads it, does not answer");
                wait_for(wanted, waiting, &partitions, &why);
            }
        }
    }
    Ok(any)
}

/// Asks other replicas for the partitions whose leaders were away for long; who serves is read from. Says whether any did.
async fn ask_others(
    wanted: &Wanted,
    patience: Duration,
    waiting: &mut BTreeMap<PartitionId, String>,
    found: &mpsc::Sender<Found>,
) -> bool {
    let mut asked = JoinSet::new();
    for partition in waiting.keys().copied() {
        let wanted = wanted.clone();
        asked.spawn(async move {
            let consumer = wanted.consumer(vec![partition], Duration::ZERO);
            (partition, tokio::time::timeout(patience, consumer).await)
        });
    }
    let mut any = false;
    while let Some(answered) = asked.join_next().await {
        // Why not is told of the leader.
        let Ok((partition, Ok(Ok(consumer)))) = answered else { continue };
        waiting.remove(&partition);
        any = true;
        let _ = found.send(Ok(consumer)).await;
    }
    any
}

/// Tells why these are not read yet, where that was not said before.
fn wait_for(wanted: &Wanted, waiting: &mut BTreeMap<PartitionId, String>, partitions: &[PartitionId], why: &str) {
    for partition in partitions {
        if waiting.get(partition).is_some_and(|told| told != why) {
            eprintln!("partition {partition} of '{}' is waited for: {why}", wanted.topic);
            waiting.insert(*partition, why.into());
        }
    }
}

/// Their time is up.
fn unread(topic: &TopicName, waiting: &BTreeMap<PartitionId, String>) -> Failure {
    let partitions = waiting.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let why = waiting.values().next().map_or("", String::as_str);
    let sentence = format!("not done within the timeout: partition {partitions} of '{topic}' could not be read: {why}");
    Failure::new(Exit::Unavailable, sentence).hint("a longer wait may help: --timeout 60s")
}
