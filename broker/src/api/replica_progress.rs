//! ReplicaProgress: a follower says how far it is with many partitions.

use tidelog_protocol::Message;
use tidelog_protocol::messages::{PartitionProgress, ReplicaProgressSignal};
use tidelog_replication::{ReplicaEnds, ReplicaProgress};

use super::Input;
use crate::node::Node;
use crate::partition::Command;
use crate::session::Session;

pub(super) fn handle(node: &Node, session: &Session, input: &Input) -> Result<(), String> {
    let signal = ReplicaProgressSignal::from_body(&input.body, session.version)
        .map_err(|error| format!("{} does not parse: {error}", ReplicaProgressSignal::NAME))?;
    let ReplicaProgressSignal { replica, broker_epoch, partitions } = signal;
    if session.member().map(|member| member.broker) != Ok(replica) {
        return Err(format!("only broker {replica} itself says how far it is"));
    }
    for PartitionProgress { topic_id, partition, leader_epoch, written_end, flushed_end } in partitions {
        // The partition may have moved on since; the follower hears of that by its stream.
        let Ok((partition, _)) = node.registry.find(topic_id, partition) else { continue };
        let ends = ReplicaEnds { written_end, flushed_end };
        partition.submit(Command::Progress(ReplicaProgress { replica, broker_epoch, epoch: leader_epoch, ends }));
    }
    Ok(())
}
