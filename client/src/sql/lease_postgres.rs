//! Leases in PostgreSQL, by the clock of the server.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::lease::{Claim, Lease, LeaseRow, claim, milliseconds};
use super::{DatabaseError, Statement};

/// The statements of one table of leases.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    create: Statement,
    ensure: Statement,
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
                "CREATE TABLE IF NOT EXISTS {lease} (name text PRIMARY KEY, owner text NOT NULL, token bigint NOT NULL, until_ms bigint NOT NULL)",
            ),
            ensure: statement(
                "INSERT INTO {lease} (name, owner, token, until_ms) VALUES ($1, '', 0, 0) ON CONFLICT DO NOTHING",
            ),
            select: statement("SELECT owner, token, until_ms, {now} FROM {lease} WHERE name = $1 FOR UPDATE"),
            put: statement("UPDATE {lease} SET owner = $2, token = $3, until_ms = $4 WHERE name = $1"),
            renew: statement("UPDATE {lease} SET until_ms = {now} + $3 WHERE name = $1 AND token = $2"),
            release: statement("UPDATE {lease} SET owner = '', until_ms = 0 WHERE name = $1 AND token = $2"),
            check: statement("SELECT 1 FROM {lease} WHERE name = $1 AND token = $2 FOR SHARE"),
        }
    }

    pub(crate) async fn create(&self, connection: &mut PgConnection) -> Result<(), DatabaseError> {
        sqlx::query(self.create.sql()).execute(connection).await?;
        Ok(())
    }

    /// The lease, or who has it.
    pub(crate) async fn claim(
        &self,
        pool: &PgPool,
        name: &str,
        owner: &str,
        span: Duration,
    ) -> Result<Result<Lease, Claim>, DatabaseError> {
        let mut transaction = pool.begin().await?;
        sqlx::query(self.ensure.sql()).bind(name).execute(&mut *transaction).await?;
        let (held, token, until_ms, now): (String, i64, i64, i64) =
            sqlx::query_as(self.select.sql()).bind(name).fetch_one(&mut *transaction).await?;
        match claim(Some(&LeaseRow { owner: held, token, until_ms }), owner, now, span) {
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
    pub(crate) async fn renew(&self, pool: &PgPool, lease: &Lease, span: Duration) -> Result<bool, DatabaseError> {
        let renew = sqlx::query(self.renew.sql()).bind(&lease.name).bind(lease.token).bind(milliseconds(span));
        Ok(renew.execute(pool).await?.rows_affected() == 1)
    }

    /// Lets others have it at once.
    pub(crate) async fn release(&self, pool: &PgPool, lease: &Lease) -> Result<(), DatabaseError> {
        sqlx::query(self.release.sql()).bind(&lease.name).bind(lease.token).execute(pool).await?;
        Ok(())
    }

    /// True where it holds until the end of this transaction: who wants it has to wait for that.
    pub(crate) async fn holds(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        lease: &Lease,
    ) -> Result<bool, DatabaseError> {
        let check = sqlx::query(self.check.sql()).bind(&lease.name).bind(lease.token);
        Ok(check.fetch_optional(&mut **transaction).await?.is_some())
    }
}

/// Milliseconds since 1970.
pub(crate) const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
