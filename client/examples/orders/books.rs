//! The database of a service: what it has done for which order, what that is in total, and an outbox. What a service does and the event that tells of it
//! are one transaction, whoever asks for it. Knows nothing of who asks, and of how it is recognised that something is asked again.

use std::path::Path;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, Transaction};
use tidelog_client::Client;
use tidelog_client::inbox::Inbox;
use tidelog_client::outbox::{Backlog, Event, Outbox, stage};
use tidelog_client::saga::SagaInput;
use tidelog_client::sql::{DatabaseError, Dialect, open_sqlite};

use super::demo::Failure;
use super::order::Order;
use super::services::Service;

/// Pieces that there are.
const STOCK: i64 = 20_000;
/// How long what is staged waits where the process that published was killed.
const LEASE: Duration = Duration::from_secs(1);

const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS effects (id TEXT NOT NULL, amount INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS total (amount INTEGER NOT NULL)",
    "INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total)",
];

/// The books of a service.
#[derive(Clone)]
pub struct Books {
    /// Whose.
    pub service: &'static Service,
    /// Of the database.
    pub pool: SqlitePool,
    /// Of a hundred orders so many are refused.
    refusals: u8,
}

/// What became of what a service was to do.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Nothing was done, for this reason.
    Refused(String),
}

impl Books {
    /// Those of this service, with their tables. They refuse nothing.
    pub async fn open(folder: &Path, service: &'static Service) -> Result<Self, DatabaseError> {
        let pool = open_sqlite(&format!("sqlite:{}", folder.join(format!("{}.db", service.name)).display())).await?;
        Inbox::default().migrate(&pool).await?;
        Outbox::sqlite(pool.clone()).migrate().await?;
        let mut transaction = Sqlite::begin(&pool).await?;
        for table in TABLES {
            sqlx::query(table).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(Self { service, pool, refusals: 0 })
    }

    /// Of a hundred orders so many are refused.
    pub const fn refusing(mut self, refusals: u8) -> Self {
        self.refusals = refusals;
        self
    }

    /// Does the service's part of an order, or refuses it; and tells so.
    pub async fn act(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        id: &str,
        order: &Order,
    ) -> Result<Outcome, DatabaseError> {
        let Service { name, done, refused, .. } = self.service;
        let amount = self.service.amount(order);
        let total: i64 = sqlx::query_scalar("SELECT amount FROM total").fetch_one(&mut **transaction).await?;
        if self.service.is_refused(order, self.refusals) || (*name == "inventory" && total + amount > STOCK) {
            self.tell(transaction, id, refused, order).await?;
            return Ok(Outcome::Refused(format!("{id} as it is: {refused}")));
        }
        let note = sqlx::query("INSERT INTO effects VALUES (?, ?)").bind(id).bind(amount);
        note.execute(&mut **transaction).await?;
        sqlx::query("UPDATE total SET amount = amount + ?").bind(amount).execute(&mut **transaction).await?;
        self.tell(transaction, id, done, order).await?;
        Ok(Outcome::Done)
    }

    /// Takes back what was done for an order, once, where it was; and tells so.
    pub async fn compensate(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        id: &str,
        order: &Order,
    ) -> Result<(), DatabaseError> {
        let one = "DELETE FROM effects WHERE rowid = (SELECT rowid FROM effects WHERE id = ? LIMIT 1) RETURNING amount";
        let amount: Option<i64> = sqlx::query_scalar(one).bind(id).fetch_optional(&mut **transaction).await?;
        let Some(amount) = amount else { return Ok(()) };
        sqlx::query("UPDATE total SET amount = amount - ?").bind(amount).execute(&mut **transaction).await?;
        self.tell(transaction, id, self.service.undone, order).await
    }

    /// Whether something is done for an order.
    pub async fn has(&self, transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<bool, DatabaseError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM effects WHERE id = ?").bind(id);
        let count: i64 = count.fetch_one(&mut **transaction).await?;
        Ok(count > 0)
    }

    /// All that is done and not taken back, by order, and what the books say in total.
    pub async fn read(&self) -> Result<(Vec<(String, i64)>, i64), DatabaseError> {
        let effects = sqlx::query_as("SELECT id, amount FROM effects").fetch_all(&self.pool).await?;
        Ok((effects, sqlx::query_scalar("SELECT amount FROM total").fetch_one(&self.pool).await?))
    }

    /// Publishes what is staged, in the process of the service, until that is killed. `shop` is what the shop is called in the cluster.
    pub async fn publish(&self, client: Client, shop: &str) -> Result<(), Failure> {
        let relay = Outbox::sqlite(self.pool.clone()).relay(client).lease(LEASE);
        let relay = relay.name(format!("{shop}.{}", self.service.name)).topic_prefix(format!("{shop}."));
        Ok(relay.run(std::future::pending()).await?)
    }

    /// What is staged and not published.
    pub async fn backlog(&self) -> Result<Backlog, DatabaseError> {
        Outbox::sqlite(self.pool.clone()).backlog().await
    }

    /// The order is the key, so that its events of one service come in order.
    async fn tell(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        id: &str,
        what: &str,
        order: &Order,
    ) -> Result<(), DatabaseError> {
        stage(transaction, Event::of(self.service.name, id, what).payload(order.encode())).await
    }
}
