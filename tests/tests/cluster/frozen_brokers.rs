//! Brokers that are there and say nothing (SIGSTOP): a command ends within its timeout all the same, says what it was that did not answer, and
//! what one broker sees alone is not passed off as the cluster's state.

use std::time::{Duration, Instant};

use serde_json::Value;
use tidelog_client::{Client, PartitionId, Record, SendError, Start};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::{wait_for, within_limit};
use tidelog_tests::process_figures::state_of;

/// What each command is given.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A second request that had the whole timeout again would take as long as this; to start a process takes some time, too.
const TOO_LONG: Duration = Duration::from_secs(19);

fn cluster() -> Vec<BrokerProcess> {
    let first = BrokerSettings::new().set("broker_id", "1").start();
    let joins = |id: u32| BrokerSettings::new().set("broker_id", &id.to_string()).arg("--join").arg(first.server());
    let (second, third) = (joins(2).start(), joins(3).start());
    let brokers = vec![first, second, third];
    for id in ["2", "3"] {
        drop(tidelog(&brokers[..1], &["cluster", "promote", id]).success());
    }
    brokers
}

fn tidelog(servers: &[BrokerProcess], words: &[&str]) -> Finished {
    let servers: Vec<String> = servers.iter().map(BrokerProcess::server).collect();
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    CommandLine::of("tidelog").args(["--server", &servers.join(","), "--timeout", &timeout]).args(words).run()
}

/// As [`tidelog`], and it did not take longer than it may.
#[track_caller]
fn in_time(servers: &[BrokerProcess], words: &[&str]) -> Finished {
    let began = Instant::now();
    let finished = tidelog(servers, words);
    let took = began.elapsed();
    assert!(took < TOO_LONG, "{words:?} took {took:?}: {finished:?}");
    finished
}

fn paused(brokers: &mut [BrokerProcess]) {
    brokers.iter().for_each(BrokerProcess::pause);
}

#[test]
fn a_command_without_a_quorum_says_so_within_its_timeout_and_shows_one_brokers_view_as_such() {
    let mut brokers = cluster();
    drop(tidelog(&brokers, &["topics", "create", "logs", "--partitions", "3"]).success());
    wait_for("a settled cluster", || (tidelog(&brokers, &["cluster", "status"]).code == Some(0)).then_some(()));
    let described = in_time(&brokers, &["partitions", "describe"]).expect_code(0);
    assert!(!described.stderr.contains("one broker's view"), "{described:?}");
    // The frozen ones are asked first.
    brokers.rotate_left(1);
    paused(&mut brokers[..2]);
    let living = &brokers[2..];
    // Once the leader, if it is the one left, knows that nobody hears it.
    wait_for("the loss of the controller", || {
        let status: Value =
            serde_json::from_slice(&tidelog(living, &["cluster", "status", "--output", "json"]).stdout).ok()?;
        status["controller"].is_null().then_some(())
    });
    for words in [&["cluster", "promote", "2"][..], &["topics", "create", "more"]] {
        let refused = in_time(living, words).expect_code(4);
        let says = |part| refused.stderr.contains(part);
        // As a broker says it, or the tool where none had the time left to.
        let is_said = says("NoQuorum") || says("no broker runs the controller");
        assert!(is_said && says("majority"), "{words:?}: {refused:?}");
    }
    let _ = in_time(&brokers, &["cluster", "promote", "2"]).expect_code(4);
    // Not only at the end of a longer timeout.
    let began = Instant::now();
    let server = living[0].server();
    let refused = CommandLine::of("tidelog")
        .args(["--server", &server, "--timeout", "10m", "topics", "create", "more"])
        .run()
        .expect_code(4);
    assert!(refused.stderr.contains("NoQuorum"), "{refused:?}");
    println!("told after {:?} that there is no controller", began.elapsed());
    for servers in [living, &brokers[..]] {
        let described = in_time(servers, &["partitions", "describe"]).expect_code(7);
        assert!(described.text().contains("logs") && described.stderr.contains("one broker's view"), "{described:?}");
        let status = in_time(servers, &["cluster", "status"]).expect_code(7);
        assert!(status.text().contains("one broker's view"), "{status:?}");
        assert_eq!(status.text().matches("  was serving  ").count(), 3, "who serves nobody knows: {}", status.text());
    }
    // Whatever it finds, it finds in time.
    let _ = in_time(&brokers, &["topics", "describe", "logs"]);
    paused(&mut brokers[2..]);
    for words in [
        &["partitions", "describe"][..],
        &["consume", "logs", "--until-end"],
        &["records", "delete", "logs", "--partition", "0", "--before", "end"],
    ] {
        let refused = in_time(&brokers, words).expect_code(4);
        assert!(refused.stderr.contains("answer") || refused.stderr.contains("not done within"), "{refused:?}");
    }
    brokers.iter().for_each(BrokerProcess::resume);
}

#[test]
fn a_record_that_a_frozen_leader_never_got_is_told_from_one_that_it_may_have_got() {
    let brokers = cluster();
    drop(tidelog(&brokers, &["topics", "create", "logs", "--partitions", "1", "--replication-factor", "3"]).success());
    let described: Value =
        serde_json::from_slice(&tidelog(&brokers, &["partitions", "describe", "logs", "--output", "json"]).success())
            .unwrap();
    let leader = usize::try_from(described[0]["leader"].as_u64().unwrap()).unwrap() - 1;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let other = brokers[(leader + 1) % 3].server();
    runtime.block_on(async {
        let limit = Duration::from_secs(1);
        let client = Client::connect(&other).await.unwrap();
        let known = client.producer().delivery_timeout(limit).build().unwrap().topic("logs").await.unwrap();
        known.send(None, b"before").await.unwrap().await.unwrap();
        let fresh = Client::connect(&other).await.unwrap();
        let unknown = fresh.producer().delivery_timeout(limit).build().unwrap().topic("logs").await.unwrap();
        brokers[leader].pause();
        // One connection is there already and takes the record; the other is only dialled.
        let (sent, unsent) = (known.send(None, b"sent").await.unwrap(), unknown.send(None, b"unsent").await.unwrap());
        let sent = within_limit("the fate of what was sent", sent).await.unwrap_err();
        let unsent = within_limit("the fate of what was not", unsent).await.unwrap_err();
        for (error, parts) in [
            (&sent, ["whether it was written is unknown", "no answer to Produce"]),
            (&unsent, ["not written", "did not answer in time"]),
        ] {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(matches!(sent, SendError::Unknown { .. }) && matches!(unsent, SendError::Expired { .. }));
    });
    brokers[leader].resume();
}

#[test]
fn whoever_dials_a_frozen_leader_goes_on_at_the_next_one() {
    let brokers = cluster();
    drop(tidelog(&brokers, &["topics", "create", "logs", "--partitions", "9", "--replication-factor", "3"]).success());
    let described: Value =
        serde_json::from_slice(&tidelog(&brokers, &["partitions", "describe", "logs", "--output", "json"]).success())
            .unwrap();
    let leader = |partition: &u32| described[*partition as usize]["leader"].as_u64().unwrap();
    let theirs: Vec<u32> = (0..9).filter(|partition| leader(partition) == leader(&0)).collect();
    assert!(theirs.len() > 1, "{described}");
    let frozen = &brokers[leader(&0) as usize - 1];
    let others: Vec<String> = brokers.iter().map(BrokerProcess::server).filter(|one| *one != frozen.server()).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Whoever waited for a dial to end by itself would wait for longer than the test.
        let forever = Duration::from_secs(3_600);
        let builder = Client::builder().connect_timeout(forever).request_timeout(forever);
        let client = builder.connect(&others.join(",")).await.unwrap();
        let producer = client.producer().delivery_timeout(forever).build().unwrap();
        let reading = client.consumer().topic("logs").start(Start::Beginning);
        frozen.pause();
        // The lanes of several partitions wait for the same dial, and the consumer for another.
        let mut deliveries = Vec::new();
        for partition in &theirs {
            let record = Record::to("logs").value(partition.to_string()).partition(PartitionId(*partition));
            deliveries.push(producer.send(record).await.unwrap());
        }
        let read = async {
            let mut consumer = reading.build().await.unwrap();
            let mut read = Vec::new();
            while read.len() < theirs.len() {
                read.push(consumer.next().await.unwrap().unwrap().partition().0);
            }
            read
        };
        let sent = async {
            for delivery in deliveries {
                delivery.await.unwrap();
            }
        };
        let ((), mut read) = within_limit("records to be sent and read", async { tokio::join!(sent, read) }).await;
        read.sort_unstable();
        assert_eq!(read, theirs);
    });
    assert_eq!(state_of(frozen.pid()), Some('T'), "it stood still all the time");
    frozen.resume();
}

#[test]
fn whole_topics_are_read_from_those_that_answer_and_the_rest_is_named_and_waited_for() {
    let brokers = cluster();
    drop(tidelog(&brokers, &["topics", "create", "logs", "--partitions", "3", "--replication-factor", "1"]).success());
    let described: Value =
        serde_json::from_slice(&tidelog(&brokers, &["partitions", "describe", "logs", "--output", "json"]).success())
            .unwrap();
    let folder = tempfile::tempdir().unwrap();
    for partition in ["0", "1", "2"] {
        let line = folder.path().join("line");
        std::fs::write(&line, format!("of-{partition}\n")).unwrap();
        let produce = ["produce", "logs", "--partition", partition];
        let servers = brokers[0].server();
        let words = ["--server", &servers].into_iter().chain(produce);
        drop(CommandLine::of("tidelog").args(words).stdin(&line).run().success());
    }
    // Not the one that runs the controller, so that there always is one.
    let away = (0..3).find(|partition| described[partition]["leader"] == 3).expect("each broker leads one");
    brokers[2].pause();
    let read = in_time(&brokers[..2], &["consume", "logs", "--until-end"]).expect_code(4);
    let there: Vec<_> =
        (0..3).filter(|partition| *partition != away).map(|partition| format!("of-{partition}")).collect();
    let mut lines: Vec<_> = read.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, there, "{read:?}");
    for part in
        [format!("partition {away} of 'logs' is waited for: "), format!("partition {away} of 'logs' could not be read")]
    {
        assert!(read.stderr.contains(&part), "{part:?} is missing: {read:?}");
    }
    // Whoever goes on waiting gets it.
    let servers: Vec<String> = brokers[..2].iter().map(BrokerProcess::server).collect();
    let follow =
        ["--server", &servers.join(","), "--timeout", "20s", "consume", "logs", "--from", "beginning", "-n", "3"];
    let following = CommandLine::of("tidelog").args(follow).start();
    let told = format!("partition {away} of 'logs' is waited for: ");
    wait_for("the partition to be waited for", || following.stderr_so_far().contains(&told).then_some(()));
    brokers[2].resume();
    let mut lines: Vec<_> = following.finish().expect_code(0).text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["of-0", "of-1", "of-2"]);
}
