//! Damaged ranges of replicated partitions are fetched from a replica that is in sync and put back in place. Below the high watermark
//! all replicas are equal byte for byte, so what is missing is there, and what was never settled is not touched. Knows nothing of
//! how damage is found.

use std::sync::Arc;
use std::time::Duration;

use tidelog_log::{Hole, Repair, RepairError};
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::FrameKind;
use tidelog_protocol::messages::{Isolation, Position, StreamItemPush, SubscribeRequest, SubscribeResponse};
use tidelog_protocol::{BrokerId, WireError};
use tracing::{info, warn};

use super::link::{Link, LinkError, Reads};
use crate::node::Node;
use crate::partition::Handle;

/// Bytes in one item, which is what a repair holds in memory.
const ITEM_BYTES: u32 = 1 << 20;
/// A replica that sends nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("it sent nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it refuses: {0}")]
    Refused(WireError),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error("putting it back failed unexpectedly")]
    Unexpected,
}

/// Repairs what can be repaired, one range after the other.
pub(crate) async fn repair_all(node: Arc<Node>) {
    for partition in node.registry.replicated() {
        for hole in partition.reader().holes() {
            if node.draining.is_cancelled() {
                return;
            }
            repair(&node, &partition, hole).await;
        }
    }
}

async fn repair(node: &Arc<Node>, partition: &Handle, hole: Hole) {
    let (topic, index) = (partition.topic(), partition.partition());
    let tail = partition.tail().borrow().clone();
    if hole.to > tail.high_watermark {
        return;
    }
    for source in sources(node, partition) {
        match fetch(node, partition, (source, hole.clone())).await {
            Ok(()) => {
                info!(%topic, partition = %index, from = %hole.from, to = %hole.to, %source, "a damaged range was repaired from a replica");
                node.metrics.ranges_repaired.inc();
                return;
            }
            Err(error) => {
                warn!(%topic, partition = %index, from = %hole.from, to = %hole.to, %source, %error, "a damaged range cannot be repaired from there");
            }
        }
    }
}

/// The other brokers whose replicas are complete, the leader first.
fn sources(node: &Node, partition: &Handle) -> Vec<BrokerId> {
    let image = node.controllers.image();
    let topic = image.topic(partition.topic_id());
    let Some(state) = topic.and_then(|topic| topic.partition(partition.partition())) else { return Vec::new() };
    let followers = state.in_sync.iter().copied().filter(|broker| Some(*broker) != state.leader);
    let complete = state.leader.into_iter().chain(followers);
    complete.filter(|broker| *broker != node.broker_id).collect()
}

async fn fetch(node: &Arc<Node>, partition: &Handle, (source, hole): (BrokerId, Hole)) -> Result<(), Failure> {
    let mut repair = Repair::begin(partition.reader().clone(), hole)?;
    let (host, port) = {
        let image = node.controllers.image();
        let broker = image.broker(source).ok_or_else(|| LinkError::from(std::io::Error::other("it is not known")))?;
        (broker.host.clone(), broker.port)
    };
    let mut link = Link::dial(node, source, (&host, port)).await?;
    loop {
        // One item for one question: nothing arrives that is not wanted.
        let request = SubscribeRequest {
            topic_id: partition.topic_id(),
            partition: partition.partition(),
            position: Position::offset(repair.next_offset()),
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1,
            item_bytes_max: ITEM_BYTES,
            last_epoch: None,
            nearby: true,
        };
        let stream = link.request(&request, 0);
        let item = tokio::time::timeout(PATIENCE, async {
            loop {
                while let Some(incoming) = link.next_frame()? {
                    if incoming.correlation != stream {
                        continue;
                    }
                    match (incoming.kind, incoming.api) {
                        (FrameKind::Response, _) => {
                            incoming.message::<SubscribeResponse>()?.map_err(Failure::Refused)?;
                        }
                        (FrameKind::Push, Some(Api::StreamItem)) => {
                            incoming.message::<StreamItemPush>()?.map_err(Failure::Refused)?;
                            return Ok::<_, Failure>(incoming.payload);
                        }
                        _ => {}
                    }
                }
                link.drive(Reads::On).await?;
            }
        });
        let bytes = item.await.map_err(|_| Failure::Silent)??;
        let taken = tokio::task::spawn_blocking(move || {
            let whole = repair.take(&bytes);
            (repair, whole)
        });
        let whole;
        (repair, whole) = taken.await.map_err(|_| Failure::Unexpected)?;
        if whole? {
            return Ok(());
        }
    }
}
