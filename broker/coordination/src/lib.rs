//! The rules of the cluster, pure. Knows nothing of clocks, files, threads, sockets or random numbers: `no_std`, so that the
//! compiler refuses them. The time and every random value arrive in the command.
//!
//! In the order a change of metadata meets them:
//! - [`command`]: what can be asked for, and what comes back.
//! - [`controller`]: the state machine `handle(command, now) → records + reply`, `replay(record)`.
//! - `topics`: topics are created, changed and deleted.
//! - [`topic_config`]: the one table of topic configuration keys; `config_values`: their values as text; `invalid_config`: why one is refused,
//!   and [`nearest`] for names that were misspelt.
//! - `registration`: brokers start, lose their lease, come back, shut down, are removed.
//! - [`leases`]: which brokers were heard of lately; [`confirmation`]: what leases may be given, and when those of a predecessor have ended.
//! - `in_sync`: a leader changes who is in sync with it; `holdings`: a broker does not hold what it is counted on for.
//! - `election`: who leads a partition and who counts as in sync, when brokers come and go.
//! - `changes`: one such change to many partitions.
//! - `leadership`: elections that somebody asks for.
//! - `reassignment`: replicas move by order, or off a broker that is being emptied; `balance` plans such moves, [`catching_up`] says who sends to whom
//!   meanwhile.
//! - `placement`: which brokers hold a partition; [`internal_topics`]: the broker's own topics grow with the cluster.
//! - [`records`]: what is written to the metadata log.
//! - `partition`: what holds of the state of every partition.
//! - [`image`]: the metadata as of one index of that log, and [`description`]: how an operator sees it.
//!
//! Beside it:
//! - [`groups`]: consumer groups, machines of their own over internal topics.
//! - [`transactions`]: transactional producers, likewise.
//! - [`salvage`]: what is left of the log of either where a part is lost for good.
//! - `keyed_record`: the bytes of what those two write; `versioned_body`: how they, and metadata, say a record.
//! - [`counted`]: a count with its noun.
//! - [`planted`]: bugs on purpose, for tests.
#![no_std]
extern crate alloc;

mod balance;
pub mod catching_up;
mod changes;
pub mod command;
mod config_values;
pub mod confirmation;
pub mod controller;
mod counted;
pub mod description;
mod election;
pub mod groups;
mod holdings;
pub mod image;
mod in_sync;
pub mod internal_topics;
mod invalid_config;
mod keyed_record;
mod leadership;
pub mod leases;
pub mod nearest;
mod partition;
mod placement;
pub mod planted;
pub mod producer_ids;
mod reassignment;
pub mod records;
mod registration;
pub mod salvage;
pub mod topic_config;
mod topics;
pub mod transactions;
mod versioned_body;

pub use command::{Command, Decision, Refusal, Reply};
pub use controller::Controller;
pub use counted::counted;
pub use image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
pub use invalid_config::InvalidConfig;
pub use records::{MetadataRecord, RecordError};
pub use topic_config::TopicConfig;
