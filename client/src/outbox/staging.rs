//! Writes an event into the outbox, in the application's own transaction. Knows nothing of relays.

use std::future::Future;

use super::event::Event;
use super::schema::Schema;
use crate::sql::{DatabaseError, Statement};

/// A transaction in which events can be staged: `sqlx::Transaction` of SQLite or PostgreSQL. Nothing else is one, so that no event is staged by itself.
pub trait Staging: Send {
    /// The statement for the usual names.
    #[doc(hidden)]
    fn usual() -> &'static Statement;
    /// The statement for these names.
    #[doc(hidden)]
    fn insertion(schema: &Schema) -> Statement;
    /// Writes the row.
    #[doc(hidden)]
    fn insert(&mut self, insertion: &Statement, event: Event)
    -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// Writes `event` into the table `outboxevent`, in the application's own transaction: it is published once that is committed, and never if it is not.
/// For tables of other names there is [`Outbox::stage`](super::Outbox::stage).
///
/// In PostgreSQL the table takes a lock of the aggregate until the end of the transaction: others with events of the same aggregate wait, so that the order of
/// its events is that of the commits. Two transactions that stage events of several aggregates in different orders may so be in each other's way; PostgreSQL
/// then undoes one of them ([`DatabaseError::Passing`]), which is to be tried again. A transaction with events of many thousand aggregates takes as many
/// locks, for which the server must have room (`max_locks_per_transaction`).
///
/// A program in another language inserts the five columns of Debezium's itself. In SQLite it is to leave the relay with one shard then, the default: which
/// shard an aggregate belongs to is written by this function there. SQLite takes any value into any column: what should be a text and is none, as an
/// id of 16 bytes, is published in hexadecimal, and a payload that is a number by its digits.
///
/// # Errors
/// [`DatabaseError`]: the transaction can only be undone.
pub async fn stage<T: Staging>(transaction: &mut T, event: Event) -> Result<(), DatabaseError> {
    transaction.insert(T::usual(), event).await
}
