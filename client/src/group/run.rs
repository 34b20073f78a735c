//! Processes a member's records many at a time: begins them in order, tries those that fail again, and sends away those that failed for
//! good. Which record may begin is the business of `lanes`; knows nothing of partitions that come and go, but leaves what is not current.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use tidelog_protocol::Monotonic;
use tokio::task::{JoinError, JoinSet};

use super::GroupError;
use super::consumer::GroupConsumer;
use super::lanes::{Lanes, Piece};
use super::letters::Letters;
use super::member::Place;
use super::record::GroupRecord;
use super::run_options::{Order, RunOptions};
use crate::producer::ProducerBuilder;
use crate::{ConsumerRecord, Producer, SendError};

/// Records that wait for each other: of a partition, or of a key in it.
type Lane = (Place, u64);
/// What became of a piece of work.
type Outcome = (Lane, Piece<GroupRecord>, Result<(), Trouble>);

/// Why a record is not done.
enum Trouble {
    /// The program says so, or it panicked: another try may help.
    Failed(String),
    /// Nothing helps: the run ends.
    Final(GroupError),
}

impl GroupConsumer {
    /// Processes up to `concurrency` records at once, each as a task of its own, those of a partition one after the other. A record that fails
    /// is tried again, and then goes to its dead-letter topic; it is done once that is acknowledged. See [`GroupConsumer::run_with`].
    ///
    /// # Errors
    /// As [`GroupConsumer::run_with`].
    ///
    /// ```no_run
    /// use tidelog_client::{Client, Start};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let consumer = client.group("billing").topics(["orders"]).start(Start::Beginning).build().await?;
    /// consumer
    ///     .run(16, |record| async move {
    ///         let value = record.value.as_deref().ok_or("an order without content")?;
    ///         println!("bills {}", std::str::from_utf8(value).map_err(|_| "an order that is no text")?);
    ///         Ok::<(), &str>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<F, Fut, E>(self, concurrency: usize, handler: F) -> Result<(), GroupError>
    where
        F: Fn(ConsumerRecord) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.run_with(RunOptions::new(concurrency), std::future::pending(), handler).await
    }

    /// As [`GroupConsumer::run`], as `options` say, until `stop` resolves: then nothing more begins, what was begun is finished, what is done is
    /// committed, and the member leaves.
    ///
    /// A handler that panics has failed, in its call or in what that gives. Records of partitions that were taken away are not begun, nor tried again. Where the run itself is
    /// dropped, what was begun is cancelled and counts as not done.
    ///
    /// A pattern that matches the dead-letter topics reads them, too: such a record fails the run rather than go round for ever.
    ///
    /// # Errors
    /// [`GroupError::Failed`], [`GroupError::DeadLetter`] for a record that nothing takes; those of [`GroupConsumer::next`], each of which ends
    /// the run. The member has left then.
    pub async fn run_with<F, Fut, E>(
        self,
        options: RunOptions,
        stop: impl Future<Output = ()>,
        handler: F,
    ) -> Result<(), GroupError>
    where
        F: Fn(ConsumerRecord) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let mut run = Run {
            lanes: Lanes::new(),
            doing: JoinSet::new(),
            letters: Arc::new(Post {
                producer: ProducerBuilder::new(Arc::clone(&shared.cluster)).build()?,
                letters: Letters { shared },
            }),
            options,
            consumer: self,
            handler,
        };
        let result = run.go(stop).await;
        run.doing.shutdown().await;
        // What waits in lanes goes out of hand: it is not done.
        let Run { consumer, lanes, .. } = run;
        drop(lanes);
        let left = consumer.leave().await;
        result.and(left)
    }
}

/// A run.
struct Run<F> {
    consumer: GroupConsumer,
    lanes: Lanes<Lane, GroupRecord>,
    doing: JoinSet<Outcome>,
    letters: Arc<Post>,
    options: RunOptions,
    handler: F,
}

impl<F, Fut, E> Run<F>
where
    F: Fn(ConsumerRecord) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    async fn go(&mut self, stop: impl Future<Output = ()>) -> Result<(), GroupError> {
        tokio::pin!(stop);
        let mut stopped = false;
        loop {
            if !stopped {
                self.begin();
            }
            if stopped && self.doing.is_empty() {
                return Ok(());
            }
            let has_room = self.lanes.len() < self.options.waiting_max && !stopped;
            let born = self.consumer.shared.born;
            // A lane that waits for its next try matters only where there is a place to do it.
            let due = self.lanes.due().filter(|_| self.doing.len() < self.options.concurrency && !stopped);
            tokio::select! {
                () = &mut stop, if !stopped => stopped = true,
                Some(finished) = self.doing.join_next(), if !self.doing.is_empty() => self.finish(finished)?,
                taken = self.consumer.take(), if has_room => match taken {
                    Some(record) => self.take(record?),
                    None => return Ok(()),
                },
                () = until(born, due), if due.is_some() => {}
            }
        }
    }

    fn take(&mut self, record: GroupRecord) {
        let of = match (self.options.order, &record.key) {
            (Order::Partition, _) => 0,
            // Two keys of one hash wait for each other, which does no harm.
            (Order::Key, Some(key)) => FixedState::default().hash_one(key),
            (Order::Key, None) => record.offset.0,
        };
        self.lanes.push((record.place(), of), record);
    }

    /// Begins what may.
    fn begin(&mut self) {
        let now = self.consumer.shared.now();
        while self.doing.len() < self.options.concurrency
            && let Some((lane, piece)) = self.lanes.begin(now)
        {
            if !piece.work.is_current() {
                self.lanes.finished(lane);
                continue;
            }
            let handling = begun(|| (self.handler)(piece.work.record().clone()));
            let (letters, options) = (Arc::clone(&self.letters), self.options.clone());
            self.doing.spawn(async move {
                let result = match caught(handling).await {
                    Ok(()) => Ok(()),
                    Err(cause) if piece.failures + 1 < options.retry.attempts => Err(Trouble::Failed(cause)),
                    Err(cause) => {
                        letters.send(&options, &piece.work, &cause, piece.failures + 1).await.map_err(Trouble::Final)
                    }
                };
                (lane, piece, result)
            });
        }
    }

    fn finish(&mut self, finished: Result<Outcome, JoinError>) -> Result<(), GroupError> {
        // A handler that panics was caught; what else there is in a task does not.
        let Ok((lane, piece, result)) = finished else { return Ok(()) };
        match result {
            Ok(()) => {
                piece.work.done();
                self.lanes.finished(lane);
                Ok(())
            }
            Err(Trouble::Failed(cause)) => {
                let wait = self.options.retry.backoff.wait(piece.failures + 1, fastrand::f64());
                tracing::debug!(topic = piece.work.topic(), partition = %piece.work.partition(),
                    offset = %piece.work.offset, cause, ?wait, "a record failed, and is tried again");
                let at = self.consumer.shared.now().plus_ms(wait.as_millis() as u64);
                self.lanes.again_at(lane, piece, at);
                Ok(())
            }
            Err(Trouble::Final(error)) => Err(error),
        }
    }
}

async fn until(born: std::time::Instant, due: Option<Monotonic>) {
    if let Some(Monotonic(ms)) = due {
        tokio::time::sleep_until((born + Duration::from_millis(ms)).into()).await;
    }
}

/// The work of a handler, or that it panicked before it had any.
pub(crate) fn begun<Fut>(handler: impl FnOnce() -> Fut) -> Result<Fut, String> {
    std::panic::catch_unwind(AssertUnwindSafe(handler)).map_err(|panic| said(&*panic))
}

/// What the work of a handler comes to, also where it panics.
pub(crate) async fn caught<E: Display>(
    handling: Result<impl Future<Output = Result<(), E>> + Send, String>,
) -> Result<(), String> {
    let mut handling = Box::pin(handling?);
    let polled = poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
        Ok(polled) => polled.map(|result| result.map_err(|error| error.to_string())),
        Err(panic) => std::task::Poll::Ready(Err(said(&*panic))),
    });
    polled.await
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or_default())
}

/// Writes dead letters.
struct Post {
    letters: Letters,
    producer: Producer,
}

impl Post {
    /// Writes the dead letter of a record; returns once it is acknowledged. What passes is tried again for as long as the record is the
    /// member's.
    async fn send(
        &self,
        options: &RunOptions,
        record: &GroupRecord,
        cause: &str,
        attempts: u32,
    ) -> Result<(), GroupError> {
        let topic = self.letters.topic(&options.dead_letters, record, cause, attempts)?;
        let mut failures = 0;
        loop {
            let error = match self.write(&topic, record, cause, attempts).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_retriable() || !record.is_current() {
                return Err(Letters::refusal(record, topic, error));
            }
            failures += 1;
            tracing::warn!(topic, %error, "could not write a dead letter, and tries again");
            tokio::time::sleep(self.letters.shared.cluster.backoff().draw(failures, 0)).await;
        }
    }

    async fn write(&self, topic: &str, record: &GroupRecord, cause: &str, attempts: u32) -> Result<(), SendError> {
        let letter = self.letters.compose(topic, record, cause, attempts).await?;
        self.producer.send(letter).await?.await?;
        tracing::warn!(topic = record.topic(), partition = %record.partition(), offset = %record.offset,
            cause, dead_letters = topic, "a record failed for good");
        Ok(())
    }
}
