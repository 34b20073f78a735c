//! A service that is asked: does something for an order and undoes it, once for each key. Knows nothing of sagas.
//!
//! It is asked by a line through a socket, and answers with one. At times it takes its time, before or after it has done what it was asked for:
//! whoever asked has given up by then, and asks again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use tidelog_client::inbox::{Inbox, InboxError, Once};
use tidelog_client::saga::SagaInput;
use tidelog_client::sql::{DatabaseError, Dialect};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::books::{Books, Outcome};
use super::demo::Failure;
use super::order::Order;

/// Without a key, so that nothing is recognised: what must not be done.
pub const NO_KEY: &str = "-";

/// Asks a service to answer once nobody's call is under way, also none that nobody waits for any more.
pub const REST: &str = "rest";

const LINE_BYTES_MAX: u64 = 4_096;
const CALLS_AT_ONCE: u32 = 64;

/// A question.
struct Question<'a> {
    is_undoing: bool,
    /// That of the action.
    key: &'a str,
    id: &'a str,
    order: Order,
}

/// The service.
struct Service {
    books: Books,
    inbox: Inbox,
    /// For calls.
    room: Semaphore,
}

/// Serves until it is killed.
pub async fn run(books: Books, folder: &Path) -> Result<(), Failure> {
    let socket = socket(folder, books.service.name);
    let service = Arc::new(Service { books, inbox: Inbox::default(), room: Semaphore::new(CALLS_AT_ONCE as usize) });
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

/// Asks a service: what it answered, in two words or more.
pub async fn ask(folder: &Path, name: &str, line: &str) -> Result<String, std::io::Error> {
    let mut stream = UnixStream::connect(socket(folder, name)).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
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
            Ok(Outcome::Done) => "ok".into(),
            Ok(Outcome::Refused(why)) => format!("refused {why}"),
            Err(error) => format!("failed {error}"),
        };
        take_time().await;
        Ok(writer.write_all(answer.as_bytes()).await?)
    }

    async fn heed(&self, line: &str) -> Result<Outcome, Failure> {
        let question = Question::of(line).ok_or_else(|| format!("{line:?} makes no sense"))?;
        let mut transaction = Sqlite::begin(&self.books.pool).await?;
        let outcome = if question.is_undoing {
            self.undo(&mut transaction, &question).await?;
            Outcome::Done
        } else {
            self.act(&mut transaction, &question).await?
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    async fn act(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        question: &Question<'_>,
    ) -> Result<Outcome, DatabaseError> {
        let Question { key, id, order, .. } = question;
        if *key == NO_KEY {
            return self.books.act(transaction, id, order).await;
        }
        let effect = async |transaction: &mut Transaction<'_, Sqlite>| self.books.act(transaction, id, order).await;
        match self.inbox.once_by_id(transaction, key, effect).await.map_err(cause)? {
            Once::Now(outcome) => Ok(outcome),
            Once::Before if self.books.has(transaction, id).await? => Ok(Outcome::Done),
            Once::Before => Ok(Outcome::Refused("it was refused before, or undone before it was done".into())),
        }
    }

    async fn undo(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        question: &Question<'_>,
    ) -> Result<(), DatabaseError> {
        let Question { key, id, order, .. } = question;
        if *key == NO_KEY {
            return self.books.compensate(transaction, id, order).await;
        }
        let effect = async |transaction: &mut Transaction<'_, Sqlite>| -> Result<(), DatabaseError> {
            // Noted, it keeps a call that comes late from having an effect.
            let nothing = async |_: &mut Transaction<'_, Sqlite>| Ok(());
            match self.inbox.once_by_id(transaction, key, nothing).await.map_err(cause)? {
                Once::Now(()) => Ok(()),
                Once::Before => self.books.compensate(transaction, id, order).await,
            }
        };
        match self.inbox.once_by_id(transaction, &format!("{key}:undo"), effect).await.map_err(cause)? {
            Once::Now(()) | Once::Before => Ok(()),
        }
    }
}

impl<'a> Question<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let is_undoing = match words.next()? {
            "do" => false,
            "undo" => true,
            _ => return None,
        };
        let (key, id) = (words.next()?, words.next()?);
        Some(Self { is_undoing, key, id, order: Order::decode(words.next()?.as_bytes()).ok()? })
    }
}

fn cause(error: InboxError<DatabaseError>) -> DatabaseError {
    match error {
        InboxError::Effect(error) | InboxError::Database(error) => error,
    }
}

/// One time in twenty, longer than anybody waits.
async fn take_time() {
    if fastrand::u8(..20) == 0 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..1_500))).await;
    }
}
