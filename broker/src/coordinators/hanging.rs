//! Transactions that are open for long in a partition or a group here: their markers may be lost there, with damage or by an unclean election. Asks all
//! coordinators what became of them, and writes the markers again of those that ended. Knows nothing of what the answers mean.
//!
//! One that is open because it is long costs a question to each coordinator with every look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidelog_coordination::groups::{GroupCommand, Groups};
use tidelog_coordination::transactions::{FateVerdict, Inquiry, TOPIC, marker_of};
use tidelog_protocol::messages::{
    ProducerIdentity, TransactionFate, TransactionFatesRequest, TransactionFatesResponse,
};
use tidelog_protocol::{BrokerId, LeaderEpoch, ProducerEpoch, ProducerId};
use tidelog_replication::MarkerEpoch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::membership::dialled;
use super::shard::Shard;
use crate::node::Node;
use crate::partition::{Handle, Marker};
use crate::peer::Lane;

/// How often is looked, and how long a transaction is open before anybody is asked. Nearly all are shorter.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const OPEN_FOR: Duration = Duration::from_secs(10);
/// Transactions of one question; the others wait for the next look, and come first then.
pub(crate) const ASKED_MAX: usize = 1_000;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

type Transaction = (ProducerId, ProducerEpoch);

/// Where a transaction is open.
enum Place {
    Partition(Handle),
    /// Offsets of it are noted in a group.
    Group(String, Arc<Shard<Groups>>),
}

/// In how many looks each transaction was open in a group: nothing else tells for how long it has been.
type Noted = BTreeMap<(String, Transaction), u32>;

/// What one look leaves to the next.
#[derive(Default)]
struct Before {
    noted: Noted,
    /// The last producer of those that were asked about, where there were more.
    last: Option<ProducerId>,
}

/// Looks again and again, until the connections close.
pub(crate) async fn run(node: Arc<Node>) {
    let ends = node.connections_close.clone();
    let looking = async {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Before::default();
        loop {
            tick.tick().await;
            look(&node, &mut before).await;
        }
    };
    ends.run_until_cancelled(looking).await;
}

async fn look(node: &Arc<Node>, before: &mut Before) {
    let places = in_partitions(node, before.last).into_iter().chain(in_groups(node, &mut before.noted));
    let (open, last) = in_turn(places, before.last, ASKED_MAX);
    before.last = last;
    if open.is_empty() {
        return;
    }
    let verdicts = ask_all(node, open.keys().copied().collect()).await;
    node.metrics.transaction_fates_asked.inc_by(verdicts.len() as u64);
    for (transaction, verdict) in verdicts {
        let FateVerdict::Ends { commit } = verdict else { continue };
        for place in &open[&transaction] {
            write_again(node, place, transaction, commit).await;
        }
    }
}

/// Those whose turn it is, `count_max` at most: of producers behind `last` first; and the last of them, where there are more.
fn in_turn<P>(
    places: impl Iterator<Item = (Transaction, P)>,
    last: Option<ProducerId>,
    count_max: usize,
) -> (BTreeMap<Transaction, Vec<P>>, Option<ProducerId>) {
    let (mut ranked, mut is_cut) = (BTreeMap::<_, Vec<P>>::new(), false);
    for (transaction, place) in places {
        let comes_later = last.is_some_and(|last| transaction.0 <= last);
        ranked.entry((comes_later, transaction)).or_default().push(place);
        if ranked.len() > count_max {
            ranked.pop_last();
            is_cut = true;
        }
    }
    let last = ranked.last_key_value().filter(|_| is_cut).map(|((_, (producer_id, _)), _)| *producer_id);
    (ranked.into_iter().map(|((_, transaction), places)| (transaction, places)).collect(), last)
}

/// What is open for long in partitions that are led here, that of producers behind `after` first.
fn in_partitions(node: &Node, after: Option<ProducerId>) -> Vec<(Transaction, Place)> {
    let mut open = Vec::new();
    for partition in node.registry.all() {
        let tail = partition.tail().borrow().clone();
        if tail.leads && tail.ended.is_none() {
            let found = partition.reader().transactions_open_for(OPEN_FOR.as_millis() as u64, after, ASKED_MAX);
            open.extend(found.into_iter().map(|transaction| (transaction, Place::Partition(partition.clone()))));
        }
    }
    open
}

/// What has been open for several looks in groups that are coordinated here.
fn in_groups(node: &Node, noted: &mut Noted) -> Vec<(Transaction, Place)> {
    let before = std::mem::take(noted);
    let mut open = Vec::new();
    for shard in node.coordinators.groups.all() {
        let found = shard.look(|groups| {
            let found = groups.open_transactions(ASKED_MAX).into_iter();
            found.map(|(group, transaction)| (group.to_owned(), transaction)).collect::<Vec<_>>()
        });
        for (group, transaction) in found.map(|(found, _)| found).unwrap_or_default() {
            let key = (group, transaction);
            let looks = before.get(&key).copied().unwrap_or(0).saturating_add(1);
            if LOOK_EVERY * (looks - 1) >= OPEN_FOR {
                open.push((transaction, Place::Group(key.0.clone(), shard.clone())));
            }
            noted.insert(key, looks);
        }
    }
    open
}

/// What is to be done about each, after what all coordinators say that answer.
async fn ask_all(node: &Arc<Node>, asked: Vec<Transaction>) -> Vec<(Transaction, FateVerdict)> {
    let image = node.controllers.image();
    let Some(topic) = image.topic_named(TOPIC) else { return Vec::new() };
    let coordinators: BTreeSet<BrokerId> = topic.partitions().filter_map(|(_, state)| state.leader).collect();
    let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let identities: Vec<_> =
        asked.iter().map(|&(producer_id, epoch)| ProducerIdentity { producer_id, epoch }).collect();
    let mut inquiries = vec![Inquiry::new(partitions); asked.len()];
    for coordinator in coordinators {
        let Some(response) = ask(node, coordinator, &identities).await else { continue };
        for (inquiry, fate) in inquiries.iter_mut().zip(&response.fates) {
            inquiry.hear(&response.looked, *fate);
        }
    }
    asked.into_iter().zip(inquiries).map(|(asked, inquiry)| (asked, inquiry.verdict())).collect()
}

async fn ask(
    node: &Arc<Node>,
    coordinator: BrokerId,
    identities: &[ProducerIdentity],
) -> Option<TransactionFatesResponse> {
    if coordinator == node.broker_id {
        return Some(fates(node, identities).await);
    }
    let (member, address) = dialled(&node.controllers.image(), coordinator)?;
    let request = TransactionFatesRequest { identities: identities.to_vec() };
    let link = node.peers.link(member, &address, Lane::Requests);
    match link.request(request, Vec::new(), PATIENCE).await {
        Ok((response, _)) if response.fates.len() == identities.len() => Some(response),
        Ok(_) => None,
        Err(error) => {
            debug!(%member, %error, "it does not say what became of transactions; it is asked again");
            None
        }
    }
}

/// What the ids that are coordinated here know.
pub(crate) async fn fates(node: &Node, identities: &[ProducerIdentity]) -> TransactionFatesResponse {
    let mut looked = Vec::new();
    let mut fates = vec![TransactionFate::Unknown; identities.len()];
    for shard in node.coordinators.transactions.all() {
        let said = shard.look(|machine| machine.fates(identities));
        let Some((said, end)) = said else { continue };
        // Without a lease another may coordinate, and know what is not known here.
        let is_current = !node.is_one_of_several() || node.lease.holds();
        if !is_current || shard.settled(end).await.is_err() {
            continue;
        }
        looked.push(shard.place());
        for (fate, said) in fates.iter_mut().zip(said).filter(|(_, said)| *said != TransactionFate::Unknown) {
            *fate = said;
        }
    }
    TransactionFatesResponse { looked, fates }
}

async fn write_again(node: &Node, place: &Place, (producer_id, epoch): Transaction, commit: bool) {
    let identity = marker_of(&ProducerIdentity { producer_id, epoch });
    let written = match place {
        Place::Partition(partition) => {
            // Which leadership decided is not known any more, and nobody asks a marker for it.
            let coordinator_epoch = LeaderEpoch(0);
            partition.write_marker(Marker { identity, carries: MarkerEpoch::Next, commit, coordinator_epoch }).await
        }
        Place::Group(group, shard) => {
            let own_epoch = false;
            let command = GroupCommand::EndTransaction { group: group.clone(), identity, commit, own_epoch };
            shard.ask(node, &command).await.map(drop)
        }
    };
    match written {
        Ok(()) => {
            node.metrics.markers_restored.inc();
            warn!(%place, producer = %producer_id, %epoch, commit, "the marker of a transaction was lost here, and is written again");
        }
        Err(error) => debug!(%place, %error, "a lost marker cannot be written yet; it is tried again"),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(partition) => write!(f, "{}-{}", partition.topic(), partition.partition()),
            Self::Group(group, _) => write!(f, "group {}", group.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_however_many_are_open() {
        let of = |id| (ProducerId(id), ProducerEpoch(3));
        let open = || [5, 1, 4, 2, 3, 1].map(|id| (of(id), "somewhere")).into_iter();
        let asked = |last| {
            let (asked, last) = in_turn(open(), last, 2);
            (asked.into_keys().map(|(ProducerId(id), _)| id).collect::<Vec<_>>(), last)
        };
        assert_eq!(asked(None), (vec![1, 2], Some(ProducerId(2))));
        assert_eq!(asked(Some(ProducerId(2))), (vec![3, 4], Some(ProducerId(4))));
        assert_eq!(asked(Some(ProducerId(4))), (vec![1, 5], Some(ProducerId(1))));
        assert_eq!(in_turn(open(), Some(ProducerId(2)), 5).1, None, "there are no more");
        assert_eq!(in_turn(open(), None, 9).0[&of(1)].len(), 2, "of each everywhere where it is open");
    }
}
