//! The statements of the inbox, for both databases. Knows nothing of records.

use std::future::Future;

use sqlx::Transaction;

use crate::sql::{DatabaseError, Dialect, Statement};

pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS {table} (consumer TEXT NOT NULL, id TEXT NOT NULL, seen_ms BIGINT NOT NULL, \
     PRIMARY KEY (consumer, id))";
pub(super) const NOTE: &str = "INSERT INTO {table} (consumer, id, seen_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
/// Earlier releases noted a place without its topic's id: such a note (4) counts where it was made since the topic was (5), and not while another had its name.
pub(super) const NOTE_PLACE: &str = "INSERT INTO {table} (consumer, id, seen_ms) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT) \
     WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE consumer = $1 AND id = $4 AND seen_ms >= $5) ON CONFLICT DO NOTHING";
pub(super) const FORGET: &str = "DELETE FROM {table} WHERE consumer = $1 AND seen_ms < $2";

/// What a record is called by that is known by where it stands.
#[derive(Clone, Debug)]
pub struct PlaceIds {
    pub(super) id: String,
    /// As earlier releases have it.
    pub(super) before: String,
    /// When the topic was made.
    pub(super) since_ms: i64,
}

/// A database that an inbox can be in.
pub trait InboxDatabase: Dialect {
    /// Makes the table.
    #[doc(hidden)]
    fn create(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// Notes a record: false where it was noted before.
    #[doc(hidden)]
    fn note(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        consumer: &str,
        id: &str,
        now_ms: i64,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// Notes a record by its place: false where it was noted before, also as an earlier release did it.
    #[doc(hidden)]
    fn note_place(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        consumer: &str,
        ids: &PlaceIds,
        now_ms: i64,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// Forgets what was noted before a time.
    #[doc(hidden)]
    fn forget(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        consumer: &str,
        before_ms: i64,
    ) -> impl Future<Output = Result<u64, DatabaseError>> + Send;
}

#[allow(unused_macros, reason = "one of the databases alone may be chosen")]
macro_rules! in_database {
    ($database:ty) => {
        impl InboxDatabase for $database {
            async fn create(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
            ) -> Result<(), DatabaseError> {
                sqlx::query(statement.sql()).execute(&mut **transaction).await?;
                Ok(())
            }

            async fn note(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                consumer: &str,
                id: &str,
                now_ms: i64,
            ) -> Result<bool, DatabaseError> {
                let note = sqlx::query(statement.sql()).bind(consumer).bind(id).bind(now_ms);
                Ok(note.execute(&mut **transaction).await?.rows_affected() == 1)
            }

            async fn note_place(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                consumer: &str,
                ids: &PlaceIds,
                now_ms: i64,
            ) -> Result<bool, DatabaseError> {
                let note = sqlx::query(statement.sql()).bind(consumer).bind(&ids.id).bind(now_ms);
                let note = note.bind(&ids.before).bind(ids.since_ms);
                Ok(note.execute(&mut **transaction).await?.rows_affected() == 1)
            }

            async fn forget(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                consumer: &str,
                before_ms: i64,
            ) -> Result<u64, DatabaseError> {
                let forget = sqlx::query(statement.sql()).bind(consumer).bind(before_ms);
                Ok(forget.execute(&mut **transaction).await?.rows_affected())
            }
        }
    };
}

#[cfg(feature = "outbox-sqlite")]
in_database!(sqlx::Sqlite);
#[cfg(feature = "outbox-postgres")]
in_database!(sqlx::Postgres);
