//! Leaders that are asked to stop while acknowledgements wait for a follower: whoever waits is answered before the connection ends, with an
//! error that means to go on elsewhere, and what its producer sends again stands once.

use std::time::Duration;

use tidelog_client::{Client, Delivery, NewTopic, Record};
use tidelog_protocol::frame::FrameKind;
use tidelog_protocol::messages::{PingRequest, ProduceRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{CorrelationId, ErrorCode, PartitionId};
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::sight::{metadata, partitions_of};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::{insist, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::workload::create_topic;

/// Far longer than a test takes: whoever is not answered waits for so long.
const FOREVER: Duration = Duration::from_secs(3_600);
/// Requests of the connection that is looked at.
const REQUESTS: usize = 5;

/// A partition, who leads it, and a follower that does not run the controller.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: u32,
    leader: u32,
    follower: u32,
}

async fn place(cluster: &Cluster, topic: &str) -> Place {
    insist("a partition with a follower that does not run the controller", async || {
        let controller = cluster.controller().await;
        let known = metadata(cluster.address(controller)).await?;
        let partitions = partitions_of(&known, topic).ok_or("no such topic")?;
        let found = partitions.iter().find_map(|state| {
            let leader = state.leader?.0;
            let follower = state.replicas.iter().map(|id| id.0).find(|id| *id != leader && *id != controller)?;
            Some(Place { partition: state.partition.0, leader, follower })
        });
        found.ok_or_else(|| format!("{partitions:?}"))
    })
    .await
}

/// What waits for the follower.
struct Waiting {
    connection: RawConnection,
    requests: Vec<CorrelationId>,
    delivery: Delivery,
}

/// The follower stands still until the cluster does without it; what its leader took before waits for it from then on, since so few are
/// left that nothing is acknowledged.
async fn waiting(cluster: &Cluster, topic: &str, place: Place, value: &str) -> Waiting {
    let builder = Client::builder().request_timeout(FOREVER).keepalive(FOREVER);
    let client = builder.connect(&cluster.servers()).await.unwrap();
    let producer = client.producer().delivery_timeout(FOREVER).build().unwrap();
    let record = |value: &str| Record::to(topic).value(value.to_owned()).partition(PartitionId(place.partition));
    let mut connection = RawConnection::introduced(cluster.address(place.leader)).await;
    let topic_id = connection.topic_id(topic).await;
    let request = ProduceRequest { partition: PartitionId(place.partition), ..produce_request(topic_id) };
    loop {
        // Who sends is connected, and known there.
        producer.send(record("before")).await.unwrap().await.unwrap();
        drop(cluster.pause(place.follower));
        let delivery = producer.send(record(value)).await.unwrap();
        let mut requests = Vec::new();
        for _ in 0..REQUESTS {
            requests.push(connection.ask(&request, &batch(&[b"asked"], Compression::None)).await);
        }
        insist("the cluster to do without the follower", async || {
            let known = metadata(cluster.address(place.leader)).await?;
            let state = partitions_of(&known, topic).and_then(|all| all.get(place.partition as usize).cloned());
            let in_sync = state.ok_or("no such partition")?.in_sync;
            if in_sync.iter().any(|id| id.0 == place.follower) { Err(format!("{in_sync:?}")) } else { Ok(()) }
        })
        .await;
        // Whatever was answered by now came before the answer to this.
        let ping = connection.ask(&PingRequest {}, &[]).await;
        while let Some(frame) = connection.next_frame().await {
            if frame.header.correlation == ping {
                break;
            }
            requests.retain(|request| *request != frame.header.correlation);
        }
        if requests.len() == REQUESTS && delivery.now().is_none() {
            return Waiting { connection, requests, delivery };
        }
        // The machine was so slow that they came after it was missed, and were refused. Once more.
        cluster.resume(place.follower);
        within_limit("what was sent too late", delivery).await.unwrap();
        cluster.wait_healed(topic).await;
    }
}

/// A leader is asked to stop while acknowledgements wait.
async fn stops_while_acks_wait(topic: &str, replicas: u16, settings: ClusterSettings) {
    let mut cluster = Cluster::start(settings.set("shutdown_timeout_ms", "4000")).await;
    let new = NewTopic::named(topic).partitions(3).replication_factor(replicas);
    create_topic(&cluster.servers(), &new.config("min.insync.replicas", replicas.to_string())).await.unwrap();
    cluster.wait_healed(topic).await;
    for round in turns(1) {
        let place = place(&cluster, topic).await;
        let value = format!("waits-{round}");
        let Waiting { mut connection, requests, delivery } = waiting(&cluster, topic, place, &value).await;

        cluster.stop(place.leader).assert_happened();
        let mut answered = Vec::new();
        while let Some(frame) = connection.next_frame().await {
            if frame.header.kind == FrameKind::Response {
                let refusal = RawConnection::told(&frame).expect_err("nobody has it but its leader");
                assert_eq!(refusal.code, ErrorCode::LeadershipEnded, "{refusal}");
                answered.push(frame.header.correlation);
            }
        }
        answered.sort_unstable();
        assert_eq!(answered, requests, "each is answered, once");

        cluster.resume(place.follower);
        cluster.restart(place.leader);
        let receipt = within_limit("what waited to be delivered", delivery).await.unwrap();
        cluster.wait_healed(topic).await;
        let contents = read_all(&cluster.servers(), topic).await;
        let records = &contents[place.partition as usize].records;
        let found: Vec<u64> = records.iter().filter(|(_, found)| *found == value).map(|(offset, _)| *offset).collect();
        assert_eq!(Some(found), receipt.offset.map(|offset| vec![offset.0]), "{receipt:?}");
    }
    cluster.assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_follower_is_answered_as_its_leader_hands_over_and_stops() {
    stops_while_acks_wait("handed-over", 3, ClusterSettings::three()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_follower_is_answered_as_its_leader_stops_though_nobody_can_take_over() {
    stops_while_acks_wait("left-behind", 2, ClusterSettings::three()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_follower_is_answered_as_its_leader_stops_though_no_other_broker_is_there() {
    stops_while_acks_wait("left-alone", 2, ClusterSettings::of(2).voters(1)).await;
}

/// Until others have elected one, which takes a second, there is no controller to ask: so nobody may need it.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_acknowledged_though_the_controller_has_stopped_and_there_is_no_other_yet() {
    let topic: &str = "stopped-controller";
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    client.admin().create_topic(&NewTopic::named(topic).partitions(3).replication_factor(3)).await.unwrap();
    cluster.wait_healed(topic).await;
    let producer = client.producer().build().unwrap();
    let to = move |partition| Record::to(topic).value("a value").partition(PartitionId(partition));
    // Followers have something to report up to the last moment.
    let busy = producer.clone();
    let traffic = tokio::spawn(async move {
        for partition in (0..3).cycle() {
            let sent = busy.send(to(partition)).await.unwrap();
            within_limit("an acknowledgement", sent).await.unwrap();
        }
    });
    let mut late = Vec::new();
    for _ in 0..10 {
        let controller = cluster.controller().await;
        let other = controller % 3 + 1;
        cluster.stop(controller).assert_happened();
        for partition in 0..3 {
            let sent = producer.send(to(partition)).await.unwrap();
            within_limit("an acknowledgement", sent).await.unwrap();
        }
        // Asked afterwards: where this is still the one that has stopped, or nobody, no other can have helped.
        let asked = metadata(cluster.address(other)).await.unwrap();
        if asked.controller.is_none_or(|known| known.0 == controller) {
            assert!(!traffic.is_finished(), "no send failed");
            traffic.abort();
            return;
        }
        late.push(asked.controller);
        cluster.next_controller(controller).await;
        cluster.restart(controller);
        cluster.wait_healed(topic).await;
    }
    panic!("there was a controller again each time: {late:?}");
}
