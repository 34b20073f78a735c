//! Random requests against a naive model of the metadata. Named invariants: RefusalLeavesNoTrace, ReplayGivesTheSameImage,
//! SnapshotGivesTheSameImage, ImageEqualsModel.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidelog_coordination::command::{Admission, Command, CreateTopic, RegisterBroker};
use tidelog_coordination::{ClusterImage, Controller, MetadataRecord};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{BrokerId, ErrorCode, IncarnationId, MetadataIndex, Timestamp, TopicId};

const NAMES: [&str; 6] = ["a.b", "a_b", "orders", "__own", "no good", ""];
const SETTINGS: [(&str, &str); 5] = [
    ("retention.ms", "1000"),
    ("durability", "written"),
    ("segment.bytes", "1073741824"),
    ("retention.ms", "soon"),
    ("colour", "blue"),
];

fn command() -> impl Strategy<Value = Command> {
    let name = || proptest::sample::select(&NAMES[..]).prop_map(String::from);
    let setting = || {
        let entry = |(key, value): (&str, &str)| ConfigEntry { key: key.into(), value: value.into() };
        proptest::collection::vec(proptest::sample::select(&SETTINGS[..]).prop_map(entry), 0..3)
    };
    let reset =
        proptest::collection::vec(proptest::sample::select(&SETTINGS[..]).prop_map(|(key, _)| key.into()), 0..2);
    let create = (name(), 0..5u32, 0..4u16, setting(), any::<[u8; 16]>(), proptest::bool::weighted(0.1)).prop_map(
        |(name, partitions, replication_factor, configs, id, validate_only)| {
            let topic_id = TopicId(id);
            Command::CreateTopic(CreateTopic {
                topic_id,
                name,
                partitions,
                replication_factor,
                configs,
                validate_only,
                internal: false,
            })
        },
    );
    let register = (0..3u32).prop_map(|broker| {
        let (broker_id, incarnation) = (BrokerId(broker), IncarnationId([broker as u8; 16]));
        Command::RegisterBroker(RegisterBroker {
            broker_id,
            incarnation,
            host: "h".into(),
            port: 1,
            rack: None,
            closed_cleanly: None,
            stamps: Vec::new(),
            older_than: None,
            admission: Admission::AtOnce,
        })
    });
    prop_oneof![
        4 => create,
        1 => name().prop_map(|name| Command::DeleteTopic { name }),
        3 => (name(), setting(), reset).prop_map(|(name, set, reset)| Command::AlterTopic { name, set, reset }),
        2 => (name(), 0..8u32).prop_map(|(name, total)| Command::CreatePartitions { name, total }),
        2 => register,
    ]
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Topic {
    partitions: u32,
    replicas: u16,
    settings: BTreeMap<String, String>,
}

/// What people would say the cluster holds.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    /// How often each has started.
    brokers: BTreeMap<u32, u32>,
    topics: BTreeMap<String, Topic>,
}

fn sound(settings: &[ConfigEntry]) -> bool {
    let good = |entry: &ConfigEntry| entry.key != "colour" && entry.value != "soon";
    let once = |entry: &&ConfigEntry| settings.iter().filter(|other| other.key == entry.key).count() == 1;
    settings.iter().all(good) && settings.iter().all(|entry| once(&entry))
}

impl Model {
    fn existing(&mut self, name: &str) -> Result<&mut Topic, ErrorCode> {
        let legal = !name.is_empty() && !name.contains(' ');
        self.topics.get_mut(name).ok_or(if legal { ErrorCode::UnknownTopic } else { ErrorCode::InvalidName })
    }

    fn obey(&mut self, command: &Command) -> Result<(), ErrorCode> {
        let brokers = self.brokers.len();
        match command {
            Command::CreateTopic(create) => {
                let twin = |other: &String| other.replace('.', "_") == create.name.replace('.', "_");
                match create.name.as_str() {
                    "" | "no good" => return Err(ErrorCode::InvalidName),
                    name if self.topics.contains_key(name) => return Err(ErrorCode::TopicExists),
                    "__own" => return Err(ErrorCode::InternalTopic),
                    _ if self.topics.keys().any(twin) => return Err(ErrorCode::InvalidName),
                    _ if create.partitions == 0 => return Err(ErrorCode::InvalidPartitions),
                    _ if !(1..=brokers).contains(&create.replication_factor.into()) => {
                        return Err(ErrorCode::InvalidReplication);
                    }
                    _ if !sound(&create.configs) => return Err(ErrorCode::InvalidConfig),
                    _ if create.validate_only => return Ok(()),
                    _ => {}
                }
                let settings = create.configs.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
                let topic = Topic { partitions: create.partitions, replicas: create.replication_factor, settings };
                self.topics.insert(create.name.clone(), topic);
            }
            Command::DeleteTopic { name } => {
                self.existing(name)?;
                self.topics.remove(name);
            }
            Command::AlterTopic { name, set, reset } => {
                let topic = self.existing(name)?;
                let clash = |key: &String| key == "colour" || set.iter().any(|entry| entry.key == *key);
                if !sound(set) || reset.iter().any(clash) {
                    return Err(ErrorCode::InvalidConfig);
                }
                topic.settings.retain(|key, _| !reset.contains(key));
                topic.settings.extend(set.iter().map(|entry| (entry.key.clone(), entry.value.clone())));
            }
            Command::CreatePartitions { name, total } => {
                let topic = self.existing(name)?;
                if *total <= topic.partitions {
                    return Err(ErrorCode::InvalidPartitions);
                }
                topic.partitions = *total;
            }
            Command::RegisterBroker(register) => *self.brokers.entry(register.broker_id.0).or_default() += 1,
            other => unreachable!("not drawn here: {other:?}"),
        }
        Ok(())
    }

    fn of(image: &ClusterImage, starts: &BTreeMap<u32, u32>) -> Self {
        let topic = |topic: &std::sync::Arc<tidelog_coordination::TopicImage>| {
            let partitions = topic.partitions.len() as u32;
            let replicas = topic.replication_factor() as u16;
            (topic.name.to_string(), Topic { partitions, replicas, settings: topic.overrides.clone() })
        };
        let started = |broker: &tidelog_coordination::BrokerImage| {
            let id = broker.broker_id.0;
            (id, starts.get(&id).copied().unwrap_or(0))
        };
        Self { brokers: image.brokers().map(started).collect(), topics: image.topics().map(topic).collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_image_is_what_the_accepted_requests_say(commands in proptest::collection::vec(command(), 1..60)) {
        let mut controller = Controller::default();
        let mut model = Model::default();
        let mut log: Vec<(MetadataIndex, Vec<u8>)> = Vec::new();
        for (now, command) in commands.iter().enumerate() {
            let before = controller.clone();
            let model_before = model.clone();
            let decision = controller.handle(command, Timestamp(now as i64));
            prop_assert_eq!(&controller, &before, "handling changes nothing");
            let expected = model.obey(command);
            prop_assert_eq!(decision.as_ref().map(|_| ()).map_err(|refusal| refusal.code), expected, "{:?}", command);
            match decision {
                Ok(decision) => {
                    let index = MetadataIndex(controller.image().as_of().0 + 1);
                    for record in decision.records {
                        controller.replay(index, &record);
                        log.push((index, record.to_bytes().to_vec()));
                    }
                }
                Err(refusal) => {
                    prop_assert!(!refusal.message.is_empty());
                    prop_assert_eq!(&model, &model_before, "RefusalLeavesNoTrace");
                }
            }
            prop_assert_eq!(&Model::of(controller.image(), &model.brokers), &model, "ImageEqualsModel");
        }
        let registrations: u32 = model.brokers.values().sum();
        prop_assert_eq!(controller.image().last_broker_epoch().0, u64::from(registrations));

        let mut again = Controller::default();
        for (index, bytes) in &log {
            again.replay(*index, &MetadataRecord::decode(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?);
        }
        prop_assert_eq!(&again, &controller, "ReplayGivesTheSameImage");

        let mut snapshot = ClusterImage::default();
        for record in controller.image().to_records() {
            snapshot.apply(controller.image().as_of(), &record);
        }
        prop_assert_eq!(&snapshot, controller.image(), "SnapshotGivesTheSameImage");
    }
}
