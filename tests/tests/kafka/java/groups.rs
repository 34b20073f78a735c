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
