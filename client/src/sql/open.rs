//! Opens a database with the settings that promises hang on. Knows nothing of tables.

use std::str::FromStr;
use std::time::Duration;

use super::DatabaseError;

/// Connections of a pool. A relay needs three at most.
const CONNECTIONS: u32 = 8;
/// How long a connection is waited for, and a lock of SQLite.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a database of SQLite, such as `sqlite:shop.db`, and makes it where it does not exist. In write-ahead mode, so that readers and the writer do not
/// wait for each other; `synchronous=FULL`, so that what is committed is on disk; and the lock is waited for for ten seconds.
///
/// Begin transactions that write with `pool.begin_with("BEGIN IMMEDIATE")`: one that reads first and writes later is refused where another has
/// written in between.
///
/// # Errors
/// [`DatabaseError`].
#[cfg(feature = "outbox-sqlite")]
pub async fn open_sqlite(url: &str) -> Result<sqlx::SqlitePool, DatabaseError> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    Ok(SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}

/// Opens a database of PostgreSQL, such as `postgres://user@host/database`.
///
/// # Errors
/// [`DatabaseError`].
#[cfg(feature = "outbox-postgres")]
pub async fn open_postgres(url: &str) -> Result<sqlx::PgPool, DatabaseError> {
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    let options = PgConnectOptions::from_str(url)?;
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}
