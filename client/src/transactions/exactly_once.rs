//! Processes what a group's member reads in transactions: what is made of the records and that they were read hold together. Knows nothing of
//! how a transaction ends, nor of how partitions come and go.
//!
//! Records are kept in hand until their transaction is committed, so that their partitions do not go to others before that; what was undone is
//! read again from where the group stands. Whoever lost a partition all the same cannot commit its offsets, and with them nothing of the
//! transaction: the generation of the group fences it, whatever its transactional id.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tidelog_protocol::ErrorCode;
use tidelog_protocol::error::Actor;
use tokio::time::Instant;

use super::{ExactlyOnceOptions, TransactionError, TransactionSender, TransactionalProducer};
use crate::group::{Commits, GroupRecord, Letters, begun, caught};
use crate::{ClientError, ConsumerRecord, GroupConsumer, GroupError, Isolation, Offset, SendError, TopicPartition};

/// Resolves when nothing more shall begin.
type Stop<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl TransactionalProducer {
    /// Processes the records of a group's member exactly once: in transactions of many records, each with what the handler sends and how far
    /// the group is. The handler is given one record after the other; what it sends need not be awaited. See
    /// [`TransactionalProducer::exactly_once_with`].
    ///
    /// # Errors
    /// As [`TransactionalProducer::exactly_once_with`].
    ///
    /// ```no_run
    /// use tidelog_client::{Client, Record, Start};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let orders = client.group("billing").topics(["orders"]).start(Start::Beginning).build().await?;
    /// let producer = client.transactional_producer("billing-1").build().await?;
    /// producer
    ///     .exactly_once(orders, |order, transaction| async move {
    ///         let mut invoice = Record::to("invoices");
    ///         (invoice.key, invoice.value) = (order.key.clone(), order.value.clone());
    ///         transaction.send(invoice).await.map(drop)
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn exactly_once<F, Fut, E>(self, consumer: GroupConsumer, handler: F) -> Result<(), TransactionError>
    where
        F: Fn(ConsumerRecord, TransactionSender) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Display,
    {
        self.exactly_once_with(consumer, ExactlyOnceOptions::default(), std::future::pending(), handler).await
    }

    /// As [`TransactionalProducer::exactly_once`], as `options` say, until `stop` resolves: then what was begun is committed, and the member
    /// leaves.
    ///
    /// A record whose handler fails, or panics, undoes its transaction; those before it are processed again, and so is it, until it has failed
    /// as often as it may: then it goes to its dead-letter topic. So does one whose output is refused for good, and one that takes its handler
    /// longer than a transaction may be [open](super::TransactionalProducerBuilder::transaction_timeout). While it waits for its next try
    /// its partition does, too, and the others go on. Whatever undoes a transaction otherwise is no failure of a record: the member
    /// reads on from where the group stands. What the handler does beside the transaction may happen more than once.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`] where another producer has the id; [`TransactionError::Group`] where the member ends, cannot read, or a
    /// record failed for which there is no dead-letter topic; [`TransactionError::NotWritten`] and [`TransactionError::Client`] for what does
    /// not pass by itself. [`ClientError::Argument`] for a consumer that reads what is not committed.
    pub async fn exactly_once_with<F, Fut, E>(
        self,
        consumer: GroupConsumer,
        options: ExactlyOnceOptions,
        stop: impl Future<Output = ()> + Send,
        handler: F,
    ) -> Result<(), TransactionError>
    where
        F: Fn(ConsumerRecord, TransactionSender) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Display,
    {
        if consumer.isolation() != Isolation::ReadCommitted {
            let sentence = "exactly once means to read what is committed: the consumer's isolation is another";
            return Err(ClientError::Argument(sentence.into()).into());
        }
        let (commits, letters) = (consumer.commits(), Letters::of(&consumer));
        let mut pipeline = Pipeline {
            producer: self,
            consumer,
            commits,
            letters,
            options,
            handler,
            failing: Vec::new(),
            suspects: Vec::new(),
            troubles: 0,
        };
        let stop = std::pin::pin!(stop);
        let result = pipeline.go(stop).await;
        let Pipeline { consumer, producer, .. } = pipeline;
        let left = consumer.leave().await.map_err(TransactionError::Group);
        drop(producer);
        result.and(left)
    }
}

/// A record that failed.
#[derive(Clone, Debug)]
struct Failing {
    at: TopicPartition,
    offset: Offset,
    attempts: u32,
    cause: String,
    /// When it is tried again; its partition is paused until then.
    due: Option<Instant>,
}

/// Why a transaction came to nothing.
enum Trouble {
    /// A record failed.
    Record(Failing),
    /// What was made of one of these is refused for good, and nothing tells of which.
    AnyOf(Vec<(TopicPartition, Offset)>),
    Transaction(TransactionError),
}

impl<T: Into<TransactionError>> From<T> for Trouble {
    fn from(error: T) -> Self {
        Self::Transaction(error.into())
    }
}

/// Records of a transaction, until it is committed.
struct Held {
    records: Vec<GroupRecord>,
    /// What the handler took for one of them, at most.
    longest: Duration,
}

/// Whether more is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    GoesOn,
    Stops,
}

struct Pipeline<F> {
    producer: TransactionalProducer,
    consumer: GroupConsumer,
    commits: Commits,
    letters: Letters,
    options: ExactlyOnceOptions,
    handler: F,
    /// Records that failed, until they are done: of partitions that are the member's, and of those between two commits.
    failing: Vec<Failing>,
    /// Records of a transaction of which one is refused for good: each is processed in a transaction of its own until that one is found.
    suspects: Vec<(TopicPartition, Offset)>,
    /// Transactions in a row that came to nothing, and not by a record.
    troubles: u32,
}

impl<F, Fut, E> Pipeline<F>
where
    F: Fn(ConsumerRecord, TransactionSender) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Display,
{
    async fn go(&mut self, mut stop: Stop<'_>) -> Result<(), TransactionError> {
        loop {
            let due = self.take_up();
            let first = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = until(due), if due.is_some() => continue,
                taken = self.consumer.take() => match taken {
                    Some(first) => first,
                    None => return Ok(()),
                },
            };
            let transacted = match first {
                Ok(first) => self.transaction(first, stop.as_mut()).await,
                Err(error) => Err(error.into()),
            };
            let pause = match transacted {
                Ok(Course::GoesOn) => continue,
                Ok(Course::Stops) => return Ok(()),
                Err(Trouble::Record(failing)) => {
                    self.failed(failing);
                    continue;
                }
                Err(Trouble::AnyOf(suspects)) => {
                    self.suspects = suspects;
                    self.consumer.rewind();
                    continue;
                }
                Err(Trouble::Transaction(error)) => self.undone(error).await?,
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One transaction, of `first` and what comes soon after it.
    async fn transaction(&mut self, first: GroupRecord, stop: Stop<'_>) -> Result<Course, Trouble> {
        let mut held = Held { records: Vec::new(), longest: Duration::ZERO };
        let trouble = match self.transact(first, stop, &mut held).await {
            Ok(course) => {
                held.records.into_iter().for_each(GroupRecord::done);
                return Ok(course);
            }
            Err(trouble) => trouble,
        };
        let timeout = self.producer.transaction_timeout();
        // It began no later within the transaction than that.
        let before = self.options.interval.min(timeout / 2);
        match trouble {
            Trouble::Transaction(error) if held.longest + before >= timeout && is_over(&error) => {
                let Held { records, longest } = held;
                tracing::warn!(id = self.producer.transactional_id(), records = records.len(), ?longest, ?timeout, %error,
                    "a record took its handler longer than a transaction may be open");
                let cause = || format!("its handler took {longest:?}, and a transaction may be open for {timeout:?}");
                Err(blame(&records, cause))
            }
            trouble => Err(trouble),
        }
    }

    async fn transact(&mut self, first: GroupRecord, mut stop: Stop<'_>, held: &mut Held) -> Result<Course, Trouble> {
        let ends = Instant::now() + self.options.interval;
        // One that is suspected, or tried again, shall undo no others.
        let is_usual = self.suspects.is_empty() && self.failing.iter().all(|failing| failing.due.is_some());
        let limit = if is_usual { self.options.records } else { 1 };
        let mut transaction = self.producer.begin().await?;
        let sender = transaction.sender();
        let mut course = Course::GoesOn;
        let mut next = first;
        loop {
            // One of a partition that is not the member's any more is others' to process.
            if next.is_current() {
                let failing = self.failing.iter().find(|failing| failing.is(&next));
                let worked = match failing.filter(|failing| failing.attempts >= self.options.retry.attempts) {
                    Some(given_up) => {
                        send_away(&self.letters, &self.options, &sender, &next, given_up).await?;
                        Ok(())
                    }
                    None => {
                        let began = Instant::now();
                        let handling = begun(|| (self.handler)(next.record().clone(), sender.clone()));
                        let worked = caught(handling).await;
                        held.longest = held.longest.max(began.elapsed());
                        worked
                    }
                };
                if let Err(cause) = worked {
                    // Whatever the handler made of it, it is no failure of the record's.
                    if let Some(cause) = transaction.failure() {
                        held.records.push(next);
                        drop(transaction);
                        return Err(self.not_written(&held.records, cause));
                    }
                    return Err(Trouble::Record(Failing::of(&next, cause)));
                }
                held.records.push(next);
            }
            if held.records.len() >= limit {
                break;
            }
            next = tokio::select! {
                biased;
                () = &mut stop => {
                    course = Course::Stops;
                    break;
                }
                () = tokio::time::sleep_until(ends) => break,
                taken = self.consumer.take() => match taken {
                    Some(next) => next?,
                    // What was done so far is still the member's to commit, or not: the coordinator of the group tells.
                    None => {
                        course = Course::Stops;
                        break;
                    }
                },
            };
        }
        if held.records.is_empty() {
            return Ok(course);
        }
        let written = transaction.flush_and_offer(self.commits.offer_of(&held.records)).await;
        if let Err(TransactionError::NotWritten { cause }) = written {
            drop(transaction);
            return Err(self.not_written(&held.records, cause));
        }
        written?;
        transaction.commit().await?;
        // Also those that never came again, as they were deleted.
        let is_passed = |at: &TopicPartition, offset: Offset| {
            held.records.iter().any(|record| *record.source() == *at && record.offset >= offset)
        };
        self.suspects.retain(|(at, offset)| !is_passed(at, *offset));
        self.failing.retain(|failing| !is_passed(&failing.at, failing.offset));
        self.troubles = 0;
        Ok(course)
    }

    /// Something of a transaction was not written, with all of these in hand.
    fn not_written(&self, held: &[GroupRecord], cause: SendError) -> Trouble {
        if !is_refused_for_good(&cause) {
            return TransactionError::NotWritten { cause }.into();
        }
        match held {
            [record] if self.is_given_up(record) => {
                let dead_letters = self.options.dead_letters.of(record.topic()).unwrap_or_default();
                Letters::refusal(record, dead_letters, cause).into()
            }
            records => blame(records, || cause.to_string()),
        }
    }

    fn is_given_up(&self, record: &GroupRecord) -> bool {
        let mut failing = self.failing.iter().filter(|failing| failing.is(record));
        failing.any(|failing| failing.attempts >= self.options.retry.attempts)
    }

    /// Goes on with partitions whose failed record may be tried again; gives when the next may. Forgets what is others' now.
    fn take_up(&mut self) -> Option<Instant> {
        if self.failing.is_empty() && self.suspects.is_empty() {
            return None;
        }
        let owned = self.consumer.assignment();
        self.failing.retain(|failing| owned.contains(&failing.at));
        self.suspects.retain(|(at, _)| owned.contains(at));
        let now = Instant::now();
        for failing in self.failing.iter_mut().filter(|failing| failing.due.is_some_and(|due| due <= now)) {
            failing.due = None;
            // One that was taken away meanwhile is not paused where it is.
            let _ = self.consumer.resume(failing.at.topic.as_str(), failing.at.partition);
        }
        self.failing.iter().filter_map(|failing| failing.due).min()
    }

    /// A record failed: its partition waits until it is tried again, and the others go on.
    fn failed(&mut self, mut failing: Failing) {
        let before =
            self.failing.iter().position(|before| (&before.at, before.offset) == (&failing.at, failing.offset));
        failing.attempts = before.map_or(0, |before| self.failing.swap_remove(before).attempts) + 1;
        let Failing { at, offset, attempts, cause, .. } = &failing;
        tracing::debug!(topic = %at.topic, partition = %at.partition, %offset, attempts, cause,
            "a record failed, and its transaction is undone");
        // It is known for what it is: the others need not be on their own any more.
        self.suspects.clear();
        let pause = self.options.retry.backoff.wait(failing.attempts, fastrand::f64());
        failing.due = Some(Instant::now() + pause);
        // One that was taken away meanwhile is not read here any more.
        let _ = self.consumer.pause(failing.at.topic.as_str(), failing.at.partition);
        self.failing.push(failing);
        self.consumer.rewind();
    }

    /// A transaction is undone, or in doubt: finds out which, and reads on from where the group stands. Gives how long to wait before that.
    async fn undone(&mut self, error: TransactionError) -> Result<Duration, TransactionError> {
        let mut error = error;
        while let TransactionError::InDoubt { .. } = error {
            tracing::warn!(id = self.producer.transactional_id(), %error, "asks again whether the transaction is committed");
            match self.producer.settle().await {
                Ok(()) => return Ok(Duration::ZERO),
                Err(settled) => error = settled,
            }
        }
        if !passes(&error) {
            return Err(error);
        }
        tracing::debug!(id = self.producer.transactional_id(), %error, "a transaction is undone, and its records come again");
        self.consumer.rewind();
        self.troubles += 1;
        // The first of them is most often a rebalance, and nothing to wait for.
        Ok(crate::Backoff::DEFAULT.wait(self.troubles - 1, fastrand::f64()))
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// Is it about the record that was sent, so that it never fares better, and others may?
fn is_refused_for_good(cause: &SendError) -> bool {
    match cause {
        SendError::TooLarge { .. } => true,
        SendError::Rejected(error) => {
            matches!(error.code, ErrorCode::KeyMissing | ErrorCode::TooLarge | ErrorCode::InvalidBatch)
        }
        _ => false,
    }
}

/// Has the transaction been undone by its coordinator, or its group?
fn is_over(error: &TransactionError) -> bool {
    use ErrorCode::{InvalidTransactionState, ProducerFenced, TransactionFenced, UnknownTransaction};
    match error {
        TransactionError::Undone(_) => true,
        TransactionError::NotWritten { cause: SendError::Rejected(error) }
        | TransactionError::Group(GroupError::Client(ClientError::Broker(error))) => {
            matches!(error.code, InvalidTransactionState | ProducerFenced | TransactionFenced | UnknownTransaction)
        }
        TransactionError::NotWritten { cause } => matches!(cause, SendError::Undone | SendError::TransactionEnded),
        _ => false,
    }
}

/// Finds fault with the record, or with one of several.
fn blame(records: &[GroupRecord], cause: impl Fn() -> String) -> Trouble {
    match records {
        [record] => Trouble::Record(Failing::of(record, cause())),
        several => Trouble::AnyOf(several.iter().map(|record| (record.source().clone(), record.offset)).collect()),
    }
}

/// May the next transaction fare better?
fn passes(error: &TransactionError) -> bool {
    match error {
        // Whether another has the id is found out as the next begins.
        TransactionError::Group(GroupError::Client(error)) | TransactionError::Client(error) => {
            error.is_retriable() || matches!(error.actor(), Actor::ClientStops | Actor::ClientAborts)
        }
        TransactionError::NotWritten { cause: SendError::Rejected(_) } => {
            !matches!(error.actor(), Actor::Operator | Actor::Programmer)
        }
        TransactionError::NotWritten { cause } => match cause {
            SendError::Undone | SendError::TransactionEnded => true,
            cause => cause.is_retriable(),
        },
        // How far the group is was part of it: whoever reads on from there does what it left undone, and nothing twice.
        TransactionError::FateUnknown { cause } => matches!(cause.actor(), Actor::ClientAborts),
        error => matches!(error.actor(), Actor::ClientAborts | Actor::ClientRejoins),
    }
}

/// Writes the dead letter of a record within its transaction.
async fn send_away(
    letters: &Letters,
    options: &ExactlyOnceOptions,
    sender: &TransactionSender,
    record: &GroupRecord,
    given_up: &Failing,
) -> Result<(), TransactionError> {
    let Failing { cause, attempts, .. } = given_up;
    let topic = letters.topic(&options.dead_letters, record, cause, *attempts)?;
    let letter = letters.compose(&topic, record, cause, *attempts).await?;
    match sender.send(letter).await {
        Ok(_written_or_the_commit_fails) => {
            tracing::warn!(topic = record.topic(), partition = %record.partition(), offset = %record.offset,
                cause, dead_letters = topic, "a record failed for good");
            Ok(())
        }
        Err(cause @ (SendError::Undone | SendError::TransactionEnded)) => Err(TransactionError::NotWritten { cause }),
        Err(error) => Err(Letters::refusal(record, topic, error).into()),
    }
}

impl Failing {
    fn of(record: &GroupRecord, cause: String) -> Self {
        Self { at: record.source().clone(), offset: record.offset, attempts: 0, cause, due: None }
    }

    fn is(&self, record: &GroupRecord) -> bool {
        self.offset == record.offset && self.at == *record.source()
    }
}
