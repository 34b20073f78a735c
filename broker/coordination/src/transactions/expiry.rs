//! What the passing of time and the cluster's image bring about: transactions that were open for too long are aborted, those whose missing
//! markers belong to deleted topics are done, and ids that nobody uses are forgotten. Knows nothing of when it is asked.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::TransactionEnder;
use tidelog_protocol::{Monotonic, Timestamp};

use super::Transactions;
use super::entry::{Age, Entry};
use super::records::{TransactionKey, TransactionRecord};
use super::touched::Touched;
use crate::image::ClusterImage;

/// Bytes of the records of one look, or one record: they are stored together. What is due beyond waits for the next look.
const BYTES_MAX: usize = 1 << 20;

/// One look.
pub(super) struct Look<'a> {
    pub image: &'a ClusterImage,
    pub now: Monotonic,
    pub wall: Timestamp,
    pub records: Vec<TransactionRecord>,
    bytes: usize,
}

impl<'a> Look<'a> {
    pub const fn new(image: &'a ClusterImage, now: Monotonic, wall: Timestamp) -> Self {
        Self { image, now, wall, records: Vec::new(), bytes: 0 }
    }

    pub fn at(mut self, transactions: &mut Transactions) -> Vec<TransactionRecord> {
        self.abort_overdue(transactions);
        self.drop_deleted(transactions);
        self.forget_unused(transactions);
        self.records
    }

    fn abort_overdue(&mut self, transactions: &mut Transactions) {
        for id in &transactions.open {
            let Some(entry) = transactions.entries.get_mut(id) else { continue };
            // It began since the last look.
            let age = *entry.age.get_or_insert(Age::new(self.now));
            let transaction = &entry.transaction;
            if age.ms(self.now) >= u64::from(transaction.timeout_ms) && self.has_room() {
                let aborted = transaction.ending(false, TransactionEnder::Timeout, None, self.wall);
                self.push(aborted.to_record(id));
            }
        }
    }

    fn drop_deleted(&mut self, transactions: &mut Transactions) {
        for id in &transactions.ending {
            let Some(entry) = transactions.entries.get_mut(id) else { continue };
            entry.age.get_or_insert(Age::new(self.now));
            let gone = self.gone(entry);
            entry.confirmed.take_in(&gone);
            if entry.has_ended() && self.has_room() {
                self.push(entry.transaction.done(self.wall).to_record(id));
            }
        }
    }

    fn gone(&self, entry: &Entry) -> Touched {
        let unconfirmed = entry.unconfirmed().partitions;
        let gone = unconfirmed.iter().filter(|(topic, _)| self.image.topic(*topic).is_none());
        Touched { partitions: gone.copied().collect(), ..Touched::default() }
    }

    fn forget_unused(&mut self, transactions: &Transactions) {
        for (changed_at, id) in &transactions.unused {
            let unused_ms = u64::try_from(self.wall.0.saturating_sub(changed_at.0)).unwrap_or(0);
            if unused_ms < transactions.limits.idle_ms || !self.has_room() {
                return;
            }
            self.push(TransactionRecord { key: TransactionKey { transactional_id: String::clone(id) }, value: None });
        }
    }

    const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    fn push(&mut self, record: TransactionRecord) {
        self.bytes += record.key().len() + record.value().map_or(0, |value| value.len());
        self.records.push(record);
    }
}
