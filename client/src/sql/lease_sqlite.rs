//! Leases in SQLite. All holders share a machine, and so a clock.

use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::lease::{Claim, Lease, LeaseRow, claim, milliseconds};
use super::{DatabaseError, Statement};

/// The statements of one table of leases.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    create: Statement,
    now: Statement,
    select: Statement,
    put: Statement,
    renew: Statement,
    release: Statement,
    check: Statement,
}

impl Leases {
    /// Those of the table `table`.
    pub(crate) fn of(table: &str) -> Self {
        let statement = |template: &str| Statement::of(template, &[("lease", table), ("now", NOW)]);
        Self {
            create: statement(
                "CREATE TABLE IF NOT EXISTS {lease} (name TEXT PRIMARY KEY, owner TEXT NOT NULL, token INTEGER NOT NULL, until_ms INTEGER NOT NULL)",
            ),
            now: statement("SELECT {now}"),
            select: statement("SELECT owner, token, until_ms FROM {lease} WHERE name = ?1"),
            put: statement("INSERT OR REPLACE INTO {lease} (name, owner, token, until_ms) VALUES (?1, ?2, ?3, ?4)"),
            renew: statement("UPDATE {lease} SET until_ms = {now} + ?3 WHERE name = ?1 AND token = ?2"),
            release: statement("UPDATE {lease} SET owner = '', until_ms = 0 WHERE name = ?1 AND token = ?2"),
            check: statement("SELECT 1 FROM {lease} WHERE name = ?1 AND token = ?2"),
        }
    }

    pub(crate) async fn create(&self, connection: &mut SqliteConnection) -> Result<(), DatabaseError> {
        sqlx::query(self.create.sql()).execute(connection).await?;
        Ok(())
    }

    /// The lease, or who has it.
    pub(crate) async fn claim(
        &self,
        pool: &SqlitePool,
        name: &str,
        owner: &str,
        span: Duration,
    ) -> Result<Result<Lease, Claim>, DatabaseError> {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        let now: i64 = sqlx::query_scalar(self.now.sql()).fetch_one(&mut *transaction).await?;
        let row: Option<(String, i64, i64)> =
            sqlx::query_as(self.select.sql()).bind(name).fetch_optional(&mut *transaction).await?;
        let row = row.map(|(owner, token, until_ms)| LeaseRow { owner, token, until_ms });
        match claim(row.as_ref(), owner, now, span) {
            Claim::Taken(row) => {
                let put = sqlx::query(self.put.sql()).bind(name).bind(&row.owner).bind(row.token).bind(row.until_ms);
                put.execute(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(Ok(Lease { name: name.into(), owner: row.owner, token: row.token }))
            }
            held @ Claim::Held { .. } => Ok(Err(held)),
        }
    }

    /// Has it last longer; false where another has it.
    pub(crate) async fn renew(&self, pool: &SqlitePool, lease: &Lease, span: Duration) -> Result<bool, DatabaseError> {
        let renew = sqlx::query(self.renew.sql()).bind(&lease.name).bind(lease.token).bind(milliseconds(span));
        Ok(renew.execute(pool).await?.rows_affected() == 1)
    }

    /// Lets others have it at once.
    pub(crate) async fn release(&self, pool: &SqlitePool, lease: &Lease) -> Result<(), DatabaseError> {
        sqlx::query(self.release.sql()).bind(&lease.name).bind(lease.token).execute(pool).await?;
        Ok(())
    }

    /// True where it holds until the end of this transaction, which must have begun as a writer's.
    pub(crate) async fn holds(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        lease: &Lease,
    ) -> Result<bool, DatabaseError> {
        let check = sqlx::query(self.check.sql()).bind(&lease.name).bind(lease.token);
        Ok(check.fetch_optional(&mut **transaction).await?.is_some())
    }
}

/// Milliseconds since 1970. By the day, rounded, as `unixepoch` knows no parts of a second before 3.42: whoever inserts may have an older one.
pub(crate) const NOW: &str = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";
