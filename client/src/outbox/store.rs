//! What the relay needs of a database: one trait, of which there is an implementation for each. Knows nothing of brokers.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream;

use super::Settling;
use super::dead::DeadEvent;
use super::row::{Mark, Row};
use super::schema::VERSION;
use crate::sql::DatabaseError;
use crate::sql::lease::{Claim, Lease};

/// One of how many shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    pub(crate) index: u32,
    pub(crate) of: u32,
}

/// How many rows are read at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub(crate) rows: u32,
    /// In bytes; one that is larger is read all the same.
    pub(crate) bytes: usize,
}

/// Rows that were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    pub(crate) rows: Vec<Row>,
    /// The limit was reached: there may be more.
    pub(crate) is_full: bool,
}

/// What the tables say of themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Made with the tables, so that two databases are never taken for one.
    pub(crate) database: String,
    /// Among how many shards the outbox is divided.
    pub(crate) shards: u32,
    /// The name of its relays, where one has published.
    pub(crate) relay: Option<String>,
}

/// What waits to be published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Rows that wait.
    pub rows: u64,
    /// How long the oldest of them has waited; zero where none does.
    pub age: Duration,
    /// Rows that were set aside, as they cannot be sent.
    pub dead: u64,
}

/// A database with the tables of an outbox.
pub trait Store: Clone + Send + Sync + 'static {
    /// Bounds of the waits between looks where nothing wakes the relay.
    const WAITS: (Duration, Duration);

    /// Makes the tables, or brings them up to date; nothing where they are.
    fn migrate(&self) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// What the tables say; `shards` is kept with them where nothing was.
    fn registration(&self, shards: u32) -> impl Future<Output = Result<Registration, DatabaseError>> + Send;
    /// Keeps the name of the outbox's relays where none was: the name that is kept now.
    fn name(&self, relay: &str) -> impl Future<Output = Result<Option<String>, DatabaseError>> + Send;
    /// The lease of a shard, or who has it.
    fn claim(
        &self,
        shard: u32,
        owner: &str,
        span: Duration,
    ) -> impl Future<Output = Result<Result<Lease, Claim>, DatabaseError>> + Send;
    /// Has a lease last longer; false where another has it.
    fn renew(&self, lease: &Lease, span: Duration) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// Lets others have it at once.
    fn release(&self, lease: &Lease) -> impl Future<Output = Result<(), DatabaseError>> + Send;
    /// Rows that wait, the first ones of the shard in their order.
    fn pending(&self, shard: Shard, limit: Limit) -> impl Future<Output = Result<Pending, DatabaseError>> + Send;
    /// Those of `marks` that wait.
    fn waiting(&self, marks: &[Mark]) -> impl Future<Output = Result<Vec<i64>, DatabaseError>> + Send;
    /// Rows are published: they wait no longer. False, and nothing done, where another has the lease.
    fn settle(
        &self,
        lease: &Lease,
        seqs: &[i64],
        how: Settling,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// A row can never be sent: it is set aside. False, and nothing done, where another has the lease.
    fn bury(&self, lease: &Lease, seq: i64, cause: &str) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
    /// What waits.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, DatabaseError>> + Send;
    /// What was set aside, oldest first.
    fn dead(&self, limit: u32) -> impl Future<Output = Result<Vec<DeadEvent>, DatabaseError>> + Send;
    /// Puts what was set aside behind all that waits: one of them, or all. How many.
    fn revive(&self, seq: Option<i64>) -> impl Future<Output = Result<u64, DatabaseError>> + Send;
    /// Says whenever something was staged, where the database does.
    fn listen(&self, staged: &tokio::sync::watch::Sender<u64>) -> impl Future<Output = Infallible> + Send;
    /// Divides the outbox among another number of shards. False, and nothing done, where somebody has a lease.
    fn reshard(&self, shards: u32) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
}

/// The rows of a query, as far as the limit goes: what lies behind it is not kept in memory.
pub(super) async fn gather<C: Into<Row>>(
    rows: impl Stream<Item = Result<C, sqlx::Error>>,
    limit: Limit,
) -> Result<Pending, DatabaseError> {
    let mut stream = pin!(rows);
    let mut rows: Vec<Row> = Vec::new();
    let mut bytes = 0_usize;
    while let Some(columns) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        let row: Row = columns?.into();
        bytes = bytes.saturating_add(row.bytes());
        if bytes > limit.bytes && !rows.is_empty() {
            return Ok(Pending { rows, is_full: true });
        }
        rows.push(row);
    }
    let is_full = rows.len() >= limit.rows as usize;
    Ok(Pending { rows, is_full })
}

/// What the table of names and values says.
pub(super) fn registered(table: &str, meta: &[(String, String)]) -> Result<Registration, DatabaseError> {
    version(table, meta)?;
    let shards = value(meta, "shards").and_then(|text| text.parse().ok());
    let shards = shards.ok_or_else(|| damaged(table, "no number of shards"))?;
    let database = value(meta, "database").ok_or_else(|| damaged(table, "no id of the database"))?.to_owned();
    let relay = value(meta, "relay").map(str::to_owned);
    Ok(Registration { database, shards, relay })
}

/// The version of the tables, where it is one that this release knows.
pub(super) fn version(table: &str, meta: &[(String, String)]) -> Result<i64, DatabaseError> {
    let found = value(meta, "version").and_then(|text| text.parse().ok());
    let found = found.ok_or_else(|| damaged(table, "no version"))?;
    if found > VERSION { Err(DatabaseError::TooNew { found, known: VERSION }) } else { Ok(found) }
}

fn value<'a>(meta: &'a [(String, String)], name: &str) -> Option<&'a str> {
    meta.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

fn damaged(table: &str, what: &str) -> DatabaseError {
    DatabaseError::Damaged { table: format!("{table}_meta"), what: what.into() }
}

/// The lease of a shard.
pub(super) fn lease_name(shard: u32) -> String {
    format!("shard-{shard}")
}
