//! What is written to the groups' log, keyed for compaction: the latest value of each key is the whole state, and each key has its
//! own tombstone, so that it does not matter which older values are still there. Knows nothing of what the records do.
//!
//! The bytes are those of `keyed_record`. Types 8 and 9 are left for what transactions may need besides; 10 and above are of classic groups.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::{Bytes, Entropy};
use tidelog_protocol::messages::TopicPartitions;
use tidelog_protocol::{
    LeaderEpoch, Message, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId, message, wire_enum,
};

use crate::keyed_record::{self, KEY_FORM, body, split_kind, versioned};
pub use crate::versioned_body::RecordError;

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

message! {
    /// Names what a transaction has noted for a partition.
    pub struct PendingOffsetKey {
        /// The group.
        1 group: String,
        /// Whose transaction.
        1 producer_id: ProducerId,
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
    }
}

message! {
    /// How far the group will have come there, if the transaction is committed.
    pub struct PendingOffsetValue {
        /// The epoch of the transaction.
        1 epoch: ProducerEpoch,
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

message! {
    /// Names a producer whose transactions commit offsets of the group.
    pub struct FenceKey {
        /// The group.
        1 group: String,
        /// The producer.
        1 producer_id: ProducerId,
    }
}

message! {
    /// Which transactions of it are over.
    pub struct FenceValue {
        /// Those before this epoch.
        1 epoch: ProducerEpoch,
    }
}

wire_enum! {
    /// How far the members of a classic group are.
    pub enum ClassicPhase {
        /// It has none.
        0 Empty,
        /// They join: the next generation begins once all have.
        1 Preparing,
        /// The generation has begun, and its leader is to say who does what.
        2 Completing,
        /// Each knows its part.
        3 Stable,
    }
}

message! {
    /// A classic group: its members share the work out among themselves.
    pub struct ClassicGroupValue {
        /// How far they are.
        1 phase: ClassicPhase,
        /// Grows with every round; 0 before the first.
        1 generation: i32,
        /// What kind of work is shared.
        1 protocol_type: String,
        /// The way to share it that was chosen.
        1 protocol: Option<String>,
        /// The member that shares it out.
        1 leader: Option<String>,
    }
}

impl Default for ClassicGroupValue {
    fn default() -> Self {
        let phase = ClassicPhase::Empty;
        Self { phase, generation: 0, protocol_type: String::new(), protocol: None, leader: None }
    }
}

message! {
    /// A way to share work.
    pub struct ClassicProtocol {
        /// Its name.
        1 name: String,
        /// What the leader is to know of the member for it.
        1 metadata: Bytes,
    }
}

message! {
    /// What a member of a classic group said of itself.
    pub struct ClassicMemberValue {
        /// The name that outlives its process.
        1 instance_id: Option<String>,
        /// What it calls itself.
        1 client_id: String,
        /// Where it is.
        1 client_host: String,
        /// How long it may be silent, in milliseconds.
        1 session_ms: u32,
        /// How long it may take to join again, in milliseconds.
        1 rebalance_ms: u32,
        /// The ways to share the work that it knows, the one that it likes best first.
        1 protocols: Vec<ClassicProtocol>,
    }
}

message! {
    /// What a member of a classic group is to do.
    pub struct ClassicPartValue {
        /// As the leader said it.
        1 assignment: Bytes,
    }
}

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
                match self { $(Self::$name(key, _) => keyed_record::key($kind, key),)* }
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
                let (kind, key) = split_kind(key)?;
                match kind {
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
    /// How far it will have come there, if a transaction is committed.
    6 PendingOffset(PendingOffsetKey, PendingOffsetValue) newest 1;
    /// Which transactions of a producer are over.
    7 Fence(FenceKey, FenceValue) newest 1;
    /// A classic group itself.
    10 ClassicGroup(GroupKey, ClassicGroupValue) newest 1;
    /// A member of one.
    11 ClassicMember(MemberKey, ClassicMemberValue) newest 1;
    /// What a member of one is to do.
    12 ClassicPart(MemberKey, ClassicPartValue) newest 1;
}
