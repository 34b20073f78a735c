//! The machine of transactions, as its driver wants it.

use std::sync::Arc;

use tidelog_coordination::Refusal;
use tidelog_coordination::salvage::Remains;
use tidelog_coordination::transactions::{
    self, TransactionCommand, TransactionDecision, TransactionLimits, TransactionRecord, TransactionReply, Transactions,
};
use tidelog_protocol::{Monotonic, Timestamp};

use super::machine::{KeyValue, Machine, Moment};
use super::markers;
use super::shard::Shard;
use crate::node::Node;

impl Machine for Transactions {
    type Command = TransactionCommand;
    type Reply = TransactionReply;
    type Record = TransactionRecord;

    fn new() -> Self {
        Self::new(TransactionLimits::default())
    }

    fn decide(
        &mut self,
        command: &TransactionCommand,
        at: Moment<'_>,
    ) -> Result<(Vec<TransactionRecord>, TransactionReply), Refusal> {
        let TransactionDecision { records, reply } = self.handle(command, at.image, at.now, at.wall)?;
        Ok((records, reply))
    }

    fn expire(&mut self, at: Moment<'_>) -> Vec<TransactionRecord> {
        self.expire(at.image, at.now, at.wall)
    }

    fn replay(&mut self, record: &TransactionRecord) {
        self.replay(record);
    }

    fn loaded(&mut self, now: Monotonic, wall: Timestamp) {
        self.loaded(now, wall);
    }

    fn accompany(shard: &Arc<Shard<Self>>, node: &Arc<Node>) {
        // Without it transactions would stay open for ever.
        node.vital.spawn("markers of transactions", markers::run(shard.clone(), node.clone()));
    }

    fn salvage(remains: Remains<Self::Record>, wall: Timestamp) -> Vec<Self::Record> {
        transactions::salvage(remains, wall)
    }

    fn to_log(record: &TransactionRecord) -> KeyValue {
        (record.key(), record.value())
    }

    fn from_log(key: &[u8], value: Option<&[u8]>) -> Result<TransactionRecord, String> {
        TransactionRecord::from_key_value(key, value).map_err(|error| error.to_string())
    }
}
