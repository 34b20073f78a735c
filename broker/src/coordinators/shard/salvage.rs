//! Gives up what is damaged of a shard's log, on an operator's word and where no other replica has it: what can be read of it, and holds by the rules,
//! is written anew behind it, and then all that was before is deleted, the damage with it. A crash in between leaves a log that is damaged still,
//! and says more of it twice; the same command does the rest.

use std::ops::Range;

use tidelog_protocol::{ErrorCode, Offset, WireError};
use tracing::warn;

use super::{Machine, Shard, State, loading, to_batches};
use crate::clock;
use crate::coordinators::loading::remains;
use crate::coordinators::unread::{Unread, ranges};
use crate::partition::{Acked, Command};

/// Bytes of keys and values of one batch, about, and how many there are at most.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 10_000;

impl<M: Machine> Shard<M> {
    /// Gives up what is damaged, all of which ends at `before`. The answer is the first offset that is left.
    ///
    /// # Errors
    /// InternalTopic where nothing is damaged, or others may have it; CorruptLog, which names the damage, where it ends elsewhere; CoordinatorLoading;
    /// why it could not be stored.
    pub(crate) async fn give_up_damaged(&self, before: Option<Offset>) -> Result<Offset, WireError> {
        let damaged = self.take_up(before)?;
        let done = self.write_anew(&damaged).await;
        // Whatever came of it, it is read anew.
        *self.state.lock() = State::Lost;
        self.changes.send_modify(|changes| *changes += 1);
        done
    }

    /// Nobody else takes it up meanwhile, nor reads it.
    fn take_up(&self, before: Option<Offset>) -> Result<Vec<Range<Offset>>, WireError> {
        let mut state = self.state.lock();
        let damaged = match &*state {
            State::Unread(unread) if unread.damaged.is_empty() => return Err(unread.error.clone()),
            State::Unread(unread) => unread.damaged.clone(),
            State::Ready { .. } => return Err(self.kept("all of it can be read")),
            State::Loading | State::Lost => return Err(loading()),
        };
        if self.partition.tail().borrow().has_peers {
            return Err(self.kept(
                "other brokers have replicas of it: let another lead (tidelog cluster elect), or have it moved there",
            ));
        }
        // What is given up was named to whoever gives it up.
        let named = damaged.last().map(|range| range.end);
        if named != before {
            return Err(self.not_ready(&state));
        }
        *state = State::Loading;
        Ok(damaged)
    }

    fn kept(&self, why: &str) -> WireError {
        let (topic, partition) = (self.partition.topic(), self.partition.partition());
        let sentence = format!("nothing of {topic}, partition {partition}, is given up: {why}");
        WireError::new(ErrorCode::InternalTopic, sentence)
    }

    async fn write_anew(&self, named: &[Range<Offset>]) -> Result<Offset, WireError> {
        let (reader, end) = (self.partition.reader().clone(), self.partition.tail().borrow().log_end);
        let read = tokio::task::spawn_blocking(move || remains::<M>(&reader, end)).await;
        let read = read.map_err(|_| WireError::new(ErrorCode::Internal, "reading what is left failed unexpectedly"))?;
        let (remains, damaged) = read.map_err(|why| Unread::new(&self.partition, why).error)?;
        if damaged != named {
            return Err(self.kept(&format!("its damage is another by now: {}", ranges(&damaged))));
        }
        let (lost, left) = (remains.lost, remains.records.len());
        let records = M::salvage(remains, clock::now());
        // What is before goes as whole files, the damaged ones among them.
        self.partition.ask(|ticket| Command::Roll { ticket }).await?;
        let mut at = end;
        for records in in_batches::<M>(&records) {
            let batches = to_batches::<M>(records)?;
            let next = at.plus(batches.records());
            let Acked { .. } = self.append(batches, at).await.map_err(|_| {
                WireError::new(ErrorCode::Internal, "the partition went away; what became of the request is unknown")
            })??;
            at = next;
        }
        let log_start = self.partition.delete_records(Some(end)).await?;
        let (topic, partition, damage) = (self.partition.topic(), self.partition.partition(), ranges(&damaged));
        warn!(%topic, %partition, damage, lost, left, written = records.len(), %log_start, "an operator has given up what was damaged of what is coordinated here");
        Ok(log_start)
    }
}

/// The records in parts that fit into a batch each.
fn in_batches<M: Machine>(records: &[M::Record]) -> Vec<&[M::Record]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        let (key, value) = M::to_log(record);
        let more = key.len() + value.map_or(0, |value| value.len());
        if at > begin && (bytes + more > BATCH_BYTES || at - begin == BATCH_RECORDS) {
            parts.push(&records[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += more;
    }
    if begin < records.len() {
        parts.push(&records[begin..]);
    }
    parts
}
