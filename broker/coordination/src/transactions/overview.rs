//! Transactional ids as people see them. Knows nothing of how they came about.

use tidelog_protocol::Monotonic;
use tidelog_protocol::messages::{DescribeTransactionResponse, EndedTransaction, TransactionListing, TransactionState};

use super::entry::Entry;

/// Is something open, or being ended?
pub(super) fn is_open(entry: &Entry) -> bool {
    entry.transaction.state != TransactionState::Empty && !entry.has_ended()
}

/// In short.
pub(super) fn listing(id: &str, entry: &Entry, now: Monotonic) -> TransactionListing {
    let present = entry.present();
    TransactionListing {
        transactional_id: id.into(),
        state: present.state,
        identity: present.identity.to_wire(),
        open_ms: if is_open(entry) { entry.open_ms(now) } else { 0 },
    }
}

/// At length.
pub(super) fn describe(entry: &Entry) -> DescribeTransactionResponse {
    let transaction = entry.present();
    let touched = entry.unconfirmed();
    DescribeTransactionResponse {
        state: transaction.state,
        identity: transaction.identity.to_wire(),
        timeout_ms: transaction.timeout_ms,
        began_at: transaction.began_at,
        changed_at: transaction.changed_at,
        partitions: touched.partitions.to_wire(),
        groups: touched.groups_to_wire(),
        ended: transaction.ended.map(|ended| EndedTransaction {
            identity: ended.identity.to_wire(),
            committed: ended.committed,
            by: ended.by,
        }),
    }
}
