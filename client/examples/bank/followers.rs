//! What follows the events: the clearing, which brings money that was sent to where it was sent to, and the view, which has the balances in
//! SQLite. Both keep with them how far they are, and go on there after they were killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{SqliteConnection, SqlitePool};
use tidelog_client::event_store::{Aggregate, EventStore, Projection, ProjectionError, Repository, StoredEvent};
use tidelog_client::sql::open_sqlite;
use tidelog_client::{Offset, PartitionId};

use super::account::{Account, Moved};
use super::demo::Failure;
use super::demo::arguments::Arguments;

const POSITIONS: &str = "CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL)";
const BALANCES: &str = "CREATE TABLE IF NOT EXISTS balances (account TEXT PRIMARY KEY, cents INTEGER NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL)";

/// How often the clearing notes how far it is.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// Brings what was sent. It notes how far it is at times, after it has done its part, so that it does some of it again after it was killed;
/// the command is the transfer, so that the second time changes nothing.
struct Clearing {
    accounts: Repository<Account>,
    pool: SqlitePool,
    /// What it has done and not noted.
    done: BTreeMap<PartitionId, Offset>,
    noted: Instant,
    /// The safety is switched off: the second time is as good as the first.
    without_command_ids: bool,
}

/// Balances by account, in a database.
pub struct Balances(SqlitePool);

/// Runs the clearing until it is killed.
pub async fn clear(store: EventStore, mut arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.required("--folder")?;
    let pool = open_sqlite(&format!("sqlite:{}", Path::new(&folder).join("clearing.db").display())).await?;
    sqlx::query(POSITIONS).execute(&pool).await?;
    let without_command_ids = arguments.switch("--without-command-ids");
    let (done, noted) = (BTreeMap::new(), Instant::now());
    let clearing = Clearing { accounts: store.repository(), pool, done, noted, without_command_ids };
    follow(&store, "clearing", clearing).await
}

/// Runs the view until it is killed.
pub async fn view(store: EventStore, mut arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.required("--folder")?;
    follow(&store, "view", Balances::open(&Path::new(&folder).join("view.db")).await?).await
}

/// Goes on where the brokers were away.
async fn follow<P: Projection<Error = Failure>>(store: &EventStore, name: &str, mut part: P) -> Result<(), Failure> {
    loop {
        match store.projection(format!("{}-{name}", store.topic())).run(&mut part).await {
            Err(ProjectionError::Store(error)) if error.is_retriable() => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
            Ok(never) => match never {},
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Projection for Clearing {
    type Error = Failure;

    async fn position(&mut self, partition: PartitionId) -> Result<Offset, Failure> {
        // Where the brokers were away it goes on with what it knows itself.
        match self.done.get(&partition) {
            Some(next) => Ok(*next),
            None => position(&self.pool, partition).await,
        }
    }

    async fn apply(&mut self, partition: PartitionId, events: Vec<StoredEvent>, next: Offset) -> Result<(), Failure> {
        for event in events {
            let Moved::Sent { transfer, to, cents } = Account::decode(&event.kind, &event.payload)? else { continue };
            loop {
                let moved = transfer.clone();
                let decide = move |_: &Account| Ok(vec![Moved::Received { transfer: moved.clone(), cents }]);
                let brought = if self.without_command_ids {
                    self.accounts.execute(&to, decide).await
                } else {
                    self.accounts.execute_once(&to, &transfer, decide).await
                };
                match brought {
                    Ok(_) => break,
                    // It asks again until it knows.
                    Err(error) => eprintln!("clearing of {transfer}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.done.insert(partition, next);
        if self.noted.elapsed() >= NOTED_EVERY {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for (partition, next) in std::mem::take(&mut self.done) {
                go_to(&mut transaction, partition, next).await?;
            }
            transaction.commit().await?;
            self.noted = Instant::now();
        }
        Ok(())
    }
}

impl Projection for Balances {
    type Error = Failure;

    async fn position(&mut self, partition: PartitionId) -> Result<Offset, Failure> {
        position(&self.0, partition).await
    }

    /// Effects and position in one transaction: the view is never ahead of or behind what it says.
    async fn apply(&mut self, partition: PartitionId, events: Vec<StoredEvent>, next: Offset) -> Result<(), Failure> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        for event in events {
            let (cents, sent, received) = match Account::decode(&event.kind, &event.payload)? {
                Moved::Opened { cents } => (cents, 0, 0),
                Moved::Sent { cents, .. } => (-cents, 1, 0),
                Moved::Received { cents, .. } => (cents, 0, 1),
            };
            let add = "INSERT INTO balances VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents, sent = sent + excluded.sent, received = received + excluded.received";
            let add =
                sqlx::query(add).bind(String::from_utf8(event.id.to_vec())?).bind(cents).bind(sent).bind(received);
            add.execute(&mut *transaction).await?;
        }
        go_to(&mut transaction, partition, next).await?;
        Ok(transaction.commit().await?)
    }
}

impl Balances {
    pub async fn open(file: &Path) -> Result<Self, Failure> {
        let pool = open_sqlite(&format!("sqlite:{}", file.display())).await?;
        for table in [POSITIONS, BALANCES] {
            sqlx::query(table).execute(&pool).await?;
        }
        Ok(Self(pool))
    }

    /// Forgets everything, also how far it was.
    pub async fn drop_all(&self) -> Result<(), Failure> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        for table in ["DELETE FROM positions", "DELETE FROM balances"] {
            sqlx::query(table).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub async fn all(&self) -> Result<BTreeMap<String, i64>, Failure> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT account, cents FROM balances").fetch_all(&self.0).await?;
        Ok(rows.into_iter().collect())
    }

    /// Transfers that were sent, that have arrived, and that are under way.
    pub async fn numbers(&self) -> Result<[u64; 3], Failure> {
        let sums = "SELECT coalesce(sum(sent), 0), coalesce(sum(received), 0) FROM balances";
        let (sent, received): (i64, i64) = sqlx::query_as(sums).fetch_one(&self.0).await?;
        // Of different partitions, a transfer's arrival may be seen before it was sent.
        Ok([sent, received, (sent - received).max(0)].map(i64::unsigned_abs))
    }
}

async fn position(pool: &SqlitePool, partition: PartitionId) -> Result<Offset, Failure> {
    let next = sqlx::query_scalar("SELECT next FROM positions WHERE partition = ?").bind(i64::from(partition.0));
    let next: Option<i64> = next.fetch_optional(pool).await?;
    Ok(Offset(next.unwrap_or_default().unsigned_abs()))
}

async fn go_to(connection: &mut SqliteConnection, partition: PartitionId, next: Offset) -> Result<(), Failure> {
    let note = sqlx::query("INSERT OR REPLACE INTO positions VALUES (?, ?)");
    note.bind(i64::from(partition.0)).bind(next.0 as i64).execute(connection).await?;
    Ok(())
}
