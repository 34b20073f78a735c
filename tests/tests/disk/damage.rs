//! Damage in a log that a reader comes upon: the operator is told as well. Damage beside a log: what was deleted stays so.

use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Offset, PartitionId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::contents::{read_all, read_around_damage};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

/// A broker with ten batches in a log of which `place` bytes behind the start is damaged, that was closed cleanly and has a scrub that
/// comes to nothing.
async fn damaged_at(place: usize) -> BrokerProcess {
    let quiet = BrokerSettings::new().set("scrub_bytes_per_second", "0").set("housekeeping_interval_ms", "50");
    let mut broker = quiet.start();
    create_topic(&broker.server(), &NewTopic::named("rotten").partitions(1)).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("rotten").await;
    for _ in 0..10 {
        connection.produce(topic, &batch(&[&[b'x'; 1_000]], Compression::None)).await.unwrap();
    }
    assert!(broker.terminate().success());
    let file = broker.data().join("rotten-0").join("00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[place] ^= 1;
    std::fs::write(file, bytes).unwrap();
    broker.restart();
    assert_eq!(broker.log_lines("damaged").len(), 0, "nobody has come upon it");
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_reader_comes_upon_is_told_once_and_seen_where_operators_look() {
    let broker = damaged_at(3_500).await;
    for _ in 0..3 {
        let contents = read_around_damage(&broker.server(), "rotten").await;
        assert!(matches!(&contents[0].damaged[..], [range] if *range == (3..4)), "{contents:?}");
    }
    // At once, not at the next look.
    let told = broker.log_lines("damaged");
    assert_eq!(told.len(), 1, "{told:?}");
    let line = &told[0];
    assert_eq!(
        (line["level"].as_str(), line["from"].as_str(), line["to"].as_str()),
        (Some("WARN"), Some("3"), Some("4"))
    );
    assert!(line["log"].as_str().unwrap().ends_with("rotten-0"), "{line}");
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 200, "the rest is served");
    assert!(ready.body.contains("warn  partitions: 1 partition with a damaged range"), "{}", ready.body);
    let metric = "tidelog_partitions_corrupt 1\n";
    wait_until("the metric", async || broker.http("/metrics").body.contains(metric).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_any_byte_of_a_batch_is_told() {
    // Offset, length, epoch, magic, checksum, attributes, count, and a record: each where the fourth batch has it.
    for byte in [0, 7, 8, 11, 12, 16, 17, 21, 23, 57, 61, 500] {
        let broker = damaged_at(first_byte_of_fourth() + byte).await;
        let contents = read_around_damage(&broker.server(), "rotten").await;
        let served = contents[0].records.len();
        if served < 10 {
            assert_eq!(broker.log_lines("damaged").len(), 1, "byte {byte}: {served} records are served");
        }
    }
}

fn first_byte_of_fourth() -> usize {
    3 * batch(&[&[b'x'; 1_000]], Compression::None).len()
}

/// Ten records in a topic, of which seven are deleted.
async fn delete_seven_of_ten(servers: &str) {
    create_topic(servers, &NewTopic::named("kept").partitions(1)).await.unwrap();
    let client = Client::connect(servers).await.unwrap();
    let producer = client.producer().build().unwrap();
    for number in 0..10 {
        let record = tidelog_client::Record::to("kept").value(format!("{number}"));
        producer.send(record).await.unwrap().await.unwrap();
    }
    let start = client.admin().delete_records("kept", PartitionId(0), Some(Offset(7))).await.unwrap();
    assert_eq!(start, Offset(7));
}

async fn values(servers: &str) -> Vec<String> {
    read_all(servers, "kept").await.remove(0).records.into_iter().map(|(_, value)| value).collect()
}

/// Damages one of the files of the topic's partition in a data folder.
fn damage(data: &Path, name: &str) {
    let file = data.join("kept-0").join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[16] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_stay_so_where_the_checkpoint_is_damaged_and_the_loss_of_both_files_is_told() {
    for ending in ["killed", "closed"] {
        let mut broker = BrokerSettings::new().start();
        delete_seven_of_ten(&broker.server()).await;
        let end = |broker: &mut BrokerProcess| match ending {
            "killed" => broker.kill(),
            _ => assert!(broker.terminate().success()),
        };
        end(&mut broker);
        damage(broker.data(), "checkpoint");
        broker.restart();
        assert_eq!(values(&broker.server()).await, ["7", "8", "9"], "{ending}");
        assert_eq!(broker.log_lines("nothing tells where the log begins").len(), 0, "{ending}");
        let told = broker.log_lines("the checkpoint is lost");
        assert_eq!(told.len(), 1, "{ending}: {}", broker.log_text());
        assert_eq!(told[0]["level"].as_str(), Some("WARN"), "{ending}");
        // Written anew by then or not, it is damaged again, and so is what stands in for it.
        end(&mut broker);
        damage(broker.data(), "checkpoint");
        damage(broker.data(), "log-start");
        broker.restart();
        let told = broker.log_lines("nothing tells where the log begins");
        assert_eq!(told.len(), 1, "{ending}: {}", broker.log_text());
        assert_eq!(told[0]["level"].as_str(), Some("WARN"), "{ending}");
        end(&mut broker);
        for name in ["checkpoint", "log-start"] {
            match std::fs::remove_file(broker.data().join("kept-0").join(name)) {
                // A log that begins with its first segment again has no note of it.
                Err(error) if name == "log-start" => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                removed => removed.unwrap(),
            }
        }
        broker.restart();
        assert_eq!(broker.log_lines("nothing tells where the log begins").len(), 1, "{}", broker.log_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_killed_young_has_lost_nothing_and_nothing_is_told_of_it() {
    let mut broker = BrokerSettings::new().start();
    create_topic(&broker.server(), &NewTopic::named("kept").partitions(4)).await.unwrap();
    let client = Client::connect(&broker.server()).await.unwrap();
    let producer = client.producer().build().unwrap();
    let record = tidelog_client::Record::to("kept").value("value").partition(PartitionId(2));
    producer.send(record).await.unwrap().await.unwrap();
    broker.kill();
    broker.restart();
    for word in ["nothing tells", "is lost", "damaged", "gone"] {
        assert_eq!(broker.log_lines(word).len(), 0, "{}", broker.log_text());
    }
    assert_eq!(read_all(&broker.server(), "kept").await[2].records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_told_where_the_log_begins_knows_it_without_its_checkpoint() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    delete_seven_of_ten(&cluster.servers()).await;
    for id in 1..=3 {
        let note = cluster.data(id).join("kept-0/log-start");
        wait_until("every replica to note it", async || note.exists().then_some(())).await;
    }
    (1..=3).for_each(|id| drop(cluster.kill(id)));
    (1..=3).for_each(|id| damage(&cluster.data(id), "checkpoint"));
    cluster.restart_all(&[1, 2, 3]);
    // A leader may not know at first how far the others are, and gives out less; never more.
    wait_until("what was not deleted to be read", async || {
        let found = values(&cluster.servers()).await;
        assert!(["7", "8", "9"].starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>()), "{found:?}");
        (found.len() == 3).then_some(())
    })
    .await;
}
