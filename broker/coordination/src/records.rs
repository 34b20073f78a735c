//! What is written to the metadata log. Knows nothing of what the records do to the image, nor of the log that holds them.
//!
//! A record is `u16` type, `u16` version (both little-endian), then the body as the message macro writes it at that version.
//! Types are never reused, fields only added. A type or version that this code does not know is an error and never skipped:
//! an image that left a record out would differ from the one on the other brokers.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::{BytesMut, DecodeError, Entropy};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{
    BrokerEpoch, BrokerId, IncarnationId, LeaderEpoch, Message, PartitionEpoch, PartitionId, ProtocolVersion,
    Timestamp, TopicId, TopicName, message,
};

message! {
    /// From here on records up to this feature level may follow. The first record of every metadata log.
    pub struct FeatureLevel {
        /// The level.
        1 level: u16,
    }
}

impl FeatureLevel {
    /// The newest level that this code understands.
    pub const NEWEST: u16 = 1;
}

message! {
    /// A broker started and can be reached.
    pub struct BrokerRegistered {
        /// The broker.
        1 broker_id: BrokerId,
        /// This registration.
        1 epoch: BrokerEpoch,
        /// Which life of its data folder.
        1 incarnation: IncarnationId,
        /// Host name or IP address to dial.
        1 host: String,
        /// TCP port.
        1 port: u16,
        /// Where it stands.
        1 rack: Option<String>,
    }
}

message! {
    /// A topic exists. Its partitions follow.
    pub struct TopicCreated {
        /// Its identity.
        1 topic_id: TopicId,
        /// Its name; no other topic has it now.
        1 name: TopicName,
        /// True where the broker itself owns it.
        1 internal: bool,
        /// When.
        1 created_at: Timestamp,
        /// What differs from the defaults, checked.
        1 overrides: Vec<ConfigEntry>,
    }
}

message! {
    /// A topic and its partitions are gone.
    pub struct TopicDeleted {
        /// What it was.
        1 topic_id: TopicId,
    }
}

message! {
    /// Another configuration holds for a topic.
    pub struct TopicConfigured {
        /// The topic.
        1 topic_id: TopicId,
        /// All that differs from the defaults now, checked.
        1 overrides: Vec<ConfigEntry>,
    }
}

message! {
    /// Who holds a partition.
    pub struct PartitionState {
        /// Brokers that hold a replica, the preferred leader first.
        1 replicas: Vec<BrokerId>,
        /// Those of them in sync.
        1 in_sync: Vec<BrokerId>,
        /// The broker that leads it; absent while it is offline.
        1 leader: Option<BrokerId>,
        /// The leadership; grows with every new one, also one of the same broker.
        1 leader_epoch: LeaderEpoch,
        /// Version of this state; grows with every change.
        1 partition_epoch: PartitionEpoch,
    }
}

message! {
    /// A partition exists.
    pub struct PartitionCreated {
        /// Its topic.
        1 topic_id: TopicId,
        /// Its index, the next one of the topic.
        1 partition: PartitionId,
        /// Who holds it.
        1 state: PartitionState,
    }
}

message! {
    /// A partition is held differently.
    pub struct PartitionChanged {
        /// Its topic.
        1 topic_id: TopicId,
        /// Its index.
        1 partition: PartitionId,
        /// Who holds it now.
        1 state: PartitionState,
    }
}

/// Why bytes are not a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// They end inside the type or version.
    Short,
    /// A newer broker wrote a type of record that this one does not know.
    UnknownType {
        /// The type.
        kind: u16,
    },
    /// A newer broker wrote a version of the record that this one does not know.
    NewerVersion {
        /// The record.
        name: &'static str,
        /// The version.
        version: u16,
    },
    /// The cluster was raised to a level that this broker does not have.
    NewerFeatureLevel {
        /// The level.
        level: u16,
    },
    /// The body does not parse.
    Body {
        /// The record.
        name: &'static str,
        /// Why.
        cause: DecodeError,
    },
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const UPGRADE: &str = "a newer broker wrote it; upgrade this one";
        match self {
            Self::Short => f.write_str("a metadata record is cut short"),
            Self::UnknownType { kind } => write!(f, "metadata record of unknown type {kind}: {UPGRADE}"),
            Self::NewerVersion { name, version } => {
                write!(f, "metadata record {name} of unknown version {version}: {UPGRADE}")
            }
            Self::NewerFeatureLevel { level } => {
                write!(f, "metadata of feature level {level}, {} is known here: {UPGRADE}", FeatureLevel::NEWEST)
            }
            Self::Body { name, cause } => write!(f, "metadata record {name} does not parse: {cause}"),
        }
    }
}

impl core::error::Error for RecordError {}

macro_rules! record_table {
    ($($(#[$doc:meta])* $kind:literal $name:ident version $version:literal;)*) => {
        /// One record of the metadata log.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum MetadataRecord {
            $($(#[$doc])* $name($name),)*
        }

        $(impl From<$name> for MetadataRecord {
            fn from(record: $name) -> Self {
                Self::$name(record)
            }
        })*

        impl MetadataRecord {
            /// Type number and name of every record, in the order of the table.
            pub const TYPES: &'static [(u16, &'static str)] = &[$(($kind, stringify!($name)),)*];

            /// Its name in the table.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }

            /// Appends the record as it stands in the log.
            pub fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(Self::$name(record) => {
                        out.extend_from_slice(&u16::to_le_bytes($kind));
                        out.extend_from_slice(&u16::to_le_bytes($version));
                        record.encode(out, ProtocolVersion($version));
                    })*
                }
            }

            /// Reads one record that fills `bytes`.
            ///
            /// # Errors
            /// [`RecordError`].
            pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
                let (kind, rest) = bytes.split_first_chunk::<2>().ok_or(RecordError::Short)?;
                let (version, body) = rest.split_first_chunk::<2>().ok_or(RecordError::Short)?;
                let (kind, version) = (u16::from_le_bytes(*kind), u16::from_le_bytes(*version));
                match kind {
                    $($kind => Self::body::<$name>(body, version, $version),)*
                    _ => Err(RecordError::UnknownType { kind }),
                }
            }

            /// A record of the type `kind` drawn from seeded numbers, for golden bytes, round trips and fuzzing.
            #[must_use]
            pub fn draw(kind: u16, entropy: &mut Entropy) -> Option<Self> {
                match kind {
                    $($kind => Some(Self::$name($name::draw(entropy))),)*
                    _ => None,
                }
            }
        }
    };
}

record_table! {
    /// [`FeatureLevel`].
    1 FeatureLevel version 1;
    /// [`BrokerRegistered`].
    2 BrokerRegistered version 1;
    /// [`TopicCreated`].
    10 TopicCreated version 1;
    /// [`TopicDeleted`].
    11 TopicDeleted version 1;
    /// [`TopicConfigured`].
    12 TopicConfigured version 1;
    /// [`PartitionCreated`].
    20 PartitionCreated version 1;
    /// [`PartitionChanged`].
    21 PartitionChanged version 1;
}

impl MetadataRecord {
    fn body<R: Message + Into<Self>>(body: &[u8], version: u16, newest: u16) -> Result<Self, RecordError> {
        if version == 0 || version > newest {
            return Err(RecordError::NewerVersion { name: R::NAME, version });
        }
        let record = R::from_body(body, ProtocolVersion(version));
        match record.map_err(|cause| RecordError::Body { name: R::NAME, cause })?.into() {
            Self::FeatureLevel(FeatureLevel { level }) if level > FeatureLevel::NEWEST => {
                Err(RecordError::NewerFeatureLevel { level })
            }
            record => Ok(record),
        }
    }

    /// The record as bytes of its own.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(128);
        self.encode(&mut out);
        out
    }
}
