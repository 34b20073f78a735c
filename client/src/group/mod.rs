//! Groups: consumers that share the partitions of topics, and remember together how far they have come.
//!
//! - [`GroupConsumerBuilder`]: what is read, and how; `joining`: how a member comes about.
//! - [`GroupConsumer`]: a member as the program has it; [`GroupRecord`]: a record in its hands.
//! - `member`: what a member says and does, pure; `heartbeats`: the task that does it.
//! - `work`: the partitions and records at hand; `progress`: what is done of one partition, pure.
//! - `taking`, `letting_go`: partitions come and go; [`RebalanceListener`] is told; `ear` passes that on.
//! - [`Commits`]: how far the group has come; `offer`: the same as part of a transaction.
//! - [`RunOptions`]: many records at once, with tries and dead letters; `lanes`: in which order, pure.
//! - `dead_letter`: a record that failed for good, in its topic; `letters`: in which; [`DeadLetters`]: what an operator does with them,
//!   `sent_back`: which are done with, pure.
//! - [`GroupError`]: what can go wrong, split by who must act.

mod builder;
mod commits;
mod consumer;
mod dead_letter;
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres", feature = "saga"))]
mod ear;
mod error;
mod heartbeats;
mod joining;
mod lanes;
mod letters;
mod letting_go;
mod member;
#[cfg(test)]
mod member_model;
#[cfg(test)]
mod member_rules;
mod offer;
mod progress;
mod rebalance;
mod record;
mod redrive;
mod run;
mod run_options;
mod sent_back;
mod shared;
mod taking;
mod work;

pub use builder::{CommitMode, GroupConsumerBuilder};
pub use commits::{CommitTicket, Commits, GroupOffset};
pub use consumer::GroupConsumer;
pub use dead_letter::{DeadLetter, Origin};
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres", feature = "saga"))]
pub(crate) use ear::{Ear, Word};
pub use error::GroupError;
pub(crate) use letters::Letters;
pub(crate) use offer::Offer;
pub use rebalance::{Call, RebalanceListener};
pub use record::GroupRecord;
pub use redrive::{DeadLetters, RedriveFilter, Redriven};
pub(crate) use run::{begun, caught};
pub use run_options::{DeadLetterTopic, Order, RetryPolicy, RunOptions};
