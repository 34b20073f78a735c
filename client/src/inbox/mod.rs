//! The inbox: what a record has effected in a database is effected once, however often the record comes.
//!
//! [`once`] notes the record's id in the same transaction as the effect. A record that comes again, as its consumer ended before it had committed its offset, or as it was
//! sent twice, finds its id there, and nothing is done. An id is the record's header `id`, as an [outbox](crate::outbox) sets it, or, where there
//! is none, where it stands: topic, id of the topic, partition and offset.
//!
//! ```no_run
//! # #[cfg(feature = "outbox-sqlite")]
//! # mod example {
//! use tidelog_client::inbox::{self, Inbox};
//! use tidelog_client::{Client, Start, sql};
//!
//! async fn ship(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//!     let warehouse = sql::open_sqlite("sqlite:warehouse.db").await?;
//!     Inbox::default().migrate(&warehouse).await?;
//!     let mut orders = client.group("shipping").topics(["outbox.event.order"]).start(Start::Beginning).build().await?;
//!     while let Some(record) = orders.next().await {
//!         let record = record?;
//!         let mut transaction = warehouse.begin_with("BEGIN IMMEDIATE").await?;
//!         inbox::once(&mut transaction, record, async |transaction| {
//!             let parcel = sqlx::query("INSERT INTO parcels (label) VALUES (?)").bind(record.value.as_deref());
//!             parcel.execute(&mut **transaction).await.map(drop)
//!         })
//!         .await?;
//!         transaction.commit().await?;
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! It costs a row for each record, until [`Inbox::forget`] deletes it: no earlier than records can still come again. Where one program alone reads a topic into one database, the
//! [sink](crate::sink) does with a row for each partition.

mod error;
mod notes;

pub use error::InboxError;
pub use notes::InboxDatabase;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Acquire, Pool, Transaction};

use self::notes::PlaceIds;
use crate::sql::{DatabaseError, Name, Statement};
use crate::{ConsumerRecord, TopicId};

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a record that came before has had its effect"]
pub enum Once<T> {
    /// It had not come before: this is what the effect gave.
    Now(T),
    /// It had its effect before, and nothing was done.
    Before,
}

/// What is noted of a record.
enum Noted<'a> {
    Id(&'a str),
    Place(PlaceIds),
}

/// An inbox: of one consumer, in one table.
#[derive(Clone, Debug)]
pub struct Inbox {
    consumer: String,
    table: Name,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::of("")
    }
}

impl Inbox {
    /// The inbox of this consumer: each that shall see a record once has one. In the table `inbox`.
    #[must_use]
    pub fn of(consumer: impl Into<String>) -> Self {
        Self { consumer: consumer.into(), table: Name::known("inbox") }
    }

    /// In this table.
    #[must_use]
    pub fn table(mut self, table: Name) -> Self {
        self.table = table;
        self
    }

    /// Makes the table where it is missing.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn migrate<DB: InboxDatabase>(&self, pool: &Pool<DB>) -> Result<(), DatabaseError> {
        let mut transaction = DB::begin(pool).await?;
        DB::create(&mut transaction, &self.statement(notes::CREATE)).await?;
        Ok(transaction.commit().await?)
    }

    /// As [`once`].
    ///
    /// # Errors
    /// As [`once`].
    pub async fn once<DB: InboxDatabase, T, E>(
        &self,
        transaction: &mut Transaction<'_, DB>,
        record: &ConsumerRecord,
        effect: impl AsyncFnOnce(&mut Transaction<'_, DB>) -> Result<T, E>,
    ) -> Result<Once<T>, InboxError<E>> {
        match header_id(record) {
            Some(id) => self.once_by_id(transaction, id, effect).await,
            None => self.once_noted(transaction, &Noted::Place(place_ids(record)), effect).await,
        }
    }

    /// As [`once`], by an id of your choice.
    ///
    /// # Errors
    /// As [`once`].
    pub async fn once_by_id<DB: InboxDatabase, T, E>(
        &self,
        transaction: &mut Transaction<'_, DB>,
        id: &str,
        effect: impl AsyncFnOnce(&mut Transaction<'_, DB>) -> Result<T, E>,
    ) -> Result<Once<T>, InboxError<E>> {
        self.once_noted(transaction, &Noted::Id(id), effect).await
    }

    async fn once_noted<DB: InboxDatabase, T, E>(
        &self,
        transaction: &mut Transaction<'_, DB>,
        noted: &Noted<'_>,
        effect: impl AsyncFnOnce(&mut Transaction<'_, DB>) -> Result<T, E>,
    ) -> Result<Once<T>, InboxError<E>> {
        let failed = |error: sqlx::Error| InboxError::Database(error.into());
        // An effect that fails takes the note with it, also where the program commits the rest.
        let mut inner = transaction.begin().await.map_err(failed)?;
        let now = milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let is_new = match noted {
            Noted::Id(id) => DB::note(&mut inner, &self.statement(notes::NOTE), &self.consumer, id, now).await,
            Noted::Place(ids) => {
                DB::note_place(&mut inner, &self.statement(notes::NOTE_PLACE), &self.consumer, ids, now).await
            }
        };
        if !is_new.map_err(InboxError::Database)? {
            return Ok(Once::Before);
        }
        match effect(&mut inner).await {
            Ok(given) => {
                inner.commit().await.map_err(failed)?;
                Ok(Once::Now(given))
            }
            Err(error) => {
                inner.rollback().await.map_err(failed)?;
                Err(InboxError::Effect(error))
            }
        }
    }

    /// Forgets what came longer than `age` ago: how many records. It must be longer than a record can take to come again.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn forget<DB: InboxDatabase>(&self, pool: &Pool<DB>, age: Duration) -> Result<u64, DatabaseError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut transaction = DB::begin(pool).await?;
        let before = milliseconds(now.saturating_sub(age));
        let forgotten = DB::forget(&mut transaction, &self.statement(notes::FORGET), &self.consumer, before).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }

    fn statement(&self, template: &str) -> Statement {
        Statement::of(template, &[("table", self.table.as_str())])
    }
}

/// Does `effect` in `transaction` where the record did not come before, and notes that it came; both hold once the program commits. `effect` is called with a
/// transaction within it: one that fails is undone, and leaves `transaction` as it was.
///
/// Of two transactions that have the same record at once, the second waits for the first.
///
/// # Errors
/// [`InboxError::Effect`] with what `effect` failed with; [`InboxError::Database`], after which the transaction can only be undone.
pub async fn once<DB: InboxDatabase, T, E>(
    transaction: &mut Transaction<'_, DB>,
    record: &ConsumerRecord,
    effect: impl AsyncFnOnce(&mut Transaction<'_, DB>) -> Result<T, E>,
) -> Result<Once<T>, InboxError<E>> {
    Inbox::default().once(transaction, record, effect).await
}

/// What a record is recognised by: its header `id`, else where it stands.
#[must_use]
pub fn id_of(record: &ConsumerRecord) -> String {
    header_id(record).map_or_else(|| place_ids(record).id, str::to_owned)
}

fn header_id(record: &ConsumerRecord) -> Option<&str> {
    let header = record.headers().find(|header| header.name() == "id").and_then(|header| header.value);
    header.and_then(|value| std::str::from_utf8(value).ok()).filter(|id| !id.is_empty())
}

fn place_ids(record: &ConsumerRecord) -> PlaceIds {
    let (topic, topic_id) = (record.topic(), record.topic_id());
    PlaceIds {
        id: format!("{topic}/{topic_id}/{}/{}", record.partition(), record.offset),
        before: format!("{topic}/{}/{}", record.partition(), record.offset),
        since_ms: made_ms(topic_id),
    }
}

/// When a topic was made, in milliseconds since 1970: ids of version 7 begin with the time. Of another one it could be ever.
fn made_ms(topic_id: TopicId) -> i64 {
    let time = uuid::Uuid::from_bytes(topic_id.0).get_timestamp().filter(|_| topic_id.0[6] >> 4 == 7);
    time.map_or(0, |time| {
        let (seconds, nanoseconds) = time.to_unix();
        milliseconds(Duration::new(seconds, nanoseconds))
    })
}

fn milliseconds(time: Duration) -> i64 {
    crate::sql::lease::milliseconds(time)
}
