//! Damaged ranges of replicated partitions are fetched from a replica that is in sync and put back in place. Below the high watermark
//! all replicas are equal byte for byte, so what is missing is there, and what was never settled is not touched. Where all that are in sync
//! were heard and none has it, that is noted, and readers wait for it no longer. Knows nothing of how damage is found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_log::{Hole, Repair, RepairError};
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::FrameKind;
use tidelog_protocol::messages::{Isolation, Position, StreamItemPush, SubscribeRequest, SubscribeResponse};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionEpoch, WireError};
use tracing::{debug, info, warn};

use super::link::{Link, LinkError, Reads};
use crate::node::Node;
use crate::partition::{Failed, Handle};

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

impl Failure {
    /// Whether the replica was heard, and does not have what is missing, or not as it was here.
    const fn is_an_answer(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.code, ErrorCode::CorruptLog | ErrorCode::OffsetOutOfRange),
            Self::Repair(RepairError::Storage(_)) | Self::Link(_) | Self::Silent | Self::Unexpected => false,
            Self::Repair(RepairError::NoPlace(_) | RepairError::Differs { .. } | RepairError::Damaged(_)) => true,
        }
    }
}

/// Repairs what can be repaired, one range after the other.
pub(crate) async fn repair_all(node: Arc<Node>) {
    for partition in node.registry.replicated() {
        let holes = partition.reader().holes();
        partition.repair_attempts().retain(&holes);
        for hole in holes {
            if node.draining.is_cancelled() {
                return;
            }
            repair(&node, &partition, hole).await;
        }
    }
}

async fn repair(node: &Arc<Node>, partition: &Handle, hole: Hole) {
    let (topic, index) = (partition.topic(), partition.partition());
    let high_watermark = partition.tail().borrow().high_watermark;
    let Some(others) = Others::of(node, partition) else { return };
    if hole.to > high_watermark || !partition.repair_attempts().is_due(&hole, others.epoch, Instant::now()) {
        return;
    }
    match try_repair(node, partition, (&others, &hole)).await {
        Ok(source) => {
            info!(%topic, partition = %index, from = %hole.from, to = %hole.to, %source, "a damaged range was repaired from a replica");
            node.metrics.ranges_repaired.inc();
        }
        Err(nobody_has_it) => {
            let (from, to, absent) = (hole.from, hole.to, format!("{:?}", others.absent));
            let failed = Failed { epoch: others.epoch, nobody_has_it, absent: others.absent };
            if partition.repair_attempts().note(hole, failed, Instant::now()) {
                warn!(%topic, partition = %index, %from, %to, absent, "no replica in sync has this damaged range whole: readers are told so; it is asked for again once another is in sync");
            }
        }
    }
}

/// Repairs one range from whoever has it, or a part of it each. The one that had the last of it; or else, whether all were heard and what
/// is missing is nowhere.
async fn try_repair(node: &Arc<Node>, partition: &Handle, (others, hole): (&Others, &Hole)) -> Result<BrokerId, bool> {
    let (topic, index) = (partition.topic(), partition.partition());
    let mut repair = match Repair::begin(partition.reader().clone(), hole.clone()) {
        Ok(repair) => Some(repair),
        Err(error) => {
            debug!(%topic, partition = %index, from = %hole.from, to = %hole.to, %error, "a damaged range cannot be repaired");
            return Err(true);
        }
    };
    loop {
        let before = repair.as_ref().map(Repair::next_offset);
        let mut nobody_has_it = true;
        for source in &others.complete {
            match fetch(node, partition, (*source, &mut repair)).await {
                Ok(()) => return Ok(*source),
                Err(error) => {
                    nobody_has_it &= error.is_an_answer();
                    let answer = error.to_string();
                    if partition.repair_attempts().is_news(hole, (*source, &answer), Instant::now()) {
                        warn!(%topic, partition = %index, from = %hole.from, to = %hole.to, %source, %error, "a damaged range cannot be repaired from there; it is asked for again");
                    }
                }
            }
        }
        // What one lacked may be there where another stopped.
        if repair.is_none() || repair.as_ref().map(Repair::next_offset) == before {
            return Err(nobody_has_it);
        }
    }
}

/// The replicas of a partition at other brokers.
struct Others {
    epoch: PartitionEpoch,
    /// Those that are in sync, the leader first.
    complete: Vec<BrokerId>,
    /// Those that are not.
    absent: Vec<BrokerId>,
}

impl Others {
    fn of(node: &Node, partition: &Handle) -> Option<Self> {
        let image = node.controllers.image();
        let state = image.topic(partition.topic_id())?.partition(partition.partition())?;
        let followers = state.in_sync.iter().copied().filter(|broker| Some(*broker) != state.leader);
        let complete = state.leader.into_iter().chain(followers).filter(|broker| *broker != node.broker_id).collect();
        // One that is copied for the first time has nothing that those in sync lack.
        let lacks_it = |broker: &BrokerId| state.in_sync.contains(broker) || state.adding.contains(broker);
        let is_absent = |broker: &BrokerId| *broker != node.broker_id && !lacks_it(broker);
        let absent = state.replicas.iter().copied().filter(is_absent).collect();
        Some(Self { epoch: state.partition_epoch, complete, absent })
    }
}

/// Fetches from one replica what is missing still; how far that went is kept in the repair, which is gone only where that failed unexpectedly.
async fn fetch(
    node: &Arc<Node>,
    partition: &Handle,
    (source, under_way): (BrokerId, &mut Option<Repair>),
) -> Result<(), Failure> {
    let (host, port) = {
        let image = node.controllers.image();
        let broker = image.broker(source).ok_or_else(|| LinkError::from(std::io::Error::other("it is not known")))?;
        (broker.host.clone(), broker.port)
    };
    let mut link = Link::dial(node, source, (&host, port)).await?;
    loop {
        let next = under_way.as_ref().ok_or(Failure::Unexpected)?.next_offset();
        // One item for one question: nothing arrives that is not wanted.
        let request = SubscribeRequest {
            topic_id: partition.topic_id(),
            partition: partition.partition(),
            position: Position::offset(next),
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1,
            item_bytes_max: ITEM_BYTES,
            last_epoch: None,
            nearby: true,
            settled: false,
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
        let mut repair = under_way.take().ok_or(Failure::Unexpected)?;
        let taken = tokio::task::spawn_blocking(move || {
            let whole = repair.take(&bytes);
            (repair, whole)
        });
        let (repair, whole) = taken.await.map_err(|_| Failure::Unexpected)?;
        *under_way = Some(repair);
        if whole? {
            return Ok(());
        }
    }
}
