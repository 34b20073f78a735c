//! What an operator asks of transactional producers: which there are, what one has open, and that it be undone. Knows nothing of producers'
//! own work.

use std::collections::BTreeMap;

use tidelog_protocol::messages::*;

use crate::cluster::Coordinate;
use crate::{Admin, ClientError, Listed};

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
    /// Transactional ids, of all coordinators that answer soon. See [`Listed::missing`] for the others.
    ///
    /// # Errors
    /// Where not even who coordinates can be found out.
    pub async fn list_transactions(
        &self,
        filter: TransactionFilter,
    ) -> Result<Listed<TransactionListing>, ClientError> {
        let request = ListTransactionsRequest { open_only: filter == TransactionFilter::Open };
        let gathered = self.cluster.ask_shards("__transactions", request, |answer| &answer.unread).await?;
        let all = gathered.answers.into_iter().flat_map(|answer| answer.transactions);
        let found: BTreeMap<_, _> = all.map(|listing| (listing.transactional_id.clone(), listing)).collect();
        Ok(Listed { found: found.into_values().collect(), missing: gathered.missing })
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
