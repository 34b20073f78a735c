//! What can be asked of the controller, and what comes back. Knows nothing of how it decides.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{ConfigEntry, ReplicaHolding};
use tidelog_protocol::{
    BrokerEpoch, BrokerId, ControllerEpoch, ErrorCode, FolderStamp, IncarnationId, LeaderEpoch, PartitionEpoch,
    PartitionId, ProducerId, TopicId, WireError,
};

use crate::records::{FeatureLevel, MetadataRecord, PartitionState};

/// A change that is asked for. Names come as they were typed; what is random or local comes from the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A topic shall exist.
    CreateTopic(CreateTopic),
    /// A topic and its data shall go.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// The configuration of a topic shall change; all of it or nothing.
    AlterTopic {
        /// Its name.
        name: String,
        /// Keys to set.
        set: Vec<ConfigEntry>,
        /// Keys to put back to their default.
        reset: Vec<String>,
    },
    /// A topic shall have more partitions.
    CreatePartitions {
        /// Its name.
        name: String,
        /// How many in all.
        total: u32,
    },
    /// A broker begins to run the controller. To be stored and replayed before anything else is decided there.
    BeginControllerEpoch {
        /// The broker.
        broker_id: BrokerId,
    },
    /// Something begins that earlier releases do not know.
    BeginFeatureLevel {
        /// The level.
        level: u16,
    },
    /// A broker has started, for the first time or again.
    RegisterBroker(RegisterBroker),
    /// The lease of a broker ended.
    FenceBroker(Registration),
    /// A fenced broker is heard of again and has caught up with the metadata.
    UnfenceBroker(Registration),
    /// A broker has drawn another stamp for its data folder, and noted it there.
    StampFolder {
        /// The broker.
        broker: Registration,
        /// All that the folder knows, the newest last.
        stamps: Vec<FolderStamp>,
    },
    /// A broker wants to shut down: what it leads goes to others first. To be asked again until nothing is left to hand over.
    ShutDownBroker(Registration),
    /// A leader changes who is in sync with it.
    AlterInSync(AlterInSync),
    /// A broker does not hold replicas whole that it should.
    ReportReplicas(HeldReplicas),
    /// A broker needs producer ids to give out.
    AllocateProducerIds {
        /// The broker.
        broker_id: BrokerId,
    },
    /// A broker is gone for good.
    RemoveBroker {
        /// The broker.
        broker_id: BrokerId,
    },
    /// Brokers shall hold partitions as these say; all of it or nothing.
    Reassign {
        /// One for each partition.
        assignments: Vec<Assignment>,
    },
    /// A broker shall hold nothing any more. Asked again it goes on where it stopped.
    Drain {
        /// The broker.
        broker_id: BrokerId,
    },
    /// A broker shall not be drained after all.
    Keep {
        /// The broker.
        broker_id: BrokerId,
    },
    /// The broker's own topics shall have more replicas, as far as there are brokers for them.
    GrowInternalTopics {
        /// At most so many.
        replicas_max: u16,
    },
    /// Replicas and preferred leaders shall be spread evenly.
    Balance {
        /// How many replicas may be copied; 0 for no limit.
        copies_max: u32,
    },
    /// Preferred replicas shall lead: of one partition, or wherever they can.
    ElectPreferred {
        /// The topic's name and the partition; `None` for all.
        partition: Option<(String, PartitionId)>,
    },
    /// A replica shall lead a partition without a leader though records are lost by it.
    ElectUnclean {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: PartitionId,
        /// The replica.
        broker_id: BrokerId,
    },
}

/// One registration of a broker: what an earlier life of it asks is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The broker.
    pub broker_id: BrokerId,
    /// The epoch that its registration gave it.
    pub epoch: BrokerEpoch,
}

/// A topic that shall exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopic {
    /// The identity it gets: fresh and random.
    pub topic_id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas of each.
    pub replication_factor: u16,
    /// What differs from the defaults.
    pub configs: Vec<ConfigEntry>,
    /// Only check: the decision has a reply and no records.
    pub validate_only: bool,
    /// Whether the broker itself owns it: such names begin with `__`, and no others do.
    pub internal: bool,
}

/// A broker that has started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    /// The broker.
    pub broker_id: BrokerId,
    /// Which life of its data folder.
    pub incarnation: IncarnationId,
    /// Host name or IP address to dial.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Where it stands.
    pub rack: Option<String>,
    /// The registration under which it last closed all its logs cleanly; `None` after a crash, and at its first start.
    pub closed_cleanly: Option<BrokerEpoch>,
    /// The stamps that its data folder knows of and that the cluster may have heard last, the newest last.
    pub stamps: Vec<FolderStamp>,
    /// It was told that its folder is older than this registration.
    pub older_than: Option<BrokerEpoch>,
    /// Whether it serves at once.
    pub admission: Admission,
}

/// When a broker that registers begins to serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Once it has caught up with the metadata and its first heartbeat says so; fenced until then.
    AfterHeartbeat,
    /// At once: it decides on its own registration, so its metadata is the newest there is.
    AtOnce,
}

/// Which brokers shall hold a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The replicas, the preferred leader first; `None` takes a reassignment under way back.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A leader changes who is in sync with it, for many partitions at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterInSync {
    /// The leader.
    pub leader: Registration,
    /// The changes, one for a partition.
    pub partitions: Vec<AlterPartition>,
}

/// Another set of replicas in sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Under which it is led.
    pub leader_epoch: LeaderEpoch,
    /// The state that the change was made from.
    pub partition_epoch: PartitionEpoch,
    /// All that shall be in sync, each with the registration under which it caught up. For replicas that are in sync already the
    /// epoch is not looked at: a leader may not have heard of them yet. Without the leader, who gives up: some of those that are in sync
    /// already, or none where it knows of none.
    pub in_sync: Vec<Registration>,
}

/// What a broker holds of replicas that are not whole, of many partitions at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldReplicas {
    /// The broker.
    pub holder: Registration,
    /// One for each partition.
    pub replicas: Vec<HeldReplica>,
}

/// What a broker holds of one replica that is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldReplica {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The state that counts on it.
    pub partition_epoch: PartitionEpoch,
    /// What there is of it.
    pub holds: ReplicaHolding,
}

/// What the controller answers to an accepted command: nothing has changed until the records are stored and replayed, and only
/// then may the reply leave. No records: nothing is to change, the reply may leave once the image it was made from is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Decision {
    /// The controller's epoch under which it was made. Records that come to be stored under another must be dropped.
    pub epoch: ControllerEpoch,
    /// To be stored all together or not at all.
    pub records: Vec<MetadataRecord>,
    /// For whoever asked.
    pub reply: Reply,
}

impl Decision {
    /// The feature level that begins with it, if one does: brokers that do not know that would stop.
    #[must_use]
    pub fn feature_level(&self) -> Option<u16> {
        match self.records.first() {
            Some(MetadataRecord::FeatureLevel(FeatureLevel { level })) => Some(*level),
            _ => None,
        }
    }
}

/// What an accepted command gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The topic exists.
    TopicCreated {
        /// Its identity.
        topic_id: TopicId,
        /// How many partitions it has.
        partitions: u32,
    },
    /// The topic is gone.
    TopicDeleted {
        /// What it was.
        topic_id: TopicId,
    },
    /// The configuration holds.
    TopicAltered {
        /// What differs from the defaults now.
        configs: Vec<ConfigEntry>,
    },
    /// The partitions exist.
    PartitionsCreated {
        /// How many there are in all.
        total: u32,
    },
    /// The broker is registered.
    BrokerRegistered {
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// The broker is not registered: its data folder does not know what the last registration knew.
    FolderIsOlder {
        /// That registration.
        than: BrokerEpoch,
    },
    /// The broker's controller is in office.
    ControllerEpochBegun {
        /// Its epoch.
        epoch: ControllerEpoch,
    },
    /// It has begun, or had before.
    FeatureLevelBegun,
    /// The broker hands over what it leads.
    BrokerLeaving {
        /// Partitions that it still leads though another live broker has a replica, which is not in sync yet. At 0 the broker is
        /// fenced and may stop.
        still_leads: u32,
    },
    /// These producer ids are the broker's to give out.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// Who is in sync, in the order of the request: the state that holds now, or why it was refused. A leader may go by it only
    /// once it has applied the metadata up to the decision: a topic's minimum may have changed before.
    InSyncAltered {
        /// One for each partition asked for.
        partitions: Vec<Result<PartitionState, Refusal>>,
    },
    /// Nobody counts on those replicas, in the order of the request; or why a report was refused.
    ReplicasReported {
        /// One for each replica.
        replicas: Vec<Result<(), Refusal>>,
    },
    /// The replicas move.
    Reassigned {
        /// Partitions that copy replicas; each switches by itself once they are in sync.
        copying: u32,
        /// Partitions that needed no copy and are as asked already.
        done: u32,
    },
    /// Replicas and leaders are spread.
    Balanced {
        /// Partitions that copy replicas.
        copying: u32,
        /// Partitions that only prefer another leader.
        reordered: u32,
        /// Replicas that are copied.
        copies: u32,
    },
    /// Leaders were elected.
    Elected {
        /// How many.
        count: u32,
    },
    /// It is so.
    Done,
}

/// Why a command is refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was wrong, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl core::error::Error for Refusal {}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}
