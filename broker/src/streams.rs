//! The open streams of one connection and their credit. Knows nothing of what a stream carries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tidelog_protocol::{CorrelationId, ErrorCode, WireError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::budget::{Lent, Pool};

/// Most streams that one connection may hold open.
pub const STREAMS_MAX: usize = 16_384;
/// What a stream takes, about, in bytes: its task, its cursor and its place here.
pub const STREAM_BYTES: usize = 2 << 10;
/// One connection may take so much of the memory for streams: a quarter.
const SHARE_OF_ONE: u64 = 4;
/// Most credit that a stream can save up, in bytes; what exceeds it is ignored.
pub const CREDIT_BYTES_MAX: i64 = 1 << 30;

/// Credit and end of one stream, shared by the connection and the task that pushes.
#[derive(Debug)]
pub struct StreamControl {
    /// Cancelled when the stream shall end.
    pub ended: CancellationToken,
    /// Guards pushes, so that none follows the answer to an Unsubscribe.
    open: Mutex<bool>,
    credit_bytes: AtomicI64,
    refilled: Notify,
    /// `None` for another broker's, which has one for each partition that it follows. Held for its drop.
    _lent: Option<Lent>,
}

impl StreamControl {
    /// Runs `push` unless the stream has been closed; false where it has.
    pub fn push(&self, push: impl FnOnce()) -> bool {
        let open = self.open.lock();
        if *open {
            push();
        }
        *open
    }

    /// Adds credit.
    pub fn refill(&self, bytes: u32) {
        let add = |credit: i64| Some((credit + i64::from(bytes)).min(CREDIT_BYTES_MAX));
        // The closure always gives a value.
        let _ = self.credit_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        self.refilled.notify_one();
    }

    /// Takes what was pushed; credit may become negative by part of a batch.
    pub fn spend(&self, bytes: usize) {
        self.credit_bytes.fetch_sub(bytes as i64, Ordering::AcqRel);
    }

    /// Waits for credit, and says how much there is, in bytes.
    pub async fn credit(&self) -> usize {
        loop {
            let credit = self.credit_bytes.load(Ordering::Acquire);
            if credit > 0 {
                return credit as usize;
            }
            self.refilled.notified().await;
        }
    }
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenRefusal {
    /// A stream of this id is open.
    Duplicate,
    /// [`STREAMS_MAX`] are open, or a quarter of the memory for streams is this connection's.
    TooMany,
    /// The memory for streams is used up.
    NoMemory,
}

impl From<OpenRefusal> for WireError {
    fn from(refusal: OpenRefusal) -> Self {
        match refusal {
            OpenRefusal::Duplicate => Self::new(ErrorCode::Malformed, "a stream of this id is open already"),
            OpenRefusal::TooMany => {
                let sentence = "this connection has too many streams open: close some, or raise memory_budget_bytes";
                Self { retry_after_ms: 1_000, ..Self::new(ErrorCode::Overloaded, sentence) }
            }
            OpenRefusal::NoMemory => {
                let sentence = "the broker has no memory for more streams: close some, or raise memory_budget_bytes";
                Self { retry_after_ms: 1_000, ..Self::new(ErrorCode::Overloaded, sentence) }
            }
        }
    }
}

/// The open streams of one connection.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<CorrelationId, Arc<StreamControl>>>,
}

impl Streams {
    /// Opens a stream that ends with `closed` at the latest, and takes its memory from `pool`.
    ///
    /// # Errors
    /// [`OpenRefusal`].
    pub fn open(
        &self,
        id: CorrelationId,
        credit_bytes: u32,
        closed: &CancellationToken,
        pool: Option<&Pool>,
    ) -> Result<Arc<StreamControl>, OpenRefusal> {
        let mut open = self.open.lock();
        if open.contains_key(&id) {
            return Err(OpenRefusal::Duplicate);
        }
        if open.len() >= STREAMS_MAX {
            return Err(OpenRefusal::TooMany);
        }
        let lent = match pool {
            None => None,
            Some(pool) if (open.len() * STREAM_BYTES) as u64 >= pool.size_bytes() / SHARE_OF_ONE => {
                return Err(OpenRefusal::TooMany);
            }
            Some(pool) => Some(pool.try_lend(STREAM_BYTES).ok_or(OpenRefusal::NoMemory)?),
        };
        let control = Arc::new(StreamControl {
            ended: closed.child_token(),
            open: Mutex::new(true),
            credit_bytes: AtomicI64::new(i64::from(credit_bytes)),
            refilled: Notify::new(),
            _lent: lent,
        });
        open.insert(id, control.clone());
        Ok(control)
    }

    /// The stream of this id.
    #[must_use]
    pub fn find(&self, id: CorrelationId) -> Option<Arc<StreamControl>> {
        self.open.lock().get(&id).cloned()
    }

    /// Forgets a stream and ends it; false where there was none.
    pub fn close(&self, id: CorrelationId) -> bool {
        let removed = self.open.lock().remove(&id);
        if let Some(control) = &removed {
            *control.open.lock() = false;
            control.ended.cancel();
        }
        removed.is_some()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// True where none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
