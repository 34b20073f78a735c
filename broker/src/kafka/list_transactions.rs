//! ListTransactions: the transactional ids that this broker coordinates.

use std::sync::Arc;

use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState as Shown,
};
use tidelog_protocol::messages::{ListTransactionsRequest as Native, TransactionListing};

use super::groups::coordinator_code;
use super::transactions::state_name;
use super::{Asker, Handle};
use crate::node::Node;

/// Those that Kafka has.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

impl Handle for ListTransactionsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> ListTransactionsResponse {
        let command = TransactionCommand::List(Native { open_only: false });
        let asked = node.coordinators.transactions.ask_each(node, &command, ProtocolVersion::CURRENT).await;
        let (replies, unread) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                return ListTransactionsResponse { error_code: coordinator_code(&error).code(), ..Default::default() };
            }
        };
        let listed = replies.into_iter().filter_map(|reply| match reply {
            TransactionReply::Listed(listed) => Some(listed.transactions),
            _ => None,
        });
        let wanted = |listing: &TransactionListing| {
            let (states, producers) = (&self.state_filters, &self.producer_id_filters);
            let is_long = u64::try_from(self.duration_filter).map_or(true, |least| listing.open_ms > least);
            is_long
                && (states.is_empty() || states.iter().any(|wanted| wanted == state_name(listing.state)))
                && (producers.is_empty() || producers.contains(&listing.identity.producer_id.0))
        };
        let shown = |listing: TransactionListing| Shown {
            transactional_id: listing.transactional_id,
            producer_id: listing.identity.producer_id.0,
            transaction_state: state_name(listing.state).into(),
        };
        let mut states: Vec<_> = listed.flatten().filter(wanted).map(shown).collect();
        states.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        let is_unknown = |state: &String| !STATES.contains(&state.as_str());
        // Some are missing.
        let error = if unread.is_empty() { KafkaError::None } else { KafkaError::CoordinatorNotAvailable };
        ListTransactionsResponse {
            error_code: error.code(),
            unknown_state_filters: self.state_filters.into_iter().filter(is_unknown).collect(),
            transaction_states: states,
            ..Default::default()
        }
    }
}
