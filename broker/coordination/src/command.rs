//! What can be asked of the controller, and what comes back. Knows nothing of how it decides.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, IncarnationId, TopicId, WireError};

use crate::records::MetadataRecord;

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
    /// A broker has started, for the first time or again.
    RegisterBroker(RegisterBroker),
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
}

/// What the controller answers to an accepted command: nothing has changed until the records are stored and replayed, and only
/// then may the reply leave. No records: nothing is to change, the reply may leave once the image it was made from is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Decision {
    /// To be stored all together or not at all.
    pub records: Vec<MetadataRecord>,
    /// For whoever asked.
    pub reply: Reply,
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
