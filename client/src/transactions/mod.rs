//! Transactions: records of many partitions, and offsets of a group, that hold together or not at all.
//!
//! - [`TransactionalProducerBuilder`]: under which id, and how records are sent.
//! - [`TransactionalProducer`]: has one transaction at a time; [`Transaction`]: its scope, which is undone unless it is committed.
//! - [`Committing`]: its commit, while the next one goes on; `line`: how they follow each other.
//! - [`TransactionSender`]: sends within it, from anywhere.
//! - [`TransactionalProducer::exactly_once`]: processes what a group's member reads, with [`ExactlyOnceOptions`].
//! - `standing`: who the producer is, and what an answer means for that, pure; `coordinator`: asks.
//! - [`TransactionError`]: what can go wrong, split by who must act.

mod builder;
mod committing;
mod coordinator;
mod error;
mod exactly_once;
mod exactly_once_options;
mod line;
mod producer;
mod sender;
mod standing;
#[cfg(test)]
mod standing_model;
mod transaction;

pub use builder::TransactionalProducerBuilder;
pub use committing::Committing;
pub use error::TransactionError;
pub use exactly_once_options::ExactlyOnceOptions;
pub use producer::TransactionalProducer;
pub use sender::TransactionSender;
pub use transaction::Transaction;
