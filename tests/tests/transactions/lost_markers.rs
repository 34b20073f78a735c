//! The marker of a transaction is lost where it was written, as damage or an unclean election loses it: readers of what is committed get on all the
//! same, with what was decided, and the producer need not do anything.

use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_log::{FlusherHandle, Identity, Log, LogOptions, OsDisk, SegmentOptions, Unheard};
use tidelog_protocol::messages::{CommittedOffset, TransactionState};
use tidelog_protocol::{Offset, PartitionId, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::cluster::sight::metadata;
use tidelog_tests::contents::{read_all, read_around_damage};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_transactions::{RawProducer, ends, nothing_open, shard_of};

/// Takes the last batch from a log that nobody has open, and the note that would tell of the loss: where the log ends now.
fn cut_last(data: &Path, partition: &str) -> Offset {
    std::fs::remove_file(data.join("high-watermarks")).unwrap();
    let folder = &data.join(partition);
    let disk = OsDisk::shared();
    let options = LogOptions {
        dir: folder.to_owned(),
        identity: Identity::read(&*disk, folder).unwrap(),
        disk,
        segment: SegmentOptions::default(),
        flusher: FlusherHandle::detached(),
        listener: std::sync::Arc::new(Unheard),
    };
    let (mut log, _) = Log::open(options).unwrap();
    let last = Offset(log.end().0 - 1);
    let end = log.truncate_to(last).unwrap();
    log.close().unwrap();
    end
}

async fn topic(broker: &BrokerProcess) -> TopicId {
    let client = Client::connect(&broker.server()).await.unwrap();
    // Its records are as old as their timestamps say.
    client.admin().create_topic(&NewTopic::named("orders").config("retention.ms", "-1")).await.unwrap();
    let known = metadata(broker.address()).await.unwrap();
    known.topics.iter().find(|topic| topic.name.as_str() == "orders").unwrap().topic_id
}

/// Waits until the first transaction of an id has ended, and its coordinator has stored that: else it would write the marker itself.
async fn ended(producer: &RawProducer) {
    wait_until("the marker", async || (producer.describe().await.state == TransactionState::Empty).then_some(())).await;
    let known = metadata(producer.addresses[0]).await.unwrap();
    let kept_in = known.topics.iter().find(|topic| topic.name.as_str() == "__transactions").unwrap().topic_id;
    // Who it is, that it is open, that it is committed, that the markers stand.
    wait_until("the last record of the transaction", async || {
        let (_, end) = ends(&producer.addresses, kept_in, shard_of(&producer.id)).await;
        (end == Offset(4)).then_some(())
    })
    .await;
}

/// Waits until one marker was written again, and no more were: it is counted a moment after it can be seen.
async fn one_restored(broker: &BrokerProcess) {
    wait_until("the marker to be counted", async || (restored(broker) > 0).then_some(())).await;
    assert_eq!(restored(broker), 1);
}

fn restored(broker: &BrokerProcess) -> u64 {
    let body = broker.http("/metrics").body;
    let name = "tidelog_transaction_markers_restored_total ";
    body.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

async fn goes_on_without_its_marker(commit: bool, seen: &[&str]) {
    let mut broker = BrokerSettings::new().start();
    let topic = topic(&broker).await;
    let addresses = [broker.address()];
    let mut producer = RawProducer::begin(&addresses, "payments", 60_000).await;
    producer.send((topic, 0), 0, &["one", "two"]).await.unwrap();
    producer.end(commit).await.unwrap();
    ended(&producer).await;
    assert!(broker.terminate().success());
    assert_eq!(cut_last(broker.data(), "orders-0"), Offset(2), "the marker is lost, and nothing else");
    broker.restart();
    let (stable, end) = ends(&addresses, topic, 0).await;
    // Else somebody was very fast, and has done it.
    if restored(&broker) == 0 {
        assert_eq!((stable, end), (Offset(0), Offset(2)), "the transaction is open again");
    }
    nothing_open(&addresses, topic, 0).await;
    one_restored(&broker).await;
    let said = "the marker of a transaction was lost here, and is written again";
    wait_until("what the broker says of it", async || (broker.log_lines(said).len() == 1).then_some(())).await;
    let values: Vec<String> =
        read_all(&broker.server(), "orders").await.remove(0).records.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, seen, "as it was decided");
    // The producer knows nothing of it, and goes on.
    producer.send((topic, 0), 0, &["three"]).await.unwrap();
    producer.end(true).await.unwrap();
    nothing_open(&addresses, topic, 0).await;
    assert_eq!(read_all(&broker.server(), "orders").await[0].records.last().unwrap().1, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_transaction_whose_marker_was_lost_is_read() {
    goes_on_without_its_marker(true, &["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_whose_marker_was_lost_holds_up_nobody() {
    goes_on_without_its_marker(false, &[]).await;
}

/// The same where the loss is noted, and there is no other replica: where the marker was, nothing can be read any more.
async fn goes_on_around_the_hole_where_its_marker_was(commit: bool, seen: &[&str]) {
    let mut broker = BrokerSettings::new().start();
    let topic = topic(&broker).await;
    let addresses = [broker.address()];
    let mut producer = RawProducer::begin(&addresses, "payments", 60_000).await;
    producer.send((topic, 0), 0, &["one", "two"]).await.unwrap();
    producer.end(commit).await.unwrap();
    ended(&producer).await;
    assert!(broker.terminate().success());
    let noted = std::fs::read(broker.data().join("high-watermarks")).unwrap();
    assert_eq!(cut_last(broker.data(), "orders-0"), Offset(2), "the marker is lost, and nothing else");
    std::fs::write(broker.data().join("high-watermarks"), noted).unwrap();
    broker.restart();
    let (stable, end) = ends(&addresses, topic, 0).await;
    // Else somebody was very fast, and has done it.
    if restored(&broker) == 0 {
        assert_eq!(
            (stable, end),
            (Offset(0), Offset(3)),
            "the transaction is open again, and what is lost is not written over"
        );
    }
    nothing_open(&addresses, topic, 0).await;
    one_restored(&broker).await;
    let server = broker.server();
    let read = async || {
        let contents = read_around_damage(&server, "orders").await.remove(0);
        let values: Vec<String> = contents.records.into_iter().map(|(_, value)| value).collect();
        (values, format!("{:?}", contents.damaged))
    };
    let expected = (seen.iter().map(ToString::to_string).collect(), "[2..3]".to_owned());
    assert_eq!(read().await, expected, "as it was decided");
    broker.kill();
    broker.restart();
    assert_eq!(read().await, expected, "after a crash");
    producer.send((topic, 0), 0, &["three"]).await.unwrap();
    producer.end(true).await.unwrap();
    nothing_open(&addresses, topic, 0).await;
    let (values, damaged) = read().await;
    assert_eq!((values.last().unwrap().as_str(), values.len(), damaged), ("three", seen.len() + 1, expected.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_transaction_whose_marker_lies_in_a_hole_is_read_around_it() {
    goes_on_around_the_hole_where_its_marker_was(true, &["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_whose_marker_lies_in_a_hole_holds_up_nobody() {
    goes_on_around_the_hole_where_its_marker_was(false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_whose_marker_was_lost_in_the_group_count_as_the_transaction_was_committed() {
    const GROUP: &str = "readers";
    let mut broker = BrokerSettings::new().start();
    let topic = topic(&broker).await;
    let addresses = [broker.address()];
    let mut producer = RawProducer::begin(&addresses, "payments", 60_000).await;
    let offset = CommittedOffset {
        topic_id: topic,
        partition: PartitionId(0),
        offset: Offset(7),
        leader_epoch: None,
        metadata: String::new(),
    };
    producer.commit_offsets(GROUP, vec![offset]).await.unwrap();
    producer.end(true).await.unwrap();
    ended(&producer).await;
    let committed = async |broker: &BrokerProcess| {
        let client = Client::connect(&broker.server()).await.unwrap();
        client.admin().group_offsets(GROUP).await.unwrap().iter().map(|known| known.offset.0).collect::<Vec<_>>()
    };
    assert_eq!(committed(&broker).await, [7]);
    assert!(broker.terminate().success());
    let home = format!("__groups-{}", shard_of(GROUP));
    let _ = cut_last(broker.data(), &home);
    broker.restart();
    let after = committed(&broker).await;
    if restored(&broker) == 0 {
        assert_eq!(after, [] as [u64; 0], "it is pending again");
    }
    wait_until("the offset to count", async || (committed(&broker).await == [7]).then_some(())).await;
    one_restored(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_open_for_long_is_left_alone() {
    let broker = BrokerSettings::new().start();
    let topic = topic(&broker).await;
    let addresses = [broker.address()];
    let mut producer = RawProducer::begin(&addresses, "payments", 600_000).await;
    producer.send((topic, 0), 0, &["one"]).await.unwrap();
    // Long enough for the log's clock to have it asked about.
    wait_until("a question about it", async || {
        let body = broker.http("/metrics").body;
        let name = "tidelog_transaction_fates_asked_total ";
        let asked: u64 = body.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap();
        (asked >= 2).then_some(())
    })
    .await;
    assert_eq!(ends(&addresses, topic, 0).await, (Offset(0), Offset(1)), "it is open still");
    producer.send((topic, 0), 1, &["two"]).await.unwrap();
    producer.end(true).await.unwrap();
    nothing_open(&addresses, topic, 0).await;
    assert_eq!(restored(&broker), 0);
    assert_eq!(read_all(&broker.server(), "orders").await[0].records.len(), 2);
}
