//! DeleteRecords, whoever asks: the owner of the partition moves its log start, then the disk lets go of what is below. Of a partition that
//! coordinators keep their state in, only what is damaged can be given up.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_protocol::{ErrorCode, Offset, WireError};

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

fn by_hand(partition: &Handle) -> WireError {
    let sentence = format!("topic '{}' belongs to the broker: its records are not deleted by hand", partition.topic());
    WireError::new(ErrorCode::InternalTopic, sentence)
}
