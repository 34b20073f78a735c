//! Which bug was planted on purpose, so that tests prove that it would be caught. Without the feature `planted-bugs` there is no way to plant one,
//! and the question below is a constant. Knows nothing of the bugs, nor of the rules; each rule asks here whether to break.

use core::fmt;
use core::marker::PhantomData;

/// One bug of a kind, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Planted<F> {
    #[cfg(feature = "planted-bugs")]
    planted: Option<F>,
    kind: PhantomData<F>,
}

impl<F> Planted<F> {
    /// None: what every broker runs with.
    pub const NONE: Self = Self {
        #[cfg(feature = "planted-bugs")]
        planted: None,
        kind: PhantomData,
    };
}

impl<F: Copy + PartialEq> Planted<F> {
    /// This one.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn with(flaw: F) -> Self {
        Self { planted: Some(flaw), kind: PhantomData }
    }

    /// Is it this one?
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn has(self, flaw: F) -> bool {
        self.planted == Some(flaw)
    }

    /// Is it this one? Never.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn has(self, _flaw: F) -> bool {
        false
    }
}

impl<F> Default for Planted<F> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<F: fmt::Debug> fmt::Debug for Planted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "planted-bugs")]
        return write!(f, "Planted({:?})", self.planted);
        #[cfg(not(feature = "planted-bugs"))]
        f.write_str("Planted(None)")
    }
}
