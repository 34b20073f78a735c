//! A service: does something for an order and undoes it, in a database of its own, once for each key. Knows nothing of sagas.
//!
//! It is asked by a line through a socket, and answers with one. At times it takes its time, before or after it has done what it was asked for:
//! whoever asked has given up by then, and asks again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, Transaction};
use tidelog_client::inbox::{Inbox, InboxError, Once};
use tidelog_client::sql::{Dialect, open_sqlite};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::demo::Failure;
use super::demo::arguments::Arguments;

/// The services, in the order in which a saga calls them; what their amounts are.
pub const SERVICES: [(&str, &str); 4] =
    [("order", "orders"), ("inventory", "pieces"), ("payment", "cents"), ("shipping", "parcels")];

/// Without a key, so that nothing is recognised: what must not be done.
pub const NO_KEY: &str = "-";

/// Asks a service to answer once nobody's call is under way, also none that nobody waits for any more.
pub const REST: &str = "rest";

/// Pieces that there are.
const STOCK: i64 = 20_000;
const LINE_BYTES_MAX: u64 = 4_096;
const CALLS_AT_ONCE: u32 = 64;

const EFFECTS: &str = "CREATE TABLE IF NOT EXISTS effects (id TEXT NOT NULL, amount INTEGER NOT NULL)";
const TOTAL: &str = "CREATE TABLE IF NOT EXISTS total (amount INTEGER NOT NULL)";

/// Why something was not done.
enum Trouble {
    Refused(String),
    Failed(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<InboxError<Trouble>> for Trouble {
    fn from(error: InboxError<Self>) -> Self {
        match error {
            InboxError::Effect(trouble) => trouble,
            InboxError::Database(error) => Self::Failed(error.to_string()),
        }
    }
}

/// A question.
struct Question<'a> {
    is_undoing: bool,
    /// That of the action.
    key: &'a str,
    id: &'a str,
    amount: i64,
    /// Of a hundred, so many are better.
    luck: u8,
}

/// The service.
struct Service {
    name: String,
    pool: SqlitePool,
    inbox: Inbox,
    /// Of a hundred actions so many are refused.
    refusals: u8,
    /// For calls.
    room: Semaphore,
}

/// Serves until it is killed.
pub async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let (folder, name) = (arguments.required("--folder")?, arguments.required("--name")?);
    let refusals = arguments.required("--refusals")?.parse()?;
    let pool = open(Path::new(&folder), &name).await?;
    let room = Semaphore::new(CALLS_AT_ONCE as usize);
    let service = Arc::new(Service { name: name.clone(), pool, inbox: Inbox::default(), refusals, room });
    let socket = socket(Path::new(&folder), &name);
    // That of an earlier life.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            // Who has gone hears nothing.
            if let Err(error) = service.serve(stream).await {
                eprintln!("{error}");
            }
        });
    }
}

/// Where a service is found.
fn socket(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.socket"))
}

/// The database of a service, with its tables.
async fn open(folder: &Path, name: &str) -> Result<SqlitePool, Failure> {
    let pool = open_sqlite(&format!("sqlite:{}", folder.join(format!("{name}.db")).display())).await?;
    Inbox::default().migrate(&pool).await?;
    let mut transaction = Sqlite::begin(&pool).await?;
    for table in [EFFECTS, TOTAL, "INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total)"] {
        sqlx::query(table).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(pool)
}

/// Asks a service: what it answered, in two words or more.
pub async fn ask(folder: &Path, name: &str, line: &str) -> Result<String, std::io::Error> {
    let mut stream = UnixStream::connect(socket(folder, name)).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// All that a service has done and not undone, by order, and what its books say in total.
pub async fn books(folder: &Path, name: &str) -> Result<(Vec<(String, i64)>, i64), Failure> {
    let pool = open(folder, name).await?;
    let effects = sqlx::query_as("SELECT id, amount FROM effects").fetch_all(&pool).await?;
    Ok((effects, sqlx::query_scalar("SELECT amount FROM total").fetch_one(&pool).await?))
}

impl Service {
    async fn serve(&self, stream: UnixStream) -> Result<(), Failure> {
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        if line.trim_end() == REST {
            let _all = self.room.acquire_many(CALLS_AT_ONCE).await?;
            return Ok(writer.write_all(b"ok").await?);
        }
        let _permit = self.room.acquire().await?;
        take_time().await;
        let answer = match self.heed(line.trim_end()).await {
            Ok(()) => "ok".into(),
            Err(Trouble::Refused(why)) => format!("refused {why}"),
            Err(Trouble::Failed(why)) => format!("failed {why}"),
        };
        take_time().await;
        Ok(writer.write_all(answer.as_bytes()).await?)
    }

    async fn heed(&self, line: &str) -> Result<(), Trouble> {
        let words: Vec<&str> = line.split(' ').collect();
        let question = match words[..] {
            [what @ ("do" | "undo"), key, id, amount, luck] => {
                let odd = |_| Trouble::Failed(format!("{line:?} makes no sense"));
                let (amount, luck) = (amount.parse().map_err(odd)?, luck.parse().map_err(odd)?);
                Question { is_undoing: what == "undo", key, id, amount, luck }
            }
            _ => return Err(Trouble::Failed(format!("{line:?} makes no sense"))),
        };
        let begun = Sqlite::begin(&self.pool).await;
        let mut transaction = begun.map_err(|error| Trouble::Failed(error.to_string()))?;
        let done = if question.is_undoing {
            self.undo(&mut transaction, &question).await
        } else {
            self.act(&mut transaction, &question).await
        };
        match done {
            Ok(()) => Ok(transaction.commit().await?),
            Err(trouble) => {
                transaction.rollback().await?;
                Err(trouble)
            }
        }
    }

    async fn act(&self, transaction: &mut Transaction<'_, Sqlite>, question: &Question<'_>) -> Result<(), Trouble> {
        if question.key == NO_KEY {
            return self.effect(transaction, question).await;
        }
        let effect = async |transaction: &mut Transaction<'_, Sqlite>| self.effect(transaction, question).await;
        match self.inbox.once_by_id(transaction, question.key, effect).await? {
            Once::Now(()) => Ok(()),
            Once::Before if effects_of(transaction, question.id).await? > 0 => Ok(()),
            Once::Before => Err(Trouble::Refused("it was undone before it was done".into())),
        }
    }

    /// What it does, once it is known to be the first time.
    async fn effect(&self, transaction: &mut Transaction<'_, Sqlite>, question: &Question<'_>) -> Result<(), Trouble> {
        let Question { id, amount, luck, .. } = question;
        if *luck < self.refusals {
            return Err(Trouble::Refused(format!("{} {id} as it is cannot be done", self.name)));
        }
        let total: i64 = sqlx::query_scalar("SELECT amount FROM total").fetch_one(&mut **transaction).await?;
        if self.name == "inventory" && total + amount > STOCK {
            return Err(Trouble::Refused(format!("{} pieces are left", STOCK - total)));
        }
        let note = sqlx::query("INSERT INTO effects VALUES (?, ?)").bind(*id).bind(amount);
        note.execute(&mut **transaction).await?;
        sqlx::query("UPDATE total SET amount = amount + ?").bind(amount).execute(&mut **transaction).await?;
        Ok(())
    }

    async fn undo(&self, transaction: &mut Transaction<'_, Sqlite>, question: &Question<'_>) -> Result<(), Trouble> {
        if question.key == NO_KEY {
            return take_back(transaction, question.id).await;
        }
        let undone = format!("{}:undo", question.key);
        let effect = async |transaction: &mut Transaction<'_, Sqlite>| -> Result<(), Trouble> {
            // Noted, it keeps a call that comes late from having an effect.
            let came = self.inbox.once_by_id(transaction, question.key, async |_| Ok::<(), Trouble>(())).await?;
            match came {
                Once::Now(()) => Ok(()),
                Once::Before => take_back(transaction, question.id).await,
            }
        };
        match self.inbox.once_by_id(transaction, &undone, effect).await? {
            Once::Now(()) | Once::Before => Ok(()),
        }
    }
}

async fn effects_of(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM effects WHERE id = ?").bind(id).fetch_one(&mut **transaction).await
}

/// Takes back what was done for an order, once.
async fn take_back(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<(), Trouble> {
    let one = "DELETE FROM effects WHERE rowid = (SELECT rowid FROM effects WHERE id = ? LIMIT 1) RETURNING amount";
    let amount: Option<i64> = sqlx::query_scalar(one).bind(id).fetch_optional(&mut **transaction).await?;
    let back = sqlx::query("UPDATE total SET amount = amount - ?").bind(amount.unwrap_or_default());
    back.execute(&mut **transaction).await?;
    Ok(())
}

/// One time in twenty, longer than anybody waits.
async fn take_time() {
    if fastrand::u8(..20) == 0 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..1_500))).await;
    }
}
