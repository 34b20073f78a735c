//! What can go wrong between a program and the cluster, split by who must act. Knows nothing of producers and consumers, whose
//! own errors carry these.

use std::time::Duration;

use tidelog_protocol::error::Actor;
use tidelog_protocol::{ErrorCode, Offset, PartitionId, WireError};

use crate::address::{Address, InvalidAddress};

/// Why a request to the cluster failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An address does not parse. The program must change.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// An argument is out of its range. The program must change.
    #[error("{0}")]
    Argument(String),
    /// The cluster has no topic of this name. Create it, or correct the name.
    #[error("there is no topic {topic:?}; create it first or correct the name")]
    UnknownTopic {
        /// The name.
        topic: String,
    },
    /// The topic has no partition of this index.
    #[error(
        "topic {topic:?} has {partitions} partition{}, so there is no partition {partition}",
        if *partitions == 1 { "" } else { "s" }
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The index asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The partition has no leader for now. Passes by itself once one is elected.
    #[error("partition {partition} of topic {topic:?} has no leader at the moment")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
    },
    /// The leader of the partition, or whoever was asked for it, did not answer in time. Passes by itself once another leads.
    #[error("the leader of partition {partition} of topic {topic:?} did not answer in time")]
    LeaderSilent {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
    },
    /// No connection came about. Nothing was sent.
    #[error("cannot reach a broker at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system said.
        reason: String,
    },
    /// The connection broke before the answer came: whether the request was carried out is unknown.
    #[error("the connection to {address} was lost: {reason}")]
    Disconnected {
        /// Where.
        address: Address,
        /// What happened.
        reason: String,
    },
    /// No answer came in time: whether the request was carried out is unknown.
    #[error("no answer to {request} from {address} within {after:?}")]
    TimedOut {
        /// Where.
        address: Address,
        /// Name of the API.
        request: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// A group was waited for, and did not come so far in time. It may later.
    #[error("{0}")]
    GroupBehind(Box<GroupBehind>),
    /// The peer is no broker, or one that shares no protocol version with this client. Upgrade one of them.
    #[error("{address} cannot be talked to: {reason}")]
    Incompatible {
        /// Where.
        address: Address,
        /// In what way.
        reason: String,
    },
    /// The broker refused, or failed; see its code.
    #[error(transparent)]
    Broker(#[from] WireError),
    /// The handle was closed by the program.
    #[error("the client was closed")]
    Closed,
}

/// Why there is no connection, where somebody took it and closed it again.
pub(crate) const TURNED_AWAY: &str = "it closed the connection before it said who it is";

/// How what a broker said begins that took the connection and closed it.
pub(crate) const SENT_AWAY: &str = "it closed the connection and said: ";

impl ClientError {
    /// True where a broker took the connection and closed it with a reason, which says what to do: it has as many as it may have, or shuts down.
    #[must_use]
    pub fn is_sent_away(&self) -> bool {
        matches!(self, Self::Unreachable { reason, .. } if reason.starts_with(SENT_AWAY))
    }

    /// True where something took the connection and closed it before it said that it is a broker: it is none, or it has as many connections as
    /// it may have, which its log says.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        matches!(self, Self::Unreachable { reason, .. } if reason == TURNED_AWAY)
    }

    /// True where the same request may succeed later without anyone changing it.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::NoLeader { .. }
            | Self::LeaderSilent { .. }
            | Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::GroupBehind(_) => true,
            Self::Broker(error) => error.code.is_retriable(),
            Self::Address(_)
            | Self::Argument(_)
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::Incompatible { .. }
            | Self::Closed => false,
        }
    }

    /// Who must act.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        match self {
            Self::NoLeader { .. } | Self::LeaderSilent { .. } => Actor::ClientRefreshes,
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::GroupBehind(_) => Actor::ClientBacksOff,
            Self::Unreachable { .. } | Self::Incompatible { .. } => Actor::Operator,
            Self::Broker(error) => error.code.actor(),
            Self::Address(_)
            | Self::Argument(_)
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::Closed => Actor::Programmer,
        }
    }

    /// The code of the error table that fits, where there is one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            Self::UnknownTopic { .. } => Some(ErrorCode::UnknownTopic),
            Self::UnknownPartition { .. } => Some(ErrorCode::UnknownPartition),
            Self::NoLeader { .. } => Some(ErrorCode::NotLeader),
            Self::GroupBehind(_) => Some(ErrorCode::DeadlineExceeded),
            _ => None,
        }
    }

    /// True where the request may have been carried out although no answer says so.
    #[must_use]
    pub const fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            // A disk that failed may have taken the bytes before it did; a leader that is deposed has written what waits for others.
            Self::Broker(error) => matches!(
                error.code,
                ErrorCode::DeadlineExceeded
                    | ErrorCode::Internal
                    | ErrorCode::StorageFailed
                    | ErrorCode::LeadershipEnded
                    | ErrorCode::DuplicateSequence
            ),
            _ => false,
        }
    }

    /// True where nothing is wrong but that the transaction before is still being ended.
    pub(crate) const fn is_about_the_transaction_before(&self) -> bool {
        matches!(self, Self::Broker(error) if matches!(error.code, ErrorCode::ConcurrentTransactions))
    }

    /// Milliseconds that the broker asked to wait; 0 where it did not.
    pub(crate) const fn retry_after_ms(&self) -> u32 {
        match self {
            Self::Broker(error) => error.retry_after_ms,
            _ => 0,
        }
    }
}

/// How far a group has come instead of as far as it was waited for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group '{group}' is not done with offset {offset} of {topic}/{partition} after {after:?}: {}", place(*.committed))]
pub struct GroupBehind {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The offset that it was to be done with.
    pub offset: Offset,
    /// The next one that it will read; `None` where it has committed nothing there.
    pub committed: Option<Offset>,
    /// How long it was waited for.
    pub after: Duration,
}

fn place(committed: Option<Offset>) -> String {
    committed.map_or_else(|| "it has committed nothing there".into(), |next| format!("it goes on at {next}"))
}
