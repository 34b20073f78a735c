//! How a consumer comes about: partitions named, places found, subscriptions started. Knows nothing of batches.

use std::sync::Arc;

use tidelog_protocol::messages::{Isolation, OffsetAnswer, Position};
use tidelog_protocol::records::Scratch;
use tidelog_protocol::{BrokerId, Offset, PartitionId, TopicName, WireError};
use tokio_util::sync::CancellationToken;

use super::builder::{Selection, Settings};
use super::growth::Readers;
use super::inbox::Inbox;
use super::reading::{Consumer, Course, Partition};
use super::{ConsumeError, OutOfRange, Start, TopicPartition};
use crate::ClientError;
use crate::cluster::{Cluster, Survivor, TopicImage};

/// A partition and where it starts.
struct Opening {
    source: Arc<TopicPartition>,
    /// What the first subscription asks for.
    position: Position,
    offset: Offset,
    log_start: Offset,
    /// First offset that could not be read as it was asked.
    readable_end: Offset,
    /// Whom that was asked, where it was not the leader.
    survivor: Option<Survivor>,
}

/// Opens a consumer.
pub(super) async fn open(
    cluster: Arc<Cluster>,
    selections: Vec<Selection>,
    start: Start,
    settings: Settings,
) -> Result<Consumer, ClientError> {
    let mut openings: Vec<Opening> = Vec::new();
    let mut watched = Vec::new();
    for selection in selections {
        let selected = select(&cluster, &selection, start, &settings).await?;
        if selection.partitions.is_none()
            && let Some(first) = selected.first()
        {
            watched.push((first.source.topic.clone(), selected.len() as u32));
        }
        for opening in selected {
            if openings.iter().any(|known| known.source == opening.source) {
                let TopicPartition { topic, partition } = &*opening.source;
                return Err(ClientError::Argument(format!("partition {topic}/{partition} is named twice")));
            }
            openings.push(opening);
        }
    }
    let places = openings.iter().map(|opening| (opening.position.clone(), opening.readable_end)).collect();
    let inbox = Inbox::new(places, settings.prefetch_bytes);
    let partitions: Vec<Partition> = openings.iter().map(|opening| opening.partition(&settings)).collect();

    let ended = CancellationToken::new();
    let readers = Readers {
        cluster: Arc::clone(&cluster),
        inbox: Arc::clone(&inbox),
        settings: settings.clone(),
        ended: ended.clone(),
    };
    for (slot, partition) in partitions.iter().enumerate() {
        if partition.course == Course::Finished {
            inbox.halt(slot);
        }
        if let Some(error) = openings[slot].beyond_the_end(&settings) {
            inbox.fail(slot, Inbox::FIRST_GENERATION, error);
        }
        readers.start(slot, Arc::clone(&partition.source));
    }
    if !settings.until_end && !watched.is_empty() {
        readers.watch(watched);
    }
    let told =
        |opening: &Opening| opening.survivor.map(|survivor| (TopicPartition::clone(&opening.source), Some(survivor)));
    Ok(Consumer {
        survivors: openings.iter().filter_map(told).collect(),
        going: partitions.iter().filter(|partition| partition.course == Course::Going).count(),
        cluster,
        settings,
        inbox,
        partitions,
        changing: None,
        item: None,
        broken: false,
        scratch: Scratch::new(),
        _subscriptions: ended.drop_guard(),
    })
}

impl Opening {
    fn partition(&self, settings: &Settings) -> Partition {
        let until = if settings.until_end { self.readable_end } else { Offset::MAX };
        let finished = self.offset >= until && self.beyond_the_end(settings).is_none();
        let course = if finished { Course::Finished } else { Course::Going };
        Partition::new(Arc::clone(&self.source), self.offset, until, course)
    }

    /// A start behind the end that is to be read up to: nothing would be asked for there, so nothing would tell the program that its
    /// offset does not exist.
    fn beyond_the_end(&self, settings: &Settings) -> Option<ConsumeError> {
        let is_beyond = self.offset > self.readable_end;
        (settings.until_end && settings.out_of_range == OutOfRange::Fail && is_beyond).then(|| {
            ConsumeError::OffsetOutOfRange {
                topic: self.source.topic.clone(),
                partition: self.source.partition,
                offset: self.offset,
                log_start: self.log_start,
                log_end: self.readable_end,
            }
        })
    }
}

/// The partitions of a selection and their places.
async fn select(
    cluster: &Cluster,
    selection: &Selection,
    start: Start,
    settings: &Settings,
) -> Result<Vec<Opening>, ClientError> {
    let image = cluster.topic(&selection.topic).await?;
    let name = TopicName::new(&image.name)
        .map_err(|error| ClientError::Argument(format!("topic {:?}: {error}", selection.topic)))?;
    let partitions = match &selection.partitions {
        Some(partitions) => partitions.clone(),
        None => (0..image.partitions.len() as u32).map(PartitionId).collect(),
    };
    let start = selection.start.unwrap_or(start);
    // For all: the place itself, and the end.
    let questions = [question(start), Position::LATEST];
    let answers = ask(cluster, &image, &partitions, (&questions, settings)).await?;
    let mut openings = Vec::with_capacity(partitions.len());
    for (partition, (answers, broker)) in partitions.iter().zip(answers) {
        for answer in &answers {
            if let Some(fault) = &answer.fault {
                return Err(WireError::from(fault.clone()).into());
            }
        }
        let readable_end = answers[1].offset.unwrap_or_default();
        let found = answers[0].offset.unwrap_or(readable_end);
        let (position, offset) = place(start, found);
        let source = Arc::new(TopicPartition { topic: name.clone(), partition: *partition });
        // Only an offset can lie behind the end, and for one the log's start was asked for.
        let survivor = broker.map(|broker| Survivor { broker, end: readable_end });
        openings.push(Opening { source, position, offset, log_start: found, readable_end, survivor });
    }
    Ok(openings)
}

/// What is known of a partition, and to whom but its leader.
type Said = ([OffsetAnswer; 2], Option<BrokerId>);

/// Asks leaders; first replicas that are out of touch with the controller, where that is wanted. An end up to which is read must be that of the
/// log, and a replica that is read from in place of a leader is named; else a leader that may have been replaced says where to begin, too.
async fn ask(
    cluster: &Cluster,
    image: &TopicImage,
    partitions: &[PartitionId],
    (questions, settings): (&[Position; 2], &Settings),
) -> Result<Vec<Said>, ClientError> {
    let mut said: Vec<Option<Said>> = vec![None; partitions.len()];
    if settings.survivors.is_some_and(|patience| patience.is_zero()) {
        let mut settled = cluster.ask_survivors(image, partitions, (questions, settings.isolation)).await;
        for (said, partition) in said.iter_mut().zip(partitions) {
            let known = settled.remove(partition).and_then(Result::ok);
            *said = known.and_then(|(broker, answers)| Some((answers.try_into().ok()?, Some(broker))));
        }
    }
    let led = partitions.iter().zip(&said).filter(|(_, said)| said.is_none()).map(|(partition, _)| *partition);
    let queries: Vec<_> =
        led.flat_map(|partition| questions.each_ref().map(|position| (partition, position.clone()))).collect();
    if !queries.is_empty() {
        let answers = match settings.until_end || settings.survivors.is_some() {
            true => cluster.list_offsets(&image.name, &queries, settings.isolation).await?,
            false => cluster.places(&image.name, &queries, settings.isolation).await?,
        };
        let mut answers = answers.into_iter();
        for said in said.iter_mut().filter(|said| said.is_none()) {
            *said = answers.next().zip(answers.next()).map(|(place, end)| ([place, end], None));
        }
    }
    let all = said.into_iter().collect::<Option<Vec<_>>>();
    all.ok_or_else(|| ClientError::Argument("a broker answered fewer questions than it was asked".into()))
}

/// What to ask the broker to find a place. An offset needs no question, but the same question for all keeps this simple.
fn question(start: Start) -> Position {
    match start {
        Start::Offset(_) => Position::EARLIEST,
        start => start.position(),
    }
}

/// What to subscribe with, and the offset it stands for, given what the broker `found`.
fn place(start: Start, found: Offset) -> (Position, Offset) {
    match start {
        // Retention may move the beginning before the subscription comes: then the new one is meant.
        Start::Beginning => (Position::EARLIEST, found),
        Start::Offset(offset) => (Position::offset(offset), offset),
        // From here on nothing may be missed, so the end is the one of now.
        Start::End | Start::Timestamp(_) => (Position::offset(found), found),
    }
}

/// Finds one place.
pub(crate) async fn resolve(
    cluster: &Cluster,
    topic: &str,
    partition: PartitionId,
    to: Start,
    isolation: Isolation,
) -> Result<(Position, Offset), ClientError> {
    if let Start::Offset(offset) = to {
        return Ok(place(to, offset));
    }
    let queries = [(partition, to.position()), (partition, Position::LATEST)];
    let mut found = None;
    for answer in cluster.places(topic, &queries, isolation).await? {
        if let Some(fault) = answer.fault {
            return Err(WireError::from(fault).into());
        }
        found = found.or(answer.offset);
    }
    Ok(place(to, found.unwrap_or_default()))
}
