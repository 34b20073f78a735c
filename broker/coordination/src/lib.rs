//! The rules of the cluster, pure. Knows nothing of clocks, files, threads, sockets or random numbers: `no_std`, so that the
//! compiler refuses them. The time and every random value arrive in the command.
//!
//! In the order a change of metadata meets them:
//! - [`command`]: what can be asked for, and what comes back.
//! - [`controller`]: the state machine `handle(command, now) → records + reply`, `replay(record)`.
//! - [`topic_config`]: the one table of topic configuration keys, and [`nearest`] for names that were misspelt.
//! - [`placement`]: which brokers hold a new partition.
//! - [`records`]: what is written to the metadata log.
//! - [`image`]: the metadata as of one index of that log.
#![no_std]
extern crate alloc;

pub mod command;
pub mod controller;
pub mod image;
pub mod nearest;
pub mod placement;
pub mod records;
pub mod topic_config;

pub use command::{Command, Decision, Refusal, Reply};
pub use controller::Controller;
pub use image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
pub use records::{MetadataRecord, RecordError};
pub use topic_config::{InvalidConfig, TopicConfig};
