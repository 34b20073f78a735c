//! Checkpoints of an index in its topic: written beside the work, read at the start. What they save is time; whatever is wrong with one,
//! the events are read instead. Knows records and offsets, nothing of what an index says.

use std::sync::Arc;

use parking_lot::RwLock;
use tidelog_protocol::PartitionId;
use tidelog_protocol::records::Record;

use super::builder::Settings;
use super::checkpoint::{Assembly, Parts, Place};
use super::envelope::CHECKPOINT_HEADER;
use super::error::StoreError;
use super::index::Index;
use super::observed::{Observed, What, header};
use super::ranges::Ranges;
use super::topics::Topics;
use super::writer::{end_of, inconsistent};
use crate::{Client, ClientError, ErrorCode, RecordRef, Start};

/// The latest checkpoint of a partition that belongs to its log.
pub(super) async fn read(
    client: &Client,
    topics: &Topics,
    partition: PartitionId,
    settings: &Settings,
) -> Result<Option<(Place, Index)>, StoreError> {
    let (span, bytes_max) = (settings.command_window, settings.index_bytes_max);
    let mut assembly = Assembly::new(move || Index::new(span, bytes_max));
    let consumer = client.consumer().partition_from(&topics.index, partition, Start::Beginning);
    let mut consumer = consumer.until_end().build().await?;
    while let Some(batch) = consumer.next_batch().await? {
        for record in batch.records() {
            let record = record?;
            if let Some(bytes) = header(&record, CHECKPOINT_HEADER) {
                let taken = assembly.take(bytes, record.value.unwrap_or_default());
                taken.map_err(|fault| inconsistent(&topics.index, partition, record.offset, &fault))?;
            }
        }
    }
    let Some((place, index)) = assembly.finish() else { return Ok(None) };
    if is_of_this_log(client, topics, partition, &place).await? {
        return Ok(Some((place, index)));
    }
    tracing::warn!(topic = %topics.events, %partition, "a checkpoint tells of what the topics do not have: all events are read anew");
    Ok(None)
}

/// Events may have been lost since, by order of an operator, and others been written in their places.
async fn is_of_this_log(
    client: &Client,
    topics: &Topics,
    partition: PartitionId,
    place: &Place,
) -> Result<bool, StoreError> {
    let end = end_of(client, &topics.events, partition).await?;
    let snapshots_end = end_of(client, &topics.snapshots, partition).await?;
    let is_within = place.events <= end && place.snapshots <= snapshots_end;
    let Some(witness) = place.witness.filter(|_| is_within) else { return Ok(false) };
    if witness.offset >= place.events {
        return Ok(false);
    }
    let mut is_there = false;
    let visit = |record: &Record<'_>| {
        if let Ok(Some(Observed { what: What::Event(event), .. })) = Observed::of(record) {
            is_there = event.append == witness.append;
        }
        Ok(())
    };
    let events = Ranges::new(client.clone(), topics.events.clone(), partition);
    events.read((witness.offset, witness.offset), visit).await?;
    Ok(is_there)
}

/// Writes a checkpoint, and forgets those before it. Gives up where somebody else writes one.
pub(super) async fn write(
    client: Client,
    topics: Topics,
    partition: PartitionId,
    index: Arc<RwLock<Index>>,
    place: Place,
) -> Result<(), ClientError> {
    let first = end_of(&client, &topics.index, partition).await?;
    let mut parts = Parts::new(fastrand::u128(..).to_be_bytes(), place);
    let mut end = first;
    loop {
        let next = parts.next(&index.read());
        let Some((header, value)) = next else { break };
        let headers = [(CHECKPOINT_HEADER, Some(&header[..]))];
        let record = RecordRef { headers: &headers, ..RecordRef::new(None, &value) };
        match client.append_at(&topics.index, partition, end, &[record]).await {
            Ok(_) => end = end.plus(1),
            Err(error) if error.code() == Some(ErrorCode::OffsetMismatch) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    client.admin().delete_records(&topics.index, partition, Some(first)).await.map(drop)
}

/// Is there to be a checkpoint, so many records after the last one, of so many aggregates?
pub(super) const fn is_due(records: u64, aggregates: usize, every: u64) -> bool {
    // To write one costs about as much as to read so many records; so at most half of the work is for checkpoints.
    every > 0 && records >= every && records >= aggregates as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_come_with_the_work_and_never_outweigh_it() {
        assert!(!is_due(99, 10, 100));
        assert!(is_due(100, 10, 100));
        assert!(!is_due(100, 101, 100), "a large index is written less often");
        assert!(!is_due(u64::MAX, 0, 0), "never");
    }
}
