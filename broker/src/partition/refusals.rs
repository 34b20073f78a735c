//! Failures of the lower rooms as the wire says them. Knows nothing of who asked.

use tidelog_coordination::{TopicImage, counted};
use tidelog_log::ReadError;
use tidelog_log::retention::DeleteError;
use tidelog_protocol::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionId, TopicId, WireError};
use tidelog_replication::AckFailure;

/// Why a ticket was not honoured; `detail` is what the storage said.
pub(super) fn of_ack(cause: AckFailure, detail: &str) -> WireError {
    let code = cause.code();
    match cause {
        AckFailure::StorageFull => not_now(&format!("nothing was written: {detail}; produce then goes on by itself")),
        AckFailure::StorageFailed => WireError::new(
            code,
            format!(
                "a write or flush failed, whether the records survive is unknown: {detail}; restart the broker once the disk is well"
            ),
        ),
        AckFailure::LeadershipEnded => WireError::new(
            code,
            "another leadership began; whether the records survive is unknown: refresh the metadata",
        ),
        AckFailure::DeadlinePassed => WireError::new(
            code,
            "the deadline passed before the records were as safe as was asked for; they are written, and may become so yet",
        ),
    }
}

/// The topic has no such partition.
pub(crate) fn unknown_partition(topic: &TopicImage, partition: PartitionId) -> WireError {
    let (name, partitions) = (&topic.name, counted(topic.partitions.len(), "partition"));
    let sentence = format!("topic '{name}' has {partitions}, none of index {partition}");
    WireError::new(ErrorCode::UnknownPartition, sentence)
}

/// The disk is full.
pub(super) fn storage_full(detail: &str) -> WireError {
    not_now(&format!("the disk is full, nothing was written ({detail}); free space and produce goes on by itself"))
}

/// The storage took nothing, and will once its operator has helped.
fn not_now(sentence: &str) -> WireError {
    WireError { retry_after_ms: 500, ..WireError::new(ErrorCode::StorageFull, sentence) }
}

/// A new leader that does not know yet how far its log is settled.
pub(crate) fn end_not_known(high_watermark: Offset, led_from: Offset) -> WireError {
    let sentence = format!(
        "this leader was just elected and knows only that all before offset {high_watermark} is settled, not yet what follows before {led_from}: ask again in a moment; it waits for the replicas in sync"
    );
    WireError { retry_after_ms: 50, ..WireError::new(ErrorCode::OffsetNotAvailable, sentence) }
}

/// The partition is out of service.
pub(super) fn poisoned(detail: &str) -> WireError {
    let sentence = format!(
        "a write or flush of this partition failed earlier ({detail}); it is out of service until the broker restarts, and nothing was done"
    );
    WireError::new(ErrorCode::OutOfService, sentence)
}

/// This replica is out of service, and another one that is complete takes over.
pub(super) fn broken_here(detail: &str) -> WireError {
    let sentence =
        format!("a write or flush of this replica failed ({detail}), and another one takes over: refresh the metadata");
    WireError { retry_after_ms: 100, ..WireError::new(ErrorCode::NotLeader, sentence) }
}

/// What becomes of records that were written here and not yet everywhere, as another replica takes over.
pub(super) fn taken_over(detail: &str) -> WireError {
    let sentence = format!(
        "a write or flush of this replica failed ({detail}), and another one takes over; whether the records survive is unknown: refresh the metadata"
    );
    WireError { retry_after_ms: 100, ..WireError::new(ErrorCode::LeadershipEnded, sentence) }
}

/// No such topic.
pub(crate) fn unknown_topic(topic_id: TopicId) -> WireError {
    WireError::new(ErrorCode::UnknownTopic, format!("there is no topic of id {topic_id}; it may have been deleted"))
}

/// The partition is being closed, or the whole broker.
pub(crate) fn closed() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "the broker shuts down; connect elsewhere or try again")
}

/// The partition was deleted.
pub(super) fn deleted() -> WireError {
    WireError::new(ErrorCode::UnknownTopic, "the topic was deleted")
}

/// The offset is not there.
pub(super) fn out_of_range(offset: Offset, log_start: Offset, end: Offset) -> WireError {
    let sentence = format!("offset {offset} is not there; offsets {log_start} to {end} are");
    WireError { range: Some((log_start, end)), ..WireError::new(ErrorCode::OffsetOutOfRange, sentence) }
}

/// The log does not hold what was read from another leader's; `range` is its start, and where they part.
pub(crate) fn truncated(offset: Offset, range: (Offset, Offset)) -> WireError {
    let sentence = format!(
        "records before offset {offset} that were read earlier are not in this log: it parts from what was read at offset {}, by an unclean election",
        range.1
    );
    WireError { range: Some(range), ..WireError::new(ErrorCode::LogTruncated, sentence) }
}

/// A read that gave nothing.
pub(crate) fn of_read(error: &ReadError) -> WireError {
    match error {
        ReadError::OutOfRange { from, log_start, end } => out_of_range(*from, *log_start, *end),
        ReadError::Corrupt { from, to } => {
            WireError { range: Some((*from, *to)), ..WireError::new(ErrorCode::CorruptLog, error.to_string()) }
        }
        ReadError::Poisoned(cause) => poisoned(&cause.to_string()),
        ReadError::Storage(cause) if cause.is_transient() => {
            WireError { retry_after_ms: 500, ..WireError::new(ErrorCode::Overloaded, error.to_string()) }
        }
        ReadError::Storage(_) => WireError::new(ErrorCode::StorageFailed, error.to_string()),
    }
}

/// What is damaged here, and is being fetched from a replica that may have it.
pub(super) fn being_repaired((from, to): (Offset, Offset)) -> WireError {
    let sentence = format!(
        "offsets {from} to {to} (exclusive) are damaged on this replica's disk and are being fetched from another replica"
    );
    WireError { retry_after_ms: 500, range: Some((from, to)), ..WireError::new(ErrorCode::Overloaded, sentence) }
}

/// What is damaged here, and no replica in sync has whole; those that are `absent` may.
pub(super) fn beyond_repair((from, to): (Offset, Offset), absent: &[BrokerId]) -> WireError {
    let remedy = match absent {
        [] => String::new(),
        [one] => format!(": broker {one} may have them, and is not in sync; start it, or see why it lags"),
        [others @ .., last] => {
            let others: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!(
                ": brokers {} and {last} may have them, and are not in sync; start them, or see why they lag",
                others.join(", ")
            )
        }
    };
    let sentence = format!(
        "offsets {from} to {to} (exclusive) are damaged on this replica's disk, and no other replica in sync has them whole{remedy}; reading can go on at {to}"
    );
    WireError { range: Some((from, to)), ..WireError::new(ErrorCode::CorruptLog, sentence) }
}

/// A deletion that was not done.
pub(super) fn of_deletion(error: &DeleteError) -> WireError {
    match error {
        DeleteError::OutOfRange { before, end } => out_of_range(*before, Offset::ZERO, *end),
        DeleteError::Storage(error) if error.is_transient() => not_now(&format!(
            "{error}; the records are served no more, but may be again after a restart: free space, and delete them again"
        )),
        // The start has moved in memory, and perhaps on the disk.
        DeleteError::Poisoned(_) | DeleteError::Storage(_) => {
            WireError::new(ErrorCode::StorageFailed, error.to_string())
        }
    }
}

/// Another broker leads.
pub(crate) fn not_leader() -> WireError {
    WireError::new(ErrorCode::NotLeader, "this broker does not lead the partition (any more); refresh the metadata")
}

/// Nobody knows here whether another leads by now.
pub(crate) fn is_adrift() -> WireError {
    let sentence = "this broker has lost touch with the controller, and another may lead by now and have more: refresh the metadata; where no other can be reached, ask for what this one knows to be settled";
    WireError::new(ErrorCode::NotLeader, sentence)
}

/// There is a leader to be asked for what is settled.
pub(crate) fn is_led() -> WireError {
    let sentence = "this replica leads, or is in touch with a controller that knows who does: ask the leader; refresh the metadata";
    WireError::new(ErrorCode::NotLeader, sentence)
}

/// Nobody leads.
pub(super) fn offline() -> WireError {
    WireError::new(
        ErrorCode::NotLeader,
        "nobody leads the partition now, because no replica that is complete is there; it comes back with one",
    )
}

/// A follower's stream of an earlier leadership.
pub(super) fn leadership_over(theirs: LeaderEpoch, ours: LeaderEpoch) -> WireError {
    let sentence = format!("leader epoch {theirs} is over, the partition is at {ours}: follow anew");
    WireError::new(ErrorCode::FencedEpoch, sentence)
}

/// A bug of ours.
pub(super) fn unexpected(what: &str) -> WireError {
    WireError::new(ErrorCode::Internal, format!("{what} failed unexpectedly"))
}

/// The log could not be closed or written.
pub(super) fn storage_failed(error: &tidelog_log::AppendError) -> WireError {
    WireError::new(ErrorCode::StorageFailed, error.to_string())
}

#[cfg(test)]
mod tests {
    use tidelog_log::StorageError;

    use super::*;

    #[test]
    fn a_deletion_that_found_no_room_may_be_tried_again_and_one_that_the_disk_failed_may_not() {
        let refused = |kind: std::io::ErrorKind| {
            let error = StorageError { operation: "write", path: "checkpoint".into(), source: kind.into() };
            of_deletion(&DeleteError::Storage(error))
        };
        let full = refused(std::io::ErrorKind::StorageFull);
        assert!(full.code == ErrorCode::StorageFull && full.retry_after_ms > 0 && full.message.contains("free space"));
        assert_eq!(refused(std::io::ErrorKind::Other).code, ErrorCode::StorageFailed);
    }
}
