//! Dead letters as an operator meets them: which there are, and sending them back to where they come from. Knows nothing of how they came
//! about.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::messages::CommittedOffset;
use tidelog_protocol::{Offset, PartitionId};

use super::GroupError;
use super::dead_letter::{self, DeadLetter};
use super::run_options::DeadLetterTopic;
use crate::cluster::{Cluster, TopicImage};
use crate::consumer::ConsumerBuilder;
use crate::producer::ProducerBuilder;
use crate::{Admin, Consumer, OutOfRange, SendError, Start};

/// Dead letters that are under way to where they come from at once: as many may come twice where a redrive is interrupted.
const STEP: usize = 100;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Redriven {
    /// Sent back, and acknowledged.
    pub sent: u64,
    /// Not meant by the filter, or no dead letters.
    pub passed: u64,
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

    /// The group that remembers how far a redrive came. A redrive of some has one of its own: what it passes is not sent, and is still there
    /// for others.
    #[must_use]
    pub fn progress_group(&self, filter: &RedriveFilter) -> String {
        if *filter == RedriveFilter::default() {
            return format!("{}.redrive", self.topic);
        }
        let said = FixedState::default().hash_one(format!("{filter:?}"));
        format!("{}.redrive-{said:016x}", self.topic)
    }

    /// Up to `limit` dead letters that `filter` means, from the first that is kept on, partition by partition; also those that were sent back.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`](crate::ClientError::UnknownTopic) where nothing has failed yet; else as any call, or as any consumer.
    pub async fn list(&self, filter: &RedriveFilter, limit: usize) -> Result<Vec<DeadLetter>, GroupError> {
        let done = self.progress(&RedriveFilter::default()).await?.1;
        let mut letters = Vec::new();
        let mut consumer = self.reader(None).await?;
        while letters.len() < limit
            && let Some(record) = consumer.next().await
        {
            let record = record?;
            let redriven = done.get(&record.partition()).is_some_and(|next| record.offset < *next);
            if let Some(letter) = dead_letter::read(record).map(|letter| DeadLetter { redriven, ..letter })
                && filter.matches(&letter)
            {
                letters.push(letter);
            }
        }
        letters.sort_by_key(|letter| (letter.record.partition(), letter.record.offset));
        Ok(letters)
    }

    /// Sends dead letters that `filter` means back to the partition that they come from, with key, value, headers and time as they were: from
    /// where the last redrive with this filter stopped up to the end that there is now. They stay in the dead-letter topic.
    ///
    /// It goes in steps: a hundred are sent and acknowledged, then that is noted in [`DeadLetters::progress_group`]. One that is interrupted
    /// goes on from there when it is asked for again, so up to a hundred may come twice. Two at once send everything twice: let one run
    /// at a time.
    ///
    /// # Errors
    /// As [`DeadLetters::list`]; [`GroupError::DeadLetter`] for one that cannot be sent, with all before its step sent and noted.
    pub async fn redrive(&self, filter: &RedriveFilter) -> Result<Redriven, GroupError> {
        let (image, from) = self.progress(filter).await?;
        let mut consumer = self.reader(Some(from)).await?;
        let producer = ProducerBuilder::new(Arc::clone(&self.cluster)).build().map_err(GroupError::Client)?;
        let mut done = Redriven::default();
        loop {
            let mut step = Vec::with_capacity(STEP);
            let mut reached: HashMap<PartitionId, Offset> = HashMap::new();
            while step.len() < STEP
                && let Some(record) = consumer.next().await
            {
                let record = record?;
                reached.insert(record.partition(), record.offset.plus(1));
                match dead_letter::read(record) {
                    Some(letter) if filter.matches(&letter) => step.push(letter),
                    Some(_) | None => done.passed += 1,
                }
            }
            if reached.is_empty() {
                return Ok(done);
            }
            let mut deliveries = Vec::with_capacity(step.len());
            for letter in &step {
                let sent = producer.send(dead_letter::revived(letter)).await;
                deliveries.push(sent.map_err(|error| self.unsent(letter, error))?);
            }
            for (delivery, letter) in deliveries.into_iter().zip(&step) {
                delivery.await.map_err(|error| self.unsent(letter, error))?;
                done.sent += 1;
            }
            self.note(filter, &image, &reached).await?;
        }
    }

    fn unsent(&self, letter: &DeadLetter, source: SendError) -> GroupError {
        let at = letter.record.source();
        GroupError::DeadLetter {
            topic: at.topic.clone(),
            partition: at.partition,
            offset: letter.record.offset,
            dead_letters: letter.origin.topic.clone(),
            source,
        }
    }

    /// Reads the topic up to its end of now, partition by partition from where `from` says, or all of it.
    async fn reader(&self, from: Option<HashMap<PartitionId, Offset>>) -> Result<Consumer, GroupError> {
        let image = self.cluster.topic(&self.topic).await?;
        let mut builder = ConsumerBuilder::new(Arc::clone(&self.cluster)).until_end();
        for partition in (0..image.partitions.len() as u32).map(PartitionId) {
            let start = from.as_ref().and_then(|from| from.get(&partition));
            let start = start.map_or(Start::Beginning, |offset| Start::Offset(*offset));
            builder = builder.partition_from(&self.topic, partition, start);
        }
        // What retention has deleted meanwhile cannot be sent.
        Ok(builder.out_of_range(OutOfRange::Earliest).build().await?)
    }

    /// How far the redrives with this filter came.
    async fn progress(
        &self,
        filter: &RedriveFilter,
    ) -> Result<(Arc<TopicImage>, HashMap<PartitionId, Offset>), GroupError> {
        let image = self.cluster.topic(&self.topic).await?;
        let noted = Admin::new(Arc::clone(&self.cluster)).group_offsets(&self.progress_group(filter)).await?;
        let here = noted.into_iter().filter(|noted| noted.topic_id == image.id);
        let progress = here.map(|noted| (noted.partition, noted.offset)).collect();
        Ok((image, progress))
    }

    async fn note(
        &self,
        filter: &RedriveFilter,
        image: &TopicImage,
        reached: &HashMap<PartitionId, Offset>,
    ) -> Result<(), GroupError> {
        let offsets = reached.iter().map(|(partition, offset)| CommittedOffset {
            topic_id: image.id,
            partition: *partition,
            offset: *offset,
            leader_epoch: None,
            metadata: String::new(),
        });
        let admin = Admin::new(Arc::clone(&self.cluster));
        Ok(admin.set_group_offsets(&self.progress_group(filter), offsets.collect()).await?)
    }
}
