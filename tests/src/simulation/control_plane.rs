//! The control plane of a simulation: the real controller and the real leases, with a quorum that always agrees but may be away for
//! a while. Knows nothing of how brokers take what it decides.

use tidelog_coordination::command::{
    Admission, AlterInSync, AlterPartition, Command, CreateTopic, RegisterBroker, Registration,
};
use tidelog_coordination::leases::{Answer, Heartbeat, Intent, Leases};
use tidelog_coordination::records::{FeatureLevel, PartitionChanged, PartitionState};
use tidelog_coordination::{ClusterImage, Controller, Refusal, Reply};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{
    BrokerId, IncarnationId, LeaderEpoch, MetadataIndex, Monotonic, PartitionEpoch, PartitionId, ProtocolVersion,
    Timestamp, TopicId,
};
use tidelog_replication::{InSyncProposal, Membership};

use super::invariants::Invariants;
use super::message::Message;
use super::settings::{Settings, ShellFlaw};

const TOPIC: TopicId = TopicId([7; 16]);
const WHEN: Timestamp = Timestamp(0);

/// The controller and its leases.
pub struct ControlPlane {
    controller: Controller,
    leases: Leases,
    settings: Settings,
    is_away: bool,
}

impl ControlPlane {
    /// In office, with every broker registered and serving, and the one topic created.
    ///
    /// # Panics
    /// Where the controller refuses that.
    #[must_use]
    pub fn new(settings: Settings, now: Monotonic) -> Self {
        let controller = Controller::default();
        let leases = Leases::new(controller.image(), settings.lease_ms, now);
        let mut plane = Self { controller, leases, settings, is_away: false };
        plane.must(&Command::BeginControllerEpoch { broker_id: BrokerId(1) });
        plane.must(&Command::BeginFeatureLevel { level: FeatureLevel::NEWEST });
        for broker in 1..=settings.brokers {
            let register = registration(BrokerId(broker), 0);
            plane.must(&Command::RegisterBroker(RegisterBroker { admission: Admission::AtOnce, ..register }));
        }
        let config = |key: &str, value: String| ConfigEntry { key: key.into(), value };
        plane.must(&Command::CreateTopic(CreateTopic {
            topic_id: TOPIC,
            name: "t".into(),
            partitions: 1,
            replication_factor: settings.brokers as u16,
            configs: vec![
                config("min.insync.replicas", settings.min_in_sync.to_string()),
                config("durability", settings.durability.to_string()),
            ],
            validate_only: false,
            internal: false,
        }));
        plane.leases.follow(plane.controller.image(), now);
        plane
    }

    /// The metadata as of now.
    pub const fn image(&self) -> &ClusterImage {
        self.controller.image()
    }

    /// The partition as of now.
    ///
    /// # Panics
    /// Never: the topic is there from the start.
    pub fn partition(&self) -> &PartitionState {
        &self.image().topics().next().expect("the topic is never deleted").partitions[0]
    }

    /// Nothing is decided from here on.
    pub const fn leave(&mut self) {
        self.is_away = true;
    }

    /// Another broker takes office and gives everyone a whole lease.
    pub fn take_office(&mut self, now: Monotonic) {
        self.is_away = false;
        self.must(&Command::BeginControllerEpoch { broker_id: BrokerId(1) });
        self.leases = Leases::new(self.controller.image(), self.settings.lease_ms, now);
    }

    /// Is nothing decided?
    pub const fn is_away(&self) -> bool {
        self.is_away
    }

    /// A message from `from` arrives; gives the answer.
    pub fn receive(&mut self, from: BrokerId, message: Message, now: Monotonic) -> Option<Message> {
        if self.is_away {
            return None;
        }
        match message {
            Message::Register { incarnation, closed_cleanly, stamps, older_than } => {
                let register = RegisterBroker { closed_cleanly, stamps, older_than, ..registration(from, incarnation) };
                let reply = self.ask(&Command::RegisterBroker(register), now).ok()?;
                match reply {
                    Reply::BrokerRegistered { epoch } => Some(Message::Registered { epoch }),
                    Reply::FolderIsOlder { than } => Some(Message::FolderIsOlder { than }),
                    _ => None,
                }
            }
            Message::Heartbeat { broker, applied, sent_at } => {
                let heartbeat = Heartbeat { broker, applied, intent: Intent::Serve, speaks: ProtocolVersion::CURRENT };
                let Ok(command) = self.leases.heartbeat(self.controller.image(), &heartbeat, now) else {
                    return Some(Message::RegisterAnew);
                };
                if let Some(command) = command {
                    self.ask(&command, now).ok()?;
                }
                let Answer { fenced, .. } = Answer::to(self.controller.image(), broker).ok()?;
                Some(Message::HeartbeatAnswer { sent_at, fenced })
            }
            Message::AlterInSync { leader, proposal } => Some(self.alter(leader, &proposal, now)),
            _ => None,
        }
    }

    /// Time has passed: fences whose lease ended.
    pub fn tick(&mut self, now: Monotonic, checks: &mut Invariants) {
        if self.is_away {
            return;
        }
        let expired: Vec<Registration> = self.leases.expired(now).collect();
        for broker in expired {
            let eligible = self.partition().eligible.clone();
            // It may have registered anew meanwhile.
            let _ = self.ask(&Command::FenceBroker(broker), now);
            if self.partition().leader.is_some_and(|leader| eligible.contains(&leader)) {
                checks.events.eligible_elected += 1;
            }
        }
        if self.settings.shell_flaw == Some(ShellFlaw::AnyReplicaElected) && self.partition().leader.is_none() {
            self.elect_anybody(now);
        }
    }

    fn alter(&mut self, leader: Registration, proposal: &InSyncProposal, now: Monotonic) -> Message {
        let member = |member: &tidelog_replication::InSyncMember| Registration {
            broker_id: member.broker,
            epoch: member.broker_epoch.unwrap_or_default(),
        };
        let InSyncProposal { leader_epoch, partition_epoch, in_sync } = proposal;
        let change = AlterPartition {
            topic_id: TOPIC,
            partition: PartitionId(0),
            leader_epoch: *leader_epoch,
            partition_epoch: *partition_epoch,
            in_sync: in_sync.iter().map(member).collect(),
        };
        let reply = self.ask(&Command::AlterInSync(AlterInSync { leader, partitions: vec![change] }), now);
        let held = match reply {
            Ok(Reply::InSyncAltered { partitions }) => partitions.into_iter().next().and_then(Result::ok),
            _ => None,
        };
        let held = held.map(|state| (self.image().as_of(), state.leader_epoch, membership(&state)));
        Message::AlterInSyncAnswer { partition_epoch: *partition_epoch, held }
    }

    fn ask(&mut self, command: &Command, now: Monotonic) -> Result<Reply, Refusal> {
        let decision = self.controller.handle(command, WHEN)?;
        let index = MetadataIndex(self.image().as_of().0 + 1);
        for record in &decision.records {
            self.controller.replay(index, record);
        }
        self.leases.follow(self.controller.image(), now);
        Ok(decision.reply)
    }

    fn must(&mut self, command: &Command) {
        let reply = self.ask(command, Monotonic(0));
        assert!(reply.is_ok(), "{command:?}: {reply:?}");
    }

    fn elect_anybody(&mut self, now: Monotonic) {
        let held = self.partition().clone();
        let live = |broker: &&BrokerId| self.image().broker(**broker).is_some_and(|broker| !broker.fenced);
        if let Some(leader) = held.replicas.iter().find(live).copied() {
            self.elect_unclean(leader, now);
        }
    }

    /// `leader` leads and is the only one in sync, whatever it holds.
    pub fn elect_unclean(&mut self, leader: BrokerId, now: Monotonic) {
        let (in_sync, eligible) = (vec![leader], Vec::new());
        let state = PartitionState { in_sync, eligible, ..self.led_by(leader) };
        self.seat(state, now);
    }

    /// `leader`, which is in sync, leads.
    pub fn hand_over(&mut self, leader: BrokerId, now: Monotonic) {
        self.seat(self.led_by(leader), now);
    }

    fn led_by(&self, leader: BrokerId) -> PartitionState {
        let held = self.partition().clone();
        PartitionState {
            leader: Some(leader),
            leader_epoch: LeaderEpoch(held.leader_epoch.0 + 1),
            partition_epoch: PartitionEpoch(held.partition_epoch.0 + 1),
            last_leader: None,
            ..held
        }
    }

    fn seat(&mut self, state: PartitionState, now: Monotonic) {
        let index = MetadataIndex(self.image().as_of().0 + 1);
        self.controller.replay(index, &PartitionChanged { topic_id: TOPIC, partition: PartitionId(0), state }.into());
        self.leases.follow(self.controller.image(), now);
    }
}

/// What a leader is told of a partition.
#[must_use]
pub fn membership(state: &PartitionState) -> Membership {
    Membership {
        replicas: state.replicas.clone(),
        in_sync: state.in_sync.clone(),
        partition_epoch: state.partition_epoch,
    }
}

fn registration(broker_id: BrokerId, incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        broker_id,
        incarnation: IncarnationId([incarnation; 16]),
        host: "localhost".into(),
        port: 1,
        rack: None,
        closed_cleanly: None,
        stamps: Vec::new(),
        older_than: None,
        admission: Admission::AfterHeartbeat,
    }
}
