//! Asks the coordinator of a transactional id, wherever it is, to take a partition or a group into the open transaction. Knows nothing of who
//! needs to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::ClusterImage;
use tidelog_coordination::transactions::TransactionCommand;
use tidelog_protocol::messages::{AddToTransactionRequest, Coordinated, ProducerIdentity, TopicPartitions};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, TopicId, WireError};

use super::{asking, shard, topic};
use crate::member::{Address, Member};
use crate::node::Node;
use crate::peer::{Lane, PeerError};

/// How long a coordinator is looked for and waited for. The producer asks again after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the coordinator is looked for again, unless the metadata change sooner.
const PAUSE: Duration = Duration::from_millis(50);

/// What a coordinator is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asking {
    /// To take in what is about to be touched.
    ToTakeIn,
    /// Whether its producer has asked for that itself, as Kafka's do.
    WhetherTakenIn,
}

/// Takes a partition into the open transaction of `identity`. The answer is about the time when it was asked: a later epoch that was seen
/// meanwhile is looked for afterwards.
///
/// # Errors
/// What the coordinator says: TransactionFenced, InvalidTransactionState, ConcurrentTransactions, …; CoordinatorLoading, retriable, where
/// none could be asked; UnknownTransaction where its producer should have taken it in, and has not.
pub(crate) async fn ask_membership(
    node: &Arc<Node>,
    (transactional_id, asking): (String, Asking),
    identity: ProducerIdentity,
    (topic_id, partition): (TopicId, PartitionId),
) -> Result<(), WireError> {
    let partitions = vec![TopicPartitions { topic_id, partitions: vec![partition] }];
    let only_asks = asking == Asking::WhetherTakenIn;
    let request = AddToTransactionRequest { transactional_id, identity, partitions, groups: Vec::new(), only_asks };
    take_in(node, request).await
}

/// As [`ask_membership`], of anything.
///
/// # Errors
/// As there.
pub(crate) async fn take_in(node: &Arc<Node>, request: AddToTransactionRequest) -> Result<(), WireError> {
    let until = Instant::now() + PATIENCE;
    let mut images = node.controllers.images();
    loop {
        images.mark_unchanged();
        let asked = ask_once(node, &request, until).await;
        let elsewhere = asked.as_ref().is_err_and(|error| {
            matches!(error.code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoading | ErrorCode::ShuttingDown)
        });
        if !elsewhere || Instant::now() + PAUSE >= until {
            return asked.map_err(|error| if elsewhere { nobody(&error.message) } else { error });
        }
        // Without metadata nobody else will ever be found.
        if let Ok(Err(_)) = tokio::time::timeout(PAUSE, images.changed()).await {
            return asked.map_err(|error| nobody(&error.message));
        }
    }
}

async fn ask_once(node: &Arc<Node>, request: &AddToTransactionRequest, until: Instant) -> Result<(), WireError> {
    let leader = leader_of(&node.controllers.image(), &request.transactional_id).ok_or_else(shard::loading)?;
    if leader == node.broker_id {
        let command = TransactionCommand::Add(request.clone());
        return asking::ask(node, &request.transactional_id, &command).await.map(drop);
    }
    let (member, address) = dialled(&node.controllers.image(), leader).ok_or_else(shard::loading)?;
    let patience = until.saturating_duration_since(Instant::now());
    let link = node.peers.link(member, &address, Lane::Requests);
    match link.request(request.clone(), Vec::new(), patience).await {
        Ok(_) => Ok(()),
        Err(PeerError::Refused(error)) => Err(error),
        // Whether it was taken in does not matter: it is asked again.
        Err(error) => Err(nobody(&format!("{member}: {error}"))),
    }
}

/// Who leads the partition that keeps the state of a transactional id.
fn leader_of(image: &ClusterImage, transactional_id: &str) -> Option<BrokerId> {
    let topic = image.topic_named(topic::name(Coordinated::Transaction))?;
    topic.partition(topic::partition_of(transactional_id, topic.partitions.len()))?.leader
}

/// A broker, and where it can be dialled.
pub(crate) fn dialled(image: &ClusterImage, broker: BrokerId) -> Option<(Member, Address)> {
    let known = image.broker(broker)?;
    let member = Member { broker, incarnation: known.incarnation };
    Some((member, Address { host: known.host.clone(), port: known.port }))
}

fn nobody(why: &str) -> WireError {
    let sentence = format!("the coordinator of the transaction cannot be asked ({why}); try again");
    WireError { retry_after_ms: 100, ..WireError::new(ErrorCode::CoordinatorLoading, sentence) }
}
