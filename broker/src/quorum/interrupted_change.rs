//! Changes of the voters that end between their halves: whoever leads then finishes them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use tidelog_protocol::BrokerId;
use tidelog_protocol::messages::VoterChange;

use super::{Quorum, Role};
use crate::config::{Advertise, OwnId, PathText};
use crate::member::Member;
use crate::{Broker, Config};

const LIMIT: Duration = Duration::from_secs(60);

fn config(folder: &Path, broker_id: u32, join: Option<SocketAddr>) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = PathText(folder.join(broker_id.to_string()));
    let join = Advertise(join.map(|at| (at.ip().to_string(), at.port())));
    Config {
        listen: any,
        admin_listen: any,
        data,
        disk_free_min_bytes: 0,
        broker_id: OwnId(Some(broker_id)),
        join,
        ..Config::default()
    }
}

fn quorum(broker: &Broker) -> &Quorum {
    broker.node.controllers.quorum()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let give_up_at = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < give_up_at, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn voters(quorum: &Quorum) -> Vec<u32> {
    quorum.members().iter().filter(|known| known.is_voter).map(|known| known.member.broker.0).collect()
}

/// Four brokers, of which so many vote. The first leads.
async fn four(folder: &Path, voting: u32) -> Vec<Broker> {
    let mut brokers: Vec<Broker> = Vec::new();
    for id in 1..=4 {
        let join = brokers.first().map(Broker::address);
        brokers.push(Broker::start(config(folder, id, join)).await.unwrap());
    }
    for id in 2..=voting {
        quorum(&brokers[0]).change_voters(BrokerId(id), VoterChange::Promote).await.unwrap();
    }
    assert!(matches!(quorum(&brokers[0]).role(), Role::Leader { .. }));
    brokers
}

/// Proposes the first half of a promotion at the leader and no more: whoever asked for it is gone.
async fn begin(leader: &Quorum, promoted: Member) {
    let add = ChangeMembers::AddVoterIds([promoted].into());
    let mut metrics = leader.shared.raft.metrics();
    let half_done = metrics.wait_for(|metrics| metrics.membership_config.membership().get_joint_config().len() == 2);
    tokio::select! {
        biased;
        half_done = half_done => drop(half_done.unwrap()),
        whole = leader.shared.raft.change_membership(add, true) => assert!(whole.is_err(), "it was done at once: {whole:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_in_the_middle_of_a_promotion_leaves_it_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut brokers = four(folder.path(), 3).await;
    let leader = brokers.remove(0);
    let leading = quorum(&leader).clone();
    // As long as somebody's change is under way, nobody else finishes it.
    let turn = leading.shared.changing.lock().await;
    begin(&leading, quorum(&brokers[2]).member()).await;
    until("the first half everywhere", || brokers.iter().all(|broker| quorum(broker).next_voters().is_some())).await;
    assert_eq!(leading.next_voters().map(|next| next.len()), Some(4), "half done");
    drop(leader);
    leading.shared.raft.shutdown().await.unwrap();
    drop(turn);
    drop(leading);
    until("finished", || brokers.iter().all(|broker| quorum(broker).next_voters().is_none())).await;
    assert!(brokers.iter().all(|broker| voters(quorum(broker)) == [1, 2, 3, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_nobody_waits_for_any_more_is_finished_by_the_controller_that_began_it() {
    let folder = tempfile::tempdir().unwrap();
    let brokers = four(folder.path(), 1).await;
    let leader = quorum(&brokers[0]);
    let turn = leader.shared.changing.lock().await;
    begin(leader, quorum(&brokers[1]).member()).await;
    assert_eq!(leader.next_voters(), Some(vec![BrokerId(1), BrokerId(2)]), "half done");
    drop(turn);
    until("finished", || brokers.iter().all(|broker| quorum(broker).next_voters().is_none())).await;
    assert_eq!(voters(leader), [1, 2]);
    leader.change_voters(BrokerId(2), VoterChange::Demote).await.unwrap();
    assert_eq!(voters(leader), [1]);
}
