//! Data folders that are there twice, or come back from before: a copy of a living broker's folder is refused, whichever of the two is
//! taken for the other ends; a voter restored from an old copy does not count, nor does a replica until it has caught up.

use std::fs;
use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::workload::create_topic;

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

/// The stamps that a data folder knows.
fn stamps(data: &Path) -> Vec<[u8; 8]> {
    // Behind the head of a small file.
    let file = fs::read(data.join("folder-stamps")).unwrap();
    file[14..].as_chunks().0.to_vec()
}

/// Three brokers, of which the third is set back to a copy of its folder that is older than 600 records, while none of the others is there.
async fn set_back(settings: ClusterSettings, take: impl Fn(&mut Cluster, &Path)) {
    let mut cluster = Cluster::start(settings).await;
    let servers = cluster.servers();
    create_topic(&servers, &NewTopic::named("kept").partitions(6).replication_factor(3)).await.unwrap();
    let client = Client::connect(&servers).await.unwrap();
    let producer = client.producer().build().unwrap().topic("kept").await.unwrap();
    let write = async |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let key = number.to_string();
            producer.send(Some(key.as_bytes()), key.as_bytes()).await.unwrap().await.unwrap();
        }
    };
    write(0..60).await;
    let home = tempfile::tempdir().unwrap();
    let saved = home.path().join("saved");
    take(&mut cluster, &saved);
    let before = stamps(&saved);
    wait_until("the cluster to hear of another stamp", async || {
        let now = stamps(&cluster.data(3));
        (now.len() == 1 && !before.contains(&now[0])).then_some(())
    })
    .await;
    cluster.wait_healed("kept").await;
    write(60..660).await;

    for broker in [1, 2, 3] {
        cluster.kill(broker).assert_happened();
    }
    let folder = cluster.data(3);
    fs::remove_dir_all(&folder).unwrap();
    copy(&saved, &folder);
    // Whether 2 held all that was acknowledged nobody knows without 1; the copy does not.
    cluster.restart_all(&[2, 3]);
    assert_eq!(cluster.process(3).log_lines("this data folder is an older copy").len(), 1);
    cluster.restart(1);
    cluster.wait_healed("kept").await;
    let contents = read_all(&servers, "kept").await;
    let records = contents.iter().flat_map(|partition| &partition.records);
    let mut values: Vec<u32> = records.map(|(_, value)| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..660).collect::<Vec<_>>());
    // It was filled, and counts again.
    cluster.wait_settled("kept").await;
    let _ = cluster.assert_replicas_byte_identical("kept", 6, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_set_back_to_a_folder_of_before_its_last_start_leads_nothing_before_it_has_caught_up() {
    let take = |cluster: &mut Cluster, saved: &Path| {
        cluster.stop(3).assert_happened();
        copy(&cluster.data(3), saved);
        cluster.restart(3);
    };
    set_back(ClusterSettings::three(), take).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_set_back_to_a_folder_as_it_was_while_it_ran_leads_nothing_before_it_has_caught_up() {
    let take = |cluster: &mut Cluster, saved: &Path| {
        cluster.pause(3).assert_happened();
        copy(&cluster.data(3), saved);
        cluster.resume(3);
    };
    set_back(ClusterSettings::three().set("folder_stamp_interval_ms", "200"), take).await;
}

fn broker(id: u32, of: Option<&BrokerProcess>) -> BrokerSettings {
    let settings = BrokerSettings::new().set("broker_id", &id.to_string());
    match of {
        Some(of) => settings.arg("--join").arg(of.server()),
        None => settings,
    }
}

fn tidelog(at: &BrokerProcess, line: &str) -> Option<i32> {
    CommandLine::of("tidelog").args(["--server", &at.server()]).args(line.split(' ')).run().code
}

/// Three voters, led by the first.
fn three() -> [BrokerProcess; 3] {
    let first = broker(1, None).start();
    let (second, third) = (broker(2, Some(&first)).start(), broker(3, Some(&first)).start());
    for promoted in ["cluster promote 2", "cluster promote 3"] {
        wait_for("a vote", || (tidelog(&first, promoted) == Some(0)).then_some(()));
    }
    [first, second, third]
}

/// What a broker says that does not come back on its folder, though it may have served what it has for a moment.
fn refusal_of(broker: &mut BrokerProcess) -> String {
    match broker.try_restart() {
        Ok(()) => {
            assert_eq!(broker.wait_for_end().code(), Some(1));
            broker.log_text()
        }
        Err(refusal) => refusal.stderr,
    }
}

/// How a start ended that may have served what it has for a moment.
fn end_of(started: Result<BrokerProcess, tidelog_tests::broker_process::StartRefusal>) -> (Option<i32>, String) {
    match started {
        Ok(mut broker) => (broker.wait_for_end().code(), broker.log_text()),
        Err(refusal) => (refusal.code, refusal.stderr),
    }
}

#[test]
fn a_copy_of_a_living_brokers_folder_is_refused_and_the_living_one_serves_on() {
    let [first, second, _third] = three();
    let home = tempfile::tempdir().unwrap();
    let twin = home.path().join("twin");
    copy(second.data(), &twin);
    let before = second.log_lines("this broker has a lease").len();
    let (code, text) = end_of(broker(2, Some(&first)).data(&twin).try_start());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another process with the identity of this data folder serves at"), "{text}");
    assert_eq!(second.http("/readyz").status, 200);
    assert_eq!(second.log_lines("this broker has a lease").len(), before, "it never lost it");
}

#[test]
fn whoever_is_overtaken_by_a_copy_of_its_folder_ends_and_comes_back_once_the_copy_is_gone() {
    let [first, mut second, mut third] = three();
    let home = tempfile::tempdir().unwrap();
    let (twin, old) = (home.path().join("twin"), second.address());
    copy(second.data(), &twin);
    // It is thought dead for long enough.
    second.pause();
    let mut copied = broker(2, Some(&first)).data(&twin).start();
    assert_ne!(copied.address(), old);
    second.resume();
    assert_eq!(second.wait_for_end().code(), Some(1));
    let text = second.log_text();
    assert!(text.contains("another process with the identity of this data folder serves at"), "{text}");
    // The copy is the broker now. It moves to where the original was, and is needed there: without it there is no majority.
    copied.kill();
    third.kill();
    let moved = broker(2, Some(&first)).data(&twin).listen(old).start();
    wait_for("a change", || (tidelog(&first, "topics create made-after") == Some(0)).then_some(()));
    assert_eq!(moved.http("/readyz").status, 200);
}

#[test]
fn a_voter_restored_from_an_old_copy_does_not_count_and_is_told_what_to_do() {
    let [first, mut second, _third] = three();
    second.terminate();
    let home = tempfile::tempdir().unwrap();
    let saved = home.path().join("saved");
    copy(second.data(), &saved);
    second.restart();
    for number in 0..5 {
        assert_eq!(tidelog(&first, &format!("topics create confirmed-{number}")), Some(0));
    }
    second.terminate();
    let folder = second.data().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    copy(&saved, &folder);
    let text = refusal_of(&mut second);
    assert!(text.contains("is an old copy") && text.contains("promote 2"), "{text}");
    assert!(!first.log_lines("a broker lacks metadata that it had confirmed").is_empty());
    assert_eq!(tidelog(&first, "topics create goes-on"), Some(0));
}

/// Started by mistake, and refused: nothing has changed by that, so the newest folder is as good as before.
#[test]
fn the_newest_folder_is_taken_back_after_an_older_copy_of_it_was_refused() {
    let [first, second, mut third] = three();
    let servers = [&first, &second, &third].map(BrokerProcess::server).join(",");
    let ask = |line: &str| {
        let asked = CommandLine::of("tidelog").args(["--server", &servers]).args(line.split(' ')).run();
        String::from_utf8(asked.success()).unwrap()
    };
    let all_led = || (!ask("partitions describe only").contains("offline")).then_some(());
    let home = tempfile::tempdir().unwrap();
    let [saved, newest, lines] = ["saved", "newest", "lines"].map(|name| home.path().join(name));
    let _ = ask("topics create only --replication-factor 1 --partitions 3");
    third.terminate();
    copy(third.data(), &saved);
    let before = stamps(third.data());
    third.restart();
    wait_for("another stamp to be told", || {
        let now = stamps(third.data());
        (now.len() == 1 && now != before).then_some(())
    });
    for number in 0..5 {
        let _ = ask(&format!("topics create confirmed-{number}"));
    }
    wait_for("all to be led", all_led);
    fs::write(&lines, "1\n2\n3\n4\n5\n").unwrap();
    for partition in 0..3 {
        let _ = ask(&format!("produce only --partition {partition} {}", lines.display()));
    }

    third.kill();
    let folder = third.data().to_owned();
    fs::rename(&folder, &newest).unwrap();
    for _ in 0..2 {
        copy(&saved, &folder);
        let text = refusal_of(&mut third);
        assert!(text.contains("is an old copy") && text.contains("put its newest data folder back"), "{text}");
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::rename(&newest, &folder).unwrap();
    third.restart();
    assert!(third.log_lines("this data folder is an older copy").is_empty());
    wait_for("all to be led again", all_led);
    assert_eq!(ask("consume only --from beginning --until-end").lines().count(), 15);
}
