//! `kafka-consumer-groups`.

use rustix::process::Signal;
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::input::{lines, lines_file};
use tidelog_tests::patience::wait_for;

use super::{asking, broker_for, native, rows, told};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// A topic of one partition, and how many records are in it.
fn filled(broker: &BrokerProcess, topic: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let _ = native(broker, &["topics", "create", topic]);
    let _ = native(broker, &["produce", topic, &lines_file(folder.path()).to_string_lossy()]);
    lines().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// How far the group is, as the program shows it: the row of the only partition.
#[track_caller]
fn shown_row(broker: &BrokerProcess, group: &str) -> Vec<String> {
    let shown = told(broker, GROUPS, &["--describe", "--group", group]);
    let rows = rows(&shown);
    assert_eq!(rows[0][..6], ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"], "{shown}");
    assert_eq!(rows.len(), 2, "{shown}");
    rows[1].iter().map(|cell| (*cell).to_owned()).collect()
}

#[test]
fn kafka_consumer_groups_lists_describes_resets_and_deletes_groups() {
    let test = "kafka_consumer_groups_lists_describes_resets_and_deletes_groups";
    let Some(broker) = broker_for(test) else { return };
    let end = filled(&broker, "logs");
    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let member = asking(&broker, consumer, &["--topic", "logs", "--group", "readers", "--from-beginning"]).start();
    wait_for("all to be read", || (member.stdout_so_far().lines().count() as u64 == end).then_some(()));

    assert_eq!(told(&broker, GROUPS, &["--list"]), "readers\n");
    let state = told(&broker, GROUPS, &["--describe", "--group", "readers", "--state"]);
    let [_, row] = &rows(&state)[..] else { panic!("{state}") };
    assert_eq!(row[..2], ["readers".to_owned(), broker.server()], "{state}");
    assert_eq!(row[3..], ["range", "Stable", "1"], "{state}");
    let members = told(&broker, GROUPS, &["--describe", "--group", "readers", "--members", "--verbose"]);
    assert!(rows(&members)[1].contains(&"logs:0"), "{members}");
    let reset = ["--reset-offsets", "--group", "readers", "--topic", "logs", "--execute"];
    let to_start = [&reset[..], &["--to-earliest"]].concat();
    let told_active = asking(&broker, GROUPS, &to_start).run();
    let told_active = told_active.text() + &told_active.stderr;
    assert!(told_active.contains("inactive, but the current state is Stable"), "{told_active}");

    // It commits as it leaves.
    member.signal(Signal::TERM);
    let _ = member.finish();
    let ended = end.to_string();
    assert_eq!(shown_row(&broker, "readers")[..6], ["readers", "logs", "0", &ended, &ended, "0"]);
    for (to, offset) in [(["--to-earliest"].as_slice(), 0), (&["--to-offset", "10"], 10), (&["--shift-by", "5"], 15)] {
        let told = told(&broker, GROUPS, &[&reset[..], to].concat());
        assert_eq!(rows(&told)[1], ["readers", "logs", "0", &offset.to_string()], "{told}");
        let lag = (end - offset).to_string();
        assert_eq!(shown_row(&broker, "readers")[3..6], [offset.to_string(), ended.clone(), lag]);
    }
    let forgotten = told(&broker, GROUPS, &["--delete-offsets", "--group", "readers", "--topic", "logs"]);
    assert!(rows(&forgotten).contains(&vec!["logs", "0", "Successful"]), "{forgotten}");
    let deleted = told(&broker, GROUPS, &["--delete", "--group", "readers"]);
    assert_eq!(deleted, "Deletion of requested consumer groups ('readers') was successful.\n");
    assert_eq!(told(&broker, GROUPS, &["--list"]).trim(), "");
    let gone = told(&broker, GROUPS, &["--describe", "--group", "readers"]);
    assert!(gone.contains("GroupIdNotFoundException"), "{gone}");
}

/// Members by the newest protocol of Kafka, where the coordinator assigns (KIP-848), beside a native one.
#[test]
fn consumers_whose_coordinator_assigns_share_with_native_members_and_are_described() {
    let test = "consumers_whose_coordinator_assigns_share_with_native_members_and_are_described";
    let Some(broker) = broker_for(test) else { return };
    let _ = native(&broker, &["topics", "create", "work", "--partitions", "4"]);
    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let protocol = ["--command-property", "group.protocol=consumer"];
    let base = ["--topic", "work", "--group", "sharers", "--from-beginning"];
    let member = asking(&broker, consumer, &[&base[..], &protocol].concat()).start();
    let described = || told(&broker, GROUPS, &["--describe", "--group", "sharers", "--members", "--verbose"]);
    wait_for("the first to have all", || described().contains("work:0,1,2,3").then_some(()));
    let state = told(&broker, GROUPS, &["--describe", "--group", "sharers", "--state"]);
    assert_eq!(rows(&state)[1][3..6], ["uniform", "Stable", "1"], "{state}");
    assert!(told(&broker, GROUPS, &["--list", "--type"]).contains("Consumer"));

    let arguments = ["--server", &broker.server(), "consume", "work", "--group", "sharers"];
    let native_member = tidelog_tests::command::CommandLine::of("tidelog").args(arguments).start();
    // What a member has and what it is to have, each a cell: `work:0,1`. To have half is not enough: the other may be reading it still.
    let is_half = |cell: &&&str| cell.starts_with("work:") && cell.matches(',').count() == 1;
    let has_half = |row: &Vec<&str>| row.iter().filter(is_half).count() == 2;
    let halves = |shown: &str| rows(shown).len() == 3 && rows(shown)[1..].iter().all(has_half);
    wait_for("both to have half", || halves(&described()).then_some(()));
    let folder = tempfile::tempdir().unwrap();
    for partition in ["0", "1", "2", "3"] {
        let file = lines_file(folder.path());
        let _ = native(&broker, &["produce", "work", "--partition", partition, &file.to_string_lossy()]);
    }
    let count = 4 * lines().iter().filter(|byte| **byte == b'\n').count();
    let read = || (member.stdout_so_far().lines().count(), native_member.stdout_so_far().lines().count());
    wait_for("all to be read", || (read().0 + read().1 == count).then_some(()));
    assert_eq!(read(), (count / 2, count / 2), "each reads its half: {}", described());

    // Whoever leaves has committed, and what it had goes on.
    for leaver in [member, native_member] {
        leaver.signal(Signal::TERM);
        let _ = leaver.finish();
    }
    let shown = told(&broker, GROUPS, &["--describe", "--group", "sharers"]);
    let lags: Vec<_> = rows(&shown)[1..].iter().map(|row| row[5]).collect();
    assert_eq!(lags, ["0"; 4], "{shown}");
    let classic = asking(&broker, consumer, &base).start();
    wait_for("the classic protocol to be taken once nobody is left", || {
        let state = told(&broker, GROUPS, &["--describe", "--group", "sharers", "--state"]);
        (rows(&state)[1][3..] == ["range", "Stable", "1"]).then_some(())
    });
    let refused = asking(&broker, consumer, &[&base[..], &protocol].concat()).run();
    assert!(refused.stderr.contains("classic protocol: stop them first"), "{}", refused.stderr);
    classic.signal(Signal::TERM);
    let _ = classic.finish();
}
