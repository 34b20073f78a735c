//! Transactions of one producer that follow each other closely: the next may be begun, and its records taken, while the one before is being
//! committed. It has an identity, and what outlasts a transaction, once that has ended, and is undone where that does not hold. Knows nothing of
//! records, nor of coordinators.

use parking_lot::Mutex;
use tidelog_protocol::messages::ProducerIdentity;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedMutexGuard, oneshot, watch};

use super::TransactionError;
use super::producer::State;
use super::standing::Standing;

/// Its place in the line.
pub(super) enum Turn {
    /// It is this one's.
    Has { state: OwnedMutexGuard<State>, identity: ProducerIdentity },
    /// The one before is being committed.
    Waits(oneshot::Receiver<Handover>),
    /// The one before does not hold, or is not known to.
    Refused { state: OwnedMutexGuard<State>, cause: TransactionError },
    /// Nothing is left to be done.
    Over,
}

/// What one that has ended leaves to the next.
pub(super) struct Handover {
    pub(super) state: OwnedMutexGuard<State>,
    /// What became of it.
    pub(super) outcome: Result<(), TransactionError>,
}

impl Turn {
    /// Whoever has the state from now on, under this identity: until its end is known, the coordinator is asked by that.
    pub(super) fn begun(mut state: OwnedMutexGuard<State>, identity: ProducerIdentity) -> Self {
        state.standing = Standing::Unknown(Some(identity.clone()));
        state.offers.clear();
        Self::Has { state, identity }
    }

    /// What the one before has left.
    pub(super) fn after(handover: Result<Handover, oneshot::error::RecvError>) -> Self {
        match handover {
            Ok(Handover { state, outcome: Err(cause) }) => Self::Refused { state, cause },
            Ok(Handover { state, outcome: Ok(()) }) => match state.standing.clone() {
                Standing::Ready(identity) => Self::begun(state, identity),
                // Never: that is what a transaction leaves that holds.
                _ => Self::Over,
            },
            // The runtime is going away.
            Err(_) => Self::Over,
        }
    }

    /// Waits until the one before has ended.
    pub(super) async fn come(&mut self) -> Result<&ProducerIdentity, TransactionError> {
        if let Self::Waits(before) = self {
            let handover = before.await;
            *self = Self::after(handover);
        }
        match self {
            Self::Has { identity, .. } => Ok(identity),
            Self::Refused { cause, .. } => Err(follows(cause)),
            Self::Waits(_) | Self::Over => Err(crate::ClientError::Closed.into()),
        }
    }

    pub(super) fn state(&mut self) -> Option<&mut State> {
        match self {
            Self::Has { state, .. } => Some(state),
            Self::Waits(_) | Self::Refused { .. } | Self::Over => None,
        }
    }

    /// What the next is to have.
    pub(super) fn leave(&mut self) -> Option<OwnedMutexGuard<State>> {
        match std::mem::replace(self, Self::Over) {
            Self::Has { state, .. } | Self::Refused { state, .. } => Some(state),
            Self::Waits(_) | Self::Over => None,
        }
    }
}

/// Why one is undone that came after one which was not committed for this reason.
pub(super) fn follows(cause: &TransactionError) -> TransactionError {
    match cause {
        TransactionError::Follows { .. } => cause.clone(),
        cause => TransactionError::Follows { cause: Box::new(cause.clone()) },
    }
}

/// Who comes next, while one is being committed.
#[derive(Default)]
pub(super) struct Line {
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// How many were committed in the background so far.
    number: u64,
    next: Option<Next>,
}

/// The place behind the transaction that is being committed.
pub(super) struct Next {
    pub(super) before: oneshot::Receiver<Handover>,
    /// Of who comes in that place.
    pub(super) told: watch::Receiver<Option<ProducerIdentity>>,
    /// The same of the one that is being committed, where it had to wait itself.
    told_before: Option<watch::Receiver<Option<ProducerIdentity>>>,
}

/// To be told once it has ended.
pub(super) struct Successor {
    pub(super) handover: oneshot::Sender<Handover>,
    pub(super) identity: watch::Sender<Option<ProducerIdentity>>,
}

impl Line {
    /// A transaction is being committed in the background: there is a place behind it. `told`: where it had to wait itself. Gives the number of
    /// the commit, too.
    pub(super) fn open(&self, told_before: Option<watch::Receiver<Option<ProducerIdentity>>>) -> (Successor, u64) {
        let (handover, before) = oneshot::channel();
        let (identity, told) = watch::channel(None);
        let mut last = self.last.lock();
        last.number += 1;
        last.next = Some(Next { before, told, told_before });
        (Successor { handover, identity }, last.number)
    }

    /// That this one failed was said to the program: the next transaction need not fail of it.
    pub(super) fn is_told(&self, number: u64) {
        let mut last = self.last.lock();
        if last.number == number {
            last.next = None;
        }
    }

    /// Waits until no more than one is being committed: nobody is in front of that one any more.
    pub(super) async fn until_short(&self) {
        let before = self.last.lock().next.as_ref().and_then(|next| next.told_before.clone());
        if let Some(mut before) = before {
            let _ = before.wait_for(Option::is_some).await;
        }
    }

    /// The place behind the one that is being committed, if there is one.
    pub(super) fn take(&self) -> Option<Next> {
        self.last.lock().next.take()
    }
}

impl Next {
    /// What the one before has left, where it has ended already.
    pub(super) fn is_over(&mut self) -> Option<Result<(), TransactionError>> {
        match self.before.try_recv() {
            // Its state is free again.
            Ok(Handover { outcome, state: _ }) => Some(outcome),
            Err(TryRecvError::Closed) => Some(Ok(())),
            Err(TryRecvError::Empty) => None,
        }
    }
}
