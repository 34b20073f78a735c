//! A majority is lost, and the leader with it, or a leader that was replaced is all that can be reached: what was settled is read from the
//! replica that is left, up to the end that it knows and no further, and whoever reads is told that there may be more.

use std::time::Duration;

use serde_json::{Value, json};
use tidelog_client::{Client, Consumer, NewTopic, Offset, PartitionId, Start};
use tidelog_protocol::messages::{Isolation, Position, SubscribeRequest};
use tidelog_protocol::{ErrorCode, LeaderEpoch};
use tidelog_tests::cluster::sight::{metadata, partitions_of, replicas_at};
use tidelog_tests::cluster::{Cluster, ClusterSettings, End, Wiring};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::{insist, within_limit};
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::raw_reader::RawReader;
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::workload::create_topic;

const TOPIC: &str = "ledger";
const RECORDS: u64 = 200;

/// Who leads, who dies with the leader, and who is left.
#[derive(Clone, Copy)]
struct Places {
    leader: u32,
    other: u32,
    left: u32,
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("line {number} {}\n", "x".repeat(number as usize % 90))).collect()
}

async fn tidelog(cluster: &Cluster, line: &str) -> Finished {
    let servers = cluster.servers();
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &servers).args(line.split_whitespace());
    tokio::task::spawn_blocking(|| command.run()).await.unwrap()
}

async fn produce(cluster: &Cluster, text: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, text).unwrap();
    let servers = cluster.servers();
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &servers);
    let command = command.args(["produce", TOPIC]).args(arguments).stdin(&file);
    let _ = tokio::task::spawn_blocking(|| command.run()).await.unwrap().expect_code(0);
}

fn kill_both(cluster: &mut Cluster, places: Places) {
    let mut killed = cluster.kill(places.leader);
    killed.add(cluster.kill(places.other));
    killed.assert_happened();
}

/// What a broker says of its replica: up to where it is settled, and where it ends.
async fn ends(cluster: &Cluster, broker: u32) -> Result<(u64, u64), String> {
    let partitions = replicas_at(cluster.address(broker), TOPIC).await?;
    let partition = partitions.first().ok_or("no partition")?;
    Ok((partition.high_watermark.0, partition.log_end.0))
}

/// Three brokers with a topic of one partition, in which all is settled and known to be everywhere.
async fn settled() -> (Cluster, Places) {
    settled_in(ClusterSettings::three(), "3").await
}

/// The same in such a cluster, with so many replicas that must have a record.
async fn settled_in(settings: ClusterSettings, least: &str) -> (Cluster, Places) {
    let cluster = Cluster::start(settings).await;
    let new = NewTopic::named(TOPIC).partitions(1).replication_factor(3).config("min.insync.replicas", least);
    create_topic(&cluster.servers(), &new).await.unwrap();
    cluster.wait_healed(TOPIC).await;
    // In many batches.
    for from in (0..RECORDS).step_by(20) {
        produce(&cluster, &lines(from..from + 20), &[]).await;
    }
    let leader = insist("a leader", async || {
        let known = metadata(cluster.address(1)).await?;
        let partitions = partitions_of(&known, TOPIC).ok_or("no such topic")?;
        partitions[0].leader.map(|leader| leader.0).ok_or_else(|| "nobody".to_owned())
    })
    .await;
    let places = Places { leader, other: leader % 3 + 1, left: (leader + 1) % 3 + 1 };
    insist("the one that will be left to know it all", async || match ends(&cluster, places.left).await? {
        (RECORDS, RECORDS) => Ok(()),
        ends => Err(format!("{ends:?}")),
    })
    .await;
    (cluster, places)
}

/// Waits until a broker that leads refuses to tell its end.
async fn has_no_lease(cluster: &Cluster, broker: u32) {
    insist("the lease to end", async || {
        let told = RawReader::of(cluster.address(broker), TOPIC).await.end(0, false).await;
        told.map_or(Ok(()), |end| Err(format!("it tells its end, {end}")))
    })
    .await;
}

/// What the commands read and tell is what one broker knows to be settled, and they say so. Returns what the one that read said.
async fn is_said_to_be_all_that_is_known(cluster: &Cluster, left: u32) -> Finished {
    let read = tidelog(cluster, &format!("consume {TOPIC} --until-end --timeout 40s")).await.expect_code(8);
    assert_eq!(read.text(), lines(0..RECORDS), "what is settled, byte for byte, and nothing else: {}", read.stderr);
    let known = format!("up to offset {RECORDS}");
    for part in [&format!("read from broker {left}"), &known, "its leader cannot be reached", "may be more"] {
        assert!(read.stderr.contains(part), "'{part}' is missing: {}", read.stderr);
    }
    assert!(!read.stderr.contains("read from its leader from now on"), "{}", read.stderr);
    let offsets = tidelog(cluster, &format!("offsets {TOPIC} --timeout 30s --output json")).await.expect_code(8);
    let document: Value = serde_json::from_slice(&offsets.stdout).unwrap();
    let row = &document["partitions"][0];
    assert_eq!((&row["next"], &row["as_known_to"]), (&json!(RECORDS), &json!(left)), "{offsets:?}");
    assert!(offsets.stderr.contains("there may be more"), "{offsets:?}");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_can_be_read_though_the_leader_and_the_majority_are_gone() {
    let (mut cluster, places) = settled().await;
    // One record more that the survivor has and that never settles, as the other stands still and all three are needed.
    drop(cluster.pause(places.other));
    produce(&cluster, "unsettled\n", &["--acks", "leader"]).await;
    insist("the survivor to have what is not settled", async || match ends(&cluster, places.left).await? {
        (RECORDS, end) if end == RECORDS + 1 => Ok(()),
        ends => Err(format!("{ends:?}")),
    })
    .await;
    kill_both(&mut cluster, places);

    let read = is_said_to_be_all_that_is_known(&cluster, places.left).await;
    assert!(read.stderr.contains("a majority"), "{}", read.stderr);

    cluster.restart_all(&[places.leader, places.other]);
    cluster.wait_healed(TOPIC).await;
    let read = tidelog(&cluster, &format!("consume {TOPIC} --until-end")).await.expect_code(0);
    assert!(read.text().starts_with(&lines(0..RECORDS)), "{}", read.stderr);
}

async fn read(consumer: &mut Consumer, numbers: std::ops::Range<u64>) {
    let expected = lines(numbers);
    for line in expected.lines() {
        let record = within_limit("a record", consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(line.as_bytes()), "at {}", record.offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_at_the_replica_that_is_left_and_then_at_the_leader_again() {
    let (mut cluster, places) = settled().await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let topic = client.consumer().topic(TOPIC).start(Start::Beginning).survivors(Duration::from_secs(1));
    // So little is pushed ahead that most is still to come.
    let mut consumer = topic.prefetch_bytes(1 << 10).item_bytes(1 << 10).build().await.unwrap();
    read(&mut consumer, 0..10).await;
    kill_both(&mut cluster, places);
    read(&mut consumer, 10..RECORDS).await;
    let told = consumer.take_survivors();
    let [(partition, Some(survivor))] = &told[..] else { panic!("{told:?}") };
    assert_eq!((partition.partition, survivor.broker.0, survivor.end), (PartitionId(0), places.left, Offset(RECORDS)));

    cluster.restart_all(&[places.leader, places.other]);
    cluster.wait_healed(TOPIC).await;
    produce(&cluster, &lines(RECORDS..RECORDS + 20), &[]).await;
    read(&mut consumer, RECORDS..RECORDS + 20).await;
    let told = consumer.take_survivors();
    assert!(matches!(&told[..], [(_, None)]), "by its leader again: {told:?}");
}

/// Whoever has read more under a later leader is not told that this is lost, but that it is not here.
async fn misses_nothing_of_what_another_leader_wrote(cluster: &Cluster, deposed: u32) {
    let mut connection = RawConnection::introduced(cluster.address(deposed)).await;
    let request = SubscribeRequest {
        topic_id: connection.topic_id(TOPIC).await,
        partition: PartitionId(0),
        position: Position::offset(Offset(RECORDS + 1)),
        leader_epoch: None,
        isolation: Isolation::ReadUncommitted,
        credit_bytes: 1 << 20,
        item_bytes_max: 1 << 20,
        last_epoch: Some(LeaderEpoch(1_000)),
        nearby: false,
        settled: true,
    };
    let asked = connection.ask(&request, &[]).await;
    let refused = RawConnection::told(&connection.answer(asked).await).expect_err("it does not have that");
    assert_eq!(refused.code, ErrorCode::NotLeader, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_replaced_and_is_all_that_can_be_reached_does_not_pass_off_its_end_as_that_of_the_log() {
    let name = "a_leader_that_was_replaced_and_is_all_that_can_be_reached_does_not_pass_off_its_end_as_that_of_the_log";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let (cluster, places) = settled_in(ClusterSettings::three().wiring(Wiring::Namespaces), "2").await;
    let deposed = End::Broker(places.leader);
    let others = [places.other, places.left].map(End::Broker);
    let from_others = cluster.network().cut(&others.map(|other| (deposed, other)));
    let _ = cluster.next_leader(TOPIC, 0, places.leader).await;
    produce(&cluster, "one more\n", &[]).await;
    let from_clients = cluster.network().cut(&others.map(|other| (other, End::Clients)));

    let _ = is_said_to_be_all_that_is_known(&cluster, places.leader).await;
    misses_nothing_of_what_another_leader_wrote(&cluster, places.leader).await;
    assert!(from_others.mend() > 0 && from_clients.mend() > 0, "nothing was cut");
    let read = tidelog(&cluster, &format!("consume {TOPIC} --until-end")).await.expect_code(0);
    assert_eq!(read.text(), lines(0..RECORDS) + "one more\n", "{}", read.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_goes_on_pushing_what_is_settled_and_tells_no_end() {
    let (mut cluster, places) = settled().await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let topic = || client.consumer().topic(TOPIC).start(Start::Beginning).prefetch_bytes(1 << 10).item_bytes(1 << 10);
    // Its end was told by a leader in office.
    let mut before = topic().until_end().build().await.unwrap();
    read(&mut before, 0..10).await;
    let mut killed = cluster.kill(places.other);
    killed.add(cluster.kill(places.left));
    killed.assert_happened();
    has_no_lease(&cluster, places.leader).await;
    let told = is_said_to_be_all_that_is_known(&cluster, places.leader).await;
    assert!(told.stderr.contains("a majority"), "{}", told.stderr);
    read(&mut before, 10..RECORDS).await;
    assert!(within_limit("the end", before.next()).await.is_none());
    let mut after = within_limit("a consumer", topic().build()).await.unwrap();
    read(&mut after, 0..RECORDS).await;
    assert_eq!((before.take_survivors(), after.take_survivors()), (Vec::new(), Vec::new()));
    let hasty = Client::builder().request_timeout(Duration::from_secs(3)).connect(&cluster.servers()).await.unwrap();
    let until_end = hasty.consumer().topic(TOPIC).start(Start::Beginning).until_end();
    let refused = within_limit("a refusal", until_end.build()).await.unwrap_err().to_string();
    assert!(refused.contains("has lost touch with the controller"), "{refused}");
}
