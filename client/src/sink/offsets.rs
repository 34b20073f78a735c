//! Offsets in a table, each with the number of who may move it; for both databases. Knows nothing of groups.

use std::future::Future;

use sqlx::Transaction;

use crate::sql::{DatabaseError, Dialect, Statement};

pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS {table} (sink TEXT NOT NULL, topic TEXT NOT NULL, partition_index BIGINT NOT NULL, \
     next_offset BIGINT, epoch BIGINT NOT NULL, PRIMARY KEY (sink, topic, partition_index))";
/// The bare name within the update is the row that is there.
pub(super) const CLAIM: &str = "INSERT INTO {table} (sink, topic, partition_index, next_offset, epoch) VALUES ($1, $2, $3, NULL, 1) \
     ON CONFLICT (sink, topic, partition_index) DO UPDATE SET epoch = {bare}.epoch + 1 RETURNING next_offset, epoch";
pub(super) const ADVANCE: &str =
    "UPDATE {table} SET next_offset = $5 WHERE sink = $1 AND topic = $2 AND partition_index = $3 AND epoch = $4";

/// Which row.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(super) sink: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: i64,
}

/// A database that a sink can write to.
pub trait SinkDatabase: Dialect {
    /// Makes the table.
    #[doc(hidden)]
    fn create(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// Has nobody move an offset who could until now: where it is, if anywhere, and the number to move it under.
    #[doc(hidden)]
    fn claim(
        transaction: &mut Transaction<'_, Self>,
        statement: &Statement,
        place: Place<'_>,
    ) -> impl Future<Output = Result<(Option<i64>, i64), DatabaseError>> + Send;
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
    ($database:ty) => {
        impl SinkDatabase for $database {
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
            ) -> Result<(Option<i64>, i64), DatabaseError> {
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
in_database!(sqlx::Sqlite);
#[cfg(feature = "outbox-postgres")]
in_database!(sqlx::Postgres);
