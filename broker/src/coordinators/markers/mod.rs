//! Tells the leaders of partitions and the coordinators of groups how transactions ended, until all of them know: one task for each partition
//! of the internal topic that this broker leads. It is woken by what changes, not by a clock; what was replayed is stored before anything of it
//! leaves. In flow order:
//! - [`dispatch`]: which markers leave next, and for whom.
//! - [`sending`]: they leave. [`writing`]: they are written, on the broker that they are for; [`order`]: unless they come when it is too late.
//!
//! Knows nothing of when transactions end.

mod dispatch;
mod order;
mod sending;
mod writing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::ClusterImage;
use tidelog_coordination::transactions::{Place, TransactionCommand, Transactions};
use tidelog_protocol::messages::{Coordinated, FindCoordinatorRequest};
use tokio::task::JoinSet;
use tracing::debug;

use super::shard::Shard;
use super::topic;
use crate::change::change;
use crate::node::Node;
use dispatch::{Dispatch, Plan, Whose};
use order::Numbers;
pub(crate) use order::Order;
pub(crate) use writing::write;

/// Where nothing is due there is nothing to wake up for.
const NEVER: Duration = Duration::from_secs(3_600);
/// Pause before the topic of the groups is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Works for as long as this broker leads, and until its connections close.
pub(super) async fn run(shard: Arc<Shard<Transactions>>, node: Arc<Node>) {
    let ends = node.connections_close.clone();
    ends.run_until_cancelled(tell(&shard, &node)).await;
}

async fn tell(shard: &Arc<Shard<Transactions>>, node: &Arc<Node>) {
    let (mut changes, mut images) = (shard.changes(), node.controllers.images());
    let (mut dispatch, mut numbers) = (Dispatch::default(), Numbers::default());
    let mut sending = JoinSet::new();
    let mut creating = JoinSet::new();
    while !shard.is_lost() {
        changes.mark_unchanged();
        images.mark_unchanged();
        let image = node.controllers.image();
        let look = |machine: &Transactions| {
            dispatch.plan(|visit| machine.visit_pending(visit), |place| whose(&image, place), Instant::now())
        };
        let mut wake_at = Instant::now() + NEVER;
        if let Some((plan, end)) = shard.look(look) {
            let Plan { batches, due_at, groups_homeless } = plan;
            wake_at = due_at.unwrap_or(wake_at);
            for batch in batches {
                let number = numbers.next(node.coordinators.marker_order.draw());
                let sent = sending::send(node.clone(), shard.clone(), batch, (end, number));
                sending.spawn(async move { (number, sent.await) });
            }
            if let Some(group) = groups_homeless.filter(|_| creating.is_empty()) {
                creating.spawn(create_home(node.clone(), group));
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            changed = images.changed() => if changed.is_err() { return },
            Some(_) = creating.join_next() => {}
            Some(sent) = sending.join_next() => {
                let (number, (batch, outcome)) = match sent {
                    Ok(sent) => sent,
                    // What was under way with it would never leave again.
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => return,
                    },
                };
                numbers.done(number);
                for (transactional_id, written) in dispatch.done(batch, outcome, Instant::now()) {
                    shard.tell(node, &TransactionCommand::MarkersWritten { transactional_id, written });
                }
            }
            () = tokio::time::sleep_until(wake_at.into()) => {}
            () = shard.led_no_more() => return,
        }
    }
}

/// Who is to hear of it, as this broker knows the cluster.
fn whose(image: &ClusterImage, place: Place<'_>) -> Whose {
    let (topic, partition) = match place {
        // Of a deleted topic: the machine sees by itself that nobody is to be told.
        Place::Partition(topic_id, partition) => (image.topic(topic_id), partition),
        Place::Group(group) => {
            let Some(topic) = image.topic_named(topic::name(Coordinated::Group)) else { return Whose::Homeless };
            (Some(topic), topic::partition_of(group, topic.partitions.len()))
        }
    };
    match topic.and_then(|topic| topic.partition(partition)?.leader) {
        Some(leader) => Whose::Broker(leader),
        None => Whose::Nobody,
    }
}

/// A group was taken into a transaction before there were any groups. One of that name may come yet, with a commit that is on its way: the end
/// has to stand there before.
async fn create_home(node: Arc<Node>, group: String) {
    let find = FindCoordinatorRequest { kind: Coordinated::Group, key: group, classic: false };
    if let Err(error) = change(&node, find, None).await {
        debug!(%error, "the topic of the groups cannot be created");
        tokio::time::sleep(PAUSE).await;
    }
}
