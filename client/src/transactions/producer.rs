//! A producer of transactions as the program has it: begins them one after the other. Knows nothing of records.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::ProducerIdentity;
use tokio::sync::{Mutex, watch};

use super::TransactionError;
use super::coordinator::Coordinator;
use super::line::{Line, Next, Turn, follows};
use super::standing::{Ended, Fenced, Initiated, Standing};
use super::transaction::{Open, Transaction};
use crate::group::Offer;
use crate::producer::{Producer, Scope, Supplies};

/// What a broker takes for the timeout of a transaction where nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Has transactions, one after the other, under an id that outlives it.
///
/// Of two producers under one id the later one fences the earlier one: what that had open is undone, and nothing of it will hold. So give each
/// instance of a service an id of its own, the same after a restart: what it left open is then undone as it comes back, and not only when the
/// [timeout](super::TransactionalProducerBuilder::transaction_timeout) has passed.
///
/// ```no_run
/// use tidelog_client::{Client, Record};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut producer = client.transactional_producer("billing-1").build().await?;
/// let transaction = producer.begin().await?;
/// // Deliveries need not be awaited: a record that is not written fails the commit.
/// let _ = transaction.send(Record::to("invoices").key("customer-7").value("one crate")).await?;
/// let _ = transaction.send(Record::to("stock").key("crates").value("-1")).await?;
/// // Both, or none. Without this, both are undone.
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct TransactionalProducer {
    coordinator: Arc<Coordinator>,
    supplies: Supplies,
    /// Held by the transaction that is open, or being ended in the background.
    state: Arc<Mutex<State>>,
    /// Who comes after the one that is being committed in the background.
    line: Arc<Line>,
}

/// What outlasts a transaction.
#[derive(Debug)]
pub(super) struct State {
    pub(super) standing: Standing,
    /// Offsets of the transaction that is in doubt.
    pub(super) offers: Vec<Offer>,
    /// What became of the last transaction, unless it is in doubt.
    pub(super) last: Result<(), TransactionError>,
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionalProducer({})", self.transactional_id())
    }
}

impl TransactionalProducer {
    /// Asks who it is, so that whoever was it before is fenced.
    pub(super) async fn begin_as(coordinator: Coordinator, supplies: Supplies) -> Result<Self, TransactionError> {
        let mut state = State { standing: Standing::Unknown(None), offers: Vec::new(), last: Ok(()) };
        state.identity(&coordinator).await?;
        let (coordinator, state) = (Arc::new(coordinator), Arc::new(Mutex::new(state)));
        Ok(Self { coordinator, supplies, state, line: Arc::default() })
    }

    /// The id.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        &self.coordinator.transactional_id
    }

    /// For so long one may be open, as far as it is known here.
    pub(super) fn transaction_timeout(&self) -> Duration {
        match self.coordinator.timeout_ms {
            0 => DEFAULT_TIMEOUT,
            ms => Duration::from_millis(ms.into()),
        }
    }

    /// Begins a transaction; waits for the end of the one before, where that was dropped. Costs nothing else but after a failure: then the
    /// coordinator is asked first, and whatever is still open is undone.
    ///
    /// Where the one before is being [committed in the background](Transaction::commit_in_background), it does not wait for that, but for the
    /// one before that.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`]; [`TransactionError::Client`] where the coordinator does not answer; [`TransactionError::Follows`] where the
    /// one before was committed in the background and is not known to hold, unless that was [told](super::Committing).
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        self.line.until_short().await;
        if let Some(mut next) = self.line.take() {
            match next.is_over() {
                None => return Ok(Transaction::new(self.follow(next))),
                Some(Err(cause)) => return Err(follows(&cause)),
                Some(Ok(())) => {}
            }
        }
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let identity = state.identity(&self.coordinator).await?;
        let scope = Scope::new(Arc::clone(&self.coordinator.transactional_id), &identity);
        Ok(Transaction::new(self.open(scope, Turn::begun(state, identity), None)))
    }

    /// One behind the one that is being committed.
    fn follow(&self, Next { before, told, .. }: Next) -> Open {
        let scope = Scope::following(Arc::clone(&self.coordinator.transactional_id), told.clone());
        self.open(scope, Turn::Waits(before), Some(told))
    }

    fn open(&self, scope: Scope, turn: Turn, told: Option<watch::Receiver<Option<ProducerIdentity>>>) -> Open {
        let producer = Producer::of_transaction(Arc::clone(&self.coordinator.cluster), self.supplies.clone(), scope);
        Open::new(Arc::clone(&self.coordinator), producer, turn, (Arc::clone(&self.line), told))
    }

    /// Whether the last transaction holds: it does where this returns without an error, or where there was none. A commit that failed with
    /// [`TransactionError::InDoubt`], or whose future was dropped, is asked for again until that is known. To be called before the next
    /// [`TransactionalProducer::begin`].
    ///
    /// # Errors
    /// [`TransactionError::InDoubt`] where it is still unknown. [`TransactionError::Fenced`], [`TransactionError::FateUnknown`]: nobody can tell any
    /// more. Else why it does not hold: [`TransactionError::Undone`], [`TransactionError::Dropped`], or what its commit failed with.
    pub async fn settle(&mut self) -> Result<(), TransactionError> {
        if let Some(next) = self.line.take() {
            // Whatever became of it: the state is free then.
            drop(next.before.await);
        }
        let mut state = self.state.lock().await;
        let Standing::InDoubt(identity) = state.standing.clone() else { return state.last.clone() };
        let ended = self.coordinator.commit(&identity, true).await;
        state.committed(&identity, ended, &self.coordinator)
    }
}

impl State {
    /// As whom the next transaction is had.
    async fn identity(&mut self, coordinator: &Coordinator) -> Result<ProducerIdentity, TransactionError> {
        if let Some(last) = self.standing.question() {
            let outcome = coordinator.init(last).await;
            self.standing.initiated(&outcome);
            if let Initiated::NotYet(error) | Initiated::Never(error) = outcome {
                return Err(error.into());
            }
        }
        match &self.standing {
            Standing::Ready(identity) => Ok(identity.clone()),
            Standing::Fenced(error) => Err(TransactionError::Fenced { error: error.clone(), in_doubt: false }),
            // Never: it was asked for just now.
            Standing::Unknown(_) | Standing::InDoubt(_) => Err(crate::ClientError::Closed.into()),
        }
    }

    /// What came of a commit.
    pub(super) fn committed(
        &mut self,
        identity: &ProducerIdentity,
        ended: Ended,
        coordinator: &Coordinator,
    ) -> Result<(), TransactionError> {
        self.standing.ended(identity, true, &ended);
        if matches!(ended, Ended::NotYet(_)) {
            // The offsets hold if it does.
        } else {
            let offers = std::mem::take(&mut self.offers);
            if let Ended::AsAsked(_) = ended {
                offers.iter().for_each(Offer::holds);
            }
        }
        self.last = match ended {
            Ended::AsAsked(_) => Ok(()),
            Ended::Undone(error) => Err(TransactionError::Undone(error)),
            Ended::Fenced(Fenced { error, in_doubt }) => Err(TransactionError::Fenced { error, in_doubt }),
            Ended::NotYet(error) => {
                Err(TransactionError::InDoubt { after: coordinator.end_timeout, cause: Box::new(error) })
            }
            Ended::Unknowable(error) => Err(TransactionError::FateUnknown { cause: Box::new(error) }),
            Ended::Never(error) => Err(error.into()),
        };
        self.last.clone()
    }
}
