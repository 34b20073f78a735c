//! Networks that fall apart in every shape under a load with acks=all: symmetric, one-way, partial, as a bridge, flapping, with the controller on
//! the wrong side. Needs root, network namespaces and nftables.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_client::{NewTopic, Record, Start};
use tidelog_protocol::messages::{
    Acks, BalanceRequest, CreateTopicRequest, DrainBrokerRequest, ProduceRequest, RemoveBrokerRequest,
};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, WireError};
use tidelog_tests::chance::{seeded, turns};
use tidelog_tests::cluster::round::client;
use tidelog_tests::cluster::sight::{metadata, partitions_of};
use tidelog_tests::cluster::{Cluster, ClusterSettings, End, Evidence, Round, Wiring};
use tidelog_tests::history::{History, Outcome};
use tidelog_tests::patience::{insist, wait_until, within_limit};
use tidelog_tests::question::ask;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::workload::{create_topic, wait_for_more_acks};

/// Longer than a lease, so that whoever cannot be heard is noticed.
const LONG: Duration = Duration::from_secs(4);

/// A producer besides those of the workload.
const MISLED: u32 = 99;

async fn networked(brokers: u32) -> Cluster {
    Cluster::start(ClusterSettings::of(brokers).wiring(Wiring::Namespaces)).await
}

fn others(brokers: u32, one: u32) -> Vec<u32> {
    (1..=brokers).filter(|id| *id != one).collect()
}

/// All ways between one broker and the others; the clients still reach all of them.
fn between(one: u32, others: &[u32]) -> Vec<(End, End)> {
    others.iter().map(|other| (End::Broker(one), End::Broker(*other))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_everybody_is_replaced_and_nothing_is_lost() {
    if !requires("a_leader_cut_off_from_everybody_is_replaced_and_nothing_is_lost", &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "isolated-leader";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let cut = cluster.network().isolate(leader);
            let next = cluster.next_leader(topic, 0, leader).await;
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            evidence.add(Evidence::of("packets dropped", cut.mend()));
            cluster.wait_in_sync((topic, 0), &[1, 2, 3], next).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_the_other_brokers_alone_acknowledges_nothing_to_those_who_still_reach_it() {
    let name = "a_leader_cut_off_from_the_other_brokers_alone_acknowledges_nothing_to_those_who_still_reach_it";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "symmetric";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let (leader, epoch) = cluster.leader(topic, 0).await;
            let mut reaches_it = RawConnection::introduced(cluster.address(leader)).await;
            let request = ProduceRequest {
                topic_id: reaches_it.topic_id(topic).await,
                partition: PartitionId(0),
                leader_epoch: Some(epoch),
                acks: Acks::All,
                expected_log_end: None,
                transactional_id: None,
            };
            let cut = cluster.network().cut(&between(leader, &others(3, leader)));
            // It takes part in nothing any more; that it once led is no reason to say yes.
            let asked = reaches_it.ask(&request, &batch(&[b"never"], Compression::None)).await;
            cluster.next_leader(topic, 0, leader).await;
            let answer = reaches_it.answer(asked).await;
            let told = RawConnection::told(&answer).expect_err("a leader without followers must not acknowledge");
            let expected = [
                ErrorCode::LeadershipEnded,
                ErrorCode::DeadlineExceeded,
                ErrorCode::NotEnoughReplicas,
                // Where it came after the lease had ended.
                ErrorCode::NotLeader,
            ];
            assert!(expected.contains(&told.code), "{told}");
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            evidence.add(Evidence::of("packets dropped", cut.mend()));
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_reaches_everybody_and_that_nobody_reaches_lets_go() {
    let name = "a_controller_that_reaches_everybody_and_that_nobody_reaches_lets_go";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "undiallable";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let controller = cluster.controller().await;
            let port = cluster.address(controller).port();
            let cut = cluster.network().cut_dials_to(controller, port);
            let next = wait_until("another controller", async || {
                let at = cluster.address(others(3, controller)[0]);
                metadata(at).await.ok()?.controller.filter(|named| named.0 != controller)
            })
            .await;
            println!("broker {next} runs the controller in place of {controller}");
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            evidence.add(Evidence::of("packets of those who dial dropped", cut.mend()));
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_was_cut_off_for_long_comes_back_without_deposing_the_controller() {
    let name = "a_voter_that_was_cut_off_for_long_comes_back_without_deposing_the_controller";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "returning-voter";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let controller = cluster.controller().await;
            let epoch_of = async |cluster: &Cluster| {
                let client = client().connect(&cluster.servers()).await.expect("a client");
                client.admin().describe_cluster().await.expect("a description").controller_epoch
            };
            let epoch = epoch_of(cluster).await;
            let voter = others(3, controller)[0];
            let cut = cluster.network().cut(&between(voter, &others(3, voter)));
            let address = cluster.address(voter);
            wait_until("the voter to miss the controller", async || {
                metadata(address).await.ok()?.controller.is_none().then_some(())
            })
            .await;
            // Long enough to stand for election again and again.
            tokio::time::sleep(LONG).await;
            evidence.add(Evidence::of("packets dropped", cut.mend()));
            wait_until("the voter to hear the controller", async || {
                (metadata(address).await.ok()?.controller == Some(BrokerId(controller))).then_some(())
            })
            .await;
            cluster.wait_in_sync((topic, 0), &[1, 2, 3], cluster.leader(topic, 0).await.0).await;
            assert_eq!((cluster.controller().await, epoch_of(cluster).await), (controller, epoch), "it was deposed");
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_leaves_a_leader_that_is_cut_off_from_the_other_brokers_alone() {
    let name = "a_consumer_leaves_a_leader_that_is_cut_off_from_the_other_brokers_alone";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let cluster = networked(3).await;
    let topic = "left-behind";
    create_topic(&cluster.servers(), &NewTopic::named(topic).partitions(1)).await.unwrap();
    let (leader, _) = cluster.leader(topic, 0).await;
    let consuming = client().connect(&cluster.servers()).await.unwrap();
    let mut consumer = consuming.consumer().topic(topic).start(Start::Beginning).build().await.unwrap();
    let producing = client().connect(&cluster.servers()).await.unwrap();
    let producer = producing.producer().acks(Acks::All).build().unwrap();
    let records = producer.topic(topic).await.unwrap();
    records.send(None, b"before").await.unwrap().await.unwrap();
    let before = within_limit("the record before the cut", consumer.next()).await.unwrap().unwrap();
    assert_eq!(before.value.as_deref(), Some(&b"before"[..]));

    let cut = cluster.network().cut(&between(leader, &others(3, leader)));
    cluster.next_leader(topic, 0, leader).await;
    wait_until("a record at the next leader", async || records.send(None, b"after").await.ok()?.await.ok()).await;
    let after = within_limit("a record of the next leader, the old one being as it was", consumer.next()).await;
    assert_eq!(after.unwrap().unwrap().value.as_deref(), Some(&b"after"[..]));
    assert!(cut.mend() > 0, "nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_nobody_and_one_that_nobody_hears_are_both_survived() {
    if !requires("a_leader_that_hears_nobody_and_one_that_nobody_hears_are_both_survived", &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "one-way";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(2) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let mut ways = between(leader, &others(3, leader));
            if round % 2 == 1 {
                ways = ways.into_iter().map(|(from, to)| (to, from)).collect();
            }
            let cut = cluster.network().cut_one_way(&ways);
            cluster.next_leader(topic, 0, leader).await;
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            evidence.add(Evidence::of("packets dropped on one-way cuts", cut.mend()));
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_that_do_not_reach_each_other_but_the_third_keep_every_promise() {
    let name = "two_brokers_that_do_not_reach_each_other_but_the_third_keep_every_promise";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "partial";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(2) {
            let controller = cluster.controller().await;
            let sides = others(3, controller);
            // Once between the controller and another, once between those who only follow it.
            let (one, other) = if round % 2 == 0 { (sides[0], sides[1]) } else { (controller, sides[0]) };
            let cut = cluster.network().cut(&[(End::Broker(one), End::Broker(other))]);
            let begin = Instant::now();
            while begin.elapsed() < LONG {
                for partition in 0..3 {
                    wait_for_more_acks(history, partition, 20).await;
                }
            }
            evidence.add(Evidence::of("packets dropped between two of three", cut.mend()));
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_that_only_a_bridge_connects_keep_every_promise() {
    if !requires("two_halves_that_only_a_bridge_connects_keep_every_promise", &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(5).await;
    let topic = "bridge";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let bridge = others(5, cluster.controller().await)[0];
            let rest = others(5, bridge);
            let (left, right) = rest.split_at(2);
            let pairs: Vec<_> = left.iter().flat_map(|one| between(*one, right)).collect();
            let cut = cluster.network().cut(&pairs);
            let begin = Instant::now();
            while begin.elapsed() < LONG {
                for partition in 0..3 {
                    wait_for_more_acks(history, partition, 20).await;
                }
            }
            evidence.add(Evidence::of("packets dropped between the halves", cut.mend()));
        }
        evidence
    };
    let mut round = Round::on(topic);
    // Whichever three are left, every partition has enough replicas among them.
    round.replicas = 5;
    round.survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_flaps_is_survived() {
    if !requires("a_network_that_flaps_is_survived", &[Need::Namespaces]) {
        return;
    }
    let mut rng = seeded("a_network_that_flaps_is_survived");
    let mut cluster = networked(3).await;
    let topic = "flapping";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(8) {
            let one = rng.u32(1..=3);
            let network = cluster.network();
            let cut = match rng.u32(..3) {
                0 => network.isolate(one),
                1 => network.cut(&between(one, &[one % 3 + 1])),
                _ => network.cut_one_way(&between(one, &others(3, one))),
            };
            tokio::time::sleep(Duration::from_millis(rng.u64(200..2_000))).await;
            evidence.add(Evidence::of("packets dropped", cut.mend()));
            tokio::time::sleep(Duration::from_millis(rng.u64(50..1_000))).await;
        }
        wait_for_more_acks(history, 0, 20).await;
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_cut_off_decides_nothing_and_learns_that_another_does() {
    if !requires("a_controller_cut_off_decides_nothing_and_learns_that_another_does", &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "zombie-controller";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(1) {
            let zombie = cluster.controller().await;
            let rest = others(3, zombie);
            let there = format!("there-before-{round}");
            let server = cluster.address(zombie).to_string();
            wait_until("a topic", async || create_topic(&server, &NewTopic::named(&there)).await.ok()).await;
            let cut = cluster.network().cut(&between(zombie, &rest));
            let (refused, made) = (format!("by-the-zombie-{round}"), format!("by-its-successor-{round}"));
            // The test reaches both sides; on one of them there is nobody to agree. By hand: a client that is refused asks the other side.
            let request = CreateTopicRequest {
                name: refused.clone(),
                partitions: None,
                replication_factor: None,
                configs: Vec::new(),
                validate_only: false,
            };
            // Neither does it say "no" or "it is so already" by what it knows from before.
            let (asks_zombie, says) = tokio::join!(
                ask(cluster.address(zombie), &request),
                nothing_by_heart(cluster.address(zombie), zombie, rest[0], &there)
            );
            assert!(asks_zombie.is_err(), "a controller without a majority decided: {asks_zombie:?}");
            assert!(says.is_empty(), "a controller without a majority answered: {says:?}");
            cluster.next_controller(zombie).await;
            let servers = rest.iter().map(|id| cluster.address(*id).to_string()).collect::<Vec<_>>().join(",");
            let new = NewTopic::named(&made).replication_factor(2);
            wait_until("the successor to decide", async || create_topic(&servers, &new).await.ok()).await;
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            evidence.add(Evidence::of("packets dropped", cut.mend()));
            insist("the zombie to see what its successor decided", async || {
                let seen = metadata(cluster.address(zombie)).await?;
                partitions_of(&seen, &made).map(drop).ok_or_else(|| "not yet".to_string())
            })
            .await;
            let controller = cluster.controller().await;
            let seen = metadata(cluster.address(controller)).await.unwrap();
            // Its client was told "unknown" at best; that it was decided after all is allowed only if all agree, which `wait_healed` looks at.
            if partitions_of(&seen, &refused).is_some() {
                cluster.wait_healed(&refused).await;
            }
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

/// Asks what a controller could answer without changing anything. What it answers otherwise than that it cannot tell.
async fn nothing_by_heart(controller: SocketAddr, own: u32, other: u32, topic: &str) -> Vec<String> {
    let create = |validate_only| CreateTopicRequest {
        name: topic.into(),
        partitions: Some(3),
        replication_factor: Some(1),
        configs: Vec::new(),
        validate_only,
    };
    let mut answers = Vec::new();
    let mut note = |what: &str, answer: Result<String, WireError>| match answer {
        Err(error)
            if matches!(error.code, ErrorCode::NoQuorum | ErrorCode::DeadlineExceeded | ErrorCode::NotController) => {}
        answer => answers.push(format!("{what}: {answer:?}")),
    };
    let raw = async || RawConnection::introduced(controller).await;
    for validate_only in [false, true] {
        let answer = raw().await.call(&create(validate_only), &[]).await;
        note("create what exists", answer.map(|created| format!("{created:?}")));
    }
    let drain = DrainBrokerRequest { broker_id: BrokerId(own), cancel: true, validate_only: false };
    note("keep", raw().await.call(&drain, &[]).await.map(|kept| format!("{kept:?}")));
    let balance = BalanceRequest { copies_max: 0, validate_only: true };
    note("balance", raw().await.call(&balance, &[]).await.map(|plan| format!("{plan:?}")));
    let remove = RemoveBrokerRequest { broker_id: BrokerId(other) };
    note("remove", raw().await.call(&remove, &[]).await.map(|removed| format!("{removed:?}")));
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_stale_metadata_misleads_nobody_for_long() {
    if !requires("a_broker_with_stale_metadata_misleads_nobody_for_long", &[Need::Namespaces]) {
        return;
    }
    let mut cluster = networked(3).await;
    let topic = "stale";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(1) {
            let controller = cluster.controller().await;
            let stale = others(3, controller)[0];
            let servers = cluster.address(stale).to_string();
            let misled = client().connect(&servers).await.unwrap().producer().build().unwrap();
            misled.topic(topic).await.unwrap();
            let cut = cluster.network().cut(&between(stale, &others(3, stale)));
            let made = format!("made-behind-its-back-{round}");
            let servers = cluster.address(controller).to_string();
            let new = NewTopic::named(&made).replication_factor(2);
            wait_until("the others to decide", async || create_topic(&servers, &new).await.ok()).await;
            // Its partitions are led by others now, which it does not know; whoever asks it is sent in circles at worst.
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            // Somebody who knows nobody but the stale broker gets through as well, to whoever leads each partition now.
            for partition in 0..3 {
                let (operation, value) = history.invoke(MISLED, partition);
                let record = Record::to(topic).value(value).partition(PartitionId(partition));
                let told = within_limit("a send", misled.send(record).await.unwrap()).await.unwrap();
                let offset = told.offset.expect("acks=all tells the offset").0;
                history.complete(operation, Outcome::Acked { offset, replicas_flushed: told.replicas_flushed });
            }
            let (old, new) =
                (metadata(cluster.address(stale)).await.unwrap(), metadata(cluster.address(controller)).await.unwrap());
            let behind = new.as_of.0.saturating_sub(old.as_of.0);
            assert!(partitions_of(&old, &made).is_none() && partitions_of(&new, &made).is_some());
            evidence.add(Evidence::of("packets dropped", cut.mend()).and("records that it was behind", behind));
            insist("the stale broker to catch up", async || {
                let seen = metadata(cluster.address(stale)).await?;
                partitions_of(&seen, &made).map(drop).ok_or_else(|| "not yet".to_string())
            })
            .await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}
