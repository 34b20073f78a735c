//! A broker whose data folder has lost files: what they held is missed, and nothing is served or founded in its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Offset};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Which files are lost, by their names.
type IsLost = fn(&str) -> bool;

fn remove_files(folder: &Path, is_lost: impl Fn(&str) -> bool) {
    let mut removed = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if is_lost(entry.file_name().to_str().unwrap()) {
            fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0, "nothing to lose in {folder:?}");
}

/// What becomes of one more record.
async fn produce(broker: &BrokerProcess, topic: &str) -> Result<Offset, tidelog_protocol::WireError> {
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id(topic).await;
    connection.produce(topic, &batch(&[b"value"], Compression::None)).await.map(|produced| produced.base_offset)
}

/// The first start after the topic was made, so that no epoch tells that its folder was there.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_its_log_is_not_served_as_an_empty_one() {
    for ending in ["killed", "closed"] {
        let mut broker = BrokerSettings::new().set("housekeeping_interval_ms", "50").start();
        for topic in ["lost", "kept"] {
            create_topic(&broker.server(), &NewTopic::named(topic).partitions(1)).await.unwrap();
            for number in 0..10 {
                assert_eq!(produce(&broker, topic).await.unwrap(), Offset(number));
            }
        }
        let noted = broker.data().join("high-watermarks");
        let both = [10_u64.to_be_bytes(), 10_u64.to_be_bytes()];
        let ends = || {
            let noted = fs::read(&noted).unwrap_or_default();
            noted.windows(8).filter(|bytes| both.iter().any(|end| bytes == end)).count()
        };
        wait_until("both ends to be noted", async || (ends() == 2).then_some(())).await;
        match ending {
            "killed" => broker.kill(),
            _ => assert!(broker.terminate().success()),
        }
        let (folder, aside) = (broker.data().join("lost-0"), broker.data().parent().unwrap().join("aside"));
        copy(&folder, &aside);
        let losses: [&dyn Fn(&str) -> bool; 4] = [
            &|name| name.ends_with(".log"),
            &|name| name.ends_with(".log") || name == "checkpoint",
            &|name| name != "identity",
            &|_| true,
        ];
        for (number, lost) in losses.into_iter().enumerate() {
            remove_files(&folder, lost);
            broker.restart();
            let refusal = produce(&broker, "lost").await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::OutOfService, "{ending}, loss {number}: {refusal}");
            for word in ["lost-0", "gone", "restore", "delete the topic"] {
                assert!(refusal.message.contains(word), "{ending}, loss {number}: {refusal}");
            }
            let ready = broker.http("/readyz");
            assert!(ready.body.contains("partitions"), "{}", ready.body);
            assert_eq!(produce(&broker, "kept").await.unwrap(), Offset(10 + number as u64));
            assert!(broker.terminate().success());
            copy(&aside, &folder);
        }
        broker.restart();
        assert_eq!(read_all(&broker.server(), "lost").await[0].records.len(), 10);
        assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(10));
        // As the error says: another way out.
        broker.kill();
        remove_files(&folder, |name| name.ends_with(".log"));
        broker.restart();
        let client = Client::connect(&broker.server()).await.unwrap();
        client.admin().delete_topic("lost").await.unwrap();
        create_topic(&broker.server(), &NewTopic::named("lost").partitions(1)).await.unwrap();
        assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_its_metadata_log_says_so_and_does_not_start() {
    for ending in ["killed", "closed"] {
        let mut broker = BrokerSettings::new().start();
        create_topic(&broker.server(), &NewTopic::named("kept").partitions(1)).await.unwrap();
        produce(&broker, "kept").await.unwrap();
        match ending {
            "killed" => broker.kill(),
            _ => assert!(broker.terminate().success()),
        }
        let folder = broker.data().join("__cluster_metadata-0");
        let aside = broker.data().parent().unwrap().join("aside");
        copy(&folder, &aside);
        let losses: [(IsLost, &str); 6] = [
            (|name| name.ends_with(".log"), "*.log"),
            (|name| name.ends_with(".log") || name == "checkpoint", "*.log"),
            (|name| name == "identity", "identity"),
            (|name| name != "vote", "*.log"),
            (|name| name == "vote", "vote"),
            (|_| true, "metadata"),
        ];
        for (lost, named) in losses {
            remove_files(&folder, lost);
            let refusal = broker.try_restart().unwrap_err();
            let sentence = refusal.sentence();
            assert_eq!(refusal.code, Some(1), "{ending}, {named}: {sentence}");
            assert!(!refusal.stderr.contains("panicked"), "{ending}, {named}: {}", refusal.stderr);
            for word in [named, "__cluster_metadata-0", "copy of the whole data folder"] {
                assert!(word == "__cluster_metadata-0" && named == "metadata" || sentence.contains(word), "{sentence}");
            }
            fs::remove_dir_all(&folder).unwrap();
            copy(&aside, &folder);
        }
        broker.restart();
        assert_eq!(produce(&broker, "kept").await.unwrap(), Offset(1));
    }
}

#[test]
fn no_other_cluster_is_founded_in_a_brokers_folder_whose_metadata_are_gone() {
    let mut broker = BrokerProcess::start();
    assert!(broker.terminate().success());
    fs::remove_dir_all(broker.data().join("__cluster_metadata-0")).unwrap();
    for _ in 0..2 {
        let refusal = broker.try_restart().unwrap_err();
        assert_eq!(refusal.code, Some(1), "{refusal:?}");
        assert!(refusal.sentence().contains("was a broker's before"), "{refusal:?}");
    }
}
