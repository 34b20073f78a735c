//! Who a producer of transactions is, and what an answer of its coordinator means for that. Pure: answers come in, conclusions go out. Knows
//! nothing of connections or time.
//!
//! Each transaction has an identity of its own: an end is answered with the next one. Where that answer is not there, the producer asks who it
//! is with what it was; the coordinator then undoes what that has open, or tells what it has told before. Questions may be asked again, and
//! copies of them may come late, since the identity in each says which transaction it is about.

use tidelog_protocol::messages::{EndTransactionResponse, InitProducerIdResponse, ProducerIdentity};
use tidelog_protocol::{ErrorCode, WireError};

use crate::ClientError;

/// What is known of who the producer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// The next transaction is this one's.
    Ready(ProducerIdentity),
    /// It is to be asked for, with what the producer was last, if it was anybody.
    Unknown(Option<ProducerIdentity>),
    /// As unknown, and the transaction of this identity is to be committed, but is not known to be.
    InDoubt(ProducerIdentity),
    /// Another has its place.
    Fenced(WireError),
}

/// Another has the place of one that ends its transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fenced {
    pub(super) error: WireError,
    /// It was to be committed, and an earlier try may have done that before the other came.
    pub(super) in_doubt: bool,
}

/// What an answer to "who am I" means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Initiated {
    As(ProducerIdentity),
    Fenced(WireError),
    /// To be asked again.
    NotYet(ClientError),
    /// It will not be answered.
    Never(ClientError),
}

/// What an answer to a commit or an abort means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// As asked; this is the next identity.
    AsAsked(ProducerIdentity),
    /// It was to be committed, and was undone.
    Undone(WireError),
    /// It was to be committed, and an earlier try may have done that; nobody will tell any more.
    Unknowable(ClientError),
    Fenced(Fenced),
    NotYet(ClientError),
    Never(ClientError),
}

/// What an answer means.
pub(super) trait Conclusion {
    /// Nothing yet, for this reason: the same is to be asked again.
    fn not_yet(&self) -> Option<&ClientError>;
}

impl Conclusion for Initiated {
    fn not_yet(&self) -> Option<&ClientError> {
        if let Self::NotYet(error) = self { Some(error) } else { None }
    }
}

impl Conclusion for Ended {
    fn not_yet(&self) -> Option<&ClientError> {
        if let Self::NotYet(error) = self { Some(error) } else { None }
    }
}

impl Ended {
    /// A try that means nothing yet may have ended the transaction all the same.
    pub(super) const fn may_be_done(&self) -> bool {
        match self {
            Self::NotYet(error) => !error.is_about_the_transaction_before(),
            Self::AsAsked(_) | Self::Undone(_) | Self::Unknowable(_) | Self::Fenced(_) | Self::Never(_) => false,
        }
    }
}

impl Initiated {
    pub(super) fn of(answer: Result<InitProducerIdResponse, ClientError>) -> Self {
        match answer {
            Ok(InitProducerIdResponse { producer_id, epoch }) => Self::As(ProducerIdentity { producer_id, epoch }),
            Err(ClientError::Broker(error)) if error.code == ErrorCode::TransactionFenced => Self::Fenced(error),
            Err(error) if error.is_retriable() => Self::NotYet(error),
            Err(error) => Self::Never(error),
        }
    }
}

impl Ended {
    /// `tried`: it may have been ended as asked by an earlier try.
    pub(super) fn of(answer: Result<EndTransactionResponse, ClientError>, tried: bool) -> Self {
        match answer {
            Ok(EndTransactionResponse { identity }) => Self::AsAsked(identity),
            Err(ClientError::Broker(error)) => match error.code {
                ErrorCode::TransactionFenced => Self::Fenced(Fenced { error, in_doubt: tried }),
                ErrorCode::InvalidTransactionState => Self::Undone(error),
                // An id is forgotten once nothing is open under it. So what nobody asked to commit has long timed out; but an earlier try may
                // have committed it, and that is forgotten with the id: it was not used for days, or a clock was set forward.
                ErrorCode::UnknownTransaction if !tried => Self::Undone(error),
                code if code.is_retriable() => Self::NotYet(error.into()),
                _ => Self::unanswered(error.into(), tried),
            },
            Err(error) if error.is_retriable() => Self::NotYet(error),
            Err(error) => Self::unanswered(error, tried),
        }
    }
}

impl Ended {
    const fn unanswered(error: ClientError, tried: bool) -> Self {
        if tried { Self::Unknowable(error) } else { Self::Never(error) }
    }
}

impl Standing {
    /// As whom to ask who the producer is, where that is to be asked.
    pub(super) fn question(&self) -> Option<Option<ProducerIdentity>> {
        match self {
            Self::Ready(_) | Self::Fenced(_) => None,
            Self::Unknown(last) => Some(last.clone()),
            Self::InDoubt(identity) => Some(Some(identity.clone())),
        }
    }

    /// What is known once the last answer to "who am I" has come; where none helps, it is asked again next time.
    pub(super) fn initiated(&mut self, outcome: &Initiated) {
        match outcome {
            Initiated::As(identity) => *self = Self::Ready(identity.clone()),
            Initiated::Fenced(error) => *self = Self::Fenced(error.clone()),
            // In doubt or not, it stays as it is.
            Initiated::NotYet(_) | Initiated::Never(_) => {}
        }
    }

    /// What is known once the last answer to the end of `identity`'s transaction has come; `was_commit`: it was to be committed.
    pub(super) fn ended(&mut self, identity: &ProducerIdentity, was_commit: bool, outcome: &Ended) {
        *self = match outcome {
            Ended::AsAsked(next) => Self::Ready(next.clone()),
            Ended::Fenced(fenced) => Self::Fenced(fenced.error.clone()),
            Ended::NotYet(_) if was_commit => Self::InDoubt(identity.clone()),
            // Whoever asks again is not told that nothing is in doubt.
            Ended::Unknowable(_) => Self::InDoubt(identity.clone()),
            Ended::Undone(_) | Ended::NotYet(_) | Ended::Never(_) => Self::Unknown(Some(identity.clone())),
        };
    }
}
