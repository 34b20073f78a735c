//! Dead letters as an operator meets them: which there are, and sending them back to where they come from. Knows nothing of how they came
//! about.
//!
//! That one was sent back is noted beside it, in its own topic and in the transaction that sends it: whatever a redrive is interrupted by, and
//! whichever were meant by the one before, each is sent once.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use tidelog_protocol::messages::{Isolation, Position};
use tidelog_protocol::{ErrorCode, PartitionId, WireError};
use tokio::time::Instant;

use super::GroupError;
use super::dead_letter::{self, DeadLetter};
use super::run_options::DeadLetterTopic;
use super::sent_back::SentBack;
use crate::cluster::Cluster;
use crate::consumer::ConsumerBuilder;
use crate::transactions::{TransactionError, TransactionalProducer, TransactionalProducerBuilder};
use crate::{Admin, ClientError, Consumer, OutOfRange, SendError, Start};

/// Dead letters of one transaction, at most.
const STEP: usize = 100;
/// And their bytes, more or less.
const STEP_BYTES: usize = 8 << 20;
/// How many of those that could not be sent are told with the reason.
const CAUSES_MAX: usize = 20;
/// How long what is committed may take to be seen by all who read that, before it is not waited for any more.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// The dead letters of a topic. Made by [`Admin::dead_letters`].
pub struct DeadLetters {
    cluster: Arc<Cluster>,
    topic: String,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetters({})", self.topic)
    }
}

/// Which dead letters are meant. All that is said must hold; nothing said means all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RedriveFilter {
    /// Of this topic.
    pub topic: Option<String>,
    /// Failed by this group.
    pub group: Option<String>,
    /// Whose cause contains this.
    pub cause: Option<String>,
    /// With this key.
    pub key: Option<Vec<u8>>,
}

impl RedriveFilter {
    /// True where it is meant.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.topic.as_ref().is_none_or(|topic| *topic == letter.origin.topic)
            && self.group.as_ref().is_none_or(|group| *group == letter.group)
            && self.cause.as_ref().is_none_or(|cause| letter.cause.contains(cause.as_str()))
            && self.key.as_ref().is_none_or(|key| letter.record.key.as_deref() == Some(key.as_slice()))
    }
}

/// What a redrive did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redriven {
    /// Sent back now.
    pub sent: u64,
    /// Meant by the filter, and sent back before.
    pub already: u64,
    /// Not meant by the filter, or no dead letters.
    pub passed: u64,
    /// Meant by the filter, and not sent, since nothing takes them. The next redrive tries them again.
    pub left: u64,
    /// Why the first of those were left.
    pub causes: Vec<GroupError>,
}

impl Admin {
    /// The dead letters of `topic`, in the topic that holds them by default.
    #[must_use]
    pub fn dead_letters(&self, topic: &str) -> DeadLetters {
        self.dead_letters_in(&format!("{topic}{}", DeadLetterTopic::SUFFIX))
    }

    /// The dead letters in this dead-letter topic.
    #[must_use]
    pub fn dead_letters_in(&self, dead_letter_topic: &str) -> DeadLetters {
        DeadLetters { cluster: Arc::clone(&self.cluster), topic: dead_letter_topic.into() }
    }
}

impl DeadLetters {
    /// The dead-letter topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The transactional id under which dead letters are sent back. Of two redrives of one topic at once the later one ends the other.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        // No topic has such a name, so that hardly anybody else has the id; and it is never longer than an id may be.
        format!("{}/sent", self.topic)
    }

    /// Up to `limit` dead letters that `filter` means, from the first that is kept on, partition by partition; also those that were sent back.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] where nothing has failed yet; else as any call, or as any consumer.
    pub async fn list(&self, filter: &RedriveFilter, limit: usize) -> Result<Vec<DeadLetter>, GroupError> {
        let mut letters: Vec<DeadLetter> = Vec::new();
        let mut sent = SentBack::default();
        let mut consumer = self.reader().await?;
        // To the end, also where there are enough: that one was sent back stands behind it.
        while let Some(record) = consumer.next().await {
            let record = record?;
            if let Some(offset) = dead_letter::noted(&record) {
                sent.note(record.partition(), offset);
            } else if letters.len() < limit
                && let Some(letter) = dead_letter::read(record).filter(|letter| filter.matches(letter))
            {
                letters.push(letter);
            }
        }
        for letter in &mut letters {
            letter.redriven = sent.holds(letter.record.partition(), letter.record.offset);
        }
        letters.sort_by_key(|letter| (letter.record.partition(), letter.record.offset));
        Ok(letters)
    }

    /// Sends dead letters that `filter` means back to the partition that they come from, with key, value, headers and time as they were: those
    /// that there are now and that no redrive has sent back, whatever its filter was. They stay in the dead-letter topic.
    ///
    /// Each is sent exactly once: in transactions that also note it, so that a redrive that is interrupted, however, is taken up by the next.
    /// One that nothing takes, since its topic or partition is gone or has no leader, is [left](Redriven::left) and stops no other.
    ///
    /// # Errors
    /// As [`DeadLetters::list`]; [`TransactionError::Fenced`] where another redrive of this topic has begun; `DeadlineExceeded` where somebody's
    /// transaction is open in the dead-letter topic for too long; else as any transaction. What was sent until then is noted.
    pub async fn redrive(&self, filter: &RedriveFilter) -> Result<Redriven, TransactionError> {
        let patience = self.cluster.options.request_timeout;
        // That there is something first: who is asked for what is not there should not make up an id.
        let partitions = self.cluster.topic(&self.topic).await?.partitions.len();
        let building = TransactionalProducerBuilder::new(Arc::clone(&self.cluster), self.transactional_id());
        let building = building.end_timeout(patience).sending(|producer| producer.delivery_timeout(patience));
        let producer = building.build().await?;
        // From here on nobody else sends any back; what the one before has sent is to be seen before it is asked for.
        self.settled(&self.topic, partitions, patience).await?;
        let sent = self.sent_back().await?;
        let mut consumer = self.reader().await?;
        let mut post = Post { producer, done: Redriven::default(), blocked: HashMap::new() };
        let mut touched: HashSet<String> = HashSet::new();
        loop {
            let (mut step, mut bytes) = (Vec::new(), 0);
            while step.len() < STEP
                && bytes < STEP_BYTES
                && let Some(record) = consumer.next().await
            {
                let record = record.map_err(GroupError::from)?;
                if dead_letter::noted(&record).is_some() {
                    continue;
                }
                let at = (record.partition(), record.offset);
                match dead_letter::read(record) {
                    Some(letter) if filter.matches(&letter) && sent.holds(at.0, at.1) => post.done.already += 1,
                    Some(letter) if filter.matches(&letter) => {
                        bytes += letter.record.value.as_ref().map_or(0, |value| value.len());
                        step.push(letter);
                    }
                    Some(_) | None => post.done.passed += 1,
                }
            }
            if step.is_empty() {
                break;
            }
            for letter in &step {
                // What is known of it may be old: one that is gone is to be left at once, and not tried for long. Where nobody tells, sending does.
                if touched.insert(letter.origin.topic.clone()) {
                    let _ = self.cluster.refreshed(&letter.origin.topic, Instant::now().into_std()).await;
                }
            }
            post.step(&step).await?;
        }
        // Whoever looks for them next should find them. Where that takes long, they are sent all the same.
        touched.insert(self.topic.clone());
        if post.done.sent > 0 {
            for topic in touched {
                if let Some(image) = self.cluster.known_topic(&topic) {
                    drop(self.settled(&topic, image.partitions.len(), SEEN_WITHIN).await);
                }
            }
        }
        Ok(post.done)
    }

    /// Waits until what stands in a topic now is seen by who reads what is committed.
    async fn settled(&self, topic: &str, partitions: usize, patience: Duration) -> Result<(), ClientError> {
        let queries: Vec<_> = (0..partitions as u32).map(|at| (PartitionId(at), Position::LATEST)).collect();
        let ends = self.cluster.list_offsets(topic, &queries, Isolation::ReadUncommitted).await?;
        let (began, mut looks) = (Instant::now(), 0);
        loop {
            let seen = self.cluster.list_offsets(topic, &queries, Isolation::ReadCommitted).await?;
            if seen.iter().zip(&ends).all(|(seen, end)| seen.offset >= end.offset) {
                return Ok(());
            }
            if began.elapsed() >= patience {
                let sentence = format!(
                    "a transaction is open in '{topic}': what else was sent back is not known before it ends ('tidelog transactions list --open')"
                );
                return Err(WireError::new(ErrorCode::DeadlineExceeded, sentence).into());
            }
            looks += 1;
            tokio::time::sleep(self.cluster.backoff().draw(looks, 0)).await;
        }
    }

    /// Those that were sent back already.
    async fn sent_back(&self) -> Result<SentBack, GroupError> {
        let mut sent = SentBack::default();
        let mut consumer = self.reader().await?;
        while let Some(record) = consumer.next().await {
            let record = record?;
            if let Some(offset) = dead_letter::noted(&record) {
                sent.note(record.partition(), offset);
            }
        }
        Ok(sent)
    }

    /// Reads the topic up to its end of now, partition by partition.
    async fn reader(&self) -> Result<Consumer, GroupError> {
        let image = self.cluster.topic(&self.topic).await?;
        let mut builder = ConsumerBuilder::new(Arc::clone(&self.cluster)).until_end();
        for partition in (0..image.partitions.len() as u32).map(PartitionId) {
            builder = builder.partition_from(&self.topic, partition, Start::Beginning);
        }
        // What retention deletes meanwhile cannot be sent.
        Ok(builder.out_of_range(OutOfRange::Earliest).build().await?)
    }
}

/// Sends dead letters back.
struct Post {
    producer: TransactionalProducer,
    done: Redriven,
    /// Where nothing can be sent for now, so that one that is away is waited for once and not for each of its dead letters.
    blocked: HashMap<(String, PartitionId), SendError>,
}

impl Post {
    /// Sends all of these that can be.
    async fn step(&mut self, step: &[DeadLetter]) -> Result<(), TransactionError> {
        let Some(cause) = self.send(step).await? else { return Ok(()) };
        if let [letter] = step {
            self.leave(letter, cause);
            return Ok(());
        }
        // One of them undoes them all: each on its own tells which.
        for letter in step {
            if let Some(cause) = self.send(slice::from_ref(letter)).await? {
                self.leave(letter, cause);
            }
        }
        Ok(())
    }

    /// Sends these in one transaction; gives why that is undone, where one of them was not written.
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<Option<SendError>, TransactionError> {
        let (mut sent, mut left) = (0, Vec::new());
        let transaction = self.producer.begin().await?;
        for letter in letters {
            if let Some(cause) = self.blocked.get(&destination(letter)) {
                left.push((letter, cause.clone()));
                continue;
            }
            // Whatever becomes of them, the commit tells.
            let taken = match transaction.send(dead_letter::revived(letter)).await {
                Ok(_) => transaction.send(dead_letter::note(letter)).await,
                Err(error @ (SendError::Undone | SendError::TransactionEnded)) => Err(error),
                Err(error) => {
                    left.push((letter, error));
                    continue;
                }
            };
            if let Err(error) = taken {
                let cause = transaction.failure().unwrap_or(error);
                transaction.abort().await?;
                return Ok(Some(cause));
            }
            sent += 1;
        }
        match transaction.commit().await {
            Ok(()) => {}
            Err(TransactionError::NotWritten { cause }) => return Ok(Some(cause)),
            Err(TransactionError::InDoubt { .. }) => self.producer.settle().await?,
            Err(error) => return Err(error),
        }
        self.done.sent += sent;
        left.into_iter().for_each(|(letter, cause)| self.leave(letter, cause));
        Ok(None)
    }

    fn leave(&mut self, letter: &DeadLetter, source: SendError) {
        let is_about_the_place = matches!(
            source,
            SendError::Client(ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. })
        );
        if is_about_the_place || source.is_retriable() {
            self.blocked.insert(destination(letter), source.clone());
        }
        self.done.left += 1;
        if self.done.causes.len() < CAUSES_MAX {
            let at = letter.record.source();
            self.done.causes.push(GroupError::DeadLetter {
                topic: at.topic.clone(),
                partition: at.partition,
                offset: letter.record.offset,
                dead_letters: letter.origin.topic.clone(),
                source,
            });
        }
    }
}

fn destination(letter: &DeadLetter) -> (String, PartitionId) {
    (letter.origin.topic.clone(), letter.origin.partition)
}
