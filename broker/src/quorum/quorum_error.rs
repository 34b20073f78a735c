//! Why metadata cannot be read or written, in sentences that say what holds now. No logic but the code on the wire.

use openraft::error::Fatal;
use tidelog_protocol::{BrokerId, ErrorCode};

use super::journal::WriteError;
use super::raft_types::Member;
use super::remedy::ANEW;
use super::storage::OpenStorageError;

/// Why metadata cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// What lies in the data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenStorageError),
    /// The log has no room.
    #[error("the metadata log cannot be written: {0}")]
    Full(WriteError),
    /// It failed while the records were written. They may hold, and nothing may follow them on this broker until it restarts.
    #[error(
        "the metadata log failed while it was written: {why}; whether the change holds is known after the next start of the broker"
    )]
    Failed {
        /// How.
        why: String,
    },
    /// It failed earlier. Nothing was written.
    #[error(
        "the metadata log failed earlier: {why}; nothing was changed, and nothing will be until the broker restarts"
    )]
    OutOfService {
        /// How.
        why: String,
    },
    /// What lies in the metadata log cannot be read.
    #[error("the metadata log cannot be used: {why}; where it is damaged: {ANEW}")]
    Unreadable {
        /// What is wrong.
        why: String,
    },
    /// Too much for one entry.
    #[error(
        "the change does not fit into one entry of the metadata log: {bytes} bytes, {limit} at most; ask for less at once"
    )]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What there is room for.
        limit: usize,
    },
    /// Another broker leads, or nobody does.
    #[error("this broker does not lead the metadata quorum; {}", leader_sentence(.leader))]
    NotLeader {
        /// The one that does, if it is known.
        leader: Option<BrokerId>,
    },
    /// A majority of the voters cannot be reached. Nothing was changed.
    #[error(
        "no majority of the metadata quorum has answered for {silent_ms} ms: metadata cannot be changed until it does; bring back the voters that are missing, with their data folders"
    )]
    NoQuorum {
        /// Since when.
        silent_ms: u64,
    },
    /// It was proposed, and nobody knows yet what will become of it.
    #[error(
        "the metadata quorum did not settle the change before its time was up or its leader changed; whether it will hold is unknown"
    )]
    Unknown,
    /// Another proposal came in between. Nothing was changed; decide again.
    #[error("another change of the metadata came in between")]
    Superseded,
    /// The log is closed.
    #[error("the metadata log is closed: the broker shuts down")]
    Closed,
    /// It does not start.
    #[error("the metadata quorum cannot start: {0}")]
    Start(String),
}

fn leader_sentence(leader: &Option<BrokerId>) -> String {
    leader.map_or_else(|| "nobody leads it at the moment".into(), |leader| format!("broker {leader} does"))
}

impl QuorumError {
    /// How the wire says it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Full(_) => ErrorCode::StorageFull,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Unknown => ErrorCode::DeadlineExceeded,
            Self::NotLeader { .. } => ErrorCode::NotController,
            Self::NoQuorum { .. } => ErrorCode::NoQuorum,
            Self::Superseded => ErrorCode::Overloaded,
            Self::OutOfService { .. } => ErrorCode::OutOfService,
            Self::Failed { .. } => ErrorCode::StorageFailed,
            Self::Closed => ErrorCode::ShuttingDown,
            // Of starting: no proposal meets them.
            Self::Open(_) | Self::Start(_) | Self::Unreadable { .. } => ErrorCode::Internal,
        }
    }

    /// Of something that was under way.
    pub(super) fn failed(fatal: Fatal<Member>) -> Self {
        match fatal {
            Fatal::Stopped => Self::Closed,
            fatal => Self::Failed { why: fatal.to_string() },
        }
    }

    /// Of a start: nothing is written in it before what is there was read.
    pub(super) fn unreadable(fatal: Fatal<Member>) -> Self {
        match fatal {
            Fatal::Stopped => Self::Closed,
            fatal => Self::Unreadable { why: fatal.to_string() },
        }
    }

    /// Of something that had not begun.
    pub(super) fn out_of_service(fatal: Fatal<Member>) -> Self {
        match fatal {
            Fatal::Stopped => Self::Closed,
            fatal => Self::OutOfService { why: fatal.to_string() },
        }
    }
}
