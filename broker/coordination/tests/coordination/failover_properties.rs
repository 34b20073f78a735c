//! Random brokers that come, go, crash and are wiped, and random leaders and operators, against named invariants:
//! NoAckedRecordLost, OnlyReadableLead, LeaderIsInSync, InSyncAreReplicas, MonotonicEpochs, CleanElection, LastInSyncStays, OnlyLiveLead, FencedOnlyAsTheLast,
//! CopyThenSwitch, ReplayGivesTheSameImage, SnapshotGivesTheSameImage.

use crate::cluster;
use std::collections::BTreeSet;

use crate::cluster::{Cluster, Folder};
use proptest::prelude::*;
use tidelog_coordination::command::{Assignment, Command, HeldReplica, HeldReplicas};
use tidelog_coordination::records::{MetadataRecord, PartitionState};
use tidelog_coordination::{ClusterImage, Controller};
use tidelog_protocol::messages::ReplicaHolding::{self, Nothing, Short, Unreadable};
use tidelog_protocol::{BrokerId, Durability, MetadataIndex, PartitionId};

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Event {
    Start { broker: u32, folder: u8 },
    Fence(u32),
    Unfence(u32),
    ShutDown(u32),
    Remove(u32),
    Controller(u32),
    Alter { topic: usize, in_sync: Vec<u32> },
    Minimum { topic: usize, minimum: u32 },
    Create { topic: usize, replicas: u16, minimum: u32, written: bool },
    Reassign { topic: usize, replicas: Option<Vec<u32>> },
    Drain(u32),
    Keep(u32),
    Balance(u32),
    Prefer,
    Force { topic: usize, broker: u32 },
    Resign(usize),
    Report { topic: usize, broker: u32, holds: ReplicaHolding },
}

fn event() -> impl Strategy<Value = Event> {
    let broker = || 1..5u32;
    let topic = || 0..TOPICS.len();
    prop_oneof![
        3 => (broker(), 0..4u8).prop_map(|(broker, folder)| Event::Start { broker, folder }),
        4 => broker().prop_map(Event::Fence),
        6 => broker().prop_map(Event::Unfence),
        1 => broker().prop_map(Event::ShutDown),
        1 => broker().prop_map(Event::Remove),
        1 => broker().prop_map(Event::Controller),
        6 => (topic(), proptest::sample::subsequence(vec![1, 2, 3, 4], 0..4))
            .prop_map(|(topic, in_sync)| Event::Alter { topic, in_sync }),
        1 => (topic(), 1..4u32).prop_map(|(topic, minimum)| Event::Minimum { topic, minimum }),
        2 => (topic(), 1..5u16, 1..4u32, any::<bool>()).prop_map(|(topic, replicas, minimum, written)| {
            Event::Create { topic, replicas, minimum, written }
        }),
        2 => (topic(), proptest::option::of(proptest::sample::subsequence(vec![4, 2, 1, 3], 0..4)))
            .prop_map(|(topic, replicas)| Event::Reassign { topic, replicas }),
        1 => broker().prop_map(Event::Drain),
        1 => broker().prop_map(Event::Keep),
        1 => (0..4u32).prop_map(Event::Balance),
        1 => Just(Event::Prefer),
        1 => (topic(), broker()).prop_map(|(topic, broker)| Event::Force { topic, broker }),
        1 => topic().prop_map(Event::Resign),
        2 => (topic(), broker(), proptest::sample::select(vec![Nothing, Unreadable, Short]))
            .prop_map(|(topic, broker, holds)| Event::Report { topic, broker, holds }),
    ]
}

/// What an event entitles to.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Licence {
    Nothing,
    /// A disk was wiped: it may have been the last one.
    Wiped,
    /// A leader said who has caught up.
    Vouched,
    /// An operator ordered an unclean election.
    Ordered,
}

/// Lets it happen; a refusal is one of the things that may come of it.
fn happen(cluster: &mut Cluster, event: &Event, serial: u8) -> Licence {
    let id = |broker: u32| BrokerId(broker);
    let command = match event {
        Event::Start { broker, folder } => {
            let (folder, wiped) = match folder {
                0 => (Folder::Wiped(serial), true),
                1 => (Folder::Crashed, false),
                _ => (Folder::Clean, false),
            };
            let started = cluster.try_start(*broker, folder);
            return if wiped && started.is_ok() { Licence::Wiped } else { Licence::Nothing };
        }
        Event::Fence(broker) => Command::FenceBroker(cluster.registration(*broker)),
        Event::Unfence(broker) => Command::UnfenceBroker(cluster.registration(*broker)),
        Event::ShutDown(broker) => Command::ShutDownBroker(cluster.registration(*broker)),
        Event::Remove(broker) => Command::RemoveBroker { broker_id: id(*broker) },
        Event::Controller(broker) => Command::BeginControllerEpoch { broker_id: id(*broker) },
        Event::Alter { topic, in_sync } => {
            let topic = TOPICS[*topic];
            let led = cluster.controller.image().topic_named(topic).and_then(|topic| topic.partitions[0].leader);
            if let Some(leader) = led {
                let mut set = in_sync.clone();
                if !set.contains(&leader.0) {
                    set.push(leader.0);
                }
                let _ = cluster.alter(topic, &set);
            }
            return Licence::Vouched;
        }
        Event::Reassign { topic, replicas } => {
            let replicas = replicas.as_ref().map(|list| list.iter().map(|broker| id(*broker)).collect());
            let assignment = Assignment { topic: TOPICS[*topic].into(), partition: PartitionId(0), replicas };
            Command::Reassign { assignments: vec![assignment] }
        }
        Event::Drain(broker) => Command::Drain { broker_id: id(*broker) },
        Event::Keep(broker) => Command::Keep { broker_id: id(*broker) },
        Event::Balance(copies_max) => Command::Balance { copies_max: *copies_max },
        Event::Prefer => Command::ElectPreferred { partition: None },
        Event::Force { topic, broker } => {
            let (topic, partition, broker_id) = (TOPICS[*topic].into(), PartitionId(0), id(*broker));
            Command::ElectUnclean { topic, partition, broker_id }
        }
        Event::Resign(topic) => {
            let led = cluster.controller.image().topic_named(TOPICS[*topic]).map(|topic| topic.partitions[0].leader);
            if led.flatten().is_some() {
                let _ = cluster.alter(TOPICS[*topic], &[]);
            }
            return Licence::Nothing;
        }
        Event::Report { topic, broker, holds } => {
            let Some(topic) = cluster.controller.image().topic_named(TOPICS[*topic]) else { return Licence::Nothing };
            let (topic_id, partition_epoch) = (topic.id, topic.partitions[0].partition_epoch);
            let replica = HeldReplica { topic_id, partition: PartitionId(0), partition_epoch, holds: *holds };
            let holder = cluster.registration(*broker);
            Command::ReportReplicas(HeldReplicas { holder, replicas: vec![replica] })
        }
        Event::Minimum { topic, minimum } => Command::AlterTopic {
            name: TOPICS[*topic].into(),
            set: cluster::entries(&[("min.insync.replicas", &minimum.to_string())]),
            reset: Vec::new(),
        },
        Event::Create { topic, replicas, minimum, written } => {
            let minimum = minimum.to_string();
            let mut configs = vec![("min.insync.replicas", minimum.as_str())];
            if *written {
                configs.push(("durability", "written"));
            }
            let _ = cluster.create(TOPICS[*topic], |topic| {
                topic.partitions = 3;
                topic.replication_factor = *replicas;
                topic.configs = cluster::entries(&configs);
            });
            return Licence::Nothing;
        }
    };
    let _ = cluster.ask(&command);
    if matches!(event, Event::Force { .. }) { Licence::Ordered } else { Licence::Nothing }
}

fn partitions(image: &ClusterImage) -> Vec<(String, PartitionState)> {
    let name = |topic: &str, index: usize| format!("{topic}-{index}");
    let of = |topic: &std::sync::Arc<tidelog_coordination::TopicImage>| {
        let states = topic.partitions.iter().enumerate();
        states.map(|(index, state)| (name(topic.name.as_str(), index), state.clone())).collect::<Vec<_>>()
    };
    image.topics().flat_map(of).collect()
}

/// What must hold of every partition at every time.
fn sound(image: &ClusterImage, name: &str, state: &PartitionState) {
    let fenced = |broker: &BrokerId| image.broker(*broker).is_none_or(|known| known.fenced);
    if let Some(leader) = state.leader {
        assert!(state.in_sync.contains(&leader), "LeaderIsInSync: {name} {state:?}");
        assert!(!fenced(&leader), "OnlyLiveLead: {name} {state:?}");
        assert!(!state.in_sync.iter().any(fenced), "FencedOnlyAsTheLast: {name} {state:?}");
        assert_eq!(state.last_leader, None);
    } else {
        assert!(state.in_sync.len() <= 1, "FencedOnlyAsTheLast: {name} {state:?}");
        let able = |broker: &BrokerId| {
            state.unreadable != Some(*broker) && image.broker(*broker).is_some_and(|known| known.is_live())
        };
        assert!(!state.in_sync.iter().any(able), "{name} {state:?}");
        assert!(!state.eligible.iter().any(|broker| image.broker(*broker).is_some_and(|known| known.is_live())));
    }
    assert!(state.in_sync.iter().all(|broker| state.replicas.contains(broker)), "InSyncAreReplicas: {name} {state:?}");
    assert!(!state.eligible.iter().any(|broker| state.in_sync.contains(broker)), "{name} {state:?}");
}

/// What must hold of every change.
fn follows(name: &str, before: &PartitionState, after: &PartitionState, licence: Licence) {
    assert!(after.leader_epoch >= before.leader_epoch, "MonotonicEpochs: {name} {before:?} {after:?}");
    assert!(after == before || after.partition_epoch > before.partition_epoch, "MonotonicEpochs: {name} {after:?}");
    if after.leader_epoch > before.leader_epoch {
        let leader = after.leader.expect("a new leadership has a leader");
        let trusted = before.in_sync.contains(&leader) || before.eligible.contains(&leader);
        let trusted = trusted || licence == Licence::Vouched && after.in_sync.contains(&leader);
        let ordered = licence == Licence::Ordered && after.unclean_epoch == Some(after.leader_epoch);
        assert!(trusted || ordered, "CleanElection: {name} {before:?} {after:?}");
    }
    assert!(
        !after.in_sync.is_empty() || before.in_sync.is_empty() || licence == Licence::Wiped,
        "LastInSyncStays: {name} {before:?}"
    );
}

/// Which replicas lack a record that was acknowledged, by partition and broker. Assumes the worst: a partition with enough in sync
/// acknowledges a record at once, and nobody outside the set gets it; a crash loses what was only written.
#[derive(Default)]
struct Lacking(BTreeSet<(String, BrokerId)>);

/// Which brokers have nothing of a partition that nobody else is known to have, until they register anew: their folder may be put back.
#[derive(Default)]
struct Lost(BTreeSet<(String, BrokerId)>);

impl Lost {
    /// A broker has less of a partition than it should.
    fn report(
        &mut self,
        image: &ClusterImage,
        lacking: &mut Lacking,
        (topic, broker): (&str, BrokerId),
        holds: ReplicaHolding,
    ) {
        let Some(state) = image.topic_named(topic).map(|topic| &topic.partitions[0]) else { return };
        let name = format!("{topic}-0");
        if state.in_sync.iter().chain(&state.eligible).any(|other| *other != broker) {
            lacking.0.insert((name, broker));
        } else if holds != Short {
            self.0.insert((name, broker));
        }
    }

    fn check(&self, image: &ClusterImage) {
        for (name, state) in partitions(image) {
            let lost = |broker| self.0.contains(&(name.clone(), broker));
            assert!(!state.leader.is_some_and(lost), "OnlyReadableLead: {name} {state:?}");
        }
    }
}

impl Lacking {
    /// A broker starts with less than it had, as far as it was the only one to have it: then it is lost, and nobody lacks it.
    fn lose(&mut self, image: &ClusterImage, broker: BrokerId, folder: u8) {
        for topic in image.topics() {
            for (index, state) in topic.partitions.iter().enumerate() {
                let others = state.in_sync.iter().chain(&state.eligible).any(|other| *other != broker);
                let tail_lost = folder == 1 && topic.config.durability == Durability::Written && others;
                if folder == 0 || tail_lost {
                    self.0.insert((format!("{}-{index}", topic.name), broker));
                }
            }
        }
    }

    /// After an event: who leads has everything, or it was the order of an operator; then records are acknowledged.
    fn check(&mut self, image: &ClusterImage, before: &ClusterImage, licence: Licence) {
        for topic in image.topics() {
            for (index, state) in topic.partitions.iter().enumerate() {
                let name = format!("{}-{index}", topic.name);
                let lacks = |lacking: &Self, broker: BrokerId| lacking.0.contains(&(name.clone(), broker));
                let old = before.topic(topic.id).map(|topic| &topic.partitions[index]);
                let unclean = old.is_some_and(|old| old.unclean_epoch != state.unclean_epoch);
                if licence == Licence::Vouched || unclean {
                    state.in_sync.iter().for_each(|broker| {
                        self.0.remove(&(name.clone(), *broker));
                    });
                }
                let Some(leader) = state.leader else { continue };
                assert!(!lacks(self, leader), "NoAckedRecordLost: {name} {old:?} {state:?}");
                if state.in_sync.len() >= usize::from(topic.config.min_in_sync_replicas) {
                    for broker in state.in_sync.iter() {
                        assert!(!lacks(self, *broker), "NoAckedRecordLost: {name} {old:?} {state:?}");
                    }
                    let outside = (1..5).map(BrokerId).filter(|broker| !state.in_sync.contains(broker));
                    self.0.extend(outside.map(|broker| (name.clone(), broker)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_to_brokers_the_rules_of_leadership_hold(
        events in proptest::collection::vec(event(), 1..120),
        serving in 1..5u32,
    ) {
        let mut cluster = Cluster::of(serving);
        for (topic, replicas) in TOPICS.iter().take(2).zip([1, 3]) {
            let _ = cluster.create(topic, |topic| topic.replication_factor = replicas);
        }
        let (mut lacking, mut lost) = (Lacking::default(), Lost::default());
        for (serial, event) in (10..).zip(&events) {
            let before = cluster.controller.clone();
            let registered = before.image().last_broker_epoch();
            let licence = happen(&mut cluster, event, serial);
            let image = cluster.controller.image();
            if let Event::Start { broker, folder } = event
                && image.last_broker_epoch() > registered
            {
                lacking.lose(before.image(), BrokerId(*broker), *folder);
                lost.0.retain(|(_, other)| *other != BrokerId(*broker));
            }
            if let Event::Report { topic, broker, holds } = event
                && before.image().broker(BrokerId(*broker)).is_some()
            {
                lost.report(before.image(), &mut lacking, (TOPICS[*topic], BrokerId(*broker)), *holds);
            }
            if let (Event::Force { topic, .. }, true) = (event, image.as_of() > before.image().as_of()) {
                lost.0.retain(|(name, _)| *name != format!("{}-0", TOPICS[*topic]));
            }
            lost.check(image);
            lacking.check(image, before.image(), licence);
            for (name, state) in partitions(image) {
                sound(image, &name, &state);
            }
            let held = partitions(before.image());
            for ((name, before), (again, after)) in held.iter().zip(partitions(image).iter().filter(|(name, _)| {
                held.iter().any(|(known, _)| known == name)
            })) {
                prop_assert_eq!(name, again);
                follows(name, before, after, licence);
            }
            let epochs = (before.image().last_broker_epoch(), before.image().controller_epoch());
            prop_assert!(epochs <= (image.last_broker_epoch(), image.controller_epoch()), "MonotonicEpochs");
        }

        let mut again = Controller::default();
        for (index, record) in &cluster.log {
            let bytes = record.to_bytes();
            let record = MetadataRecord::decode(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&record.to_bytes(), &bytes);
            again.replay(*index, &record);
        }
        prop_assert_eq!(&again, &cluster.controller, "ReplayGivesTheSameImage");

        let image = cluster.controller.image();
        let mut snapshot = ClusterImage::default();
        for record in image.to_records() {
            snapshot.apply(image.as_of(), &record);
        }
        prop_assert_eq!(&snapshot, image, "SnapshotGivesTheSameImage");
        prop_assert!(snapshot.to_records().iter().all(|record| record.version() <= image.feature_level()));
        prop_assert!(image.as_of() > MetadataIndex(0));
    }
}
