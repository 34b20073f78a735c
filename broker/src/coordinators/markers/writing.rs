//! Writes markers where they belong on this broker, all at once. What has not ended after a while is not waited for: it goes on, or is done again,
//! and whoever asked tells it again. Knows nothing of who asked.

use std::sync::Arc;
use std::time::Duration;

use tidelog_coordination::groups::GroupCommand;
use tidelog_protocol::messages::{
    Fault, MarkerOutcome, TopicPartitions, TransactionMarkers, WriteMarkersRequest, WriteMarkersResponse,
};
use tidelog_protocol::{ErrorCode, PartitionId, TopicId, WireError};
use tidelog_replication::MarkerEpoch;
use tokio::task::JoinSet;

use crate::node::Node;
use crate::partition::Marker;

/// After so long the answer leaves with what there is: a partition that lacks replicas must not hold up the others.
const ANSWER_AFTER: Duration = Duration::from_millis(300);

/// Where a marker belongs.
enum Place {
    Partition(TopicId, PartitionId),
    Group(String),
}

/// Writes them all at once, and says after a while how far that has come. What has not ended by then goes on, or is done again.
pub(crate) async fn write(node: &Arc<Node>, request: &WriteMarkersRequest) -> WriteMarkersResponse {
    let is_current = node.coordinators.marker_order.hear(request);
    let mut writing = JoinSet::new();
    for (index, markers) in request.markers.iter().enumerate() {
        for place in places(markers) {
            let (node, marker) = (node.clone(), marker(request, markers));
            let is_late = markers.own_epoch && !is_current;
            writing.spawn(async move {
                let written = if is_late { Err(given_up()) } else { write_one(&node, &place, marker).await };
                (index, place, written)
            });
        }
    }
    let nothing = || MarkerOutcome { partitions: Vec::new(), groups: Vec::new(), fault: None };
    let mut outcomes: Vec<MarkerOutcome> = request.markers.iter().map(|_| nothing()).collect();
    let collect = async {
        while let Some(written) = writing.join_next().await {
            let Ok((index, place, written)) = written else { continue };
            match (written, place) {
                (Ok(()), Place::Partition(topic_id, partition)) => {
                    outcomes[index].partitions.push(TopicPartitions { topic_id, partitions: vec![partition] });
                }
                (Ok(()), Place::Group(group)) => outcomes[index].groups.push(group),
                (Err(error), _) => outcomes[index].fault = Some(Fault::from(error)),
            }
        }
    };
    // Too late is no fault: it is asked again.
    let _ = tokio::time::timeout(ANSWER_AFTER, collect).await;
    WriteMarkersResponse { outcomes }
}

fn places(markers: &TransactionMarkers) -> impl Iterator<Item = Place> {
    let partitions = markers.partitions.iter().flat_map(|TopicPartitions { topic_id, partitions }| {
        partitions.iter().map(|partition| Place::Partition(*topic_id, *partition))
    });
    partitions.chain(markers.groups.iter().cloned().map(Place::Group))
}

fn marker(request: &WriteMarkersRequest, markers: &TransactionMarkers) -> Marker {
    Marker {
        identity: markers.identity.clone(),
        carries: if markers.own_epoch { MarkerEpoch::Own } else { MarkerEpoch::Next },
        commit: markers.commit,
        coordinator_epoch: request.coordinator_epoch,
    }
}

fn given_up() -> WireError {
    WireError::new(
        ErrorCode::NotCoordinator,
        "whoever sent these markers has sent them again since, or coordinates no more",
    )
}

async fn write_one(node: &Arc<Node>, place: &Place, marker: Marker) -> Result<(), WireError> {
    match place {
        Place::Partition(topic_id, partition) => {
            let (handle, _) = node.registry.find(*topic_id, *partition)?;
            handle.write_marker(marker).await
        }
        Place::Group(group) => {
            let shard = node.coordinators.groups.of(node, group)?;
            let Marker { identity, carries, commit, .. } = marker;
            let own_epoch = carries == MarkerEpoch::Own;
            let command = GroupCommand::EndTransaction { group: group.clone(), identity, commit, own_epoch };
            shard.ask(node, &command).await.map(drop)
        }
    }
}
