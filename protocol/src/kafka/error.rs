//! Kafka's error codes, as far as they are used here, and which of them says what a native one says. Knows nothing of who raises them.

use crate::ErrorCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $code:literal $name:ident;)*) => {
        /// What went wrong, as Kafka numbers it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i16)]
        pub enum KafkaError {
            $($(#[doc = $doc])* $name = $code,)*
        }

        impl KafkaError {
            /// The number.
            #[must_use]
            pub const fn code(self) -> i16 {
                self as i16
            }
        }
    };
}

codes! {
    /// The broker met a state that it did not expect.
    -1 UnknownServerError;
    /// Nothing.
    0 None;
    /// The offset is not there.
    1 OffsetOutOfRange;
    /// A checksum does not match.
    2 CorruptMessage;
    /// No such topic, or no such partition.
    3 UnknownTopicOrPartition;
    /// Nobody leads it at the moment.
    5 LeaderNotAvailable;
    /// Another broker leads it.
    6 NotLeaderOrFollower;
    /// It was not done in time.
    7 RequestTimedOut;
    /// The batch is larger than the topic allows.
    10 MessageTooLarge;
    /// What is noted with an offset is too large.
    12 OffsetMetadataTooLarge;
    /// The coordinator is reading its state.
    14 CoordinatorLoadInProgress;
    /// There is no coordinator at the moment.
    15 CoordinatorNotAvailable;
    /// Another broker coordinates it.
    16 NotCoordinator;
    /// The topic's name breaks a rule, or the topic belongs to the broker.
    17 InvalidTopic;
    /// Too few replicas are in sync.
    19 NotEnoughReplicas;
    /// The number of acks asked for does not exist.
    21 InvalidRequiredAcks;
    /// The member's generation is not the group's.
    22 IllegalGeneration;
    /// The group shares other work, or in other ways.
    23 InconsistentGroupProtocol;
    /// A group's name breaks a rule.
    24 InvalidGroupId;
    /// The group has no such member.
    25 UnknownMemberId;
    /// The session timeout is out of range.
    26 InvalidSessionTimeout;
    /// The member is to join again.
    27 RebalanceInProgress;
    /// A record's timestamp is out of range.
    32 InvalidTimestamp;
    /// This version is not served.
    35 UnsupportedVersion;
    /// There is such a topic.
    36 TopicAlreadyExists;
    /// The number of partitions is out of range.
    37 InvalidPartitions;
    /// The number of replicas is out of range.
    38 InvalidReplicationFactor;
    /// The replicas asked for cannot be had.
    39 InvalidReplicaAssignment;
    /// A configuration value is out of range, or its key unknown.
    40 InvalidConfig;
    /// Another broker runs the controller.
    41 NotController;
    /// The request contradicts itself.
    42 InvalidRequest;
    /// Records of the producer before these are missing.
    45 OutOfOrderSequenceNumber;
    /// These records stand in the log already.
    46 DuplicateSequenceNumber;
    /// A later epoch of the producer has written.
    47 InvalidProducerEpoch;
    /// The transaction is not in a state for that.
    48 InvalidTxnState;
    /// The producer id does not belong to the transactional id.
    49 InvalidProducerIdMapping;
    /// The timeout of the transaction is out of range.
    50 InvalidTransactionTimeout;
    /// The transaction before is still being ended.
    51 ConcurrentTransactions;
    /// Something else that was asked for with it went wrong, so this was not tried.
    55 OperationNotAttempted;
    /// The disk failed, or is full.
    56 KafkaStorageError;
    /// Nothing is known of the producer.
    59 UnknownProducerId;
    /// The group has members.
    68 NonEmptyGroup;
    /// No such group.
    69 GroupIdNotFound;
    /// There is no such fetch session.
    70 FetchSessionIdNotFound;
    /// The leadership that the client knows is over.
    74 FencedLeaderEpoch;
    /// The leadership that the client knows is not known here yet.
    75 UnknownLeaderEpoch;
    /// The compression is not served.
    76 UnsupportedCompressionType;
    /// The end of the log is known in a moment.
    78 OffsetNotAvailable;
    /// The member is to join with the id that it is given.
    79 MemberIdRequired;
    /// The preferred replica cannot lead.
    80 PreferredLeaderNotAvailable;
    /// A limit on members or groups is reached.
    81 GroupMaxSizeReached;
    /// Another member has this instance id.
    82 FencedInstanceId;
    /// No replica can lead.
    83 EligibleLeadersNotAvailable;
    /// The one that was asked for leads already.
    84 ElectionNotNeeded;
    /// The partition is not being moved.
    85 NoReassignmentInProgress;
    /// The group reads the topic.
    86 GroupSubscribedToTopic;
    /// A batch breaks a rule.
    87 InvalidRecord;
    /// A transaction is about to move the offset.
    88 UnstableOffsetCommit;
    /// Another producer serves under the transactional id.
    90 ProducerFenced;
    /// No topic of this id.
    100 UnknownTopicId;
    /// Nothing is known of the transactional id.
    105 TransactionalIdNotFound;
    /// The member's epoch is not the one it has: it is to join again.
    110 FencedMemberEpoch;
    /// Another member still has this instance id.
    111 UnreleasedInstanceId;
    /// Nobody assigns like that.
    112 UnsupportedAssignor;
    /// The member's epoch is not the one it has: it is to be heard of first.
    113 StaleMemberEpoch;
    /// This is no port of those that were asked for.
    114 MismatchedEndpointType;
    /// What is to match names of topics is no regular expression.
    128 InvalidRegularExpression;
}

impl From<ErrorCode> for KafkaError {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Internal | ErrorCode::UnknownStream | ErrorCode::UnknownBroker => Self::UnknownServerError,
            ErrorCode::FencedBroker | ErrorCode::BrokerIdTaken | ErrorCode::PartitionChanged => {
                Self::UnknownServerError
            }
            ErrorCode::IneligibleReplica | ErrorCode::BrokerInUse | ErrorCode::WrongPeer => Self::UnknownServerError,
            ErrorCode::InvalidElection | ErrorCode::InvalidVoters => Self::InvalidRequest,
            ErrorCode::Malformed | ErrorCode::OffsetMismatch => Self::InvalidRequest,
            ErrorCode::Unsupported => Self::UnsupportedVersion,
            ErrorCode::TooLarge => Self::MessageTooLarge,
            ErrorCode::Corrupt => Self::CorruptMessage,
            // Clients wait and send it again.
            ErrorCode::Overloaded | ErrorCode::DeadlineExceeded | ErrorCode::NoQuorum => Self::RequestTimedOut,
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => Self::UnknownTopicOrPartition,
            ErrorCode::TopicExists => Self::TopicAlreadyExists,
            ErrorCode::InvalidName | ErrorCode::InternalTopic => Self::InvalidTopic,
            ErrorCode::InvalidConfig => Self::InvalidConfig,
            ErrorCode::InvalidPartitions => Self::InvalidPartitions,
            ErrorCode::InvalidReplication => Self::InvalidReplicationFactor,
            ErrorCode::InvalidReassignment => Self::InvalidReplicaAssignment,
            ErrorCode::NotLeader | ErrorCode::LeadershipEnded | ErrorCode::ShuttingDown => Self::NotLeaderOrFollower,
            ErrorCode::FencedEpoch => Self::FencedLeaderEpoch,
            ErrorCode::UnknownEpoch => Self::UnknownLeaderEpoch,
            ErrorCode::NotEnoughReplicas => Self::NotEnoughReplicas,
            ErrorCode::InvalidBatch | ErrorCode::KeyMissing => Self::InvalidRecord,
            ErrorCode::OffsetNotAvailable => Self::OffsetNotAvailable,
            ErrorCode::UnstableOffset => Self::UnstableOffsetCommit,
            ErrorCode::OffsetOutOfRange | ErrorCode::LogTruncated => Self::OffsetOutOfRange,
            ErrorCode::CorruptLog => Self::CorruptMessage,
            ErrorCode::StorageFull | ErrorCode::StorageFailed | ErrorCode::OutOfService => Self::KafkaStorageError,
            ErrorCode::NotController => Self::NotController,
            ErrorCode::NotCoordinator => Self::NotCoordinator,
            ErrorCode::CoordinatorLoading => Self::CoordinatorLoadInProgress,
            ErrorCode::UnknownGroup => Self::GroupIdNotFound,
            ErrorCode::UnknownMember => Self::UnknownMemberId,
            ErrorCode::FencedMember => Self::FencedMemberEpoch,
            ErrorCode::StaleMember => Self::StaleMemberEpoch,
            ErrorCode::NotOwned => Self::InvalidRequest,
            ErrorCode::GroupNotEmpty => Self::NonEmptyGroup,
            ErrorCode::InvalidGroup => Self::InvalidGroupId,
            ErrorCode::InstanceTaken => Self::UnreleasedInstanceId,
            ErrorCode::GroupFull => Self::GroupMaxSizeReached,
            ErrorCode::OutOfOrderSequence => Self::OutOfOrderSequenceNumber,
            ErrorCode::ProducerFenced => Self::InvalidProducerEpoch,
            ErrorCode::UnknownProducer | ErrorCode::ProducerNeverWrote => Self::UnknownProducerId,
            ErrorCode::DuplicateSequence => Self::DuplicateSequenceNumber,
            ErrorCode::TransactionFenced => Self::ProducerFenced,
            ErrorCode::ConcurrentTransactions => Self::ConcurrentTransactions,
            ErrorCode::InvalidTransactionState => Self::InvalidTxnState,
            ErrorCode::UnknownTransaction => Self::InvalidProducerIdMapping,
            ErrorCode::TransactionTimeout => Self::InvalidTransactionTimeout,
            ErrorCode::InvalidTransactionalId => Self::InvalidRequest,
            ErrorCode::TransactionsFull => Self::CoordinatorNotAvailable,
        }
    }
}
