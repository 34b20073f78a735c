//! A broker whose data folder has lost files: what they held is missed, and nothing is served or founded in its place.

use std::fs;
use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Offset};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::contents::{read_all, read_around_damage};
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

/// Of a broker that notes nothing by itself before it ends.
fn silent() -> BrokerSettings {
    BrokerSettings::new().set("housekeeping_interval_ms", "3600000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_lost_in_the_first_life_of_its_topic_is_missed_with_the_note_of_watermarks_and_without() {
    for (ending, note) in [("killed", "kept"), ("killed", "lost"), ("closed", "lost"), ("killed", "rotten")] {
        let mut broker = silent().start();
        for topic in ["lost", "kept"] {
            create_topic(&broker.server(), &NewTopic::named(topic).partitions(1)).await.unwrap();
            assert_eq!(produce(&broker, topic).await.unwrap(), Offset(0));
        }
        match ending {
            "killed" => broker.kill(),
            _ => assert!(broker.terminate().success()),
        }
        fs::remove_dir_all(broker.data().join("lost-0")).unwrap();
        let file = broker.data().join("high-watermarks");
        match note {
            "kept" => assert!(file.exists(), "noted when the folders were made"),
            "lost" => fs::remove_file(&file).unwrap(),
            _ => fs::write(&file, b"rot").unwrap(),
        }
        for life in 0..3 {
            broker.restart();
            let refusal = produce(&broker, "lost").await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::OutOfService, "{ending}, {note}, {life}: {refusal}");
            for word in ["lost-0", "gone", "restore", "delete the topic"] {
                assert!(refusal.message.contains(word), "{ending}, {note}, {life}: {refusal}");
            }
            let told = broker.log_lines("how far partitions were settled is not known");
            assert_eq!(told.len(), usize::from(note != "kept" && life == 0), "{note}, {life}: {}", broker.log_text());
            assert_eq!(produce(&broker, "kept").await.unwrap(), Offset(life + 1), "{ending}, {note}");
            // What is new is made all the same.
            let new = format!("new-{life}");
            create_topic(&broker.server(), &NewTopic::named(&new).partitions(1)).await.unwrap();
            assert_eq!(produce(&broker, &new).await.unwrap(), Offset(0));
            if life == 1 {
                assert!(broker.terminate().success());
            } else {
                broker.kill();
            }
        }
    }
}

/// As the folders of earlier releases that ended before they noted anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_the_note_of_watermarks_is_served_if_nothing_else_is_gone() {
    let mut broker = silent().start();
    create_topic(&broker.server(), &NewTopic::named("kept").partitions(2)).await.unwrap();
    produce(&broker, "kept").await.unwrap();
    broker.kill();
    fs::remove_file(broker.data().join("high-watermarks")).unwrap();
    for expected in [1, 0] {
        broker.restart();
        let told = broker.log_lines("how far partitions were settled is not known");
        assert_eq!(told.len(), expected, "{}", broker.log_text());
        assert_eq!(produce(&broker, "kept").await.unwrap(), Offset(2 - expected as u64));
        assert!(broker.terminate().success());
    }
}

/// A broker with twenty records in several segments of one partition, all of them noted; and the base of its last segment.
async fn with_segments() -> (BrokerProcess, u64) {
    let broker = BrokerSettings::new().set("housekeeping_interval_ms", "50").start();
    let topic = NewTopic::named("lost").partitions(1);
    let topic = topic.config("segment.bytes", "65536").config("max.message.bytes", "32768");
    // The batches are old.
    let topic = topic.config("retention.ms", "-1");
    create_topic(&broker.server(), &topic).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("lost").await;
    for _ in 0..20 {
        connection.produce(topic, &batch(&[&[b'x'; 20_000]], Compression::None)).await.unwrap();
    }
    wait_until_said(&broker.data().join("high-watermarks"), 20).await;
    let last = last_segment(&broker.data().join("lost-0"));
    assert!(0 < last && last < 20, "{last}");
    (broker, last)
}

/// Until the file has so large a number in it.
async fn wait_until_said(file: &Path, number: u64) {
    let said = || fs::read(file).unwrap_or_default().windows(8).any(|bytes| bytes == number.to_be_bytes());
    wait_until("a number to be written down", async || said().then_some(())).await;
}

fn last_segment(folder: &Path) -> u64 {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".log").map(|base| base.parse().unwrap())).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_segment_that_is_lost_with_the_checkpoint_is_missed_and_its_offsets_are_not_given_out_again() {
    for ending in ["killed", "closed"] {
        let (mut broker, last) = with_segments().await;
        match ending {
            "killed" => broker.kill(),
            _ => assert!(broker.terminate().success()),
        }
        let segment = format!("{last:020}.log");
        remove_files(&broker.data().join("lost-0"), |name| name == segment || name == "checkpoint");
        broker.restart();
        let told = broker.log_lines("damaged: this range is lost here");
        assert_eq!(told.len(), 1, "{ending}: {}", broker.log_text());
        assert_eq!((told[0]["from"].as_str(), told[0]["to"].as_str()), (Some(&*last.to_string()), Some("20")));
        assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(20), "{ending}");
        let contents = read_around_damage(&broker.server(), "lost").await.remove(0);
        assert_eq!(contents.records.len() as u64, last + 1, "{ending}");
        assert!(matches!(&contents.damaged[..], [range] if *range == (last..20)), "{ending}: {contents:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_last_segment_is_gone_or_cut_short_is_not_served_until_the_operator_accepts_it() {
    for how in ["is gone", "was cut short"] {
        let (mut broker, last) = with_segments().await;
        let folder = broker.data().join("lost-0");
        broker.kill();
        // What recovery found out is in a checkpoint soon.
        fs::remove_file(folder.join("checkpoint")).unwrap();
        broker.restart();
        wait_until_said(&folder.join("checkpoint"), 20).await;
        broker.kill();
        let segment = format!("{last:020}.log");
        match how {
            "is gone" => remove_files(&folder, |name| name == segment),
            _ => cut_short(&folder.join(&segment)),
        }
        for _ in 0..2 {
            broker.restart();
            let refusal = produce(&broker, "lost").await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::OutOfService, "{refusal}");
            for word in [&*segment, how, "restore", "checkpoint"] {
                assert!(refusal.message.contains(word), "{word}: {refusal}");
            }
            broker.kill();
        }
        // As the error says.
        fs::remove_file(folder.join("checkpoint")).unwrap();
        broker.restart();
        assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(20), "what was noted is not given out again");
        let contents = read_around_damage(&broker.server(), "lost").await.remove(0);
        assert!(matches!(&contents.damaged[..], [range] if *range == (last..20)), "{how}: {contents:?}");
    }
}

fn cut_short(segment: &Path) {
    let file = fs::File::options().write(true).open(segment).unwrap();
    assert!(file.metadata().unwrap().len() > 0, "nothing to lose");
    file.set_len(0).unwrap();
}

/// Nothing but what was written when the folder was made says that there was anything in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_segment_that_was_emptied_after_a_kill_is_no_torn_tail() {
    let mut broker = BrokerSettings::new().set("housekeeping_interval_ms", "50").start();
    create_topic(&broker.server(), &NewTopic::named("lost").partitions(1)).await.unwrap();
    for number in 0..7 {
        assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(number));
    }
    wait_until_said(&broker.data().join("high-watermarks"), 7).await;
    broker.kill();
    let folder = broker.data().join("lost-0");
    cut_short(&folder.join(format!("{:020}.log", 0)));
    broker.restart();
    let refusal = produce(&broker, "lost").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::OutOfService, "{refusal}");
    assert!(refusal.message.contains("was cut short to 0 bytes"), "{refusal}");
    assert!(broker.http("/readyz").body.contains("FAULT partitions"), "it is told");
    broker.kill();
    fs::remove_file(folder.join("checkpoint")).unwrap();
    broker.restart();
    assert_eq!(produce(&broker, "lost").await.unwrap(), Offset(7));
    let contents = read_around_damage(&broker.server(), "lost").await.remove(0);
    assert_eq!(contents.records.len(), 1);
    assert!(matches!(&contents.damaged[..], [range] if *range == (0..7)), "{contents:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_a_folder_is_served_and_what_it_lacks_is_told() {
    let mut broker = BrokerSettings::new().set("housekeeping_interval_ms", "50").start();
    // The batches are old.
    let topic = NewTopic::named("old").partitions(1).config("retention.ms", "-1");
    create_topic(&broker.server(), &topic).await.unwrap();
    produce(&broker, "old").await.unwrap();
    assert!(broker.terminate().success());
    let (folder, aside) = (broker.data().join("old-0"), broker.data().parent().unwrap().join("aside"));
    copy(&folder, &aside);
    broker.restart();
    assert_eq!(produce(&broker, "old").await.unwrap(), Offset(1));
    assert!(broker.terminate().success());
    fs::remove_dir_all(&folder).unwrap();
    copy(&aside, &folder);
    broker.restart();
    let told = broker.log_lines("damaged: this range is lost here");
    assert_eq!(told.len(), 1, "{}", broker.log_text());
    assert_eq!((told[0]["from"].as_str(), told[0]["to"].as_str()), (Some("1"), Some("2")));
    let remedy = told[0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("no other broker") && remedy.contains("newer copy"), "{remedy}");
    assert!(broker.log_lines("records that had been settled are lost").is_empty(), "told once");
    assert_eq!(produce(&broker, "old").await.unwrap(), Offset(2), "no offset is given out twice");
    let ready = broker.http("/readyz").body;
    assert!(ready.contains("warn  partitions: 1 partition") && ready.contains("damaged range"), "{ready}");
    wait_until("the damage to be counted", async || {
        broker.http("/metrics").body.contains("\ntidelog_partitions_corrupt 1\n").then_some(())
    })
    .await;
    let contents = read_around_damage(&broker.server(), "old").await.remove(0);
    let offsets: Vec<_> = contents.records.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 2]);
    assert!(matches!(&contents.damaged[..], [range] if *range == (1..2)), "{contents:?}");
    // Whatever becomes of the note from here on.
    broker.kill();
    broker.restart();
    assert_eq!(produce(&broker, "old").await.unwrap(), Offset(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_that_are_lost_are_told() {
    let (mut broker, _) = with_segments().await;
    assert!(broker.terminate().success());
    remove_files(&broker.data().join("lost-0"), |name| name == "leader-epochs");
    broker.restart();
    let told = broker.log_lines("epochs of which no record is left are forgotten");
    assert_eq!(told.len(), 1, "{}", broker.log_text());
    assert_eq!(told[0]["level"].as_str(), Some("WARN"));
    assert_eq!(read_all(&broker.server(), "lost").await[0].records.len(), 20);
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
            // First what one broker needs, and shortly.
            let [only, others] = ["only voter", "--join"].map(|words| sentence.find(words).unwrap());
            assert!(only < others && sentence.len() - only < 420, "{sentence}");
            fs::remove_dir_all(&folder).unwrap();
            copy(&aside, &folder);
        }
        // Nor is one that was emptied a torn tail.
        cut_short(&folder.join(format!("{:020}.log", last_segment(&folder))));
        let sentence = broker.try_restart().unwrap_err().sentence();
        for word in ["__cluster_metadata-0", "copy of the whole data folder"] {
            assert!(sentence.contains(word), "{ending}: {sentence}");
        }
        fs::remove_dir_all(&folder).unwrap();
        copy(&aside, &folder);
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

/// Such as one of a release that did not note whose it was.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_without_metadata_found_no_cluster_either() {
    let mut broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("kept").partitions(1)).await.unwrap();
    produce(&broker, "kept").await.unwrap();
    assert!(broker.terminate().success());
    fs::remove_dir_all(broker.data().join("__cluster_metadata-0")).unwrap();
    fs::remove_file(broker.data().join("broker-id")).unwrap();
    for _ in 0..2 {
        let refusal = broker.try_restart().unwrap_err();
        assert_eq!(refusal.code, Some(1), "{refusal:?}");
        assert!(refusal.sentence().contains("holds partitions but no metadata"), "{refusal:?}");
    }
}
