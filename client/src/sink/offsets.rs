//! Offsets in a table, each with the number of who may move it; for both databases. Knows nothing of groups.

use std::future::Future;

use sqlx::Transaction;

use crate::sql::{DatabaseError, Dialect, Statement};

pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS {table} (sink TEXT NOT NULL, topic TEXT NOT NULL, partition_index BIGINT NOT NULL, \
     next_offset BIGINT, epoch BIGINT NOT NULL, topic_id TEXT, PRIMARY KEY (sink, topic, partition_index))";
/// Tables of before do not know of which topic of a name they speak.
pub(super) const ADD_TOPIC_ID: &str = "ALTER TABLE {table} ADD COLUMN topic_id TEXT";
/// The bare name within the update is the row that is there.
pub(super) const CLAIM: &str = "INSERT INTO {table} (sink, topic, partition_index, next_offset, epoch) VALUES ($1, $2, $3, NULL, 1) \
     ON CONFLICT (sink, topic, partition_index) DO UPDATE SET epoch = {bare}.epoch + 1 RETURNING next_offset, epoch, topic_id";
pub(super) const BEGIN: &str = "UPDATE {table} SET next_offset = $5, topic_id = $6 \
     WHERE sink = $1 AND topic = $2 AND partition_index = $3 AND epoch = $4";
pub(super) const ADVANCE: &str =
    "UPDATE {table} SET next_offset = $5 WHERE sink = $1 AND topic = $2 AND partition_index = $3 AND epoch = $4";

/// A row as it is claimed: the next offset if any, the number to move it under, and the id of the topic that the offset is of, where it is known.
pub type Claimed = (Option<i64>, i64, Option<String>);

/// Which row.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(super) sink: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: i64,
}

/// A database that a sink can write to.
pub trait SinkDatabase: Dialect {
    /// Counts the columns of the table that are called `topic_id`.
    #[doc(hidden)]
    const TOPIC_IDS: &'static str;

    /// Makes the table, or changes it.
    #[doc(hidden)]
    fn create(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// How many there are.
    #[doc(hidden)]
    fn count(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
    ) -> impl Future<Output = Result<i64, DatabaseError>> + Send;
    /// Says of which topic an offset is, and where it is, under a number: false where another has claimed it.
    #[doc(hidden)]
    fn begin_at(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        place: Place<'_>,
        beginning: (i64, i64, &str),
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// Has nobody move an offset who could until now.
    #[doc(hidden)]
    fn claim(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        place: Place<'_>,
    ) -> impl Future<Output = Result<Claimed, DatabaseError>> + Send;
    /// Moves an offset: false where another has claimed it.
    #[doc(hidden)]
    fn advance(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        place: Place<'_>,
        epoch: i64,
        next: i64,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
}

#[allow(unused_macros, reason = "one of the databases alone may be chosen")]
macro_rules! in_database {
    ($database:ty, $topic_ids:literal) => {
        impl SinkDatabase for $database {
            const TOPIC_IDS: &'static str = $topic_ids;

            async fn count(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
            ) -> Result<i64, DatabaseError> {
                Ok(sqlx::query_scalar(statement.sql()).fetch_one(&mut **transaction).await?)
            }

            async fn begin_at(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                place: Place<'_>,
                (epoch, next, topic_id): (i64, i64, &str),
            ) -> Result<bool, DatabaseError> {
                let begin = sqlx::query(statement.sql()).bind(place.sink).bind(place.topic).bind(place.partition);
                let begun = begin.bind(epoch).bind(next).bind(topic_id).execute(&mut **transaction).await?;
                Ok(begun.rows_affected() == 1)
            }

            async fn create(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
            ) -> Result<(), DatabaseError> {
                sqlx::query(statement.sql()).execute(&mut **transaction).await?;
                Ok(())
            }

            async fn claim(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                place: Place<'_>,
            ) -> Result<Claimed, DatabaseError> {
                let claim = sqlx::query_as(statement.sql()).bind(place.sink).bind(place.topic).bind(place.partition);
                Ok(claim.fetch_one(&mut **transaction).await?)
            }

            async fn advance(
                transaction: &mut Transaction<'_, Self>,
                statement: &Statement,
                place: Place<'_>,
                epoch: i64,
                next: i64,
            ) -> Result<bool, DatabaseError> {
                let advance = sqlx::query(statement.sql()).bind(place.sink).bind(place.topic).bind(place.partition);
                let advanced = advance.bind(epoch).bind(next).execute(&mut **transaction).await?;
                Ok(advanced.rows_affected() == 1)
            }
        }
    };
}

#[cfg(feature = "outbox-sqlite")]
in_database!(sqlx::Sqlite, "SELECT count(*) FROM pragma_table_info('{bare}') WHERE name = 'topic_id'");
#[cfg(feature = "outbox-postgres")]
in_database!(
    sqlx::Postgres,
    "SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'topic_id' AND NOT attisdropped"
);
