//! A cluster on paper for the tests: a controller, and every command stored as soon as it is decided. Knows nothing of what the
//! tests want to show.
#![allow(dead_code, reason = "each test program uses a part")]

use tidelog_coordination::command::{
    Admission, AlterInSync, AlterPartition, Command, CreateTopic, RegisterBroker, Registration,
};
use tidelog_coordination::records::PartitionState;
use tidelog_coordination::{Controller, MetadataRecord, Refusal, Reply};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{
    BrokerEpoch, BrokerId, ErrorCode, FolderStamp, IncarnationId, MetadataIndex, PartitionId, Timestamp, TopicId,
};

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

#[derive(Default)]
pub struct Cluster {
    pub controller: Controller,
    pub log: Vec<(MetadataIndex, MetadataRecord)>,
    topics: u8,
}

/// What came of a start.
pub enum Folder {
    /// As it was left by a clean end.
    Clean,
    /// As it was left by a crash.
    Crashed,
    /// Another disk.
    Wiped(u8),
}

impl Cluster {
    /// Brokers 1 to `brokers`, all serving, in racks as `rack` says.
    pub fn with_racks(brokers: u32, rack: impl Fn(u32) -> Option<String>) -> Self {
        let mut cluster = Self::default();
        for broker in 1..=brokers {
            let register = RegisterBroker { rack: rack(broker), ..registration_of(broker, 0) };
            cluster.ask(&Command::RegisterBroker(register)).expect("a broker registers");
        }
        cluster
    }

    pub fn of(brokers: u32) -> Self {
        Self::with_racks(brokers, |_| None)
    }

    pub fn ask(&mut self, command: &Command) -> Result<Reply, Refusal> {
        let decision = self.controller.handle(command, NOW)?;
        assert_eq!(decision.epoch, self.controller.image().controller_epoch());
        let index = MetadataIndex(self.controller.image().as_of().0 + 1);
        for record in decision.records {
            self.controller.replay(index, &record);
            self.log.push((index, record));
        }
        Ok(decision.reply)
    }

    pub fn try_start(&mut self, broker: u32, folder: Folder) -> Result<Reply, Refusal> {
        let known = self.controller.image().broker(BrokerId(broker)).cloned();
        let old = known.as_ref().map_or(0, |known| known.incarnation.0[0]);
        let (incarnation, closed_cleanly) = match folder {
            Folder::Clean => (old, known.map(|known| known.epoch)),
            Folder::Crashed => (old, None),
            Folder::Wiped(incarnation) => (incarnation, None),
        };
        let admission = Admission::AfterHeartbeat;
        let register = RegisterBroker { closed_cleanly, admission, ..registration_of(broker, incarnation) };
        self.ask(&Command::RegisterBroker(register))
    }

    /// The broker starts after a crash with a folder that knows these stamps. Whether that is an older copy.
    pub fn start_knowing(&mut self, broker: u32, stamps: &[u64]) -> bool {
        let mut register = RegisterBroker {
            stamps: folder_stamps(stamps),
            admission: Admission::AfterHeartbeat,
            ..registration_of(broker, 0)
        };
        let before = self.log.len();
        match self.ask(&Command::RegisterBroker(register.clone())) {
            Ok(Reply::BrokerRegistered { .. }) => return false,
            Ok(Reply::FolderIsOlder { than }) => register.older_than = Some(than),
            other => unreachable!("{other:?}"),
        }
        assert_eq!(self.log.len(), before, "nothing is done yet");
        let again = self.ask(&Command::RegisterBroker(register.clone()));
        assert!(matches!(again, Ok(Reply::BrokerRegistered { .. })), "{again:?}");
        true
    }

    /// The folder of a broker knows these stamps.
    pub fn stamp(&mut self, broker: u32, stamps: &[u64]) -> Result<Reply, Refusal> {
        self.ask(&Command::StampFolder { broker: self.registration(broker), stamps: folder_stamps(stamps) })
    }

    /// The broker registers, and is fenced until it has caught up.
    pub fn start(&mut self, broker: u32, folder: Folder) {
        self.try_start(broker, folder).expect("it registers");
    }

    /// As [`Cluster::start`], and it catches up.
    pub fn serve(&mut self, broker: u32, folder: Folder) {
        self.start(broker, folder);
        self.unfence(broker);
    }

    pub fn registration(&self, broker: u32) -> Registration {
        let broker_id = BrokerId(broker);
        let epoch = self.controller.image().broker(broker_id).map_or(BrokerEpoch(0), |known| known.epoch);
        Registration { broker_id, epoch }
    }

    pub fn fence(&mut self, broker: u32) {
        self.ask(&Command::FenceBroker(self.registration(broker))).expect("it is fenced");
    }

    pub fn unfence(&mut self, broker: u32) {
        self.ask(&Command::UnfenceBroker(self.registration(broker))).expect("it comes back");
    }

    pub fn shut_down(&mut self, broker: u32) -> u32 {
        match self.ask(&Command::ShutDownBroker(self.registration(broker))) {
            Ok(Reply::BrokerLeaving { still_leads }) => still_leads,
            other => unreachable!("{other:?}"),
        }
    }

    /// A topic of one partition on exactly these replicas.
    pub fn topic_on<const N: usize>(&mut self, name: &str, replicas: [u32; N], configs: &[(&str, &str)]) {
        self.create(name, |topic| {
            topic.replication_factor = N as u16;
            topic.configs = entries(configs);
        })
        .expect("a topic");
        let mut state = self.partition(name).clone();
        state.replicas = replicas.map(BrokerId).to_vec();
        state.in_sync = state.replicas.clone();
        if state.leader != Some(state.replicas[0]) {
            state.leader_epoch.0 += 1;
        }
        state.leader = Some(state.replicas[0]);
        state.partition_epoch.0 += 1;
        let topic_id = self.controller.image().topic_named(name).expect("a topic").id;
        let change = tidelog_coordination::records::PartitionChanged { topic_id, partition: PartitionId(0), state };
        let index = MetadataIndex(self.controller.image().as_of().0 + 1);
        self.controller.replay(index, &change.clone().into());
        self.log.push((index, change.into()));
    }

    pub fn create(&mut self, name: &str, change: impl FnOnce(&mut CreateTopic)) -> Result<Reply, Refusal> {
        self.topics += 1;
        let mut creation = CreateTopic {
            topic_id: TopicId([self.topics; 16]),
            name: name.into(),
            partitions: 1,
            replication_factor: 1,
            configs: Vec::new(),
            validate_only: false,
            internal: false,
        };
        change(&mut creation);
        self.ask(&Command::CreateTopic(creation))
    }

    /// The first partition of a topic.
    pub fn partition(&self, topic: &str) -> &PartitionState {
        &self.controller.image().topic_named(topic).expect("the topic exists").partitions[0]
    }

    pub fn leader(&self, topic: &str) -> Option<u32> {
        self.partition(topic).leader.map(|leader| leader.0)
    }

    pub fn in_sync(&self, topic: &str) -> Vec<u32> {
        self.partition(topic).in_sync.iter().map(|broker| broker.0).collect()
    }

    pub fn eligible(&self, topic: &str) -> Vec<u32> {
        self.partition(topic).eligible.iter().map(|broker| broker.0).collect()
    }

    /// What the leader of a topic's first partition would send so that `in_sync` are in sync.
    pub fn in_sync_change(&self, topic: &str, in_sync: &[u32]) -> AlterPartition {
        let topic = self.controller.image().topic_named(topic).expect("the topic exists");
        let state = &topic.partitions[0];
        AlterPartition {
            topic_id: topic.id,
            partition: PartitionId(0),
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            in_sync: in_sync.iter().map(|broker| self.registration(*broker)).collect(),
        }
    }

    /// What the controller answers to one change by `leader`.
    pub fn alter_as(&mut self, leader: Registration, change: AlterPartition) -> Result<PartitionState, Refusal> {
        match self.ask(&Command::AlterInSync(AlterInSync { leader, partitions: vec![change] }))? {
            Reply::InSyncAltered { mut partitions } => partitions.remove(0),
            other => unreachable!("{other:?}"),
        }
    }

    /// The leader of a topic's first partition takes others in, or leaves them out.
    pub fn alter(&mut self, topic: &str, in_sync: &[u32]) -> Result<PartitionState, Refusal> {
        let leader = self.registration(self.leader(topic).expect("somebody leads"));
        self.alter_as(leader, self.in_sync_change(topic, in_sync))
    }
}

pub fn registration_of(broker: u32, incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(broker),
        incarnation: IncarnationId([incarnation; 16]),
        host: format!("host-{broker}"),
        port: 9092,
        rack: None,
        closed_cleanly: None,
        stamps: Vec::new(),
        older_than: None,
        admission: Admission::AtOnce,
    }
}

pub fn folder_stamps(stamps: &[u64]) -> Vec<FolderStamp> {
    stamps.iter().copied().map(FolderStamp).collect()
}

pub fn entries(pairs: &[(&str, &str)]) -> Vec<ConfigEntry> {
    pairs.iter().map(|(key, value)| ConfigEntry { key: (*key).into(), value: (*value).into() }).collect()
}

pub fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> ErrorCode {
    result.expect_err("refused").code
}

pub fn message<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    result.expect_err("refused").message
}
