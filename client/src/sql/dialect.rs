//! The databases that parts of this crate are written for both at once. Knows nothing of tables.

use std::future::Future;

use sqlx::{Pool, Transaction};

use super::DatabaseError;

/// A database of which there are two: `sqlx::Sqlite` and `sqlx::Postgres`.
pub trait Dialect: sqlx::Database {
    /// Begins a transaction that is going to write.
    fn begin(pool: &Pool<Self>) -> impl Future<Output = Result<Transaction<'static, Self>, DatabaseError>> + Send;
}

#[cfg(feature = "outbox-sqlite")]
impl Dialect for sqlx::Sqlite {
    async fn begin(pool: &Pool<Self>) -> Result<Transaction<'static, Self>, DatabaseError> {
        Ok(pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[cfg(feature = "outbox-postgres")]
impl Dialect for sqlx::Postgres {
    async fn begin(pool: &Pool<Self>) -> Result<Transaction<'static, Self>, DatabaseError> {
        Ok(pool.begin().await?)
    }
}
