//! Topics, offsets and state: each call one request. Knows nothing of records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_protocol::api::Request;
use tidelog_protocol::messages::*;
use tidelog_protocol::{BrokerId, Offset, PartitionId, Timestamp, TopicName};

use crate::ClientError;
use crate::address::Address;
use crate::cluster::{Cluster, TopicImage};
use crate::listed::DescribedTopics;

/// What manages a cluster. Every call waits for its answer within the client's request timeout. A change whose outcome became
/// unknown on the way ([`ClientError::outcome_is_unknown`]) is not repeated; look before you do. What only reads is asked again.
#[derive(Clone, Debug)]
pub struct Admin {
    pub(crate) cluster: Arc<Cluster>,
}

impl Admin {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Creates a topic; returns its identity and how many partitions it has.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `TopicExists`, `InvalidName`, `InvalidConfig`, `InvalidPartitions` or `InvalidReplication`;
    /// else as any call.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreateTopicResponse, ClientError> {
        self.cluster.call(&topic.request).await
    }

    /// Deletes a topic and its data.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; `InternalTopic` from the broker; else as any call.
    pub async fn delete_topic(&self, name: &str) -> Result<DeleteTopicResponse, ClientError> {
        self.about(name, &DeleteTopicRequest { name: name.into() }).await
    }

    /// Sets configuration values of a topic and puts others back to their default, all or nothing. Returns what then
    /// differs from the defaults.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; `InvalidConfig` from the broker; else as any call.
    pub async fn alter_topic(
        &self,
        name: &str,
        set: &[(&str, &str)],
        reset: &[&str],
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = AlterTopicRequest {
            name: name.into(),
            set: set.iter().map(|(key, value)| ConfigEntry { key: (*key).into(), value: (*value).into() }).collect(),
            reset: reset.iter().map(|key| (*key).into()).collect(),
        };
        Ok(self.about(name, &request).await?.configs)
    }

    /// Raises the number of partitions of a topic to `total`. Keys may then hash to other partitions than before.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; `InvalidPartitions` from the broker; else as any call.
    pub async fn create_partitions(&self, name: &str, total: u32) -> Result<u32, ClientError> {
        let answer = self.about(name, &CreatePartitionsRequest { name: name.into(), total }).await?;
        // What is known of the topic here is old now.
        self.cluster.metadata(Some(vec![topic_name(name)?])).await?;
        Ok(answer.total)
    }

    /// Configuration and state of the topics named, in the broker's order.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] for the first that does not exist; else as any call.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Vec<TopicDescription>, ClientError> {
        Ok(self.describe_topics_as_answered(names).await?.topics)
    }

    /// The same, and which leaders did not say how their partitions are.
    ///
    /// # Errors
    /// As [`Admin::describe_topics`].
    pub async fn describe_topics_as_answered(&self, names: &[&str]) -> Result<DescribedTopics, ClientError> {
        let topics = names.iter().map(|name| topic_name(name)).collect::<Result<_, _>>()?;
        let request = DescribeTopicsRequest { topics: Some(topics) };
        let mut answer = self.cluster.call(&request).await?;
        if self.is_known_elsewhere(&answer.unknown).await? {
            answer = self.cluster.call(&request).await?;
        }
        match answer.unknown.first() {
            Some(name) => Err(ClientError::UnknownTopic { topic: name.to_string() }),
            None => {
                let mut silent = BTreeMap::new();
                let topics = self.as_leaders_say(answer.topics, &mut silent).await;
                Ok(DescribedTopics { topics, silent })
            }
        }
    }

    /// Configuration and state of every topic, the broker's own included.
    ///
    /// # Errors
    /// As any call.
    pub async fn describe_all_topics(&self) -> Result<Vec<TopicDescription>, ClientError> {
        Ok(self.describe_all_topics_as_answered().await?.topics)
    }

    /// The same, and which leaders did not say how their partitions are.
    ///
    /// # Errors
    /// As any call.
    pub async fn describe_all_topics_as_answered(&self) -> Result<DescribedTopics, ClientError> {
        let mut silent = BTreeMap::new();
        let topics = self.cluster.metadata(None).await?.topics;
        let mut described = Vec::with_capacity(topics.len());
        for part in parts(&topics) {
            let names = part.iter().map(|topic| topic.name.clone()).collect();
            // One that was deleted since is no part of every topic any more.
            let part = self.cluster.call(&DescribeTopicsRequest { topics: Some(names) }).await?.topics;
            described.extend(self.as_leaders_say(part, &mut silent).await);
        }
        Ok(DescribedTopics { topics: described, silent })
    }

    /// A broker knows the log of a partition only where it holds a replica, and how far that is settled only where it leads. A leader that
    /// does not answer leaves what another broker said, and is noted; it is not asked again.
    async fn as_leaders_say(
        &self,
        mut topics: Vec<TopicDescription>,
        silent: &mut BTreeMap<BrokerId, ClientError>,
    ) -> Vec<TopicDescription> {
        let mut by_leader: BTreeMap<BrokerId, Vec<TopicName>> = BTreeMap::new();
        for topic in &topics {
            let leaders: BTreeSet<BrokerId> = topic.partitions.iter().filter_map(|known| known.leader).collect();
            leaders.into_iter().for_each(|leader| by_leader.entry(leader).or_default().push(topic.name.clone()));
        }
        if by_leader.len() < 2 && self.cluster.brokers() < 2 {
            return topics;
        }
        for (leader, names) in by_leader {
            if silent.contains_key(&leader) {
                continue;
            }
            let request = DescribeTopicsRequest { topics: Some(names) };
            let answer = match self.cluster.call_broker(leader, &request).await {
                Ok(answer) => answer,
                Err(error) => {
                    silent.insert(leader, error);
                    continue;
                }
            };
            for said in answer.topics {
                let Some(topic) = topics.iter_mut().find(|topic| topic.topic_id == said.topic_id) else { continue };
                let led = said.partitions.into_iter().filter(|partition| partition.leader == Some(leader));
                for partition in led {
                    if let Some(known) = topic.partitions.get_mut(partition.partition.0 as usize) {
                        *known = partition;
                    }
                }
            }
        }
        topics
    }

    /// Brokers, topics, partitions and their leaders, of the whole cluster.
    ///
    /// # Errors
    /// As any call.
    pub async fn metadata(&self) -> Result<MetadataResponse, ClientError> {
        self.cluster.metadata(None).await
    }

    /// Offsets of one topic by position or time, in the order of the queries, whether transactions are open there or not: the end is the high
    /// watermark. A query that a partition could not answer carries
    /// its own fault.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`], [`ClientError::NoLeader`]; else as any call.
    ///
    /// ```no_run
    /// # use tidelog_client::{Client, PartitionId, Position};
    /// # async fn example(client: Client) -> Result<(), tidelog_client::ClientError> {
    /// let answers = client.admin().list_offsets("logs", &[(PartitionId(0), Position::LATEST)]).await?;
    /// println!("{:?}", answers[0].offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_offsets(
        &self,
        topic: &str,
        queries: &[(PartitionId, Position)],
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.list_offsets_seen_by(topic, queries, Isolation::ReadUncommitted).await
    }

    /// The same as whoever reads so sees them: of what is committed, the log ends where the first transaction begins that is still open.
    ///
    /// # Errors
    /// As [`Admin::list_offsets`].
    pub async fn list_offsets_seen_by(
        &self,
        topic: &str,
        queries: &[(PartitionId, Position)],
        isolation: Isolation,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.cluster.list_offsets(topic, queries, isolation).await
    }

    /// The same positions of each of these partitions, whose leaders cannot be reached: as far as a replica knows records to be settled whose
    /// broker is out of touch with the controller, and which broker that is. There may be more. Of a partition of which no replica may say so:
    /// why the last of them does not.
    ///
    /// # Errors
    /// As [`Admin::list_offsets`].
    pub async fn list_settled_offsets(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        positions: &[Position],
    ) -> Result<BTreeMap<PartitionId, Result<(BrokerId, Vec<OffsetAnswer>), ClientError>>, ClientError> {
        let image = self.cluster.topic(topic).await?;
        Ok(self.cluster.ask_survivors(&image, partitions, (positions, Isolation::ReadUncommitted)).await)
    }

    /// Deletes the records of a partition below `before`, or all of them where there is none. Returns the first offset that can
    /// then be read.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`], [`ClientError::NoLeader`]; `OffsetOutOfRange` from the
    /// broker; else as any call.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: PartitionId,
        before: Option<Offset>,
    ) -> Result<Offset, ClientError> {
        self.delete(topic, (partition, before), false).await
    }

    /// Gives up what is damaged of a partition of `__groups` or `__transactions` that cannot be read, where no other replica has it and all of the
    /// damage ends at `before`, as the error of whoever asks that partition says (`CorruptLog`); 0 where all of it is gone (`OutOfService`). What can be read of it stays. Of groups that are
    /// kept there offsets may go back, and members join again; transactional ids that were not used since get other producers, those they have
    /// are fenced, and what is open under them is undone. Returns the first offset that is left.
    ///
    /// # Errors
    /// `InternalTopic` where there is nothing to give up, or other brokers have replicas; `CorruptLog` where the damage ends elsewhere; else as any
    /// call.
    pub async fn give_up_damaged(
        &self,
        topic: &str,
        partition: PartitionId,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        self.delete(topic, (partition, Some(before)), true).await
    }

    async fn delete(
        &self,
        topic: &str,
        (partition, before): (PartitionId, Option<Offset>),
        accept_loss: bool,
    ) -> Result<Offset, ClientError> {
        let request = |image: &TopicImage| DeleteRecordsRequest { topic_id: image.id, partition, before, accept_loss };
        Ok(self.cluster.ask_leader(topic, partition, request).await?.log_start)
    }

    /// What the broker process uses, of any broker.
    ///
    /// # Errors
    /// As any call.
    pub async fn describe_broker(&self) -> Result<DescribeBrokerResponse, ClientError> {
        self.cluster.call(&DescribeBrokerRequest {}).await
    }

    /// What a broker said of itself as it was connected to: identity, software, limits.
    ///
    /// # Errors
    /// As any call.
    pub async fn broker(&self) -> Result<HelloResponse, ClientError> {
        Ok(self.cluster.any().await?.hello().clone())
    }

    /// Where the broker is that is asked first when any will do: the one that answered last, where it can still be reached.
    ///
    /// # Errors
    /// As any call.
    pub async fn address(&self) -> Result<Address, ClientError> {
        Ok(self.cluster.any().await?.address().clone())
    }

    /// Asks any broker for its clock.
    ///
    /// # Errors
    /// As any call.
    pub async fn ping(&self) -> Result<Timestamp, ClientError> {
        Ok(self.cluster.call(&PingRequest {}).await?.broker_time)
    }

    /// Whether topics that a broker did not know are known to others: it may be cut off from them.
    pub(crate) async fn is_known_elsewhere(&self, unknown: &[TopicName]) -> Result<bool, ClientError> {
        Ok(!unknown.is_empty() && self.cluster.metadata(Some(unknown.to_vec())).await?.unknown.len() < unknown.len())
    }

    /// A call about one topic, whose absence gets the client's own error.
    async fn about<R: Request>(&self, name: &str, request: &R) -> Result<R::Response, ClientError> {
        match self.cluster.call(request).await {
            Err(error) if error.code() == Some(crate::ErrorCode::UnknownTopic) => {
                Err(ClientError::UnknownTopic { topic: name.into() })
            }
            result => result,
        }
    }
}

/// So much is shown of a name that no topic can have.
const NAME_SHOWN_CHARS: usize = 80;

pub(crate) fn topic_name(name: &str) -> Result<TopicName, ClientError> {
    TopicName::new(name).map_err(|error| {
        let shown: String = name.chars().take(NAME_SHOWN_CHARS).collect();
        let rest = if shown.len() < name.len() { "…" } else { "" };
        ClientError::Argument(format!("topic {shown:?}{rest}: {error}"))
    })
}

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    request: CreateTopicRequest,
}

impl NewTopic {
    /// A topic of this name with the broker's defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            request: CreateTopicRequest {
                name: name.into(),
                partitions: None,
                replication_factor: None,
                configs: Vec::new(),
                validate_only: false,
            },
        }
    }

    /// With this many partitions.
    #[must_use]
    pub const fn partitions(mut self, partitions: u32) -> Self {
        self.request.partitions = Some(partitions);
        self
    }

    /// With this many replicas of each partition.
    #[must_use]
    pub const fn replication_factor(mut self, replicas: u16) -> Self {
        self.request.replication_factor = Some(replicas);
        self
    }

    /// With this configuration value, such as `("retention.ms", "3600000")`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.configs.push(ConfigEntry { key: key.into(), value: value.into() });
        self
    }

    /// Only checked: nothing is created.
    #[must_use]
    pub const fn validate_only(mut self) -> Self {
        self.request.validate_only = true;
        self
    }
}

/// Topics whose descriptions fit into one answer: 2 KiB for each and 256 bytes for each of its partitions are more than enough.
pub(crate) fn parts(topics: &[TopicMetadata]) -> impl Iterator<Item = &[TopicMetadata]> {
    const PART_BYTES: usize = 4 << 20;
    let mut rest = topics;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |topic: &&TopicMetadata| {
            bytes += 2_048 + 256 * topic.partitions.len();
            bytes <= PART_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (part, after) = rest.split_at(count);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_described_in_parts_that_fit_into_an_answer() {
        let topic = |partitions: u32| TopicMetadata {
            topic_id: tidelog_protocol::TopicId([1; 16]),
            name: TopicName::new("topic").unwrap(),
            internal: false,
            batch_bytes_max: 0,
            partitions: (0..partitions)
                .map(|partition| PartitionMetadata {
                    partition: PartitionId(partition),
                    leader: None,
                    leader_epoch: tidelog_protocol::LeaderEpoch(0),
                    replicas: Vec::new(),
                    in_sync: Vec::new(),
                })
                .collect(),
        };
        let sizes = |topics: &[TopicMetadata]| parts(topics).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![topic(1); 5_000]), [1_820, 1_820, 1_360]);
        assert_eq!(sizes(&[topic(1), topic(100_000), topic(1)]), [1, 1, 1]);
    }
}
