//! Three brokers in this process form one cluster by joining: any of them takes a change of metadata, the leader's loss is survived, a lost
//! majority is told, and who is not who he says he is stays outside.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_broker::config::{Advertise, OwnId, PathText};
use tidelog_broker::{Broker, Config, StartError};
use tidelog_client::{Client, NewTopic, Offset, PartitionId, RecordRef, Start};
use tidelog_protocol::messages::{
    AlterTopicRequest, BrokerStanding, ChangeVotersRequest, ConfigEntry, DescribeClusterRequest, DescribeTopicsRequest,
    HelloRequest, JoinClusterRequest, LogHealth, MetadataRequest, MetadataResponse, PeerHello, PingRequest, RaftBallot,
    RaftVoteRequest, VoterChange,
};
use tidelog_protocol::{BrokerId, ClusterId, ErrorCode, IncarnationId, WireError};
use tidelog_tests::cuttable_link::CuttableLink;
use tidelog_tests::loopback;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::RawConnection;

fn config(data: &Path, broker_id: u32, join: Option<&Broker>) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(data.join(format!("broker-{broker_id}"))),
        disk_free_min_bytes: 0,
        housekeeping_interval_ms: 100,
        broker_id: OwnId(Some(broker_id)),
        join: Advertise(join.map(|broker| (broker.address().ip().to_string(), broker.address().port()))),
        ..Config::default()
    }
}

/// A cluster of three voters.
struct Trio {
    folder: TempDir,
    brokers: Vec<Option<Broker>>,
    configs: Vec<Config>,
}

impl Trio {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut trio = Self { folder, brokers: Vec::new(), configs: Vec::new() };
        for id in 1..=3 {
            let join = trio.brokers.first().and_then(Option::as_ref);
            let config = config(trio.folder.path(), id, join);
            let broker = within_limit("a broker to join", Broker::start(config.clone())).await.unwrap();
            // A broker that starts again is found where it was.
            trio.configs.push(Config { listen: broker.address(), admin_listen: broker.admin_address(), ..config });
            trio.brokers.push(Some(broker));
        }
        for id in [2, 3] {
            change_voters(trio.broker(1), id, VoterChange::Promote).await.unwrap();
        }
        trio
    }

    fn broker(&self, id: u32) -> &Broker {
        self.brokers[id as usize - 1].as_ref().unwrap()
    }

    fn living(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().flatten()
    }

    async fn stop(&mut self, id: u32) {
        self.brokers[id as usize - 1].take().unwrap().shutdown().await.unwrap();
    }

    /// As `kill -9` would.
    fn kill(&mut self, id: u32) {
        drop(self.brokers[id as usize - 1].take());
    }

    async fn start_again(&mut self, id: u32) {
        let config = &self.configs[id as usize - 1];
        let broker = wait_until("a broker to start again", async || match Broker::start(config.clone()).await {
            Ok(broker) => Some(broker),
            // What was killed may still be letting go of them.
            Err(StartError::Listen { .. } | StartError::Data(_)) => None,
            Err(error) => panic!("{error}"),
        });
        self.brokers[id as usize - 1] = Some(broker.await);
    }
}

async fn metadata(broker: &Broker) -> MetadataResponse {
    let mut raw = RawConnection::introduced(broker.address()).await;
    raw.call(&MetadataRequest { topics: None }, &[]).await.unwrap()
}

async fn leader(broker: &Broker) -> u32 {
    wait_until("a leader of the quorum", async || metadata(broker).await.controller).await.0
}

async fn change_voters(broker: &Broker, id: u32, change: VoterChange) -> Result<usize, ErrorCode> {
    let request = ChangeVotersRequest { broker_id: BrokerId(id), change };
    // Right after a change of leader nobody may be there to decide.
    for _ in 0..100 {
        let mut raw = RawConnection::introduced(broker.address()).await;
        match raw.call(&request, &[]).await {
            Ok(changed) => return Ok(changed.membership.voters[0].members.len()),
            Err(error) if error.code == ErrorCode::NotController => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.code),
        }
    }
    Err(ErrorCode::NotController)
}

async fn create(broker: &Broker, name: &str) -> Result<(), String> {
    let client = Client::connect(&broker.address().to_string()).await.map_err(|error| error.to_string())?;
    let created = client.admin().create_topic(&NewTopic::named(name).partitions(3)).await;
    created.map(drop).map_err(|error| error.to_string())
}

async fn topics(broker: &Broker) -> Vec<String> {
    metadata(broker).await.topics.into_iter().map(|topic| topic.name.as_str().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_takes_a_change_and_every_broker_sees_it() {
    let mut trio = Trio::start().await;
    for id in 1..=3 {
        create(trio.broker(id), &format!("from-{id}")).await.unwrap();
        let seen = topics(trio.broker(id)).await;
        assert!(seen.contains(&format!("from-{id}")), "the answer comes when it can be seen there: {seen:?}");
    }
    for id in 1..=3 {
        wait_until("all topics everywhere", async || (topics(trio.broker(id)).await.len() == 3).then_some(())).await;
        assert_eq!(metadata(trio.broker(id)).await.brokers.len(), 3);
    }
    for id in 1..=3 {
        trio.stop(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_leader_gives_another_and_the_lost_one_comes_back() {
    let mut trio = Trio::start().await;
    create(trio.broker(2), "before").await.unwrap();
    for round in 0..3 {
        let led = leader(trio.living().next().unwrap()).await;
        trio.stop(led).await;
        let other = led % 3 + 1;
        let name = format!("round-{round}");
        wait_until("another leader", async || create(trio.broker(other), &name).await.ok()).await;
        assert_ne!(leader(trio.broker(other)).await, led);
        trio.start_again(led).await;
        let name = &name;
        wait_until("the topic at the one that came back", async || {
            topics(trio.broker(led)).await.contains(name).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_changes_are_refused_with_the_reason_and_reads_go_on() {
    let mut trio = Trio::start().await;
    create(trio.broker(1), "before").await.unwrap();
    wait_until("the topic everywhere", async || {
        topics(trio.broker(1)).await.contains(&"before".to_string()).then_some(())
    })
    .await;
    trio.stop(2).await;
    trio.stop(3).await;
    let refused = wait_until("a refusal", async || create(trio.broker(1), "without").await.err()).await;
    assert!(refused.contains("majority") || refused.contains("unknown"), "{refused}");
    assert!(topics(trio.broker(1)).await.contains(&"before".to_string()));
    trio.start_again(2).await;
    wait_until("a change with the majority back", async || create(trio.broker(1), "after").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_without_a_majority_serves_what_it_has_and_takes_nothing() {
    let mut trio = Trio::start().await;
    let client = Client::connect(&trio.broker(1).address().to_string()).await.unwrap();
    let topic = NewTopic::named("settled").replication_factor(3).config("min.insync.replicas", "2");
    client.admin().create_topic(&topic).await.unwrap();
    let sender = client.producer().build().unwrap();
    let producer = sender.topic("settled").await.unwrap();
    for value in ["one", "two", "three"] {
        producer.send(None, value.as_bytes()).await.unwrap().await.unwrap();
    }
    let leads = |metadata: &MetadataResponse| metadata.topics[0].partitions[0].leader.map(|leader| leader.0);
    let led = wait_until("a leader", async || leads(&metadata(trio.broker(1)).await)).await;
    // Noted now and then: the last eight bytes are the watermark of the only partition.
    let noted = trio.folder.path().join(format!("broker-{led}/high-watermarks"));
    wait_until("the watermark to be noted", async || {
        std::fs::read(&noted).ok().filter(|bytes| bytes.ends_with(&3u64.to_be_bytes())).map(drop)
    })
    .await;
    // Nobody takes over from the last one.
    for id in (1..=3).filter(|id| *id != led) {
        trio.kill(id);
    }
    trio.kill(led);
    trio.start_again(led).await;
    let read = Client::connect(&trio.broker(led).address().to_string()).await.unwrap();
    let mut consumer = read.consumer().topic("settled").start(Start::Beginning).build().await.unwrap();
    for value in ["one", "two", "three"] {
        let record = within_limit("a settled record", consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
    }
    let hasty = read.producer().delivery_timeout(Duration::from_secs(1)).build().unwrap();
    let refused = hasty.topic("settled").await.unwrap().send(None, b"four").await.unwrap().await.unwrap_err();
    let says = |why| refused.to_string().contains(why);
    // It may have no producer ids left to give out, either, and learn of that from the controller that it still asks.
    let reasons = ["lost touch with the controller", "no broker runs the controller", "the controller has not decided"];
    assert!(reasons.into_iter().any(says), "{refused}");
    let other = led % 3 + 1;
    trio.start_again(other).await;
    let sender = read.producer().build().unwrap();
    let producer = sender.topic("settled").await.unwrap();
    within_limit("a send with a majority", producer.send(None, b"five").await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described_as_their_leaders_see_them_whoever_is_asked() {
    let trio = Trio::start().await;
    let client = Client::connect(&trio.broker(2).address().to_string()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("spread").partitions(3).replication_factor(1)).await.unwrap();
    let sender = client.producer().build().unwrap();
    let producer = sender.topic("spread").await.unwrap();
    for partition in 0..3 {
        let record = RecordRef { partition: Some(PartitionId(partition)), ..RecordRef::new(None, b"value") };
        producer.send_record(&record).await.unwrap().await.unwrap();
    }
    let [topic] = &client.admin().describe_topics(&["spread"]).await.unwrap()[..] else { panic!("one topic") };
    let leaders: BTreeSet<_> = topic.partitions.iter().map(|partition| partition.leader).collect();
    assert_eq!(leaders.len(), 3, "each broker leads one: {leaders:?}");
    for partition in &topic.partitions {
        assert_eq!((partition.health, partition.high_watermark), (LogHealth::Healthy, Offset(1)), "{partition:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_are_promoted_demoted_and_removed_but_not_the_last() {
    let trio = Trio::start().await;
    assert_eq!(change_voters(trio.broker(3), 3, VoterChange::Promote).await, Ok(3), "what is so stays so");
    assert_eq!(change_voters(trio.broker(2), 9, VoterChange::Promote).await, Err(ErrorCode::UnknownBroker));
    assert_eq!(change_voters(trio.broker(1), 3, VoterChange::Demote).await, Ok(2));
    assert_eq!(change_voters(trio.broker(1), 3, VoterChange::Remove).await, Ok(2));
    let led = leader(trio.broker(1)).await;
    let other = if led == 1 { 2 } else { 1 };
    assert_eq!(change_voters(trio.broker(other), led, VoterChange::Demote).await, Ok(1), "the leader hands over");
    assert_eq!(change_voters(trio.broker(other), other, VoterChange::Demote).await, Err(ErrorCode::InvalidVoters));
    assert_eq!(change_voters(trio.broker(other), other, VoterChange::Remove).await, Err(ErrorCode::InvalidVoters));
    create(trio.broker(led), "by-one-voter").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_id_that_is_there_is_not_given_again_and_joining_twice_changes_nothing() {
    let mut trio = Trio::start().await;
    let twin = Config {
        data: PathText(trio.folder.path().join("twin")),
        ..config(trio.folder.path(), 2, Some(trio.broker(1)))
    };
    let refused = within_limit("a refusal", Broker::start(twin)).await.unwrap_err().to_string();
    assert!(refused.contains("is there at"), "{refused}");
    trio.stop(2).await;
    trio.start_again(2).await;
    let mut raw = RawConnection::introduced(trio.broker(1).address()).await;
    let described = raw.call(&MetadataRequest { topics: None }, &[]).await.unwrap();
    assert_eq!(described.brokers.len(), 3);
}

/// A way that is cut is no proof that nobody is at its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_life_that_does_not_answer_is_given_up_only_once_its_lease_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let first = Broker::start(config(folder.path(), 1, None)).await.unwrap();
    let link = CuttableLink::open().await;
    let listen = std::net::TcpListener::bind(loopback::fresh()).unwrap().local_addr().unwrap();
    link.lead_to(listen);
    let advertise = Advertise(Some((link.address().ip().to_string(), link.address().port())));
    let earlier = Config { listen, advertise, ..config(folder.path(), 2, Some(&first)) };
    let earlier = within_limit("a broker to join", Broker::start(earlier)).await.unwrap();
    let described = async || {
        let mut raw = RawConnection::introduced(first.address()).await;
        let mut described = raw.call(&DescribeClusterRequest {}, &[]).await.unwrap();
        (described.cluster_id, described.brokers.remove(1))
    };
    let (cluster_id, before) = described().await;
    // Heartbeats go another way.
    tokio::task::block_in_place(|| link.cut());
    let mut raw = RawConnection::introduced(first.address()).await;
    let (broker_id, incarnation) = (BrokerId(2), IncarnationId([7; 16]));
    let join = JoinClusterRequest { cluster_id, broker_id, incarnation, host: "127.0.0.1".into(), port: 1 };
    for _ in 0..2 {
        let refused = raw.call(&join, &[]).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded, "{refused}");
        assert!(refused.message.contains("its lease has not ended") && refused.retry_after_ms > 0, "{refused}");
    }
    assert_eq!(described().await.1.standing, BrokerStanding::Serving);

    // Nobody hears of it any more: another life takes its place as soon as that is sure.
    drop(earlier);
    let later = Config { data: PathText(folder.path().join("later")), ..config(folder.path(), 2, Some(&first)) };
    let later = within_limit("another life to join", Broker::start(later)).await.unwrap();
    let (_, after) = described().await;
    assert_ne!((after.incarnation, after.port), (before.incarnation, before.port));
    assert_eq!(after.port, later.address().port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_joins_long_after_gets_the_metadata_by_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let first = Broker::start(config(folder.path(), 1, None)).await.unwrap();
    create(&first, "topic").await.unwrap();
    let mut raw = RawConnection::introduced(first.address()).await;
    let purged = folder.path().join("broker-1/__cluster_metadata-0/purged");
    let mut changes = 0_u64;
    while !purged.exists() {
        changes += 1;
        assert!(changes < 20_000, "the log of the metadata is never purged");
        let set = vec![ConfigEntry { key: "retention.ms".into(), value: (1_000 + changes).to_string() }];
        raw.call(&AlterTopicRequest { name: "topic".into(), set, reset: vec![] }, &[]).await.unwrap();
    }
    let second = within_limit("a broker to join", Broker::start(config(folder.path(), 2, Some(&first)))).await.unwrap();
    assert!(folder.path().join("broker-2/__cluster_metadata-0/snapshot").exists());
    let mut raw = RawConnection::introduced(second.address()).await;
    let described = raw.call(&DescribeTopicsRequest { topics: None }, &[]).await.unwrap();
    let retention = described.topics[0].configs.iter().find(|config| config.key == "retention.ms").unwrap();
    assert_eq!(retention.value, (1_000 + changes).to_string());
    create(&second, "another").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_cluster_is_refused() {
    let trio = Trio::start().await;
    let folder = tempfile::tempdir().unwrap();
    let own = Broker::start(config(folder.path(), 4, None)).await.unwrap();
    own.shutdown().await.unwrap();
    let refused = within_limit("a refusal", Broker::start(config(folder.path(), 4, Some(trio.broker(1))))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("belongs to cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_who_should_be_there_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), 1, None)).await.unwrap();
    let mut plain = RawConnection::introduced(broker.address()).await;
    let cluster_id = plain.call(&MetadataRequest { topics: None }, &[]).await.unwrap().cluster_id;
    let peer = PeerHello {
        cluster_id,
        broker_id: BrokerId(7),
        incarnation: IncarnationId([7; 16]),
        expects: Some(BrokerId(1)),
    };
    let hello = |peer: PeerHello| HelloRequest { client_id: String::new(), software: String::new(), peer: Some(peer) };
    let strangers = [
        PeerHello { cluster_id: ClusterId([9; 16]), ..peer.clone() },
        PeerHello { expects: Some(BrokerId(2)), ..peer.clone() },
        PeerHello { broker_id: BrokerId(1), ..peer.clone() },
    ];
    for stranger in strangers {
        let mut raw = RawConnection::prefaced(broker.address()).await;
        let error = raw.call(&hello(stranger), &[]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::WrongPeer, "{error}");
    }
    // Who is no broker has no say in the quorum; who is one speaks for itself alone.
    let ballot = RaftBallot { term: 99, member: None, elected: true };
    let vote = RaftVoteRequest { ballot, last: None };
    assert_eq!(plain.call(&vote, &[]).await.unwrap_err().code, ErrorCode::Unsupported);
    let mut raw = RawConnection::prefaced(broker.address()).await;
    raw.call(&hello(peer), &[]).await.unwrap();
    assert_eq!(raw.call(&vote, &[]).await.unwrap_err().code, ErrorCode::WrongPeer);
    raw.call(&PingRequest {}, &[]).await.unwrap();
    raw.call(&DescribeTopicsRequest { topics: None }, &[]).await.unwrap();
    broker.shutdown().await.unwrap();
}

async fn refused_change(broker: &Broker, id: u32, change: VoterChange) -> WireError {
    let request = ChangeVotersRequest { broker_id: BrokerId(id), change };
    let mut raw = RawConnection::introduced(broker.address()).await;
    raw.call(&request, &[]).await.unwrap_err()
}

async fn voters(broker: &Broker) -> (Vec<BrokerId>, Vec<BrokerId>) {
    let mut raw = RawConnection::introduced(broker.address()).await;
    let described = raw.call(&DescribeClusterRequest {}, &[]).await.unwrap();
    (described.voters, described.next_voters)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_given_no_vote() {
    let folder = tempfile::tempdir().unwrap();
    let first = Broker::start(config(folder.path(), 1, None)).await.unwrap();
    let second = config(folder.path(), 2, Some(&first));
    let second = within_limit("a broker to join", Broker::start(second)).await.unwrap();
    drop(second);
    // At once, while its lease still holds, and when it has ended.
    for _ in 0..2 {
        let refused = refused_change(&first, 2, VoterChange::Promote).await;
        assert_eq!(refused.code, ErrorCode::InvalidVoters, "{refused}");
        assert!(refused.message.contains("nothing was changed"), "{refused}");
        assert_eq!(voters(&first).await, (vec![BrokerId(1)], vec![]), "nothing is half done");
    }
    create(&first, "afterwards").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_voter_is_demoted_where_those_that_stay_are_no_majority() {
    let mut trio = Trio::start().await;
    let led = leader(trio.broker(1)).await;
    let (dead, live) = (led % 3 + 1, (led + 1) % 3 + 1);
    trio.kill(dead);
    let refused = refused_change(trio.broker(led), live, VoterChange::Demote).await;
    assert_eq!(refused.code, ErrorCode::NoQuorum, "{refused}");
    assert!(refused.message.contains(&format!("bring back broker {dead}")), "{refused}");
    let (voting, next) = voters(trio.broker(led)).await;
    assert_eq!((voting.len(), next.len()), (3, 0), "nothing is half done");
    create(trio.broker(led), "afterwards").await.unwrap();
    // The one that is not there may go.
    assert_eq!(change_voters(trio.broker(led), dead, VoterChange::Demote).await, Ok(2));
    create(trio.broker(live), "of-two").await.unwrap();
}
