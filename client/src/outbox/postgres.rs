//! The outbox in PostgreSQL.
//!
//! Numbers are drawn before transactions commit, and these overlap: a row may appear behind others that have higher numbers. It is never skipped, as
//! the relay keeps no position in the table, but takes whatever waits. What remains is the order of one aggregate's events: a trigger of the table takes a
//! lock of the aggregate for the rest of the transaction and draws the row's number behind it, so that of two transactions with events of one aggregate the
//! one that commits first has the lower numbers. Being a trigger's, that holds for whoever inserts a row, in whatever language. (To read up to
//! `pg_snapshot_xmin` in the order of transaction ids, as is done elsewhere, would need no lock, but an id is drawn at the first write of a transaction, and
//! not as it touches the aggregate: the order may then be the wrong one, and any transaction that is open for long, of whatever database of the server,
//! would hold up all events.)

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgTypeInfo};
use sqlx::{Either, Executor, PgConnection, PgPool, Postgres, SqlSafeStr, Statement as _, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use super::dead::DeadEvent;
use super::event::Event;
use super::postgres_columns::{COLUMNS, Parameter, Payload, PostgresColumn, Types, types};
use super::row::{Mark, Row};
use super::schema::{Column, Schema, VERSION};
use super::staging::Staging;
use super::store::{Backlog, Limit, Pending, Registration, Shard, Store, gather, lease_name, registered, version};
use super::{Settling, dead};
use crate::sql::lease::{Claim, Lease};
use crate::sql::lease_postgres::{Leases, NOW};
use crate::sql::{DatabaseError, Statement};

/// The tables of an outbox in a database of PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    schema: Schema,
    leases: Leases,
    statements: std::sync::Arc<Statements>,
}

#[derive(Debug)]
struct Statements {
    alone: Statement,
    columns: Statement,
    is_made: Statement,
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

/// Two migrations at once would both find nothing: one waits for the other.
const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtext('{table}'))";
/// A table of Debezium's that is there already stays what it is, and gets what it lacks.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS {table} ({id} uuid NOT NULL, {aggregate_type} varchar(255) NOT NULL, {aggregate_id} varchar(255) NOT NULL, \
     {event_type} varchar(255) NOT NULL, {payload} bytea)";
/// What it lacks, and the tables beside it.
const TABLES: [&str; 11] = [
    "CREATE SEQUENCE IF NOT EXISTS {table}_seq",
    "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS seq bigint NOT NULL DEFAULT nextval('{table}_seq'), \
     ADD COLUMN IF NOT EXISTS slot smallint NOT NULL DEFAULT 0, \
     ADD COLUMN IF NOT EXISTS staged_ms bigint NOT NULL DEFAULT {now}, ADD COLUMN IF NOT EXISTS published_ms bigint",
    "UPDATE {table} SET slot = get_byte(sha256(convert_to({aggregate_id}, 'UTF8')), 0)",
    // From here on only the trigger gives numbers: without it, a row is refused.
    "ALTER TABLE {table} ALTER COLUMN seq DROP DEFAULT",
    "CREATE INDEX IF NOT EXISTS {bare}_pending ON {table} (seq) WHERE published_ms IS NULL",
    "CREATE TABLE IF NOT EXISTS {table}_dead (seq bigint PRIMARY KEY, {id} {id_type} NOT NULL, {aggregate_type} text NOT NULL, \
     {aggregate_id} text NOT NULL, {event_type} text NOT NULL, {payload} {payload_type}, \
     staged_ms bigint NOT NULL, dead_ms bigint NOT NULL, cause text NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {table}_meta (name text PRIMARY KEY, value text NOT NULL)",
    // With the path of names of whoever made the tables, so that it finds the sequence whoever inserts.
    "CREATE FUNCTION {table}_turn() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN \
     PERFORM pg_advisory_xact_lock(hashtextextended(NEW.{aggregate_type} || '/' || NEW.{aggregate_id}, 0)); \
     NEW.seq := nextval('{table}_seq'); NEW.slot := get_byte(sha256(convert_to(NEW.{aggregate_id}, 'UTF8')), 0); RETURN NEW; END $$",
    "CREATE FUNCTION {table}_staged() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_notify('{bare}_staged', ''); RETURN NULL; END $$",
    "CREATE TRIGGER {bare}_turn BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_turn()",
    "CREATE TRIGGER {bare}_staged AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_staged()",
];
/// The rest of the row is the trigger's. That the values are of its columns' types sees to whoever gives them.
const INSERT: &str =
    "INSERT INTO {table} ({id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}) VALUES ($1, $2, $3, $4, $5)";
/// The index has what waits in its order. A planner that knows little of the table would read all of it for a few rows, and sort it.
const BEGIN_LOOK: &str = "BEGIN READ ONLY; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
     SET LOCAL max_parallel_workers_per_gather = 0";
/// Nor is all of it to be read for the rows that are settled.
const BEGIN_SETTLING: &str = "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";
/// The length of bytes is worked out from their text.
const BEGIN_DEAD: &str = "BEGIN READ ONLY; SET LOCAL bytea_output = hex";

impl PostgresStore {
    pub(super) fn new(pool: PgPool, schema: Schema) -> Self {
        let statement = |template: &str| schema.statement(template, NOW);
        let statements = Statements {
            alone: statement(ALONE),
            columns: statement(COLUMNS),
            is_made: statement("SELECT to_regclass('{table}_meta') IS NOT NULL"),
            meta: statement("SELECT name, value FROM {table}_meta"),
            note: statement("INSERT INTO {table}_meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING"),
            pending: statement(
                "SELECT seq, {id}::text, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, staged_ms FROM {table} \
                 WHERE published_ms IS NULL AND slot % $2 = $1 ORDER BY seq LIMIT $3",
            ),
            waiting: statement("SELECT seq, {id}::text FROM {table} WHERE published_ms IS NULL AND seq = ANY($1)"),
            delete: statement("DELETE FROM {table} WHERE published_ms IS NULL AND seq = ANY($1)"),
            mark: statement("UPDATE {table} SET published_ms = {now} WHERE published_ms IS NULL AND seq = ANY($1)"),
            bury: statement(
                "INSERT INTO {table}_dead (seq, {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, staged_ms, dead_ms, cause) \
                 SELECT seq, {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}, staged_ms, {now}, $2 FROM {table} \
                 WHERE published_ms IS NULL AND seq = $1 ON CONFLICT DO NOTHING",
            ),
            backlog: statement(
                "SELECT count(*), coalesce({now} - min(staged_ms), 0), (SELECT count(*) FROM {table}_dead) FROM {table} \
                 WHERE published_ms IS NULL",
            ),
            dead: statement(
                "SELECT seq, {id}::text, {aggregate_type}, {aggregate_id}, {event_type}, coalesce(CASE pg_typeof({payload}) \
                 WHEN 'bytea'::regtype THEN length({payload}::text) / 2 - 1 ELSE octet_length({payload}::text) END, 0)::bigint, cause, dead_ms FROM {table}_dead ORDER BY seq LIMIT $1",
            ),
            revive: statement(
                "INSERT INTO {table} ({id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload}) \
                 SELECT {id}, {aggregate_type}, {aggregate_id}, {event_type}, {payload} FROM {table}_dead \
                 WHERE $1::bigint IS NULL OR seq = $1 ORDER BY seq",
            ),
            revived: statement("DELETE FROM {table}_dead WHERE $1::bigint IS NULL OR seq = $1"),
            owners: statement("SELECT owner FROM {table}_lease FOR UPDATE"),
            reshard: statement("UPDATE {table}_meta SET value = $1 WHERE name = 'shards'"),
        };
        let leases = Leases::of(&schema.leases());
        Self { pool, schema, leases, statements: statements.into() }
    }
}

/// A row of the table, as a query gives it.
type Columns = (i64, String, String, String, String, Option<Payload>, i64);

impl From<Columns> for Row {
    fn from((seq, id, aggregate_type, aggregate_id, event_type, payload, staged_ms): Columns) -> Self {
        let payload = payload.map(|Payload(bytes)| bytes.into());
        Self { seq, id, aggregate_type, aggregate_id, event_type, payload, staged_ms }
    }
}

impl Store for PostgresStore {
    // The database says that something was staged. It is looked for all the same, as such a word is lost with its connection.
    const WAITS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

    async fn migrate(&self) -> Result<(), DatabaseError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(self.statements.alone.sql()).execute(&mut *transaction).await?;
        // Tables that are there already are not touched: even to find nothing to change would be to wait for everyone who uses them.
        if sqlx::query_scalar(self.statements.is_made.sql()).fetch_one(&mut *transaction).await? {
            let meta: Vec<(String, String)> =
                sqlx::query_as(self.statements.meta.sql()).fetch_all(&mut *transaction).await?;
            self.types(&mut transaction).await?;
            return version(self.schema.table.as_str(), &meta).map(drop);
        }
        sqlx::query(self.schema.statement(TABLE, NOW).sql()).execute(&mut *transaction).await?;
        let found = self.types(&mut transaction).await?;
        for table in TABLES {
            let table = table.replace("{id_type}", &found.id).replace("{payload_type}", &found.payload);
            sqlx::query(self.schema.statement(&table, NOW).sql()).execute(&mut *transaction).await?;
        }
        self.leases.create(&mut transaction).await?;
        for (name, value) in [("version", VERSION.to_string()), ("database", Uuid::now_v7().to_string())] {
            sqlx::query(self.statements.note.sql()).bind(name).bind(value).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn registration(&self, shards: u32) -> Result<Registration, DatabaseError> {
        self.types(&mut *self.pool.acquire().await?).await?;
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
        let pending = pending.bind(i64::from(shard.index)).bind(i64::from(shard.of)).bind(i64::from(limit.rows));
        let mut transaction = self.pool.begin_with(BEGIN_LOOK).await?;
        let pending = gather(pending.fetch(&mut *transaction), limit).await?;
        transaction.commit().await?;
        Ok(pending)
    }

    async fn waiting(&self, marks: &[Mark]) -> Result<Vec<i64>, DatabaseError> {
        let seqs: Vec<i64> = marks.iter().map(|mark| mark.seq).collect();
        let found: Vec<(i64, String)> =
            sqlx::query_as(self.statements.waiting.sql()).bind(seqs).fetch_all(&self.pool).await?;
        let is_named = |(seq, id): &(i64, String)| marks.iter().any(|mark| mark.seq == *seq && mark.id == *id);
        Ok(found.into_iter().filter(is_named).map(|(seq, _)| seq).collect())
    }

    async fn settle(&self, lease: &Lease, seqs: &[i64], how: Settling) -> Result<bool, DatabaseError> {
        let mut transaction = self.pool.begin_with(BEGIN_SETTLING).await?;
        if !self.leases.holds(&mut transaction, lease).await? {
            return Ok(false);
        }
        let statement = match how {
            Settling::Delete => &self.statements.delete,
            Settling::Mark => &self.statements.mark,
        };
        sqlx::query(statement.sql()).bind(seqs).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn bury(&self, lease: &Lease, seq: i64, cause: &str) -> Result<bool, DatabaseError> {
        let mut transaction = self.pool.begin().await?;
        if !self.leases.holds(&mut transaction, lease).await? {
            return Ok(false);
        }
        sqlx::query(self.statements.bury.sql()).bind(seq).bind(cause).execute(&mut *transaction).await?;
        sqlx::query(self.statements.delete.sql()).bind(&[seq][..]).execute(&mut *transaction).await?;
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
        let mut transaction = self.pool.begin_with(BEGIN_DEAD).await?;
        let dead: Vec<dead::Columns> =
            sqlx::query_as(self.statements.dead.sql()).bind(i64::from(limit)).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(dead.into_iter().map(DeadEvent::from).collect())
    }

    async fn revive(&self, seq: Option<i64>) -> Result<u64, DatabaseError> {
        let mut transaction = self.pool.begin().await?;
        let revived = sqlx::query(self.statements.revive.sql()).bind(seq).execute(&mut *transaction).await?;
        sqlx::query(self.statements.revived.sql()).bind(seq).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(revived.rows_affected())
    }

    async fn reshard(&self, shards: u32) -> Result<bool, DatabaseError> {
        let mut transaction = self.pool.begin().await?;
        // A lease that is over counts, too: who had it may have published what is not settled.
        let owners: Vec<String> = sqlx::query_scalar(self.statements.owners.sql()).fetch_all(&mut *transaction).await?;
        if owners.iter().any(|owner| !owner.is_empty()) {
            return Ok(false);
        }
        sqlx::query(self.statements.reshard.sql()).bind(shards.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn listen(&self, staged: &watch::Sender<u64>) -> Infallible {
        loop {
            match self.notified(staged).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "does not hear from the database that something was staged"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl PostgresStore {
    /// Of which types the columns are, where events can be made of these.
    async fn types(&self, connection: &mut PgConnection) -> Result<Types, DatabaseError> {
        let columns: Vec<PostgresColumn> = sqlx::query_as(self.statements.columns.sql()).fetch_all(connection).await?;
        types(&self.schema, &columns)
    }

    async fn notified(&self, staged: &watch::Sender<u64>) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(&self.schema.channel()).await?;
        // `None`: the connection was lost, and with it perhaps a word.
        while listener.try_recv().await?.is_some() {
            staged.send_modify(|count| *count += 1);
        }
        staged.send_modify(|count| *count += 1);
        Ok(())
    }
}

impl Staging for Transaction<'_, Postgres> {
    fn usual() -> &'static Statement {
        static USUAL: OnceLock<Statement> = OnceLock::new();
        USUAL.get_or_init(|| Self::insertion(&Schema::default()))
    }

    fn insertion(schema: &Schema) -> Statement {
        schema.statement(INSERT, NOW)
    }

    async fn insert(&mut self, insertion: &Statement, event: Event) -> Result<(), DatabaseError> {
        // Once for each connection: the database says of which types the columns are.
        let prepared = (&mut **self).prepare(insertion.sql().into_sql_str()).await?;
        let Some(Either::Left([id, aggregate_type, aggregate_id, event_type, payload])) = prepared.parameters() else {
            return Err(sqlx::Error::Protocol("a statement with five parameters has others".into()).into());
        };
        let text = event.id.to_string();
        let insert = prepared
            .query()
            .bind(of(Column::Id, id, Some(text.as_bytes())))
            .bind(of(Column::AggregateType, aggregate_type, Some(event.aggregate_type.as_bytes())))
            .bind(of(Column::AggregateId, aggregate_id, Some(event.aggregate_id.as_bytes())))
            .bind(of(Column::Type, event_type, Some(event.event_type.as_bytes())))
            .bind(of(Column::Payload, payload, event.payload.as_deref()));
        insert.execute(&mut **self).await?;
        Ok(())
    }
}

const fn of<'a>(column: Column, found: &'a PgTypeInfo, value: Option<&'a [u8]>) -> Parameter<'a> {
    Parameter { column, found, value }
}
