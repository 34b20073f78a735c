//! Exactly once into a database: what records effect there, and how far they have been read, is written in one transaction.
//!
//! A [`SqlSink`] reads as a member of a group, and keeps its offsets in a table beside what the records effect. As it gets a partition it takes a new number for its row of
//! that table, and goes on where the row says; each transaction moves the row under that number, and is undone where another has taken a later one. So a member that was
//! away for too long, and comes back with records that another has worked on meanwhile, changes nothing. Where the table says nothing of a partition, as in a new
//! database, it begins where the group's builder says with `start`, and that place is noted before anything is read; so it does with a topic that
//! was deleted and made again under its name. The group's own offsets are never gone by: they
//! are only a hint for those who look at its lag.
//!
//! ```no_run
//! # #[cfg(feature = "outbox-sqlite")]
//! # mod example {
//! use tidelog_client::sink::SqlSink;
//! use tidelog_client::{Client, Start, sql};
//!
//! async fn count(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//!     let database = sql::open_sqlite("sqlite:counts.db").await?;
//!     sqlx::query("CREATE TABLE IF NOT EXISTS counts (key BLOB PRIMARY KEY, seen INTEGER NOT NULL)").execute(&database).await?;
//!     let sink = SqlSink::new(database, "counts");
//!     sink.migrate().await?;
//!     let group = client.group("counts").topics(["orders"]).start(Start::Beginning);
//!     sink.run(group, std::future::pending(), async |transaction, record| {
//!         let count = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET seen = seen + 1";
//!         sqlx::query(count).bind(record.key.as_deref()).execute(&mut **transaction).await.map(drop)
//!     })
//!     .await?;
//!     Ok(())
//! }
//! # }
//! ```

mod error;
mod offsets;
mod stays;

pub use error::SinkError;
pub use offsets::SinkDatabase;

use std::error::Error;
use std::pin::pin;

use sqlx::{Pool, Transaction};
use tokio::sync::mpsc;

use self::offsets::{Claimed, Place};
use self::stays::{Stay, Stays};
use crate::group::{Ear, GroupRecord, Word};
use crate::sql::{DatabaseError, Name, Statement, passes};
use crate::{
    Backoff, ConsumerRecord, GroupConsumer, GroupConsumerBuilder, GroupError, Offset, Start, TopicId, TopicPartition,
};

/// Words of the group that may wait.
const WORDS: usize = 16;

/// Brings records into a database, exactly once.
#[derive(Debug)]
pub struct SqlSink<DB: SinkDatabase> {
    pool: Pool<DB>,
    name: String,
    table: Name,
    batch_records: usize,
}

/// What became of a claim.
enum Claim {
    Stay(Stay),
    /// Another has claimed it meanwhile.
    Fenced,
    /// The topic that it is of has its name no more, or not yet.
    OtherTopic,
}

/// Why a transaction was not committed.
enum Undone {
    /// Another has claimed this partition.
    Fenced(TopicPartition),
    /// The same may succeed later: what went wrong.
    Passing(String),
    Ended(SinkError),
}

impl From<DatabaseError> for Undone {
    fn from(error: DatabaseError) -> Self {
        if error.is_retriable() { Self::Passing(error.to_string()) } else { Self::Ended(error.into()) }
    }
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl<DB: SinkDatabase> SqlSink<DB> {
    /// A sink into this database, whose offsets stand under this name in the table `sink_offset`.
    pub fn new(pool: Pool<DB>, name: impl Into<String>) -> Self {
        Self { pool, name: name.into(), table: Name::known("sink_offset"), batch_records: 1_000 }
    }

    /// With its offsets in this table.
    #[must_use]
    pub fn table(mut self, table: Name) -> Self {
        self.table = table;
        self
    }

    /// Records that take effect in one transaction at most; fewer where no more are there. Default: 1,000.
    #[must_use]
    pub const fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = records;
        self
    }

    /// Makes the table of offsets where it is missing, and brings one of an earlier release up to date.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        let mut transaction = DB::begin(&self.pool).await?;
        DB::create(&mut transaction, &self.statement(offsets::CREATE)).await?;
        if DB::count(&mut transaction, &self.statement(DB::TOPIC_IDS)).await? == 0 {
            DB::create(&mut transaction, &self.statement(offsets::ADD_TOPIC_ID)).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Reads as a member of the group that `group` describes, and calls `effect` for each record with the transaction that it is to write in, until
    /// `stop` is done. Records of a partition come in their order; one may be seen again, but only where the transaction was undone. A database that is away
    /// is waited for, also where it is the effect that finds out: one that fails with an error that is, or comes of ([`Error::source`]), or wraps in a
    /// [`std::io::Error`], one of `sqlx` that passes by itself is tried again, with all of its transaction. Any other ends the sink. What `group` says of rebalances is replaced.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn run<E: Into<Box<dyn Error + Send + Sync>>>(
        self,
        group: GroupConsumerBuilder,
        stop: impl Future<Output = ()>,
        mut effect: impl AsyncFnMut(&mut Transaction<'_, DB>, &ConsumerRecord) -> Result<(), E>,
    ) -> Result<(), SinkError> {
        let (tell, mut words) = mpsc::channel(WORDS);
        let mut consumer = group.on_rebalance(Ear(tell)).build().await?;
        let mut stop = pin!(stop);
        let mut stays = Stays::default();
        let ended = loop {
            let first = tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                Some(word) = words.recv() => {
                    match self.heed(word, &consumer, &mut stays).await {
                        Ok(()) => continue,
                        Err(error) => break Err(error),
                    }
                }
                record = consumer.take() => match record {
                    Some(Ok(record)) => record,
                    Some(Err(error)) => break Err(error.into()),
                    None => break Err(GroupError::Left.into()),
                },
            };
            let mut records = vec![first];
            while records.len() < self.batch_records.max(1) {
                tokio::select! {
                    biased;
                    Some(Ok(record)) = consumer.take() => records.push(record),
                    // Nothing more is there at the moment.
                    () = std::future::ready(()) => break,
                }
            }
            if let Err(error) = self.settle(records, &consumer, &mut stays, &mut effect).await {
                break Err(error);
            }
        };
        drop(words);
        match consumer.leave().await {
            Err(error) if ended.is_ok() => Err(error.into()),
            Ok(()) | Err(_) => ended,
        }
    }

    async fn heed(&self, word: Word, consumer: &GroupConsumer, stays: &mut Stays) -> Result<(), SinkError> {
        match word {
            Word::Assigned(partitions, _done) => {
                for at in partitions {
                    self.take(at, consumer, stays).await?;
                }
            }
            Word::Gone(mut partitions) => {
                // It may be of a topic that was deleted, where that of its name has been taken by now.
                partitions.retain(|at| consumer.topic_id(at) != stays.topic_id(at));
                stays.end(&partitions);
            }
        }
        Ok(())
    }

    /// Claims a partition, and has it read from where the database says; for as long as it takes.
    async fn take(&self, at: TopicPartition, consumer: &GroupConsumer, stays: &mut Stays) -> Result<(), SinkError> {
        let mut failures = 0;
        let stay = loop {
            // Until then it is taken away again.
            let Some(topic_id) = consumer.topic_id(&at) else { return Ok(()) };
            let trouble = match self.stay(&at, topic_id, consumer).await {
                Ok(Claim::Stay(stay)) => break stay,
                Ok(Claim::Fenced) => return Ok(()),
                Ok(Claim::OtherTopic) => "the cluster knows another topic by its name, or none".to_owned(),
                Err(error) if error.is_retriable() => error.to_string(),
                Err(error) => return Err(error),
            };
            failures += 1;
            tracing::warn!(sink = self.name, trouble, "a partition cannot be claimed, and it is tried again");
            tokio::time::sleep(Backoff::DEFAULT.wait(failures, fastrand::f64())).await;
        };
        match consumer.seek(at.topic.as_str(), at.partition, Start::Offset(stay.next)).await {
            Ok(()) => {}
            // It is taken away again already.
            Err(GroupError::Consume(crate::ConsumeError::NotAssigned { .. })) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        stays.begin(at, stay);
        Ok(())
    }

    /// Claims a partition; where the database says nothing of it, or speaks of another topic of its name, its beginning is noted, so that whoever gets it
    /// next does not look for another one.
    async fn stay(&self, at: &TopicPartition, topic_id: TopicId, consumer: &GroupConsumer) -> Result<Claim, SinkError> {
        let (next, epoch, of) = self.claim(at).await?;
        let id = topic_id.to_string();
        let known = next.map(|next| Offset(next.unsigned_abs()));
        let next = match (known, of) {
            (Some(next), Some(of)) if of == id => return Ok(Claim::Stay(Stay { topic_id, epoch, next })),
            // It was noted by an earlier release.
            (Some(next), None) => next,
            (_, of) => {
                let Some(next) = consumer.beginning(at, topic_id).await? else { return Ok(Claim::OtherTopic) };
                if let Some(of) = of {
                    tracing::warn!(
                        sink = self.name, topic = %at.topic, partition = %at.partition, noted = of, found = id, %next,
                        "the topic was deleted and made again: nothing of it has taken effect, and it is read from its start"
                    );
                }
                next
            }
        };
        let is_noted = self.begin(at, (epoch, next.0.cast_signed(), &id)).await?;
        Ok(if is_noted { Claim::Stay(Stay { topic_id, epoch, next }) } else { Claim::Fenced })
    }

    async fn claim(&self, at: &TopicPartition) -> Result<Claimed, DatabaseError> {
        let mut transaction = DB::begin(&self.pool).await?;
        let claimed = DB::claim(&mut transaction, &self.statement(offsets::CLAIM), self.place(at)).await?;
        transaction.commit().await?;
        Ok(claimed)
    }

    /// False where another has claimed the partition.
    async fn begin(&self, at: &TopicPartition, beginning: (i64, i64, &str)) -> Result<bool, DatabaseError> {
        let mut transaction = DB::begin(&self.pool).await?;
        let statement = self.statement(offsets::BEGIN);
        let is_noted = DB::begin_at(&mut transaction, &statement, self.place(at), beginning).await?;
        transaction.commit().await?;
        Ok(is_noted)
    }

    /// Has records take effect; where that is undone, has them come again.
    async fn settle<E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        records: Vec<GroupRecord>,
        consumer: &GroupConsumer,
        stays: &mut Stays,
        effect: &mut impl AsyncFnMut(&mut Transaction<'_, DB>, &ConsumerRecord) -> Result<(), E>,
    ) -> Result<(), SinkError> {
        let mut touched: Vec<TopicPartition> = records.iter().map(|record| record.source().clone()).collect();
        touched.sort();
        touched.dedup();
        match self.affect(&records, stays, effect).await {
            Ok(()) => {
                records.into_iter().for_each(GroupRecord::done);
                return Ok(());
            }
            Err(Undone::Ended(error)) => return Err(error),
            Err(Undone::Fenced(at)) => tracing::info!(
                sink = self.name, topic = %at.topic, partition = %at.partition,
                "another has claimed the partition, and nothing was written"
            ),
            Err(Undone::Passing(trouble)) => {
                tracing::warn!(sink = self.name, trouble, "nothing was written, and it is tried again");
                tokio::time::sleep(Backoff::DEFAULT.wait(1, fastrand::f64())).await;
            }
        }
        drop(records);
        let owned = consumer.assignment();
        for at in touched {
            // Whether the last transaction holds may be unknown: the database says from where on it is.
            let was_taken = stays.has(&at);
            stays.end(std::slice::from_ref(&at));
            if was_taken && owned.contains(&at) {
                self.take(at, consumer, stays).await?;
            }
        }
        Ok(())
    }

    async fn affect<E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        records: &[GroupRecord],
        stays: &mut Stays,
        effect: &mut impl AsyncFnMut(&mut Transaction<'_, DB>, &ConsumerRecord) -> Result<(), E>,
    ) -> Result<(), Undone> {
        let takes = |record: &&GroupRecord| {
            record.is_current() && stays.takes(record.source(), record.topic_id(), record.offset)
        };
        let records: Vec<&GroupRecord> = records.iter().filter(takes).collect();
        if records.is_empty() {
            return Ok(());
        }
        let moves = stays.moves(records.iter().map(|record| (record.source(), record.offset)));
        let mut transaction = DB::begin(&self.pool).await?;
        // First, so that whoever would claim a partition waits until these effects hold.
        let advance = self.statement(offsets::ADVANCE);
        for (at, stay) in &moves {
            let next = stay.next.0.cast_signed();
            if !DB::advance(&mut transaction, &advance, self.place(at), stay.epoch, next).await? {
                return Err(Undone::Fenced(at.clone()));
            }
        }
        for record in records {
            if let Err(cause) = effect(&mut transaction, record.record()).await {
                let TopicPartition { topic, partition } = record.source().clone();
                let (offset, cause): (_, Box<dyn Error + Send + Sync>) = (record.offset, cause.into());
                let is_passing = passes(&*cause);
                let error = SinkError::Effect { topic, partition, offset, cause: cause.into() };
                return Err(if is_passing { Undone::Passing(error.to_string()) } else { Undone::Ended(error) });
            }
        }
        transaction.commit().await?;
        stays.moved(moves);
        Ok(())
    }

    fn place<'a>(&'a self, at: &'a TopicPartition) -> Place<'a> {
        Place { sink: &self.name, topic: at.topic.as_str(), partition: at.partition.0.into() }
    }

    fn statement(&self, template: &str) -> Statement {
        Statement::of(template, &[("table", self.table.as_str()), ("bare", self.table.bare())])
    }
}
