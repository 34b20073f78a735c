//! What is written to the groups' log, keyed for compaction: the latest value of each key is the whole state, and each key has its
//! own tombstone, so that it does not matter which older values are still there. Knows nothing of what the records do.
//!
//! A key is `u16` type, `u16` form (both little-endian; the form is 1 and never changes, or a key would not meet its older values),
//! then the body as the message macro writes it. A value is `u16` version, then the body at that version. A type or version that this
//! code does not know is an error and never skipped. Types 6 to 9 are left for offsets within a transaction, 10 and above for groups
//! of another kind.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::{BytesMut, DecodeError, Entropy};
use tidelog_protocol::messages::TopicPartitions;
use tidelog_protocol::{LeaderEpoch, Message, Offset, PartitionId, ProtocolVersion, Timestamp, TopicId, message};

message! {
    /// Names a group.
    pub struct GroupKey {
        /// The group.
        1 group: String,
    }
}

message! {
    /// A group.
    pub struct GroupValue {
        /// Grows with every change of members, subscriptions or topics.
        1 epoch: i32,
        /// The group epoch that the targets were made for.
        1 target_epoch: i32,
        /// How partitions are spread.
        1 assignor: String,
        /// A hash over the topics that the targets were made for.
        1 topics_hash: u64,
    }
}

message! {
    /// Names a member of a group.
    pub struct MemberKey {
        /// The group.
        1 group: String,
        /// The member.
        1 member_id: String,
    }
}

message! {
    /// What a member said of itself.
    pub struct MemberValue {
        /// The name that outlives its process.
        1 instance_id: Option<String>,
        /// Where it stands.
        1 rack: Option<String>,
        /// What it calls itself.
        1 client_name: Option<String>,
        /// How long it may be silent, in milliseconds.
        1 session_ms: u32,
        /// How long it may take to let go of partitions, in milliseconds.
        1 rebalance_ms: u32,
        /// Topics by name.
        1 topics: Vec<String>,
        /// Topics by pattern.
        1 pattern: Option<String>,
        /// How it wants partitions to be spread.
        1 assignor: Option<String>,
    }
}

message! {
    /// What a member is to own in the end.
    pub struct TargetValue {
        /// By topic.
        1 partitions: Vec<TopicPartitions>,
    }
}

message! {
    /// What a member owns.
    pub struct CurrentValue {
        /// Its epoch; −2 while it pauses.
        1 epoch: i32,
        /// The epoch before: whoever still has it may have missed an answer.
        1 previous_epoch: i32,
        /// What it may work on, by topic.
        1 owned: Vec<TopicPartitions>,
        /// What it was told to let go of, and may still work on.
        1 letting_go: Vec<TopicPartitions>,
    }
}

message! {
    /// Names a partition that a group reads.
    pub struct OffsetKey {
        /// The group.
        1 group: String,
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
    }
}

message! {
    /// How far the group has come there.
    pub struct OffsetValue {
        /// The next offset to read.
        1 offset: Offset,
        /// The leadership that wrote the last record read.
        1 leader_epoch: Option<LeaderEpoch>,
        /// Whatever the application noted with it.
        1 metadata: String,
        /// When.
        1 committed_at: Timestamp,
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
    /// A newer broker wrote a version that this one does not know.
    NewerVersion {
        /// The key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
    /// The body does not parse.
    Body {
        /// The key or value.
        name: &'static str,
        /// Why.
        cause: DecodeError,
    },
    /// The body is longer or shorter than its version says.
    Length {
        /// The key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const UPGRADE: &str = "a newer broker wrote it; upgrade this one";
        match self {
            Self::Short => f.write_str("a group record is cut short"),
            Self::UnknownType { kind } => write!(f, "group record of unknown type {kind}: {UPGRADE}"),
            Self::NewerVersion { name, version } => {
                write!(f, "{name} of unknown version {version} in a group record: {UPGRADE}")
            }
            Self::Body { name, cause } => write!(f, "{name} in a group record does not parse: {cause}"),
            Self::Length { name, version } => {
                write!(f, "{name} of version {version} in a group record has another length: {UPGRADE}")
            }
        }
    }
}

impl core::error::Error for RecordError {}

macro_rules! record_table {
    ($($(#[$doc:meta])* $kind:literal $name:ident($key:ident, $value:ident) newest $newest:literal;)*) => {
        /// One record of the groups' log: a key and its latest value, or none any more.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum GroupRecord {
            $($(#[$doc])* $name($key, Option<$value>),)*
        }

        impl GroupRecord {
            /// Type number and name of every record, in the order of the table.
            pub const TYPES: &'static [(u16, &'static str)] = &[$(($kind, stringify!($name)),)*];

            /// Its name in the table.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(..) => stringify!($name),)* }
            }

            /// The group that it is about.
            #[must_use]
            pub fn group(&self) -> &str {
                match self { $(Self::$name(key, _) => &key.group,)* }
            }

            /// The key as it stands in the log.
            #[must_use]
            pub fn key(&self) -> Vec<u8> {
                let mut out = BytesMut::with_capacity(64);
                match self {
                    $(Self::$name(key, _) => {
                        out.extend_from_slice(&u16::to_le_bytes($kind));
                        out.extend_from_slice(&KEY_FORM.to_le_bytes());
                        key.encode(&mut out, ProtocolVersion(KEY_FORM));
                    })*
                }
                out.to_vec()
            }

            /// The value as it stands in the log; `None` for a tombstone.
            #[must_use]
            pub fn value(&self) -> Option<Vec<u8>> {
                match self { $(Self::$name(_, value) => value.as_ref().map(|value| versioned(value, $newest)),)* }
            }

            /// Reads one record.
            ///
            /// # Errors
            /// [`RecordError`].
            pub fn from_key_value(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
                let (kind, key) = key.split_first_chunk::<2>().ok_or(RecordError::Short)?;
                match u16::from_le_bytes(*kind) {
                    $($kind => {
                        let value = value.map(|value| body::<$value>(value, $newest)).transpose()?;
                        Ok(Self::$name(body::<$key>(key, KEY_FORM)?, value))
                    })*
                    kind => Err(RecordError::UnknownType { kind }),
                }
            }

            /// A record of the type `kind` drawn from seeded numbers, for golden bytes, round trips and fuzzing.
            #[must_use]
            pub fn draw(kind: u16, entropy: &mut Entropy) -> Option<Self> {
                match kind {
                    $($kind => Some(Self::$name($key::draw(entropy), Some($value::draw(entropy)))),)*
                    _ => None,
                }
            }
        }
    };
}

record_table! {
    /// The group itself.
    1 Group(GroupKey, GroupValue) newest 1;
    /// A member.
    2 Member(MemberKey, MemberValue) newest 1;
    /// What a member is to own.
    3 Target(MemberKey, TargetValue) newest 1;
    /// What a member owns.
    4 Current(MemberKey, CurrentValue) newest 1;
    /// How far the group has come in a partition.
    5 Offset(OffsetKey, OffsetValue) newest 1;
}

/// The one form of keys.
const KEY_FORM: u16 = 1;

fn versioned<M: Message>(message: &M, version: u16) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(128);
    out.extend_from_slice(&version.to_le_bytes());
    message.encode(&mut out, ProtocolVersion(version));
    out.to_vec()
}

fn body<M: Message>(bytes: &[u8], newest: u16) -> Result<M, RecordError> {
    let (version, body) = bytes.split_first_chunk::<2>().ok_or(RecordError::Short)?;
    let version = u16::from_le_bytes(*version);
    if version == 0 || version > newest {
        return Err(RecordError::NewerVersion { name: M::NAME, version });
    }
    let message = M::from_body(body, ProtocolVersion(version));
    let message = message.map_err(|cause| RecordError::Body { name: M::NAME, cause })?;
    // On the wire a longer body is a newer peer's; here the version says to the byte what there is.
    if message.to_body(ProtocolVersion(version)).len() != body.len() {
        return Err(RecordError::Length { name: M::NAME, version });
    }
    Ok(message)
}
