//! The scope of a transaction: what is sent, which offsets go with it, and how it ends. What an answer to its end means is the standing's
//! business.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tidelog_protocol::messages::{CommitTransaction, ProducerIdentity};
use tokio::sync::{oneshot, watch};

use super::coordinator::Coordinator;
use super::line::{Handover, Line, Successor, Turn};
use super::producer::TransactionalProducer;
use super::standing::{Ended, Fenced, Standing};
use super::{Committing, TransactionError, TransactionSender};
use crate::group::{Commits, GroupOffset, Offer};
use crate::producer::{Delivery, Producer, Record, SendError, TopicProducer};
use crate::{ClientError, GroupError};

/// An open transaction. All that is sent within it holds once [`Transaction::commit`] has returned, and nothing of it otherwise: dropping it,
/// by an early return, a panic or a cancelled task, aborts it in the background, and the next one begins after that.
///
/// What stands in the logs of an undone transaction is left out for whoever reads what is [committed](crate::Isolation::ReadCommitted), which
/// is the default.
#[must_use = "a transaction that is dropped is undone; nothing of it holds before `commit`"]
pub struct Transaction<'p> {
    open: Open,
    of: PhantomData<&'p mut TransactionalProducer>,
}

type Told = Option<watch::Receiver<Option<ProducerIdentity>>>;

/// A transaction, and what it owes.
pub(super) struct Open {
    coordinator: Arc<Coordinator>,
    producer: Producer,
    turn: Turn,
    /// Who comes next, and how this one is told its identity where it has to wait for it.
    line: (Arc<Line>, Told),
    /// Offsets were to be part of it.
    has_offsets: bool,
    /// They could not.
    refused: Option<GroupError>,
    /// Nothing is left to be done about its end.
    ended: bool,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.open.coordinator.transactional_id;
        match &self.open.turn {
            Turn::Has { identity: ProducerIdentity { producer_id, epoch }, .. } => {
                write!(f, "Transaction({id}, producer {producer_id} in epoch {epoch})")
            }
            _ => write!(f, "Transaction({id}, behind another)"),
        }
    }
}

impl Transaction<'_> {
    pub(super) const fn new(open: Open) -> Self {
        Self { open, of: PhantomData }
    }

    /// Sends within it from other tasks.
    #[must_use]
    pub fn sender(&self) -> TransactionSender {
        TransactionSender { producer: self.open.producer.clone() }
    }

    /// As [`TransactionSender::send`].
    ///
    /// # Errors
    /// As [`TransactionSender::send`].
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        self.open.producer.send(record).await
    }

    /// As [`TransactionSender::topic`].
    ///
    /// # Errors
    /// As [`TransactionSender::topic`].
    pub async fn topic(&self, name: &str) -> Result<TopicProducer, ClientError> {
        self.open.producer.topic(name).await
    }

    /// Sends what was taken so far, and waits until it is written. [`Transaction::commit`] does so by itself.
    ///
    /// # Errors
    /// [`TransactionError::NotWritten`] where a record of the transaction was not: it can only be aborted.
    pub async fn flush(&self) -> Result<(), TransactionError> {
        self.open.flush().await
    }

    /// Lets the group be so far once the transaction is committed, and only then (KIP-447): until its end whoever gets the partitions next
    /// waits for it. `member` is [`GroupConsumer::commits`](crate::GroupConsumer::commits) of the member that has read the records; its
    /// [`CommitMode`](crate::CommitMode) should be manual, or nothing of them be called done before the commit.
    ///
    /// # Errors
    /// [`TransactionError::Group`] where the member does not own a partition any more, or was fenced, or the coordinator of the group does not
    /// answer: the transaction can only be aborted, and the commit says so again.
    pub async fn commit_offsets(&mut self, member: &Commits, offsets: &[GroupOffset]) -> Result<(), TransactionError> {
        let offer = member.offer(offsets).map_err(|error| self.open.refuse(error))?;
        self.offer(offer).await
    }

    /// As [`Transaction::commit_offsets`].
    pub(super) async fn offer(&mut self, offer: Offer) -> Result<(), TransactionError> {
        self.open.offer(offer).await
    }

    /// As [`Transaction::flush`] and [`Transaction::commit_offsets`] at once: they wait for different brokers.
    pub(super) async fn flush_and_offer(&mut self, offer: Offer) -> Result<(), TransactionError> {
        let producer = self.open.producer.clone();
        let (flushed, offered) = tokio::join!(producer.flush(), self.open.offer(offer));
        match self.open.producer.failure().or(flushed.err()) {
            Some(cause) => Err(TransactionError::NotWritten { cause }),
            None => offered,
        }
    }

    /// Why a record was not written, where one was not: the transaction can only be aborted.
    #[must_use]
    pub fn failure(&self) -> Option<SendError> {
        self.open.producer.failure()
    }

    /// Waits until all that was sent is written, and has it hold. The decision is stored as this returns; who reads what is committed sees it a
    /// moment later.
    ///
    /// # Errors
    /// [`TransactionError`]: it is undone, but for [`TransactionError::InDoubt`] and [`TransactionError::FateUnknown`], where that is unknown, and for one that was
    /// [fenced](TransactionError::Fenced) while it was.
    pub async fn commit(mut self) -> Result<(), TransactionError> {
        self.open.commit().await
    }

    /// As [`Transaction::commit`], while the next transaction is begun and its records are taken. They leave once this one holds; where it does
    /// not, or that stays unknown, the next one does not hold either, and says so. Two can be on their way like this: one that is being
    /// committed, and one that is open.
    ///
    /// ```no_run
    /// # async fn example(client: tidelog_client::Client, work: Vec<Vec<tidelog_client::Record>>) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut producer = client.transactional_producer("billing-1").build().await?;
    /// let mut before = None;
    /// for records in work {
    ///     let transaction = producer.begin().await?;
    ///     for record in records {
    ///         let _ = transaction.send(record).await?;
    ///     }
    ///     if let Some(before) = before.replace(transaction.commit_in_background()) {
    ///         before.await?;
    ///     }
    /// }
    /// if let Some(last) = before {
    ///     last.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit_in_background(self) -> Committing {
        let Self { open, .. } = self;
        let (line, told_before) = (Arc::clone(&open.line.0), open.line.1.clone());
        let (successor, number) = line.open(told_before);
        let (tell, outcome) = oneshot::channel();
        // Whatever still has a sender of it is refused from here on.
        open.producer.refuse_more();
        open.coordinator.cluster.runtime.clone().spawn(open.commit_for(successor, tell));
        Committing::new(outcome, line, number)
    }

    /// Undoes it. That the coordinator does not answer is no failure of it: the transaction is then undone as the next one begins, or as its
    /// timeout is over.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`], [`TransactionError::Client`]: it is undone all the same, then or later.
    pub async fn abort(mut self) -> Result<(), TransactionError> {
        self.open.abort().await
    }
}

impl Open {
    pub(super) const fn new(
        coordinator: Arc<Coordinator>,
        producer: Producer,
        turn: Turn,
        line: (Arc<Line>, Told),
    ) -> Self {
        let (has_offsets, refused, ended) = (false, None, false);
        Self { coordinator, producer, turn, line, has_offsets, refused, ended }
    }

    /// Nothing of it was asked of any broker, so that it has no end either: its identity is as good as new.
    fn is_untouched(&self) -> bool {
        !self.has_offsets && self.producer.is_untouched()
    }

    async fn flush(&self) -> Result<(), TransactionError> {
        let flushed = self.producer.flush().await;
        match self.producer.failure().or(flushed.err()) {
            Some(cause) => Err(TransactionError::NotWritten { cause }),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, error: GroupError) -> TransactionError {
        self.refused.get_or_insert(error).clone().into()
    }

    async fn offer(&mut self, offer: Offer) -> Result<(), TransactionError> {
        let identity = self.turn.come().await?.clone();
        self.has_offsets = true;
        let transactional_id = self.coordinator.transactional_id.to_string();
        let transaction = CommitTransaction { transactional_id, identity };
        match offer.commit(&transaction).await {
            Ok(()) => {
                if let Some(state) = self.turn.state() {
                    state.offers.push(offer);
                }
                Ok(())
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    async fn commit(&mut self) -> Result<(), TransactionError> {
        // Nothing comes after what is waited for here.
        let closed = self.producer.close().await;
        let identity = match self.turn.come().await {
            Ok(identity) => identity.clone(),
            Err(error) => {
                self.producer.abandon();
                return Err(error);
            }
        };
        let failure = self.producer.failure().or(closed.err()).map(|cause| TransactionError::NotWritten { cause });
        if let Some(failure) = failure.or(self.refused.take().map(TransactionError::Group)) {
            let failed = match self.abort().await {
                Err(fenced @ TransactionError::Fenced { .. }) => fenced,
                Ok(()) | Err(_) => failure,
            };
            if let Some(state) = self.turn.state() {
                state.last = Err(failed.clone());
            }
            return Err(failed);
        }
        if self.is_untouched() {
            self.leave_as_it_was(Ok(()));
            return Ok(());
        }
        let Some(state) = self.turn.state() else { return Ok(()) };
        // Where this is cancelled, it may have been asked for.
        state.standing = Standing::InDoubt(identity.clone());
        self.ended = true;
        tracing::debug!(id = %self.coordinator.transactional_id, epoch = %identity.epoch, "asks for the commit of a transaction");
        let ended = self.coordinator.commit(&identity, false).await;
        state.committed(&identity, ended, &self.coordinator)
    }

    /// No broker has heard of it: who comes next has its identity.
    fn leave_as_it_was(&mut self, outcome: Result<(), TransactionError>) {
        if let Turn::Has { state, identity } = &mut self.turn {
            state.standing = Standing::Ready(identity.clone());
            state.last = outcome;
            self.ended = true;
        }
    }

    /// Commits, lets the next one have its turn, and tells what became of it.
    async fn commit_for(mut self, successor: Successor, tell: oneshot::Sender<Result<(), TransactionError>>) {
        let outcome = self.commit().await;
        if let Some(state) = self.turn.leave() {
            let Successor { handover, identity } = successor;
            if let (Ok(()), Standing::Ready(next)) = (&outcome, &state.standing) {
                identity.send_replace(Some(next.clone()));
            }
            // Where nobody comes next, the state is free.
            let _ = handover.send(Handover { state, outcome: outcome.clone() });
        }
        // Perhaps nobody asks.
        let _ = tell.send(outcome);
    }

    async fn abort(&mut self) -> Result<(), TransactionError> {
        self.producer.abandon();
        if self.is_untouched() {
            self.leave_as_it_was(Err(TransactionError::Dropped));
            return Ok(());
        }
        // Where the one before does not hold, nothing of this one left.
        let Ok(identity) = self.turn.come().await.cloned() else { return Ok(()) };
        let Some(state) = self.turn.state() else { return Ok(()) };
        state.offers.clear();
        // Where this is cancelled, the background goes on with it.
        let ended = self.coordinator.abort(&identity).await;
        self.ended = true;
        state.standing.ended(&identity, false, &ended);
        state.last = Err(TransactionError::Dropped);
        match ended {
            Ended::AsAsked(_) | Ended::Undone(_) => Ok(()),
            Ended::Fenced(Fenced { error, in_doubt }) => Err(TransactionError::Fenced { error, in_doubt }),
            Ended::NotYet(error) | Ended::Never(error) | Ended::Unknowable(error) => Err(error.into()),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.producer.abandon();
        let is_untouched = self.is_untouched();
        if !self.ended && is_untouched {
            self.leave_as_it_was(Err(TransactionError::Dropped));
        }
        if self.ended {
            return;
        }
        if let turn @ (Turn::Has { .. } | Turn::Waits(_)) = std::mem::replace(&mut self.turn, Turn::Over) {
            self.coordinator.cluster.runtime.spawn(undo(Arc::clone(&self.coordinator), turn, is_untouched));
        }
    }
}

/// Aborts one that was dropped, once it is its turn.
async fn undo(coordinator: Arc<Coordinator>, mut turn: Turn, is_untouched: bool) {
    let Ok(identity) = turn.come().await.cloned() else { return };
    let Some(state) = turn.state() else { return };
    state.offers.clear();
    state.last = Err(TransactionError::Dropped);
    if is_untouched {
        state.standing = Standing::Ready(identity);
        return;
    }
    let ended = coordinator.abort(&identity).await;
    state.standing.ended(&identity, false, &ended);
    if let Ended::NotYet(error) | Ended::Never(error) = ended {
        tracing::debug!(id = %coordinator.transactional_id, %error,
            "a transaction that was dropped is undone only with the next one, or as its timeout is over");
    }
}
