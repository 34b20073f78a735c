//! A commit that goes on by itself, and what became of it. Knows nothing of how.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::TransactionError;
use super::line::Line;
use crate::ClientError;

/// The commit of a transaction, which goes on whether or not it is waited for. Made by
/// [`Transaction::commit_in_background`](super::Transaction::commit_in_background); to be awaited: what became of it is as
/// [`Transaction::commit`](super::Transaction::commit) says.
#[must_use = "whether the transaction holds is known only to who waits for it"]
pub struct Committing {
    outcome: oneshot::Receiver<Result<(), TransactionError>>,
    line: Arc<Line>,
    number: u64,
}

impl Committing {
    pub(super) const fn new(
        outcome: oneshot::Receiver<Result<(), TransactionError>>,
        line: Arc<Line>,
        number: u64,
    ) -> Self {
        Self { outcome, line, number }
    }
}

impl fmt::Debug for Committing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Committing({})", self.number)
    }
}

impl Future for Committing {
    type Output = Result<(), TransactionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.outcome).poll(context));
        // The runtime is going away where there is none.
        let outcome = outcome.unwrap_or_else(|_| Err(ClientError::Closed.into()));
        if outcome.is_err() {
            self.line.is_told(self.number);
        }
        Poll::Ready(outcome)
    }
}
