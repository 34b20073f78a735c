//! What is written to the metadata log. Knows nothing of what the records do to the image, nor of the log that holds them.
//!
//! A record is `u16` type, `u16` version (both little-endian), then the body as the message macro writes it at that version.
//! Types are never reused, fields only added. A type or version that this code does not know is an error and never skipped:
//! an image that left a record out would differ from the one on the other brokers.
//!
//! The version is the feature level that brought this form of the record. Each is written in the oldest form that leaves nothing
//! out, so a log that uses nothing new can still be read by the release before.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::{BytesMut, Entropy};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{
    BrokerEpoch, BrokerId, ControllerEpoch, FolderStamp, IncarnationId, LeaderEpoch, Message, PartitionEpoch,
    PartitionId, ProducerId, ProtocolVersion, Timestamp, TopicId, TopicName, message,
};

pub use crate::versioned_body::RecordError;
use crate::versioned_body::{body, split_kind};

message! {
    /// From here on records up to this feature level may follow. The first record of every metadata log.
    pub struct FeatureLevel {
        /// The level.
        1 level: u16,
    }
}

impl FeatureLevel {
    /// The newest level that this code understands.
    pub const NEWEST: u16 = 11;
    /// The level that no user asks for: it begins once every broker of the cluster is known to understand it, those that are away too. They
    /// may come back with the release that they had.
    pub const BEGINS_BY_ITSELF: u16 = 11;

    /// The newest level that a broker understands which speaks this version: both are counted alike, and a release with a new level has a new
    /// version.
    #[must_use]
    pub const fn newest_of(spoken: ProtocolVersion) -> u16 {
        if spoken.0 < Self::NEWEST { spoken.0 } else { Self::NEWEST }
    }
}

const _: () = assert!(FeatureLevel::newest_of(ProtocolVersion::CURRENT) == FeatureLevel::NEWEST, "see `newest_of`");

/// The feature level that stamps of data folders came with.
pub(crate) const FOLDER_STAMPS: u16 = FeatureLevel::BEGINS_BY_ITSELF;

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
        /// It has no lease: it leads nothing and gets nothing to lead.
        2 fenced: bool,
        /// It is being emptied: it gets no new replicas.
        2 draining: bool,
        /// It is shutting down: it leads only what nobody else can, and gets nothing to lead until it registers anew.
        2 leaving: bool,
        /// What its data folder is to know; absent where none was drawn yet.
        11 stamp: Option<FolderStamp>,
        /// The newest stamp of an older copy of that folder, on which it runs: the folder to be, once it is in sync with something.
        11 copy: Option<FolderStamp>,
    }
}

message! {
    /// A broker's lease ended, or it asked to go.
    pub struct BrokerFenced {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 epoch: BrokerEpoch,
    }
}

message! {
    /// A broker has caught up with the metadata and serves.
    pub struct BrokerUnfenced {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 epoch: BrokerEpoch,
    }
}

message! {
    /// A broker is shutting down and hands over what it leads.
    pub struct BrokerLeaving {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 epoch: BrokerEpoch,
    }
}

message! {
    /// A broker is being emptied, or no longer.
    pub struct BrokerDraining {
        /// The broker.
        1 broker_id: BrokerId,
        /// False where an operator thought better of it.
        1 draining: bool,
    }
}

message! {
    /// A broker is no longer part of the cluster.
    pub struct BrokerRemoved {
        /// The broker.
        1 broker_id: BrokerId,
    }
}

message! {
    /// From now on the data folder of a broker is the one that knows this stamp.
    pub struct FolderStamped {
        /// The broker.
        11 broker_id: BrokerId,
        /// Its registration.
        11 epoch: BrokerEpoch,
        /// The stamp.
        11 stamp: FolderStamp,
    }
}

message! {
    /// Broker epochs up to this one were given out. Stands in snapshots only, where the broker that had it was removed.
    pub struct BrokerEpochReached {
        /// The youngest.
        1 epoch: BrokerEpoch,
    }
}

message! {
    /// A broker begins to run the controller. What was decided under an earlier epoch and comes later does not hold.
    pub struct ControllerEpochBegun {
        /// The epoch.
        1 epoch: ControllerEpoch,
        /// The broker.
        1 broker_id: BrokerId,
    }
}

message! {
    /// A broker got producer ids to give out. No id below the end is ever given out again.
    pub struct ProducerIdBlock {
        /// The broker.
        1 broker_id: BrokerId,
        /// The first of them.
        1 first: ProducerId,
        /// The one after the last.
        1 end: ProducerId,
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
        /// Eligible leader replicas: not in sync, but complete up to the high watermark, because it has not moved since they left
        /// (KIP-966).
        2 eligible: Vec<BrokerId>,
        /// Replicas that are being copied; they stand among the replicas already.
        2 adding: Vec<BrokerId>,
        /// Replicas that go once those are in sync.
        2 removing: Vec<BrokerId>,
        /// Who led it last, while nobody does.
        2 last_leader: Option<BrokerId>,
        /// The leadership that the last unclean election began: an operator ordered it, and records may be lost at its start.
        2 unclean_epoch: Option<LeaderEpoch>,
        /// The only replica in sync, where its broker has nothing that it can read: nobody leads until that broker registers anew.
        3 unreadable: Option<BrokerId>,
        /// Who held it before the reassignment under way, in order of preference: what taking that back leads to.
        5 before: Vec<BrokerId>,
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

macro_rules! record_table {
    ($($(#[$doc:meta])* $kind:literal $name:ident newest $newest:literal;)*) => {
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

            /// The feature level that its form came with: the oldest one that leaves nothing out.
            #[must_use]
            pub fn version(&self) -> u16 {
                match self { $(Self::$name(record) => Form::version(record),)* }
            }

            /// Appends the record as it stands in the log.
            pub fn encode(&self, out: &mut BytesMut) {
                let version = self.version();
                match self {
                    $(Self::$name(record) => {
                        out.extend_from_slice(&u16::to_le_bytes($kind));
                        out.extend_from_slice(&version.to_le_bytes());
                        record.encode(out, ProtocolVersion(version));
                    })*
                }
            }

            /// Reads one record that fills `bytes`.
            ///
            /// # Errors
            /// [`RecordError`].
            pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
                let (kind, rest) = split_kind(bytes)?;
                match kind {
                    $($kind => body::<$name>(rest, $newest).map(Self::from)?.known(),)*
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
    1 FeatureLevel newest 1;
    /// [`BrokerRegistered`].
    2 BrokerRegistered newest 11;
    /// [`BrokerFenced`].
    3 BrokerFenced newest 2;
    /// [`BrokerUnfenced`].
    4 BrokerUnfenced newest 2;
    /// [`BrokerLeaving`].
    5 BrokerLeaving newest 2;
    /// [`BrokerDraining`].
    6 BrokerDraining newest 2;
    /// [`BrokerRemoved`].
    7 BrokerRemoved newest 2;
    /// [`BrokerEpochReached`].
    8 BrokerEpochReached newest 2;
    /// [`FolderStamped`].
    9 FolderStamped newest 11;
    /// [`TopicCreated`].
    10 TopicCreated newest 1;
    /// [`TopicDeleted`].
    11 TopicDeleted newest 1;
    /// [`TopicConfigured`].
    12 TopicConfigured newest 1;
    /// [`PartitionCreated`].
    20 PartitionCreated newest 5;
    /// [`PartitionChanged`].
    21 PartitionChanged newest 5;
    /// [`ControllerEpochBegun`].
    30 ControllerEpochBegun newest 2;
    /// [`ProducerIdBlock`].
    31 ProducerIdBlock newest 3;
}

/// Which form of a record is needed.
trait Form {
    /// The feature level that it came with.
    fn version(&self) -> u16;
}

macro_rules! one_form {
    ($version:literal: $($name:ident)*) => {
        $(impl Form for $name {
            fn version(&self) -> u16 {
                $version
            }
        })*
    };
}

one_form!(1: FeatureLevel TopicCreated TopicDeleted TopicConfigured);
one_form!(2: BrokerFenced BrokerUnfenced BrokerLeaving BrokerDraining BrokerRemoved BrokerEpochReached ControllerEpochBegun);

one_form!(3: ProducerIdBlock);
one_form!(11: FolderStamped);

impl Form for BrokerRegistered {
    fn version(&self) -> u16 {
        if self.stamp.is_some() || self.copy.is_some() {
            return FOLDER_STAMPS;
        }
        if self.fenced || self.draining || self.leaving { 2 } else { 1 }
    }
}

impl Form for PartitionState {
    fn version(&self) -> u16 {
        let Self { eligible, adding, removing, last_leader, unclean_epoch, unreadable, before, .. } = self;
        if !before.is_empty() {
            return 5;
        }
        if unreadable.is_some() {
            return 3;
        }
        let lists = [eligible, adding, removing];
        let plain = lists.iter().all(|list| list.is_empty()) && last_leader.is_none() && unclean_epoch.is_none();
        if plain { 1 } else { 2 }
    }
}

impl Form for PartitionCreated {
    fn version(&self) -> u16 {
        self.state.version()
    }
}

impl Form for PartitionChanged {
    fn version(&self) -> u16 {
        self.state.version()
    }
}

impl MetadataRecord {
    /// Unless it raises the cluster above what is known here.
    fn known(self) -> Result<Self, RecordError> {
        match self {
            Self::FeatureLevel(FeatureLevel { level }) if level > FeatureLevel::NEWEST => {
                Err(RecordError::NewerFeatureLevel { level, known: FeatureLevel::NEWEST })
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
