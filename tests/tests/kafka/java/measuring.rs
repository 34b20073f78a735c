//! The programs that measure, and those that Kafka's own system tests judge brokers by.

use serde_json::Value;

use super::{broker_for, native, told};

#[test]
fn producer_and_consumer_performance_count_all_records() {
    let Some(broker) = broker_for("producer_and_consumer_performance_count_all_records") else { return };
    let records = ["--topic", "perf", "--num-records", "20000"];
    let as_fast = ["--record-size", "512", "--throughput", "-1"];
    let told_producer = told(&broker, "org.apache.kafka.tools.ProducerPerformance", &[&records[..], &as_fast].concat());
    let last = told_producer.lines().last().unwrap();
    assert!(last.starts_with("20000 records sent, ") && last.contains(" 99th"), "{told_producer}");
    let told_consumer = told(&broker, "org.apache.kafka.tools.ConsumerPerformance", &records);
    let mut lines = told_consumer.lines().map(|line| line.split(", ").collect::<Vec<_>>());
    let (names, figures) = (lines.next().unwrap(), lines.next().unwrap());
    let figure = |name| figures[names.iter().position(|found| *found == name).unwrap()];
    assert_eq!(
        [figure("data.consumed.in.nMsg"), figure("data.consumed.in.MB")],
        ["20000", "9.7656"],
        "{told_consumer}"
    );
}

/// What a program said of itself, an object a line.
fn events<'a>(told: &'a str, name: &'a str) -> impl Iterator<Item = Value> + 'a {
    let events = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(move |event| event["name"] == name)
}

#[test]
fn verifiable_producer_and_consumer_find_every_record_acknowledged_and_read() {
    let test = "verifiable_producer_and_consumer_find_every_record_acknowledged_and_read";
    let Some(broker) = broker_for(test) else { return };
    let _ = native(&broker, &["topics", "create", "checked", "--partitions", "3"]);
    let arguments = ["--topic", "checked", "--max-messages", "900"];
    let sent = told(&broker, "org.apache.kafka.tools.VerifiableProducer", &arguments);
    let acked: Vec<(u64, u64)> = events(&sent, "producer_send_success")
        .map(|event| (event["partition"].as_u64().unwrap(), event["offset"].as_u64().unwrap()))
        .collect();
    let total = events(&sent, "tool_data").next().unwrap();
    assert_eq!([&total["sent"], &total["acked"]], [900, 900], "{total}");
    let ends: Vec<u64> =
        (0..3).map(|partition| acked.iter().filter(|(of, _)| *of == partition).count() as u64).collect();
    assert!(acked.iter().all(|(partition, offset)| *offset < ends[usize::try_from(*partition).unwrap()]));
    assert_eq!(ends.iter().sum::<u64>(), 900);

    let arguments = [&arguments[..], &["--group-id", "checkers"]].concat();
    let read = told(&broker, "org.apache.kafka.tools.VerifiableConsumer", &arguments);
    let counts = events(&read, "records_consumed").map(|event| event["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 900);
    let assigned = events(&read, "partitions_assigned").next().unwrap();
    assert_eq!(assigned["partitions"].as_array().unwrap().len(), 3, "{assigned}");
    let commits: Vec<Value> = events(&read, "offsets_committed").collect();
    assert!(commits.iter().all(|commit| commit["success"] == true), "{commits:?}");
    let lag: Value =
        serde_json::from_str(&native(&broker, &["--output", "json", "groups", "lag", "checkers"])).unwrap();
    assert_eq!(lag["lag"], 0, "{lag}");
}
