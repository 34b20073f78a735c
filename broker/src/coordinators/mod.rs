//! Coordinators: who is in a group and how far it has come, and what transactions touch and how they end. All of it stands in internal topics;
//! whoever leads a partition of them coordinates what its records are about, so it moves to another broker like any other partition. In flow
//! order:
//! - [`topic`]: those topics, and which partition a key belongs to.
//! - [`shards`]: which of their partitions this broker leads.
//! - [`shard`]: drives the machine of one: decides, appends, answers once it is settled; [`loading`] reads its log first. [`unread`]: one that
//!   cannot be read; its `salvage` gives up what is damaged there.
//! - [`machine`]: what it needs of a machine; [`groups`] and [`transactions`]: those that there are.
//! - [`asking`]: asks about a transaction that is coordinated here; [`membership`]: wherever it is.
//! - [`markers`]: those that a transaction touched hear how it ended; [`hanging`]: whoever lost that asks.
//!
//! Knows nothing of the rules, which are in `tidelog-coordination`, nor of who asks.

pub(crate) mod asking;
mod groups;
pub(crate) mod hanging;
mod loading;
mod machine;
mod markers;
mod membership;
mod shard;
mod shards;
pub(crate) mod topic;
mod transactions;
mod unread;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::groups::Groups;
use tidelog_coordination::transactions::Transactions;
use tidelog_protocol::messages::Coordinated;
use tidelog_protocol::{Offset, WireError};
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::node::Node;
use crate::partition::Handle;
pub(crate) use markers::write as write_markers;
pub(crate) use membership::{Asking, ask_membership, take_in};
use shards::Shards;

/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(100);

/// What this broker coordinates.
pub struct Coordinators {
    /// Consumer groups.
    pub(crate) groups: Shards<Groups>,
    /// Transactional producers.
    pub(crate) transactions: Shards<Transactions>,
    /// Which requests with markers count.
    pub(crate) marker_order: markers::Order,
}

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coordinators")
    }
}

impl Default for Coordinators {
    fn default() -> Self {
        Self {
            groups: Shards::new(Coordinated::Group),
            transactions: Shards::new(Coordinated::Transaction),
            marker_order: markers::Order::default(),
        }
    }
}

impl Coordinators {
    /// Why what is coordinated here cannot be read, for each shard of which that is so.
    pub(crate) fn unread(&self) -> Vec<WireError> {
        let groups = self.groups.all().into_iter().filter_map(|shard| shard.unread());
        groups.chain(self.transactions.all().into_iter().filter_map(|shard| shard.unread())).collect()
    }

    /// Gives up what is damaged of a partition that coordinators keep their state in. `None` where this is none.
    ///
    /// # Errors
    /// As [`shard::Shard::give_up_damaged`].
    pub(crate) async fn give_up_damaged(
        &self,
        partition: &Handle,
        before: Option<Offset>,
    ) -> Option<Result<Offset, WireError>> {
        let place = (partition.topic_id(), partition.partition());
        match partition.topic().as_str() {
            name if name == topic::name(Coordinated::Group) => Some(self.groups.give_up_damaged(place, before).await),
            name if name == topic::name(Coordinated::Transaction) => {
                Some(self.transactions.give_up_damaged(place, before).await)
            }
            _ => None,
        }
    }
}

/// A process that was away for so long has not heard what was said to it meanwhile.
const AWAY: Duration = Duration::from_millis(500);

/// Keeps in step with what this broker leads, until its connections close.
pub(crate) async fn run(node: Arc<Node>) {
    let ends = node.connections_close.clone();
    ends.run_until_cancelled(keep_step(node)).await;
}

async fn keep_step(node: Arc<Node>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut images = node.controllers.images();
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            changed = images.changed() => {
                if changed.is_err() {
                    return;
                }
                let as_of = images.borrow_and_update().as_of();
                node.registry.applied(as_of).await;
            }
            _ = tick.tick() => {}
        }
        if std::mem::replace(&mut looked, Instant::now()).elapsed() > AWAY {
            node.coordinators.groups.forgive();
            node.coordinators.transactions.forgive();
        }
        node.coordinators.groups.keep_step(&node);
        node.coordinators.transactions.keep_step(&node);
        measure(&node);
    }
}

/// How many transactions are open here, and since when; what cannot be read.
fn measure(node: &Node) {
    let unread = node.coordinators.unread().len();
    node.metrics.coordinator_partitions_unread.set(i64::try_from(unread).unwrap_or(i64::MAX));
    let now = clock::monotonic();
    let shards = node.coordinators.transactions.all();
    let open = shards.iter().filter_map(|shard| Some(shard.look(|machine| machine.open_transactions(now))?.0));
    let (count, oldest_ms) =
        open.fold((0, 0), |(count, oldest_ms), open| (count + open.count, oldest_ms.max(open.oldest_ms)));
    node.metrics.transactions_open.set(i64::try_from(count).unwrap_or(i64::MAX));
    node.metrics.transactions_open_oldest_seconds.set(oldest_ms as f64 / 1_000.0);
}
