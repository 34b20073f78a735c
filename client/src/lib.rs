//! The Tidelog client. Knows nothing of how a broker works; it speaks the protocol and keeps its promises.
//!
//! In the order a program meets them:
//! - [`Client`]: a cheap handle on a cluster; it connects, reconnects and knows where partitions live. It keeps to the cluster that answered first.
//! - [`Admin`]: topics, offsets, state; brokers, replicas and who votes on metadata.
//! - [`Producer`]: records become batches, batches become deliveries.
//! - [`Consumer`]: a stream of records, or of borrowed batches.
//! - [`GroupConsumer`]: the same, sharing partitions with others and remembering how far they have come.
//! - [`TransactionalProducer`]: records and offsets that hold together or not at all; `exactly_once` from topic to topic.
//! - `outbox`, `inbox`, `sink` (features `outbox-sqlite` and `outbox-postgres`): a database of the application and the cluster never part; `sql` is
//!   what they share.
//! - `event_store`, with the feature `event-store`: aggregates as streams of events, with optimistic concurrency.
//! - `saga`, with the feature `saga`: what several services do together, each for itself, is done by all of them or undone.
//! - [`ClientError`], [`SendError`], [`ConsumeError`], [`GroupError`], [`TransactionError`]: what can go wrong, split by who must act.
//!
//! Underneath: `cluster` (metadata and the connection pool), `net` (one connection: frames in and out), `backoff`.
//!
//! ```no_run
//! use tidelog_client::{Client, NewTopic, Start};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:9092").await?;
//! client.admin().create_topic(&NewTopic::named("logs").partitions(3)).await?;
//!
//! let producer = client.producer().build()?;
//! let logs = producer.topic("logs").await?;
//! let delivery = logs.send(Some(b"host-7"), b"started").await?;
//! println!("written at {}", delivery.await?.offset.unwrap_or_default());
//!
//! let mut consumer = client.consumer().topic("logs").start(Start::Beginning).until_end().build().await?;
//! while let Some(record) = consumer.next().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod admin;
mod backoff;
mod client;
mod cluster;
mod conditional;
pub mod consumer;
mod error;
#[cfg(feature = "event-store")]
pub mod event_store;
pub mod group;
mod group_lag;
mod groups;
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
pub mod inbox;
mod listed;
mod net;
mod operations;
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
pub mod outbox;
pub mod producer;
#[cfg(feature = "saga")]
pub mod saga;
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
pub mod sink;
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
pub mod sql;
mod transactional_ids;
pub mod transactions;

pub use address::{Address, Addresses, InvalidAddress};
pub use admin::{Admin, NewTopic};
pub use backoff::Backoff;
pub use client::{Client, ClientBuilder};
pub use cluster::Survivor;
pub use consumer::{
    BatchRecords, BatchView, ConsumeError, Consumer, ConsumerBuilder, ConsumerRecord, OutOfRange, Start, TopicPartition,
};
pub use error::{ClientError, GroupBehind};
pub use group::{CommitMode, GroupConsumer, GroupConsumerBuilder, GroupError, GroupRecord, RebalanceListener};
pub use group_lag::GroupLag;
pub use listed::{DescribedTopics, Listed, MissingShards};
pub use producer::{
    Delivery, Partitioner, Producer, ProducerBuilder, Receipt, Record, RecordRef, SendError, TopicProducer,
};

pub use transactional_ids::TransactionFilter;
pub use transactions::{
    Committing, ExactlyOnceOptions, Transaction, TransactionError, TransactionSender, TransactionalProducer,
    TransactionalProducerBuilder,
};

/// The words of the protocol that this crate's own signatures use.
pub use tidelog_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName, WireError,
    error::Actor,
    messages::{Acks, Isolation, Position, PositionKind},
    records::Compression,
};

/// The messages that [`Admin`] takes and gives.
pub mod messages {
    pub use tidelog_protocol::messages::{
        BalanceResponse, BrokerDescription, BrokerStanding, CommittedOffset, ConfigEntry, DescribeBrokerResponse,
        DescribeClusterResponse, DescribeGroupResponse, DescribeTransactionResponse, DrainBrokerResponse,
        EndedTransaction, GroupListing, GroupState, LogHealth, MemberDescription, PartitionCounts, PartitionFilter,
        PartitionReplicas, ProducerIdentity, ReassignResponse, ReplicaAssignment, TopicPartitions, TransactionEnder,
        TransactionListing, TransactionState, VoterChange,
    };
}
