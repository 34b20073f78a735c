//! Refusals of requests that want no answer (produce with acks=None): the broker answers those alone that it refuses. Many requests go under one
//! correlation id, which names who hears of it, so that nothing is kept for each of them. Knows nothing of what was refused, nor of what is done then.

use std::sync::Arc;

use tidelog_protocol::CorrelationId;

use super::connection::{Connection, Wire};
use crate::ClientError;

/// Called with each refusal, on the reader's task, so it must be quick and must not block.
pub(crate) type RefusalHandler = Arc<dyn Fn(ClientError) + Send + Sync>;

/// Somebody hears of the refusals of what is sent under this id, until this is dropped or the connection ends.
pub(crate) struct Refusals {
    wire: Arc<Wire>,
    id: CorrelationId,
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refusals({} at {})", self.id.0, self.wire.address)
    }
}

impl Refusals {
    /// Under what they are sent.
    pub(crate) const fn id(&self) -> CorrelationId {
        self.id
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        let handler = self.wire.state.lock().refusals.remove(&self.id.0);
        // What it holds may hold other handles on this connection.
        drop(handler);
    }
}

impl Connection {
    /// Has `handler` hear of each refusal of what is sent under the id of what this gives. On a connection that has ended it hears of none.
    pub(crate) fn hear_refusals(&self, handler: RefusalHandler) -> Refusals {
        let wire = Arc::clone(self.wire());
        let mut state = wire.state.lock();
        let id = state.next_correlation();
        state.refusals.insert(id, handler);
        drop(state);
        Refusals { wire, id: CorrelationId(id) }
    }
}
