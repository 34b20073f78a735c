//! The shop's database: a table of orders and an outbox, in SQLite or PostgreSQL. Knows nothing of brokers.

use sqlx::{PgPool, SqlitePool};
use tidelog_client::outbox::{Backlog, Event, Outbox, stage};
use tidelog_client::sql::{DatabaseError, Dialect, open_postgres, open_sqlite};

use super::demo::Failure;

/// Where orders are kept.
#[derive(Clone)]
pub enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Whether an order and its event share a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Staging {
    Within,
    /// What must not be done: the event has a transaction of its own.
    Outside,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS orders (customer TEXT NOT NULL, number BIGINT NOT NULL, PRIMARY KEY (customer, number))";
const TAKE: &str = "INSERT INTO orders (customer, number) SELECT $1, coalesce(max(number), 0) + 1 FROM orders WHERE customer = $1 RETURNING number";

macro_rules! take {
    ($database:ty, $pool:expr, $customer:expr, $staging:expr, $is_refused:expr) => {{
        let mut transaction = <$database>::begin($pool).await?;
        let number: i64 = sqlx::query_scalar(TAKE).bind($customer).fetch_one(&mut *transaction).await?;
        let event = Event::of("order", $customer, "OrderPlaced").payload(format!("{} {number}", $customer));
        match $staging {
            Staging::Within => stage(&mut transaction, event).await?,
            Staging::Outside => {
                // In PostgreSQL at once; SQLite has one writer at a time, so there it is before or after.
                if $is_refused {
                    transaction.rollback().await?;
                } else {
                    transaction.commit().await?;
                }
                let mut own = <$database>::begin($pool).await?;
                stage(&mut own, event).await?;
                own.commit().await?;
                return Ok(());
            }
        }
        // The card is asked last, as it takes longest.
        if $is_refused {
            transaction.rollback().await?
        } else {
            transaction.commit().await?
        }
        Ok(())
    }};
}

impl Database {
    pub async fn open(url: &str) -> Result<Self, DatabaseError> {
        if url.starts_with("sqlite:") {
            Ok(Self::Sqlite(open_sqlite(url).await?))
        } else {
            Ok(Self::Postgres(open_postgres(url).await?))
        }
    }

    /// Makes the tables, empty.
    pub async fn prepare(&self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(pool) => {
                sqlx::query(TABLE).execute(pool).await?;
                Outbox::sqlite(pool.clone()).migrate().await?;
            }
            Self::Postgres(pool) => {
                sqlx::query(TABLE).execute(pool).await?;
                sqlx::query("DELETE FROM orders").execute(pool).await?;
                Outbox::postgres(pool.clone()).migrate().await?;
            }
        }
        Ok(())
    }

    /// Takes an order; undone where the card is refused.
    pub async fn take(&self, customer: &str, staging: Staging, is_refused: bool) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(pool) => take!(sqlx::Sqlite, pool, customer, staging, is_refused),
            Self::Postgres(pool) => take!(sqlx::Postgres, pool, customer, staging, is_refused),
        }
    }

    /// All orders.
    pub async fn orders(&self) -> Result<Vec<(String, i64)>, DatabaseError> {
        const ALL: &str = "SELECT customer, number FROM orders";
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_as(ALL).fetch_all(pool).await?,
            Self::Postgres(pool) => sqlx::query_as(ALL).fetch_all(pool).await?,
        })
    }

    /// How many.
    pub async fn count(&self) -> Result<i64, DatabaseError> {
        const COUNT: &str = "SELECT count(*) FROM orders";
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await?,
        })
    }

    /// What waits to be published.
    pub async fn backlog(&self) -> Result<Backlog, DatabaseError> {
        match self {
            Self::Sqlite(pool) => Outbox::sqlite(pool.clone()).backlog().await,
            Self::Postgres(pool) => Outbox::postgres(pool.clone()).backlog().await,
        }
    }
}
