//! The outbox in SQLite. Transactions that write follow one another, so that the order of the rows is the order of the commits.

use std::convert::Infallible;
use std::future::pending;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use super::Settling;
use super::dead::DeadEvent;
use super::event::Event;
use super::row::{Mark, Row};
use super::schema::{Schema, VERSION};
use super::staging::Staging;
use super::store::{Backlog, Limit, Pending, Registration, Shard, Store, gather, lease_name, registered, version};
use crate::sql::lease::{Claim, Lease};
use crate::sql::lease_sqlite::{Leases, NOW};
use crate::sql::{DatabaseError, Statement};

/// The tables of an outbox in a database of SQLite.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pool: SqlitePool,
    /// One connection, for what writes: see [`SqliteStore::write`].
    writer: SqlitePool,
    schema: Schema,
    leases: Leases,
    statements: std::sync::Arc<Statements>,
}

#[derive(Debug)]
struct Statements {
    meta: Statement,
    note: Statement,
    pending: Statement,
    waiting: Statement,
    delete: Statement,
    mark: Statement,
    bury: Statement,
    backlog: Statement,
    dead: Statement,
    revive: Statement,
    revived: Statement,
    owners: Statement,
    reshard: Statement,
}

/// How long a turn to write is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS {table} (seq INTEGER PRIMARY KEY AUTOINCREMENT, {id} TEXT NOT NULL, {aggregate_type} TEXT NOT NULL, \
     {aggregate_id} TEXT NOT NULL, {event_type} TEXT NOT NULL, {payload} BLOB, slot INTEGER NOT NULL DEFAULT 0, \
     staged_ms INTEGER NOT NULL DEFAULT ({now}), published_ms INTEGER)",
    "CREATE INDEX IF NOT EXISTS {table}_pending ON {bare} (seq) WHERE published_ms IS NULL",
    "CREATE TABLE IF NOT EXISTS {table}_dead (seq INTEGER PRIMARY KEY, {id} TEXT NOT NULL, {aggregate_type} TEXT NOT NULL, \
     {aggregate_id} TEXT NOT NULL, {event_type} TEXT NOT NULL, {payload} BLOB, slot INTEGER NOT NULL, staged_ms INTEGER NOT NULL, \
     dead_ms INTEGER NOT NULL, cause TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {table}_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
];
const INSERT: &str = "INSERT INTO {table} ({id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, slot, staged_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, {now})";

impl SqliteStore {
    pub(super) fn new(pool: SqlitePool, schema: Schema) -> Self {
        let statement = |template: &str| schema.statement(template, NOW);
        let texts = ["{id}", "{aggregate_type}", "{aggregate_id}", "{event_type}"].map(bytes_of).join(", ");
        let statements = Statements {
            meta: statement("SELECT name, value FROM {table}_meta"),
            note: statement("INSERT INTO {table}_meta (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING"),
            pending: statement(&format!(
                "SELECT seq, {texts}, CAST({{payload}} AS BLOB), CAST(staged_ms AS INTEGER) FROM {{table}} \
                 WHERE published_ms IS NULL AND slot % ?2 = ?1 ORDER BY seq LIMIT ?3",
            )),
            waiting: statement(&format!(
                "SELECT seq, {} FROM {{table}} WHERE published_ms IS NULL AND seq IN (SELECT value FROM json_each(?1))",
                bytes_of("{id}"),
            )),
            delete: statement("DELETE FROM {table} WHERE seq IN (SELECT value FROM json_each(?1))"),
            mark: statement("UPDATE {table} SET published_ms = {now} WHERE seq IN (SELECT value FROM json_each(?1))"),
            bury: statement(
                "INSERT OR REPLACE INTO {table}_dead (seq, {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, slot, staged_ms, dead_ms, cause) \
                 SELECT seq, {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, slot, staged_ms, {now}, ?2 FROM {table} \
                 WHERE seq = ?1",
            ),
            backlog: statement(
                "SELECT count(*), coalesce({now} - min(staged_ms), 0), (SELECT count(*) FROM {table}_dead) FROM {table} \
                 WHERE published_ms IS NULL",
            ),
            dead: statement(&format!(
                "SELECT seq, {texts}, coalesce(length(CAST({{payload}} AS BLOB)), 0), cause, dead_ms \
                 FROM {{table}}_dead ORDER BY seq LIMIT ?1",
            )),
            revive: statement(
                "INSERT INTO {table} ({id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, slot, staged_ms) \
                 SELECT {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, slot, {now} FROM {table}_dead \
                 WHERE ?1 IS NULL OR seq = ?1 ORDER BY seq",
            ),
            revived: statement("DELETE FROM {table}_dead WHERE ?1 IS NULL OR seq = ?1"),
            owners: statement("SELECT owner FROM {table}_lease"),
            reshard: statement("UPDATE {table}_meta SET value = ?1 WHERE name = 'shards'"),
        };
        let leases = Leases::of(&schema.leases());
        let options = (*pool.connect_options()).clone();
        let writer = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        Self { pool, writer, schema, leases, statements: statements.into() }
    }

    /// A transaction that is a writer's from its begin, so that what it reads stays so. Where others write all the time, SQLite looks ever more rarely
    /// whether its turn has come, every tenth of a second in the end, and events would wait for that: so it is looked for here.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, DatabaseError> {
        let began = Instant::now();
        loop {
            // Behind the begin SQLite waits by itself again: readers may be in the way of a commit.
            let begun = self
                .writer
                .begin_with("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE; PRAGMA busy_timeout = 10000")
                .await
                .map_err(DatabaseError::from);
            match begun {
                Err(error) if error.is_retriable() && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                begun => return begun,
            }
        }
    }
}

impl Store for SqliteStore {
    // Nothing says that another process has committed. A look takes some ten microseconds.
    const WAITS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(32));

    async fn migrate(&self) -> Result<(), DatabaseError> {
        let mut transaction = self.write().await?;
        for table in TABLES {
            sqlx::query(self.schema.statement(table, NOW).sql()).execute(&mut *transaction).await?;
        }
        self.leases.create(&mut transaction).await?;
        for (name, value) in [("version", VERSION.to_string()), ("database", Uuid::now_v7().to_string())] {
            sqlx::query(self.statements.note.sql()).bind(name).bind(value).execute(&mut *transaction).await?;
        }
        let meta: Vec<(String, String)> =
            sqlx::query_as(self.statements.meta.sql()).fetch_all(&mut *transaction).await?;
        // Where they are of a later release, all of this is undone.
        version(self.schema.table.as_str(), &meta)?;
        Ok(transaction.commit().await?)
    }

    async fn registration(&self, shards: u32) -> Result<Registration, DatabaseError> {
        sqlx::query(self.statements.note.sql()).bind("shards").bind(shards.to_string()).execute(&self.pool).await?;
        let meta: Vec<(String, String)> = sqlx::query_as(self.statements.meta.sql()).fetch_all(&self.pool).await?;
        registered(self.schema.table.as_str(), &meta)
    }

    async fn name(&self, relay: &str) -> Result<Option<String>, DatabaseError> {
        sqlx::query(self.statements.note.sql()).bind("relay").bind(relay).execute(&self.pool).await?;
        let meta: Vec<(String, String)> = sqlx::query_as(self.statements.meta.sql()).fetch_all(&self.pool).await?;
        Ok(registered(self.schema.table.as_str(), &meta)?.relay)
    }

    async fn claim(&self, shard: u32, owner: &str, span: Duration) -> Result<Result<Lease, Claim>, DatabaseError> {
        self.leases.claim(&self.pool, &lease_name(shard), owner, span).await
    }

    async fn renew(&self, lease: &Lease, span: Duration) -> Result<bool, DatabaseError> {
        self.leases.renew(&self.pool, lease, span).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), DatabaseError> {
        self.leases.release(&self.pool, lease).await
    }

    async fn pending(&self, shard: Shard, limit: Limit) -> Result<Pending, DatabaseError> {
        let pending = sqlx::query_as::<_, Columns>(self.statements.pending.sql());
        let pending = pending.bind(shard.index).bind(shard.of).bind(limit.rows);
        gather(pending.fetch(&self.pool), limit).await
    }

    async fn waiting(&self, marks: &[Mark]) -> Result<Vec<i64>, DatabaseError> {
        let seqs = numbers(marks.iter().map(|mark| mark.seq));
        let found: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(self.statements.waiting.sql()).bind(seqs).fetch_all(&self.pool).await?;
        let found = found.into_iter().map(|(seq, id)| Mark { seq, id: text(id) });
        Ok(found.filter(|found| marks.contains(found)).map(|found| found.seq).collect())
    }

    async fn settle(&self, lease: &Lease, seqs: &[i64], how: Settling) -> Result<bool, DatabaseError> {
        let mut transaction = self.write().await?;
        if !self.leases.holds(&mut transaction, lease).await? {
            return Ok(false);
        }
        let statement = match how {
            Settling::Delete => &self.statements.delete,
            Settling::Mark => &self.statements.mark,
        };
        sqlx::query(statement.sql()).bind(numbers(seqs.iter().copied())).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn bury(&self, lease: &Lease, seq: i64, cause: &str) -> Result<bool, DatabaseError> {
        let mut transaction = self.write().await?;
        if !self.leases.holds(&mut transaction, lease).await? {
            return Ok(false);
        }
        sqlx::query(self.statements.bury.sql()).bind(seq).bind(cause).execute(&mut *transaction).await?;
        sqlx::query(self.statements.delete.sql()).bind(numbers([seq])).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn backlog(&self) -> Result<Backlog, DatabaseError> {
        let (rows, age_ms, dead): (i64, i64, i64) =
            sqlx::query_as(self.statements.backlog.sql()).fetch_one(&self.pool).await?;
        let age = Duration::from_millis(age_ms.max(0).unsigned_abs());
        Ok(Backlog { rows: rows.unsigned_abs(), age, dead: dead.unsigned_abs() })
    }

    async fn dead(&self, limit: u32) -> Result<Vec<DeadEvent>, DatabaseError> {
        let dead: Vec<DeadColumns> =
            sqlx::query_as(self.statements.dead.sql()).bind(limit).fetch_all(&self.pool).await?;
        let told = |(seq, id, aggregate_type, aggregate_id, event_type, bytes, cause, dead_ms): DeadColumns| {
            let [id, aggregate_type, aggregate_id, event_type] =
                [id, aggregate_type, aggregate_id, event_type].map(text);
            DeadEvent::from((seq, id, aggregate_type, aggregate_id, event_type, bytes, cause, dead_ms))
        };
        Ok(dead.into_iter().map(told).collect())
    }

    async fn revive(&self, seq: Option<i64>) -> Result<u64, DatabaseError> {
        let mut transaction = self.write().await?;
        let revived = sqlx::query(self.statements.revive.sql()).bind(seq).execute(&mut *transaction).await?;
        sqlx::query(self.statements.revived.sql()).bind(seq).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(revived.rows_affected())
    }

    async fn reshard(&self, shards: u32) -> Result<bool, DatabaseError> {
        let mut transaction = self.write().await?;
        // A lease that is over counts, too: who had it may have published what is not settled.
        let owners: Vec<String> = sqlx::query_scalar(self.statements.owners.sql()).fetch_all(&mut *transaction).await?;
        if owners.iter().any(|owner| !owner.is_empty()) {
            return Ok(false);
        }
        sqlx::query(self.statements.reshard.sql()).bind(shards.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn listen(&self, _staged: &watch::Sender<u64>) -> Infallible {
        pending().await
    }
}

impl Staging for Transaction<'_, Sqlite> {
    fn usual() -> &'static Statement {
        static USUAL: OnceLock<Statement> = OnceLock::new();
        USUAL.get_or_init(|| Self::insertion(&Schema::default()))
    }

    fn insertion(schema: &Schema) -> Statement {
        schema.statement(INSERT, NOW)
    }

    async fn insert(&mut self, insertion: &Statement, event: Event) -> Result<(), DatabaseError> {
        let slot = event.slot();
        let insert = sqlx::query(insertion.sql())
            .bind(event.id.to_string())
            .bind(event.aggregate_type)
            .bind(event.aggregate_id)
            .bind(event.event_type)
            .bind(event.payload.map(|payload| payload.to_vec()))
            .bind(slot);
        insert.execute(&mut **self).await?;
        Ok(())
    }
}

/// A row of the table, as a query gives it: any program may have put anything into its columns, whatever their types say.
type Columns = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>, i64);
/// Likewise, of the table of dead ones.
type DeadColumns = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, i64, String, i64);

impl From<Columns> for Row {
    fn from((seq, id, aggregate_type, aggregate_id, event_type, payload, staged_ms): Columns) -> Self {
        let [id, aggregate_type, aggregate_id, event_type] = [id, aggregate_type, aggregate_id, event_type].map(text);
        Self { seq, id, aggregate_type, aggregate_id, event_type, payload: payload.map(Into::into), staged_ms }
    }
}

/// The bytes of a column that should be a text: of a number its digits, of a blob its bytes in hexadecimal.
fn bytes_of(column: &str) -> String {
    format!("CASE typeof({column}) WHEN 'blob' THEN CAST(lower(hex({column})) AS BLOB) ELSE CAST({column} AS BLOB) END")
}

/// What SQLite took for a text need not be one: then its bytes in hexadecimal.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Numbers as one argument.
fn numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    let texts: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("[{}]", texts.join(","))
}
