//! How a frame comes, and whether what was lent for it was worth it. Knows nothing of sockets and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether what memory was lent for was worth it: not known until it is noted.
#[derive(Clone, Debug, Default)]
pub struct Worth(Arc<AtomicBool>);

impl Worth {
    /// It was.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once it was noted.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a frame comes, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gait {
    /// Not quickly, or not known.
    Slow,
    /// Quickly so far.
    Quick,
    /// Not quickly, or not known; but the frame before it on its connection used the turn that it had, and was a good request.
    Proved,
    /// As quickly as the frame before it, which came whole and was a good request.
    ProvedQuick,
    /// All of it is here, however slowly it came.
    Here,
}

impl Gait {
    /// True where it comes quickly.
    #[must_use]
    pub const fn is_quick(self) -> bool {
        matches!(self, Self::Quick | Self::ProvedQuick | Self::Here)
    }

    /// True where its client has proved to use what it gets.
    #[must_use]
    pub const fn is_proved(self) -> bool {
        matches!(self, Self::Proved | Self::ProvedQuick | Self::Here)
    }
}
