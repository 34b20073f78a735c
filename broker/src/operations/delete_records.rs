//! DeleteRecords, whoever asks: the owner of the partition moves its log start, then the disk lets go of what is below. Of a partition that
//! coordinators keep their state in, only what is damaged can be given up.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_protocol::{ErrorCode, Offset, PartitionId, TopicId, WireError};

use crate::node::Node;
use crate::partition::Handle;

/// What becomes of a partition of the broker's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OfOurOwn {
    /// It is left alone.
    Refused,
    /// What stands in its damage is given up.
    DamageGivenUp,
}

/// Deletes the records below an offset, or below the high watermark; says which is the first that can be read then.
///
/// # Errors
/// OffsetOutOfRange above the high watermark; NotLeader; InternalTopic; StorageFailed.
pub(crate) async fn delete_records(
    node: &Arc<Node>,
    partition: Handle,
    before: Option<Offset>,
    of_our_own: OfOurOwn,
) -> Result<Offset, WireError> {
    let is_internal = partition.topic().as_str().starts_with(INTERNAL_PREFIX);
    if is_internal && of_our_own == OfOurOwn::Refused {
        return Err(by_hand(&partition));
    }
    // In a task of its own: whoever stops waiting in the middle must not leave a start that holds only until the next one.
    let deciding = node.clone();
    let deletion = node.tasks.spawn(async move {
        match is_internal {
            true => give_up_damaged(&deciding, &partition, before).await,
            false => partition.delete_records(before).await,
        }
    });
    deletion.await.unwrap_or_else(|_| {
        let sentence = "deleting records failed unexpectedly; whether they are gone is unknown";
        Err(WireError::new(ErrorCode::Internal, sentence))
    })
}

async fn give_up_damaged(node: &Node, partition: &Handle, before: Option<Offset>) -> Result<Offset, WireError> {
    let given_up = node.coordinators.give_up_damaged(partition, before).await;
    given_up.unwrap_or_else(|| Err(by_hand(partition)))
}

/// Gives up a partition that coordinators keep their state in, of which nothing is left: an empty one takes its place. `before` must say that
/// nothing of it is kept.
///
/// # Errors
/// `refusal`, why it is not served, where it is another, or `before` another offset than 0; why it could not be done.
pub(crate) async fn give_up_whole(
    node: &Arc<Node>,
    (topic_id, partition): (TopicId, PartitionId),
    before: Option<Offset>,
    refusal: WireError,
) -> Result<Offset, WireError> {
    if before != Some(Offset::ZERO) || !node.registry.is_gone(topic_id, partition) {
        return Err(refusal);
    }
    let beginning = node.clone();
    let begun = tokio::task::spawn_blocking(move || beginning.registry.begin_anew(topic_id, partition)).await;
    begun.unwrap_or_else(|_| {
        let sentence = "giving it up failed unexpectedly; whether that is done is unknown";
        Err(WireError::new(ErrorCode::Internal, sentence))
    })?;
    Ok(Offset::ZERO)
}

fn by_hand(partition: &Handle) -> WireError {
    let sentence = format!("topic '{}' belongs to the broker: its records are not deleted by hand", partition.topic());
    WireError::new(ErrorCode::InternalTopic, sentence)
}
