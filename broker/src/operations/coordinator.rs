//! Who coordinates a group or a transactional producer: whoever leads the partition that keeps its state. The topic is created when somebody first
//! asks.

use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::classic::FEATURE_LEVEL;
use tidelog_protocol::messages::{Coordinated, FindCoordinatorRequest, FindCoordinatorResponse};
use tidelog_protocol::{ErrorCode, WireError};

use crate::change::change;
use crate::coordinators::topic;
use crate::node::Node;

/// Longest key.
const KEY_BYTES_MAX: usize = 255;

/// Finds it.
///
/// # Errors
/// InvalidGroup, InvalidTransactionalId; CoordinatorLoading, retriable, where nobody leads; what creating the topic may
/// say; Unsupported where a broker does not know classic groups yet.
pub(crate) async fn find_coordinator(
    node: &Arc<Node>,
    asked: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, WireError> {
    if asked.key.is_empty() || asked.key.len() > KEY_BYTES_MAX {
        let code = match asked.kind {
            Coordinated::Group => ErrorCode::InvalidGroup,
            Coordinated::Transaction => ErrorCode::InvalidTransactionalId,
        };
        let sentence = format!("the name of a group or of a transactional producer has 1 to {KEY_BYTES_MAX} bytes");
        return Err(WireError::new(code, sentence));
    }
    let is_ready = |image: &ClusterImage| !asked.classic || image.feature_level() >= FEATURE_LEVEL;
    let image = node.controllers.image();
    if image.topic_named(topic::name(asked.kind)).is_some() && is_ready(&image) {
        return located(&image, &asked);
    }
    let found = change(node, asked.clone(), None).await?;
    if is_ready(&node.controllers.image()) {
        return Ok(found);
    }
    let sentence = "the controller runs a release that does not know groups of Kafka's clients: upgrade it first";
    Err(WireError::new(ErrorCode::Unsupported, sentence))
}

/// The same, by the metadata as they are.
///
/// # Errors
/// CoordinatorLoading.
pub(crate) fn located(
    image: &ClusterImage,
    asked: &FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, WireError> {
    let nobody = || {
        let sentence = format!("nobody leads the partition of {} that keeps this; try again", topic::name(asked.kind));
        WireError { retry_after_ms: 100, ..WireError::new(ErrorCode::CoordinatorLoading, sentence) }
    };
    let topic = image.topic_named(topic::name(asked.kind)).ok_or_else(nobody)?;
    let state = topic.partition(topic::partition_of(&asked.key, topic.partitions.len())).ok_or_else(nobody)?;
    let leader = state.leader.and_then(|leader| image.broker(leader)).ok_or_else(nobody)?;
    Ok(FindCoordinatorResponse { broker_id: leader.broker_id, host: leader.host.clone(), port: leader.port })
}
