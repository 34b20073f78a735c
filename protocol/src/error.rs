//! The one table of error codes: code, name, whether a retry can help, and who must act. Knows nothing of who raises them.

use core::fmt;

use crate::ids::Offset;
use crate::message::sentence;

/// Who must act on an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// The client refreshes its metadata and tries again.
    ClientRefreshes,
    /// The client waits and tries again.
    ClientBacksOff,
    /// The client joins its group anew: what it owned is no longer its own.
    ClientRejoins,
    /// The client aborts its transaction and asks who it is with what it was; then it may begin another.
    ClientAborts,
    /// The client stops: another has taken its place.
    ClientStops,
    /// A person who runs the broker.
    Operator,
    /// A person who writes the program.
    Programmer,
}

macro_rules! error_table {
    ($($(#[doc = $doc:literal])* $code:literal $name:ident $retriable:literal $actor:ident;)*) => {
        /// What went wrong, as the wire says it. Codes are never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[doc = $doc])* $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code of this number; `None` for one this version does not know.
            #[must_use]
            pub const fn from_u16(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Its name in the table.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means.
            #[must_use]
            pub fn meaning(self) -> String {
                match self { $(Self::$name => sentence(&[$($doc,)*]),)* }
            }

            /// True where the same request may succeed later without anyone changing it.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self { $(Self::$name => $retriable,)* }
            }

            /// Who must act.
            #[must_use]
            pub const fn actor(self) -> Actor {
                match self { $(Self::$name => Actor::$actor,)* }
            }

            /// What a client does next, in a word or three.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self.actor() {
                    _ if self.is_retriable() => "may be retried",
                    Actor::ClientRejoins => "rejoin",
                    Actor::ClientAborts => "abort",
                    Actor::ClientStops => "stop",
                    Actor::ClientRefreshes | Actor::ClientBacksOff | Actor::Operator | Actor::Programmer => "do not retry",
                }
            }
        }
    };
}

error_table! {
    /// The broker met a state it did not expect; its log says more.
    1 Internal true Operator;
    /// The frame or message does not parse, or a field is out of its range.
    2 Malformed false Programmer;
    /// The protocol version or the API is not served here.
    3 Unsupported false Programmer;
    /// The frame, batch or answer is larger than a limit allows.
    4 TooLarge false Programmer;
    /// A checksum does not match: the bytes were damaged on the way.
    5 Corrupt true ClientBacksOff;
    /// The broker has more work than it accepts; try again after the suggested delay.
    6 Overloaded true ClientBacksOff;
    /// The deadline of the request passed before it was done. What became of it is unknown.
    7 DeadlineExceeded true ClientBacksOff;
    /// The broker is shutting down; connect to another or wait.
    8 ShuttingDown true ClientRefreshes;
    /// No topic of this name or id.
    20 UnknownTopic true ClientRefreshes;
    /// The topic has no partition of this index.
    21 UnknownPartition true ClientRefreshes;
    /// A topic of this name exists already.
    22 TopicExists false Programmer;
    /// The topic name breaks a rule.
    23 InvalidName false Programmer;
    /// A config key is unknown, or its value out of range.
    24 InvalidConfig false Programmer;
    /// The partition count is out of range or would shrink.
    25 InvalidPartitions false Programmer;
    /// The replication factor is out of range for the brokers there are.
    26 InvalidReplication false Programmer;
    /// The topic belongs to the broker itself.
    27 InternalTopic false Programmer;
    /// This broker does not lead the partition.
    40 NotLeader true ClientRefreshes;
    /// The leader epoch of the request is older than the partition's.
    41 FencedEpoch true ClientRefreshes;
    /// The leader epoch of the request is newer than this broker knows.
    42 UnknownEpoch true ClientBacksOff;
    /// Too few replicas are in sync for what the producer asked.
    43 NotEnoughReplicas true ClientBacksOff;
    /// A record batch breaks a rule of its format.
    44 InvalidBatch false Programmer;
    /// The expected log end offset is not the actual one; nothing was written.
    45 OffsetMismatch false Programmer;
    /// Another leadership began while the records waited for their acknowledgement: they are written here, and whether they survive is unknown.
    46 LeadershipEnded true ClientRefreshes;
    /// This leader was elected just now and does not know yet that all before its election is settled: where the log ends for readers is
    /// known in a moment.
    47 OffsetNotAvailable true ClientBacksOff;
    /// The topic is compacted, and a record has no key. Nothing of the request was written.
    49 KeyMissing false Programmer;
    /// The offset is below the log start or above the log end.
    60 OffsetOutOfRange false Programmer;
    /// A stored range is damaged and no copy is left to repair it from.
    61 CorruptLog false Operator;
    /// The disk refused a write or is nearly full; free space and it heals by itself.
    62 StorageFull true Operator;
    /// The disk failed while this was done: whether it holds is unknown. The partition is out of service here until the broker restarts.
    63 StorageFailed false Operator;
    /// No stream of this id on the connection.
    64 UnknownStream false Programmer;
    /// The partition, or the metadata log, is out of service here since its disk failed or it could not be opened. Nothing was written.
    65 OutOfService false Operator;
    /// The log does not hold what the client has read from there: records were lost by an unclean election. The range says where they part.
    66 LogTruncated false Programmer;
    /// No broker of this id is registered.
    80 UnknownBroker false Operator;
    /// The broker's registration is not the current one, or it is fenced or shutting down: it registers anew, or catches up first.
    81 FencedBroker true ClientRefreshes;
    /// Another data folder serves under this broker id.
    82 BrokerIdTaken true Operator;
    /// The partition changed meanwhile: its partition epoch is another than the request's.
    83 PartitionChanged true ClientRefreshes;
    /// A broker that shall be in sync cannot be: it is fenced, shutting down, registered anew or holds no replica.
    84 IneligibleReplica true ClientBacksOff;
    /// The replicas asked for cannot be had, or nothing is being reassigned.
    85 InvalidReassignment false Operator;
    /// The broker cannot be elected, or there is a leader already.
    86 InvalidElection false Operator;
    /// The broker still holds replicas or serves.
    87 BrokerInUse false Operator;
    /// This broker does not run the controller.
    88 NotController true ClientRefreshes;
    /// No majority of the metadata quorum answers: metadata cannot be changed until it does. Nothing was changed.
    90 NoQuorum true ClientBacksOff;
    /// At the other end of the connection is not who should be there: another cluster, or another broker.
    91 WrongPeer false Operator;
    /// The voters of the metadata quorum cannot be changed like that.
    92 InvalidVoters false Operator;
    /// This broker does not coordinate the group or producer; ask again who does.
    100 NotCoordinator true ClientRefreshes;
    /// The coordinator is reading its state, or there is none at the moment.
    101 CoordinatorLoading true ClientBacksOff;
    /// No group of this name.
    102 UnknownGroup false Operator;
    /// The group has no such member: it left, was silent for too long, or never joined. What it owned belongs to others.
    103 UnknownMember false ClientRejoins;
    /// The member's epoch is not the one it has: it let its session pass, or another took its place. What it owned belongs to others.
    104 FencedMember false ClientRejoins;
    /// The member has another epoch by now: its next heartbeat says which, and whether it still owns what it commits.
    105 StaleMember true ClientBacksOff;
    /// The member does not own the partition; nothing was committed.
    106 NotOwned false ClientRejoins;
    /// The group has members: stop them first.
    107 GroupNotEmpty false Operator;
    /// A group, member or instance name, a pattern, an assignor or a timeout breaks a rule.
    108 InvalidGroup false Programmer;
    /// Another member serves under this instance id.
    109 InstanceTaken false Operator;
    /// A limit on members, groups or partitions is reached.
    110 GroupFull false Operator;
    /// Records of this producer that come before these are missing from the log: nothing was written. They go first.
    120 OutOfOrderSequence true ClientBacksOff;
    /// A later epoch of this producer has written here: nothing was written, and nothing of this epoch will be.
    121 ProducerFenced false ClientStops;
    /// Nothing is known here of this producer, whose records do not begin at sequence 0; what it wrote may have been forgotten. Nothing was
    /// written.
    122 UnknownProducer false ClientRefreshes;
    /// This producer has never written to this log, though its records do not begin at sequence 0. Nothing was written.
    123 ProducerNeverWrote false ClientRefreshes;
    /// These records stand in the log already; at which offsets is not remembered.
    124 DuplicateSequence false Programmer;
    /// Another producer serves under this transactional id. Nothing was done, and nothing of this producer will be.
    125 TransactionFenced false ClientStops;
    /// The transaction before is still being ended, or was aborted just now for a new producer: the same request may succeed in a moment.
    126 ConcurrentTransactions true ClientBacksOff;
    /// The transaction has ended, and not as asked: it was aborted after its timeout or by an operator, or its end was another; or records are no part of it. Nothing was done.
    127 InvalidTransactionState false ClientAborts;
    /// Nothing is known of this transactional id: nobody has used it, or not for long.
    128 UnknownTransaction false ClientAborts;
    /// The timeout of a transaction is out of its range.
    129 TransactionTimeout false Programmer;
    /// A transactional id breaks a rule.
    130 InvalidTransactionalId false Programmer;
    /// The limit on transactional ids is reached.
    131 TransactionsFull false Operator;
    /// A transaction that commits this offset is open: how far the group has come is known once it has ended, within its timeout.
    132 UnstableOffset true ClientBacksOff;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as a response carries it: a code for programs and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code} ({}): {message}", code.advice())]
pub struct WireError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was wrong, and what to do.
    pub message: String,
    /// Milliseconds to wait before a retry; 0 where the client shall use its own backoff.
    pub retry_after_ms: u32,
    /// Log start and log end of the partition, where the request's offset did not fit them; or the first offset that is damaged, and the one
    /// after the last.
    pub range: Option<(Offset, Offset)>,
}

impl WireError {
    /// An error without a suggested delay.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: 0, range: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_u16(*code as u16), Some(*code));
        }
        assert_eq!(ErrorCode::from_u16(0), None);
    }

    #[test]
    fn an_error_says_what_to_do_next() {
        let said = |code: ErrorCode| WireError::new(code, "why").to_string();
        assert_eq!(said(ErrorCode::Overloaded), "Overloaded (may be retried): why");
        assert_eq!(said(ErrorCode::NotOwned), "NotOwned (rejoin): why");
        assert_eq!(said(ErrorCode::InvalidTransactionState), "InvalidTransactionState (abort): why");
        assert_eq!(said(ErrorCode::TransactionFenced), "TransactionFenced (stop): why");
        assert_eq!(said(ErrorCode::KeyMissing), "KeyMissing (do not retry): why");
    }
}
