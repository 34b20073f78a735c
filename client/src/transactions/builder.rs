//! Settings of a producer of transactions, checked once. Knows nothing of how they are kept.

use std::sync::Arc;
use std::time::Duration;

use super::TransactionError;
use super::coordinator::Coordinator;
use super::producer::TransactionalProducer;
use crate::ClientError;
use crate::cluster::Cluster;
use crate::producer::{ProducerBuilder, Supplies};

/// Describes a producer of transactions. Made by [`Client::transactional_producer`](crate::Client::transactional_producer).
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `build`"]
pub struct TransactionalProducerBuilder {
    transactional_id: String,
    transaction_timeout: Option<Duration>,
    end_timeout: Duration,
    sending: ProducerBuilder,
}

impl TransactionalProducerBuilder {
    pub(crate) const fn new(cluster: Arc<Cluster>, transactional_id: String) -> Self {
        let sending = ProducerBuilder::new(cluster);
        Self { transactional_id, transaction_timeout: None, end_timeout: Duration::from_secs(60), sending }
    }

    /// How long a transaction may stay open from its first record on: then its coordinator aborts it, whatever became of the producer, so that
    /// nobody who reads what is committed waits for longer. Default: the broker's, 1 min.
    pub const fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.transaction_timeout = Some(timeout);
        self
    }

    /// How long the coordinator is asked before a commit, an abort or a beginning fails. Default: 1 min.
    pub const fn end_timeout(mut self, timeout: Duration) -> Self {
        self.end_timeout = timeout;
        self
    }

    /// How records are sent: `|producer| producer.linger(…).compression(…)`. As it is idempotent, [`ProducerBuilder::acks`] and
    /// [`ProducerBuilder::max_in_flight`] have their limits.
    pub fn sending(mut self, describe: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Self {
        self.sending = describe(self.sending);
        self
    }

    /// The producer, known to its coordinator: an earlier one under the same id is fenced, and what that had open is undone.
    ///
    /// # Errors
    /// [`TransactionError::Client`]: [`ClientError::Argument`] for a setting out of its range; `InvalidTransactionalId`, `TransactionTimeout` or
    /// `TransactionsFull` from the coordinator; those of asking it.
    pub async fn build(self) -> Result<TransactionalProducer, TransactionError> {
        if self.transactional_id.is_empty() {
            return Err(ClientError::Argument("a transactional id needs a character at least".into()).into());
        }
        let timeout_ms = match self.transaction_timeout.map(|timeout| (timeout, u32::try_from(timeout.as_millis()))) {
            None => 0,
            Some((_, Ok(ms))) if ms > 0 => ms,
            Some((timeout, _)) => {
                let sentence = format!("a transaction timeout of {timeout:?} is not within 1 ms and 49 days");
                return Err(ClientError::Argument(sentence).into());
            }
        };
        let (cluster, settings) = self.sending.of_transactions()?;
        let transactional_id: Arc<str> = self.transactional_id.into();
        let coordinator = Coordinator { cluster, transactional_id, timeout_ms, end_timeout: self.end_timeout };
        TransactionalProducer::begin_as(coordinator, Supplies::new(settings)).await
    }
}
