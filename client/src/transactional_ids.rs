//! What an operator asks of transactional producers: which there are, what one has open, and that it be undone. Knows nothing of producers'
//! own work.

use std::collections::BTreeMap;

use tidelog_protocol::BrokerId;
use tidelog_protocol::messages::*;

use crate::cluster::Coordinate;
use crate::{Admin, ClientError};

/// Which transactional ids are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransactionFilter {
    /// All that are known.
    #[default]
    All,
    /// Those with a transaction that is open, or being ended.
    Open,
}

impl Admin {
    /// Transactional ids, by name.
    ///
    /// # Errors
    /// As any call; a broker that does not answer fails it, since its ids would be missing.
    pub async fn list_transactions(&self, filter: TransactionFilter) -> Result<Vec<TransactionListing>, ClientError> {
        let brokers: Vec<BrokerId> =
            self.cluster.metadata(Some(Vec::new())).await?.brokers.iter().map(|broker| broker.broker_id).collect();
        let request = ListTransactionsRequest { open_only: filter == TransactionFilter::Open };
        let mut transactions = BTreeMap::new();
        for broker in brokers {
            let listed = self.cluster.call_broker(broker, &request).await?.transactions;
            transactions.extend(listed.into_iter().map(|listing| (listing.transactional_id.clone(), listing)));
        }
        Ok(transactions.into_values().collect())
    }

    /// Who has a transactional id, what its transaction touches, and how the last one ended.
    ///
    /// # Errors
    /// `UnknownTransaction` from the coordinator; else as any call.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<DescribeTransactionResponse, ClientError> {
        let request = DescribeTransactionRequest { transactional_id: transactional_id.into() };
        self.cluster.ask_coordinator(Coordinate::transaction(transactional_id), &request).await
    }

    /// Undoes what is open under a transactional id, for a producer that does not: its commit will say so, and it may begin another.
    ///
    /// # Errors
    /// `UnknownTransaction`, or `InvalidTransactionState` where nothing is open, from the coordinator; else as any call.
    pub async fn abort_transaction(&self, transactional_id: &str) -> Result<(), ClientError> {
        let request = AbortTransactionRequest { transactional_id: transactional_id.into() };
        self.cluster.ask_coordinator(Coordinate::transaction(transactional_id), &request).await.map(drop)
    }
}
