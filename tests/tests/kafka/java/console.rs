//! `kafka-console-producer`, `kafka-console-consumer` and `kafka-get-offsets`.

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::CommandLine;
use tidelog_tests::input::{lines, lines_file};
use tidelog_tests::numbered::crowd_with_room;

use super::{asking, broker_for, native, told};

const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";

#[track_caller]
fn produce(broker: &BrokerProcess, topic: &str, arguments: &[&str], input: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    std::fs::write(&file, input).unwrap();
    let finished = asking(broker, PRODUCER, &["--topic", topic]).args(arguments).stdin(&file).run();
    // It ends well even where nothing was written.
    assert!(!finished.stderr.contains("ERROR"), "{}", finished.stderr);
    let _ = finished.success();
}

#[test]
fn console_programs_write_and_read_every_byte() {
    let Some(broker) = broker_for("console_programs_write_and_read_every_byte") else { return };
    let input = lines();
    let count = input.iter().filter(|byte| **byte == b'\n').count().to_string();
    produce(&broker, "logs", &[], &input);
    let native_view = native(&broker, &["consume", "logs", "--until-end"]);
    assert!(native_view.as_bytes() == input, "{} of {} bytes for the native client", native_view.len(), input.len());
    let read = told(&broker, CONSUMER, &["--topic", "logs", "--from-beginning", "--max-messages", &count]);
    assert!(read.as_bytes() == input, "{} of {} bytes came back", read.len(), input.len());

    assert_eq!(told(&broker, OFFSETS, &["--topic", "logs"]), format!("logs:0:{count}\n"));
    assert_eq!(told(&broker, OFFSETS, &["--topic", "logs", "--time", "earliest"]), "logs:0:0\n");
    let future = told(&broker, OFFSETS, &["--topic", "logs", "--time", "4102444800000"]);
    assert_eq!(future, "", "nothing is that young");
    let latest = told(&broker, OFFSETS, &["--topic", "logs", "--time", "max-timestamp"]);
    let offset: u64 = latest.trim().strip_prefix("logs:0:").unwrap().parse().unwrap();
    assert!(offset < count.parse::<u64>().unwrap(), "the record of the largest timestamp is one: {latest}");
}

#[test]
fn native_records_have_the_same_keys_headers_and_times_for_the_console_consumer() {
    let test = "native_records_have_the_same_keys_headers_and_times_for_the_console_consumer";
    let Some(broker) = broker_for(test) else { return };
    let _ = native(&broker, &["topics", "create", "shared"]);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::write(&input, "k1:one\n").unwrap();
    let arguments = ["--server", &broker.server(), "produce", "shared", "-k:", "--header", "from=native"];
    let _ = CommandLine::of("tidelog").args(arguments).stdin(&input).run().success();
    let keyed = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    let headers = ["--reader-property", "parse.headers=true"];
    let compressed = ["--compression-codec", "zstd"];
    produce(&broker, "shared", &[&keyed[..], &headers, &compressed].concat(), b"from:java\tk2:two\n");

    let shown = ["offset", "key", "headers", "timestamp"].map(|what| format!("print.{what}=true"));
    let shown: Vec<&str> = shown.iter().flat_map(|property| ["--formatter-property", property]).collect();
    let all = [&["--topic", "shared", "--from-beginning", "--max-messages", "2"], &shown[..]].concat();
    let read = told(&broker, CONSUMER, &all);
    let records: Vec<Vec<&str>> = read.lines().map(|line| line.split('\t').collect()).collect();
    let own = native(&broker, &["--output", "json", "consume", "shared", "--until-end"]);
    let own: Vec<serde_json::Value> = own.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [(first, first_own), (second, second_own)] =
        <[_; 2]>::try_from(records.iter().zip(&own).collect::<Vec<_>>()).unwrap();
    assert_eq!(first[1..], ["Offset:0", "from:native", "k1", "one"]);
    assert_eq!(second[1..], ["Offset:1", "from:java", "k2", "two"]);
    for (record, own) in [(first, first_own), (second, second_own)] {
        assert_eq!(record[0], format!("CreateTime:{}", own["timestamp_ms"]), "{own}");
    }
}

#[test]
fn a_console_consumer_of_a_group_goes_on_where_the_last_one_stopped() {
    let Some(broker) = broker_for("a_console_consumer_of_a_group_goes_on_where_the_last_one_stopped") else { return };
    let folder = tempfile::tempdir().unwrap();
    let _ = native(&broker, &["topics", "create", "logs"]);
    let _ = native(&broker, &["produce", "logs", &lines_file(folder.path()).to_string_lossy()]);
    let input = lines();
    let expected: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').take(300).collect();
    for (at, count) in [(0, 100), (100, 200)] {
        let group = ["--topic", "logs", "--group", "readers", "--from-beginning", "--max-messages", &count.to_string()];
        let read = told(&broker, CONSUMER, &group);
        assert!(read.as_bytes() == expected[at..at + count].concat(), "{count} from {at}: {read}");
    }
    let lag: serde_json::Value =
        serde_json::from_str(&native(&broker, &["--output", "json", "groups", "lag", "readers"])).unwrap();
    assert_eq!(lag["lag"], input.iter().filter(|byte| **byte == b'\n').count() - 300, "{lag}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_producer_gets_in_where_producers_were_forgotten_early() {
    let test = "the_console_producer_gets_in_where_producers_were_forgotten_early";
    let Some(broker) = broker_for(test) else { return };
    let before = crowd_with_room(&broker, "crowded").await;
    let offsets = tokio::task::block_in_place(|| {
        produce(&broker, "crowded", &[], b"one\ntwo\n");
        told(&broker, OFFSETS, &["--topic", "crowded"])
    });
    assert_eq!(offsets, format!("crowded:0:{}\n", before + 2));
}
