//! `tidelog verify` against brokers: it holds while the leaders change, and finds each kind of damage in a history that was doctored.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::joined_cluster::JoinedCluster;
use tidelog_tests::patience::{wait_for, wait_until};

fn tidelog(server: &str, line: &str) -> Finished {
    CommandLine::of("tidelog").env("TIDELOG_SERVER", server).args(line.split_whitespace()).run()
}

fn document(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_while_brokers_go_and_come_back() {
    let mut cluster = JoinedCluster::start(3).await;
    let server = cluster.addresses();
    let verify = tokio::task::spawn_blocking(move || {
        tidelog(&server, "verify --duration 6s --replication-factor 3 --rate 500 --output json")
    });
    // With fewer brokers there would be none with three replicas. What follows meets brokers that go.
    wait_until("its topic", async || {
        let listed = cluster.ask(1, &tidelog_protocol::messages::MetadataRequest { topics: None }).await.unwrap();
        listed.topics.iter().any(|topic| topic.name.as_str().starts_with("verify-")).then_some(())
    })
    .await;
    for id in [3, 2] {
        cluster.stop(id).await;
        cluster.start_again(id).await;
    }
    let finished = verify.await.unwrap().expect_code(0);
    let verdict = document(&finished);
    assert_eq!((&verdict["holds"], &verdict["partitions"]), (&json!(true), &json!(3)), "{verdict}");
    let count = |key: &str| verdict[key].as_u64().unwrap();
    assert!(count("acked") > 500 && count("read_at_last") >= count("acked"), "{verdict}");
    assert!(count("read_along") > 0 && finished.stderr.is_empty(), "silent in a pipe: {finished:?}");
    assert_eq!(verdict["history"], Value::Null, "what holds leaves no file");
    let left = cluster.ask(1, &tidelog_protocol::messages::MetadataRequest { topics: None }).await.unwrap();
    assert!(left.topics.is_empty(), "its topic goes with it: {:?}", left.topics);
}

#[test]
fn where_nothing_was_acknowledged_there_is_no_verdict() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let page = tidelog(&server, "verify --duration 0s").expect_code(9).text();
    assert!(page.ends_with("Verdict     none: nothing was acknowledged\n"), "{page}");
    let none = document(&tidelog(&server, "verify --duration 0s --output json").expect_code(9));
    assert_eq!((&none["holds"], &none["sent"]), (&Value::Null, &json!(0)), "{none}");
    assert_eq!(tidelog(&server, "topics list --output json").expect_code(0).text().matches("verify-").count(), 0);
}

#[test]
fn an_interrupted_run_names_the_topic_that_it_leaves() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let line = ["verify", "--duration", "300s"];
    let running = CommandLine::of("tidelog").env("TIDELOG_SERVER", &server).args(line).start();
    let listed = || tidelog(&server, "topics list").expect_code(0).text();
    wait_for("its topic", || listed().contains("verify-").then_some(()));
    running.signal(rustix::process::Signal::INT);
    let finished = running.finish().expect_code(130);
    let topics = listed();
    let name = topics.split_whitespace().find(|word| word.starts_with("verify-")).expect("its topic");
    assert!(finished.stderr.contains(&format!("its topic {name} is left behind")), "{finished:?}");
    assert!(finished.stderr.contains(&format!("tidelog topics delete {name}")), "{finished:?}");
}

#[test]
fn a_topic_that_exists_may_hold_what_others_wrote() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 2").expect_code(0);
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    std::fs::write(&lines, "one\ntwo\n").unwrap();
    let produce = || CommandLine::of("tidelog").env("TIDELOG_SERVER", &server).args(["produce", "logs"]).stdin(&lines);
    let _ = produce().run().expect_code(0);
    let verify = {
        let server = server.clone();
        std::thread::spawn(move || tidelog(&server, "verify --topic logs --duration 2s --output json"))
    };
    while !verify.is_finished() {
        let _ = produce().run().expect_code(0);
    }
    let verdict = document(&verify.join().unwrap().expect_code(0));
    assert!(verdict["foreign"].as_u64() > Some(0) && verdict["topic"] == "logs", "{verdict}");
    let page = tidelog(&server, "verify --topic logs --duration 500ms").expect_code(0).text();
    assert!(page.contains("Skipped     0") && page.ends_with("Verdict     holds\n"), "{page}");
    let _ = tidelog(&server, "topics describe logs").expect_code(0);
    let missing = tidelog(&server, "verify --topic other --duration 1s").expect_code(3);
    assert!(missing.stderr.contains("no topic 'other'") && !missing.stderr.contains("history"), "{missing:?}");
    let wide = tidelog(&server, "verify --replication-factor 3").expect_code(1);
    assert!(wide.stderr.contains("on 1 live broker;"), "{wide:?}");
}

#[test]
fn records_that_were_deleted_meanwhile_are_neither_lost_nor_found() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history");
    let line = format!("verify --topic logs --duration 5s --rate 400 --output json --history {}", history.display());
    let running = {
        let server = server.clone();
        std::thread::spawn(move || tidelog(&server, &line))
    };
    wait_for("records to be deleted", || {
        let offsets = document(&tidelog(&server, "offsets logs --output json").expect_code(0));
        (offsets["partitions"][0]["next"].as_u64() > Some(100)).then_some(())
    });
    assert!(!running.is_finished(), "it writes still");
    let _ = tidelog(&server, "records delete logs --partition 0 --before 100").expect_code(0);
    let finished = running.join().unwrap().expect_code(8);
    let verdict = document(&finished);
    assert_eq!((&verdict["holds"], &verdict["unchecked"]), (&Value::Null, &json!(100)), "{verdict}");
    assert_eq!(verdict["deleted"], json!([{"partition": 0, "from": 0, "to": 100}]), "{verdict}");
    assert_eq!(
        (&verdict["violations"]["lost"]["count"], &verdict["violations"]["skipped"]["count"]),
        (&json!(0), &json!(0))
    );
    assert!(
        finished.stderr.contains("100 of ") && finished.stderr.contains("partition 0 before offset 100"),
        "{finished:?}"
    );
    // What is lost behind that is found all the same.
    let text = std::fs::read_to_string(&history).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost = values(&mut lines).remove(1);
    std::fs::write(&history, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let violated = document(&judged(&history).expect_code(1));
    assert!(violated["violations"]["lost"]["count"].as_u64() > Some(0), "{lost}: {violated}");
}

/// The history of a run that holds.
struct Doctored {
    folder: tempfile::TempDir,
    lines: Vec<Value>,
}

impl Doctored {
    fn of_a_run(server: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let line = format!("verify --duration 1s --rate 400 --producers 2 --partitions 2 --history {}", path.display());
        let _ = tidelog(server, &line).expect_code(0);
        let text = std::fs::read_to_string(path).unwrap();
        Self { folder, lines: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
    }

    /// The verdict on the history with this done to it.
    fn judged(&self, doctor: impl FnOnce(&mut Vec<Value>)) -> Finished {
        let mut lines = self.lines.clone();
        doctor(&mut lines);
        let path: PathBuf = self.folder.path().join("doctored");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        judged(&path)
    }
}

fn judged(path: &Path) -> Finished {
    tidelog("127.0.0.1:1", &format!("verify --output json --judge {}", path.display()))
}

/// The values of the first line of the last reading that has at least four.
fn values(lines: &mut [Value]) -> &mut Vec<Value> {
    let line = lines
        .iter_mut()
        .find(|line| line["event"] == "last_read" && line["values"].as_array().is_some_and(|values| values.len() >= 4));
    line.expect("a batch of four")["values"].as_array_mut().unwrap()
}

fn complete<'a>(lines: &'a mut [Value], value: &str) -> &'a mut Value {
    let mut words = value.rsplit('-');
    let (sequence, producer): (u64, u64) =
        (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    let told = lines
        .iter_mut()
        .find(|line| line["event"] == "complete" && line["producer"] == producer && line["sequence"] == sequence);
    told.expect("every record was told of")
}

#[test]
fn each_kind_of_damage_is_found_in_a_doctored_history() {
    let broker = BrokerProcess::start();
    let history = Doctored::of_a_run(&broker.server());
    let sound = document(&history.judged(|_| {}).expect_code(0));
    assert_eq!((&sound["holds"], &sound["doubled_by_lost_acks"]), (&json!(true), &json!(0)), "{sound}");
    assert!(sound["acked"].as_u64().unwrap() > 100 && sound["read_to_end"] == 2, "{sound}");

    let counts = |finished: Finished| {
        let verdict = document(&finished.expect_code(1));
        assert_eq!(verdict["holds"], false);
        let kinds = ["lost", "duplicated", "reordered", "phantom", "skipped", "repeated"];
        let count = |kind: &str| verdict["violations"][kind]["count"].as_u64().unwrap();
        let counts: Vec<(String, u64)> =
            kinds.iter().map(|kind| (kind.to_string(), count(kind))).filter(|(_, count)| *count > 0).collect();
        (counts, verdict["violations"].clone())
    };
    let only = |kind: &str, count: u64| vec![(kind.to_string(), count)];

    // Lost: another record stands where one was acknowledged and read; that other one is a phantom there.
    let mut name = String::new();
    let (found, evidence) = counts(history.judged(|lines| {
        let values = values(lines);
        name = values[1].as_str().unwrap().to_string();
        values[1] = json!("nobody-0-0");
    }));
    // Acknowledged and gone, and handed to a consumer and gone: it is lost once.
    assert_eq!(found, [("lost".to_string(), 1), ("phantom".to_string(), 1)], "{evidence}");
    let first = &evidence["lost"]["evidence"][0];
    assert!(first["what"].as_str().unwrap().starts_with(&format!("{name} was acknowledged at ")), "{evidence}");
    assert!(first["sent_at_us"].as_u64() < first["told_at_us"].as_u64(), "{evidence}");

    // Doubled, once without and once with a lost acknowledgement.
    let double = |lines: &mut Vec<Value>| {
        let done = lines.iter().position(|line| line["event"] == "last_read_done").unwrap();
        let (partition, end) = (lines[done]["partition"].clone(), lines[done]["end"].clone());
        let first = lines.iter().find(|line| line["event"] == "last_read" && line["partition"] == partition).unwrap();
        let value = first["values"][0].clone();
        let again = json!({"at_us": 1, "event": "last_read", "partition": partition, "offset": end, "values": [value]});
        lines.insert(done, again);
        value.as_str().unwrap().to_string()
    };
    let (found, evidence) = counts(history.judged(|lines| drop(double(lines))));
    assert_eq!(found, only("duplicated", 1), "{evidence}");
    let double_with_lost_ack = |lines: &mut Vec<Value>| {
        let value = double(lines);
        complete(lines, &value)["maybe_twice"] = json!(true);
    };
    let (found, evidence) = counts(history.judged(double_with_lost_ack));
    assert_eq!(found, only("duplicated", 1), "an idempotent producer has no such excuse: {evidence}");
    for not_idempotent in [json!(false), Value::Null] {
        let allowed = history.judged(|lines| {
            double_with_lost_ack(lines);
            let begin = lines[0].as_object_mut().unwrap();
            assert_eq!(begin.remove("idempotent"), Some(json!(true)));
            // Histories of earlier releases do not say.
            if not_idempotent != Value::Null {
                begin.insert("idempotent".into(), not_idempotent.clone());
            }
        });
        assert_eq!(document(&allowed.expect_code(0))["doubled_by_lost_acks"], 1);
    }

    // Reordered: two of one producer change places, and so do the acknowledgements and what was read along.
    let (found, evidence) = counts(history.judged(|lines| {
        let mine = |value: &Value, producer: &str| value.as_str().unwrap().rsplit('-').nth(1) == Some(producer);
        let values = values(lines);
        let producer = values[0].as_str().unwrap().rsplit('-').nth(1).unwrap().to_string();
        let other = values.iter().skip(1).position(|value| mine(value, &producer)).expect("two of one producer") + 1;
        let (a, b) = (values[0].as_str().unwrap().to_string(), values[other].as_str().unwrap().to_string());
        values.swap(0, other);
        let (at_a, at_b) = (complete(lines, &a)["offset"].clone(), complete(lines, &b)["offset"].clone());
        complete(lines, &a)["offset"] = at_b;
        complete(lines, &b)["offset"] = at_a;
        lines.retain(|line| line["event"] != "read" && line["event"] != "read_done");
    }));
    assert_eq!(found, only("reordered", 1), "{evidence}");

    // Phantom: one that was refused stands there.
    let (found, evidence) = counts(history.judged(|lines| {
        let value = values(lines)[0].as_str().unwrap().to_string();
        let told = complete(lines, &value);
        let (producer, sequence) = (told["producer"].clone(), told["sequence"].clone());
        *told = json!({"at_us": 1, "event": "complete", "producer": producer, "sequence": sequence, "outcome": "refused", "error": "no"});
    }));
    assert_eq!(found, only("phantom", 1), "{evidence}");

    // Acknowledged at another offset than where it stands.
    let (found, evidence) = counts(history.judged(|lines| {
        let value = values(lines)[0].as_str().unwrap().to_string();
        complete(lines, &value)["offset"] = json!(999_999);
    }));
    assert_eq!(found, only("lost", 1), "{evidence}");

    // A consumer that leaves a record out, and one that is handed some once more.
    let read = |lines: &[Value]| {
        let first = lines.iter().position(|line| line["event"] == "read").expect("something was read along");
        let there =
            lines.iter().filter(|line| line["event"] == "read" && line["partition"] == lines[first]["partition"]);
        assert!(there.map(|line| line["values"].as_array().unwrap().len()).sum::<usize>() > 1, "more than one record");
        first
    };
    let (found, evidence) = counts(history.judged(|lines| {
        let line = read(lines);
        lines[line]["values"].as_array_mut().unwrap().remove(0);
        lines[line]["offset"] = json!(lines[line]["offset"].as_u64().unwrap() + 1);
    }));
    assert_eq!(found, only("skipped", 1), "{evidence}");
    let (found, evidence) = counts(history.judged(|lines| {
        let line = read(lines);
        lines.insert(line + 1, lines[line].clone());
    }));
    assert_eq!(found, only("repeated", 1), "{evidence}");

    // Consumers that say that they came to the end, and were handed nothing; one that was never handed the last.
    let (found, evidence) = counts(history.judged(|lines| lines.retain(|line| line["event"] != "read")));
    assert_eq!(found, only("skipped", 2), "{evidence}");
    let (found, evidence) = counts(history.judged(|lines| {
        let last = lines.iter().rposition(|line| line["event"] == "read").expect("something was read along");
        lines[last]["values"].as_array_mut().unwrap().pop();
    }));
    assert_eq!(found, only("skipped", 1), "{evidence}");
    // Where they do not say it, nothing is said of the rest.
    let unfinished = document(
        &history
            .judged(|lines| lines.retain(|line| line["event"] != "read" && line["event"] != "read_done"))
            .expect_code(0),
    );
    assert_eq!((&unfinished["holds"], &unfinished["read_to_end"]), (&json!(true), &json!(0)), "{unfinished}");

    // Where no acknowledgement came, nothing was promised: that does not hold, it is no verdict.
    let none = history.judged(|lines| {
        for line in lines.iter_mut().filter(|line| line["event"] == "complete") {
            let (producer, sequence) = (line["producer"].clone(), line["sequence"].clone());
            *line = json!({"at_us": 1, "event": "complete", "producer": producer, "sequence": sequence, "outcome": "unknown", "error": "too few"});
        }
    });
    let none = document(&none.expect_code(9));
    assert_eq!((&none["holds"], &none["last_error"]), (&Value::Null, &json!("too few")), "{none}");

    // Without a last reading nobody can say anything.
    let refused = history.judged(|lines| lines.retain(|line| line["event"] != "last_read_done")).expect_code(4);
    assert!(refused.stderr.contains("was not read to its end"), "{refused:?}");
    let garbage = history.folder.path().join("garbage");
    std::fs::write(&garbage, "no history\n").unwrap();
    assert!(judged(&garbage).expect_code(4).stderr.contains("line 1"));
    let missing = judged(&history.folder.path().join("missing")).expect_code(3);
    assert!(missing.stderr.contains("missing"), "{missing:?}");
}
