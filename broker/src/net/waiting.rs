//! A wait of a connection for memory: to work on a frame, or to read more of one. Knows nothing of who lends it.

use std::pin::Pin;
use std::time::Instant;

use crate::budget::{Growth, Lent};

/// What a wait for memory ends with.
pub(super) enum Grant {
    /// The postponed frame can be worked on.
    Work(Lent),
    /// The frame that is arriving can grow by so many bytes.
    Room(Growth, usize),
}

/// A wait for memory.
pub(super) struct Waiting {
    grant: Pin<Box<dyn Future<Output = Option<Grant>> + Send>>,
    /// For the frame that is arriving, in bytes; `None` for one that is whole.
    pub(super) room: Option<usize>,
    pub(super) since: Instant,
}

impl Waiting {
    pub(super) fn new(room: Option<usize>, grant: impl Future<Output = Option<Grant>> + Send + 'static) -> Self {
        Self { grant: Box::pin(grant), room, since: Instant::now() }
    }
}

/// What the wait ends with; there is no end where nothing is waited for.
pub(super) async fn granted(waiting: &mut Option<Waiting>) -> Option<Grant> {
    match waiting {
        Some(waiting) => waiting.grant.as_mut().await,
        None => std::future::pending().await,
    }
}
