//! Brokers for transactions, and a transactional producer by hand, one step at a time, so that a test can stop between any two, or take one twice. Asks on where a broker is
//! away or says that it may help. Knows nothing of what is right.

use std::net::SocketAddr;

use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{
    Acks, CommitTransaction, CommittedOffset, Coordinated, DescribeTransactionRequest, DescribeTransactionResponse,
    EndTransactionRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetQuery, Position, PositionKind, ProduceRequest, ProducerIdentity, TransactionState,
};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, Producer};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, Sequence, Timestamp, TopicId, WireError};

use tidelog_client::{Client, NewTopic};

use crate::cluster::sight::metadata;
use crate::cluster::{Cluster, ClusterSettings};
use crate::patience::{insist, wait_until};
use crate::question::{NoAnswer, ask, ask_with};

/// How many partitions the topics of coordinators have, as `coordinators/topic.rs` of the broker has it.
pub const SHARDS: u32 = 16;

/// The partition of such a topic that a group or a transactional id belongs to.
#[must_use]
pub fn shard_of(key: &str) -> u32 {
    crc32c::crc32c(key.as_bytes()) % SHARDS
}

/// The code of a refusal.
#[must_use]
pub fn codes<T>(result: Result<T, WireError>) -> Option<ErrorCode> {
    result.err().map(|error| error.code)
}

/// Three brokers and a topic `orders` of three partitions, each on all of them.
#[derive(Debug)]
pub struct Scene {
    /// The brokers.
    pub cluster: Cluster,
    /// A client of them.
    pub client: Client,
    /// Where each listens.
    pub addresses: Vec<SocketAddr>,
    /// The topic.
    pub orders: TopicId,
}

impl Scene {
    /// Starts all of it.
    ///
    /// # Panics
    /// Where that fails.
    pub async fn set() -> Self {
        let cluster = Cluster::start(ClusterSettings::three()).await;
        let client = Client::connect(&cluster.servers()).await.unwrap();
        let addresses: Vec<SocketAddr> = (1..=3).map(|id| cluster.address(id)).collect();
        let orders = create(&client, addresses[0], "orders").await;
        Self { cluster, client, addresses, orders }
    }

    /// As [`RawProducer::begin`].
    ///
    /// # Panics
    /// Where it gets no identity.
    pub async fn producer(&self, id: &str, timeout_ms: u32) -> RawProducer {
        RawProducer::begin(&self.addresses, id, timeout_ms).await
    }

    /// Who coordinates a transactional id now.
    pub async fn coordinator_of(&self, id: &str) -> u32 {
        self.cluster.leader("__transactions", shard_of(id)).await.0
    }

    /// Waits until the markers of the producer's last transaction stand.
    pub async fn settled(&self, producer: &RawProducer) {
        wait_until("the transaction to be ended", async || {
            (producer.describe().await.state == TransactionState::Empty).then_some(())
        })
        .await;
    }
}

/// Creates a topic of three partitions.
///
/// # Panics
/// Where that fails.
pub async fn create(client: &Client, address: SocketAddr, name: &str) -> TopicId {
    client.admin().create_topic(&NewTopic::named(name).partitions(3)).await.unwrap();
    let known = metadata(address).await.unwrap();
    known.topics.iter().find(|topic| topic.name.as_str() == name).unwrap().topic_id
}

/// A transactional id, and who it is now.
#[derive(Clone, Debug)]
pub struct RawProducer {
    /// The brokers.
    pub addresses: Vec<SocketAddr>,
    /// The id.
    pub id: String,
    /// Who it is now.
    pub identity: ProducerIdentity,
}

impl RawProducer {
    /// A new producer under this id, whose transactions may stay open for so long.
    ///
    /// # Panics
    /// Where it gets no identity.
    pub async fn begin(addresses: &[SocketAddr], id: &str, timeout_ms: u32) -> Self {
        let identity = init(addresses, id, timeout_ms, None).await.unwrap();
        Self { addresses: addresses.to_vec(), id: id.into(), identity }
    }

    /// Who it is now, as it was told before: after an abort.
    ///
    /// # Errors
    /// What the coordinator says.
    pub async fn ask_again(&mut self) -> Result<(), WireError> {
        self.identity = init(&self.addresses, &self.id, 0, Some(self.identity.clone())).await?;
        Ok(())
    }

    /// Writes values to a partition within its transaction, from sequence `first` on.
    ///
    /// # Errors
    /// What the leader says, where asking again does not help.
    pub async fn send(
        &self,
        (topic_id, partition): (TopicId, u32),
        first: i32,
        values: &[&str],
    ) -> Result<Offset, WireError> {
        let request = ProduceRequest {
            topic_id,
            partition: PartitionId(partition),
            leader_epoch: None,
            acks: Acks::All,
            expected_log_end: None,
            transactional_id: Some(self.id.clone()),
        };
        let batch = self.batch(first, values);
        again("the leader to take a batch", async || {
            let leader = leader_of(&self.addresses, topic_id, partition).await?;
            ask_with(leader, &request, &batch).await
        })
        .await
        .map(|response| response.base_offset)
    }

    /// Commits offsets of a group within its transaction, as nobody's member.
    ///
    /// # Errors
    /// What the group's coordinator says.
    pub async fn commit_offsets(&self, group: &str, offsets: Vec<CommittedOffset>) -> Result<(), WireError> {
        let (transactional_id, identity) = (self.id.clone(), self.identity.clone());
        let transaction = Some(CommitTransaction { transactional_id, identity });
        let request =
            OffsetCommitRequest { group: group.into(), member_id: None, member_epoch: 0, offsets, transaction };
        ask_coordinator(&self.addresses, (Coordinated::Group, group), &request).await.map(drop)
    }

    /// Ends its transaction, and is who it is told to be from then on.
    ///
    /// # Errors
    /// What the coordinator says.
    pub async fn end(&mut self, commit: bool) -> Result<(), WireError> {
        let request =
            EndTransactionRequest { transactional_id: self.id.clone(), identity: self.identity.clone(), commit };
        let answer = ask_coordinator(&self.addresses, (Coordinated::Transaction, &self.id), &request).await?;
        self.identity = answer.identity;
        Ok(())
    }

    /// How its id is.
    ///
    /// # Panics
    /// Where nobody says.
    pub async fn describe(&self) -> DescribeTransactionResponse {
        let request = DescribeTransactionRequest { transactional_id: self.id.clone() };
        ask_coordinator(&self.addresses, (Coordinated::Transaction, &self.id), &request).await.unwrap()
    }

    /// A batch of its transaction.
    ///
    /// # Panics
    /// Where the values are too much for one.
    #[must_use]
    pub fn batch(&self, first: i32, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1 << 20);
        let ProducerIdentity { producer_id: id, epoch } = self.identity;
        builder.set_producer(Producer { id, epoch, base_sequence: Sequence(first) });
        builder.set_attributes(builder.attributes().transactional());
        for value in values {
            builder.append(Timestamp(5), None, Some(value.as_bytes()), NO_HEADERS).unwrap();
        }
        builder.finish(Compression::None).unwrap().to_vec()
    }
}

/// Asks who the producer under an id is.
///
/// # Errors
/// What the coordinator says.
pub async fn init(
    addresses: &[SocketAddr],
    id: &str,
    timeout_ms: u32,
    current: Option<ProducerIdentity>,
) -> Result<ProducerIdentity, WireError> {
    let transactional_id = Some(id.to_owned());
    let request = InitProducerIdRequest { transactional_id, transaction_timeout_ms: timeout_ms, current };
    let answer = ask_coordinator(addresses, (Coordinated::Transaction, id), &request).await?;
    Ok(ProducerIdentity { producer_id: answer.producer_id, epoch: answer.epoch })
}

/// Asks the coordinator of a group or transactional id, wherever it is, and again where that may help.
///
/// # Errors
/// What it says otherwise.
///
/// # Panics
/// Where nothing helps.
pub async fn ask_coordinator<R: Request>(
    addresses: &[SocketAddr],
    (kind, key): (Coordinated, &str),
    request: &R,
) -> Result<R::Response, WireError> {
    again("a coordinator's answer", async || {
        let find = FindCoordinatorRequest { kind, key: key.to_owned(), classic: false };
        let mut nobody = NoAnswer::Silence("nobody to ask".into());
        for address in addresses {
            match ask(*address, &find).await {
                Ok(found) => {
                    let at = format!("{}:{}", found.host, found.port).parse();
                    return ask(at.map_err(|error| NoAnswer::Silence(format!("{error}")))?, request).await;
                }
                Err(error) => nobody = error,
            }
        }
        Err(nobody)
    })
    .await
}

/// How far a partition can be read: what is committed up to the first, everything up to the second.
///
/// # Panics
/// Where nobody says.
pub async fn ends(addresses: &[SocketAddr], topic_id: TopicId, partition: u32) -> (Offset, Offset) {
    let end = async |committed_only| {
        let position = Position { kind: PositionKind::Latest, value: 0 };
        let queries = vec![OffsetQuery { partition: PartitionId(partition), position }];
        let request = ListOffsetsRequest { topic_id, queries, committed_only, settled: false };
        let answer = again("the end of a partition", async || {
            let leader = leader_of(addresses, topic_id, partition).await?;
            let mut answer = ask(leader, &request).await?.answers.remove(0);
            match answer.fault.take() {
                Some(fault) => Err(NoAnswer::Fault(fault.into())),
                None => Ok(answer.offset),
            }
        });
        answer.await.unwrap().expect("an end is somewhere")
    };
    let stable = end(true).await;
    (stable, end(false).await)
}

/// Waits until nothing is open in a partition that holds anything.
///
/// # Panics
/// Where that never comes.
pub async fn nothing_open(addresses: &[SocketAddr], topic_id: TopicId, partition: u32) {
    insist("the last stable offset to reach the end", async || {
        let (stable, end) = ends(addresses, topic_id, partition).await;
        if stable == end { Ok(()) } else { Err(format!("partition {partition}: stable up to {stable} of {end}")) }
    })
    .await;
}

/// Where the leader of a partition listens.
async fn leader_of(addresses: &[SocketAddr], topic_id: TopicId, partition: u32) -> Result<SocketAddr, NoAnswer> {
    let mut nobody = "nobody to ask".to_owned();
    for address in addresses {
        match metadata(*address).await {
            Ok(known) => {
                let topic = known.topics.iter().find(|topic| topic.topic_id == topic_id);
                let leader = topic.and_then(|topic| topic.partitions.get(partition as usize)?.leader);
                let broker = leader.and_then(|leader| known.brokers.iter().find(|broker| broker.broker_id == leader));
                match broker.and_then(|broker| format!("{}:{}", broker.host, broker.port).parse().ok()) {
                    Some(found) => return Ok(found),
                    None => nobody = "no leader".into(),
                }
            }
            Err(why) => nobody = why,
        }
    }
    Err(NoAnswer::Silence(nobody))
}

/// Tries again while nobody answers, or the answer is that it may help.
async fn again<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, NoAnswer>) -> Result<T, WireError> {
    insist(what, async || match attempt().await {
        Ok(answer) => Ok(Ok(answer)),
        Err(NoAnswer::Fault(error)) if !error.code.is_retriable() => Ok(Err(error)),
        Err(NoAnswer::Fault(error)) => Err(error.to_string()),
        Err(NoAnswer::Silence(why)) => Err(why),
    })
    .await
}
