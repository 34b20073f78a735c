//! The controller, one rule at a time, in the words of the people who create topics and start brokers.

use tidelog_coordination::command::{Admission, Command, CreateTopic, RegisterBroker};
use tidelog_coordination::records::{MetadataRecord, PartitionCreated, TopicCreated};
use tidelog_coordination::{Controller, Refusal, Reply};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{
    BrokerEpoch, BrokerId, Durability, ErrorCode, IncarnationId, LeaderEpoch, MetadataIndex, PartitionEpoch, Timestamp,
    TopicId,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

#[derive(Default)]
struct Cluster {
    controller: Controller,
    topics: u8,
}

impl Cluster {
    fn of(brokers: u32) -> Self {
        let mut cluster = Self::default();
        for broker in 1..=brokers {
            cluster.start(broker, 0).expect("a broker registers");
        }
        cluster
    }

    fn ask(&mut self, command: &Command) -> Result<Reply, Refusal> {
        let decision = self.controller.handle(command, NOW)?;
        let index = MetadataIndex(self.controller.image().as_of().0 + 1);
        for record in &decision.records {
            self.controller.replay(index, record);
        }
        Ok(decision.reply)
    }

    fn start(&mut self, broker: u32, incarnation: u8) -> Result<Reply, Refusal> {
        self.ask(&Command::RegisterBroker(RegisterBroker {
            broker_id: BrokerId(broker),
            incarnation: IncarnationId([incarnation; 16]),
            host: "127.0.0.1".into(),
            port: 9092,
            rack: None,
            closed_cleanly: None,
            stamps: Vec::new(),
            older_than: None,
            admission: Admission::AtOnce,
        }))
    }

    fn creation(&mut self, name: &str) -> CreateTopic {
        self.topics += 1;
        CreateTopic {
            topic_id: TopicId([self.topics; 16]),
            name: name.into(),
            partitions: 1,
            replication_factor: 1,
            configs: Vec::new(),
            validate_only: false,
            internal: false,
        }
    }

    fn create(&mut self, name: &str, change: impl FnOnce(&mut CreateTopic)) -> Result<Reply, Refusal> {
        let mut creation = self.creation(name);
        change(&mut creation);
        self.ask(&Command::CreateTopic(creation))
    }

    fn alter(&mut self, name: &str, set: &[(&str, &str)], reset: &[&str]) -> Result<Reply, Refusal> {
        let reset = reset.iter().map(|key| (*key).into()).collect();
        self.ask(&Command::AlterTopic { name: name.into(), set: configs(set), reset })
    }
}

fn configs(pairs: &[(&str, &str)]) -> Vec<ConfigEntry> {
    pairs.iter().map(|(key, value)| ConfigEntry { key: (*key).into(), value: (*value).into() }).collect()
}

fn code(result: Result<Reply, Refusal>) -> ErrorCode {
    result.expect_err("refused").code
}

fn message(result: Result<Reply, Refusal>) -> String {
    result.expect_err("refused").message
}

#[test]
fn a_new_topic_has_its_partitions_and_each_has_a_leader() {
    let mut cluster = Cluster::of(1);
    let reply = cluster.create("orders", |topic| topic.partitions = 3).unwrap();
    let topic_id = TopicId([1; 16]);
    assert_eq!(reply, Reply::TopicCreated { topic_id, partitions: 3 });
    let topic = cluster.controller.image().topic_named("orders").unwrap();
    assert_eq!((topic.id, topic.created_at, topic.internal), (topic_id, NOW, false));
    assert_eq!(topic.partitions.len(), 3);
    for (_, partition) in topic.partitions() {
        assert_eq!(partition.leader, Some(BrokerId(1)));
        assert_eq!((&partition.replicas, &partition.in_sync), (&vec![BrokerId(1)], &vec![BrokerId(1)]));
        assert_eq!((partition.leader_epoch, partition.partition_epoch), (LeaderEpoch(0), PartitionEpoch(0)));
    }
}

#[test]
fn a_decision_changes_nothing_until_it_is_replayed() {
    let mut cluster = Cluster::of(1);
    let creation = cluster.creation("orders");
    let before = cluster.controller.clone();
    let decision = cluster.controller.handle(&Command::CreateTopic(creation), NOW).unwrap();
    assert_eq!(cluster.controller, before);
    assert_eq!(decision.records.len(), 2);
}

#[test]
fn a_check_only_creation_answers_and_writes_nothing() {
    let mut cluster = Cluster::of(1);
    assert!(cluster.create("orders", |topic| topic.validate_only = true).is_ok());
    assert!(cluster.controller.image().topic_named("orders").is_none());
    assert_eq!(
        code(cluster.create("orders", |t| (t.validate_only, t.partitions) = (true, 0))),
        ErrorCode::InvalidPartitions
    );
}

#[test]
fn names_are_checked_and_unique() {
    let mut cluster = Cluster::of(1);
    for name in ["", ".", "..", "../orders", "a b", &"x".repeat(250)] {
        assert_eq!(code(cluster.create(name, |_| {})), ErrorCode::InvalidName, "{name:?}");
    }
    cluster.create("orders.eu", |_| {}).unwrap();
    assert_eq!(code(cluster.create("orders.eu", |_| {})), ErrorCode::TopicExists);
    assert_eq!(
        message(cluster.create("orders_eu", |_| {})),
        "topic 'orders_eu' differs from 'orders.eu' only in '.' and '_'; choose another name"
    );
    assert!(cluster.create("orders-eu", |_| {}).is_ok());
}

#[test]
fn the_brokers_own_topics_are_out_of_reach() {
    let mut cluster = Cluster::of(1);
    assert_eq!(code(cluster.create("__offsets", |_| {})), ErrorCode::InternalTopic);
    let own = TopicCreated {
        topic_id: TopicId([9; 16]),
        name: "__offsets".parse().unwrap(),
        internal: true,
        created_at: NOW,
        overrides: Vec::new(),
    };
    cluster.controller.replay(MetadataIndex(50), &own.into());
    let name = || "__offsets".into();
    assert_eq!(code(cluster.ask(&Command::DeleteTopic { name: name() })), ErrorCode::InternalTopic);
    assert_eq!(code(cluster.ask(&Command::CreatePartitions { name: name(), total: 9 })), ErrorCode::InternalTopic);
    assert_eq!(code(cluster.alter("__offsets", &[], &[])), ErrorCode::InternalTopic);
}

#[test]
fn counts_out_of_range_are_refused_with_the_range() {
    let mut cluster = Cluster::of(2);
    assert_eq!(
        message(cluster.create("x", |topic| topic.partitions = 10_001)),
        "cannot create 10001 partitions at once; possible is 1 to 10000"
    );
    assert_eq!(
        message(cluster.create("x", |topic| topic.replication_factor = 3)),
        "cannot keep 3 replicas on 2 live brokers; possible is 1 to 2"
    );
    assert_eq!(code(cluster.create("x", |topic| topic.replication_factor = 0)), ErrorCode::InvalidReplication);
    assert_eq!(code(Cluster::of(0).create("x", |_| {})), ErrorCode::InvalidReplication);
    let biggest = cluster.create("x", |topic| (topic.partitions, topic.replication_factor) = (10_000, 2));
    assert!(biggest.is_ok());
}

#[test]
fn more_in_sync_replicas_than_replicas_are_refused() {
    let mut cluster = Cluster::of(2);
    let two = || configs(&[("min.insync.replicas", "2")]);
    assert_eq!(code(cluster.create("x", |topic| topic.configs = two())), ErrorCode::InvalidConfig);
    assert!(cluster.create("x", |topic| (topic.configs, topic.replication_factor) = (two(), 2)).is_ok());
    assert_eq!(code(cluster.alter("x", &[("min.insync.replicas", "3")], &[])), ErrorCode::InvalidConfig);
}

#[test]
fn a_configuration_changes_all_at_once_or_not_at_all() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |topic| topic.configs = configs(&[("retention.ms", "5")])).unwrap();
    let half_good = cluster.alter("x", &[("durability", "written"), ("retention.bytes", "lots")], &[]);
    assert_eq!(
        message(half_good),
        "retention.bytes cannot be 'lots'; possible is 0 to 9223372036854775807 bytes, or -1 for unlimited"
    );
    assert_eq!(cluster.controller.image().topic_named("x").unwrap().config.durability, Durability::Flushed);

    let reply = cluster.alter("x", &[("durability", "written")], &["retention.ms"]).unwrap();
    assert_eq!(reply, Reply::TopicAltered { configs: configs(&[("durability", "written")]) });
    let config = cluster.controller.image().topic_named("x").unwrap().config;
    assert_eq!((config.durability, config.retention_ms), (Durability::Written, Some(604_800_000)));
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |topic| topic.configs = configs(&[("retention.ms", "5")])).unwrap();
    let as_of = cluster.controller.image().as_of();
    let command = Command::AlterTopic { name: "x".into(), set: configs(&[("retention.ms", "05")]), reset: Vec::new() };
    assert!(cluster.controller.handle(&command, NOW).unwrap().records.is_empty());
    assert!(cluster.ask(&command).is_ok());
    assert_eq!(cluster.controller.image().as_of(), as_of);
}

#[test]
fn a_key_both_set_and_reset_is_refused() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |_| {}).unwrap();
    assert_eq!(code(cluster.alter("x", &[("retention.ms", "5")], &["retention.ms"])), ErrorCode::InvalidConfig);
    assert_eq!(code(cluster.alter("x", &[], &["retention.ms", "retention.ms"])), ErrorCode::InvalidConfig);
    let misspelt = message(cluster.alter("x", &[], &["retention_ms"]));
    assert_eq!(misspelt, "there is no topic config 'retention_ms'; did you mean 'retention.ms'?");
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |topic| topic.partitions = 2).unwrap();
    let grow = |total| Command::CreatePartitions { name: "x".into(), total };
    for total in [0, 1, 2, 10_003] {
        assert_eq!(code(cluster.ask(&grow(total))), ErrorCode::InvalidPartitions, "{total}");
    }
    assert_eq!(cluster.ask(&grow(5)), Ok(Reply::PartitionsCreated { total: 5 }));
    assert_eq!(cluster.controller.image().topic_named("x").unwrap().partitions.len(), 5);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free_again() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |_| {}).unwrap();
    let delete = Command::DeleteTopic { name: "x".into() };
    assert_eq!(cluster.ask(&delete), Ok(Reply::TopicDeleted { topic_id: TopicId([1; 16]) }));
    assert_eq!(code(cluster.ask(&delete)), ErrorCode::UnknownTopic);
    assert_eq!(cluster.controller.image().topic(TopicId([1; 16])), None);
    cluster.create("x", |_| {}).unwrap();
    assert_eq!(cluster.controller.image().topic_named("x").unwrap().id, TopicId([2; 16]));
    assert_eq!(code(cluster.ask(&Command::DeleteTopic { name: "a/b".into() })), ErrorCode::InvalidName);
}

#[test]
fn a_restarted_broker_leads_under_a_new_epoch() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |topic| topic.partitions = 4).unwrap();
    for round in 1..4 {
        assert_eq!(cluster.start(1, 0), Ok(Reply::BrokerRegistered { epoch: BrokerEpoch(1 + u64::from(round)) }));
        for (_, partition) in cluster.controller.image().topic_named("x").unwrap().partitions() {
            assert_eq!(partition.leader, Some(BrokerId(1)));
            assert_eq!(partition.leader_epoch, LeaderEpoch(round), "{partition:?}");
            assert_eq!(partition.partition_epoch, PartitionEpoch(round));
        }
    }
}

#[test]
fn the_log_begins_with_the_feature_level() {
    let register = RegisterBroker {
        broker_id: BrokerId(1),
        incarnation: IncarnationId([0; 16]),
        host: "h".into(),
        port: 1,
        rack: None,
        closed_cleanly: None,
        stamps: Vec::new(),
        older_than: None,
        admission: Admission::AtOnce,
    };
    let decision = Controller::default().handle(&Command::RegisterBroker(register), NOW).unwrap();
    assert!(matches!(decision.records[..], [MetadataRecord::FeatureLevel(_), MetadataRecord::BrokerRegistered(_)]));
}

/// A broker that does not know what an open transaction is must hold no partition that has one.
#[test]
fn with_the_topic_of_transactions_begins_the_feature_level_of_transactions() {
    let mut cluster = Cluster::of(1);
    cluster.create("__groups", |topic| topic.internal = true).unwrap();
    assert_eq!(cluster.controller.image().feature_level(), 1);
    let mut creation = cluster.creation("__transactions");
    creation.internal = true;
    let decision = cluster.controller.handle(&Command::CreateTopic(creation), NOW).unwrap();
    let [MetadataRecord::FeatureLevel(level), MetadataRecord::TopicCreated(_), MetadataRecord::PartitionCreated(_)] =
        &decision.records[..]
    else {
        panic!("{:?}", decision.records)
    };
    assert_eq!(level.level, 4);
}

#[test]
#[should_panic(expected = "partitions have no gaps")]
fn a_record_that_does_not_follow_stops_the_broker() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |_| {}).unwrap();
    let state = cluster.controller.image().topic_named("x").unwrap().partitions[0].clone();
    let gap = PartitionCreated { topic_id: TopicId([1; 16]), partition: tidelog_protocol::PartitionId(2), state };
    cluster.controller.replay(MetadataIndex(90), &gap.into());
}

#[test]
fn a_kept_image_does_not_see_what_comes_after() {
    let mut cluster = Cluster::of(1);
    cluster.create("x", |_| {}).unwrap();
    let kept = cluster.controller.image().clone();
    cluster.ask(&Command::DeleteTopic { name: "x".into() }).unwrap();
    assert!(kept.topic_named("x").is_some());
    assert!(cluster.controller.image().topic_named("x").is_none());
}
