//! The databases that the tests of the outbox run in: SQLite in a file, and a PostgreSQL of its own. Knows nothing of events.

use std::future::Future;

use sqlx::{Pool, Postgres, Sqlite, Transaction};
use tempfile::TempDir;
use tidelog_client::outbox::{Event, Outbox, PostgresStore, SqliteStore, Store};
use tidelog_client::sql::{DatabaseError, Dialect, open_postgres, open_sqlite};

use crate::postgres_process::PostgresProcess;

/// A database that the shop can be in.
pub trait ShopDatabase: Dialect {
    /// The tables of its outbox.
    type Tables: Store;
    /// Opens it.
    fn open(url: &str) -> impl Future<Output = Pool<Self>> + Send;
    /// Its outbox.
    fn outbox(pool: &Pool<Self>) -> Outbox<Self::Tables>;
    /// Makes the table of aggregates.
    fn prepare(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;
    /// Counts an event of an aggregate: its number.
    fn count(
        transaction: &mut Transaction<'static, Self>,
        key: &str,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
    /// As [`tidelog_client::outbox::stage`].
    fn stage(
        transaction: &mut Transaction<'static, Self>,
        event: Event,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// The aggregates and how many events each has.
    fn counts(pool: &Pool<Self>) -> impl Future<Output = Vec<(String, i64)>> + Send;
    /// Runs a statement without arguments.
    fn execute(pool: &Pool<Self>, statement: &'static str) -> impl Future<Output = u64> + Send;
}

macro_rules! shop_in {
    ($database:ty, $store:ty, $open:path, $outbox:path) => {
        impl ShopDatabase for $database {
            type Tables = $store;

            async fn open(url: &str) -> Pool<Self> {
                $open(url).await.unwrap()
            }

            fn outbox(pool: &Pool<Self>) -> Outbox<$store> {
                $outbox(pool.clone())
            }

            async fn prepare(pool: &Pool<Self>) {
                let table = "CREATE TABLE IF NOT EXISTS aggregate (key TEXT PRIMARY KEY, events BIGINT NOT NULL)";
                sqlx::query(table).execute(pool).await.unwrap();
            }

            async fn count(transaction: &mut Transaction<'static, Self>, key: &str) -> Result<i64, sqlx::Error> {
                let count = "INSERT INTO aggregate (key, events) VALUES ($1, 1) \
                             ON CONFLICT (key) DO UPDATE SET events = aggregate.events + 1 RETURNING events";
                sqlx::query_scalar(count).bind(key).fetch_one(&mut **transaction).await
            }

            async fn stage(transaction: &mut Transaction<'static, Self>, event: Event) -> Result<(), DatabaseError> {
                tidelog_client::outbox::stage(transaction, event).await
            }

            async fn counts(pool: &Pool<Self>) -> Vec<(String, i64)> {
                sqlx::query_as("SELECT key, events FROM aggregate").fetch_all(pool).await.unwrap()
            }

            async fn execute(pool: &Pool<Self>, statement: &'static str) -> u64 {
                sqlx::query(statement).execute(pool).await.unwrap().rows_affected()
            }
        }
    };
}

shop_in!(Sqlite, SqliteStore, open_sqlite, Outbox::sqlite);
shop_in!(Postgres, PostgresStore, open_postgres, Outbox::postgres);

/// A place for a database.
#[derive(Debug)]
pub enum Home {
    /// A file.
    Sqlite(TempDir),
    /// A server.
    Postgres(Box<PostgresProcess>),
}

impl Home {
    /// A folder for SQLite.
    ///
    /// # Panics
    /// Where there is none to be had.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A server of PostgreSQL.
    #[must_use]
    pub fn postgres() -> Self {
        Self::Postgres(Box::new(PostgresProcess::start()))
    }

    /// How the database there is opened.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("shop.db").display()),
            Self::Postgres(process) => process.url(),
        }
    }
}
