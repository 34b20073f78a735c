//! An outbox as a program has it: its tables in one database. Knows nothing of how they are asked.

use super::dead::DeadEvent;
use super::event::Event;
use super::relay::Relay;
use super::schema::Schema;
use super::staging::Staging;
use super::store::{Backlog, Store};
use crate::Client;
use crate::sql::DatabaseError;

/// An outbox in one database.
#[derive(Clone, Debug)]
pub struct Outbox<S> {
    store: S,
    schema: Schema,
}

#[cfg(feature = "outbox-sqlite")]
impl Outbox<super::SqliteStore> {
    /// One in SQLite, with the usual names.
    #[must_use]
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::sqlite_with(pool, Schema::default())
    }

    /// One in SQLite, with names of your choice.
    #[must_use]
    pub fn sqlite_with(pool: sqlx::SqlitePool, schema: Schema) -> Self {
        Self { store: super::SqliteStore::new(pool, schema.clone()), schema }
    }
}

#[cfg(feature = "outbox-postgres")]
impl Outbox<super::PostgresStore> {
    /// One in PostgreSQL, with the usual names.
    #[must_use]
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self::postgres_with(pool, Schema::default())
    }

    /// One in PostgreSQL, with names of your choice.
    #[must_use]
    pub fn postgres_with(pool: sqlx::PgPool, schema: Schema) -> Self {
        Self { store: super::PostgresStore::new(pool, schema.clone()), schema }
    }
}

impl<S: Store> Outbox<S> {
    /// Makes the tables where they are missing. Costs little where they are there: call it as the program starts.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        self.store.migrate().await
    }

    /// As [`stage`](super::stage), with this outbox's names.
    ///
    /// # Errors
    /// As [`stage`](super::stage).
    pub async fn stage<T: Staging>(&self, transaction: &mut T, event: Event) -> Result<(), DatabaseError> {
        transaction.insert(&T::insertion(&self.schema), event).await
    }

    /// Starts to describe a relay of it.
    pub fn relay(&self, client: Client) -> Relay<S> {
        Relay::new(self.store.clone(), client)
    }

    /// What waits, and for how long.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn backlog(&self) -> Result<Backlog, DatabaseError> {
        self.store.backlog().await
    }

    /// Events that were set aside, as they cannot be sent, oldest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn dead_events(&self, limit: u32) -> Result<Vec<DeadEvent>, DatabaseError> {
        self.store.dead(limit).await
    }

    /// Puts events that were set aside behind all that waits: the one of this number, or all. How many.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn revive(&self, seq: Option<i64>) -> Result<u64, DatabaseError> {
        self.store.revive(seq).await
    }
}
