//! One shard of a relay: gets the lease, makes sure that nobody else publishes, settles what was published before, and publishes. What is to be sent and
//! whose fault a failure is say the rules; this does it.
//!
//! **Why each event is published once.** Rows are sent in a transaction with a record that names them, and settled in the database after it is
//! committed; nothing more is sent before they are. Whoever comes next under the same transactional id fences this one, which ends what it has
//! open, and reads the last such record: of the rows that it names none is sent again. The lease only keeps two relays from taking turns; a
//! holder that was away for too long is fenced in the broker and refused by the database, whatever its clock says. One that gets the
//! transactional id after its lease is gone finds that out before it sends anything, as it asks for the lease again in between.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::blame::{Blame, Caution, blame};
use super::error::RelayError;
use super::figures::RelayFigures;
use super::options::{Options, Step};
use super::pace::{Found, Pace};
use super::position::{Published, fitting, is_nameable};
use super::positions;
use super::row::{Mark, Row};
use super::store::{Limit, Pending, Shard, Store};
use crate::sql::lease::{Claim, Lease};
use crate::{
    Backoff, Client, ClientError, Delivery, ErrorCode, NewTopic, PartitionId, Record, SendError, TransactionError,
    TransactionalProducer,
};

/// A shard of a relay that runs.
pub(super) struct ShardOfRelay<S> {
    pub(super) store: S,
    pub(super) client: Client,
    pub(super) options: Arc<Options>,
    pub(super) figures: RelayFigures,
    pub(super) shard: Shard,
    /// The database, as positions name it.
    pub(super) database: String,
    /// Who asks for leases: this life of this relay.
    pub(super) owner: String,
    pub(super) until: Until,
}

/// When a shard ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// As it is told.
    Stopped,
    /// As nothing waits.
    Empty,
    /// As soon as what was published before is settled.
    Recovered,
}

/// Words from outside.
#[derive(Clone)]
pub(super) struct Signals {
    /// True once the relay shall end.
    pub(super) stop: watch::Receiver<bool>,
    /// Changes as something was staged.
    pub(super) staged: watch::Receiver<u64>,
}

/// Why a shard let go of its lease.
enum Ended {
    Stopped,
    LeaseLost,
}

/// What rows are published under.
struct Publishing<'a> {
    lease: &'a Lease,
    /// What the topic of positions takes in one batch.
    position_bytes: usize,
    caution: &'a mut Caution,
    /// How many events were published.
    published: &'a mut u64,
}

/// What became of rows that were sent.
enum Sent {
    Committed,
    /// This one can never be sent.
    Unfit(usize, String),
    /// One of them can never be sent, and nobody knows which.
    Suspect,
}

impl<S: Store> ShardOfRelay<S> {
    /// Runs until it is told to stop, or as [`Until`] says. How many events it published.
    pub(super) async fn run(self, mut signals: Signals) -> Result<u64, RelayError> {
        let mut failures = 0;
        let mut published = 0;
        while !*signals.stop.borrow() {
            let wait = match self.store.claim(self.shard.index, &self.owner, self.options.lease).await {
                Ok(Ok(lease)) => {
                    self.options.step(self.shard.index, Step::Claimed);
                    self.stand_by(false);
                    let before = published;
                    let ended = self.lead(&lease, &mut signals, &mut published).await;
                    self.figures.note(|figures| {
                        figures.leads.remove(&self.shard.index);
                    });
                    if !matches!(ended, Ok(Ended::LeaseLost))
                        && let Err(error) = self.store.release(&lease).await
                    {
                        tracing::debug!(%error, "the lease stays until its time is over");
                    }
                    match ended {
                        Ok(Ended::Stopped) => break,
                        Ok(Ended::LeaseLost) => Duration::ZERO,
                        Err(error) => {
                            failures = if published > before { 1 } else { failures + 1 };
                            self.trouble(error, failures)?
                        }
                    }
                }
                Ok(Err(Claim::Held { owner, left })) => {
                    failures = 0;
                    match self.until {
                        Until::Recovered => return Err(RelayError::Active { left }),
                        Until::Empty if self.is_empty().await => break,
                        Until::Empty | Until::Stopped => {}
                    }
                    if self.stand_by(true) {
                        tracing::info!(
                            shard = self.shard.index,
                            owner,
                            "another relay has the shard, and this one stands by"
                        );
                    }
                    left.min(self.options.lease / 3).max(Duration::from_millis(10)).mul_f64(1.0 + fastrand::f64() / 4.0)
                }
                // Never: what is taken comes as a lease.
                Ok(Err(Claim::Taken(_))) => Duration::ZERO,
                Err(error) => {
                    failures += 1;
                    self.trouble(error.into(), failures)?
                }
            };
            // Whichever it was, the loop looks.
            let _ = tokio::time::timeout(wait, signals.stop.wait_for(|stop| *stop)).await;
        }
        Ok(published)
    }

    /// Whether nothing of the shard waits. Where the database does not say, the next look does.
    async fn is_empty(&self) -> bool {
        let pending = self.store.pending(self.shard, Limit { rows: 1, bytes: 0 }).await;
        pending.is_ok_and(|pending| pending.rows.is_empty())
    }

    /// Notes whether another has the shard; true where that is news.
    fn stand_by(&self, stands_by: bool) -> bool {
        let mut is_news = false;
        self.figures.note(|figures| {
            let index = &self.shard.index;
            is_news = if stands_by { figures.stands_by.insert(*index) } else { figures.stands_by.remove(index) };
        });
        is_news
    }

    /// How long to wait after this; the error again, where nothing but a person can help.
    fn trouble(&self, error: RelayError, failures: u32) -> Result<Duration, RelayError> {
        if error.is_final() {
            return Err(error);
        }
        tracing::warn!(shard = self.shard.index, %error, "the outbox is not published, and it is tried again");
        self.figures.note(|figures| figures.trouble = Some(error.to_string()));
        Ok(Backoff::DEFAULT.wait(failures, fastrand::f64()))
    }

    /// Publishes for as long as the lease is its own.
    async fn lead(&self, lease: &Lease, signals: &mut Signals, published: &mut u64) -> Result<Ended, RelayError> {
        // Since this relay began, the number of shards may have been changed: from here on it cannot be.
        let registration = self.store.registration(self.shard.of).await?;
        self.options.check_name(registration.relay)?;
        let found = registration.shards;
        if found != self.shard.of {
            return Err(RelayError::WrongShards { asked: self.shard.of, found });
        }
        // It may have been deleted since, or made by somebody else.
        let position_bytes = positions::ensure(&self.client, &self.options).await?;
        let keeper = Keeper::start(self.store.clone(), lease.clone(), self.options.lease);
        let index = self.shard.index;
        let producer = self.client.transactional_producer(self.options.transactional_id(index));
        let mut producer = producer.build().await?;
        // Whoever has the lease now has fenced this producer, or will: it must not send. Whoever gets it later fences it first.
        if !self.store.renew(lease, self.options.lease).await? {
            return Ok(Ended::LeaseLost);
        }
        self.options.step(index, Step::Fenced);
        if !self.recover(lease, &mut producer).await? {
            return Ok(Ended::LeaseLost);
        }
        // Not before: the name may have turned out to be that of another outbox.
        self.options.check_name(self.store.name(&self.options.name).await?)?;
        self.options.step(index, Step::Recovered);
        if self.until == Until::Recovered {
            return Ok(Ended::Stopped);
        }
        self.figures.note(|figures| {
            figures.leads.insert(index);
        });
        let mut pace = Pace::between(S::WAITS.0, S::WAITS.1);
        let mut caution = Caution::default();
        loop {
            if *signals.stop.borrow() {
                return Ok(Ended::Stopped);
            }
            if keeper.is_lost() {
                return Ok(Ended::LeaseLost);
            }
            signals.staged.mark_unchanged();
            let limit = Limit { rows: self.options.batch_rows, bytes: self.options.batch_bytes };
            let Pending { rows, is_full } = self.store.pending(self.shard, limit).await?;
            let found = match (rows.is_empty(), is_full) {
                (true, _) => Found::Nothing,
                (false, false) => Found::Some,
                (false, true) => Found::Full,
            };
            if found == Found::Nothing {
                self.figures.note(|figures| figures.trouble = None);
                if self.until == Until::Empty {
                    return Ok(Ended::Stopped);
                }
            } else {
                self.options.step(index, Step::Read);
                let publishing = Publishing { lease, position_bytes, caution: &mut caution, published };
                if !self.publish(publishing, &mut producer, &rows).await? {
                    return Ok(Ended::LeaseLost);
                }
            }
            let wait = pace.after(found);
            if !wait.is_zero() {
                tokio::select! {
                    _ = signals.stop.wait_for(|stop| *stop) => {}
                    // Where nobody tells, the wait decides.
                    Ok(()) = signals.staged.changed() => self.figures.note(|figures| figures.woken += 1),
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }

    /// Settles what the last transaction published, where that was not done. False where the lease is another's.
    async fn recover(&self, lease: &Lease, producer: &mut TransactionalProducer) -> Result<bool, RelayError> {
        let Some(last) = positions::last(&self.client, &self.options, self.shard.index).await? else {
            // Nothing was ever published under this name: from now on it is this database's.
            return match self.send(producer, &[]).await? {
                Sent::Committed => Ok(true),
                Sent::Unfit(..) | Sent::Suspect => {
                    let (topic, what) = (self.options.positions(), "a record of it is refused".into());
                    Err(RelayError::Positions { topic, what })
                }
            };
        };
        if last.database != self.database {
            let (topic, database) = (self.options.positions(), self.database.clone());
            return Err(RelayError::OtherDatabase { topic, found: last.database, database });
        }
        let waiting = self.store.waiting(&last.rows).await?;
        if waiting.is_empty() {
            return Ok(true);
        }
        tracing::info!(
            shard = self.shard.index,
            rows = waiting.len(),
            "were published by a relay that did not settle them"
        );
        self.figures.note(|figures| figures.recovered += waiting.len() as u64);
        Ok(self.store.settle(lease, &waiting, self.options.settling).await?)
    }

    /// Publishes all of `rows`, in as many transactions as it takes. False where the lease is another's.
    async fn publish(
        &self,
        publishing: Publishing<'_>,
        producer: &mut TransactionalProducer,
        rows: &[Row],
    ) -> Result<bool, RelayError> {
        let Publishing { lease, position_bytes, caution, published } = publishing;
        let mut left = rows;
        while !left.is_empty() {
            // What cannot be named in one record is published in more transactions.
            let fitting = fitting(&self.database, left.iter().map(|row| &*row.id), position_bytes);
            let count = caution.limit(left.len()).min(fitting);
            let (now, later) = left.split_at(count);
            match self.send(producer, now).await? {
                Sent::Committed => {
                    self.options.step(self.shard.index, Step::Committed);
                    let seqs: Vec<i64> = now.iter().map(|row| row.seq).collect();
                    if !self.store.settle(lease, &seqs, self.options.settling).await? {
                        return Ok(false);
                    }
                    caution.passed(count);
                    *published += count as u64;
                    self.note(now);
                    self.options.step(self.shard.index, Step::Settled);
                    left = later;
                }
                Sent::Unfit(at, cause) => {
                    let Some(row) = now.get(at) else { continue };
                    tracing::warn!(
                        id = row.id,
                        aggregate = row.aggregate_id,
                        cause,
                        "an event cannot be sent, and is set aside"
                    );
                    if !self.store.bury(lease, row.seq, &cause).await? {
                        return Ok(false);
                    }
                    caution.passed(1);
                    self.figures.note(|figures| figures.dead += 1);
                    self.options.step(self.shard.index, Step::SetAside);
                    // Those before it go first, then those behind it: the next look finds all of them in their order.
                    return Ok(true);
                }
                Sent::Suspect => caution.suspect(count),
            }
        }
        Ok(true)
    }

    /// One transaction.
    async fn send(&self, producer: &mut TransactionalProducer, rows: &[Row]) -> Result<Sent, RelayError> {
        if let Some(at) = rows.iter().position(|row| !is_nameable(&row.id)) {
            return Ok(Sent::Unfit(at, "its id is longer than 255 bytes".into()));
        }
        // Where it is aborted, what led to that is told, not whether the abort came through: its coordinator ends what stays open.
        let transaction = producer.begin().await?;
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let topic = match row.topic(&self.options.prefix) {
                Ok(topic) => topic,
                Err(cause) => {
                    // Where that fails, the broker does it: at the next beginning under this id, or after the timeout.
                    let _ = transaction.abort().await;
                    return Ok(Sent::Unfit(at, cause));
                }
            };
            match transaction.send(row.record(&topic)).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => {
                    // Where that fails, the broker does it: at the next beginning under this id, or after the timeout.
                    let _ = transaction.abort().await;
                    return self.refused(&error, Some(at), rows.len()).await;
                }
            }
        }
        let published =
            Published { database: self.database.clone(), rows: rows.iter().map(Row::mark).collect::<Vec<Mark>>() };
        let record = Record::to(self.options.positions()).partition(PartitionId(self.shard.index));
        // Where it is not written, the commit fails.
        let position =
            transaction.send(record.key(format!("shard-{}", self.shard.index)).value(published.encode())).await;
        let position = match position {
            Ok(position) => position,
            Err(error) => {
                // Where that fails, the broker does it: at the next beginning under this id, or after the timeout.
                let _ = transaction.abort().await;
                return Err(error.into());
            }
        };
        let written = transaction.flush().await;
        self.options.step(self.shard.index, Step::Sent);
        let ended = match written {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                // Where that fails, the broker does it: at the next beginning under this id, or after the timeout.
                let _ = transaction.abort().await;
                Err(error)
            }
        };
        match ended {
            Ok(()) => Ok(Sent::Committed),
            Err(TransactionError::NotWritten { cause }) => {
                let too_large = |delivery: &Delivery| matches!(delivery.now(), Some(Err(SendError::TooLarge { .. })));
                if too_large(&position) {
                    // The topic takes less than it did: none of the rows is to blame.
                    return Err(cause.into());
                }
                self.refused(&cause, deliveries.iter().position(too_large), rows.len()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What it means that rows were refused, of which this one is known to be to blame.
    async fn refused(&self, error: &SendError, at: Option<usize>, rows: usize) -> Result<Sent, RelayError> {
        match blame(error) {
            Blame::Row(cause) => Ok(match at.or((rows == 1).then_some(0)) {
                Some(at) => Sent::Unfit(at, cause),
                None => Sent::Suspect,
            }),
            // It is looked for again, and made as it must be, as the shard begins anew.
            Blame::Topic(topic) if topic == self.options.positions() => Err(ClientError::UnknownTopic { topic }.into()),
            Blame::Topic(topic) => {
                let Some(partitions) = self.options.create else { return Err(RelayError::MissingTopic { topic }) };
                let new = NewTopic::named(&topic).partitions(partitions);
                let new = self.options.replication_factor.into_iter().fold(new, NewTopic::replication_factor);
                match self.client.admin().create_topic(&new).await {
                    Err(error) if error.code() != Some(ErrorCode::TopicExists) => Err(error.into()),
                    // It is tried again with the topic: nothing is to blame.
                    Ok(_) | Err(_) => Err(ClientError::UnknownTopic { topic }.into()),
                }
            }
            Blame::Cluster => Err(error.clone().into()),
        }
    }

    fn note(&self, rows: &[Row]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let oldest = rows.iter().map(|row| row.staged_ms).min().unwrap_or_default();
        let lag = now.saturating_sub(u128::from(oldest.max(0).unsigned_abs()));
        self.figures.note(|figures| {
            figures.published += rows.len() as u64;
            figures.transactions += 1;
            figures.lag = Duration::from_millis(u64::try_from(lag).unwrap_or(u64::MAX));
            figures.trouble = None;
        });
    }
}

/// Renews a lease until it is dropped.
struct Keeper {
    lost: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    fn start<S: Store>(store: S, lease: Lease, span: Duration) -> Self {
        let (tell, lost) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(span / 3).await;
                match store.renew(&lease, span).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let _ = tell.send(true);
                        return;
                    }
                    // It holds until another takes it, and what is done under it is checked.
                    Err(error) => tracing::debug!(%error, "a lease could not be renewed, and it is tried again"),
                }
            }
        });
        Self { lost, task }
    }

    fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
