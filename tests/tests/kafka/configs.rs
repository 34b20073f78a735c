//! Configuration of topics and brokers by Kafka's APIs: what is said of it, in every version, and what changes it and what is refused.

use tidelog_protocol::kafka::alter_configs::{self, AlterConfigsRequest};
use tidelog_protocol::kafka::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use tidelog_protocol::kafka::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use tidelog_protocol::kafka::incremental_alter_configs::{
    APPEND, AlterConfigsResource, AlterableConfig, DELETE, IncrementalAlterConfigsRequest, SET, SUBTRACT,
};
use tidelog_protocol::kafka::{ApiKey, KafkaError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::raw_kafka::RawKafka;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where values come from.
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const OF_DEFAULTS: i8 = 5;

fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    let configuration_keys = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
    DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys }
}

async fn described(kafka: &mut RawKafka, asked: DescribeConfigsResource, version: i16) -> DescribeConfigsResult {
    let request =
        DescribeConfigsRequest { resources: vec![asked], include_synonyms: true, include_documentation: true };
    kafka.call(&request, version).await.results.remove(0)
}

/// What holds for a topic under one key, and where that comes from.
async fn holds(kafka: &mut RawKafka, topic: &str, key: &str) -> (String, i8) {
    let asked = resource(TOPIC, topic, Some(&[key]));
    let mut result = described(kafka, asked, 4).await;
    assert_eq!((result.error_code, result.configs.len()), (0, 1), "{:?}", result.error_message);
    let config = result.configs.remove(0);
    assert_eq!(config.name, key);
    (config.value.unwrap(), config.config_source)
}

/// One change of one key of a topic: error and sentence.
async fn change(
    kafka: &mut RawKafka,
    (kind, name): (i8, &str),
    changes: &[(i8, &str, Option<&str>)],
    (validate_only, version): (bool, i16),
) -> (i16, String) {
    let configs = changes.iter().map(|(config_operation, name, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    });
    let resource = AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: configs.collect() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let told = kafka.call(&request, version).await.responses.remove(0);
    assert_eq!((told.resource_type, &*told.resource_name), (kind, name));
    (told.error_code, told.error_message.unwrap_or_default())
}

/// The whole configuration of a topic takes another's place: error and sentence.
async fn replace(kafka: &mut RawKafka, topic: &str, values: &[(&str, Option<&str>)], version: i16) -> (i16, String) {
    let configs = values
        .iter()
        .map(|(name, value)| alter_configs::AlterableConfig { name: (*name).into(), value: value.map(Into::into) });
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: configs.collect(),
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let told = kafka.call(&request, version).await.responses.remove(0);
    (told.error_code, told.error_message.unwrap_or_default())
}

fn find<'a>(result: &'a DescribeConfigsResult, key: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name == key).unwrap_or_else(|| panic!("no {key} in {result:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_says_of_a_value_where_it_comes_from_and_what_it_is() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("told").await;
    let set = [(SET, "retention.ms", Some("1000"))];
    assert_eq!(change(&mut kafka, (TOPIC, "told"), &set, (false, 1)).await, (0, String::new()));
    for version in ApiKey::DescribeConfigs.versions() {
        let result = described(&mut kafka, resource(TOPIC, "told", None), version).await;
        assert_eq!((result.error_code, result.error_message.as_deref()), (0, None), "version {version}");
        let retention = find(&result, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), OF_TOPIC));
        assert!(!retention.read_only && !retention.is_sensitive);
        let synonyms: Vec<_> =
            retention.synonyms.iter().map(|synonym| (synonym.value.as_deref().unwrap(), synonym.source)).collect();
        assert_eq!(synonyms, [("1000", OF_TOPIC), ("604800000", OF_DEFAULTS)], "version {version}");
        let segment = find(&result, "segment.bytes");
        assert_eq!((segment.value.as_deref(), segment.config_source), (Some("268435456"), OF_DEFAULTS));
        let timestamps = find(&result, "message.timestamp.type");
        assert_eq!((timestamps.value.as_deref(), timestamps.read_only), (Some("CreateTime"), true));
        if version >= 3 {
            // As Kafka numbers them: a long, an integer, a fraction, a list, a text.
            for (key, kind) in [
                ("retention.ms", 5),
                ("min.insync.replicas", 3),
                ("min.cleanable.dirty.ratio", 6),
                ("cleanup.policy", 7),
                ("durability", 2),
            ] {
                assert_eq!(find(&result, key).config_type, kind, "{key}");
            }
            assert!(retention.documentation.as_ref().unwrap().contains("kept at least"), "version {version}");
        }
    }
    // Nothing but what is asked for, and each topic once.
    let brief = DescribeConfigsRequest {
        resources: vec![resource(TOPIC, "told", Some(&["durability", "nothing"])); 2],
        ..Default::default()
    };
    let results = kafka.call(&brief, 4).await.results;
    assert_eq!((results.len(), results[0].configs.len()), (1, 1));
    let durability = &results[0].configs[0];
    assert_eq!((durability.synonyms.len(), durability.documentation.as_deref()), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_says_what_it_was_started_with_under_names_that_tools_know() {
    let broker = BrokerSettings::new().set("default_partitions", "7").start();
    let mut kafka = RawKafka::open(broker.address()).await;
    let result = described(&mut kafka, resource(BROKER, "1", None), 4).await;
    let partitions = find(&result, "num.partitions");
    assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("7"), OF_BROKER));
    let set_as: Vec<_> = partitions.synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
    assert_eq!(set_as, [("default_partitions", OF_BROKER), ("default_partitions", OF_DEFAULTS)]);
    let makes = find(&result, "auto.create.topics.enable");
    assert_eq!((makes.value.as_deref(), makes.config_source, makes.config_type), (Some("true"), OF_DEFAULTS, 1));
    assert!(result.configs.iter().all(|config| config.read_only && config.documentation.is_some()));
    // What would hold for all brokers together, if something could be set for them.
    let all = described(&mut kafka, resource(BROKER, "", None), 4).await;
    assert_eq!((all.error_code, all.configs.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_configuration_here_is_refused_with_the_reason() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    for (kind, name, error, word) in [
        (TOPIC, "nowhere", KafkaError::UnknownTopicOrPartition, "'nowhere'"),
        (TOPIC, "no/name", KafkaError::InvalidTopic, "not '/'"),
        (BROKER, "2", KafkaError::InvalidRequest, "broker 1"),
        (BROKER, "one", KafkaError::InvalidRequest, "broker 1"),
        (8, "1", KafkaError::InvalidRequest, "kind 8"),
    ] {
        let result = described(&mut kafka, resource(kind, name, None), 4).await;
        assert_eq!((result.error_code, result.configs.len()), (error.code(), 0), "{name}");
        assert!(result.error_message.as_ref().is_some_and(|said| said.contains(word)), "{result:?}");
        if kind != BROKER {
            let (code, said) = change(&mut kafka, (kind, name), &[(SET, "retention.ms", Some("1"))], (false, 1)).await;
            assert_eq!(code, error.code(), "{said}");
        }
    }
    let (code, said) = change(&mut kafka, (BROKER, "1"), &[(SET, "num.partitions", Some("3"))], (false, 1)).await;
    assert_eq!(code, KafkaError::InvalidRequest.code());
    assert!(said.contains("when it starts"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_values_change_and_the_others_stay() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("single").await;
    let topic = (TOPIC, "single");
    for version in ApiKey::IncrementalAlterConfigs.versions() {
        let set = [(SET, "retention.ms", Some("2000")), (SET, "max.message.bytes", Some("2048"))];
        assert_eq!(change(&mut kafka, topic, &set, (false, version)).await, (0, String::new()));
        assert_eq!(holds(&mut kafka, "single", "retention.ms").await, ("2000".into(), OF_TOPIC));
        let put_back = [(DELETE, "retention.ms", None)];
        assert_eq!(change(&mut kafka, topic, &put_back, (false, version)).await, (0, String::new()));
        assert_eq!(holds(&mut kafka, "single", "retention.ms").await, ("604800000".into(), OF_DEFAULTS));
        assert_eq!(holds(&mut kafka, "single", "max.message.bytes").await, ("2048".into(), OF_TOPIC));
    }
    for (operation, word, policy) in
        [(APPEND, "compact", "compact,delete"), (SUBTRACT, "delete", "compact"), (APPEND, "compact", "compact")]
    {
        let changed = [(operation, "cleanup.policy", Some(word))];
        assert_eq!(change(&mut kafka, topic, &changed, (false, 1)).await, (0, String::new()));
        assert_eq!(holds(&mut kafka, "single", "cleanup.policy").await.0, policy);
    }
    // It holds where it matters: a batch above the limit is refused.
    let large = tidelog_tests::raw_connection::batch(&[&[0; 4096]], tidelog_protocol::records::Compression::None);
    assert_eq!(kafka.produce("single", large).await.error_code, KafkaError::MessageTooLarge.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_checked_changes_nothing_and_is_refused_alike() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("checked").await;
    let topic = (TOPIC, "checked");
    let set = [(SET, "retention.ms", Some("3000"))];
    assert_eq!(change(&mut kafka, topic, &set, (true, 1)).await, (0, String::new()));
    assert_eq!(holds(&mut kafka, "checked", "retention.ms").await, ("604800000".into(), OF_DEFAULTS));
    for (changes, error, word) in [
        (vec![(SET, "retention.mss", Some("1"))], KafkaError::InvalidConfig, "did you mean 'retention.ms'"),
        (vec![(DELETE, "colour", None)], KafkaError::InvalidConfig, "no topic config 'colour'"),
        (vec![(SET, "retention.ms", Some("soon"))], KafkaError::InvalidConfig, "'soon'"),
        (vec![(SET, "min.insync.replicas", Some("2"))], KafkaError::InvalidConfig, "replication factor"),
        (vec![(SET, "retention.ms", None)], KafkaError::InvalidRequest, "no value"),
        (vec![(SET, "retention.ms", Some("1")), (DELETE, "retention.ms", None)], KafkaError::InvalidConfig, "twice"),
        (vec![(APPEND, "retention.ms", Some("1"))], KafkaError::InvalidConfig, "no list"),
        (vec![(SUBTRACT, "cleanup.policy", Some("delete"))], KafkaError::InvalidConfig, "cleanup.policy cannot be ''"),
        (vec![(7, "retention.ms", Some("1"))], KafkaError::InvalidRequest, "no operation 7"),
        (vec![(SET, "message.timestamp.type", Some("LogAppendTime"))], KafkaError::InvalidConfig, "'CreateTime'"),
    ] {
        for validate_only in [true, false] {
            let (code, said) = change(&mut kafka, topic, &changes, (validate_only, 1)).await;
            assert_eq!(code, error.code(), "{changes:?}: {said}");
            assert!(said.contains(word), "{said}");
        }
    }
    let result = described(&mut kafka, resource(TOPIC, "checked", None), 4).await;
    assert!(result.configs.iter().all(|config| config.config_source == OF_DEFAULTS), "{result:?}");
    // What is so anyway may be said, as some clients do.
    let anyway = [(SET, "compression.type", Some("producer")), (DELETE, "message.timestamp.type", None)];
    assert_eq!(change(&mut kafka, topic, &anyway, (false, 1)).await, (0, String::new()));
    let one = AlterConfigsResource { resource_type: TOPIC, resource_name: "checked".into(), configs: Vec::new() };
    let twice = IncrementalAlterConfigsRequest { resources: vec![one; 2], validate_only: false };
    let codes: Vec<_> = kafka.call(&twice, 1).await.responses.iter().map(|told| told.error_code).collect();
    assert_eq!(codes, [KafkaError::InvalidRequest.code(); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_takes_the_place_of_all_that_was_set() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("whole").await;
    for version in ApiKey::AlterConfigs.versions() {
        let told = replace(&mut kafka, "whole", &[("retention.ms", Some("1")), ("segment.ms", Some("2"))], version);
        assert_eq!(told.await, (0, String::new()));
        let told = replace(&mut kafka, "whole", &[("segment.ms", Some("3"))], version);
        assert_eq!(told.await, (0, String::new()));
        assert_eq!(holds(&mut kafka, "whole", "segment.ms").await, ("3".into(), OF_TOPIC));
        assert_eq!(holds(&mut kafka, "whole", "retention.ms").await, ("604800000".into(), OF_DEFAULTS));
        let (code, said) = replace(&mut kafka, "whole", &[("segment.ms", None)], version).await;
        assert_eq!(code, KafkaError::InvalidRequest.code(), "{said}");
        let (code, said) = replace(&mut kafka, "whole", &[("segment.mss", Some("3"))], version).await;
        assert_eq!(code, KafkaError::InvalidConfig.code(), "{said}");
        assert_eq!(holds(&mut kafka, "whole", "segment.ms").await, ("3".into(), OF_TOPIC));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_with_what_is_so_anyway_and_with_nothing_else_of_that() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    let make = |name: &str, value: &str| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig { name: "message.timestamp.type".into(), value: Some(value.into()) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let made = kafka.call(&make("by-create-time", "CreateTime"), 7).await.topics.remove(0);
    assert_eq!((made.error_code, made.error_message), (0, None));
    assert!(made.configs.unwrap().iter().any(|config| config.name == "message.timestamp.type" && config.read_only));
    let refused = kafka.call(&make("by-append-time", "LogAppendTime"), 7).await.topics.remove(0);
    assert_eq!(refused.error_code, KafkaError::InvalidConfig.code());
}

/// Whichever broker is asked: what another one has just made is known, and what is only checked stays as it is everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn every_broker_of_a_cluster_changes_and_checks_alike() {
    let cluster = Cluster::start(ClusterSettings::of(3)).await;
    let mut brokers = Vec::new();
    for id in 1..=3 {
        brokers.push(RawKafka::open(cluster.address(id)).await);
    }
    // Each time it may happen that the others have heard of it already.
    for turn in 0..12 {
        let name = &format!("made-{turn}");
        brokers[turn % 3].make(name).await;
        let other = &mut brokers[(turn + 1) % 3];
        let set = [(SET, "retention.ms", Some("4000"))];
        assert_eq!(change(other, (TOPIC, name), &set, (true, 1)).await, (0, String::new()));
        assert_eq!(holds(other, name, "retention.ms").await.1, OF_DEFAULTS);
        let told = replace(other, name, &[("retention.ms", Some("4000")), ("min.insync.replicas", Some("2"))], 2);
        assert_eq!(told.await, (0, String::new()));
        assert_eq!(holds(other, name, "retention.ms").await, ("4000".into(), OF_TOPIC));
        // The third broker puts back what it may not have heard of by itself yet.
        let third = &mut brokers[(turn + 2) % 3];
        assert_eq!(replace(third, name, &[], 2).await, (0, String::new()));
        assert_eq!(holds(third, name, "retention.ms").await, ("604800000".into(), OF_DEFAULTS));
        assert_eq!(holds(third, name, "min.insync.replicas").await, ("1".into(), OF_DEFAULTS));
    }
}
