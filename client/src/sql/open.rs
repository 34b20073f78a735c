//! Opens a database with the settings that promises hang on. Knows nothing of tables.

#[cfg(feature = "outbox-postgres")]
use std::io;
use std::str::FromStr;
use std::time::Duration;
#[cfg(feature = "outbox-postgres")]
use std::time::Instant;

#[cfg(feature = "outbox-sqlite")]
use sqlx::sqlite::SqliteConnectOptions;

use super::DatabaseError;

/// Connections of a pool. A relay needs three at most.
const CONNECTIONS: u32 = 8;
/// How long a connection is waited for, and a lock of SQLite.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to reach a server.
#[cfg(feature = "outbox-postgres")]
const PAUSE: Duration = Duration::from_millis(200);

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
    open_sqlite_with(SqliteConnectOptions::from_str(url)?.create_if_missing(true)).await
}

/// As [`open_sqlite`], where the database exists: it is not made, as one would be of a path that was mistyped.
///
/// # Errors
/// [`DatabaseError::Absent`], with the path; else as [`open_sqlite`].
#[cfg(feature = "outbox-sqlite")]
pub async fn open_existing_sqlite(url: &str) -> Result<sqlx::SqlitePool, DatabaseError> {
    let options = SqliteConnectOptions::from_str(url)?.create_if_missing(false);
    let path = options.get_filename();
    // One in memory has a name that is no path.
    let is_file = !url.contains(":memory:") && !url.contains("mode=memory");
    if is_file && !path.exists() {
        return Err(DatabaseError::Absent { path: path.display().to_string() });
    }
    open_sqlite_with(options).await
}

#[cfg(feature = "outbox-sqlite")]
async fn open_sqlite_with(options: SqliteConnectOptions) -> Result<sqlx::SqlitePool, DatabaseError> {
    use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
    let options =
        options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full).busy_timeout(PATIENCE);
    Ok(SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}

/// Opens a database of PostgreSQL, such as `postgres://user@host/database`. A server that takes no connections, as it starts, is waited for for ten seconds.
///
/// # Errors
/// [`DatabaseError`], with what the server said, or why it could not be reached.
#[cfg(feature = "outbox-postgres")]
pub async fn open_postgres(url: &str) -> Result<sqlx::PgPool, DatabaseError> {
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use sqlx::{ConnectOptions, Connection};
    let options = PgConnectOptions::from_str(url)?;
    let began = Instant::now();
    // A connection by itself first: of one that it cannot make a pool tells nothing but that time ran out.
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let error = match tokio::time::timeout(left, options.connect()).await {
            Ok(Ok(connection)) => {
                // It was only to see that there can be one; where it breaks now, the pool notices.
                let _ = connection.close().await;
                break;
            }
            Ok(Err(error)) => DatabaseError::from(error),
            Err(_) => {
                let (host, port) = (options.get_host(), options.get_port());
                let silence = format!("{host}:{port} did not answer within {PATIENCE:?}");
                sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, silence)).into()
            }
        };
        if !error.is_retriable() || began.elapsed() + PAUSE >= PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}
