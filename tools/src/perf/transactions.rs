//! A worker of `perf-producer` that sends within transactions, one after the other: the next begins while one is committed. Knows nothing of what is measured.

use tidelog_client::{Committing, TransactionalProducer};

use super::flight::Flight;
use super::payload::Payload;
use super::producer::{Clock, Sending, closed_loop};
use super::session::Stop;
use crate::connect::{failure, send_failure, transaction_failure};
use crate::exit::Failure;

/// The transactions of one worker.
pub(super) struct Transactions {
    producer: TransactionalProducer,
    topic: String,
    /// Of each.
    records: u64,
}

impl Transactions {
    pub(super) fn new(producer: TransactionalProducer, topic: &str, records: u64) -> Self {
        Self { producer, topic: topic.into(), records }
    }

    /// Sends so many records, each transaction as fast as the bound on unacknowledged bytes allows.
    pub(super) async fn run(
        &mut self,
        clock: Clock,
        records: u64,
        (payload, stop): (&mut Payload, &Stop),
        flight: &mut Flight<'_>,
    ) -> Result<(), Failure> {
        let (mut sent, mut before) = (0, None::<Committing>);
        while sent < records && !stop.is_wanted() && flight.is_sound() {
            let transaction = self.producer.begin().await.map_err(transaction_failure)?;
            let topic = transaction.topic(&self.topic).await.map_err(failure)?;
            let share = self.records.min(records - sent);
            let mut sending = Sending { topic: &topic, payload, stop };
            closed_loop(&mut sending, clock, share, flight).await.map_err(send_failure)?;
            if let Some(before) = before.replace(transaction.commit_in_background()) {
                before.await.map_err(transaction_failure)?;
            }
            sent += share;
        }
        if let Some(last) = before {
            last.await.map_err(transaction_failure)?;
        }
        Ok(())
    }
}
