//! `kafka-topics`, `kafka-configs` and `kafka-log-dirs`.

use super::{broker_for, native, refused, rows, told};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";

#[test]
fn kafka_topics_makes_shows_grows_and_deletes_topics() {
    let Some(broker) = broker_for("kafka_topics_makes_shows_grows_and_deletes_topics") else { return };
    let topics = |arguments: &[&str]| told(&broker, TOPICS, arguments);
    let listed = || topics(&["--list"]);
    let make = ["--create", "--topic", "work", "--partitions", "3", "--config", "retention.ms=86400000"];
    assert_eq!(topics(&make), "Created topic work.\n");
    assert!(refused(&broker, TOPICS, &make).contains("TopicExistsException"));
    assert!(listed().lines().any(|topic| topic == "work"), "{}", listed());

    let describe = |partitions: usize| {
        let described = topics(&["--describe", "--topic", "work"]);
        let (first, rest) = described.split_once('\n').unwrap();
        for part in [&format!("PartitionCount: {partitions}"), "ReplicationFactor: 1", "Configs: retention.ms=86400000"]
        {
            assert!(first.contains(part), "{part}: {first}");
        }
        let expected = |partition| {
            format!("Topic: work Partition: {partition} Leader: 1 Replicas: 1 Isr: 1 Elr: N/A LastKnownElr: N/A")
        };
        let found: Vec<String> = rows(rest).iter().map(|row| row.join(" ")).collect();
        assert_eq!(found, (0..partitions).map(expected).collect::<Vec<_>>());
    };
    describe(3);
    assert_eq!(topics(&["--alter", "--topic", "work", "--partitions", "5"]), "");
    describe(5);
    let fewer = refused(&broker, TOPICS, &["--alter", "--topic", "work", "--partitions", "2"]);
    assert!(fewer.contains("InvalidPartitionsException"), "{fewer}");

    assert_eq!(topics(&["--delete", "--topic", "work"]), "");
    assert!(!listed().lines().any(|topic| topic == "work"), "{}", listed());
}

/// The configuration of a topic as the program shows it: `key=value`, without what it says of each.
fn config_lines(shown: &str) -> Vec<&str> {
    shown.lines().skip(1).map(|line| line.trim().split(" sensitive=").next().unwrap()).collect()
}

#[test]
fn kafka_configs_shows_and_alters_topics() {
    let Some(broker) = broker_for("kafka_configs_shows_and_alters_topics") else { return };
    let _ = native(&broker, &["topics", "create", "work"]);
    let configs = |arguments: &[&str]| told(&broker, CONFIGS, arguments);
    let describe = || configs(&["--describe", "--topic", "work"]);
    let alter = ["--alter", "--topic", "work"];
    assert_eq!(describe(), "Dynamic configs for topic work are:\n");
    let set = ["--add-config", "retention.ms=1000000,cleanup.policy=[compact,delete]"];
    assert_eq!(configs(&[&alter[..], &set].concat()), "Completed updating config for topic work.\n");
    let shown = describe();
    assert_eq!(config_lines(&shown), ["cleanup.policy=compact,delete", "retention.ms=1000000"]);
    let source = "synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1000000, DEFAULT_CONFIG:retention.ms=604800000}";
    assert!(shown.contains(source), "{shown}");
    let _ = configs(&[&alter[..], &["--delete-config", "retention.ms"]].concat());
    assert_eq!(config_lines(&describe()), ["cleanup.policy=compact,delete"]);
    let all = configs(&["--describe", "--topic", "work", "--all"]);
    for line in ["retention.ms=604800000", "min.insync.replicas=1", "segment.bytes=268435456"] {
        assert!(config_lines(&all).contains(&line), "{line}: {all}");
    }
    let unknown = refused(&broker, CONFIGS, &[&alter[..], &["--add-config", "nonsense=1"]].concat());
    assert!(unknown.contains("InvalidConfigurationException: there is no topic config 'nonsense'"), "{unknown}");

    let of_broker = configs(&["--describe", "--broker", "1", "--all"]);
    let listen = format!("listen={}:0", broker.address().ip());
    assert!(config_lines(&of_broker).contains(&listen.as_str()), "{listen}: {of_broker}");
}

#[test]
fn kafka_log_dirs_shows_where_a_topic_lies() {
    let Some(broker) = broker_for("kafka_log_dirs_shows_where_a_topic_lies") else { return };
    let _ = native(&broker, &["topics", "create", "work", "--partitions", "2"]);
    let shown = told(&broker, LOG_DIRS, &["--describe", "--topic-list", "work"]);
    let shown: serde_json::Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    let folder = &shown["brokers"][0]["logDirs"][0];
    assert_eq!(folder["logDir"], broker.data().to_str().unwrap(), "{shown}");
    let mut names: Vec<_> = folder["partitions"].as_array().unwrap().iter().map(|part| &part["partition"]).collect();
    names.sort_by_key(|name| name.to_string());
    assert_eq!(names, ["work-0", "work-1"]);
}
